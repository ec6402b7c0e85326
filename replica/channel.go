package replica

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"replicad/anet"
	"replicad/eventloop"
)

// A full sync on two connections, where the master knows it: the RDB comes on a
// connection of its own, straight from the master's child, and the stream beside
// it on the first one, the main channel. The master buffers nothing for this
// replica, whatever is written meanwhile.
//
// The RDB channel is a link that takes a base alone, with another REPLCONF. Once
// the fields that the RDB opens with are here, the log behind the base begins,
// and only then the main channel is read: the first segment's SELECT depends on
// them. There are two dialects:
//
//	Redis 8    the main channel's PSYNC is answered with +RDBCHANNELSYNC <client
//	           id>, which the RDB channel names; the RDB channel sends PSYNC; the
//	           stream comes on the main channel by itself
//	Valkey 8   the answer is +DUALCHANNELSYNC; the RDB channel sends SYNC, and is
//	           answered with the offset, the replication id and its own client id;
//	           that is told on the main channel, and PSYNC asks for the stream
//
// During the transfer nothing is acknowledged; from the end of the RDB on 0,
// until the base is in place. Where the main channel breaks, the RDB is taken
// to its end, and the link resumes at the end of the log. Where the RDB channel
// breaks, both begin anew.
//
// (Redis' replication.c: rdbChannelSendHandshake; Valkey's:
// dualChannelFullSyncWithMaster.)

// mostBroken is how many full syncs on two connections may fail in a row before
// the next one takes one connection.
const mostBroken = 2

// The capabilities that offer it. A master passes over what it does not know.
var twoChannels = []string{"capa", "rdb-channel-repl", "capa", "dual-channel"}

// channel is the RDB channel of a link, on the side of that link.
type channel struct {
	link     *Link
	main     *conn  // the connection that asked for it
	client   string // Valkey: the client id of the RDB channel, which the main channel names
	begun    bool   // the log has
	received bool   // the RDB is here
	err      error  // of the RDB channel
}

// sideOf is what makes a link the RDB channel of another one.
type sideOf struct {
	main   *Link
	client string // Redis: the client id of the main channel; "" for Valkey
}

// offersChannels says whether a full sync on two connections is offered.
func (l *Link) offersChannels() bool {
	return !l.known && l.cfg.Until == NoPhase && l.broken < mostBroken
}

// channelStep is what the RDB channel says of itself.
func (l *Link) channelStep() HandshakeStep {
	args := []string{"REPLCONF", "capa", "eof", "rdb-only", "1", "rdb-channel", "1"}
	if l.side.client != "" {
		args = append(args, "main-ch-client-id", l.side.client)
	}
	args = append(args, "listening-port", strconv.Itoa(l.cfg.AnnouncePort))
	return HandshakeStep{Capa, "REPLCONF rdb-channel", args}
}

// openChannel takes the answer to PSYNC that asks for an RDB channel; client is
// the id of the main channel, "" in Valkey's dialect. rest was read behind the
// answer.
func (l *Link) openChannel(c *conn, line []byte, client string, rest []byte) {
	n, err := strconv.ParseUint(client, 10, 63)
	if client != "" && (err != nil || n == 0) || client == "" && len(rest) > 0 {
		l.fail(unexpected("PSYNC", line))
		return
	}
	c.deadline.Stop()
	c.silence.Stop()
	c.leftover = slices.Clone(rest)
	l.loop.DeleteFileEvent(c.fd, eventloop.Readable|eventloop.Writable)
	l.enter(Sync, Transfer)
	cfg, at := l.cfg, c.endpoint
	cfg.Until = Transfer
	cfg.Resolve = func(context.Context, string, int) ([]anet.Endpoint, error) { return []anet.Endpoint{at}, nil }
	ch := &channel{main: c}
	cfg.Observer = ObserverFunc(func(e Event) { l.channelTold(ch, e) })
	ch.link = NewLink(l.loop, sideStore{l.store, l, ch}, cfg)
	ch.link.side = &sideOf{l, client}
	l.channel = ch
	ch.link.Start()
}

