package config

import (
	"fmt"
	"log/slog"
	"slices"
	"time"

	"replicad/replica"
	"replicad/replica/daemon"
	"replicad/replica/daemon/sentinel"
	"replicad/replica/relay"
	"replicad/replica/respport"
)

// Daemon is what the daemon is made with, except for the observer of its links.
func (c *Config) Daemon(log *slog.Logger) daemon.Config {
	cfg := daemon.Config{
		Dir: c.Dir, Link: c.Link, Archive: c.Archive, Rebase: c.Rebase, Retention: c.Retention, Remote: c.Remote,
		Sentinel: map[string]sentinel.Config{}, Log: log,
	}
	if c.RESP.Relay {
		relaying := c.Relay
		relaying.Disk = relay.NewDisk()
		cfg.Relay = &relaying
	}
	links := map[string]replica.Config{}
	for _, f := range c.Masters {
		name := f.Target.Name
		cfg.Masters = append(cfg.Masters, f.Target)
		own := f.Link
		own.AnnouncePort = f.announced()
		links[name] = own
		if f.asks != nil {
			s := f.Sentinel
			s.Log = log.With("master", name)
			cfg.Sentinel[name] = s
		}
	}
	cfg.PerMaster = func(link *replica.Config) {
		own := links[link.Master.Name]
		link.Source, link.TLS = own.Source, own.TLS
		link.AnnounceIP, link.AnnouncePort = own.AnnounceIP, own.AnnouncePort
	}
	return cfg
}

// announced is the port that the master is told: replica-announce-port, else
// the port that is served, and tls-port to a master that speaks TLS
// (syncWithMaster in replication.c).
func (f Followed) announced() int {
	if _, given := f.origins["replica-announce-port"]; given {
		return f.Link.AnnouncePort
	}
	if f.Target.TLS && f.RESP.TLSPort != 0 || f.RESP.Port == 0 {
		return f.RESP.TLSPort
	}
	return f.RESP.Port
}

// Server is what the RESP port of a master is made with, except for Version and
// Shutdown; false where the master has no port.
func (f Followed) Server(log *slog.Logger) (cfg respport.Config, ok bool) {
	cfg = f.RESP
	cfg.Directives = f.directives()
	cfg.Log = log.With("master", f.Target.Name)
	return cfg, cfg.Port != 0 || cfg.TLSPort != 0
}

// Listeners is how many sockets listen for clients, at most.
func (c *Config) Listeners() (n int) {
	for _, f := range c.Masters {
		for _, port := range []int{f.RESP.Port, f.RESP.TLSPort} {
			if port != 0 {
				n += len(f.RESP.Bind)
			}
		}
	}
	if c.HTTP != "" {
		n++
	}
	return n
}

// directives are the settings of a master as CONFIG GET gives them, without
// secrets.
func (f Followed) directives() map[string]string {
	all := map[string]string{}
	for _, k := range f.keys {
		if !k.Secret && k.Name != replicaofKey {
			all[k.Name] = directive(k)
		}
	}
	return all
}

// directive is the value of a key as redis.conf's CONFIG GET writes it: sizes in
// bytes, redis.conf's times in seconds, switches as yes and no.
func directive(k *Key) string {
	switch v := k.value.get().(type) {
	case bool:
		if v {
			return "yes"
		}
		return "no"
	case int, int64:
		return fmt.Sprint(v)
	case time.Duration:
		if slices.Contains([]string{"repl-timeout", "timeout", "tcp-keepalive"}, k.Name) {
			return fmt.Sprint(int(v.Seconds()))
		}
	}
	return k.value.String()
}

// Reload reads the sources again, as SIGHUP asks for. Of now, take LogLevel,
// RESP.RequirePass, and Masters: new ones are to be followed, and of one that was
// followed before Target is as it is to be. (What Sentinels are told has changed
// already.) restart names the keys that differ and can't change while the daemon
// runs; of such a master the former settings stand in now. After an error nothing
// is to change. c stays what it was until [Config.Follows].
func (c *Config) Reload() (now *Config, restart []string, err error) {
	if now, err = Load(c.src); err != nil {
		return nil, nil, err
	}
	restart = differences(c.reading, now.reading, false)
	before := map[string]Followed{}
	for _, f := range c.Masters {
		before[f.Target.Name] = f
	}
	for i, f := range now.Masters {
		was, known := before[f.Target.Name]
		if !known {
			continue
		}
		target := f.Target
		if (was.asks == nil) != (f.asks == nil) { // other goroutines, for which the archive had to be closed
			restart = append(restart, replicaofKey+" of "+target.Name)
			target = was.Target
		} else {
			restart = append(restart, differences(was.reading, f.reading, true)...)
		}
		if was.asks != nil && f.asks != nil {
			was.asks.Store(f.asks.Load())
		}
		now.Masters[i] = was
		now.Masters[i].Target = target
	}
	slices.Sort(restart)
	return now, slices.Compact(restart), nil
}

// Follows says that the masters of a later reading are followed: the next Reload
// compares with those.
func (c *Config) Follows(now *Config) { c.Masters = now.Masters }

// Credentials reads user and password of a master again. Any goroutine may call
// it.
func (c *Config) Credentials(master string) (user, password string, err error) {
	now, err := Load(c.src)
	if err != nil {
		return "", "", err
	}
	for _, f := range now.Masters {
		if f.Target.Name == master {
			return f.Target.User, f.Target.Password, nil
		}
	}
	return "", "", fmt.Errorf("no master is named %s", master)
}

// differences are the keys whose values differ: the keys of masters, or the
// others. What is followed is compared by Reload.
func differences(was, now reading, ofMasters bool) []string {
	var all []string
	for i, k := range now.keys {
		if k.Master == ofMasters && !k.Reload && k.Name != replicaofKey && k.value.String() != was.keys[i].value.String() {
			all = append(all, k.Name)
		}
	}
	return all
}
