package replica

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"replicad/anet"
	"replicad/anet/tunnel"
	"replicad/eventloop"
	"replicad/replica/resp"
)

// Defaults of [Config]; the first two are redis.conf's.
const (
	DefaultReplTimeout       = 60 * time.Second
	DefaultReplSyncioTimeout = 5 * time.Second
	DefaultReplBGSaveTimeout = time.Hour
	pingTimeout              = 100 * time.Millisecond // syncWithMaster: syncWrite(fd,"PING\r\n",6,100)
	replyBuffer              = 16 << 10
	maxRead                  = 256 << 10
	tick                     = time.Second // replicationCron
	progressEvery            = 250 * time.Millisecond
	stallEvery               = time.Minute
	steadyAfter              = 10 * time.Second // a stream that lasted this long was a good link
	defaultResolveTimeout    = 30 * time.Second
	answerWithin             = 200 * time.Microsecond // see answerSoon
)

// announcedVersion is what REPLCONF version says. By the version, a Valkey
// master chooses what it sends to a replica. A link can take any payload, so it
// names the version of unreleased builds, which is above all others.
const announcedVersion = "255.255.255"

// Config is what a link needs to know. Zero durations mean the defaults.
type Config struct {
	Master Master
	// Source is the address to connect from (bind-source-addr).
	Source anet.Source
	// ReplTimeout ends a connection on which no byte came for so long
	// (repl-timeout).
	ReplTimeout time.Duration
	// ReplSyncioTimeout bounds the connect and each step of the handshake.
	ReplSyncioTimeout time.Duration
	// ReplBGSaveTimeout bounds the time that a master may take to prepare a
	// full sync while it sends nothing but keep-alive newlines.
	ReplBGSaveTimeout time.Duration
	// ResolveTimeout bounds name resolution. It must be longer than the
	// resolver's own time-out for one name server (5 s, resolv.conf(5)), or
	// a second one is never asked.
	ResolveTimeout time.Duration
	// AnnounceIP and AnnouncePort are sent as REPLCONF ip-address (not sent
	// when empty) and listening-port (0: none).
	AnnounceIP   string
	AnnouncePort int
	// AckDurable makes ACK itself wait for the fsync (appendfsync always).
	AckDurable bool
	// Until has the link make one attempt, and stop when that phase is over,
	// or when the attempt has failed. The last event is Stopped; after a
	// failure, Failed comes before it. VERSION is the handshake alone.
	// TRANSFER is a base alone: the link asks for a full sync by REPLCONF
	// rdb-only 1 (Redis 6.2 and later), so that the master buffers no stream
	// for it; acknowledges nothing; and hangs up as soon as the payload is
	// here, whatever the master answered. NoPhase is a link that goes on.
	Until Phase
	// TLS has the files for a master that speaks TLS (tls-ca-cert-file ...).
	TLS      tunnel.Files
	Backoff  Backoff
	Limits   resp.Limits // zeros mean resp's defaults
	Observer Observer
	// Accept is told what INFO says of the master, where that was asked. An error
	// ends the attempt. It is called on the thread of the loop. May be nil.
	Accept func(Replication) error
	// Resolve replaces anet.Resolve, for tests. It may block until ctx is
	// done.
	Resolve func(ctx context.Context, host string, port int) ([]anet.Endpoint, error)
}

