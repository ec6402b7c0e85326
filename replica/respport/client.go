package respport

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tidwall/redcon"
)

const (
	readSize         = 4 << 10
	batchSize        = 16 << 10 // bytes of whole commands that redcon gets at a time
	flushAt          = 64 << 10 // bytes of replies that are held at most
	writeTimeout     = 10 * time.Second
	handshakeTimeout = 10 * time.Second
	// overhead is what an argument costs beside its bytes, in redcon's slices.
	overhead = 40
)

// client is a connection: the net.Conn that redcon has, which lets through
// nothing but whole commands of a bounded size, and what the commands remember.
// Fields belong to the connection's goroutine, but for those under mu.
type client struct {
	net.Conn // TCP, or TLS over it
	s        *Server
	id       int64
	fd       int
	overTLS  bool
	made     time.Time
	turn     turn
	batch    int // commands since bytes came last

	// Guard.
	greeted bool // the TLS handshake is over
	frame   framer
	buf     []byte
	start   int // of what is not handed over yet, in buf
	end     int
	ready   []byte // what redcon gets next
	highest int64  // what the largest command so far was charged; for the connection's life
	memory  account

	// Session.
	authed  bool
	reply   reply
	closing bool // when what is to be told is told
	silent  bool // CLIENT REPLY OFF
	skip    int  // CLIENT REPLY SKIP: replies that are not given, this one and the next
	held    int  // bytes of replies that redcon has and has not written
	tx      transaction
	subs    subscriptions          // changed under pubsub.mu
	out     atomic.Pointer[outbox] // of a client that is, or was, a subscriber

	writing sync.Mutex // redcon's replies, and the outbox
	once    sync.Once

	mu sync.Mutex
	seen
}

// seen is what CLIENT LIST tells; it is read by others.
type seen struct {
	name, libName, libVer string
	resp3                 bool
	db                    int
	last                  string // command
	lastAt                time.Time
	queued                int // commands of a transaction; -1 without one
	nsubs                 [kinds]int
	noEvict, noTouch      bool
	killed                string // why it was cut
}

func (s *Server) newClient(c net.Conn, overTLS bool) *client {
	now := time.Now()
	k := &client{
		Conn: c, s: s, id: s.lastID.Add(1), fd: descriptor(c), overTLS: overTLS, made: now, greeted: !overTLS,
		frame: framer{limit: s.cfg.QueryBufferLimit}, authed: !s.password.Load().set, memory: account{b: &s.memory}, turn: turn{of: s.turns},
		seen: seen{queued: -1, lastAt: now, last: "NULL"},
	}
	return k
}

// descriptor is the number that CLIENT LIST shows.
func descriptor(c net.Conn) int {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	fd := -1
	if sc, ok := c.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			_ = raw.Control(func(n uintptr) { fd = int(n) })
		}
	}
	return fd
}

// Read implements net.Conn: it gives nothing but whole commands, as arrays.
func (c *client) Read(p []byte) (int, error) {
	for len(c.ready) == 0 {
		if err := c.gather(); err != nil {
			return 0, c.part(err)
		}
	}
	n := copy(p, c.ready)
	c.ready = c.ready[n:]
	return n, nil
}

// part has the last word for a client whose bytes are no commands.
func (c *client) part(err error) error {
	var header tls.RecordHeaderError
	var protocol errProtocol
	switch {
	case errors.As(err, &protocol), errors.Is(err, errTooLarge), errors.Is(err, errMemory):
		c.s.stats.protocolErrors.Add(1)
		c.s.log(slog.LevelDebug, "a client is cut", "addr", c.RemoteAddr().String(), "why", err.Error())
		c.tell("-ERR " + err.Error() + "\r\n")
	case errors.As(err, &header) && header.Conn != nil:
		c.s.log(slog.LevelInfo, "a client speaks plain RESP to tls-port", "addr", c.RemoteAddr().String())
		_ = header.Conn.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = header.Conn.Write([]byte("-ERR this port speaks TLS (tls-port): connect with redis-cli --tls, or to the plain port\r\n"))
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed):
	case !c.greeted:
		c.s.log(slog.LevelInfo, "a TLS handshake failed", "addr", c.RemoteAddr().String(), "why", err.Error())
	}
	return io.EOF
}