// channelTold is told what happens on the RDB channel. The transfer is the main
// link's, as far as observers go.
func (l *Link) channelTold(ch *channel, e Event) {
	if l.channel != ch {
		return
	}
	switch e.Kind {
	case Waiting, FullSyncBegun, TransferBegun, TransferProgress:
		l.emit(e)
	case TransferReceived:
		l.emit(e)
		ch.received = true
		if c := l.conn; c != nil && (c.streams || l.phase == Stream) {
			c.cron.Reset(tick)
			l.sendAck(c)
		}
	case FullSyncDone:
		l.emit(e)
	case Failed:
		ch.err = e.Err
	case Stopped:
		l.loop.Post(func() { l.channelEnded(ch) })
	}
}

// channelBegun is posted when the log behind the base has begun.
func (l *Link) channelBegun(ch *channel, pos Position) {
	if l.channel != ch || ch.begun {
		return
	}
	ch.begun = true
	l.setHistory(pos, true)
	l.stored = l.store.Progress()
	l.told = l.stored
	c := ch.main
	switch {
	case l.conn != c: // the next attempt resumes
	case ch.client == "":
		l.readBeside(c, nil)
	default:
		c.besides = []string{"REPLCONF set-rdb-client-id", "PSYNC"}
		l.beginWait(c)
		if err := l.loop.CreateFileEvent(c.fd, eventloop.Readable, l.syncWithMaster); err != nil {
			l.fail(err)
			return
		}
		l.send(c, "REPLCONF", "set-rdb-client-id", ch.client)
	}
}

// handleBeside takes a reply on the main channel of Valkey's dialect. It returns
// true when the stream has begun, and rest, which was read behind the line, is
// taken too.
func (l *Link) handleBeside(c *conn, line, rest []byte) bool {
	want, s := c.besides[0], string(line)
	switch {
	case s == "": // a keep-alive
		return false
	case strings.HasPrefix(s, "-"):
		l.fail(&ReplyError{Command: want, Text: s[1:]})
		return false
	case want == "PSYNC" && (s == "+CONTINUE" || s == "+CONTINUE "+l.pos.ReplID):
		c.besides = nil
		l.readBeside(c, rest)
		return true
	case want == "PSYNC" || s != "+OK":
		l.fail(unexpected(want, line))
		return false
	}
	// Only now: a master takes no PSYNC while a reply is pending.
	c.besides = c.besides[1:]
	l.beginWait(c)
	l.send(c, "PSYNC", l.pos.ReplID, strconv.FormatInt(l.pos.Offset+1, 10))
	return false
}

// readBeside reads the stream from the main channel while the RDB is on its way.
func (l *Link) readBeside(c *conn, rest []byte) {
	c.deadline.Stop()
	c.silence.Stop()
	if l.channel == nil { // the RDB was faster
		c.leftover = append(c.leftover, rest...)
		l.beginStream(c, false, nil)
		return
	}
	c.streams, c.begun, c.leftover = true, l.taken(), append(c.leftover, rest...)
	if err := l.loop.CreateFileEvent(c.fd, eventloop.Readable, l.streamEvent); err != nil {
		l.fail(err)
		return
	}
	if len(c.leftover) > 0 {
		l.readStream(c)
	}
}

// channelEnded is posted when the RDB channel has stopped, and nothing of it uses
// the store any more.
func (l *Link) channelEnded(ch *channel) {
	if l.channel != ch {
		return
	}
	l.channel = nil
	c := l.conn
	if ch.err != nil {
		// Of the log that had begun nothing is left.
		l.broken++
		l.setHistory(Position{}, false)
		if c != nil {
			c.streams = false
			l.fail(ch.cause())
		}
		return
	}
	l.broken = 0
	l.stored = l.store.Progress()
	switch {
	case c == nil:
	case c != ch.main || l.phase != Transfer:
		if l.phase == Stream {
			l.sendAck(c)
		}
	case !c.streams: // the stream has not been asked for yet: see handleBeside
	default:
		l.enterStream(c)
	}
}

// cause is why the RDB channel failed, without what the main link says itself.
func (ch *channel) cause() error {
	var failed *LinkError
	if errors.As(ch.err, &failed) {
		return fmt.Errorf("the RDB channel, in %s: %w", Place(failed.State, failed.Phase), failed.Cause)
	}
	return ch.err
}