// Link is one replica's link to one master. Its methods belong to the thread
// of its loop.
type Link struct {
	cfg    Config
	loop   *eventloop.Loop
	store  Store
	forker Forker // the store, where it can fork; else nil

	state   State
	phase   Phase
	entered time.Time // when state or phase was entered
	started bool
	stopped bool
	ended   bool // Stopped is told
	onStop  func()

	conn     *conn            // nil without an attempt
	ending   *conn            // has ended, and is not read to its end yet; else nil
	retry    *eventloop.Timer // begins the next attempt
	failures int              // of attempts, in a row
	// busy says that a goroutine resolves a name, runs a transfer or resets
	// the store, or that a connection is ending. There is never more than
	// one of these; its end lets the link go on.
	busy bool
	in   []byte // the replies of the handshake are read into it

	// The history that the store holds.
	pos     Position // replication id; Offset and DB where the scanner began
	known   bool     // pos can be asked for by PSYNC
	scanner *resp.Scanner
	counted int64 // commands of the scanner's that Advanced told

	// How far the store has come.
	changed   atomic.Bool // a Post of storeChanged is under way
	stored    Progress
	told      Progress  // by Advanced
	toldTaken int64     // by Advanced: the offset of the last byte received
	stalled   time.Time // since when the store can't write; zero while it can
	stallTold time.Time
	needReset bool
	failedOn  []string // addresses on which attempts failed behind the connect, since the last stream
	ordered   bool     // no attempt was made since Follow

	// Where the stream broke the protocol last. Where it does so twice at one
	// offset, the bytes are the master's own, and asking again is in vain.
	poison   int64
	poisoned bool

	channel *channel // the RDB channel of a full sync on two connections; nil without one
	broken  int      // of those full syncs, in a row
	side    *sideOf  // this link is the RDB channel of another one; else nil

	noInfo  bool // the master refused INFO, or was late
	late    bool // it was late
	doubted bool // a full sync was refused, to ask INFO once more
}

// NewLink makes a link in state NONE. Start begins its first attempt.
func NewLink(loop *eventloop.Loop, store Store, cfg Config) *Link {
	cfg.ReplTimeout = cmp.Or(cfg.ReplTimeout, DefaultReplTimeout)
	cfg.ReplSyncioTimeout = cmp.Or(cfg.ReplSyncioTimeout, DefaultReplSyncioTimeout)
	cfg.ReplBGSaveTimeout = cmp.Or(cfg.ReplBGSaveTimeout, DefaultReplBGSaveTimeout)
	cfg.ResolveTimeout = cmp.Or(cfg.ResolveTimeout, defaultResolveTimeout)
	cfg.Limits.MaxBulk = cmp.Or(cfg.Limits.MaxBulk, resp.DefaultMaxBulk)
	cfg.Limits.MaxArgs = cmp.Or(cfg.Limits.MaxArgs, resp.DefaultMaxArgs)
	if cfg.Observer == nil {
		cfg.Observer = ObserverFunc(func(Event) {})
	}
	if cfg.Resolve == nil {
		cfg.Resolve = anet.Resolve
	}
	l := &Link{poison: -1, cfg: cfg, loop: loop, store: store, in: make([]byte, replyBuffer), entered: time.Now()}
	l.forker, _ = store.(Forker)
	l.retry = loop.NewTimer(l.connect)
	l.setHistory(Position{}, false)
	changed := l.storeChanged
	store.Notify(func() {
		if !l.changed.Swap(true) {
			loop.Post(changed)
		}
	})
	return l
}

// State is the state of the link, and in SYNC the phase.
func (l *Link) State() (State, Phase) { return l.state, l.phase }

// Position is that of the last byte that was given to the store. It is false
// where the link holds no history that a PSYNC could continue.
func (l *Link) Position() (Position, bool) {
	return Position{l.pos.ReplID, l.taken(), l.scanner.Boundary().DB}, l.known
}

// Endpoint is the address that the link is connected to, of those that the
// master's name has; false while it is not connected.
func (l *Link) Endpoint() (at anet.Endpoint, connected bool) {
	if l.conn != nil {
		at = l.conn.endpoint
	}
	return at, l.state == ReceivePong || l.state == Sync
}

// Follow makes the link follow m (replicationSetMaster). A connection that
// stands is closed, and the next attempt begins at once. If m accepts a partial
// resync, the history continues; else a full sync begins another history. If m
// has no address, the link stays in NONE (replicationUnsetMaster). The link
// keeps the name of the master before.
func (l *Link) Follow(m Master) {
	m.Name = l.cfg.Master.Name
	if !l.started || l.stopped {
		l.cfg.Master = m
		return
	}
	l.retry.Stop()
	l.disconnect()
	l.enter(None, NoPhase)
	l.cfg.Master = m
	l.broken, l.ordered = 0, true
	l.giveUpChannel()
	l.failures, l.noInfo, l.doubted = 0, false, false
	l.emit(Event{Kind: Repointed, Endpoint: m.Address()})
	l.retry.Reset(0)
}