// tell writes without redcon, between two commands.
func (c *client) tell(s string) {
	if o := c.out.Load(); o != nil {
		c.turn.waiting(func() {
			o.push([]byte(s), true)
			o.finish()
		})
		return
	}
	_, _ = c.Write([]byte(s))
}

// gather makes the next commands ready.
func (c *client) gather() error {
	if !c.greeted {
		if err := c.greet(); err != nil {
			return err
		}
	}
	from := c.start
	for c.start < c.end && c.start-from < batchSize {
		n, err := c.frame.next(c.buf[c.start:c.end], c.authed)
		switch {
		case err != nil && from < c.start: // what came before it is answered first
			c.ready = c.buf[from:c.start]
			return nil
		case err != nil:
			return c.explain(err)
		case n == 0:
			if from < c.start {
				c.ready = c.buf[from:c.start]
				return nil
			}
			return c.more()
		case c.frame.inline || c.frame.args == 0:
			if from < c.start {
				// It is looked at again when those before it are handed over.
				c.ready = c.buf[from:c.start]
				return nil
			}
			line := c.buf[c.start : c.start+n]
			c.start += n
			if c.frame.inline {
				return c.typed(line)
			}
			from = c.start // an empty array is no command
		default:
			if err := c.charge(n, c.frame.args); err != nil {
				return err
			}
			c.start += n
			if !c.authed { // the limits change when it is answered
				c.ready = c.buf[from:c.start]
				return nil
			}
		}
	}
	if from < c.start {
		c.ready = c.buf[from:c.start]
		return nil
	}
	return c.more()
}

// explain adds what a person should know to an error of the framer.
func (c *client) explain(err error) error {
	if c.end > c.start && c.isTLS(c.buf[c.start]) {
		return errNotTLS
	}
	if errors.Is(err, errTooLarge) {
		return fmt.Errorf("%w, which is %d bytes", err, c.frame.limit)
	}
	return err
}

const errNotTLS = errProtocol("this port speaks plain RESP, not TLS: see tls-port")

// isTLS says whether a request that begins so is a TLS handshake at the plain
// port (RFC 8446, 5.1).
func (c *client) isTLS(first byte) bool {
	if first != 0x16 || c.overTLS {
		return false
	}
	c.s.log(slog.LevelInfo, "a client speaks TLS to the plain port", "addr", c.RemoteAddr().String())
	return true
}

// typed makes an array of a line.
func (c *client) typed(line []byte) error {
	if c.isTLS(line[0]) {
		return errNotTLS
	}
	args, err := split(line)
	if err != nil || len(args) == 0 {
		return err
	}
	if err := c.charge(len(line), len(args)); err != nil {
		return err
	}
	p := redcon.AppendArray(nil, len(args))
	for _, a := range args {
		p = redcon.AppendBulk(p, a)
	}
	c.ready = p
	return nil
}

// more reads from the connection.
func (c *client) more() error {
	switch {
	case c.start == c.end:
		c.start, c.end = 0, 0
		if cap(c.buf) > batchSize {
			c.buf = nil
		}
	case c.start > 0 && c.end == len(c.buf):
		c.end = copy(c.buf, c.buf[c.start:c.end])
		c.start = 0
	}
	if c.end == len(c.buf) {
		if c.end > c.frame.limit {
			return c.explain(errTooLarge)
		}
		if err := c.charge(2*c.end, 0); err != nil {
			return err
		}
		c.buf = append(c.buf, make([]byte, max(readSize, c.end))...)
	}
	if c.s.cfg.Timeout > 0 {
		deadline := time.Time{}
		if c.subs.count() == 0 { // as in Redis, a subscriber may be idle
			deadline = time.Now().Add(c.s.cfg.Timeout)
		}
		_ = c.Conn.SetReadDeadline(deadline)
	}
	c.turn.give()
	n, err := c.Conn.Read(c.buf[c.end:])
	c.turn.take()
	c.batch = 0
	c.end += n
	c.s.stats.in.Add(int64(n))
	c.s.stats.reads.Add(1)
	if n > 0 {
		return nil
	}
	return err
}

