package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

func certPool(pem []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("it holds no PEM certificate")
	}
	return pool, nil
}

const (
	flushAt   = 64 << 10 // bytes of replies that are collected before they are written
	maxQueued = 4096     // commands of a MULTI
)

// client is one connection. What is not said to be anybody's belongs to its
// goroutine.
type client struct {
	s       *Server
	id      int64
	raw     net.Conn // as accepted
	conn    net.Conn // what is spoken on; with TLS another
	byTLS   bool
	addr    string
	laddr   string
	created time.Time
	q       *queries

	authenticated bool
	quit          bool // after the reply
	multi         bool
	multiFailed   bool
	multiCost     int
	queue         [][][]byte

	// What CLIENT LIST of others reads, too.
	mu     sync.Mutex
	name   string
	lib    string
	libVer string
	db     int
	last   string // command
	queued int    // of a MULTI; -1 outside
	proto  int
	seen   time.Time // when it asked last
	subs   int
	psubs  int
	killed atomic.Bool

	// The way out: of the client's goroutine and, once it subscribes, of the
	// one that delivers.
	out   sync.Mutex
	reply reply

	mail      chan []byte // messages for a subscriber; nil before it is one
	mailBytes atomic.Int64
	done      chan struct{}
}

func newClient(s *Server, conn net.Conn, byTLS bool) *client {
	now := time.Now()
	return &client{
		s: s, id: s.nextID.Add(1), raw: conn, conn: conn, byTLS: byTLS,
		addr: conn.RemoteAddr().String(), laddr: conn.LocalAddr().String(),
		created: now, seen: now, proto: 2, queued: -1, reply: reply{proto: 2}, done: make(chan struct{}),
		authenticated: *s.password.Load() == "",
	}
}

// Read is what queries are read by: what was answered goes out before the client
// is waited for.
func (c *client) Read(p []byte) (int, error) {
	if err := c.flush(); err != nil {
		return 0, err
	}
	deadline := time.Time{}
	if t := c.s.cfg.Timeout; t > 0 && !c.subscribed() {
		deadline = time.Now().Add(t)
	}
	_ = c.conn.SetReadDeadline(deadline)
	n, err := c.conn.Read(p)
	c.s.bytesIn.Add(int64(n))
	return n, err
}

// serve is the client's goroutine.
func (c *client) serve() {
	defer c.s.forget(c)
	defer close(c.done)
	defer func() { c.conn.Close() }()
	defer func() {
		if p := recover(); p != nil {
			c.s.cfg.Log.Error("a client's command broke the RESP port's code; the client is cut", "client", c.addr, "panic", p, "stack", string(debug.Stack()))
		}
	}()
	if c.byTLS && !c.handshake() {
		return
	}
	if c.s.protected(c.raw) {
		c.s.rejected.Add(1)
		c.reply.err(denied)
		_ = c.flush()
		return
	}
	c.q = newQueries(c, c.s.cfg.QueryBufferLimit)
	for !c.quit && !c.killed.Load() {
		args, err := c.q.next(c.authenticated)
		if err != nil {
			if errors.Is(err, errProtocol) {
				c.s.protocolFault.Add(1)
				c.answer(func(r *reply) { r.err("ERR " + err.Error()) })
			}
			break
		}
		c.answer(func(*reply) { c.dispatch(args) })
		if c.full() && c.flush() != nil {
			return
		}
	}
	_ = c.flush()
}

// handshake makes TLS of the connection.
func (c *client) handshake() bool {
	cfg, err := c.s.cfg.TLS()
	if err != nil {
		c.s.cfg.Log.Warn("the RESP port's TLS files can't be used: the client is cut", "client", c.addr, "error", err)
		return false
	}
	t := tls.Server(c.raw, cfg)
	_ = c.raw.SetDeadline(time.Now().Add(tlsWithin))
	if err := t.Handshake(); err != nil {
		c.s.cfg.Log.Debug("TLS handshake failed", "client", c.addr, "error", err)
		return false
	}
	_ = c.raw.SetDeadline(time.Time{})
	c.s.mu.Lock() // Close looks at conn
	c.conn = t
	c.s.mu.Unlock()
	return true
}

// answer writes a reply while nobody else writes.
func (c *client) answer(f func(r *reply)) {
	c.out.Lock()
	defer c.out.Unlock()
	f(&c.reply)
}

func (c *client) full() bool {
	c.out.Lock()
	defer c.out.Unlock()
	return len(c.reply.b) >= flushAt
}

// flush writes what was answered. A client that does not read it is cut.
func (c *client) flush() error {
	c.out.Lock()
	defer c.out.Unlock()
	if len(c.reply.b) == 0 {
		return nil
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(writeWithin))
	n, err := c.conn.Write(c.reply.b)
	c.s.bytesOut.Add(int64(n))
	if cap(c.reply.b) > 4*flushAt {
		c.reply.b = nil
	}
	c.reply.b = c.reply.b[:0]
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		c.s.cutOutput.Add(1)
	}
	return err
}

// kill ends a client from another one's goroutine.
func (c *client) kill() {
	c.killed.Store(true)
	c.raw.Close()
}

func (c *client) subscribed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.subs+c.psubs > 0
}

