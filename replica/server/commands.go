package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"replicad/replica"
)

const databases = 16 // redis.conf's default

func lower(p []byte) string { return strings.ToLower(string(p)) }

func okay(c *client, _ [][]byte) { c.reply.ok() }

func ping(c *client, args [][]byte) {
	r := &c.reply
	switch {
	case len(args) > 2:
		r.err(wrongArgs("ping"))
	case r.proto == 2 && c.subscribed():
		r.array(2)
		r.bulk("pong")
		if len(args) == 2 {
			r.bytes(args[1])
		} else {
			r.bulk("")
		}
	case len(args) == 2:
		r.bytes(args[1])
	default:
		r.simple("PONG")
	}
}

func echo(c *client, args [][]byte) { c.reply.bytes(args[1]) }

func quit(c *client, _ [][]byte) {
	c.quit = true
	c.reply.ok()
}

// reset makes the connection what it was when it began (resetCommand).
func reset(c *client, _ [][]byte) {
	c.endMulti()
	c.s.broker.leave(c)
	c.authenticated = *c.s.password.Load() == ""
	c.reply.proto = 2
	c.mu.Lock()
	c.name, c.db, c.proto = "", 0, 2
	c.mu.Unlock()
	c.reply.simple("RESET")
}

// login checks user and password; the time it takes says nothing of them.
func (c *client) login(user, password []byte) bool {
	want := *c.s.password.Load()
	a, b := sha256.Sum256(password), sha256.Sum256([]byte(want))
	right := subtle.ConstantTimeCompare(a[:], b[:]) == 1 || want == "" // nopass
	if string(user) != "default" || !right {
		c.s.authFailures.Add(1)
		return false
	}
	c.authenticated = true
	return true
}

const wrongPass = "WRONGPASS invalid username-password pair or user is disabled."

func auth(c *client, args [][]byte) {
	r := &c.reply
	user, password := []byte("default"), args[1]
	switch {
	case len(args) > 3:
		r.err("ERR syntax error")
		return
	case len(args) == 3:
		user, password = args[1], args[2]
	case *c.s.password.Load() == "":
		r.err("ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?")
		return
	}
	if !c.login(user, password) {
		r.err(wrongPass)
		return
	}
	r.ok()
}

// hello chooses the protocol (helloCommand in networking.c).
func hello(c *client, args [][]byte) {
	r := &c.reply
	proto := r.proto
	if len(args) > 1 {
		n, err := strconv.Atoi(string(args[1]))
		if err != nil {
			r.err("ERR Protocol version is not an integer or out of range")
			return
		}
		if n != 2 && n != 3 {
			r.err("NOPROTO unsupported protocol version")
			return
		}
		proto = n
	}
	var name *string
	for i := 2; i < len(args); i++ {
		switch more := len(args) - i - 1; {
		case lower(args[i]) == "auth" && more >= 2:
			if !c.login(args[i+1], args[i+2]) {
				r.err(wrongPass)
				return
			}
			i += 2
		case lower(args[i]) == "setname" && more >= 1:
			s := string(args[i+1])
			if !plainName(s) {
				r.err(badName)
				return
			}
			name = &s
			i++
		default:
			r.err("ERR Syntax error in HELLO option '" + string(args[i]) + "'")
			return
		}
	}
	if !c.authenticated {
		r.err("NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time")
		return
	}
	c.mu.Lock()
	c.proto = proto
	if name != nil {
		c.name = *name
	}
	c.mu.Unlock()
	r.proto = proto
	r.table(7)
	for _, kv := range [][2]string{{"server", "redis"}, {"version", redisVersion}} {
		r.bulk(kv[0])
		r.bulk(kv[1])
	}
	r.bulk("proto")
	r.int(int64(proto))
	r.bulk("id")
	r.int(c.id)
	r.bulk("mode")
	r.bulk("standalone")
	r.bulk("role")
	r.bulk("replica")
	r.bulk("modules")
	r.array(0)
}

func selectDB(c *client, args [][]byte) {
	n, err := strconv.Atoi(string(args[1]))
	switch {
	case err != nil:
		c.reply.err("ERR value is not an integer or out of range")
	case n < 0 || n >= databases:
		c.reply.err("ERR DB index is out of range")
	default:
		c.mu.Lock()
		c.db = n
		c.mu.Unlock()
		c.reply.ok()
	}
}

