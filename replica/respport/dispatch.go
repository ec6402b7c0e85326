package respport

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"github.com/tidwall/redcon"
)

// handler answers a command. Its arguments belong to redcon until it returns.
type handler func(q *request)

// request is a command that is being answered.
type request struct {
	*reply
	s    *Server
	c    *client
	conn redcon.Conn
	cmd  *command
	args [][]byte
	exec bool // by EXEC, which holds the orders
}

// waiting calls what may block, while others are answered.
func (q *request) waiting(do func()) { q.c.turn.waiting(do) }

// name is the command's, as errors give it.
func (q *request) name() string { return q.cmd.name }

// arity is the error for a command with too few arguments, or too many.
func (q *request) arity() { q.error("ERR wrong number of arguments for '" + q.name() + "' command") }

func (q *request) syntax() { q.error("ERR syntax error") }

func words(args [][]byte) []string {
	all := make([]string, len(args))
	for i, a := range args {
		all[i] = string(a)
	}
	return all
}

// handle is what redcon calls for each command, on the connection's goroutine.
func (s *Server) handle(conn redcon.Conn, cmd redcon.Command) {
	c := conn.NetConn().(*client)
	if c.closing || len(cmd.Args) == 0 {
		return
	}
	defer func() {
		if r := recover(); r != nil {
			s.cfg.Log.Error("a command broke down: its client is cut", "command", printableName(cmd.Args[0]), "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			c.closing = true
			c.cut("a command broke down")
		}
	}()
	if c.batch++; c.batch > 1 { // the others have their turn between the commands of a batch
		c.turn.pass()
	}
	c.reply.b = c.reply.b[:0]
	s.process(c, conn, cmd.Args)
	c.emit(conn, c.reply.b)
	if cap(c.reply.b) > flushAt {
		c.reply.b = nil
	}
	if c.closing {
		c.held = 0
		if o := c.out.Load(); o != nil {
			c.turn.waiting(o.finish)
		}
		conn.Close()
	}
}

func printableName(b []byte) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, string(b[:min(len(b), maxName)]))
}

// process is processCommand of Redis' server.c: what is refused is refused in
// the same order.
func (s *Server) process(c *client, conn redcon.Conn, args [][]byte) {
	q := &request{reply: &c.reply, s: s, c: c, conn: conn, args: args}
	if name := string(args[0][:min(len(args[0]), 5)]); strings.EqualFold(name, "post") || strings.EqualFold(name, "host:") {
		// securityWarningCommand: a browser that was made to speak to this port.
		s.log(slog.LevelWarn, "a client speaks HTTP to the RESP port, and is cut: possibly an attack from a web page", "addr", c.RemoteAddr().String())
		c.closing = true
		return
	}
	cmd, container := s.commands.lookup(args)
	if q.cmd = cmd; cmd == nil {
		c.note("NULL")
		q.refuse(unknown(args, container))
		return
	}
	c.note(cmd.name)
	c.reply.resp3 = c.snapshotRESP3()
	if refusal := q.mayNot(); refusal != "" {
		q.refuse(refusal)
		return
	}
	if c.tx.open && !ofTransactions(cmd.name) {
		q.enqueue()
		return
	}
	q.call()
}

// mayNot is why a command is not executed; "" when it is.
func (q *request) mayNot() string {
	c, cmd := q.c, q.cmd
	switch {
	case !cmd.fits(len(q.args)):
		return "ERR wrong number of arguments for '" + cmd.name + "' command"
	case !c.authed && !cmd.noAuth:
		return "NOAUTH Authentication required."
	case c.tx.open && (cmd.noMulti || notQueued(cmd.name)):
		return "ERR Command not allowed inside a transaction"
	case cmd.writes:
		return "READONLY You can't write against a read only replica."
	case !c.reply.resp3 && c.subs.count() > 0 && !ofSubscribers(cmd.name):
		return "ERR Can't execute '" + cmd.name + "': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
	case cmd.served == nil:
		return notServed(cmd)
	}
	return ""
}

// refuse answers with an error that also ends an open transaction
// (rejectCommand).
func (q *request) refuse(text string) {
	q.c.tx.dirty = q.c.tx.dirty || q.c.tx.open
	if q.cmd != nil {
		q.s.stats.rejectedCall(q.cmd)
	}
	q.s.stats.errorReply(text)
	q.error(text)
}

// call executes, and counts.
func (q *request) call() {
	began, at := time.Now(), len(q.b)
	q.cmd.served.run(q)
	failed := len(q.b) > at && q.b[at] == '-'
	if failed {
		q.s.stats.errorReply(string(q.b[at+1 : min(len(q.b), at+65)]))
	}
	q.s.stats.called(q.cmd, time.Since(began), failed)
}

// unknown is what Redis says of a command it does not have
// (commandCheckExistence).
func unknown(args [][]byte, container *command) string {
	if container != nil {
		return fmt.Sprintf("ERR unknown subcommand '%.128s'. Try %s HELP.", args[1], strings.ToUpper(container.name))
	}
	var b strings.Builder
	for _, a := range args[1:] {
		if b.Len() >= 128 {
			break
		}
		fmt.Fprintf(&b, "'%s' ", a[:min(len(a), 128-b.Len())])
	}
	return fmt.Sprintf("ERR unknown command '%s', with args beginning with: %s", args[0][:min(len(args[0]), 128)], b.String())
}

// notServed is the error for what Redis has and replicad has not.
func notServed(c *command) string {
	container, _, _ := strings.Cut(c.name, "|")
	if c.readonly {
		container = ""
	}
	switch container {
	case "wait", "waitaof":
		return "ERR " + strings.ToUpper(container) + " cannot be used with replica instances. Send it to the master, which counts replicad among its replicas."
	case "sync", "psync", "replconf":
		return "ERR replicad has no replicas of its own: follow its master instead"
	case "cluster", "readonly", "readwrite", "asking":
		return "ERR This instance has cluster support disabled"
	case "acl":
		return "ERR replicad has no ACL: its only user is default, whose password is requirepass"
	case "save":
		return "ERR replicad has no dataset in memory to save: everything is on disk already. BGSAVE begins a new generation"
	case "debug", "module", "failover", "monitor":
		return "ERR " + strings.ToUpper(container) + " is not offered by replicad, a replica that keeps no dataset in memory"
	case "client", "config", "latency", "memory", "slowlog", "command", "commandlog", "pubsub":
		return "ERR " + strings.ToUpper(strings.ReplaceAll(c.name, "|", " ")) + " is not offered by replicad"
	}
	return "ERR replicad keeps no dataset in memory and cannot answer '" + c.name + "': read from the master, or restore the archive " +
		"with 'replicad restore' and start redis-server on the result"
}

func ofTransactions(name string) bool {
	switch name {
	case "exec", "discard", "multi", "watch", "quit", "reset":
		return true
	}
	return false
}

// notQueued are commands whose answers have no place in EXEC's.
func notQueued(name string) bool {
	switch name {
	case "subscribe", "psubscribe", "ssubscribe", "unsubscribe", "punsubscribe", "sunsubscribe", "hello", "client|reply":
		return true
	}
	return false
}

func ofSubscribers(name string) bool {
	switch name {
	case "ping", "subscribe", "psubscribe", "ssubscribe", "unsubscribe", "punsubscribe", "sunsubscribe", "quit", "reset":
		return true
	}
	return false
}
