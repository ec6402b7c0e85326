package tunnel_test

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"replicad/anet/tunnel"
	"replicad/anet/tunnel/tunneltest"
	"replicad/integration/poll"
)

const patience = time.Minute

// serve answers one connection and returns the port.
func serve(t *testing.T, do func(net.Conn)) (port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		do(c)
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().(*net.TCPAddr).Port
}

// connected is a non-blocking socket to a port, as the loop has one.
func connected(t *testing.T, port int) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	return fd
}

// open opens a tunnel, and gives its near end as a file with deadlines.
func open(t *testing.T, port int, config func() (*tls.Config, error)) (*os.File, *tunnel.Tunnel) {
	t.Helper()
	fd, tun, err := tunnel.Open(connected(t, port), config)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "tunnel")
	_ = f.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() {
		f.Close()
		over(t, tun)
	})
	return f, tun
}

func over(t *testing.T, tun *tunnel.Tunnel) {
	t.Helper()
	select {
	case <-tun.Done():
	case <-time.After(patience):
		t.Error("the tunnel's goroutines did not end")
	}
}

// client trusts an authority.
func client(a *tunneltest.Authority) func() (*tls.Config, error) {
	return func() (*tls.Config, error) { return &tls.Config{RootCAs: a.Pool(), ServerName: "master"}, nil }
}

func TestBytesComeThroughBothWaysAlsoThoseWrittenBeforeTheHandshake(t *testing.T) {
	a := tunneltest.NewAuthority(t)
	cfg := &tls.Config{Certificates: []tls.Certificate{a.Sign("master", time.Now().Add(time.Hour))}}
	sent := make([]byte, 8<<20)
	_, _ = rand.Read(sent)
	let := make(chan struct{})
	got := make(chan []byte, 1)
	port := serve(t, func(c net.Conn) {
		<-let // the handshake waits until the PING is written
		s := tls.Server(c, cfg)
		buf := make([]byte, 6)
		_, _ = io.ReadFull(s, buf)
		got <- buf
		_, _ = s.Write(sent)
		rest, _ := io.ReadAll(s)
		got <- rest
	})
	f, tun := open(t, port, client(a))
	if tun.Established() {
		t.Error("established before the server spoke")
	}
	if _, err := f.WriteString("PING\r\n"); err != nil {
		t.Fatal(err)
	}
	close(let)
	if p := <-got; string(p) != "PING\r\n" {
		t.Fatalf("the server got %q", p)
	}
	back := make([]byte, len(sent))
	if _, err := io.ReadFull(f, back); err != nil || !bytes.Equal(back, sent) {
		t.Fatalf("what came through is not what was sent: %v", err)
	}
	if !tun.Established() {
		t.Error("not established")
	}
	if _, err := f.Write(sent[:100_000]); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if rest := <-got; !bytes.Equal(rest, sent[:100_000]) {
		t.Fatalf("the server got %d bytes, not 100000", len(rest))
	}
	over(t, tun)
	if err := tun.Err(); err != nil {
		t.Errorf("closed from here, and Err is %v", err)
	}
}

func TestAServerThatClosesIsTheEndAndNoError(t *testing.T) {
	a := tunneltest.NewAuthority(t)
	cfg := &tls.Config{Certificates: []tls.Certificate{a.Sign("master", time.Now().Add(time.Hour))}}
	for name, closing := range map[string]func(*tls.Conn){
		"with close_notify": func(s *tls.Conn) { s.Close() },
		"without":           func(s *tls.Conn) { s.NetConn().Close() },
	} {
		t.Run(name, func(t *testing.T) {
			f, tun := open(t, serve(t, func(c net.Conn) {
				s := tls.Server(c, cfg)
				_, _ = s.Write([]byte("last words"))
				closing(s)
			}), client(a))
			p, err := io.ReadAll(f)
			if string(p) != "last words" || err != nil {
				t.Errorf("read %q, %v", p, err)
			}
			if err := tun.Err(); err != nil {
				t.Errorf("Err is %v", err)
			}
		})
	}
}

func TestWhatIsWrongWithACertificateIsTold(t *testing.T) {
	a, other := tunneltest.NewAuthority(t), tunneltest.NewAuthority(t)
	good := a.Sign("master", time.Now().Add(time.Hour))
	server := func(cfg *tls.Config) func(net.Conn) {
		return func(c net.Conn) {
			s := tls.Server(c, cfg)
			if s.Handshake() == nil {
				_, _ = io.Copy(io.Discard, s)
			}
		}
	}
	for name, c := range map[string]struct {
		serve  func(net.Conn)
		config func() (*tls.Config, error)
		want   func(error) bool
	}{
		"unknown authority": {server(&tls.Config{Certificates: []tls.Certificate{good}}), client(other), as[x509.UnknownAuthorityError]},
		"expired": {server(&tls.Config{Certificates: []tls.Certificate{a.Sign("master", time.Now().Add(-time.Minute))}}), client(a),
			func(err error) bool {
				var e x509.CertificateInvalidError
				return errors.As(err, &e) && e.Reason == x509.Expired
			}},
		"another name":         {server(&tls.Config{Certificates: []tls.Certificate{a.Sign("somebody", time.Now().Add(time.Hour))}}), client(a), as[x509.HostnameError]},
		"the server wants one": {server(&tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.Pool()}), client(a), is(tunnel.ErrRefused)},
		"no TLS":               {func(c net.Conn) { _, _ = io.WriteString(c, "-ERR unknown command\r\n"); _, _ = io.Copy(io.Discard, c) }, client(a), is(tunnel.ErrNotTLS)},
		"no files":             {func(net.Conn) {}, func() (*tls.Config, error) { return nil, os.ErrNotExist }, is(os.ErrNotExist)},
	} {
		t.Run(name, func(t *testing.T) {
			f, tun := open(t, serve(t, c.serve), c.config)
			_, _ = f.WriteString("PING\r\n")
			_, _ = io.ReadAll(f) // the end, or a reset: either way Err is set
			if err := tun.Err(); !c.want(err) || !errors.Is(err, tunnel.ErrTLS) {
				t.Errorf("Err is %v", err)
			}
		})
	}
}

