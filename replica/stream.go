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

func (l *Link) newScanner() {
	l.scanner, l.counted = resp.NewScanner(l.pos.DB, l.cfg.Limits), 0
}

// beginStream enters STREAM: the socket is the loop's again, and every byte
// from here on belongs to the history. untold are bytes of it that the transfer
// read and no observer has seen.
func (l *Link) beginStream(resumed bool, untold []byte) {
	l.resumed = resumed
	l.deadline.Stop()
	l.progress.Stop()
	l.lastByte = time.Now()
	l.begun = l.taken()
	l.enter(Sync, Stream)
	if len(untold) > 0 {
		l.emit(Event{Kind: Received, Data: untold, Bytes: int64(len(untold))})
	}
	if err := l.loop.CreateFileEvent(l.fd, eventloop.Readable, l.streamEvent); err != nil {
		l.fail(err)
		return
	}
	l.emit(Event{Kind: Registered, FD: l.fd, Registered: l.loop.FileEvents(l.fd)})
	l.cron.Reset(tick)
	l.sendAck()
	if l.phase == Stream && len(l.leftover) > 0 {
		l.readStream()
	}
}

// streamEvent is the file event of the STREAM phase.
func (l *Link) streamEvent(fd int, mask eventloop.Mask) {
	attempt := l.attempt
	if mask&eventloop.Writable != 0 {
		l.flush()
	}
	if mask&eventloop.Readable != 0 && l.attempt == attempt && !l.paused {
		l.readStream()
	}
}

// readStream reads once into the store's buffer. What was read together with a
// reply of the handshake goes first.
func (l *Link) readStream() {
	for {
		buf := l.store.Buffer()
		if len(buf) == 0 {
			l.pause()
			return
		}
		buf = buf[:min(len(buf), maxRead)]
		if len(l.leftover) > 0 {
			n := copy(buf, l.leftover)
			l.leftover = l.leftover[n:]
			if !l.take(buf[:n]) {
				return
			}
			continue
		}
		n, err := anet.Read(l.fd, buf)
		switch {
		case err == nil:
			l.lastByte = time.Now()
			l.emit(Event{Kind: Received, Data: buf[:n], Bytes: int64(n)})
			l.take(buf[:n])
		case errors.Is(err, anet.ErrWouldBlock):
		case errors.Is(err, io.EOF):
			l.fail(ErrClosed)
		default:
			l.fail(err)
		}
		return
	}
}

// take walks p, which lies in the store's buffer, and commits it. A chunk that
// breaks the protocol is not committed: the history ends before it.
func (l *Link) take(p []byte) bool {
	for rest := p; len(rest) > 0; {
		n, kind, err := l.scanner.Scan(rest)
		if err != nil {
			at := l.taken()
			l.fail(fmt.Errorf("the stream is damaged near offset %d: %w", at, err))
			return false
		}
		if kind == resp.GetAck && !l.cfg.Aside {
			// "Redis answers the offset before the GETACK command."
			l.ackLast = l.pos.Offset + l.scanner.CommandStart()
			if l.ackAt < 0 {
				l.ackAt = l.ackLast
			}
		}
		rest = rest[n:]
	}
	b := l.scanner.Boundary()
	l.store.Commit(len(p), Boundary{Offset: l.pos.Offset + b.Offset, DB: b.DB})
	if l.ackAt >= 0 {
		l.stored = l.store.Progress()
		l.answerGetAck()
	}
	return l.phase == Stream
}

// pause drops the read event: the store has no room.
func (l *Link) pause() {
	if l.paused {
		return
	}
	l.paused = true
	l.loop.DeleteFileEvent(l.fd, eventloop.Readable)
	l.emit(Event{Kind: Paused, Registered: l.loop.FileEvents(l.fd)})
}

func (l *Link) unpause() {
	if len(l.store.Buffer()) == 0 {
		return
	}
	l.paused = false
	l.lastByte = time.Now()
	if err := l.loop.CreateFileEvent(l.fd, eventloop.Readable, l.streamEvent); err != nil {
		l.fail(err)
		return
	}
	l.emit(Event{Kind: Unpaused, Registered: l.loop.FileEvents(l.fd)})
	if len(l.leftover) > 0 {
		l.readStream()
	}
}

