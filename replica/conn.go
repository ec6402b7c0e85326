package replica

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"syscall"
	"time"

	"replicad/anet"
	"replicad/anet/tunnel"
	"replicad/eventloop"
	"replicad/replica/resp"
)

// conn is what lives as long as one attempt to follow the master: from the
// resolution of its name to the end of the connection. The next attempt begins
// with a new conn, so nothing of the one before is left in it. What a goroutine
// posts names the conn that it is about; where that is no longer Link.conn, the
// attempt has ended meanwhile.
type conn struct {
	cancel    context.CancelFunc // ends the resolution of the name
	connector *anet.Connector    // goes through the addresses of the name
	endpoint  anet.Endpoint      // the address that fd is connected to
	fd        int                // -1 without a socket
	noRoom    error              // why a full sync would find no room; nil where it may
	tunnel    *tunnel.Tunnel     // what fd leads into under TLS, else nil
	lastByte  time.Time          // when the master was heard last

	deadline *eventloop.Timer // of the current state or phase
	cron     *eventloop.Timer // each second in STREAM, and while a base is made durable
	progress *eventloop.Timer // while a transfer runs
	again    *eventloop.Timer // asks INFO again
	silence  *eventloop.Timer // tells that the link waits for a sync

	// Handshake.
	lines      resp.LineReader
	steps      []HandshakeStep // whose replies are awaited, in order
	mute       bool            // the master refuses REPLCONF as a whole
	password   string          // that AUTH named; SetCredentials may have come since
	authReply  byte            // the first byte of the reply to AUTH; 0 before it came
	authHidden bool            // what follows of that reply may quote the password
	useSync    bool            // the master does not know PSYNC: SYNC was sent
	asked      time.Time       // when the steps were sent first
	info       *infoReply      // comes in; nil before and after
	master     Replication     // what the master's INFO said
	fork       *Position       // where the history is to be continued, before its end; nil for the end
	goingBack  bool            // the store goes back to the fork
	besides    []string        // commands of the main channel beside an RDB channel, whose replies are awaited
	waited     time.Time       // when PSYNC or SYNC was sent
	full       FullSync

	transfer *transfer // has the socket; nil without a transfer

	// Stream.
	streams  bool   // what comes from the socket goes on the store's history
	unread   int    // of a connection that has ended: bytes in the kernel
	resumed  bool   // STREAM was entered by a partial resync
	begun    int64  // taken() when STREAM was entered
	leftover []byte // stream bytes that were read before STREAM was entered
	paused   bool   // the read event is dropped
	out      []byte // what is to be written
	ackAt    int64  // the oldest GETACK without an answer waits for this offset; -1 for none
	ackLast  int64  // the offset of the newest GETACK
	fackAt   int64  // an answered GETACK waits for this offset to be durable; -1 for none
}

func (l *Link) newConn(cancel context.CancelFunc) *conn {
	return &conn{
		cancel: cancel, fd: -1, ackAt: -1, fackAt: -1,
		deadline: l.loop.NewTimer(l.deadlinePassed),
		cron:     l.loop.NewTimer(l.everySecond),
		progress: l.loop.NewTimer(l.transferProgress),
		again:    l.loop.NewTimer(l.askAgain),
		silence:  l.loop.NewTimer(l.tellWait),
	}
}

// disconnect forgets the connection and closes its socket, whatever the cause.
// While a transfer has the socket, transferEnded does that.
func (l *Link) disconnect() {
	c := l.conn
	if c == nil {
		return
	}
	l.conn = nil
	c.cancel()
	c.deadline.Stop()
	c.cron.Stop()
	c.progress.Stop()
	c.again.Stop()
	c.silence.Stop()
	switch {
	case c.transfer == nil:
		l.drain(c)
	case !c.streams:
		c.transfer.cancel() // the goroutine wakes, ends, and posts transferEnded
	}
}