func timeCommand(c *client, _ [][]byte) {
	now := time.Now().UnixMicro()
	c.reply.array(2)
	c.reply.bulk(strconv.FormatInt(now/1e6, 10))
	c.reply.bulk(strconv.FormatInt(now%1e6, 10))
}

// linkState is a state as ROLE names it (roleCommand in replication.c).
func linkState(state replica.State, phase replica.Phase, following bool) string {
	switch {
	case !following:
		return "none"
	case state == replica.None:
		return "connect"
	case state == replica.Connecting:
		return "connecting"
	case phase == replica.Transfer:
		return "sync"
	case phase == replica.Stream:
		return "connected"
	}
	return "handshake"
}

func role(c *client, _ [][]byte) {
	r, s := &c.reply, c.s.backend.Status()
	host, port := s.HostPort()
	offset := int64(-1)
	if s.Up() {
		offset = s.Stored
	}
	r.array(5)
	r.bulk("slave")
	r.bulk(host)
	r.int(int64(port))
	r.bulk(linkState(s.State, s.Phase, s.Following()))
	r.int(offset)
}

// replicaOf repoints the link (replicaofCommand).
func replicaOf(c *client, args [][]byte) {
	r, b := &c.reply, c.s.backend
	host, port := string(args[1]), string(args[2])
	var err error
	if strings.EqualFold(host, "no") && strings.EqualFold(port, "one") {
		err = b.NoOne()
	} else {
		if n, e := strconv.Atoi(port); e != nil {
			r.err("ERR value is not an integer or out of range")
			return
		} else if n < 1 || n > 65535 {
			r.err("ERR Invalid master port")
			return
		}
		at, p := b.Status().HostPort()
		if strings.EqualFold(at, host) && strconv.Itoa(p) == port {
			r.simple("OK Already connected to specified master")
			return
		}
		err = b.ReplicaOf(host, port)
	}
	if err != nil {
		r.err("ERR " + err.Error())
		return
	}
	c.s.cfg.Log.Info("REPLICAOF by a client", "host", host, "port", port, "client", c.addr, "name", c.name)
	r.ok()
}

// bgSave begins a rebase, the nearest thing to a snapshot that replicad makes.
func bgSave(c *client, args [][]byte) {
	r, b := &c.reply, c.s.backend
	name := lower(args[0])
	if len(args) > 2 || len(args) == 2 && lower(args[1]) != "schedule" {
		r.err("ERR syntax error")
		return
	}
	if b.Status().Rebase.Running {
		r.err("ERR Background save already in progress: a rebase is under way")
		return
	}
	if err := b.Rebase(strings.ToUpper(name) + " by " + c.addr); err != nil {
		r.err("ERR " + err.Error())
		return
	}
	if name == "bgrewriteaof" {
		r.simple("Background append only file rewriting started")
		return
	}
	r.simple("Background saving started")
}

// lastSave is when the newest generation's base was complete, or took over.
func lastSave(c *client, _ [][]byte) { c.reply.int(c.s.lastSave().Unix()) }

func shutdown(c *client, args [][]byte) {
	for _, a := range args[1:] {
		if !slices.Contains([]string{"nosave", "save", "now", "force"}, lower(a)) {
			c.reply.err("ERR syntax error") // ABORT, too: nothing is to be aborted
			return
		}
	}
	c.quit = true
	c.s.cfg.Log.Warn("SHUTDOWN by a client", "client", c.addr)
	if f := c.s.cfg.Shutdown; f != nil {
		f()
	}
}

func multi(c *client, _ [][]byte) {
	if c.multi {
		c.reply.err("ERR MULTI calls can not be nested")
		return
	}
	c.multi = true
	c.mu.Lock()
	c.queued = 0
	c.mu.Unlock()
	c.reply.ok()
}

func discard(c *client, _ [][]byte) {
	if !c.multi {
		c.reply.err("ERR DISCARD without MULTI")
		return
	}
	c.endMulti()
	c.reply.ok()
}

func watch(c *client, _ [][]byte) {
	if c.multi {
		c.reply.err("ERR WATCH inside MULTI is not allowed")
		return
	}
	c.reply.ok()
}

func exec(c *client, _ [][]byte) {
	r := &c.reply
	if !c.multi {
		r.err("ERR EXEC without MULTI")
		return
	}
	queue, failed := c.queue, c.multiFailed
	c.endMulti()
	if failed {
		r.err("EXECABORT Transaction discarded because of previous errors.")
		return
	}
	r.array(len(queue))
	for _, args := range queue {
		c.dispatch(args)
	}
}

