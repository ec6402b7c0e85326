package main

import (
	"log/slog"

	"replicad/replica/config"
	"replicad/replica/daemon"
	"replicad/replica/respport"
)

// ports are the RESP ports, by the master's name.
type ports map[string]*respport.Server

// openPorts opens the ports before the daemon starts; clients that connect then
// wait. shutdown is what the command SHUTDOWN does.
func openPorts(settings *config.Config, log *slog.Logger, shutdown func()) (p ports, err error) {
	p = ports{}
	for _, f := range settings.Masters {
		cfg, wanted := f.Server(log)
		if !wanted {
			continue
		}
		cfg.Version, cfg.Shutdown = thisBuild().Version, shutdown
		if fits := respport.FitMaxClients(cfg.MaxClients, len(settings.Masters)); fits < cfg.MaxClients {
			log.Warn("maxclients is more than the limit of open files has room for", "maxclients", cfg.MaxClients, "served", fits)
			cfg.MaxClients = fits
		}
		s, err := respport.Listen(cfg)
		if err != nil {
			p.close()
			return nil, err
		}
		p[f.Target.Name] = s
	}
	return p, nil
}

// serve begins to answer clients.
func (p ports) serve(d *daemon.Daemon) {
	for _, h := range d.Handles() {
		if s := p[h.Name()]; s != nil {
			go s.Serve(h)
		}
	}
}

func (p ports) setPassword(password string) {
	for _, s := range p {
		s.SetRequirePass(password)
	}
}

func (p ports) close() {
	for _, s := range p {
		s.Close()
	}
}
