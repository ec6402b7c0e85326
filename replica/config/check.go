package config

import (
	"cmp"
	"net"
	"net/netip"
	"strings"
)

// check looks at what several keys, or several masters, say together.
func (l *loader) check() {
	c := l.cfg
	if len(c.ReplicaOf) == 0 && l.doc.listed == 0 && !c.asksSentinel() {
		l.missing(replicaofKey, "which master to follow?", "127.0.0.1:6379 (or sentinel and master-name)")
		if c.File == "" {
			return // one question at a time for a beginner
		}
	}
	if c.Dir == "" {
		l.missing("dir", "where to keep the archive?", "data")
	}
	if c.HTTP != "" && !isLoopback(c.HTTP) {
		l.warn(Problem{Text: "http " + c.HTTP + ": everybody who reaches this address sees the state of all masters, for there is no password: prefer 127.0.0.1, or let a firewall or a proxy keep others away"})
	}
	l.checkUnique()
	l.checkTLS()
}

// missing names the key of the file, where there is a file, and else the flag.
func (l *loader) missing(key, question, example string) {
	if l.cfg.File != "" {
		l.problems.add(Origin{Layer: File, Name: l.cfg.File}, "", "%s is missing: %s For example: %s: %s", key, question, key, example)
		return
	}
	l.problems.add(Origin{}, "", "--%s is missing: %s For example: --%s %s", key, question, key, example)
}

// isLoopback says whether only this host can connect to an address to listen
// on.
func isLoopback(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// checkUnique finds masters that share a name, which is the name of the folder,
// or another value that each must have for itself. The value 0 means none.
func (l *loader) checkUnique() {
	taken := map[string]string{} // which master has a value
	take := func(f Followed, o Origin, key, v string) {
		if other, ok := taken[key+v]; ok {
			l.problems.add(o, "", "two masters have the %s %q, this one and %s: give each its own", key, v, other)
		}
		taken[key+v] = f.Target.String()
	}
	for _, f := range l.cfg.Masters {
		at := f.origins[replicaofKey]
		if f.line > 0 {
			at.Line = f.line
		}
		take(f, at, nameKey, f.Target.Name)
		for _, k := range f.keys {
			o, given := f.origins[k.Name]
			_, own := f.own[k.Name]
			switch v := k.value.String(); {
			case !k.Unique || !given || v == "0":
			case !own && len(l.cfg.Masters) > 1:
				l.problems.add(o, k.Name, "%d masters can't share one: give each its own, in a file, below %s", len(l.cfg.Masters), mastersKey)
			default:
				take(f, o, "port", v)
			}
		}
	}
}

// checkTLS reads the files of TLS once, so that a wrong file is reported at the
// start, and finds files that are not used.
func (l *loader) checkTLS() {
	used := map[Origin]bool{}
	var all []Origin
	for _, f := range l.cfg.Masters {
		speaks, serves := f.Target.TLS || f.asks != nil && f.SentinelTLS, f.RESP.TLSPort != 0
		var at Origin
		for _, k := range f.keys {
			if o, given := f.origins[k.Name]; given && k.Group == connectGroup && strings.HasPrefix(k.Name, "tls-") && k.value.String() != "" {
				all, at = append(all, o), cmp.Or(at, o)
				used[o] = used[o] || speaks || serves
			}
		}
		if _, err := f.Link.TLS.Config(""); err != nil && speaks {
			l.problems.add(cmp.Or(at, f.origins["tls"], f.origins[replicaofKey]), "", "%v", err)
		}
		if _, err := f.RESP.TLS.Config(); err != nil && serves {
			l.problems.add(f.origins["tls-port"], "tls-port", "%v", err)
		}
	}
	for _, o := range all {
		if !used[o] {
			l.problems.add(o, "", "tls-... without TLS: add tls (--tls), follow a master by rediss://, or serve a tls-port")
			return
		}
	}
}
