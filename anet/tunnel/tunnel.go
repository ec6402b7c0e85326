// Package tunnel puts TLS between a socket and its user on the event loop.
//
// One end of a socket pair takes the connection's place: what the user writes
// there goes out encrypted, and what comes in can be read there, decrypted. Two
// goroutines carry the bytes, and take no more than the other side takes. So
// neither the loop nor its user knows of TLS, and splice(2) works as on any
// socket.
//
// The end of the connection shows as on any socket. [Tunnel.Err] tells the
// cause, for example a certificate that is not accepted.
package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What a tunnel ends with; test with errors.Is. Each wraps what crypto/tls or
// crypto/x509 said, for errors.As.
var (
	// ErrTLS: the handshake or a record failed.
	ErrTLS = errors.New("TLS")
	// ErrNotTLS: the other side speaks something else. It wraps ErrTLS.
	ErrNotTLS = fmt.Errorf("%w: the server speaks something else on that port", ErrTLS)
	// ErrRefused: the other side sent an alert, as it does to a client whose
	// certificate it does not take. It wraps ErrTLS.
	ErrRefused = fmt.Errorf("%w: the server refuses the connection", ErrTLS)
)

const (
	record       = 16 << 10 // the most that a TLS record carries (RFC 8446, 5.1)
	pairBuffer   = 1 << 20  // bytes that the socket pair may hold
	writeTimeout = time.Minute
	lastWords    = time.Second
)

// Tunnel is a connection under TLS.
type Tunnel struct {
	inner net.Conn // our end of the socket pair
	outer net.Conn // the connection

	up   chan struct{} // closed after the handshake
	out  chan error    // what outward returned; nil before it runs
	done chan struct{} // closed when nothing is carried any more

	finishing atomic.Bool // CloseWrite was called
	closing   atomic.Bool // nothing more goes out

	mu    sync.Mutex
	ended bool
	err   error
}

// Open makes a tunnel through fd, a connected socket. Open owns fd from then
// on, also where it fails; fd must have left every epoll set. Open returns the
// non-blocking descriptor that stands for the connection from now on. To close
// that descriptor, or to shut it down, ends the tunnel.
//
// config runs on a goroutine and may read files. Its result must name the
// server, or say that the name is not to be verified (tls.Config). Time limits
// are the caller's.
func Open(fd int, config func() (*tls.Config, error)) (int, *Tunnel, error) {
	outer, err := conn(fd)
	if err != nil {
		return -1, nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		outer.Close()
		return -1, nil, os.NewSyscallError("socketpair", err)
	}
	_ = unix.SetsockoptInt(pair[1], unix.SOL_SOCKET, unix.SO_SNDBUF, pairBuffer) // a smaller one is slower, no more
	inner, err := conn(pair[1])
	if err != nil {
		outer.Close()
		unix.Close(pair[0])
		return -1, nil, err
	}
	t := &Tunnel{inner: inner, outer: outer, up: make(chan struct{}), done: make(chan struct{})}
	go t.run(config)
	return pair[0], t, nil
}

// conn makes a net.Conn of a descriptor, and owns the descriptor from then on.
func conn(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close() // FileConn has a copy
	return net.FileConn(f)
}

// Err tells why the tunnel ended. It is nil while the tunnel stands, and where
// either side just closed the connection. Err is set before the descriptor
// reads as ended.
func (t *Tunnel) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// Established says whether the handshake is over.
func (t *Tunnel) Established() bool {
	select {
	case <-t.up:
		return true
	default:
		return false
	}
}

// CloseWrite ends the direction out: fd is what Open returned. What the server
// has sent until it closes too, or is silent for a second, can still be read
// from fd, and then the end.
func (t *Tunnel) CloseWrite(fd int) error {
	t.finishing.Store(true)
	return os.NewSyscallError("shutdown", unix.Shutdown(fd, unix.SHUT_WR))
}

// Done is closed when the tunnel uses its sockets no more.
func (t *Tunnel) Done() <-chan struct{} { return t.done }

