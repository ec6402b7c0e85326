package respport

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"text/template"
	"time"
)

// Server is the port of one master. Listen makes one.
type Server struct {
	cfg      Config
	password atomic.Pointer[secret]
	runID    string // 40 hexadecimal digits, the process's
	started  time.Time
	backend  Backend
	commands table
	info     *template.Template
	pubsub   pubsub
	memory   budget
	counters atomic.Pointer[counters]
	rates    atomic.Pointer[rates]
	orders   sync.Mutex // held while an order is given; by EXEC, around all of its commands
	lastID   atomic.Int64
	turns    turns
	tls      certificates

	writeWithin time.Duration

	mu        sync.Mutex
	clients   map[int64]*client
	silent    map[string]time.Time // until when a message is not logged again
	listeners []*listener
	closed    bool
	done      chan struct{}
	work      sync.WaitGroup
}

// ErrListen is wrapped by the error for an address on which the port can't
// listen.
var ErrListen = errors.New("the RESP port can't be opened")

// Listen opens the ports of a configuration. Nobody is answered until Serve. The
// error says what is wrong with the configuration, or wraps [ErrListen].
func Listen(cfg Config) (*Server, error) {
	if cfg.Relay && cfg.RequirePass == "" && slices.ContainsFunc(cfg.Bind, beyondLoopback) {
		return nil, fmt.Errorf("relay yes hands out the whole dataset: with bind %s it needs a password (requirepass-file, or the variable REPLICAD_REQUIREPASS)", strings.Join(cfg.Bind, " "))
	}
	s := newServer(cfg)
	if cfg.TLSPort != 0 {
		if _, err := s.tls.current(nil); err != nil {
			return nil, err
		}
	}
	err := s.listen(cfg.Port, false)
	if err == nil {
		err = s.listen(cfg.TLSPort, true)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func newServer(cfg Config) *Server {
	cfg.fill()
	id := make([]byte, 20)
	_, _ = rand.Read(id) // never fails (crypto/rand)
	s := &Server{
		cfg: cfg, runID: fmt.Sprintf("%x", id), started: time.Now(), info: infoTemplate(),
		memory: budget{max: cfg.MaxMemoryClients}, clients: map[int64]*client{}, silent: map[string]time.Time{}, done: make(chan struct{}),
		commands: newTable(), pubsub: pubsub{all: map[topic]map[*client]struct{}{}}, writeWithin: writeTimeout, turns: make(turns, max(1, runtime.GOMAXPROCS(0)/2)),
	}
	s.tls.files, s.tls.warn = cfg.TLS, func(err error) {
		s.log(slog.LevelWarn, "the changed TLS files can't be used: the former ones stay in force", "error", err)
	}
	s.SetRequirePass(cfg.RequirePass)
	s.resetStats()
	return s
}

// Serve answers on behalf of b, and returns after Close. Clients that connected
// before Serve have waited.
func (s *Server) Serve(b Backend) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.backend = b
	s.work.Go(s.sample)
	for _, l := range s.listeners {
		s.work.Go(l.run)
	}
	s.mu.Unlock()
	s.work.Wait()
}

// Close closes the ports and ends all connections. No client is accepted after
// it returns; a command that waits for its order may still end later.
func (s *Server) Close() {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.mu.Unlock()
	if first {
		close(s.done)
		for _, l := range s.listeners {
			_ = l.Close()
		}
		for _, c := range s.connected() {
			c.cut()
		}
	}
	s.work.Wait()
}

// welcome registers a client; false when there is no room, or the server is
// closed.
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

// connected are the clients, in the order of their ids.
func (s *Server) connected() []*client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Values(s.clients), func(a, b *client) int { return cmp.Compare(a.id, b.id) })
}

// log logs what a peer can bring about at will: each message once a second at
// most. The messages are few.
func (s *Server) log(level slog.Level, msg string, args ...any) {
	s.mu.Lock()
	now := time.Now()
	due := now.After(s.silent[msg])
	if due {
		s.silent[msg] = now.Add(time.Second)
	}
	s.mu.Unlock()
	if due {
		s.cfg.Log.Log(context.Background(), level, msg, args...)
	}
}
