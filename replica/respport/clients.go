package respport

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"replicad/replica/resp"
)

func clientGetName(q *request) {
	if name := q.c.snapshot().name; name != "" {
		q.bulk(name)
		return
	}
	q.null()
}

func clientID(q *request) { q.int(q.c.id) }

func clientSetName(q *request) {
	name := string(q.args[2])
	q.note(name, badName, func(v *seen) { v.name = name })
}

// clientSetInfo is CLIENT SETINFO, which Redis has since 7.2 and which its
// clients send to any server.
func clientSetInfo(q *request) {
	what, value := lower(q.args[2]), string(q.args[3])
	bad := "ERR " + what + " cannot contain spaces, newlines or special characters."
	switch what {
	case "lib-name":
		q.note(value, bad, func(v *seen) { v.libName = value })
	case "lib-ver":
		q.note(value, bad, func(v *seen) { v.libVer = value })
	default:
		q.error("ERR Unrecognized option '" + printableName(q.args[2]) + "'")
	}
}

// note keeps what a client says of itself for CLIENT LIST; bad is the error reply
// to a value that can't be shown there.
func (q *request) note(value, bad string, keep func(*seen)) {
	if !validName(value) {
		q.error(bad)
		return
	}
	q.c.change(keep)
	q.ok()
}

func clientInfo(q *request) { q.text(q.c.line(time.Now()) + "\n") }

// line describes a client (catClientInfoString in Redis' networking.c), with what
// 7.2 added at the end.
func (c *client) line(now time.Time) string {
	v := c.snapshot()
	flags := "N"
	if v.subscribed() {
		flags = "P"
	}
	behind := ""
	if v.replica != nil {
		flags = "S"
		behind = fmt.Sprintf(" behind=%d", v.replica.Now().Behind(v.relay.End()))
	}
	return fmt.Sprintf("id=%d addr=%s laddr=%s fd=-1 name=%s age=%d idle=%d flags=%s db=%d sub=%d psub=%d ssub=0 multi=-1 "+
		"qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=%d tot-mem=%d events=r cmd=%s user=default redir=-1 resp=%d lib-name=%s lib-ver=%s%s",
		c.id, c.addr(), c.conn.LocalAddr(), v.name, int(now.Sub(c.made).Seconds()), max(0, int(now.Sub(v.lastAt).Seconds())), flags,
		v.db, v.nsubs[channel], v.nsubs[pattern], c.out.waiting(), c.memory.holds()+2*keepSize, v.last, v.protocol, v.libName, v.libVer, behind)
}

// matching are the clients that all filters mean. words are pairs of a filter's
// name and its value. skipMe leaves the caller out, unless SKIPME says otherwise.
// refusal is the error reply where a pair is no filter.
func (q *request) matching(words [][]byte, skipMe bool) (all []*client, refusal string) {
	if len(words)%2 != 0 {
		return nil, "ERR syntax error"
	}
	all = q.s.connected()
	for pair := range slices.Chunk(words, 2) {
		word, value := lower(pair[0]), string(pair[1])
		if v := lower(pair[1]); word == "skipme" && (v == "yes" || v == "no") {
			skipMe = v == "yes"
			continue
		}
		means, refusal := newFilter(word, value)
		if refusal != "" {
			return nil, refusal
		}
		all = slices.DeleteFunc(all, func(c *client) bool { return !means(c) })
	}
	return slices.DeleteFunc(all, func(c *client) bool { return skipMe && c == q.c }), ""
}

// newFilter reads a filter of CLIENT KILL or CLIENT LIST.
func newFilter(word, value string) (means func(*client) bool, refusal string) {
	switch word {
	case "id":
		id, ok := resp.ParseInteger([]byte(value))
		if !ok || id < 1 {
			return nil, "ERR client-id should be greater than 0"
		}
		return func(c *client) bool { return c.id == id }, ""
	case "type":
		kind := strings.ToLower(value)
		if !slices.Contains([]string{"normal", "pubsub", "master", "replica", "slave"}, kind) {
			return nil, "ERR Unknown client type '" + printableName([]byte(value)) + "'"
		}
		return func(c *client) bool {
			v := c.snapshot()
			switch kind {
			case "pubsub":
				return v.subscribed()
			case "replica", "slave":
				return v.replica != nil
			}
			return kind == "normal" && !v.subscribed() && v.replica == nil
		}, ""
	case "addr":
		return func(c *client) bool { return c.addr() == value }, ""
	}
	return nil, "ERR syntax error"
}

// clientList is CLIENT LIST, with the filters of CLIENT KILL.
func clientList(q *request) {
	all, refusal := q.matching(q.args[2:], false)
	if refusal != "" {
		q.error(refusal)
		return
	}
	var b strings.Builder
	now := time.Now()
	for _, c := range all {
		b.WriteString(c.line(now))
		b.WriteByte('\n')
	}
	q.text(b.String())
}

// clientKill is CLIENT KILL addr:port, and CLIENT KILL with filters, all of which
// must hold.
func clientKill(q *request) {
	words, one := q.args[2:], len(q.args) == 3
	if one {
		words = [][]byte{[]byte("addr"), words[0]}
	}
	all, refusal := q.matching(words, !one)
	for _, c := range all {
		q.kill(c)
	}
	switch {
	case refusal != "":
		q.error(refusal)
	case !one:
		q.int(int64(len(all)))
	case len(all) == 0:
		q.error("ERR No such client")
	default:
		q.ok()
	}
}

// kill cuts a client. A client that kills itself gets its answer first.
func (q *request) kill(c *client) {
	if c == q.c {
		c.closing = true
		return
	}
	c.cut()
}
