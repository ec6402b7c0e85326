package respport

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/tidwall/redcon"

	"replicad/replica/master"
	"replicad/replica/relay"
	"replicad/replica/resp"
	"replicad/replica/units"
)

const (
	readSize         = 4 << 10  // bytes of an empty query buffer
	keepSize         = 8 << 10  // bytes of a buffer that an idle client may keep
	flushAt          = 64 << 10 // bytes of replies that wait for more replies
	perArg           = 40       // bytes that an argument of a queue costs beside its own
	writeTimeout     = 10 * time.Second
	handshakeTimeout = 10 * time.Second
)

// client is a connection and what its commands remember. The fields belong to
// the client's goroutine, except those under mu.
type client struct {
	conn    net.Conn // TCP, or TLS over it
	s       *Server
	id      int64
	overTLS bool
	made    time.Time
	turn    turn
	batch   int // commands since bytes came last
	memory  account

	queries resp.QueryReader
	buf     []byte
	start   int   // of the bytes in buf that are no query yet
	end     int   // likewise
	charged int64 // bytes of memory that buf and queries are charged with

	authed   bool
	hand     master.Handshake
	accepted *accepted // not nil when the connection is to be a replica
	closing  bool      // the connection ends when the replies are written
	reply    reply     // to the command that is executed
	out      sender
	tx       transaction
	subs     map[topic]struct{} // changed under pubsub.mu
	once     sync.Once

	mu sync.Mutex
	seen
}

// seen is what CLIENT LIST shows of a client to others.
type seen struct {
	name, libName, libVer string
	db, protocol          int    // protocol: 2 or 3
	last                  string // command
	lastAt                time.Time
	nsubs                 [kinds]int
	replica               *master.Replica // nil for none
	relay                 *relay.Relay    // of the replica
}

func (s *Server) newClient(conn net.Conn, tlsConfig *tls.Config) *client {
	now := time.Now()
	c := &client{
		conn: conn, s: s, id: s.lastID.Add(1), overTLS: tlsConfig != nil, made: now, authed: !s.password.Load().set,
		queries: resp.QueryReader{MaxQuery: s.cfg.QueryBufferLimit},
		subs:    map[topic]struct{}{}, memory: account{b: &s.memory}, turn: turn{of: s.turns},
		seen: seen{protocol: 2, lastAt: now, last: "NULL"},
	}
	c.out.c = c
	if c.overTLS {
		c.conn = tls.Server(conn, tlsConfig)
	}
	return c
}

// serve answers the client until one of both sides ends the connection.
func (c *client) serve() {
	defer c.leave()
	if !c.greet() {
		return
	}
	for !c.closing {
		args, err := c.next()
		if err != nil {
			c.part(err)
			break
		}
		c.answer(args)
		if c.accepted != nil {
			break
		}
	}
	c.turn.give()
	c.out.flush()
	if c.accepted != nil {
		c.feed()
	}
}

// greet makes the TLS handshake; false when it failed.
func (c *client) greet() bool {
	t, ok := c.conn.(*tls.Conn)
	if !ok {
		return true
	}
	_ = t.SetDeadline(time.Now().Add(handshakeTimeout))
	err := t.Handshake()
	_ = t.SetDeadline(time.Time{})
	var header tls.RecordHeaderError
	switch {
	case err == nil:
		return true
	case errors.As(err, &header) && header.Conn != nil:
		c.s.log(slog.LevelInfo, "a client speaks plain RESP to tls-port", "addr", c.addr())
		_ = header.Conn.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = header.Conn.Write([]byte("-ERR this port speaks TLS (tls-port): connect with redis-cli --tls, or to the plain port\r\n"))
	case !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed):
		c.s.log(slog.LevelInfo, "a TLS handshake failed", "addr", c.addr(), "why", err.Error())
	}
	return false
}

// next gives the arguments of the next query. They are good until it is called
// again.
func (c *client) next() ([][]byte, error) {
	for {
		if c.start < c.end {
			args, n, err := c.query()
			if err != nil {
				return nil, err
			}
			c.start += n
			if len(args) > 0 {
				return args, c.hold(len(c.buf))
			}
			if n > 0 && c.accepted != nil { // a replica that loads says that it lives
				return nil, nil
			}
			if n > 0 { // an empty query is no command
				continue
			}
		}
		c.turn.give()
		c.out.flush()
		err := c.more()
		c.turn.take()
		if err != nil {
			return nil, err
		}
	}
}

// tlsHandshake is the first byte of a TLS connection (RFC 8446, section 5.1).
const tlsHandshake = 0x16

const errNotTLS = resp.QueryError("this port speaks plain RESP, not TLS: see tls-port")

