package config

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"replicad/replica/remote"
)

// Layer is one of the places that a value may come from; a later one is
// stronger.
type Layer int

// The layers.
const (
	Default Layer = iota
	File
	Environment
	Flag
)

// Origin is where a value comes from.
type Origin struct {
	Layer Layer
	Name  string // the file's path, the variable, or the flag with its dashes; "" for an argument
	Line  int    // in the file, from 1; 0 for the whole file
}

// String writes the place as people do: replicad.yml:12, REPLICAD_DIR, --dir,
// default.
func (o Origin) String() string {
	switch {
	case o.Layer == Default:
		return "default"
	case o.Line > 0:
		return fmt.Sprintf("%s:%d", o.Name, o.Line)
	}
	return o.Name
}

// Problem is one thing that is wrong. Its text never holds a secret.
type Problem struct {
	Origin Origin
	Text   string
}

// String is one line: replicad.yml:12: appendfsync: ..., or --appendfsync: ...
func (p Problem) String() string {
	if p.Origin.Name == "" {
		return p.Text
	}
	return p.Origin.String() + ": " + p.Text
}

// Problems is the error of [Load]: all that is wrong.
type Problems []Problem

// Error has one line for each problem.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, one := range p {
		lines[i] = one.String()
	}
	return strings.Join(lines, "\n")
}

// add appends a problem, unless it is there already: what stands outside of
// masters is read once for each master. key is "" where the problem is about no
// key; the names of flags and variables say the key anyway.
func (p *Problems) add(o Origin, key, format string, args ...any) {
	one := Problem{o, fmt.Sprintf(format, args...)}
	if o.Layer == File && key != "" {
		one.Text = key + ": " + one.Text
	}
	if !slices.Contains(*p, one) {
		*p = append(*p, one)
	}
}

// err returns the problems, those of the file in the order of its lines; nil
// where there are none.
func (p Problems) err() error {
	if len(p) == 0 {
		return nil
	}
	slices.SortStableFunc(p, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Origin.Layer, b.Origin.Layer), cmp.Compare(a.Origin.Line, b.Origin.Line))
	})
	return p
}

// check looks at what several keys, or several masters, say together.
func (l *loader) check() {
	c := l.cfg
	if len(c.ReplicaOf) == 0 && l.listed == 0 && !c.asksSentinel() {
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
	l.checkRemote()
}

// missing names the key of the file, where there is a file, and else the flag.
func (l *loader) missing(key, question, example string) {
	if l.cfg.File != "" {
		l.wrong(0, "", "%s is missing: %s For example: %[1]s: %[3]s", key, question, example)
		return
	}
	l.problems.add(Origin{}, "", "--%s is missing: %s For example: --%[1]s %[3]s", key, question, example)
}

// isLoopback says whether only this host can connect to an address to listen
// on.
func isLoopback(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// checkUnique finds masters that share a name, which is the name of the folder,
// or a port. The port 0 means none.
func (l *loader) checkUnique() {
	taken := map[string]string{} // which master has a value
	take := func(f Followed, o Origin, what, v string) {
		if other, ok := taken[what+v]; ok {
			l.problems.add(o, "", "two masters have the %s %q, this one and %s: give each its own", what, v, other)
		}
		taken[what+v] = f.Target.String()
	}
	for _, f := range l.cfg.Masters {
		at := f.origins[replicaofKey]
		if f.line > 0 {
			at.Line = f.line
		}
		take(f, at, nameKey, f.Target.Name)
		for _, k := range f.keys {
			o, given := f.origins[k.Name]
			if v := k.value.String(); k.Group == portGroup && given && v != "0" {
				take(f, o, "port", v)
			}
		}
	}
}

// checkRemote reads the addresses of the remote.
func (l *loader) checkRemote() {
	c := l.cfg.Remote
	if _, _, err := remote.ParseURL(c.URL); err != nil && c.URL != "" {
		l.problems.add(l.cfg.origins["remote"], "remote", "%v", err)
	}
	if _, err := remote.ParseEndpoint(c.Endpoint); err != nil {
		l.problems.add(l.cfg.origins["remote-endpoint"], "remote-endpoint", "%v", err)
	}
}

// checkTLS reads the files of TLS once, so that a wrong file is reported at the
// start, and finds files that no master uses.
func (l *loader) checkTLS() {
	var all []Origin
	used := map[Origin]bool{}
	for _, f := range l.cfg.Masters {
		speaks, serves := f.Target.TLS || f.asks != nil && f.SentinelTLS, f.RESP.TLSPort != 0
		var first Origin
		for _, k := range f.keys {
			if o, given := f.origins[k.Name]; given && k.Group == tlsGroup && strings.HasPrefix(k.Name, "tls-") && k.value.String() != "" {
				all, first = append(all, o), cmp.Or(first, o)
				used[o] = used[o] || speaks || serves
			}
		}
		if _, err := f.Link.TLS.Config(""); err != nil && speaks {
			l.problems.add(cmp.Or(first, f.origins["tls"], f.origins[replicaofKey]), "", "%v", err)
		}
		if _, err := f.RESP.TLS.Config(); err != nil && serves {
			l.problems.add(f.origins["tls-port"], "tls-port", "%v", err)
		}
	}
	unused := func(o Origin) bool { return !used[o] }
	if i := slices.IndexFunc(all, unused); i >= 0 {
		l.problems.add(all[i], "", "tls-... without TLS: add tls (--tls), follow a master by rediss://, or serve a tls-port")
	}
}
