package respport

import (
	"net"
	"syscall"
	"time"

	"replicad/replica/master"
	"replicad/replica/relay"
)

// accepted is a connection that asked for PSYNC, and gets what the answer says.
type accepted struct {
	relay  *relay.Relay
	ask    master.Request
	answer master.Answer
}

// relaying gives the relay; nil where there is none, and the client is told so.
func (q *request) relaying() *relay.Relay {
	r := q.s.backend.Relay()
	switch {
	case r == nil:
		q.error(q.cmd.refusal)
	case !q.s.password.Load().set && !loopback(q.c.conn.RemoteAddr()):
		q.error("DENIED a relay hands out the whole dataset: beyond the loopback it needs a password (requirepass)")
		return nil
	}
	return r
}

// replconf is REPLCONF before PSYNC. What a replica says later is heard by
// package master.
func replconf(q *request) {
	if q.relaying() != nil {
		q.b = append(q.b, q.c.hand.Replconf(q.args)...)
	}
}

// psync is PSYNC and SYNC.
func psync(q *request) {
	r := q.relaying()
	if r == nil {
		return
	}
	if len(q.c.subs) > 0 {
		q.error("ERR a client with subscriptions can't be a replica: messages would land in the stream")
		return
	}
	ask, no := q.c.hand.Request(q.args)
	if no != nil {
		q.b = append(q.b, no...)
		return
	}
	var a master.Answer
	var refusal string
	q.waiting(func() { a, refusal = r.Answer(ask, q.c.conn.RemoteAddr()) })
	if refusal != "" {
		q.error(refusal)
		return
	}
	q.c.accepted = &accepted{r, ask, a}
}

// feed serves the client as a replica, until the connection ends. What was
// answered before is written.
func (c *client) feed() {
	_ = c.conn.SetDeadline(time.Time{})
	a := c.accepted
	a.answer.Joined = func(r *master.Replica) { c.change(func(v *seen) { v.replica = r }) }
	c.change(func(v *seen) { v.relay = a.relay })
	a.relay.Feed(replicaConn{c}, a.ask, a.answer)
}

// replicaConn is the connection of a replica. It implements master.Conn and
// relay.Raw.
type replicaConn struct{ *client }

func (c replicaConn) Write(p []byte) (int, error) {
	n, err := c.conn.Write(p)
	c.s.count().Out.Add(int64(n))
	return n, err
}

func (c replicaConn) Query() ([][]byte, error) { return c.next() }
func (c replicaConn) RemoteAddr() net.Addr     { return c.conn.RemoteAddr() }

func (c replicaConn) CloseWrite() error {
	if w, ok := c.conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

func (c replicaConn) Close() error {
	c.cut()
	return nil
}

// Raw implements relay.Raw.
func (c replicaConn) Raw() (syscall.RawConn, bool) {
	tcp, ok := c.conn.(*net.TCPConn)
	if !ok {
		return nil, false
	}
	raw, err := tcp.SyscallConn()
	return raw, err == nil
}