// query looks for a query in what was read.
func (c *client) query() (args [][]byte, n int, err error) {
	b := c.buf[c.start:c.end]
	if b[0] == tlsHandshake && !c.overTLS {
		c.s.log(slog.LevelInfo, "a client speaks TLS to the plain port", "addr", c.addr())
		return nil, 0, errNotTLS
	}
	c.queries.Unauthenticated = !c.authed
	return c.queries.Next(b)
}

// more reads from the connection. The client does not have its turn.
func (c *client) more() error {
	switch {
	case c.start == c.end:
		c.start, c.end = 0, 0
		if cap(c.buf) > keepSize {
			c.buf = nil
		}
	case c.start > 0 && c.end == len(c.buf):
		c.end = copy(c.buf, c.buf[c.start:c.end])
		c.start = 0
	}
	size := len(c.buf)
	if c.end == size { // a query that does not end is refused before it is much longer than its limit
		size += max(readSize, size)
	}
	if err := c.hold(size); err != nil {
		return err
	}
	c.buf = append(c.buf, make([]byte, size-len(c.buf))...)
	if c.s.cfg.Timeout > 0 {
		deadline := time.Time{}
		if len(c.subs) == 0 && c.accepted == nil { // a subscriber and a replica may be idle, as in Redis
			deadline = time.Now().Add(c.s.cfg.Timeout)
		}
		_ = c.conn.SetReadDeadline(deadline)
	}
	n, err := c.conn.Read(c.buf[c.end:])
	c.batch = 0
	c.end += n
	c.s.count().In.Add(int64(n))
	c.s.count().Reads.Add(1)
	if n > 0 {
		return nil
	}
	return err
}

// hold charges the client with the memory of its queries: a buffer of so many
// bytes, and what the reader needs. Little is free: maxclients bounds that.
func (c *client) hold(buffer int) error {
	want := int64(buffer) + c.queries.Held()
	if want <= keepSize {
		want = 0
	}
	switch {
	case want > c.charged && !c.memory.take(want-c.charged):
		return errMemory
	case want < c.charged:
		c.memory.give(c.charged - want)
	}
	c.charged = want
	return nil
}

// answer executes a command and hands its reply over.
func (c *client) answer(args [][]byte) {
	defer func() {
		if r := recover(); r != nil {
			c.s.cfg.Log.Error("a command broke down: its client is cut", "command", printableName(args[0]), "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			c.closing = true
			c.cut()
		}
	}()
	if c.batch++; c.batch > 1 { // others have their turn between the commands of a batch
		c.turn.waiting(func() {})
	}
	c.reply.b = c.reply.b[:0]
	c.s.process(c, args)
	c.emit(c.reply.b)
	if cap(c.reply.b) > keepSize {
		c.reply.b = nil
	}
}

// emit hands a reply over to be written.
func (c *client) emit(b []byte) {
	charged := int64(0)
	if n := int64(len(b)); n > flushAt {
		if c.memory.take(n) {
			charged = n
		} else {
			c.closing = true
			b = redcon.AppendError(nil, "ERR "+errMemory.Error())
		}
	}
	if c.out.reply(b, charged) > flushAt {
		c.turn.waiting(c.out.flush)
	}
}

// part tells a client why what it sent costs it the connection. A client that is
// gone is told nothing.
func (c *client) part(err error) {
	why := ""
	switch {
	case errors.Is(err, resp.ErrQueryTooLong):
		why = fmt.Sprintf("the command is longer than client-query-buffer-limit, which is %d bytes", c.s.cfg.QueryBufferLimit)
	case errors.Is(err, resp.ErrProtocol), errors.Is(err, errMemory):
		why = err.Error()
	default:
		return
	}
	c.s.count().ProtocolErrors.Add(1)
	c.s.log(slog.LevelDebug, "a client is cut", "addr", c.addr(), "why", why)
	c.emit(redcon.AppendError(nil, "ERR "+why))
}

// leave ends the client's goroutine.
func (c *client) leave() {
	c.turn.give()
	c.cut()
	c.s.pubsub.leave(c)
}

// cut ends the connection. Any goroutine may call it; the client's own goroutine
// then cleans up.
func (c *client) cut() {
	c.once.Do(func() {
		c.out.close()
		c.s.forget(c)
		c.memory.close()
		if t, ok := c.conn.(*tls.Conn); ok {
			_ = t.NetConn().Close() // close_notify would wait for a peer that does not read
			return
		}
		_ = c.conn.Close()
	})
}

func (c *client) addr() string { return c.conn.RemoteAddr().String() }

// snapshot is a copy of what others may read.
func (c *client) snapshot() seen {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen
}

// change changes what others may read.
func (c *client) change(f func(*seen)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.seen)
}

func (v *seen) subscribed() bool { return v.nsubs != [kinds]int{} }

// lower is a name in small letters; names are ASCII.
func lower(b []byte) string { return strings.ToLower(string(b)) }

// printableName is a word of a query, fit for logs and error replies.
func printableName(b []byte) string {
	return units.Printable(string(b[:min(len(b), maxName)]), maxName)
}
