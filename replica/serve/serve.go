// Package serve makes a read-only master of an archive, frozen at a moment: a
// restore into a server whose folder one cannot reach. It is the relay behind a
// RESP port, without a daemon or beside one.
//
//	s, err := serve.Open(serve.Config{Dir: "data/main", Target: target})
//	if err != nil { ... }
//	defer s.Close()
//	err = s.Run(ctx) // until ctx is done, or enough replicas have loaded it
package serve

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"replicad/replica/archive"
	"replicad/replica/daemon/status"
	"replicad/replica/relay"
	"replicad/replica/respport"
)

// Config says what is served, and where.
type Config struct {
	Dir    string // the archive's
	Target archive.Target
	RESP   respport.Config // of the port; Relay and Shutdown are filled in
	// UntilLoaded is how many replicas are to have acknowledged the moment before
	// Run returns; 0 for no end.
	UntilLoaded int
}

// Server is a master that serves one moment.
type Server struct {
	// Point is what is served. Its Offset is a boundary.
	Point archive.Point

	cfg    Config
	hold   *archive.Cursor // keeps the generation
	relay  *relay.Relay
	port   *respport.Server
	ended  chan struct{}
	ending sync.Once

	mu     sync.Mutex
	loaded map[string]bool // which replicas have acknowledged the moment
}

// ErrFrozen refuses orders.
var ErrFrozen = errors.New("this master is frozen at a moment of an archive: it follows nobody, and takes no base")

// Open finds the moment and opens the port. Nobody is answered before Run. The
// error is one of archive.Locate or of respport.Listen.
func Open(cfg Config) (s *Server, err error) {
	r, p, err := archive.Locate(cfg.Dir, cfg.Target, time.Now())
	if err != nil {
		return nil, err
	}
	s = &Server{Point: p, cfg: cfg, ended: make(chan struct{}), loaded: map[string]bool{}}
	if s.hold, err = r.Cursor(p.Offset); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.Point.Offset, _, err = s.hold.Boundary(); err != nil {
		return s, err
	}
	s.Point.ReplID = r.ReplID(s.Point.Offset)
	cfg.RESP.Relay, cfg.RESP.Shutdown = true, s.end
	s.relay = relay.New(relay.Config{
		Lineage: archive.Lineage{Dir: cfg.Dir, Generation: p.Generation, Offset: s.Point.Offset},
		Heard:   s.heard, Log: cfg.RESP.Log,
	})
	s.port, err = respport.Listen(cfg.RESP)
	return s, err
}

// Run serves replicas until ctx is done, a client sends SHUTDOWN, or as many
// replicas as are wanted have acknowledged the moment.
func (s *Server) Run(ctx context.Context) {
	go s.port.Serve(s)
	select {
	case <-ctx.Done():
	case <-s.ended:
	}
}

// Close cuts all replicas, and lets the archive go.
func (s *Server) Close() {
	if s.port != nil {
		s.port.Close()
	}
	if s.relay != nil {
		s.relay.Close()
	}
	_ = s.hold.Close()
}

func (s *Server) end() { s.ending.Do(func() { close(s.ended) }) }

// heard looks which replicas have the moment.
func (s *Server) heard() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.relay.Replicas() {
		if now := x.Now(); now.Online && now.Acked && now.Ack >= s.Point.Offset {
			who := x.Addr()
			if x.Port != 0 { // it may have connected anew
				who = fmt.Sprint(x.Host(), " ", x.Port)
			}
			s.loaded[who] = true
		}
	}
	if s.cfg.UntilLoaded > 0 && len(s.loaded) >= s.cfg.UntilLoaded {
		s.end()
	}
}

// Loaded is how many replicas have acknowledged the moment.
func (s *Server) Loaded() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.loaded)
}

// Status implements respport.Backend.
func (s *Server) Status() status.Status {
	at := s.Point.Offset
	st := status.Status{
		Name: filepath.Base(s.cfg.Dir), Frozen: true, NoOne: true, ReplID: s.Point.ReplID, SecondOffset: -1,
		Received: at, Stored: at, Durable: at,
	}
	s.relay.Describe(&st)
	return st
}

// Archive implements respport.Backend.
func (s *Server) Archive() (archive.Master, error) {
	m, _, err := archive.Describe(s.cfg.Dir)
	return m, err
}

// Relay implements respport.Backend.
func (s *Server) Relay() *relay.Relay { return s.relay }

// ReplicaOf implements respport.Backend.
func (s *Server) ReplicaOf(string, string) error { return ErrFrozen }

// NoOne implements respport.Backend: it is so already.
func (s *Server) NoOne() error { return nil }

// Rebase implements respport.Backend.
func (s *Server) Rebase(string) error { return ErrFrozen }
