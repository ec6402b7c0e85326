package main

import (
	"log/slog"
	"maps"
	"sync"

	"replicad/replica/config"
	"replicad/replica/daemon"
	"replicad/replica/respport"
)

// servers are RESP ports, by the master's name.
type servers map[string]*respport.Server

// ports are the RESP ports of the masters that are followed.
type ports struct {
	shutdown func() // what the command SHUTDOWN does

	mu     sync.Mutex
	served servers
}

// openPorts opens the ports before the daemon starts; clients that connect then
// wait. free is how many descriptors there are for clients.
func openPorts(settings *config.Config, log *slog.Logger, shutdown func(), free int) (*ports, error) {
	p := &ports{shutdown: shutdown}
	opened, err := p.open(settings.Masters, log, free)
	p.served = opened
	return p, err
}

// filesOfReplica is how many descriptors a replica takes: its socket, and those
// of the archive.
const filesOfReplica = 5

// open opens the ports of masters that have none yet, or none of them.
func (p *ports) open(masters []config.Followed, log *slog.Logger, free int) (servers, error) {
	opened := servers{}
	for _, f := range masters {
		cfg, wanted := f.Server(log)
		if _, served := p.served[f.Target.Name]; !wanted || served {
			continue
		}
		cfg.Version, cfg.Shutdown = thisBuild().Version, p.shutdown
		clients := free
		if cfg.Relay {
			clients /= filesOfReplica
		}
		if fits := respport.FitMaxClients(cfg.MaxClients, len(masters), clients); fits < cfg.MaxClients {
			log.Warn("maxclients is more than the limit of open files has room for", "maxclients", cfg.MaxClients, "served", fits)
			cfg.MaxClients = fits
		}
		s, err := respport.Listen(cfg)
		if err != nil {
			opened.close()
			return nil, err
		}
		opened[f.Target.Name] = s
	}
	return opened, nil
}

// serve begins to answer clients.
func (p *ports) serve(d *daemon.Daemon) { p.served.serve(d) }

func (s servers) serve(d *daemon.Daemon) {
	for _, h := range d.Handles() {
		if one := s[h.Name()]; one != nil {
			go one.Serve(h)
		}
	}
}

// change serves ports of new masters, and closes those of masters that are not
// followed any more.
func (p *ports) change(d *daemon.Daemon, opened servers) {
	opened.serve(d)
	p.mu.Lock()
	defer p.mu.Unlock()
	now, left := servers{}, maps.Clone(p.served)
	maps.Copy(left, opened)
	for _, h := range d.Handles() {
		if s := left[h.Name()]; s != nil {
			now[h.Name()] = s
			delete(left, h.Name())
		}
	}
	p.served = now
	left.close()
}

func (p *ports) setPassword(password string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.served {
		s.SetRequirePass(password)
	}
}

func (p *ports) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.served.close()
}

func (s servers) close() {
	for _, one := range s {
		one.Close()
	}
}
