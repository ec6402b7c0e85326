package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/daemon/status"
	"replicad/replica/master"
)

// Defaults of [Config].
const (
	DefaultMaxBaseAge = time.Hour
	DefaultHold       = 10 * time.Minute
)

// Config says what a relay sends. Only Lineage is needed.
type Config struct {
	Lineage archive.Lineage
	// Watch has the archive send to a channel when it has more: see
	// [archive.Archive.Watch]. nil where another process writes the archive.
	Watch func(chan<- struct{}) (stop func())
	// End tells the offset of the last byte that is stored; nil where the lineage
	// says where it ends.
	End func() int64
	// Disk is shared by all relays of a process; nil for one of its own.
	Disk Disk
	// MaxBaseAge is how old the base may be that a replica gets which asks for a
	// base alone; 0 for any age.
	MaxBaseAge time.Duration
	// Hold is how long retention waits for a replica; 0 means DefaultHold.
	Hold time.Duration
	// Timeout is how long a replica may say nothing and take nothing; 0 means
	// redis.conf's repl-timeout, 60 s.
	Timeout time.Duration
	// Heard, where it is not nil, is called after each acknowledgement.
	Heard func()
	Log   *slog.Logger // nil for none
}

// Relay is the master's side of one archive. Its methods may be called from any
// goroutine. Close it.
type Relay struct {
	cfg      Config
	replicas master.Replicas
	left     leavers
	done     chan struct{}
	once     sync.Once

	mu   sync.Mutex
	held map[int]time.Time // since when retention waits for a generation
}

