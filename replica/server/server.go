package server

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"replicad/replica/archive"
	"replicad/replica/status"
)

// Defaults of [Config], and redis.conf's where it has the directive.
const (
	DefaultPort             = 6380
	DefaultBind             = "127.0.0.1"
	DefaultMaxClients       = 1000
	DefaultQueryBufferLimit = 1 << 20 // bytes; Redis has 1 GiB, but holds data
	DefaultTCPKeepAlive     = 300 * time.Second
)

const (
	writeWithin = 10 * time.Second // what a client takes to read what it asked for
	tlsWithin   = 10 * time.Second // a TLS handshake
	acceptPause = 100 * time.Millisecond
)

// Backend is the master that the port speaks for; *daemon.Handle is one. Its
// methods are called on the goroutines of clients, and may wait.
type Backend interface {
	Status() status.Status
	LagSince() time.Time
	// Archive describes what is on disk, by reading it.
	Archive() (archive.Master, error)
	// ReplicaOf and NoOne repoint the link; they return when the order is
	// durable and obeyed.
	ReplicaOf(host, port string) error
	NoOne() error
	// Rebase begins a rebase.
	Rebase(why string) error
}

// Config says where to listen, and for whom.
type Config struct {
	Bind []string // addresses; "*" for all, "-" before one that may be missing
	Port int      // 0 for none
	// TLSPort (tls-port) is spoken to by TLS; 0 for none. TLS gives the
	// configuration of each connection, so that renewed files are used.
	TLSPort int
	TLS     func() (*tls.Config, error)

	RequirePass      string // "" for none
	ProtectedMode    bool   // without a password only the loopback is served
	MaxClients       int
	Timeout          time.Duration // of an idle client; 0 for none
	QueryBufferLimit int           // client-query-buffer-limit, bytes of one query
	TCPKeepAlive     time.Duration // 0 for none

	Version string // of replicad
	// Directives gives what CONFIG GET knows, without secrets.
	Directives func() map[string]string
	// Shutdown ends the daemon; it must not wait.
	Shutdown func()
	Log      *slog.Logger // nil: silent
}

// Server is the port. Listen makes one, Serve runs it.
type Server struct {
	cfg       Config
	backend   Backend // since Serve
	listeners []*listener
	commands  map[string]*command
	known     map[string]known
	runID     string
	started   time.Time
	archive   cached
	password  atomic.Pointer[string]
	broker    broker

	mu      sync.Mutex
	clients map[int64]*client
	closing bool
	running sync.WaitGroup

	nextID        atomic.Int64
	connections   atomic.Int64 // total_connections_received
	rejected      atomic.Int64
	processed     atomic.Int64 // total_commands_processed
	errors        atomic.Int64 // total_error_replies
	bytesIn       atomic.Int64
	bytesOut      atomic.Int64
	cutOutput     atomic.Int64 // clients that did not read
	protocolFault atomic.Int64 // clients that did not speak RESP
	authFailures  atomic.Int64
}

type listener struct {
	net.Listener
	tls bool
}

// ErrListen is what errors of Listen wrap.
var ErrListen = errors.New("the RESP port can't be opened")

// Listen opens the ports. The caller must call Serve or Close.
func Listen(cfg Config) (*Server, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if len(cfg.Bind) == 0 {
		cfg.Bind = []string{DefaultBind}
	}
	if cfg.MaxClients <= 0 {
		cfg.MaxClients = DefaultMaxClients
	}
	if cfg.QueryBufferLimit <= 0 {
		cfg.QueryBufferLimit = DefaultQueryBufferLimit
	}
	s := &Server{cfg: cfg, clients: map[int64]*client{}, runID: randomHex(20), started: time.Now(), known: knownCommands()}
	s.commands = s.table()
	s.broker.channels, s.broker.patterns = map[string]map[*client]bool{}, map[string]map[*client]bool{}
	s.SetRequirePass(cfg.RequirePass)
	for _, p := range []struct {
		port int
		tls  bool
	}{{cfg.Port, false}, {cfg.TLSPort, true}} {
		if p.port == 0 {
			continue
		}
		if err := s.listen(p.port, p.tls); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// listen opens one port on each address.
func (s *Server) listen(port int, byTLS bool) error {
	opened := 0
	for _, bind := range s.cfg.Bind {
		host, optional := strings.CutPrefix(bind, "-")
		switch host {
		case "*":
			host = ""
		case "::*":
			host = "::"
		}
		lc := net.ListenConfig{KeepAlive: s.cfg.TCPKeepAlive}
		if s.cfg.TCPKeepAlive <= 0 {
			lc.KeepAlive = -1
		}
		ln, err := lc.Listen(context.Background(), "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			if optional {
				continue
			}
			return fmt.Errorf("%w: %w", ErrListen, err)
		}
		opened++
		s.listeners = append(s.listeners, &listener{ln, byTLS})
	}
	if opened == 0 {
		return fmt.Errorf("%w: none of the addresses of bind can be listened on", ErrListen)
	}
	return nil
}

// Addrs are the addresses that are listened on, plain ones first.
func (s *Server) Addrs() []net.Addr {
	var all []net.Addr
	for _, l := range s.listeners {
		all = append(all, l.Addr())
	}
	return all
}

// SetRequirePass changes the password; "" for none. Clients that are
// authenticated stay so.
func (s *Server) SetRequirePass(password string) { s.password.Store(&password) }

// Serve answers clients, on behalf of b, until Close. Who connects before waits.
func (s *Server) Serve(b Backend) {
	s.backend = b
	var wg sync.WaitGroup
	for _, l := range s.listeners {
		wg.Go(func() { s.accept(l) })
	}
	wg.Wait()
	s.running.Wait()
}

// Close closes the ports and all clients, and waits for these where Serve runs.
func (s *Server) Close() {
	s.mu.Lock()
	s.closing = true
	for _, l := range s.listeners {
		l.Close()
	}
	for _, c := range s.clients {
		c.conn.Close()
	}
	s.mu.Unlock()
	s.running.Wait()
}

func (s *Server) accept(l *listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			s.mu.Lock()
			closing := s.closing
			s.mu.Unlock()
			if closing {
				return
			}
			// No descriptor is free, or the like: it may pass.
			s.cfg.Log.Warn("the RESP port can't accept a connection", "error", err)
			time.Sleep(acceptPause)
			continue
		}
		s.connections.Add(1)
		s.admit(conn, l.tls)
	}
}

