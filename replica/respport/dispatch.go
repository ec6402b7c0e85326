package respport

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/redcon"
)

// request is a command that is being answered.
type request struct {
	*reply
	s      *Server
	c      *client
	cmd    *command
	args   [][]byte
	inExec bool // EXEC calls, and holds Server.orders
}

// waiting calls what may block, while others are answered.
func (q *request) waiting(do func()) { q.c.turn.waiting(do) }

// arity is the error for a command with too few arguments, or too many.
func (q *request) arity() string {
	return "ERR wrong number of arguments for '" + q.cmd.name + "' command"
}

func (q *request) syntax() { q.error("ERR syntax error") }

// process is processCommand of Redis' server.c: what is refused is refused in
// the same order.
func (s *Server) process(c *client, args [][]byte) {
	q := &request{reply: &c.reply, s: s, c: c, args: args}
	if name := string(args[0][:min(len(args[0]), 5)]); strings.EqualFold(name, "post") || strings.EqualFold(name, "host:") {
		// securityWarningCommand: a web page made a browser speak to this port.
		s.log(slog.LevelWarn, "a client speaks HTTP to the RESP port, and is cut: possibly an attack from a web page", "addr", c.addr())
		c.closing = true
		return
	}
	cmd, container := s.commands.lookup(args)
	name := "NULL"
	if cmd != nil {
		name = cmd.name
	}
	c.change(func(v *seen) {
		v.last, v.lastAt = name, time.Now()
		q.resp3 = v.protocol == 3
	})
	if q.cmd = cmd; cmd == nil {
		q.refuse(unknown(args, container))
		return
	}
	if refusal := q.mayNot(); refusal != "" {
		q.refuse(refusal)
		return
	}
	if c.tx.open && !cmd.is("at_once") {
		q.enqueue()
		return
	}
	q.call()
}

// mayNot is why a command is not executed; "" if it is.
func (q *request) mayNot() string {
	c, cmd, n := q.c, q.cmd, len(q.args)
	switch {
	case n < cmd.arity || n > cmd.arity && cmd.arity >= 0 || n < -cmd.arity:
		return q.arity()
	case !c.authed && !cmd.is("no_auth"):
		return "NOAUTH Authentication required."
	case c.tx.open && cmd.is("no_multi"):
		return "ERR Command not allowed inside a transaction"
	case cmd.is("write"):
		return "READONLY You can't write against a read only replica."
	case !q.resp3 && len(c.subs) > 0 && !cmd.is("subscriber"):
		return "ERR Can't execute '" + cmd.name + "': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
	case cmd.run == nil:
		return cmd.refusal
	}
	return ""
}

// refuse answers with an error that also spoils an open transaction
// (rejectCommand in Redis' server.c).
func (q *request) refuse(text string) {
	q.c.tx.dirty = q.c.tx.dirty || q.c.tx.open
	q.s.count().Errors.Add(1)
	q.error(text)
}

// call executes a command, and counts it.
func (q *request) call() {
	at := len(q.b)
	q.cmd.run(q)
	q.s.count().Commands.Add(1)
	if len(q.b) > at && q.b[at] == '-' {
		q.s.count().Errors.Add(1)
	}
}

// unknown is what Redis says of a command that it does not have
// (commandCheckExistence in server.c).
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

// reply is the answer to a command, in the protocol of its client. A type that
// RESP3 added becomes in RESP2 what Redis makes of it (networking.c,
// addReply...).
type reply struct {
	b     []byte
	resp3 bool
}

func (r *reply) status(s string) { r.b = redcon.AppendString(r.b, s) }
func (r *reply) ok()             { r.b = redcon.AppendOK(r.b) }
func (r *reply) error(s string)  { r.b = redcon.AppendError(r.b, s) }
func (r *reply) int(n int64)     { r.b = redcon.AppendInt(r.b, n) }
func (r *reply) bulk(s string)   { r.b = redcon.AppendBulkString(r.b, s) }
func (r *reply) bytes(b []byte)  { r.b = redcon.AppendBulk(r.b, b) }
func (r *reply) array(n int)     { r.b = redcon.AppendArray(r.b, n) }

// dict opens a map of n pairs.
func (r *reply) dict(n int) { r.open('%', n, 2*n) }

// push opens a message of n elements that no command asked for.
func (r *reply) push(n int) { r.open('>', n, n) }

// open opens a type of RESP3, or an array of n2 elements in RESP2.
func (r *reply) open(mark byte, n, n2 int) {
	if !r.resp3 {
		r.array(n2)
		return
	}
	r.b = append(r.b, mark)
	r.b = strconv.AppendInt(r.b, int64(n), 10)
	r.b = append(r.b, '\r', '\n')
}

func (r *reply) null() {
	if r.resp3 {
		r.b = append(r.b, "_\r\n"...)
		return
	}
	r.b = redcon.AppendNull(r.b)
}

// text is a verbatim string, which redis-cli shows as it stands.
func (r *reply) text(s string) {
	if !r.resp3 {
		r.bulk(s)
		return
	}
	r.open('=', len(s)+len("txt:"), 0)
	r.b = append(r.b, "txt:"...)
	r.b = append(r.b, s...)
	r.b = append(r.b, '\r', '\n')
}
