package config

import (
	"fmt"
	"strings"
)

// check looks at what several keys, or several masters, say together.
func (l *loader) check() {
	c := l.cfg
	if len(c.ReplicaOf) == 0 && l.doc.listed == 0 && !c.Sentinel.given() {
		l.missing(replicaofKey, "which master to follow?", "127.0.0.1:6379 (or sentinel and master-name)")
		if c.File == "" {
			return // one thing after the other for who just begins
		}
	}
	if c.Dir == "" {
		l.missing("dir", "where to keep the archive?", "data")
	}
	if c.HTTP != "" && !isLoopback(c.HTTP) {
		l.warn("http " + c.HTTP + ": who reaches this address sees the state of all masters, for there is no password: prefer 127.0.0.1, or let a firewall or a proxy keep others away")
	}
	l.names()
	l.tls()
	l.unique()
}

// missing is told of the file, where there is one, and else of the flag.
func (l *loader) missing(key, question, example string) {
	if l.cfg.File != "" {
		l.problems.add(Origin{Layer: File, Name: l.cfg.File}, "", "%s is missing: %s For example: %s: %s", key, question, key, example)
		return
	}
	l.problems.add(Origin{}, "", "--%s is missing: %s For example: --%s %s", key, question, key, example)
}

// names sees to it that no two masters have the same: it is that of the folder.
func (l *loader) names() {
	first := map[string]Followed{}
	for _, f := range l.cfg.Masters {
		name := f.Target.Name
		other, twice := first[name]
		switch {
		case !twice:
			first[name] = f
		case f.line > 0:
			l.problems.add(Origin{File, l.doc.path, f.line}, "", "two masters are named %q, the other one is that of line %d: give each a %s", name, other.line, nameKey)
		default:
			l.problems.add(f.origins[replicaofKey], replicaofKey, "two masters are named %q: name them as NAME=ADDR", name)
		}
	}
}

// tls reads the files once, so that a wrong one is known at once, and finds
// those that nobody uses.
func (l *loader) tls() {
	used := map[Origin]bool{}
	var given []Origin
	for _, f := range l.cfg.Masters {
		for _, k := range f.d.keys {
			o, ok := f.origins[k.Name]
			if !ok || !strings.HasPrefix(k.Name, "tls-") || k.value.String() == "" || !isClientTLS(k.Name) {
				continue
			}
			given = append(given, o)
			used[o] = used[o] || f.Target.TLS || f.asksByTLS() || f.TLSPort != 0
		}
		if f.TLSPort != 0 {
			if _, err := l.cfg.serverTLS(&f).Config(); err != nil {
				l.problems.add(f.origins["tls-port"], "tls-port", "%v", err)
			}
		}
		if !f.Target.TLS && !f.asksByTLS() {
			continue
		}
		if _, err := f.Files.Config(""); err != nil {
			l.problems.add(f.tlsOrigin(), "", "%v", err)
		}
	}
	for _, o := range given {
		if !used[o] {
			l.problems.add(o, "", "tls-... without TLS: add tls (--tls), follow a master by rediss://, or serve a tls-port")
			return
		}
	}
}

// isClientTLS says whether a key is one of those that only matter where the
// master is spoken to by TLS.
func isClientTLS(key string) bool {
	switch key {
	case "tls-ca-cert-file", "tls-cert-file", "tls-key-file", "tls-server-name":
		return true
	}
	return false
}

// tlsOrigin is where the files of a master were named.
func (f *Followed) tlsOrigin() Origin {
	for _, key := range []string{"tls-ca-cert-file", "tls-cert-file", "tls-key-file", "tls"} {
		if o, ok := f.origins[key]; ok {
			return o
		}
	}
	return f.origins[replicaofKey]
}

// unique sees to it that masters share no value of a key that each must have
// for itself; 0 is none.
func (l *loader) unique() {
	taken := map[string]string{} // what has a value
	for _, f := range l.cfg.Masters {
		for _, k := range f.d.keys {
			v := k.value.String()
			o, given := f.origins[k.Name]
			if !k.Unique || !given || v == "0" {
				continue
			}
			if len(l.cfg.Masters) > 1 && !f.own(k.Name) {
				l.problems.add(o, k.Name, "%d masters can't share it: give each its own, in a file, below %s", len(l.cfg.Masters), mastersKey)
				continue
			}
			mine := fmt.Sprintf("%s of the master %s", k.Name, f.Target.Name)
			if other := taken[v]; other != "" {
				l.problems.add(o, k.Name, "%s is also the %s", v, other)
				continue
			}
			taken[v] = mine
		}
	}
}
