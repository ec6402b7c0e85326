package respport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// denied is what a client is told in protected mode.
const denied = "-DENIED replicad is running in protected mode because protected mode is enabled and no password is set for the " +
	"default user. In this mode connections are only accepted from the loopback interface. To connect from other hosts: " +
	"1) set a password (requirepass-file, or the variable REPLICAD_REQUIREPASS), or " +
	"2) turn protected mode off (protected-mode no), which lets everybody who reaches this port repoint or stop replicad.\r\n"

// acceptPause is how long a listener waits that could not accept a connection.
const acceptPause = 100 * time.Millisecond

const full = "-ERR max number of clients reached\r\n"

// listener accepts clients, and only as many as there may be.
type listener struct {
	net.Listener
	s   *Server
	tls *tls.Config // nil for the plain port
}

// listen opens a port on each address of bind (listenToPort in Redis' server.c);
// 0 is none.
func (s *Server) listen(port int, overTLS bool) error {
	if port == 0 {
		return nil
	}
	lc := net.ListenConfig{KeepAlive: -1}
	if idle := s.cfg.TCPKeepAlive; idle > 0 { // anetKeepAlive
		lc.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: idle, Interval: max(idle/3, time.Second), Count: 3}
	}
	opened := 0
	for _, address := range s.cfg.Bind {
		host, optional := strings.CutPrefix(address, "-")
		network := "tcp"
		switch host {
		case "*":
			network, host = "tcp4", ""
		case "::*":
			network, host = "tcp6", ""
		}
		ln, err := lc.Listen(context.Background(), network, net.JoinHostPort(strings.Trim(host, "[]"), strconv.Itoa(port)))
		if optional && (errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EPROTONOSUPPORT)) {
			continue
		}
		if err != nil {
			return explainListen(err, address, port)
		}
		s.add(ln, overTLS)
		opened++
	}
	if opened == 0 {
		return fmt.Errorf("%w: no address to listen on: bind %s", ErrListen, strings.Join(s.cfg.Bind, " "))
	}
	return nil
}

func explainListen(err error, address string, port int) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%w: %w: port %d is in use: choose another port (--port), or 0 for none", ErrListen, err, port)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%w: %w: %s is no address of this host: see bind (--bind); -%[3]s would be passed over", ErrListen, err, address)
	}
	return fmt.Errorf("%w: %w", ErrListen, err)
}

// add makes a listener that Serve serves.
func (s *Server) add(ln net.Listener, overTLS bool) {
	l := &listener{Listener: ln, s: s}
	if overTLS {
		l.tls = &tls.Config{GetConfigForClient: s.tls.current}
	}
	s.listeners = append(s.listeners, l)
}

// run accepts clients until the listener is closed. Any other failure, such as
// that of a process without free descriptors, is tried again after a pause.
func (l *listener) run() {
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			l.admit(conn)
		case errors.Is(err, net.ErrClosed):
			return
		default:
			l.s.log(slog.LevelWarn, "a connection can't be accepted", "addr", l.Addr().String(), "error", err)
			time.Sleep(acceptPause)
		}
	}
}

// admit makes a client of a connection, or sends it away.
func (l *listener) admit(conn net.Conn) {
	s := l.s
	s.count().Connections.Add(1)
	if s.cfg.ProtectedMode && !s.password.Load().set && !loopback(conn.RemoteAddr()) {
		l.refuse(conn, denied)
		return
	}
	c := s.newClient(conn, l.tls)
	if !s.welcome(c) {
		l.refuse(conn, full)
		return
	}
	go c.serve()
}

// refuse says why, if that can be said without waiting: an empty socket buffer
// has room for the text.
func (l *listener) refuse(conn net.Conn, why string) {
	l.s.count().Rejected.Add(1)
	if l.tls == nil {
		_ = conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		_, _ = conn.Write([]byte(why))
	}
	_ = conn.Close()
}

// loopback tells whether a peer is on this host (connIsLocal in Redis'
// connection.h).
func loopback(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	return ok && t.IP.IsLoopback()
}

// beyondLoopback tells whether an address of bind is, or may be, one that other
// hosts reach.
func beyondLoopback(address string) bool {
	host := strings.Trim(strings.TrimPrefix(address, "-"), "[]")
	ip := net.ParseIP(host)
	return host != "localhost" && (ip == nil || !ip.IsLoopback())
}

// FitMaxClients lowers maxclients of each of so many ports to what the limit of
// open files leaves, of which free are not needed otherwise
// (adjustOpenFilesLimit in Redis' server.c): one client too many must not keep
// the archive from opening a file.
func FitMaxClients(want, ports, free int) int {
	return min(want, max(1, free/max(1, ports)))
}