// kind is the client's type as CLIENT LIST TYPE has it.
func (c *client) kind() string {
	if c.subscribed() {
		return "pubsub"
	}
	return "normal"
}

// describe is the client's line of CLIENT LIST (catClientInfoString).
func (c *client) describe(now time.Time) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	flags := "N"
	if c.subs+c.psubs > 0 {
		flags = "P"
	}
	if c.queued >= 0 {
		flags = "x"
	}
	last := c.last
	if last == "" {
		last = "NULL"
	}
	s := fmt.Sprintf("id=%d addr=%s laddr=%s fd=-1 name=%s age=%d idle=%d flags=%s db=%d sub=%d psub=%d ssub=0 multi=%d qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r cmd=%s user=default redir=-1 resp=%d",
		c.id, c.addr, c.laddr, c.name, seconds(now.Sub(c.created)), seconds(now.Sub(c.seen)), flags, c.db, c.subs, c.psubs, c.queued, last, c.proto)
	return s + " lib-name=" + c.lib + " lib-ver=" + c.libVer
}

func seconds(d time.Duration) int64 { return int64(max(d, 0) / time.Second) }

// Errors of the commands' frame, as server.c (processCommand) has them.
const (
	errNoAuth  = "NOAUTH Authentication required."
	errContext = "ERR Can't execute '%s': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
)

// dispatch answers a command. (processCommand)
func (c *client) dispatch(args [][]byte) {
	name := strings.ToLower(string(args[0]))
	c.s.processed.Add(1)
	r := &c.reply
	before := len(r.b)
	defer func() {
		if len(r.b) > before && r.b[before] == '-' {
			c.s.errors.Add(1)
			if c.multi && name != "multi" && name != "exec" {
				c.multiFailed = true
			}
		}
	}()
	cmd := c.s.commands[name]
	c.mu.Lock()
	c.seen = time.Now()
	if c.last = name; cmd == nil {
		c.last = "NULL"
	} else if cmd.container && len(args) > 1 && cmd.has(string(args[1])) {
		c.last += "|" + strings.ToLower(string(args[1]))
	}
	c.mu.Unlock()
	if cmd == nil {
		c.foreign(name, args)
		return
	}
	if problem := c.refuses(cmd, args); problem != "" {
		r.err(problem)
		return
	}
	if c.multi && !cmd.now {
		c.enqueue(args)
		return
	}
	cmd.do(c, args)
}

// refuses says why a command that exists is not executed.
func (c *client) refuses(cmd *command, args [][]byte) string {
	if !c.authenticated && !cmd.open {
		return errNoAuth
	}
	if !cmd.takes(len(args)) {
		return wrongArgs(cmd.name)
	}
	if c.reply.proto == 2 && c.subscribed() && !cmd.whileSubscribed {
		return fmt.Sprintf(errContext, cmd.name)
	}
	if c.multi && cmd.notInMulti {
		return "ERR Command not allowed inside a transaction"
	}
	return ""
}

func wrongArgs(name string) string {
	return "ERR wrong number of arguments for '" + name + "' command"
}

// enqueue keeps a command of a MULTI.
func (c *client) enqueue(args [][]byte) {
	for _, a := range args {
		c.multiCost += len(a) + argCost
	}
	if len(c.queue) >= maxQueued || c.multiCost > c.s.cfg.QueryBufferLimit {
		c.reply.err("ERR the transaction is larger than client-query-buffer-limit")
		return
	}
	c.queue = append(c.queue, args)
	c.mu.Lock()
	c.queued = len(c.queue)
	c.mu.Unlock()
	c.reply.simple("QUEUED")
}

// endMulti forgets the transaction.
func (c *client) endMulti() {
	c.multi, c.multiFailed, c.multiCost, c.queue = false, false, 0, nil
	c.mu.Lock()
	c.queued = -1
	c.mu.Unlock()
}

// foreign answers what is no command of replicad's: a command on data, or none
// at all.
func (c *client) foreign(name string, args [][]byte) {
	r := &c.reply
	k, exists := c.s.known[name]
	switch {
	case exists && !k.takes(len(args)):
		if c.authenticated {
			r.err(wrongArgs(name))
			return
		}
		r.err(errNoAuth)
	case !c.authenticated:
		r.err(errNoAuth)
	case exists && slices.Contains(k.flags, "write"):
		r.err("READONLY You can't write against a read only replica.")
	case exists:
		r.err(fmt.Sprintf("ERR '%s' is not served: replicad is a replica that keeps its dataset on disk, not in memory. "+
			"To read it: replicad restore --out DIR, then redis-server --dir DIR --appendonly yes", name))
	default:
		r.err(unknown(args))
	}
}

// unknown is Redis' text for what is no command (commandCheckExistence).
func unknown(args [][]byte) string {
	var b strings.Builder
	for _, a := range args[1:] {
		if b.Len() >= 128 {
			break
		}
		b.WriteString("'" + clip(a, 128-b.Len()) + "' ")
	}
	return "ERR unknown command '" + clip(args[0], 128) + "', with args beginning with: " + b.String()
}

func clip(p []byte, n int) string { return string(p[:min(len(p), max(n, 0))]) }

func parseID(p []byte) (int64, bool) {
	n, err := strconv.ParseInt(string(p), 10, 64)
	return n, err == nil && n > 0
}