// SetCredentials changes user and password (masteruser, masterauth) for the next
// connection. A connection that stands is not touched, as by CONFIG SET in
// Redis.
func (l *Link) SetCredentials(user, password string) {
	l.cfg.Master.User, l.cfg.Master.Password, l.noInfo = user, password, false
}

// Start begins the first attempt.
func (l *Link) Start() {
	l.started = true
	l.stored = l.store.Progress()
	l.told = l.stored
	l.needReset = l.needReset || l.stored.Failed != nil
	l.setHistory(l.store.Position())
	l.connect()
}

// Stop ends the link in NONE for good. done is called on the loop's thread once
// no goroutine uses the socket or the store any more. A second call replaces
// done.
func (l *Link) Stop(done func()) {
	l.onStop = done
	if !l.stopped {
		l.stopped = true
		l.retry.Stop()
		l.disconnect()
		l.enter(None, NoPhase)
	}
	if l.ending != nil {
		l.drainOn() // a store that stalls is not waited for any more
	}
	l.finishStop()
}

// idle lets the link go on when nothing uses the socket or the store any more.
func (l *Link) idle() {
	l.busy = false
	switch {
	case l.stopped:
		l.finishStop()
	case !l.retry.Armed():
		l.connect()
	}
}

func (l *Link) finishStop() {
	if !l.stopped || l.busy {
		return
	}
	if l.channel != nil {
		l.cancelChannel()
		return
	}
	if !l.ended {
		l.ended = true
		l.emit(Event{Kind: Stopped})
	}
	if f := l.onStop; f != nil {
		l.onStop = nil
		f()
	}
}

// Cut closes the connection, as a broken network would. The link connects again
// by itself. Demonstrations and tests use it.
func (l *Link) Cut() {
	if l.state != None {
		l.fail(ErrCut)
	}
}

// setHistory is called with the end of the store's history.
func (l *Link) setHistory(end Position, known bool) {
	l.pos, l.known = end, known
	l.scanner, l.counted = resp.NewScanner(end.DB, l.cfg.Limits), 0
}

// taken is the offset of the last byte that was committed to the store.
func (l *Link) taken() int64 { return l.pos.Offset + l.scanner.Scanned() }

// emit tells an event, with the fields that every event has filled in.
func (l *Link) emit(e Event) {
	e.Time = time.Now()
	e.Master = l.cfg.Master.Name
	e.State, e.Phase = l.state, l.phase
	e.Rebase = l.cfg.Until == Transfer
	l.cfg.Observer.Observe(e)
}

// enter changes state and phase, and tells the change.
func (l *Link) enter(s State, p Phase) {
	if s == l.state && p == l.phase {
		return
	}
	now := time.Now()
	e := Event{Kind: StateEntered, From: l.state, FromPhase: l.phase, Took: now.Sub(l.entered)}
	if s == l.state {
		e.Kind = PhaseEntered
	}
	if s == Connecting || s == ReceivePong {
		e.Endpoint = l.conn.endpoint.String()
	}
	l.state, l.phase, l.entered = s, p, now
	l.emit(e)
}

// connect begins an attempt (connectWithMaster). A goroutine resolves the name,
// asks the store whether there is room for a full sync, and posts resolved.
// Without room only a history that can be continued is asked for: a master is
// not to save again and again in vain. A master that was named by an order is
// asked all the same, once: its dataset may be smaller.
func (l *Link) connect() {
	if !l.started || l.stopped || l.state != None || l.busy {
		return // while busy: what the goroutine posts at its end calls connect again
	}
	switch {
	case l.channel != nil && (l.needReset || !l.channel.begun):
		l.cancelChannel() // nothing of it can be continued
		return
	case l.needReset:
		l.resetStore()
		return
	}
	if l.cfg.Master.Address() == "" {
		return // nobody to follow
	}
	ctx, cancel := context.WithTimeout(context.Background(), l.cfg.ResolveTimeout)
	c := l.newConn(cancel)
	l.conn, l.busy = c, true
	m, store := l.cfg.Master, l.store
	go func() {
		defer cancel()
		eps, err := l.resolve(ctx, m)
		if err != nil {
			err = fmt.Errorf("%w: %w", ErrResolve, err)
		} else {
			c.noRoom = store.Room() // may wait for the file system
		}
		l.loop.Post(func() { l.resolved(c, eps, err) })
	}()
}

