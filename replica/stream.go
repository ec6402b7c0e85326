package replica

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"replicad/anet"
	"replicad/eventloop"
	"replicad/replica/resp"
)

// beginStream enters STREAM: the loop watches the socket again, and every byte
// from here on belongs to the history. untold are bytes of the stream that the
// transfer read and no observer has seen. (replicationCreateMasterClient)
func (l *Link) beginStream(c *conn, resumed bool, untold []byte) {
	c.deadline.Stop()
	c.silence.Stop()
	c.lastByte = time.Now()
	c.streams, c.resumed, c.begun = true, resumed, l.taken()
	l.enter(Sync, Stream)
	if l.late {
		l.noInfo, l.late = false, false
	}
	if c.mute {
		l.note("REPLCONF was refused", errMute)
	}
	if len(untold) > 0 {
		l.emit(Event{Kind: Received, Data: untold, Bytes: int64(len(untold))})
	}
	if err := l.loop.CreateFileEvent(c.fd, eventloop.Readable, l.streamEvent); err != nil {
		l.fail(err)
		return
	}
	l.emit(Event{Kind: Registered, FD: c.fd, Registered: l.loop.FileEvents(c.fd)})
	c.cron.Reset(tick)
	l.sendAck(c)
	if l.conn == c && len(c.leftover) > 0 {
		l.readStream(c)
	}
}

// streamEvent is the file event of the STREAM phase.
func (l *Link) streamEvent(fd int, mask eventloop.Mask) {
	c := l.conn
	if mask&eventloop.Writable != 0 {
		l.flush(c)
	}
	if mask&eventloop.Readable != 0 && l.conn == c && !c.paused {
		l.readStream(c)
	}
}

// readStream reads the socket once, behind the bytes that were read together
// with a reply of the handshake or with the payload.
func (l *Link) readStream(c *conn) {
	for more := true; more; {
		buf := l.store.Buffer()
		if len(buf) == 0 {
			l.pause(c)
			return
		}
		more = len(c.leftover) > 0
		if _, err := l.receive(c, buf); err != nil && !errors.Is(err, anet.ErrWouldBlock) {
			l.fail(err)
			return
		}
		if c.ackAt >= 0 {
			l.stored = l.store.Progress()
			if l.answerGetAck(c); l.conn != c {
				return
			}
		}
	}
}

// receive reads once into buf, which is the store's, and commits what it read.
// The error is ErrClosed at the end of the connection.
func (l *Link) receive(c *conn, buf []byte) (n int, err error) {
	buf = buf[:min(len(buf), maxRead)]
	if len(c.leftover) > 0 {
		n = copy(buf, c.leftover)
		c.leftover = c.leftover[n:]
		return n, l.take(c, buf[:n])
	}
	switch n, err = anet.Read(c.fd, buf); {
	case err == io.EOF:
		return 0, ErrClosed
	case err != nil:
		return 0, err
	}
	c.lastByte = time.Now()
	l.emit(Event{Kind: Received, Data: buf[:n], Bytes: int64(n)})
	return n, l.take(c, buf[:n])
}

// take walks p, which lies in the store's buffer, and commits it. Where p breaks
// the protocol, take commits what is before the offending byte, and the error
// says so.
func (l *Link) take(c *conn, p []byte) error {
	good, err := 0, error(nil)
	for good < len(p) && err == nil {
		var n int
		var kind resp.Kind
		n, kind, err = l.scanner.Scan(p[good:])
		good += n
		if kind == resp.GetAck {
			// "Redis answers the offset before the GETACK command."
			c.ackLast = l.pos.Offset + l.scanner.CommandStart()
			if c.ackAt < 0 {
				c.ackAt = c.ackLast
			}
		}
	}
	if good > 0 {
		b := l.scanner.Boundary()
		l.store.Commit(good, Boundary{Offset: l.pos.Offset + b.Offset, DB: b.DB})
	}
	if err != nil {
		return fmt.Errorf("the stream is damaged behind offset %d: %w", l.taken(), err)
	}
	return nil
}

// pause drops the read event, for the store has no room.
func (l *Link) pause(c *conn) {
	c.paused = true
	l.loop.DeleteFileEvent(c.fd, eventloop.Readable)
	l.emit(Event{Kind: Paused, Registered: l.loop.FileEvents(c.fd)})
}

// unpause registers the read event again once the store has room.
func (l *Link) unpause(c *conn) {
	if len(l.store.Buffer()) == 0 {
		return
	}
	c.paused = false
	c.lastByte = time.Now()
	if err := l.loop.CreateFileEvent(c.fd, eventloop.Readable, l.streamEvent); err != nil {
		l.fail(err)
		return
	}
	l.emit(Event{Kind: Unpaused, Registered: l.loop.FileEvents(c.fd)})
	if len(c.leftover) > 0 {
		l.readStream(c)
	}
}