// New makes a relay.
func New(cfg Config) *Relay {
	cfg.Hold = cmp.Or(cfg.Hold, DefaultHold)
	cfg.Timeout = cmp.Or(cfg.Timeout, replica.DefaultReplTimeout)
	if cfg.Disk == nil {
		cfg.Disk = NewDisk()
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	r := &Relay{cfg: cfg, done: make(chan struct{}), held: map[int]time.Time{}}
	r.left.all = map[string]*leaver{}
	r.replicas.Acked = cfg.Heard
	go r.watch()
	return r
}

// Close cuts all replicas.
func (r *Relay) Close() {
	r.once.Do(func() {
		close(r.done)
		r.replicas.Close()
	})
}

// Replicas are those that are connected.
func (r *Relay) Replicas() []*master.Replica { return r.replicas.Replicas() }

// End is where the archive ends: offset 0 where Config does not tell.
func (r *Relay) End() int64 {
	if r.cfg.End == nil {
		return r.cfg.Lineage.Offset
	}
	return r.cfg.End()
}

// Describe fills in what status tells of the relay.
func (r *Relay) Describe(s *status.Status) {
	s.Relay, s.Syncs = true, r.Stats()
	end := r.End()
	for _, x := range r.Replicas() {
		now := x.Now()
		s.Replicas = append(s.Replicas, status.Replica{Host: x.Host(), Port: x.Port, State: now.State(), Ack: now.Ack, Heard: now.Heard, Behind: now.Behind(end)})
	}
}

// ErrLoop is why a master is not followed that follows a replica of its own
// archive.
var ErrLoop = errors.New("a loop of replicas")

// Loop says whether a master at an address, which follows another one, follows
// one of the replicas of this relay, or is one of them. The error wraps ErrLoop.
func (r *Relay) Loop(m replica.Replication, host string, port int) error {
	if m.Role != "slave" {
		return nil
	}
	for _, x := range r.Replicas() {
		switch {
		case x.Port == 0:
		case x.Host() == m.Host && x.Port == m.Port:
			return fmt.Errorf("%w: the master follows %s:%d, which is fed from this archive: point one of them at another master", ErrLoop, m.Host, m.Port)
		case x.Host() == host && x.Port == port:
			return fmt.Errorf("%w: the master %s:%d is fed from this archive itself: point one of them at another master", ErrLoop, host, port)
		}
	}
	return nil
}

// Stats counts the syncs.
func (r *Relay) Stats() master.Stats { return r.replicas.Stats() }

// CutAll cuts all replicas, and says how many there were: they ask again where to
// go on.
func (r *Relay) CutAll() int { return r.replicas.Cut(nil) }

// watch cuts replicas that neither read nor say anything (replicationCron).
func (r *Relay) watch() {
	tick := time.NewTicker(max(min(time.Second, r.cfg.Timeout/4), time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-r.done:
			return
		case <-tick.C:
		}
		r.replicas.Cut(func(x *master.Replica) bool {
			alive := x.Now().Heard
			if st, ok := x.Stream().(*stream); ok && st.to != nil {
				if moved := st.to.lastMoved(); moved.After(alive) {
					alive = moved
				}
			}
			quiet := time.Since(alive) > r.cfg.Timeout
			if quiet {
				r.cfg.Log.Warn("a replica is cut: it reads nothing and says nothing", "replica", x.Addr(), "for", r.cfg.Timeout.String())
			}
			return quiet
		})
	}
}

// What a refused replica is told. A replica that is told NOMASTERLINK keeps its
// offset, and asks again each second.
const (
	noMasterLink = "NOMASTERLINK Can't SYNC while not connected with my master"
	notYet       = "NOMASTERLINK the archive ends before this offset, and waits for its master to send these bytes again"
	noID         = "ERR the master of this archive knows no PSYNC: nothing tells where a replica stands"
)

// Answer answers PSYNC and SYNC from an address. refusal is an error reply
// without its "-"; "" for none. Answer waits for the disk.
func (r *Relay) Answer(q master.Request, from net.Addr) (a master.Answer, refusal string) {
	var err error
	r.cfg.Disk.use(func() { a, refusal, err = r.answer(q) })
	if a.Base != nil {
		a.Wait = r.left.pause(name(q.Handshake, from), time.Now())
	}
	switch {
	case err == nil:
		return a, refusal
	case errors.Is(err, archive.ErrNotKept):
		return a, noMasterLink
	}
	r.cfg.Log.Warn("a replica gets no answer: the archive can't be read", "error", err)
	return a, noMasterLink + ": " + err.Error()
}

func (r *Relay) answer(q master.Request) (a master.Answer, refusal string, err error) {
	if q.Partial() && !q.RDBOnly && q.Offset > 0 {
		c, is, err := r.cfg.Lineage.Resume(replica.Position{ReplID: q.ReplID, Offset: q.Offset - 1})
		switch {
		case err == nil && (q.Knows(master.CapaPSync2) || q.ReplID == is.ReplID):
			a.Line, a.Offset, a.Granted = q.Continue(is.ReplID), q.Offset-1, true
			a.Stream = r.newStream(c, is)
			return a, "", nil
		case err == nil:
			_ = c.Close()
		case errors.Is(err, archive.ErrAhead):
			return a, notYet, nil
		case !errors.Is(err, archive.ErrNotKept):
			return a, "", err
		}
	}
	return r.fullSync(q)
}

// fullSync answers with the newest base and the stream behind it.
func (r *Relay) fullSync(q master.Request) (a master.Answer, refusal string, err error) {
	from, err := r.cfg.Lineage.Newest()
	if err != nil {
		return a, "", err
	}
	is := r.cfg.Lineage.End(from)
	age := time.Since(from.Timeline.BaseTime)
	switch {
	case is.ReplID == "":
		_ = from.Close()
		return a, noID, nil
	case q.RDBOnly && r.cfg.MaxBaseAge > 0 && age > r.cfg.MaxBaseAge:
		_ = from.Close()
		return a, fmt.Sprintf("ERR the newest base is %v old, and relay-max-base-age is %v: 'replicad restore --format rdb' makes an RDB file of any moment", age.Round(time.Second), r.cfg.MaxBaseAge), nil
	}
	f, err := os.Open(from.BasePath())
	if err != nil {
		_ = from.Close()
		return a, "", err
	}
	c, err := from.Cursor(from.Timeline.BaseOffset)
	if err != nil {
		_ = f.Close()
		return a, "", err
	}
	a.Offset, a.Line = c.Base(), q.FullResync(is.ReplID, c.Base())
	st := r.newStream(c, is)
	st.base, st.baseSize = f, from.BaseSize
	a.Base, a.Stream = &master.Base{Size: from.BaseSize, Send: st.sendBase}, st
	return a, "", nil
}

// Feed makes a connection a replica, and returns when the connection has ended.
// The answer is one of Answer's, and belongs to Feed.
func (r *Relay) Feed(to master.Conn, q master.Request, a master.Answer) {
	c := &conn{Conn: to}
	c.moved.Store(time.Now().UnixNano())
	st, _ := a.Stream.(*stream)
	log := r.cfg.Log.With("replica", to.RemoteAddr().String())
	if st != nil {
		st.to = c
	}
	if a.Base != nil {
		log.Info("a replica is seeded", "offset", a.Offset, "bytes", a.Base.Size, "rdb_only", q.RDBOnly, "after", a.Wait.String())
	} else {
		log.Info("a replica goes on where it was", "offset", a.Offset)
	}
	acked, err := r.replicas.Feed(c, q, a)
	log.Debug("a replica has left", "why", err)
	if a.Base == nil || q.RDBOnly {
		return // redis-cli --rdb acknowledges nothing
	}
	if acked {
		r.left.forget(name(q.Handshake, to.RemoteAddr()))
	} else if pause, first := r.left.note(name(q.Handshake, to.RemoteAddr()), time.Now()); first {
		log.Warn("a replica left in the RDB or right behind it: its version may not load this RDB", "rdb_version", st.rdbVersion(), "next_after", pause.String(), "why", err)
	}
}

// LetGo is told that retention waits for a generation, and cuts the replicas that
// have held it, or one before, for longer than Hold. It says after how long to
// ask again; 0 where no replica holds one.
func (r *Relay) LetGo(generation int, now time.Time) time.Duration {
	holds := func(x *master.Replica) bool {
		st, ok := x.Stream().(*stream)
		return ok && int(st.generation.Load()) <= generation
	}
	held := false
	for _, x := range r.Replicas() {
		held = held || holds(x)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	since, known := r.held[generation]
	switch {
	case !held:
		clear(r.held)
		return 0
	case !known:
		r.held[generation] = now
		return r.cfg.Hold
	case now.Sub(since) < r.cfg.Hold:
		return r.cfg.Hold - now.Sub(since)
	}
	clear(r.held)
	n := r.replicas.Cut(holds)
	r.cfg.Log.Warn("replicas are cut that lag too far behind: retention has waited for them", "replicas", n, "generation", generation, "relay_hold", r.cfg.Hold.String())
	return time.Second
}

// stream is what one replica is sent. It implements master.Stream.
type stream struct {
	r          *Relay
	to         *conn
	c          *archive.Cursor
	told       archive.End // with the id that the replica was told
	at         int64
	generation atomic.Int64
	more       chan struct{}
	stop       func()
	base       *os.File // nil for none
	baseSize   int64
}

func (r *Relay) newStream(c *archive.Cursor, told archive.End) *stream {
	st := &stream{r: r, c: c, told: told, at: c.Position().Offset, more: make(chan struct{}, 1), stop: func() {}}
	st.generation.Store(int64(c.Generation()))
	if r.cfg.Watch != nil {
		st.stop = r.cfg.Watch(st.more)
	}
	return st
}

// Close implements master.Stream.
func (st *stream) Close() error {
	st.stop()
	if st.base != nil {
		_ = st.base.Close()
	}
	return st.c.Close()
}

// rdbVersion is the version of the RDB format of the base.
func (st *stream) rdbVersion() string {
	head := make([]byte, 9)
	f, err := os.Open(st.base.Name())
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	if _, err := io.ReadFull(f, head); err != nil {
		return "unknown"
	}
	return string(head[5:])
}

func (st *stream) sendBase(ctx context.Context, to master.Conn) error {
	for at := int64(0); at < st.baseSize; {
		n, err := st.r.cfg.Disk.send(ctx, to, st.base, at, st.baseSize-at)
		if err != nil {
			return err
		}
		at += n
	}
	return nil
}

// errNewID cuts a replica that has to learn a new replication id.
var errNewID = errors.New("the replication id has changed")

// lookEvery is how often it is looked for more where nothing tells of it.
const lookEvery = time.Second

// watchEvery is the same where another process writes the archive.
const watchEvery = 50 * time.Millisecond

// Send implements master.Stream. Its errors are those of [archive.Cursor.Next].
func (st *stream) Send(ctx context.Context, to master.Conn) (int64, error) {
	every := lookEvery
	if st.r.cfg.Watch == nil {
		every = watchEvery
	}
	for {
		s, err := st.next()
		switch {
		case err == nil:
			n, err := st.r.cfg.Disk.send(ctx, to, s.File, s.From, s.Size)
			if err == nil && n == 0 {
				return 0, io.ErrUnexpectedEOF
			}
			return n, cmp.Or(err, st.took(n))
		case !errors.Is(err, archive.ErrNoMore):
			return 0, err
		}
		wait := time.NewTimer(every)
		select {
		case <-ctx.Done():
			wait.Stop()
			return 0, ctx.Err()
		case <-st.more:
		case <-wait.C:
		}
		wait.Stop()
	}
}

// next gives the bytes that come next.
func (st *stream) next() (s archive.Stretch, err error) {
	frozen := st.r.cfg.Lineage
	if frozen.Generation != 0 && st.at >= frozen.Offset {
		return s, archive.ErrNoMore
	}
	st.r.cfg.Disk.use(func() {
		if st.at >= st.told.UpTo {
			if err = st.reopen(); err != nil {
				return
			}
		}
		s, err = st.c.Next()
	})
	st.generation.Store(int64(st.c.Generation()))
	s.Size = min(s.Size, st.told.UpTo-st.at)
	if frozen.Generation != 0 {
		s.Size = min(s.Size, frozen.Offset-st.at)
		return s, err
	}
	// Behind the change of an id the replica must not come under the former one.
	// The generations before that of the end have other ids.
	if (err == nil || errors.Is(err, archive.ErrNoMore)) && st.c.Generation() >= st.told.Generation && st.c.LastID() != st.told.ReplID {
		return s, errNewID
	}
	return s, err
}

// reopen goes on in a later generation.
func (st *stream) reopen() error {
	c, is, err := st.r.cfg.Lineage.Resume(replica.Position{ReplID: st.told.ReplID, Offset: st.at})
	switch {
	case err != nil:
		return err
	case is.ReplID != st.told.ReplID:
		_ = c.Close()
		return errNewID
	}
	_ = st.c.Close()
	st.c, st.told = c, is
	return nil
}

func (st *stream) took(n int64) (err error) {
	st.r.cfg.Disk.use(func() { err = st.c.Took(n) })
	st.at += n
	return err
}