// resolve gives the master's addresses. It runs on a goroutine.
func (l *Link) resolve(ctx context.Context, m Master) ([]anet.Endpoint, error) {
	if m.Path == "" {
		return l.cfg.Resolve(ctx, m.Host, m.Port)
	}
	ep, err := anet.Unix(m.Path)
	return []anet.Endpoint{ep}, err
}

// resolved goes on with the addresses of the name. err says why there are none.
func (l *Link) resolved(c *conn, eps []anet.Endpoint, err error) {
	l.busy = false
	switch {
	case l.stopped:
		l.finishStop()
		return
	case l.needReset, l.conn != c: // the store failed meanwhile, or the link was repointed
		l.disconnect()
		l.connect()
		return
	case err != nil:
		l.fail(err)
		return
	}
	if l.ordered {
		l.ordered, c.noRoom = false, nil
	}
	if c.noRoom != nil && !l.known {
		l.fail(c.noRoom)
		return
	}
	var addresses []string
	for _, ep := range eps {
		addresses = append(addresses, ep.String())
	}
	l.emit(Event{Kind: Resolved, Text: strings.Join(addresses, " ")})
	c.connector = anet.NewConnector(l.untried(eps), l.cfg.Source)
	l.tryNext(c)
}

// untried puts the addresses first on which no attempt has failed since the last
// stream. The connector goes on to the next one where a connect fails; but also a
// server that accepts, and then refuses or closes, must not hide the others.
func (l *Link) untried(eps []anet.Endpoint) []anet.Endpoint {
	bad := func(ep anet.Endpoint) bool { return slices.Contains(l.failedOn, ep.String()) }
	if len(eps) < 2 || !slices.ContainsFunc(eps, func(ep anet.Endpoint) bool { return !bad(ep) }) {
		l.failedOn = nil
	}
	eps = slices.Clone(eps)
	slices.SortStableFunc(eps, func(a, b anet.Endpoint) int {
		switch {
		case bad(a) == bad(b):
			return 0
		case bad(a):
			return 1
		}
		return -1
	})
	return eps
}

// tryNext starts a connect to the next address of the name.
func (l *Link) tryNext(c *conn) {
	a, err := c.connector.Next()
	for _, f := range a.Failures {
		l.emit(Event{Kind: ConnectCalled, FD: -1, Err: f})
	}
	if err != nil {
		l.fail(err)
		return
	}
	c.fd, c.endpoint = a.FD, a.Endpoint
	e := Event{Kind: ConnectCalled, FD: a.FD, Endpoint: a.Endpoint.String()}
	if !a.Connected {
		e.Err = syscall.EINPROGRESS
	}
	l.emit(e)
	// A connect that succeeded at once, as on a unix socket, goes through
	// CONNECTING too: its write event fires in the next iteration.
	if err := l.loop.CreateFileEvent(c.fd, eventloop.Readable|eventloop.Writable, l.syncWithMaster); err != nil {
		l.fail(err)
		return
	}
	l.enter(Connecting, NoPhase)
	l.emit(Event{Kind: Registered, FD: c.fd, Registered: l.loop.FileEvents(c.fd)})
	c.deadline.Reset(l.cfg.ReplSyncioTimeout)
	l.answerSoon()
}

