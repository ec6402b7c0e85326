package respport

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"time"
)

// denied is what a client is told in protected mode.
const denied = "-DENIED replicad is running in protected mode because protected mode is enabled and no password is set for the " +
	"default user. In this mode connections are only accepted from the loopback interface. To connect from other hosts: " +
	"1) set a password (requirepass-file, or the variable REPLICAD_REQUIREPASS), or " +
	"2) turn protected mode off (protected-mode no), which lets everybody who reaches this port repoint or stop replicad.\r\n"

const full = "-ERR max number of clients reached\r\n"

// listener hands out clients instead of bare connections, and only as many as
// there may be.
type listener struct {
	net.Listener
	s   *Server
	tls *tls.Config // nil for the plain port
}

// Accept implements net.Listener. Only a listener that is closed ends it: redcon
// would try again at once, and for ever, what fails for want of descriptors.
func (l *listener) Accept() (net.Conn, error) {
	for pause := time.Duration(0); ; {
		conn, err := l.Listener.Accept()
		if err == nil {
			pause = 0
			if c := l.admit(conn); c != nil {
				return c, nil
			}
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return nil, err
		}
		pause = min(max(2*pause, 10*time.Millisecond), time.Second)
		l.s.log(slog.LevelWarn, "a connection can't be accepted", "addr", l.Addr().String(), "error", err)
		select {
		case <-l.s.done:
			return nil, net.ErrClosed
		case <-time.After(pause):
		}
	}
}

// admit makes a client of a connection, or sends it away.
func (l *listener) admit(conn net.Conn) *client {
	s := l.s
	s.stats.connections.Add(1)
	if s.cfg.ProtectedMode && !s.password.Load().set && !loopback(conn.RemoteAddr()) {
		l.refuse(conn, denied)
		return nil
	}
	var c *client
	if l.tls != nil {
		c = s.newClient(tls.Server(conn, l.tls), true)
	} else {
		c = s.newClient(conn, false)
	}
	if !s.welcome(c) {
		l.refuse(conn, full)
		return nil
	}
	return c
}

// refuse says why, where it can be said: a buffer that is empty has room for it.
func (l *listener) refuse(conn net.Conn, why string) {
	l.s.stats.rejected.Add(1)
	if l.tls == nil {
		_ = conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		_, _ = conn.Write([]byte(why))
	}
	_ = conn.Close()
}

// loopback says whether a peer is on this host, as connIsLocal has it.
func loopback(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return a.Network() != "tcp" // a unix socket, or a pipe
	}
	ip, ok := netip.AddrFromSlice(t.IP)
	return ok && ip.Unmap().IsLoopback()
}