// everySecond is the time event that replicationCron is in Redis: ACK, and the
// link's time-out. It runs while streaming, and while a base is made durable.
func (l *Link) everySecond() {
	if l.phase == Stream && !l.paused && time.Since(l.lastByte) > l.cfg.ReplTimeout {
		l.fail(fmt.Errorf("%w: no byte for %v", ErrDeadline, time.Since(l.lastByte).Round(time.Millisecond)))
		return
	}
	attempt := l.attempt
	l.sendAck()
	if l.attempt == attempt {
		l.cron.Reset(tick)
	}
}

// safe is the offset that ACK may name: what is stored, or what is durable
// under appendfsync always.
func (l *Link) safe() int64 {
	if l.cfg.AckDurable {
		return l.stored.Durable
	}
	return l.stored.Stored
}

// answerGetAck answers a GETACK once everything before it is safe, and again
// once it is durable: WAITAOF waits for the FACK.
func (l *Link) answerGetAck() {
	if l.ackAt >= 0 && l.safe() >= l.ackAt {
		at := min(l.safe(), l.ackLast)
		l.ackAt = -1
		if at < l.ackLast {
			l.ackAt = l.ackLast
		}
		if l.stored.Durable < at && l.fackAt < 0 {
			l.fackAt = at
		}
		l.ack(at, min(l.stored.Durable, at))
	}
	if l.fackAt >= 0 && l.stored.Durable >= l.fackAt {
		l.fackAt = -1
		if l.stored.Durable < l.ackLast {
			l.fackAt = l.ackLast
		}
		l.sendAck()
	}
}

// sendAck tells the master how far the archive is (replicationSendAck). While
// a base is on its way to the disk that is its offset; under appendfsync
// always it is not safe yet, but the master must hear something to start its
// stream: 0.
func (l *Link) sendAck() {
	if l.phase == Transfer {
		if l.full.ReplID == "" && l.full.Size >= 0 {
			return
		}
		at := l.full.Offset
		if l.cfg.AckDurable {
			at = 0
		}
		l.ack(at, 0)
		return
	}
	if l.cfg.Aside {
		l.ack(l.full.Offset, 0)
		return
	}
	l.ack(l.safe(), l.stored.Durable)
}

// ack queues REPLCONF ACK <offset> FACK <durable>. A master without PSYNC gets
// none, but behind an $EOF payload until its stream begins: it waits for one,
// and overlooks one that comes before it has reaped the child that sent the
// payload (replconfCommand). One that finds the one before it still unsent is
// dropped: the next second brings another.
func (l *Link) ack(offset, durable int64) {
	if l.noOffsets && l.phase == Stream && (l.full.Size >= 0 || l.scanner.Scanned() > 0) {
		return
	}
	if len(l.out) > 0 { // maybe since the socket was lent
		l.flush()
		return
	}
	l.out = resp.AppendCommand(l.out, "REPLCONF", "ACK", strconv.FormatInt(offset, 10), "FACK", strconv.FormatInt(durable, 10))
	l.emit(Event{Kind: Sent, Data: l.out, Bytes: int64(len(l.out))})
	l.emit(Event{Kind: Acknowledged, Offset: offset, Durable: durable})
	l.flush()
}

// flush writes what is queued, and registers the write event for the rest.
func (l *Link) flush() {
	n, err := anet.Write(l.fd, l.out)
	if err != nil && !errors.Is(err, anet.ErrWouldBlock) {
		l.fail(err)
		return
	}
	l.out = append(l.out[:0], l.out[n:]...)
	if l.phase != Stream { // the socket is lent: the next second tries again
		return
	}
	registered := l.loop.FileEvents(l.fd)&eventloop.Writable != 0
	switch {
	case len(l.out) > 0 && !registered:
		if err := l.loop.CreateFileEvent(l.fd, eventloop.Writable, l.streamEvent); err != nil {
			l.fail(err)
		}
	case len(l.out) == 0 && registered:
		l.loop.DeleteFileEvent(l.fd, eventloop.Writable)
	}
}
