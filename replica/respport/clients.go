package respport

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"replicad/replica/resp"
)

func clientSetName(q *request) {
	name := string(q.args[2])
	if !validName(name) {
		q.error(badName)
		return
	}
	q.c.change(func(v *seen) { v.name = name })
	q.ok()
}

func clientGetName(q *request) {
	if name := q.c.snapshot().name; name != "" {
		q.bulk(name)
		return
	}
	q.null()
}

func clientID(q *request) { q.int(q.c.id) }

// clientSetInfo is CLIENT SETINFO, which Redis has since 7.2 and which its
// clients send to any server.
func clientSetInfo(q *request) {
	what, value := lower(q.args[2]), string(q.args[3])
	switch {
	case what != "lib-name" && what != "lib-ver":
		q.error("ERR Unrecognized option '" + printableName(q.args[2]) + "'")
		return
	case !validName(value):
		q.error("ERR " + what + " cannot contain spaces, newlines or special characters.")
		return
	}
	q.c.change(func(v *seen) {
		if what == "lib-name" {
			v.libName = value
		} else {
			v.libVer = value
		}
	})
	q.ok()
}

func clientInfo(q *request) { q.text(q.c.line(time.Now()) + "\n") }

// line describes a client (catClientInfoString in Redis' networking.c), with what
// 7.2 added at the end.
func (c *client) line(now time.Time) string {
	v := c.snapshot()
	flags := ""
	if v.subscribed() {
		flags += "P"
	}
	if v.queued >= 0 {
		flags += "x"
	}
	if flags == "" {
		flags = "N"
	}
	return fmt.Sprintf("id=%d addr=%s laddr=%s fd=%d name=%s age=%d idle=%d flags=%s db=%d sub=%d psub=%d ssub=0 multi=%d "+
		"qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=%d tot-mem=%d events=r cmd=%s user=default redir=-1 resp=%d lib-name=%s lib-ver=%s",
		c.id, c.addr(), c.conn.LocalAddr(), c.fd, v.name, int(now.Sub(c.made).Seconds()), max(0, int(now.Sub(v.lastAt).Seconds())), flags,
		v.db, v.nsubs[channel], v.nsubs[pattern], v.queued, c.out.waiting(), c.memory.holds()+2*keepSize, v.last, v.protocol, v.libName, v.libVer)
}

// filter tells whether CLIENT LIST or CLIENT KILL means a client.
type filter func(*client, *seen) bool

// newFilter reads a filter of CLIENT KILL, and TYPE of CLIENT LIST. refusal is
// the error reply if there is no such filter.
func newFilter(word, value []byte) (f filter, refusal string) {
	switch lower(word) {
	case "id":
		id, ok := resp.ParseInteger(value)
		if !ok || id < 1 {
			return nil, "ERR client-id should be greater than 0"
		}
		return func(c *client, _ *seen) bool { return c.id == id }, ""
	case "type":
		kind := lower(value)
		if !slices.Contains([]string{"normal", "pubsub", "master", "replica", "slave"}, kind) {
			return nil, "ERR Unknown client type '" + printableName(value) + "'"
		}
		return func(_ *client, v *seen) bool {
			return kind == "pubsub" && v.subscribed() || kind == "normal" && !v.subscribed()
		}, ""
	case "addr":
		return func(c *client, _ *seen) bool { return c.addr() == string(value) }, ""
	case "user":
		if string(value) != "default" {
			return nil, "ERR No such user '" + printableName(value) + "'"
		}
		return func(*client, *seen) bool { return true }, ""
	}
	return nil, "ERR syntax error"
}

// matching are the clients that all filters mean.
func (s *Server) matching(filters ...filter) []*client {
	return slices.DeleteFunc(s.connected(), func(c *client) bool {
		v := c.snapshot()
		return slices.ContainsFunc(filters, func(f filter) bool { return !f(c, &v) })
	})
}

// clientList is CLIENT LIST [TYPE type | ID id ...].
func clientList(q *request) {
	var filters []filter
	switch {
	case len(q.args) == 2:
	case len(q.args) == 4 && lower(q.args[2]) == "type":
		f, refusal := newFilter(q.args[2], q.args[3])
		if refusal != "" {
			q.error(refusal)
			return
		}
		filters = append(filters, f)
	case len(q.args) > 3 && lower(q.args[2]) == "id":
		ids := map[int64]bool{}
		for _, a := range q.args[3:] {
			id, ok := resp.ParseInteger(a)
			if !ok {
				q.error("ERR Invalid client ID")
				return
			}
			ids[id] = true
		}
		filters = append(filters, func(c *client, _ *seen) bool { return ids[c.id] })
	default:
		q.syntax()
		return
	}
	var b strings.Builder
	now := time.Now()
	for _, c := range q.s.matching(filters...) {
		b.WriteString(c.line(now))
		b.WriteByte('\n')
	}
	q.text(b.String())
}

// clientKill is CLIENT KILL addr:port, and CLIENT KILL with filters, all of which
// must hold.
func clientKill(q *request) {
	if len(q.args) == 3 {
		all := q.s.matching(func(c *client, _ *seen) bool { return c.addr() == string(q.args[2]) })
		if len(all) == 0 {
			q.error("ERR No such client")
			return
		}
		q.kill(all[0])
		q.ok()
		return
	}
	if len(q.args)%2 != 0 {
		q.syntax()
		return
	}
	var filters []filter
	skipMe := true
	for i := 2; i < len(q.args); i += 2 {
		word, value := q.args[i], q.args[i+1]
		if v := lower(value); lower(word) == "skipme" && (v == "yes" || v == "no") {
			skipMe = v == "yes"
			continue
		}
		f, refusal := newFilter(word, value)
		if refusal != "" {
			q.error(refusal)
			return
		}
		filters = append(filters, f)
	}
	n := int64(0)
	for _, c := range q.s.matching(filters...) {
		if c == q.c && skipMe {
			continue
		}
		q.kill(c)
		n++
	}
	q.int(n)
}

// kill cuts a client. A client that kills itself gets its answer first.
func (q *request) kill(c *client) {
	if c == q.c {
		c.closing = true
		return
	}
	c.cut()
}
