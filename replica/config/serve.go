package config

import (
	"log/slog"
	"strconv"
	"strings"
	"time"

	"replicad/replica/respport"
	"replicad/replica/units"
)

// ports are those that a master's clients are served on: with several masters
// only what was given.
func (c *Config) ports(f *Followed) (port, tlsPort int) {
	port, tlsPort = f.Port, f.TLSPort
	if _, given := f.origins["port"]; !given && len(c.Masters) > 1 {
		port = 0
	}
	return port, tlsPort
}

// announced is the port that the master is told: what replica-announce-port
// says, else the port that is served, and tls-port to a master that is spoken to
// by TLS (syncWithMaster in replication.c).
func (c *Config) announced(f *Followed) int {
	if _, given := f.origins["replica-announce-port"]; given {
		return f.AnnouncePort
	}
	port, tlsPort := c.ports(f)
	if f.Target.TLS && tlsPort != 0 || port == 0 {
		return tlsPort
	}
	return port
}

func (c *Config) serverTLS(f *Followed) respport.TLSFiles {
	return respport.TLSFiles{Cert: f.Files.Cert, Key: f.Files.Key, CACert: f.Files.CACert, AuthClients: c.TLSAuthClients}
}

// Server is what the RESP port of a master is made with, but for Version and
// Shutdown; false where it has none.
func (c *Config) Server(f *Followed, log *slog.Logger) (cfg respport.Config, ok bool) {
	port, tlsPort := c.ports(f)
	cfg = respport.Config{
		Bind: strings.Fields(c.Bind), Port: port, TLSPort: tlsPort,
		TLS:         c.serverTLS(f),
		RequirePass: c.RequirePass.Text, ProtectedMode: c.ProtectedMode,
		MaxClients: c.MaxClients, Timeout: c.Timeout, QueryBufferLimit: int(c.QueryBufferLimit), TCPKeepAlive: c.TCPKeepAlive,
		MaxMemoryClients: c.MaxMemoryClients,
		Directives:       func() map[string]string { return c.directives(f) },
		Log:              log.With("master", f.Target.Name),
	}
	return cfg, port != 0 || tlsPort != 0
}

// directives are the settings of a master as CONFIG GET gives them, without
// secrets: sizes in bytes, redis.conf's times in seconds, switches as yes and no.
func (c *Config) directives(f *Followed) map[string]string {
	all := map[string]string{}
	for _, d := range []*declarations{c.d, f.d} {
		for _, k := range d.keys {
			if k.Secret || k.Name == replicaofKey || k.Master && d == c.d {
				continue
			}
			all[k.Name] = directive(k)
		}
	}
	return all
}

func directive(k *Key) string {
	s := k.value.String()
	switch k.value.Type() {
	case "bool":
		if s == "true" {
			return "yes"
		}
		return "no"
	case "size":
		if n, err := units.ParseSize(s); err == nil {
			return strconv.FormatInt(n, 10)
		}
	case "duration":
		switch k.Name {
		case "repl-timeout", "timeout", "tcp-keepalive":
			if d, err := units.ParseAge(s); err == nil {
				return strconv.FormatInt(int64(d/time.Second), 10)
			}
		}
	}
	return s
}
