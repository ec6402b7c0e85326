package server

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

const badName = "ERR Client names cannot contain spaces, newlines or special characters."

// plainName says whether a name can stand in CLIENT LIST (validateClientName).
func plainName(s string) bool {
	for i := range len(s) {
		if s[i] < '!' || s[i] > '~' {
			return false
		}
	}
	return len(s) <= 512
}

func clientCommand(c *client, args [][]byte) {
	r := &c.reply
	switch sub, n := lower(args[1]), len(args); {
	case sub == "id" && n == 2:
		r.int(c.id)
	case sub == "getname" && n == 2:
		if c.name == "" {
			r.null()
			return
		}
		r.bulk(c.name)
	case sub == "setname" && n == 3:
		if !plainName(string(args[2])) {
			r.err(badName)
			return
		}
		c.mu.Lock()
		c.name = string(args[2])
		c.mu.Unlock()
		r.ok()
	case sub == "setinfo" && n == 4:
		c.setInfo(lower(args[2]), string(args[3]))
	case sub == "info" && n == 2:
		r.text(c.describe(time.Now()) + "\n")
	case sub == "list":
		c.list(args[2:])
	case sub == "kill" && n >= 3:
		c.killOthers(args[2:])
	case (sub == "no-evict" || sub == "no-touch") && n == 3:
		r.ok()
	case sub == "reply" && n == 3 && lower(args[2]) == "on":
		r.ok()
	case sub == "reply" && n == 3:
		r.err("ERR CLIENT REPLY OFF and SKIP are not offered")
	default:
		c.otherSubcommand(args)
	}
}