// greet makes the TLS handshake.
func (c *client) greet() error {
	t, ok := c.Conn.(*tls.Conn)
	if !ok {
		c.greeted = true
		return nil
	}
	_ = t.SetDeadline(time.Now().Add(handshakeTimeout))
	if err := t.Handshake(); err != nil {
		return err
	}
	c.greeted = true
	return t.SetDeadline(time.Time{})
}

// charge counts what a command of so many bytes and arguments makes us hold:
// here, in redcon, which keeps its buffer for the connection's life, and in the
// copies it makes. Small ones are free: maxclients bounds them.
func (c *client) charge(bytes, args int) error {
	want := int64(3*bytes + overhead*args)
	if want <= 3*readSize || want <= c.highest {
		return nil
	}
	if !c.memory.take(want - c.highest) {
		return errMemory
	}
	c.highest = want
	return nil
}

// Write implements net.Conn, for redcon. What the socket takes at once is written
// in the client's turn.
func (c *client) Write(p []byte) (int, error) {
	n := 0
	if !c.overTLS && c.out.Load() == nil {
		n = tryWrite(c.Conn, p)
		c.s.stats.out.Add(int64(n))
	}
	if n == len(p) {
		c.s.stats.writes.Add(1)
		return n, nil
	}
	var more int
	var err error
	c.turn.waiting(func() { more, err = c.put(p[n:]) })
	return n + more, err
}

// put writes all. A client that does not take what it asked for is cut.
func (c *client) put(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	_ = c.Conn.SetWriteDeadline(time.Now().Add(c.s.writeWithin))
	n, err := c.Conn.Write(p)
	c.s.stats.out.Add(int64(n))
	c.s.stats.writes.Add(1)
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.s.stats.unread.Add(1)
		}
		c.cut("it does not read its replies")
	}
	return n, err
}

// Close implements net.Conn: redcon's goroutine is done.
func (c *client) Close() error {
	c.turn.give()
	c.cut("")
	c.s.pubsub.leave(c)
	return nil
}

// cut ends the connection, from any goroutine. Its own one then cleans up.
func (c *client) cut(why string) {
	c.once.Do(func() {
		c.mu.Lock()
		c.killed = why
		c.mu.Unlock()
		if o := c.out.Load(); o != nil {
			o.close()
		}
		c.s.forget(c)
		c.memory.close()
		if t, ok := c.Conn.(*tls.Conn); ok {
			_ = t.NetConn().Close() // close_notify would wait for who does not read
			return
		}
		_ = c.Conn.Close()
	})
}

// emit hands a reply over.
func (c *client) emit(conn redcon.Conn, b []byte) {
	if c.skip > 0 {
		c.skip--
		return
	}
	if c.silent || len(b) == 0 {
		return
	}
	if o := c.out.Load(); o != nil {
		c.turn.waiting(func() { o.push(b, true) })
		return
	}
	large := int64(len(b))
	if large > flushAt && !c.memory.take(large) {
		c.closing = true
		conn.WriteError("ERR " + errMemory.Error())
		return
	}
	conn.WriteRaw(b)
	if c.held += len(b); c.held > flushAt {
		c.flush(conn)
	}
	if large > flushAt {
		c.memory.give(large)
	}
}

// flush writes what redcon holds.
func (c *client) flush(conn redcon.Conn) {
	c.held = 0
	if w := redcon.BaseWriter(conn); w != nil {
		_ = w.Flush() // who does not read is cut by Write
	}
}

// note is what CLIENT LIST will tell of a command.
func (c *client) note(name string) {
	c.mu.Lock()
	c.last, c.lastAt = name, time.Now()
	c.mu.Unlock()
}

// snapshot is what CLIENT LIST may read.
func (c *client) snapshot() seen {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen
}

// kind is the type of a client as CLIENT LIST TYPE names them.
func (v *seen) kind() string {
	if v.subscribed() {
		return "pubsub"
	}
	return "normal"
}

func (v *seen) subscribed() bool { return v.nsubs != [kinds]int{} }

// lower is a name in small letters; names are ASCII.
func lower(b []byte) string { return strings.ToLower(string(b)) }

func (c *client) snapshotRESP3() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.resp3
}
