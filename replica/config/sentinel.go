package config

import (
	"crypto/tls"
	"strings"
	"sync"

	"replicad/replica"
	"replicad/replica/daemon/sentinel"
)

// Keys that say that Sentinels know where a master is.
const (
	sentinelKey   = "sentinel"
	masterNameKey = "master-name"
)

// given says whether there is a Sentinel to ask.
func (s *Sentinel) given() bool { return len(s.Addresses) > 0 || s.MasterName != "" }

// watched makes a master of which only the name is known; false where what is
// known of the Sentinels does not do.
func (l *loader) watched(f *Followed) bool {
	s, o := &f.Sentinel, f.origins
	before := len(l.problems)
	switch {
	case len(s.Addresses) == 0:
		l.problems.add(o[masterNameKey], masterNameKey, "without %s: which Sentinels know it? For example: %s 10.0.0.1:26379,10.0.0.2:26379", sentinelKey, sentinelKey)
	case s.MasterName == "":
		l.problems.add(o[sentinelKey], sentinelKey, "without %s: what do the Sentinels call the master? For example: %s mymaster", masterNameKey, masterNameKey)
	}
	if len(l.problems) > before {
		return false
	}
	var err error
	if f.name == "" {
		f.name = s.MasterName
	}
	if f.Target, err = replica.ParseName(f.name); err != nil {
		l.problems.add(o[masterNameKey], masterNameKey, "%v", err)
	}
	if s.Addresses, err = sentinel.ParseAddresses(strings.Join(s.Addresses, ",")); err != nil {
		l.problems.add(o[sentinelKey], sentinelKey, "%v", err)
	}
	if s.User != "" && s.Password.Text == "" {
		l.problems.add(o["sentinel-user"], "sentinel-user", "%s has no password: set sentinel-pass-file or %s", s.User, variable("sentinel-pass"))
	}
	f.asks = new(credentials)
	f.asks.set(s.User, s.Password.Text)
	return len(l.problems) == before
}

// credentials are a user and a password that may change while they are used.
type credentials struct {
	mu             sync.Mutex
	user, password string
}

func (c *credentials) get() (user, password string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.user, c.password
}

func (c *credentials) set(user, password string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.user, c.password = user, password
}

// sentinel says whom to ask for the master.
func (f *Followed) sentinel() sentinel.Config {
	c := sentinel.Config{Addresses: f.Sentinel.Addresses, MasterName: f.Sentinel.MasterName, Credentials: f.asks.get}
	if f.Sentinel.TLS {
		files := f.Files
		c.TLS = func(host string) (*tls.Config, error) { return files.Config(host) }
	}
	return c
}

// asksByTLS says whether the Sentinels are asked by TLS.
func (f *Followed) asksByTLS() bool { return f.address == "" && f.Sentinel.TLS }
