package main

import (
	"log/slog"
	"net"

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
	page     *statuspage.Page // since serve
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
	if s.page != nil {
		s.page.Observe(e)
	}
}

// ObserveArchive implements archive.Observer.
func (s *site) ObserveArchive(e archive.Event) {
	if s.page != nil {
		s.page.ObserveArchive(e)
	}
}

// serve begins to answer requests, before the daemon runs.
func (s *site) serve(d *daemon.Daemon, log *slog.Logger) {
	if s == nil {
		return
	}
	cfg := httpport.Config{Metrics: s.metrics.Handler(log), Log: log}
	page := statuspage.Config{Version: thisBuild().Version}
	for _, h := range d.Handles() {
		s.metrics.Follow(h)
		cfg.Masters = append(cfg.Masters, h)
		page.Masters = append(page.Masters, h)
	}
	s.page = statuspage.New(page)
	cfg.Page = s.page
	s.server = httpport.Serve(s.listener, cfg)
}

// close ends the server and the page, or closes the port.
func (s *site) close() {
	switch {
	case s == nil:
	case s.server != nil:
		s.server.Close()
		s.page.Close()
	default:
		s.listener.Close()
	}
}