// everySecond does each second what replicationCron does in Redis: it sends an
// ACK and ends a connection that timed out. It runs in STREAM, and while a base
// is made durable.
func (l *Link) everySecond() {
	c := l.conn
	if l.phase == Stream && l.channel == nil && !c.paused && time.Since(c.lastByte) > l.cfg.ReplTimeout {
		l.fail(fmt.Errorf("%w: no byte for %v", ErrDeadline, time.Since(c.lastByte).Round(time.Millisecond)))
		return
	}
	l.sendAck(c)
	if l.conn == c {
		c.cron.Reset(tick)
	}
}

// safe is the offset that ACK may name: that of the last byte stored, or with
// appendfsync always that of the last byte fsynced.
func (l *Link) safe() int64 {
	if l.cfg.AckDurable {
		return l.stored.Durable
	}
	return l.stored.Stored
}

// answerGetAck answers a GETACK once everything before the GETACK is safe, and
// again once that is durable: WAITAOF waits for the FACK.
func (l *Link) answerGetAck(c *conn) {
	if l.phase != Stream || l.channel != nil {
		return // its base is not in place
	}
	if c.ackAt >= 0 && l.safe() >= c.ackAt {
		at := min(l.safe(), c.ackLast)
		c.ackAt = -1
		if at < c.ackLast {
			c.ackAt = c.ackLast
		}
		if l.stored.Durable < at && c.fackAt < 0 {
			c.fackAt = at
		}
		l.ack(c, at, min(l.stored.Durable, at))
	}
	if l.conn != c {
		return // the ACK could not be sent
	}
	if c.fackAt >= 0 && l.stored.Durable >= c.fackAt {
		c.fackAt = -1
		if l.stored.Durable < c.ackLast {
			c.fackAt = c.ackLast
		}
		l.sendAck(c)
	}
}

// sendAck tells the master how far the store is (replicationSendAck). While a
// base is made durable, ACK names 0: the master must hear an ACK to begin its
// stream behind an $EOF payload, but WAIT must not count a base that a kill -9
// would take away.
func (l *Link) sendAck(c *conn) {
	if l.channel != nil {
		if l.channel.received {
			l.ack(c, 0, 0)
		}
		return
	}
	if c.goingBack {
		l.ack(c, c.fork.Offset, 0)
		return
	}
	if l.phase == Transfer {
		if c.full.ReplID != "" || c.full.Size < 0 {
			l.ack(c, 0, 0)
		}
		return
	}
	l.ack(c, l.safe(), l.stored.Durable)
}

// ack queues REPLCONF ACK <offset> FACK <durable>. Where the ACK before is still
// unsent, the new one is dropped: the next second brings another.
//
// A master without PSYNC gets no ACK, with one exception: after an $EOF payload
// the master waits for an ACK, and overlooks one that comes before the master
// has reaped the child that sent the payload (replconfCommand). So ACKs are sent
// until its stream begins.
//
// A master that refuses REPLCONF would cut the link at the first ACK, or answer
// it in the middle of the stream. A bare newline keeps the link as well
// (processInlineBuffer in Redis' networking.c).
func (l *Link) ack(c *conn, offset, durable int64) {
	if !l.known && l.phase == Stream && (c.full.Size >= 0 || l.scanner.Scanned() > 0) {
		return
	}
	if len(c.out) > 0 {
		l.flush(c)
		return
	}
	if c.mute {
		c.out = append(c.out, '\n')
		l.emit(Event{Kind: Sent, Data: c.out, Bytes: int64(len(c.out))})
		l.flush(c)
		return
	}
	c.out = resp.AppendCommand(c.out, "REPLCONF", "ACK", strconv.FormatInt(offset, 10), "FACK", strconv.FormatInt(durable, 10))
	l.emit(Event{Kind: Sent, Data: c.out, Bytes: int64(len(c.out))})
	l.emit(Event{Kind: Acknowledged, Offset: offset, Durable: durable})
	l.flush(c)
}

// flush writes what is queued, and registers the write event for the rest.
func (l *Link) flush(c *conn) {
	n, err := anet.Write(c.fd, c.out)
	if err != nil && !errors.Is(err, anet.ErrWouldBlock) {
		l.fail(err)
		return
	}
	c.out = append(c.out[:0], c.out[n:]...)
	if l.phase != Stream { // the socket is lent; the next second tries again
		return
	}
	registered := l.loop.FileEvents(c.fd)&eventloop.Writable != 0
	switch {
	case len(c.out) > 0 && !registered:
		if err := l.loop.CreateFileEvent(c.fd, eventloop.Writable, l.streamEvent); err != nil {
			l.fail(err)
		}
	case len(c.out) == 0 && registered:
		l.loop.DeleteFileEvent(c.fd, eventloop.Writable)
	}
}