// syncWithMaster is the file event of the handshake, named after the function
// of replication.c that it follows. Redis' function also asks whether the link
// was given up meanwhile. Here that can't be: the loop delivers no event of a
// descriptor that closeSocket or lend took from it.
func (l *Link) syncWithMaster(fd int, mask eventloop.Mask) {
	c := l.conn
	l.emit(Event{Kind: FileEvent, FD: fd, Mask: mask, Registered: l.loop.FileEvents(fd)})
	switch l.state {
	case Connecting:
		l.whenConnected(c)
	case ReceivePong, Sync:
		if mask&eventloop.Readable != 0 {
			l.readReplies(c)
		}
	}
}

// whenConnected asks SO_ERROR how the connect ended, and drops the write event.
// (syncWithMaster: "Check for errors in the socket.")
func (l *Link) whenConnected(c *conn) {
	err := anet.SocketError(c.fd)
	if err == nil && anet.SelfConnected(c.fd) {
		err = syscall.ECONNREFUSED // nobody listens: the port connected to itself
	}
	l.emit(Event{Kind: SocketError, FD: c.fd, Endpoint: c.endpoint.String(), Err: err})
	if err != nil {
		l.connectFailed(c, err)
		return
	}
	// "Delete the writable event so that the readable event remains
	// registered and we can wait for the PONG reply."
	l.loop.DeleteFileEvent(c.fd, eventloop.Writable)
	if l.cfg.Master.TLS {
		if err := l.openTunnel(c); err != nil {
			l.fail(err)
			return
		}
	}
	l.enter(ReceivePong, NoPhase)
	l.emit(Event{Kind: Registered, FD: c.fd, Registered: l.loop.FileEvents(c.fd)})
	l.sendPing(c)
}

// sendPing sends PING. (syncWithMaster: "Send the PING, don't check for errors
// at all, we have the timeout that will take care about this.") An answer may be
// waiting all the same (max number of clients reached), and says more than EPIPE
// does.
func (l *Link) sendPing(c *conn) {
	c.deadline.Reset(l.cfg.ReplSyncioTimeout)
	ping := resp.AppendCommand(nil, "PING")
	l.emit(Event{Kind: Sent, Data: ping, Bytes: int64(len(ping))})
	_, _ = anet.SyncWrite(c.fd, ping, pingTimeout)
	l.answerSoon()
	if c.tunnel == nil {
		l.tune(c) // while the master answers: it can't matter before
	}
}

// connectFailed goes on with the next address of the name.
func (l *Link) connectFailed(c *conn, err error) {
	c.connector.Failed(err)
	l.closeSocket(c)
	l.tryNext(c)
}

// answerSoon is called when the link awaits an answer in the handshake. On a
// fast network the answer comes sooner than the thread of the loop could fall
// asleep and be woken, so the loop stays awake for a moment.
func (l *Link) answerSoon() { l.loop.BusyPoll(answerWithin) }

// fail ends the attempt, tells the cause, and sets the time of the next attempt.
func (l *Link) fail(cause error) {
	cause = l.conn.explain(cause)
	le := &LinkError{l.cfg.Master.String(), l.state, l.phase, cause, Remedy(l.state, l.phase, cause)}
	if l.phase == Stream && l.streamWasGood(l.conn) && !errors.Is(cause, ErrStore) {
		l.failures = 0
	}
	if errors.Is(cause, resp.ErrProtocol) {
		l.needReset = true
		l.poisoned = l.poison == l.taken() && l.known
		l.poison = l.taken()
	}
	switch {
	case l.phase == Stream:
		l.failedOn = nil
	case (l.state == ReceivePong || l.state == Sync) && !errors.Is(cause, ErrStore):
		l.failedOn = append(l.failedOn, l.conn.endpoint.String())
	}
	l.disconnect()
	l.failures++
	d := l.cfg.Backoff.delay(l.failures)
	l.enter(None, NoPhase)
	l.emit(Event{Kind: Failed, Err: le, Cause: Cause(le), Delay: d})
	if l.cfg.Until != NoPhase {
		l.Stop(l.onStop)
	}
	if !l.stopped {
		l.retry.Reset(d)
	}
}

// streamWasGood says whether the next attempt may follow at once. It may not
// where a stream ended soon after a full sync, which is expensive for the master,
// or where the master closes each connection after a few bytes.
func (l *Link) streamWasGood(c *conn) bool {
	lasted := time.Since(l.entered)
	if lasted >= steadyAfter {
		return true
	}
	return c.resumed && l.taken() > c.begun && lasted >= l.cfg.Backoff.min()
}