func as[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

func is(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

func TestClosingEndsATunnelWhoseServerIsSilent(t *testing.T) {
	a := tunneltest.NewAuthority(t)
	let := make(chan struct{})
	f, tun := open(t, serve(t, func(net.Conn) { <-let }), client(a))
	_, _ = f.WriteString("PING\r\n")
	f.Close()
	over(t, tun)
	if err := tun.Err(); err != nil {
		t.Errorf("Err is %v", err)
	}
	close(let)
}

func TestClosingEndsATunnelThatIsFull(t *testing.T) {
	a := tunneltest.NewAuthority(t)
	cfg := &tls.Config{Certificates: []tls.Certificate{a.Sign("master", time.Now().Add(time.Hour))}}
	f, tun := open(t, serve(t, func(c net.Conn) {
		s := tls.Server(c, cfg)
		for p := make([]byte, 1<<20); ; {
			if _, err := s.Write(p); err != nil {
				return
			}
		}
	}), client(a))
	p := make([]byte, 1)
	if _, err := io.ReadFull(f, p); err != nil {
		t.Fatal(err)
	}
	f.Close()
	over(t, tun)
}

func TestFilesAreReadAnewForEachConnection(t *testing.T) {
	a := tunneltest.NewAuthority(t)
	files := tunnel.Files{CACert: a.CA()}
	for range 2 {
		files.Cert, files.Key = a.SignFiles("client", time.Now().Add(time.Hour))
		cfg, err := files.Config("master")
		if err != nil {
			t.Fatal(err)
		}
		p, err := os.ReadFile(files.Cert)
		if err != nil {
			t.Fatal(err)
		}
		if block, _ := pem.Decode(p); !bytes.Equal(cfg.Certificates[0].Certificate[0], block.Bytes) || cfg.ServerName != "master" || !cfg.RootCAs.Equal(a.Pool()) {
			t.Errorf("the configuration is %+v", cfg)
		}
	}
	if err := os.WriteFile(files.CACert, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]tunnel.Files{
		"no certificate in it": files,
		"a cert without a key": {Cert: files.Cert},
		"a missing file":       {CACert: filepath.Join(t.TempDir(), "no")},
		"no key in it":         {Cert: files.Cert, Key: files.CACert},
	} {
		if _, err := f.Config("h"); !errors.Is(err, tunnel.ErrFiles) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatAServerSentBeforeItDiedIsReadThoughTheReaderIsSlow(t *testing.T) {
	a := tunneltest.NewAuthority(t)
	cfg := &tls.Config{Certificates: []tls.Certificate{a.Sign("master", time.Now().Add(time.Hour))}}
	wrote := make(chan int, 1)
	f, _ := open(t, serve(t, func(c net.Conn) {
		s := tls.Server(c, cfg)
		n := 0
		for buf := make([]byte, 16<<10); ; { // until nobody takes more
			_ = s.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
			k, err := s.Write(buf)
			n += k
			if err != nil {
				break
			}
		}
		// What has not left is lost with the server.
		_ = c.(*net.TCPConn).SetLinger(0)
		raw, _ := c.(*net.TCPConn).SyscallConn()
		_ = raw.Control(func(fd uintptr) {
			left, _ := unix.IoctlGetInt(int(fd), unix.TIOCOUTQ)
			wrote <- n - left
		})
	}), client(a))
	n := <-wrote
	// Nothing is read for longer than the server's last words have, and what
	// is written does not arrive any more.
	for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		_, _ = f.WriteString("ACK")
	}
	got, err := io.Copy(io.Discard, f)
	// The last record is cut, and records have headers.
	if least := int64(n - n/100 - 32<<10); got < least {
		t.Errorf("%d bytes were read of %d that were delivered: %v", got, n, err)
	}
}

func TestAfterCloseWriteWhatTheServerSentIsReadToTheEnd(t *testing.T) {
	a := tunneltest.NewAuthority(t)
	cfg := &tls.Config{Certificates: []tls.Certificate{a.Sign("master", time.Now().Add(time.Hour))}}
	for name, closes := range map[string]bool{"a server that closes": true, "a server that does not": false} {
		t.Run(name, func(t *testing.T) {
			sent, over := make(chan bool), make(chan bool)
			defer close(over)
			f, tun := open(t, serve(t, func(c net.Conn) {
				s := tls.Server(c, cfg)
				_, _ = s.Write(make([]byte, 400_000))
				close(sent)
				if closes {
					_, _ = io.Copy(io.Discard, s)
					return
				}
				<-over
			}), client(a))
			<-sent
			poll.Until(t, "the handshake to be over", tun.Established)
			raw, err := f.SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			if err := raw.Control(func(fd uintptr) { _ = tun.CloseWrite(int(fd)) }); err != nil {
				t.Fatal(err)
			}
			if n, err := io.Copy(io.Discard, f); n != 400_000 || err != nil {
				t.Errorf("%d bytes, %v", n, err)
			}
		})
	}
}
