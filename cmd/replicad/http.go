package main

import (
	"log/slog"
	"net"

	"replicad/replica/daemon"
	"replicad/replica/metrics"
	"replicad/replica/web"
)

// site is what --http shows; nil without it.
type site struct {
	listener net.Listener
	metrics  *metrics.Metrics
	server   *web.Server
}

// listen opens the port, before the archives are: one that is in use ends the
// program with nothing done. cfg is told to count fsyncs.
func listen(addr string, cfg *daemon.Config) (*site, error) {
	if addr == "" {
		return nil, nil
	}
	l, err := web.Listen(addr)
	if err != nil {
		return nil, err
	}
	b := thisBuild()
	s := &site{listener: l, metrics: metrics.New(metrics.Build{Version: b.Version, Commit: b.Commit, Go: b.Go})}
	cfg.ObserveFsync = s.metrics.ObserveFsync
	return s, nil
}

// serve begins to answer.
func (s *site) serve(d *daemon.Daemon, log *slog.Logger) {
	if s == nil {
		return
	}
	cfg := web.Config{Metrics: s.metrics.Handler(log), Log: log}
	for _, h := range d.Handles() {
		s.metrics.Follow(h)
		cfg.Masters = append(cfg.Masters, h)
	}
	s.server = web.Serve(s.listener, cfg)
}

// close ends it.
func (s *site) close() {
	switch {
	case s == nil:
	case s.server != nil:
		s.server.Close()
	default:
		s.listener.Close()
	}
}