// deadlinePassed is the time event of the current state or phase.
func (l *Link) deadlinePassed() {
	c := l.conn
	switch {
	case l.ending != nil:
		l.drainLate()
	case l.state == Connecting:
		l.connectFailed(c, fmt.Errorf("%w after %v", ErrDeadline, l.cfg.ReplSyncioTimeout))
	case l.phase == Version && len(c.steps) > 0 && c.steps[0].Args[0] == infoStep[0] && c.info == nil:
		l.infoLate(c)
	case l.phase == Psync || l.phase == Transfer:
		l.fail(fmt.Errorf("%w: %v without a byte, %v since PSYNC", ErrDeadline, time.Since(c.lastByte).Round(time.Millisecond), time.Since(c.waited).Round(time.Millisecond)))
	default:
		l.fail(fmt.Errorf("%w: no answer within %v", ErrDeadline, l.cfg.ReplSyncioTimeout))
	}
}

// storeChanged runs on the loop's thread after the store called notify.
func (l *Link) storeChanged() {
	l.changed.Store(false)
	p := l.store.Progress()
	l.stored = p // GETACK may have asked for it before
	// In a stall what was received waits, though nothing more is stored.
	moved := p.Stored != l.told.Stored || p.Durable != l.told.Durable ||
		p.Stalled != nil && l.phase == Stream && l.taken() != l.toldTaken
	l.tellStall(p.Stalled)
	if p.Failed != nil {
		l.storeFailed(p.Failed)
		return
	}
	if moved {
		commands := l.scanner.Commands() - l.counted
		l.told, l.toldTaken, l.counted = p, l.taken(), l.scanner.Commands()
		l.emit(Event{Kind: Advanced, Received: l.taken(), Offset: p.Stored, Durable: p.Durable, Commands: commands})
	}
	if l.ending != nil {
		l.drainOn()
	}
	c := l.conn
	if c == nil || !c.streams {
		return
	}
	l.answerGetAck(c)
	if l.conn == c && c.paused {
		l.unpause(c)
	}
}

// storeFailed ends the attempt. The next one begins with a reset of the store.
func (l *Link) storeFailed(err error) {
	if l.needReset {
		return
	}
	l.needReset = true
	switch {
	case l.state != None:
		l.fail(storeError(err))
	case l.ending != nil:
		l.drained()
	case !l.busy:
		l.retry.Reset(0)
	}
}

// tellStall tells when the store stops writing and when it writes again. In
// between it tells once a minute.
func (l *Link) tellStall(err error) {
	now := time.Now()
	switch {
	case err != nil && l.stalled.IsZero():
		l.stalled, l.stallTold = now, now
		l.emit(Event{Kind: Stalled, Err: err})
	case err != nil && now.Sub(l.stallTold) >= stallEvery:
		l.stallTold = now
		l.emit(Event{Kind: Stalled, Err: err, Took: now.Sub(l.stalled)})
	case err == nil && !l.stalled.IsZero():
		l.emit(Event{Kind: Healed, Took: now.Sub(l.stalled)})
		l.stalled = time.Time{}
	}
}

// resetStore has a goroutine reset the store, and connects then.
func (l *Link) resetStore() {
	l.busy = true
	go func() {
		err := l.store.Reset()
		l.loop.Post(func() {
			l.busy = false
			l.stored = l.store.Progress()
			l.emit(Event{Kind: StoreReset, Offset: l.stored.Stored, Err: err})
			if l.stopped {
				l.finishStop()
				return
			}
			if err == nil {
				err = l.stored.Failed // it failed again: storeChanged passed that over
			}
			if err != nil {
				l.fail(storeError(err))
				return
			}
			l.needReset = false
			if l.setHistory(l.store.Position()); l.poisoned {
				l.known = false // what is behind it can't be had: see SyncPoisoned
			}
			l.connect()
		})
	}()
}