// drain closes the socket of a connection that has ended. Of a stream, it first
// reads what the kernel has received: for the master those bytes are delivered,
// and it may not be there to send them again. Where the store has no room for
// them yet, or a tunnel has not brought them yet, the link is busy until drainOn
// has read them.
func (l *Link) drain(c *conn) {
	if c.streams && !l.needReset {
		_ = l.loop.DeleteFileEvent(c.fd, eventloop.Readable|eventloop.Writable)
		c.unread = anet.Unread(c.fd)
		if c.tunnel != nil { // it holds bytes, too: it brings them, and then the end
			c.unread = math.MaxInt
			_ = c.tunnel.CloseWrite(c.fd)
		}
		if !l.readOut(c) {
			l.ending, l.busy = c, true
			c.deadline.Reset(l.cfg.ReplSyncioTimeout)
			return
		}
	}
	l.closeSocket(c)
}

// drainOn goes on with a drain that had to wait.
func (l *Link) drainOn() {
	if l.readOut(l.ending) {
		l.drained()
	}
}

// drainLate is the deadline of a drain. It ends a drain that waits for the other
// side. Where the store has no room, another connection would not help: only a
// link that was stopped gives the bytes up then.
func (l *Link) drainLate() {
	if len(l.store.Buffer()) == 0 && !l.needReset && !l.stopped {
		l.ending.deadline.Reset(l.cfg.ReplSyncioTimeout)
		return
	}
	l.drained()
}

func (l *Link) drained() {
	c := l.ending
	l.ending = nil
	c.deadline.Stop()
	l.closeSocket(c)
	l.idle()
}

// readOut reads what is left of a stream that has ended. It is false where it
// must go on later: when the store has room, or the tunnel something to read.
func (l *Link) readOut(c *conn) bool {
	for (len(c.leftover) > 0 || c.unread > 0) && !l.needReset {
		buf := l.store.Buffer()
		if len(buf) == 0 {
			_ = l.loop.DeleteFileEvent(c.fd, eventloop.Readable)
			return l.stopped && l.store.Progress().Stalled != nil
		}
		held := len(c.leftover)
		n, err := l.receive(c, buf)
		if held == 0 {
			c.unread -= n
		}
		switch {
		case errors.Is(err, anet.ErrWouldBlock) && c.tunnel != nil:
			return l.loop.CreateFileEvent(c.fd, eventloop.Readable, func(int, eventloop.Mask) { l.drainOn() }) != nil
		case errors.Is(err, resp.ErrProtocol):
			l.needReset = true
		case err != nil:
			return true
		}
	}
	return true
}

func (l *Link) closeSocket(c *conn) {
	if c.fd < 0 {
		return
	}
	l.loop.DeleteFileEvent(c.fd, eventloop.Readable|eventloop.Writable)
	anet.Close(c.fd)
	c.fd = -1
}

// tune sets the options of the connection's socket. A refusal never matters.
func (l *Link) tune(c *conn) {
	_ = anet.EnableNoDelay(c.fd)
	_ = anet.KeepAlive(c.fd, l.cfg.ReplTimeout)
}

// openTunnel puts TLS between the link and its connection. The state machine
// sees another descriptor and nothing else. The TLS handshake takes its time
// from that of RECEIVE_PONG.
func (l *Link) openTunnel(c *conn) (err error) {
	l.tune(c) // as long as the descriptor is that of the connection
	l.loop.DeleteFileEvent(c.fd, eventloop.Readable|eventloop.Writable)
	files, host := l.cfg.TLS, l.cfg.Master.Host
	c.fd, c.tunnel, err = tunnel.Open(c.fd, func() (*tls.Config, error) { return files.Config(host) })
	if err != nil {
		return err
	}
	return l.loop.CreateFileEvent(c.fd, eventloop.Readable, l.syncWithMaster)
}

// explain gives the cause that the tunnel knows for what its descriptor said.
func (c *conn) explain(cause error) error {
	if c == nil || c.tunnel == nil || errors.Is(cause, ErrCut) {
		return cause
	}
	if is(ErrClosed, syscall.ECONNRESET, syscall.EPIPE)(cause) {
		return cmp.Or(c.tunnel.Err(), ErrClosed)
	}
	if errors.Is(cause, ErrDeadline) && !c.tunnel.Established() {
		return fmt.Errorf("%w: %w", cause, ErrNoHello)
	}
	return cause
}
