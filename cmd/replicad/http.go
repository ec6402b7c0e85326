package main

import (
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"

	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/daemon"
	"replicad/replica/httpport"
	"replicad/replica/httpport/metrics"
	"replicad/replica/httpport/statuspage"
)

// site is what --http shows; nil without it.
type site struct {
	listener net.Listener
	metrics  *metrics.Metrics
	page     atomic.Pointer[statuspage.Page] // nil before serve
	server   *httpport.Server
}

// listen opens the port, before the archives are opened: a port in use ends the
// program with nothing done. It sets cfg.ObserveFsync.
func listen(addr string, cfg *daemon.Config) (*site, error) {
	if addr == "" {
		return nil, nil
	}
	l, err := httpport.Listen(addr)
	if err != nil {
		return nil, err
	}
	b := thisBuild()
	s := &site{listener: l, metrics: metrics.New(metrics.Build{Version: b.Version, Commit: b.Commit, Go: b.Go})}
	cfg.ObserveFsync = s.metrics.ObserveFsync
	return s, nil
}

// Observe implements replica.Observer. No link tells anything before serve.
func (s *site) Observe(e replica.Event) {
	if page := s.page.Load(); page != nil {
		page.Observe(e)
	}
}

// ObserveArchive implements archive.Observer.
func (s *site) ObserveArchive(e archive.Event) {
	if page := s.page.Load(); page != nil {
		page.ObserveArchive(e)
	}
}

// serve begins to answer requests, before the daemon runs.
func (s *site) serve(d *daemon.Daemon, log *slog.Logger) {
	if s == nil {
		return
	}
	s.follow(d)
	s.server = httpport.Serve(s.listener, httpport.Config{
		Metrics: s.metrics.Handler(log), Log: log, Ping: d.Ping,
		Masters: func() (all []httpport.Master) {
			for _, h := range d.Handles() {
				all = append(all, h)
			}
			return all
		},
		Page: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.page.Load().ServeHTTP(w, r) }),
	})
}

// follow shows the masters that are followed now.
func (s *site) follow(d *daemon.Daemon) {
	if s == nil {
		return
	}
	before := s.page.Load()
	page := statuspage.Config{Version: thisBuild().Version, Before: before}
	var masters []metrics.Master
	for _, h := range d.Handles() {
		masters = append(masters, h)
		page.Masters = append(page.Masters, h)
	}
	s.metrics.Follow(masters...)
	s.page.Store(statuspage.New(page))
	if before != nil {
		before.Close()
	}
}

// close ends the server and the page, or closes the port.
func (s *site) close() {
	switch {
	case s == nil:
	case s.server != nil:
		s.server.Close()
		s.page.Load().Close()
	default:
		s.listener.Close()
	}
}
