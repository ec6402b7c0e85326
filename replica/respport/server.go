package respport

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tidwall/redcon"

	"replicad/replica/lately"
)

// Server is the port of one master. Listen makes one.
type Server struct {
	cfg      Config
	password atomic.Pointer[secret]
	runID    string // 40 hexadecimal digits, the process's
	started  time.Time
	backend  Backend
	state    stateCache
	archive  *lately.Value[onDisk]
	commands *table
	pubsub   pubsub
	memory   budget
	stats    stats
	orders   sync.Mutex // held by who gives any, and by EXEC around several
	lastID   atomic.Int64
	logged   limiter
	turns    turns

	writeWithin time.Duration

	mu        sync.Mutex
	clients   map[int64]*client
	listeners []*listener
	closed    bool
	done      chan struct{}
	work      sync.WaitGroup
}

// ErrListen is what errors about an address wrap that can't be listened on.
var ErrListen = errors.New("the RESP port can't be opened")

// Listen opens the ports. Nobody is answered until Serve.
func Listen(cfg Config) (*Server, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	s := newServer(cfg)
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

func newServer(cfg Config) *Server {
	cfg.fill()
	id := make([]byte, 20)
	_, _ = rand.Read(id) // never fails (crypto/rand)
	s := &Server{
		cfg: cfg, runID: hex.EncodeToString(id), started: time.Now(),
		memory: budget{max: cfg.MaxMemoryClients}, clients: map[int64]*client{}, done: make(chan struct{}),
		commands: newTable(), writeWithin: writeTimeout, turns: newTurns(),
	}
	s.SetRequirePass(cfg.RequirePass)
	s.stats.init(len(s.commands.all))
	return s
}

// listen opens one port on each address.
func (s *Server) listen(port int, overTLS bool) error {
	lc := net.ListenConfig{KeepAlive: -1}
	if s.cfg.TCPKeepAlive > 0 { // anetKeepAlive
		lc.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: s.cfg.TCPKeepAlive, Interval: max(s.cfg.TCPKeepAlive/3, time.Second), Count: 3}
	}
	opened := 0
	for _, a := range s.cfg.Bind {
		host, optional := strings.CutPrefix(a, "-")
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
			return explainListen(err, a, port)
		}
		s.add(ln, overTLS)
		opened++
	}
	if opened == 0 {
		return fmt.Errorf("%w: %w: bind %s", ErrListen, errBind, strings.Join(s.cfg.Bind, " "))
	}
	return nil
}

func explainListen(err error, address string, port int) error {
	remedy := ""
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		remedy = fmt.Sprintf(": port %d is in use: choose another one by port (--port), or none by 0", port)
	case errors.Is(err, syscall.EACCES):
		remedy = ": ports below 1024 need a capability: choose another one by port (--port)"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		remedy = fmt.Sprintf(": %s is no address of this host: see bind (--bind); -%s would be passed over", address, address)
	}
	return fmt.Errorf("%w: %w%s", ErrListen, err, remedy)
}

// add has a listener served from Serve on.
func (s *Server) add(ln net.Listener, overTLS bool) {
	l := &listener{Listener: ln, s: s}
	if overTLS {
		files := &certificates{files: s.cfg.TLS, warn: func(err error) {
			s.log(slog.LevelWarn, "the changed TLS files can't be used: the former ones stay in force", "error", err)
		}}
		l.tls = files.config()
	}
	s.listeners = append(s.listeners, l)
}

// Addrs are the addresses that are listened on.
func (s *Server) Addrs() []net.Addr {
	var all []net.Addr
	for _, l := range s.listeners {
		all = append(all, l.Addr())
	}
	return all
}

// SetRequirePass changes the password; "" for none. Clients that gave the former
// one stay.
func (s *Server) SetRequirePass(password string) {
	p := newSecret(password)
	s.password.Store(&p)
}

// Serve answers on behalf of b until Close, and returns then. Who connected
// before has waited.
func (s *Server) Serve(b Backend) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.backend = b
	s.state.read, s.archive = b.Status, newArchiveCache(b.Archive)
	s.work.Go(s.sample)
	for _, l := range s.listeners {
		s.work.Go(func() {
			if err := redcon.Serve(l, s.handle, nil, nil); err != nil {
				s.cfg.Log.Error("the RESP port ended", "addr", l.Addr().String(), "error", err)
			}
		})
	}
	s.mu.Unlock()
	s.work.Wait()
}

// Close closes the ports, ends all connections, and waits for that.
func (s *Server) Close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		s.work.Wait()
		return
	}
	s.closed = true
	close(s.done)
	clients := s.all()
	s.mu.Unlock()
	for _, l := range s.listeners {
		_ = l.Close()
	}
	for _, c := range clients {
		c.cut("the port is closed")
	}
	s.work.Wait()
}

// welcome registers a client; false when there is no room, or no server any
// more.
func (s *Server) welcome(c *client) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.clients) >= s.cfg.MaxClients {
		return false
	}
	s.clients[c.id] = c
	return true
}

func (s *Server) forget(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.clients, c.id)
}

// all are the clients by their ids. The caller holds mu.
func (s *Server) all() []*client {
	all := make([]*client, 0, len(s.clients))
	for _, c := range s.clients {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *client) int { return int(a.id - b.id) })
	return all
}

// connected are the clients there are now.
func (s *Server) connected() []*client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all()
}

// log logs what a peer brings about: each message once a second at most, for a
// peer can bring it about at will.
func (s *Server) log(level slog.Level, msg string, args ...any) {
	if left, ok := s.logged.may(msg, time.Now()); ok {
		if left > 0 {
			args = append(args, "more_like_this", left)
		}
		s.cfg.Log.Log(context.Background(), level, msg, args...)
	}
}

// limiter lets through one of a kind each second; the kinds are few.
type limiter struct {
	mu   sync.Mutex
	next map[string]time.Time
	left map[string]int
}

// may says whether now is the time, and how many were left out since.
func (l *limiter) may(kind string, now time.Time) (left int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next == nil {
		l.next, l.left = map[string]time.Time{}, map[string]int{}
	}
	if now.Before(l.next[kind]) {
		l.left[kind]++
		return 0, false
	}
	left = l.left[kind]
	l.next[kind], l.left[kind] = now.Add(time.Second), 0
	return left, true
}

// reservedFiles are descriptors that archives and links need, whatever clients
// there are.
const reservedFiles = 256

// FitMaxClients lowers maxclients of each of so many ports to what the limit of
// open files leaves (adjustOpenFilesLimit of Redis' server.c): a client too many
// must not keep the archive from opening a file.
func FitMaxClients(want, ports int) int {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err != nil || ports == 0 {
		return want
	}
	if r.Cur > 1<<30 {
		return want
	}
	return min(want, max(1, (int(r.Cur)-reservedFiles)/ports))
}