// denied is what a client is told that protected mode keeps out. (acceptCommonHandler)
const denied = "DENIED replicad runs in protected mode, as Redis does: no password is set, so only clients of the loopback interface are served. " +
	"To serve others set requirepass-file (and bind), or protected-mode no where the network is trusted."

// admit begins to serve a connection, or says why not.
func (s *Server) admit(conn net.Conn, byTLS bool) {
	s.mu.Lock()
	full, closing := len(s.clients) >= s.cfg.MaxClients, s.closing
	if !full && !closing {
		c := newClient(s, conn, byTLS)
		s.clients[c.id] = c
		s.running.Go(func() { c.serve() })
	}
	s.mu.Unlock()
	switch {
	case closing:
		conn.Close()
	case full:
		s.reject(conn, byTLS, "ERR max number of clients reached")
	}
}

// reject tells a client why it is not served. It does not wait for it.
func (s *Server) reject(conn net.Conn, byTLS bool, why string) {
	s.rejected.Add(1)
	if !byTLS {
		_ = conn.SetWriteDeadline(time.Now().Add(time.Millisecond))
		_, _ = conn.Write([]byte("-" + why + "\r\n"))
	}
	conn.Close()
}

// protected says whether protected mode keeps a client out.
func (s *Server) protected(conn net.Conn) bool {
	if !s.cfg.ProtectedMode || *s.password.Load() != "" {
		return false
	}
	a, ok := conn.RemoteAddr().(*net.TCPAddr)
	return !ok || !a.IP.IsLoopback()
}

func (s *Server) forget(c *client) {
	s.broker.leave(c)
	s.mu.Lock()
	delete(s.clients, c.id)
	s.mu.Unlock()
}

// all gives the clients, oldest first.
func (s *Server) all() []*client {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*client, 0, len(s.clients))
	for _, c := range s.clients {
		all = append(all, c)
	}
	return all
}

// TLSFiles are redis.conf's tls-* directives of a server.
type TLSFiles struct {
	Cert, Key   string // tls-cert-file, tls-key-file
	CACert      string // tls-ca-cert-file: who may sign a client's certificate
	AuthClients string // tls-auth-clients: yes, no or optional
}

// Config reads the files; Listen's Config.TLS calls it for each connection.
func (f TLSFiles) Config() (*tls.Config, error) {
	if f.Cert == "" || f.Key == "" {
		return nil, errors.New("tls-port wants tls-cert-file and tls-key-file")
	}
	cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("tls-cert-file %s, tls-key-file %s: %w", f.Cert, f.Key, err)
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	switch f.AuthClients {
	case "no":
		return cfg, nil
	case "optional":
		cfg.ClientAuth = tls.VerifyClientCertIfGiven
	default:
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	}
	if f.CACert == "" {
		return nil, errors.New("tls-port wants tls-ca-cert-file to verify clients by, or tls-auth-clients no")
	}
	pem, err := os.ReadFile(f.CACert)
	if err != nil {
		return nil, fmt.Errorf("tls-ca-cert-file: %w", err)
	}
	if cfg.ClientCAs, err = certPool(pem); err != nil {
		return nil, fmt.Errorf("tls-ca-cert-file: %s: %w", f.CACert, err)
	}
	return cfg, nil
}
