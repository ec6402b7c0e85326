package minimaster

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// listener hands out links instead of bare connections, and remembers them until they are closed.
type listener struct {
	net.Listener
	m *Master

	mu      sync.Mutex
	links   map[*link]struct{}
	closed  bool
	lingers sync.WaitGroup
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	k := &link{Conn: c, ln: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		c.Close()
		return nil, net.ErrClosed
	}
	l.links[k] = struct{}{}
	return k, nil
}

// Close stops listening and closes every connection there is.
func (l *listener) Close() error {
	l.mu.Lock()
	l.closed = true
	links := make([]*link, 0, len(l.links))
	for k := range l.links {
		links = append(links, k)
	}
	l.mu.Unlock()
	err := l.Listener.Close()
	for _, k := range links {
		k.Conn.Close()
	}
	return err
}

// wait returns when no connection lingers any more. To be called after Close.
func (l *listener) wait() { l.lingers.Wait() }

// link is one connection, with the faults of the master in its way out.
type link struct {
	net.Conn
	ln     *listener
	client atomic.Bool  // it has done what no replica does: no faults for it
	sent   atomic.Int64 // bytes written, since the connect
	cut    atomic.Bool  // Faults.CutAfter has struck
	once   sync.Once
}

var errCut = errors.New("minimaster: cut by Faults.CutAfter")

// Write writes all of b, as far as the faults let it.
func (k *link) Write(b []byte) (int, error) {
	f := k.ln.m.faults.Load()
	if k.client.Load() || f.CutAfter <= 0 && !f.ByteAtATime {
		n, err := k.Conn.Write(b)
		k.sent.Add(int64(n))
		return n, err
	}
	total := 0
	for total < len(b) {
		n := len(b) - total
		if f.ByteAtATime {
			n = 1
		}
		if f.CutAfter > 0 {
			n = min(n, max(0, int(f.CutAfter-k.sent.Load())))
		}
		n, err := k.Conn.Write(b[total : total+n])
		total += n
		if sent := k.sent.Add(int64(n)); err == nil && f.CutAfter > 0 && sent >= f.CutAfter {
			k.cut.Store(true)
			k.Close()
			return total, errCut
		}
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// lingerTime bounds how long a cut connection is kept to read what its replica still sends.
const lingerTime = 500 * time.Millisecond

// Close closes the connection. Where it has to end after an exact byte it is shut down for writing first and read until
// the replica closes, too: closing with unread bytes makes the kernel send a reset, and a reset takes back what the
// replica has not read yet (tcp(7), RFC 1122 4.2.2.13).
func (k *link) Close() error {
	var err error
	k.once.Do(func() {
		tcp, ok := k.Conn.(*net.TCPConn)
		if !ok || !k.cut.Load() {
			k.forget()
			err = k.Conn.Close()
			return
		}
		k.ln.lingers.Add(1)
		_ = tcp.CloseWrite() // if it fails the connection is gone already
		_ = tcp.SetReadDeadline(time.Now().Add(lingerTime))
		go func() {
			defer k.ln.lingers.Done()
			_, _ = io.Copy(io.Discard, tcp)
			k.forget()
			tcp.Close()
		}()
	})
	return err
}

func (k *link) forget() {
	k.ln.mu.Lock()
	delete(k.ln.links, k)
	k.ln.mu.Unlock()
}