// giveUpChannel has the next attempt begin anew, whatever comes of the RDB
// channel.
func (l *Link) giveUpChannel() {
	if l.channel != nil {
		l.channel.begun = false
	}
}

// cancelChannel ends the RDB channel, and what has begun with it, and goes on
// then.
func (l *Link) cancelChannel() {
	ch := l.channel
	l.busy = true
	ch.link.Stop(func() {
		if l.channel == ch {
			l.channel = nil
			l.setHistory(Position{}, false)
		}
		l.idle()
	})
}

// handleEndOffset takes the answer to SYNC on the RDB channel of Valkey:
// $ENDOFF:<offset> <replication id> <db> <client id>. The db is always 0, also
// where the stream goes on in another one: the RDB tells it.
func (l *Link) handleEndOffset(c *conn, line []byte) {
	f := strings.Fields(strings.TrimPrefix(string(line), "$ENDOFF:"))
	if len(f) != 4 || !isReplID(f[1]) {
		l.fail(unexpected("SYNC", line))
		return
	}
	n, err := strconv.ParseInt(f[0], 10, 64)
	client, err2 := strconv.ParseUint(f[3], 10, 63)
	if err != nil || err2 != nil || n < 0 || n > math.MaxInt64/2 || client == 0 {
		l.fail(unexpected("SYNC", line))
		return
	}
	c.full = FullSync{ReplID: f[1], Offset: n}
	l.side.main.channel.client = f[3]
	l.emit(Event{Kind: FullSyncBegun, ReplID: f[1], Offset: n, Cause: SyncInitial})
	l.enter(Sync, Transfer)
	l.armWait(c)
}

// sideStore is the main link's store, as its RDB channel uses it.
type sideStore struct {
	Store
	main *Link
	ch   *channel
}

// Position implements Store: the RDB channel continues nothing.
func (sideStore) Position() (Position, bool) { return Position{}, false }

// Progress implements Store. The store's is the main link's to look at.
func (sideStore) Progress() Progress { return Progress{} }

// Notify implements Store: the store notifies the main link.
func (sideStore) Notify(func()) {}

// Room implements Store: the main link has asked.
func (sideStore) Room() error { return nil }

// BeginBase implements Store.
func (s sideStore) BeginBase(full FullSync) (Base, error) {
	b, err := s.Store.BeginBase(full)
	if err != nil {
		return nil, err
	}
	side := &sideBase{Base: b, tell: func(p Position) {
		s.main.loop.Post(func() { s.main.channelBegun(s.ch, p) })
	}}
	if splicer, ok := b.(Splicer); ok {
		return splicedBase{side, splicer}, nil
	}
	return side, nil
}

// sideBase begins the log behind its base as soon as that is possible.
type sideBase struct {
	Base
	tell  func(Position)
	begun bool
}

// Write implements io.Writer.
func (b *sideBase) Write(p []byte) (int, error) {
	n, err := b.Base.Write(p)
	return n, errors.Join(err, b.grew(n))
}

func (b *sideBase) grew(n int) error {
	if n == 0 || b.begun {
		return nil
	}
	pos, ok, err := b.Base.Begin()
	if ok {
		b.begun = true
		b.tell(pos)
	}
	return err
}

// Commit implements Base.
func (b *sideBase) Commit() (Position, error) {
	pos, err := b.Base.Commit()
	if err == nil && !b.begun {
		b.begun = true
		b.tell(pos)
	}
	return pos, err
}

// splicedBase is a sideBase that takes bytes from a pipe.
type splicedBase struct {
	*sideBase
	splicer Splicer
}

// SpliceFrom implements Splicer.
func (b splicedBase) SpliceFrom(pipe, n int) (int, error) {
	k, err := b.splicer.SpliceFrom(pipe, n)
	return k, errors.Join(err, b.grew(k))
}

// enterStream enters STREAM on the main channel, whose base is in place.
func (l *Link) enterStream(c *conn) {
	c.lastByte = time.Now()
	l.enter(Sync, Stream)
	l.emit(Event{Kind: Registered, FD: c.fd, Registered: l.loop.FileEvents(c.fd)})
	c.cron.Reset(tick)
	l.sendAck(c)
}