// end notes why the tunnel ends; the first cause counts.
func (t *Tunnel) end(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.ended {
		t.ended, t.err = true, explain(err)
	}
}

// explain makes of an error of crypto/tls what Err returns.
func explain(err error) error {
	var header tls.RecordHeaderError
	var op *net.OpError
	switch {
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil // closed, with close_notify or, as Redis does, without
	case errors.As(err, &header):
		return fmt.Errorf("%w: %w", ErrNotTLS, err)
	case errors.As(err, &op) && op.Op == "remote error": // how crypto/tls tells an alert
		return fmt.Errorf("%w: %w", ErrRefused, err)
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return err
	}
	return fmt.Errorf("%w: %w", ErrTLS, err)
}

// run makes the handshake and then carries what comes in.
func (t *Tunnel) run(config func() (*tls.Config, error)) {
	defer close(t.done)
	t.end(t.carry(config))
	t.outer.Close()
	t.inner.Close() // after end: a user who reads the end may ask for the cause
	if t.out != nil {
		<-t.out
	}
}

func (t *Tunnel) carry(config func() (*tls.Config, error)) error {
	cfg, err := config()
	if err != nil {
		return err
	}
	c := tls.Client(t.outer, cfg)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	early := make(chan []byte)
	go func() { early <- t.early(cancel) }()
	err = c.HandshakeContext(ctx)
	_ = t.inner.SetReadDeadline(time.Unix(1, 0)) // has early come back
	first := <-early
	if err != nil {
		return err
	}
	_ = t.inner.SetReadDeadline(time.Time{})
	close(t.up)
	t.out = make(chan error, 1)
	go func() {
		t.out <- t.outward(c, first)
		close(t.out)
	}()
	if err = t.inward(c); errors.Is(err, os.ErrDeadlineExceeded) {
		err = <-t.out
	}
	return err
}

// early takes what is written before the handshake is over: no more than a
// PING. Where the loop's side ends, early cancels the handshake.
func (t *Tunnel) early(cancel func()) []byte {
	buf, n := make([]byte, record), 0
	for n < len(buf) {
		k, err := t.inner.Read(buf[n:])
		n += k
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			t.end(nil)
			cancel()
			break
		}
	}
	return buf[:n]
}

// inward carries what comes in. It returns nil when the loop's side has ended.
func (t *Tunnel) inward(c *tls.Conn) error {
	buf := make([]byte, record)
	for {
		if t.closing.Load() {
			t.lastWords()
		}
		n, err := c.Read(buf)
		if n > 0 {
			if _, err := t.inner.Write(buf[:n]); err != nil {
				return nil
			}
		}
		if err != nil {
			return err
		}
	}
}

// lastWords gives the server a moment to say something. The time counts anew
// for each read: what the kernel has received is read to the end, however long
// that takes the loop's side.
func (t *Tunnel) lastWords() { _ = t.outer.SetReadDeadline(time.Now().Add(lastWords)) }

// outward carries what goes out; first has been read already. When the loop's
// side has ended, outward ends the connection; after CloseWrite, it leaves
// inward time for what the server has sent. So it does where the connection
// takes no more: since TLS 1.3, a server refuses a client's certificate when
// the client has begun to write. Then outward returns the cause.
func (t *Tunnel) outward(c *tls.Conn, first []byte) error {
	buf := make([]byte, record)
	for p := first; ; {
		if len(p) > 0 {
			_ = t.outer.SetWriteDeadline(time.Now().Add(writeTimeout))
			if _, err := c.Write(p); err != nil {
				t.closing.Store(true)
				t.lastWords()
				return err
			}
		}
		n, err := t.inner.Read(buf)
		if n == 0 && err != nil {
			t.end(nil)
			if !t.finishing.Load() {
				_ = c.Close() // with close_notify
				return nil
			}
			_ = c.CloseWrite()
			if o, ok := t.outer.(*net.TCPConn); ok {
				_ = o.CloseWrite()
			}
			t.closing.Store(true)
			t.lastWords()
			return nil
		}
		p = buf[:n]
	}
}
