package respport

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

const infoLevel = slog.LevelInfo

func clientSetName(q *request) {
	name := string(q.args[2])
	if !validName(name) {
		q.error(badName)
		return
	}
	q.c.mu.Lock()
	q.c.name = name
	q.c.mu.Unlock()
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

// clientSetInfo is of Redis 7.2, and sent by its clients to any server.
func clientSetInfo(q *request) {
	v := string(q.args[3])
	what := lower(q.args[2])
	switch {
	case what != "lib-name" && what != "lib-ver":
		q.error("ERR Unrecognized option '" + printableName(q.args[2]) + "'")
		return
	case !validName(v):
		q.error("ERR " + what + " cannot contain spaces, newlines or special characters.")
		return
	}
	q.c.mu.Lock()
	if what == "lib-name" {
		q.c.libName = v
	} else {
		q.c.libVer = v
	}
	q.c.mu.Unlock()
	q.ok()
}

func clientInfo(q *request) { q.text(q.c.line(time.Now()) + "\n") }

func clientList(q *request) {
	keep := func(*client, *seen) bool { return true }
	switch {
	case len(q.args) == 2:
	case len(q.args) == 4 && lower(q.args[2]) == "type":
		kind, ok := clientKind(q.args[3])
		if !ok {
			q.error("ERR Unknown client type '" + printableName(q.args[3]) + "'")
			return
		}
		keep = func(_ *client, v *seen) bool { return v.kind() == kind }
	case len(q.args) > 3 && lower(q.args[2]) == "id":
		ids := map[int64]bool{}
		for _, a := range q.args[3:] {
			n, ok := integer(a)
			if !ok {
				q.error("ERR Invalid client ID")
				return
			}
			ids[n] = true
		}
		keep = func(c *client, _ *seen) bool { return ids[c.id] }
	default:
		q.syntax()
		return
	}
	var b strings.Builder
	now := time.Now()
	for _, c := range q.s.connected() {
		if v := c.snapshot(); keep(c, &v) {
			b.WriteString(c.line(now))
			b.WriteByte('\n')
		}
	}
	q.text(b.String())
}

// clientKind reads a type; slave is the old word for replica.
func clientKind(b []byte) (string, bool) {
	switch k := lower(b); k {
	case "normal", "pubsub", "master", "replica":
		return k, true
	case "slave":
		return "replica", true
	}
	return "", false
}

// line is catClientInfoString of networking.c, with what 7.2 added at the end.
func (c *client) line(now time.Time) string {
	v := c.snapshot()
	flags := ""
	if v.subscribed() {
		flags += "P"
	}
	if v.queued >= 0 {
		flags += "x"
	}
	if v.noEvict {
		flags += "e"
	}
	if v.noTouch {
		flags += "T"
	}
	if flags == "" {
		flags = "N"
	}
	resp := 2
	if v.resp3 {
		resp = 3
	}
	waiting := 0
	if o := c.out.Load(); o != nil {
		waiting = o.waiting()
	}
	return fmt.Sprintf("id=%d addr=%s laddr=%s fd=%d name=%s age=%d idle=%d flags=%s db=%d sub=%d psub=%d ssub=%d multi=%d "+
		"qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=%d tot-mem=%d events=r cmd=%s user=default redir=-1 resp=%d lib-name=%s lib-ver=%s",
		c.id, c.RemoteAddr(), c.LocalAddr(), c.fd, v.name, int(now.Sub(c.made).Seconds()), max(0, int(now.Sub(v.lastAt).Seconds())), flags,
		v.db, v.nsubs[channel], v.nsubs[pattern], v.nsubs[shard], v.queued, waiting, c.memory.holds()+3*readSize, v.last, resp, v.libName, v.libVer)
}

// clientKill is CLIENT KILL addr, and CLIENT KILL with filters.
func clientKill(q *request) {
	if len(q.args) == 3 {
		for _, c := range q.s.connected() {
			if c.RemoteAddr().String() == string(q.args[2]) {
				q.kill(c)
				q.ok()
				return
			}
		}
		q.error("ERR No such client")
		return
	}
	keep, skipMe, refusal := q.killFilter()
	if refusal != "" {
		q.error(refusal)
		return
	}
	n := int64(0)
	for _, c := range q.s.connected() {
		if v := c.snapshot(); keep(c, &v) && !(skipMe && c == q.c) {
			q.kill(c)
			n++
		}
	}
	q.int(n)
}

// killFilter reads the filters; all must hold.
func (q *request) killFilter() (keep func(*client, *seen) bool, skipMe bool, refusal string) {
	var all []func(*client, *seen) bool
	skipMe = true
	if len(q.args)%2 != 0 {
		return nil, false, "ERR syntax error"
	}
	for i := 2; i+1 < len(q.args); i += 2 {
		value := string(q.args[i+1])
		switch lower(q.args[i]) {
		case "id":
			id, ok := integer(q.args[i+1])
			if !ok || id < 1 {
				return nil, false, "ERR client-id should be greater than 0"
			}
			all = append(all, func(c *client, _ *seen) bool { return c.id == id })
		case "type":
			kind, ok := clientKind(q.args[i+1])
			if !ok {
				return nil, false, "ERR Unknown client type '" + printableName(q.args[i+1]) + "'"
			}
			all = append(all, func(_ *client, v *seen) bool { return v.kind() == kind })
		case "addr":
			all = append(all, func(c *client, _ *seen) bool { return c.RemoteAddr().String() == value })
		case "laddr":
			all = append(all, func(c *client, _ *seen) bool { return c.LocalAddr().String() == value })
		case "user":
			if value != "default" {
				return nil, false, "ERR No such user '" + printableName(q.args[i+1]) + "'"
			}
		case "maxage": // of Redis 7.4
			age, ok := integer(q.args[i+1])
			if !ok || age < 1 {
				return nil, false, "ERR maxage is not an integer or out of range"
			}
			all = append(all, func(c *client, _ *seen) bool { return time.Since(c.made) >= time.Duration(age)*time.Second })
		case "skipme":
			switch strings.ToLower(value) {
			case "yes":
				skipMe = true
			case "no":
				skipMe = false
			default:
				return nil, false, "ERR syntax error"
			}
		default:
			return nil, false, "ERR syntax error"
		}
	}
	return func(c *client, v *seen) bool {
		for _, f := range all {
			if !f(c, v) {
				return false
			}
		}
		return true
	}, skipMe, ""
}

// kill cuts a client; the one who asks gets his answer first.
func (q *request) kill(c *client) {
	if c == q.c {
		c.closing = true
		return
	}
	c.cut("killed by client " + strconv.FormatInt(q.c.id, 10))
}

func clientReply(q *request) {
	switch lower(q.args[2]) {
	case "on":
		q.c.silent, q.c.skip = false, 0
		q.ok()
	case "off":
		q.c.silent = true
	case "skip":
		if !q.c.silent {
			q.c.skip = 2
		}
	default:
		q.syntax()
	}
}

// onOff is CLIENT NO-EVICT and NO-TOUCH, which are noted and change nothing.
func onOff(set func(*client, bool)) handler {
	return func(q *request) {
		switch lower(q.args[2]) {
		case "on", "off":
			q.c.mu.Lock()
			set(q.c, lower(q.args[2]) == "on")
			q.c.mu.Unlock()
			q.ok()
		default:
			q.syntax()
		}
	}
}

func constant(n int64) handler { return func(q *request) { q.int(n) } }

func okay(q *request) { q.ok() }
