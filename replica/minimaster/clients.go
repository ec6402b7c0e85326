package minimaster

import (
	"errors"
	"strings"

	"github.com/tidwall/redcon"

	"replicad/replica/master"
)

// Client is one client of the master: its database and its transaction. Each
// connection has one; NewClient makes one in this process. Its fields belong to
// the holder of replication.mu.
type Client struct {
	m      *Master
	db     int
	authed bool
	hand   master.Handshake // what REPLCONF told

	multi bool
	dirty bool // a command was refused while queuing: EXEC will refuse them all
	queue [][]string
}

// NewClient makes a client in this process. It needs no AUTH.
func (m *Master) NewClient() *Client { return &Client{m: m, authed: true} }

// Do executes a command and returns the reply as nil, string, int64 or []any. The
// error is an error reply, with its code: "WRONGTYPE Operation against ...". The
// replicas get what the command writes.
func (c *Client) Do(args ...string) (any, error) {
	if len(args) == 0 {
		return nil, errors.New("ERR empty command")
	}
	return parseReply(c.m.process(c, args))
}

// Do executes a command in a client that all callers of Do share: see Client.Do.
// It begins in database 0.
func (m *Master) Do(args ...string) (any, error) { return m.local.Do(args...) }

// handle is what redcon calls for each command, on the connection's own
// goroutine.
func (m *Master) handle(conn redcon.Conn, cmd redcon.Command) {
	c, ok := conn.Context().(*Client)
	if !ok {
		c = m.NewClient()
		c.authed = m.cfg.RequirePass == ""
		conn.SetContext(c)
	}
	args := stringArgs(cmd)
	name := strings.ToUpper(args[0])
	step := name
	if name == "REPLCONF" && len(args) > 1 {
		step += " " + strings.ToLower(args[1])
	}
	raw, replaced := m.faults.Load().Replies[step]
	switch {
	case replaced:
		conn.WriteRaw([]byte(raw))
	case name == "PSYNC" || name == "SYNC":
		if refusal := m.syncCommand(conn, c, cmd.Args); refusal != nil {
			conn.WriteRaw(refusal)
		}
	default:
		conn.WriteRaw(m.process(c, args))
	}
}

// syncCommand is PSYNC and SYNC: here a connection becomes a replica, unless
// there is a refusal. c is the connection's own, so nobody changes it
// meanwhile.
func (m *Master) syncCommand(conn redcon.Conn, c *Client, args [][]byte) (refusal []byte) {
	if !c.authed {
		return errorReply(msgNoAuth)
	}
	q, refusal := c.hand.Request(args)
	if refusal != nil {
		return refusal
	}
	if q.ReplID == "?" && m.cfg.Channels == DualChannel && q.Knows(string(DualChannel)) && !q.RDBChannel {
		return []byte("+DUALCHANNELSYNC\r\n")
	}
	// From here on the connection is ours, not redcon's. What was answered before
	// PSYNC is still in the buffer.
	k := conn.NetConn().(*link)
	detached := conn.Detach()
	err := detached.Flush()
	var a master.Answer
	if err == nil {
		a, err = m.answer(k, q)
	}
	if err != nil {
		k.Close()
		return nil
	}
	m.wg.Go(func() { _, _ = m.replicas.Feed(replicaConn{k, detached}, q, a) }) // why a replica leaves is its own matter
	return nil
}

// replicaConn is the connection of a replica: redcon reads what it says.
type replicaConn struct {
	*link
	detached redcon.DetachedConn
}

// Query implements master.Conn.
func (c replicaConn) Query() ([][]byte, error) {
	cmd, err := c.detached.ReadCommand()
	return cmd.Args, err
}

// process is processCommand (server.c): whether the client may, and whether now
// or at EXEC. It returns the reply.
func (m *Master) process(c *Client, args []string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expire()
	switch name := strings.ToUpper(args[0]); {
	case name == "AUTH":
		return m.auth(c, args)
	case !c.authed:
		return errorReply(msgNoAuth)
	case name == "MULTI" && !c.multi:
		c.multi, c.dirty, c.queue = true, false, nil
		return replyOK
	case name == "EXEC" && c.multi:
		return m.exec(c)
	case name == "DISCARD" && c.multi:
		c.multi = false
		return replyOK
	case name == "EXEC", name == "MULTI", name == "DISCARD":
		return errorReply("ERR %s is not allowed here: MULTI begins a transaction, EXEC or DISCARD ends it", name)
	case c.multi:
		if _, refusal := m.lookup(args); refusal != nil {
			c.dirty = true
			return refusal
		}
		c.queue = append(c.queue, args)
		return replyQueued
	}
	reply, effects := m.execute(c, args)
	m.propagate(effects)
	return reply
}

// exec is EXEC: everything queued, in one go, for the replicas, too.
func (m *Master) exec(c *Client) []byte {
	c.multi = false
	if c.dirty {
		return errorReply("EXECABORT Transaction discarded because of previous errors.")
	}
	reply := redcon.AppendArray(nil, len(c.queue))
	var effects []effect
	for _, args := range c.queue {
		r, x := m.execute(c, args)
		reply = append(reply, r...)
		effects = append(effects, x...)
	}
	m.propagate(effects)
	return reply
}

// auth is AUTH [user] password (acl.c, authCommand). The only user is default.
func (m *Master) auth(c *Client, args []string) []byte {
	switch {
	case len(args) != 2 && len(args) != 3:
		return wrongArity(args[0])
	case m.cfg.RequirePass == "":
		return errorReply("ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?")
	case len(args) == 3 && args[1] != "default", args[len(args)-1] != m.cfg.RequirePass:
		return errorReply("WRONGPASS invalid username-password pair or user is disabled.")
	}
	c.authed = true
	return replyOK
}

func (c *call) ping() []byte { return []byte("+PONG\r\n") }

func (c *call) selectDB() []byte {
	db, ok := parseInt(c.args[1])
	if !ok || db < 0 || db >= databases {
		return errorReply("ERR DB index is out of range")
	}
	c.db = int(db)
	return replyOK
}

// replconf is REPLCONF before PSYNC.
func (c *call) replconf() []byte {
	args := make([][]byte, len(c.args))
	for i, a := range c.args {
		args[i] = []byte(a)
	}
	return c.hand.Replconf(args)
}