func (c *client) setInfo(what, value string) {
	r := &c.reply
	if !plainName(value) {
		r.err("ERR " + what + " cannot contain spaces, newlines or special characters.")
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch what {
	case "lib-name":
		c.lib = value
	case "lib-ver":
		c.libVer = value
	default:
		r.err("ERR Unrecognized option '" + what + "'")
		return
	}
	r.ok()
}

// sorted gives the clients in the order in which they came.
func (s *Server) sorted() []*client {
	all := s.all()
	slices.SortFunc(all, func(a, b *client) int { return int(a.id - b.id) })
	return all
}

func (c *client) list(args [][]byte) {
	r, all := &c.reply, c.s.sorted()
	switch {
	case len(args) == 2 && lower(args[0]) == "type":
		kind := lower(args[1])
		if !isKind(kind) {
			r.err("ERR Unknown client type '" + string(args[1]) + "'")
			return
		}
		all = slices.DeleteFunc(all, func(o *client) bool { return o.kind() != kind })
	case len(args) >= 2 && lower(args[0]) == "id":
		wanted := map[int64]bool{}
		for _, a := range args[1:] {
			id, ok := parseID(a)
			if !ok {
				r.err("ERR Invalid client ID")
				return
			}
			wanted[id] = true
		}
		all = slices.DeleteFunc(all, func(o *client) bool { return !wanted[o.id] })
	case len(args) != 0:
		r.err("ERR syntax error")
		return
	}
	var b strings.Builder
	now := time.Now()
	for _, o := range all {
		b.WriteString(o.describe(now))
		b.WriteByte('\n')
	}
	r.text(b.String())
}

func isKind(s string) bool {
	return slices.Contains([]string{"normal", "master", "replica", "slave", "pubsub"}, s)
}

// filter is what CLIENT KILL is told.
type filter struct {
	id                int64
	addr, laddr, kind string
	user              string
	skipMe            bool
}

func (f filter) fits(o *client) bool {
	return (f.id == 0 || o.id == f.id) && (f.addr == "" || o.addr == f.addr) && (f.laddr == "" || o.laddr == f.laddr) &&
		(f.kind == "" || o.kind() == f.kind) && (f.user == "" || f.user == "default")
}

// killOthers is CLIENT KILL. As in Redis a client that kills itself still gets
// the answer.
func (c *client) killOthers(args [][]byte) {
	r := &c.reply
	f := filter{skipMe: true}
	old := len(args) == 1
	if old {
		f.addr, f.skipMe = string(args[0]), false
	} else if problem := f.read(args); problem != "" {
		r.err(problem)
		return
	}
	n := int64(0)
	for _, o := range c.s.sorted() {
		if !f.fits(o) || o == c && f.skipMe {
			continue
		}
		n++
		if o == c {
			c.quit = true
			continue
		}
		o.kill()
	}
	switch {
	case !old:
		r.int(n)
	case n == 0:
		r.err("ERR No such client")
	default:
		r.ok()
	}
}

func (f *filter) read(args [][]byte) (problem string) {
	if len(args)%2 != 0 {
		return "ERR syntax error"
	}
	for i := 0; i < len(args); i += 2 {
		value, ok := string(args[i+1]), true
		switch lower(args[i]) {
		case "id":
			if f.id, ok = parseID(args[i+1]); !ok {
				return "ERR client-id should be greater than 0"
			}
		case "addr":
			f.addr = value
		case "laddr":
			f.laddr = value
		case "user":
			if value != "default" {
				return fmt.Sprintf("ERR No such user '%s'", value)
			}
			f.user = value
		case "type":
			if f.kind = strings.ToLower(value); !isKind(f.kind) {
				return "ERR Unknown client type '" + value + "'"
			}
		case "skipme":
			switch strings.ToLower(value) {
			case "yes":
				f.skipMe = true
			case "no":
				f.skipMe = false
			default:
				return "ERR syntax error"
			}
		default:
			return "ERR syntax error"
		}
	}
	return ""
}

// configCommand tells settings, and changes none.
func configCommand(c *client, args [][]byte) {
	r := &c.reply
	switch sub, n := lower(args[1]), len(args); {
	case sub == "get" && n >= 3:
		all := c.s.directives()
		var found []string
		for _, name := range sortedNames(all) {
			if slices.ContainsFunc(args[2:], func(p []byte) bool { return matches(lower(p), name) }) {
				found = append(found, name, all[name])
			}
		}
		r.pairs(found...)
	case sub == "rewrite" && n == 2:
		r.ok() // the last REPLICAOF is on disk already, and nothing else can be changed here
	case sub == "resetstat" && n == 2:
		c.s.resetStat()
		r.ok()
	case sub == "set" && n >= 4:
		r.err("ERR CONFIG SET is not offered: change the configuration file and send SIGHUP, or restart replicad")
	default:
		c.otherSubcommand(args)
	}
}

// directives are what CONFIG GET knows: the settings, and what tools ask of
// every Redis.
func (s *Server) directives() map[string]string {
	all := map[string]string{
		"databases": strconv.Itoa(databases), "save": "", "appendonly": "yes", "maxmemory": "0",
		"replica-priority": "0", "slave-priority": "0", "replica-announced": "no", "replica-read-only": "yes", "slave-read-only": "yes",
		"replica-serve-stale-data": "yes",
	}
	if f := s.cfg.Directives; f != nil {
		maps.Copy(all, f())
	}
	all["replicaof"] = ""
	if host, port := s.backend.Status().HostPort(); host != "" {
		all["replicaof"] = host + " " + strconv.Itoa(port)
	}
	all["slaveof"] = all["replicaof"]
	return all
}

func (s *Server) resetStat() {
	s.connections.Store(0)
	s.rejected.Store(0)
	s.processed.Store(0)
	s.errors.Store(0)
	s.bytesIn.Store(0)
	s.bytesOut.Store(0)
	s.cutOutput.Store(0)
	s.protocolFault.Store(0)
	s.authFailures.Store(0)
}

func commandCommand(c *client, args [][]byte) {
	r := &c.reply
	if len(args) == 1 {
		c.commandInfo(c.s.names())
		return
	}
	switch sub, n := lower(args[1]), len(args); {
	case sub == "count" && n == 2:
		r.int(int64(len(c.s.names())))
	case sub == "list":
		names := c.s.names()
		r.array(len(names))
		for _, name := range names {
			r.bulk(name)
		}
	case sub == "info":
		names := c.s.names()
		if n > 2 {
			names = nil
			for _, a := range args[2:] {
				names = append(names, lower(a))
			}
		}
		c.commandInfo(names)
	case sub == "docs":
		c.commandDocs(args[2:])
	default:
		c.otherSubcommand(args)
	}
}

// names are the commands that replicad serves.
func (s *Server) names() []string { return sortedNames(s.commands) }

// commandInfo tells name, arity, flags, keys, and of what came with Redis 6 and 7
// (ACL categories, tips, key specifications, subcommands) nothing.
func (c *client) commandInfo(names []string) {
	r := &c.reply
	r.array(len(names))
	for _, name := range names {
		cmd := c.s.commands[name]
		k, ok := c.s.known[name]
		if cmd == nil && !ok {
			r.null()
			continue
		}
		if cmd != nil && !ok {
			k = known{arity: cmd.arity}
		}
		r.array(10)
		r.bulk(name)
		r.int(int64(k.arity))
		r.set(len(k.flags))
		for _, f := range k.flags {
			r.simple(f)
		}
		r.int(int64(k.first))
		r.int(int64(k.last))
		r.int(int64(k.step))
		r.set(0)
		r.array(0)
		r.array(0)
		r.array(0)
	}
}

func (c *client) commandDocs(args [][]byte) {
	r := &c.reply
	names := c.s.names()
	if len(args) > 0 {
		names = nil
		for _, a := range args {
			if c.s.commands[lower(a)] != nil {
				names = append(names, lower(a))
			}
		}
	}
	r.table(len(names))
	for _, name := range names {
		cmd := c.s.commands[name]
		r.bulk(name)
		r.pairs("summary", cmd.summary, "since", "1.0.0", "group", cmd.group)
	}
}