// subscribe serves PSUBSCRIBE too.
func subscribe(c *client, args [][]byte) {
	r, b := &c.reply, &c.s.broker
	word := lower(args[0])
	c.openMail()
	for _, a := range args[1:] {
		if !b.join(c, string(a), word == "psubscribe") {
			r.err(fmt.Sprintf("ERR a client has at most %d subscriptions", maxSubscriptions))
			return
		}
		c.confirm(word, string(a))
	}
}

func unsubscribe(c *client, args [][]byte) {
	b := &c.s.broker
	word := lower(args[0])
	pattern := word == "punsubscribe"
	var names []string
	for _, a := range args[1:] {
		names = append(names, string(a))
	}
	if len(args) == 1 {
		names = b.names(c, pattern)
	}
	for _, n := range names {
		b.part(c, n, pattern)
		c.confirm(word, n)
	}
	if len(names) == 0 {
		r := &c.reply
		r.push(3)
		r.bulk(word)
		r.null()
		r.int(c.subscriptions())
	}
}

func (c *client) subscriptions() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int64(c.subs + c.psubs)
}

func (c *client) confirm(word, channel string) {
	r := &c.reply
	r.push(3)
	r.bulk(word)
	r.bulk(channel)
	r.int(c.subscriptions())
}

func publish(c *client, args [][]byte) {
	c.reply.int(c.s.broker.publish(string(args[1]), string(args[2])))
}

func pubsubCommand(c *client, args [][]byte) {
	r, b := &c.reply, &c.s.broker
	switch sub := lower(args[1]); {
	case sub == "channels" && len(args) <= 3:
		pattern := ""
		if len(args) == 3 {
			pattern = string(args[2])
		}
		names := b.channelsLike(pattern)
		r.array(len(names))
		for _, n := range names {
			r.bulk(n)
		}
	case sub == "numsub":
		r.array(2 * len(args[2:]))
		for _, a := range args[2:] {
			r.bytes(a)
			r.int(int64(b.count(string(a))))
		}
	case sub == "numpat" && len(args) == 2:
		r.int(int64(b.patternCount()))
	default:
		c.otherSubcommand(args)
	}
}

func slowlog(c *client, args [][]byte) {
	switch sub := lower(args[1]); {
	case sub == "get" && len(args) <= 3:
		c.reply.array(0)
	case sub == "len" && len(args) == 2:
		c.reply.int(0)
	case sub == "reset" && len(args) == 2:
		c.reply.ok()
	default:
		c.otherSubcommand(args)
	}
}

func latency(c *client, args [][]byte) {
	switch sub := lower(args[1]); {
	case sub == "latest" && len(args) == 2, sub == "history" && len(args) == 3:
		c.reply.array(0)
	case sub == "histogram":
		c.reply.table(0)
	case sub == "reset":
		c.reply.int(0)
	default:
		c.otherSubcommand(args)
	}
}

func module(c *client, args [][]byte) {
	if lower(args[1]) == "list" && len(args) == 2 {
		c.reply.array(0)
		return
	}
	c.otherSubcommand(args)
}

func acl(c *client, args [][]byte) {
	switch sub := lower(args[1]); {
	case sub == "whoami" && len(args) == 2:
		c.reply.bulk("default")
	case sub == "users" && len(args) == 2:
		c.reply.array(1)
		c.reply.bulk("default")
	default:
		c.otherSubcommand(args)
	}
}

// otherSubcommand answers HELP, a subcommand with the wrong number of arguments,
// and what is none.
func (c *client) otherSubcommand(args [][]byte) {
	r, name := &c.reply, lower(args[0])
	cmd := c.s.commands[name]
	switch sub := lower(args[1]); {
	case sub == "help" && len(args) == 2:
		lines := []string{strings.ToUpper(name) + " <subcommand> [<arg> [value] [opt] ...]. Subcommands of replicad are:"}
		for _, s := range cmd.subcommands {
			lines = append(lines, strings.ToUpper(s))
		}
		r.array(len(lines))
		for _, l := range lines {
			r.simple(l)
		}
	case cmd.has(sub):
		r.err(wrongArgs(name + "|" + sub))
	default:
		r.err(fmt.Sprintf("ERR unknown subcommand '%s'. Try %s HELP.", clip(args[1], 128), strings.ToUpper(name)))
	}
}
