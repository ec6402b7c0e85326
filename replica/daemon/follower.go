package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"replicad/eventloop"
	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/archive/restore"
	"replicad/replica/daemon/sentinel"
	"replicad/replica/daemon/status"
	"replicad/replica/relay"
	"replicad/replica/remote"
)

// follower is what the daemon has for one master. Its methods belong to the
// loop's thread.
type follower struct {
	name          string
	loop          *eventloop.Loop
	cfg           replica.Config // of the links; Master is the master that is followed now
	status        *status.Tracker
	observers     Observers
	origin        string     // what the configuration says: an address, or a Sentinel's name for it
	configuredTLS bool       // what the configuration says of TLS
	ordering      sync.Mutex // of ReplicaOf, for the file of the order
	noOne         bool       // by order: no Sentinel changes that
	sentinel      *sentinel.Config
	rules         Rebase
	archive       *archive.Archive
	remote        *remote.Writer           // nil without a remote
	leave         context.CancelFunc       // ends remote
	fsynced       func(took time.Duration) // nil for nobody to be told
	link          *replica.Link
	relaying      *relay.Config // nil for no relay
	relay         *relay.Relay  // likewise
	rebase        *rebase       // nil while there is none
	stopping      bool
	unwatch       context.CancelFunc // has no Sentinel name the master any more; nil without Sentinels
	closing       sync.Once

	credentials  func(name string) (user, password string, err error) // nil for those of cfg
	dir          string
	disk         disk
	retention    archive.Retention
	work         sync.WaitGroup // of prune
	pruning      bool
	near         bool // the archive is near max-bytes
	nextPrune    time.Time
	nextOverfull time.Time
	forked       bool // it is not told yet what the last failover lost
	counting     bool // what it lost is being counted

	wanted    string    // why a rebase was asked for; "" for none
	notBefore time.Time // after one that failed
	failures  int       // of rebases, in a row
}

func newFollower(loop *eventloop.Loop, cfg Config, m replica.Master) *follower {
	f := &follower{name: m.Name, loop: loop, cfg: cfg.Link, rules: cfg.Rebase, retention: cfg.Retention, dir: filepath.Join(cfg.Dir, m.Name)}
	f.cfg.Master, f.origin, f.configuredTLS = m, m.Address(), m.TLS
	if cfg.PerMaster != nil {
		cfg.PerMaster(&f.cfg)
	}
	if c, ok := cfg.Sentinel[m.Name]; ok {
		f.sentinel, f.origin = &c, "sentinel "+c.MasterName
	}
	f.credentials, f.relaying = cfg.Credentials, cfg.Relay
	f.status = status.New(m)
	f.observers = Observers{f.status}
	if cfg.Observer != nil {
		f.observers = append(f.observers, cfg.Observer)
	}
	f.cfg.Observer = replica.ObserverFunc(f.observe)
	f.describe()
	if cfg.ObserveFsync != nil {
		f.fsynced = func(took time.Duration) { cfg.ObserveFsync(f.name, took) }
	}
	return f
}

// describe has the disk read the folder.
func (f *follower) describe() {
	describer := archive.NewDescriber(f.dir)
	f.disk.read = func() (d status.Disk) {
		if d.Free, d.Size, d.Err = archive.Space(f.dir); d.Err == nil {
			d.Archive, _, d.Err = describer.Describe()
		}
		return d
	}
}

// open opens the archive and makes the link. to is where the archive is copied
// to, nil for nowhere.
func (f *follower) open(opt archive.Options, to *remote.Remote, log *slog.Logger) (err error) {
	opt.Observe = func(e archive.Event) { f.loop.Post(func() { f.ofTheFiles(e) }) }
	opt.ObserveFsync = f.fsynced
	opt.Content = restore.Content{}
	if f.archive, err = archive.Open(f.dir, opt); err != nil {
		return err
	}
	configured := f.cfg.Master
	m, ordered, void, err := readOrder(f.dir, f.origin, configured)
	if err != nil {
		return errors.Join(err, f.archive.Close())
	}
	f.cfg.Master, f.noOne = m, ordered && m.Address() == ""
	f.status.Order(m.Address(), f.noOne)
	if log != nil && (ordered || void != "") {
		logOrder(log, f.origin, configured, m, void)
	}
	if err := f.copyTo(to); err != nil {
		return errors.Join(err, f.archive.Close())
	}
	f.relays(log)
	f.link = replica.NewLink(f.loop, f.archive, f.cfg)
	return nil
}

// copyTo makes what copies the archive.
func (f *follower) copyTo(to *remote.Remote) (err error) {
	if to != nil {
		f.remote, err = to.NewWriter(f.name, f.dir, f.archive, func(e archive.Event) { f.loop.Post(func() { f.tell(e) }) })
	}
	return err
}

// drainWait is how long the end waits for the remote to have the rest.
const drainWait = 5 * time.Second

// leaveRemote ends the copying, once the remote has all or does not take it.
func (f *follower) leaveRemote() {
	if f.leave == nil {
		return
	}
	f.remote.Drain(drainWait)
	f.leave()
}

// relays makes the relay, where there is to be one.
func (f *follower) relays(log *slog.Logger) {
	if f.relaying == nil {
		return
	}
	cfg := *f.relaying
	cfg.Lineage = archive.Lineage{Dir: f.dir}
	cfg.Watch = f.archive.Watch
	cfg.End = func() int64 { return f.archive.Progress().Stored }
	if log != nil {
		cfg.Log = log.With("master", f.name)
	}
	f.relay = relay.New(cfg)
	f.cfg.Accept = func(m replica.Replication) error { return f.relay.Loop(m, f.cfg.Master.Host, f.cfg.Master.Port) }
}

// historyChanged has the replicas ask again where to go on: they are to learn the
// replication id.
func (f *follower) historyChanged(e replica.Event) {
	changed := e.Kind == replica.Forked || e.Kind == replica.FullSyncDone || e.Kind == replica.Resumed && e.Text != ""
	if f.relay != nil && !e.Rebase && changed {
		f.relay.CutAll()
	}
}

// logOrder says that an order holds, or does not hold any more.
func logOrder(log *slog.Logger, origin string, configured, m replica.Master, void string) {
	switch {
	case void != "":
		log.Warn("the last REPLICAOF is void, for the configuration was changed since", "master", m.Name, "replicaof", void, "configured", origin)
	case m.Address() == "":
		log.Warn("the last order was REPLICAOF NO ONE: nobody is followed until REPLICAOF names a master", "master", m.Name, "configured", origin)
	case m.Address() == configured.Address(): // an order to follow what is followed anyway
	default:
		log.Warn("the last order was REPLICAOF: it counts, not the configuration", "master", m.Name, "replicaof", m.Address(), "configured", origin)
	}
}

func (f *follower) start() {
	p, known := f.archive.Position()
	f.status.Begin(p, known, f.archive.Progress())
	if f.remote != nil {
		var ctx context.Context
		ctx, f.leave = context.WithCancel(context.Background())
		f.work.Go(func() { f.remote.Run(ctx) })
	}
	f.link.Start()
}

// follow repoints the link; a master without an address is nobody. A rebase
// that is under way is given up: it is one of another master.
func (f *follower) follow(m replica.Master) {
	if f.cfg.Master.Address() == m.Address() && f.cfg.Master.TLS == m.TLS {
		return
	}
	f.cfg.Master = m
	if f.rebase != nil {
		f.rebase.fail(errRepointed)
	}
	f.link.Follow(m)
}

// observe is told what happens to the links. What follows from it is done
// later: a link is not to be stopped from within.
func (f *follower) observe(e replica.Event) {
	f.observers.Observe(e)
	f.historyChanged(e)
	var refused *replica.ReplyError
	if e.Kind == replica.Failed && errors.As(e.Err, &refused) && refused.Auth() {
		f.loop.Post(f.reauth)
	}
	re := f.rebase
	switch {
	case e.Kind == replica.FullSyncDone && !e.Rebase:
		f.nextPrune = time.Time{}
	case re == nil:
	case e.Rebase && e.Kind == replica.Failed:
		f.loop.Post(func() { re.fail(e.Err) })
	case e.Rebase && e.Kind == replica.FullSyncDone:
		f.loop.Post(re.takeOver)
	case !e.Rebase && e.Kind == replica.FullSyncBegun:
		f.loop.Post(func() { re.fail(errOvertaken) })
	case !e.Rebase && e.Kind == replica.Forked:
		f.loop.Post(func() { re.fail(errForked) })
	case !e.Rebase && e.Kind == replica.Stalled:
		f.loop.Post(func() { re.fail(fmt.Errorf("%w: %w", errStalled, e.Err)) })
	}
}

// ofTheFiles tells an event of the archive itself, and asks for a rebase where a
// segment is damaged.
func (f *follower) ofTheFiles(e archive.Event) {
	f.tell(e)
	f.forked = f.forked || e.Kind == archive.GenerationForked
	if e.Kind == archive.SegmentVerified && e.Err != nil && f.wanted == "" {
		f.wanted = "a sealed segment is damaged"
	}
}

// tell tells an event of the archive.
func (f *follower) tell(e archive.Event) {
	e.Time = time.Now()
	e.Master = f.name
	f.observers.ObserveArchive(e)
}

// countLost tells what the last failover has lost, once what came since shows it.
func (f *follower) countLost() {
	f.counting = true
	f.work.Go(func() {
		m, _, err := archive.Describe(f.dir)
		f.loop.Post(func() {
			f.counting = false
			if err != nil || len(m.Generations) == 0 {
				return
			}
			l := m.Generations[len(m.Generations)-1].Lost
			if f.forked = l != nil && l.Pending; l != nil && !l.Pending && l.Bytes > 0 {
				f.tell(archive.Event{Kind: archive.TailLost, Generation: l.Generation, Offset: l.From, Bytes: l.Bytes, Text: l.String()})
			}
		})
	})
}

// rebaseNow begins a rebase as soon as the link streams.
func (f *follower) rebaseNow(why string) {
	f.wanted, f.notBefore = why, time.Time{}
	f.everySecond(time.Now())
}

func (f *follower) everySecond(now time.Time) {
	if f.forked && !f.counting && !f.stopping {
		f.countLost()
	}
	if f.rebase != nil || f.stopping {
		return
	}
	if now.After(f.nextPrune) {
		f.prune(now)
	}
	if now.Before(f.notBefore) {
		return
	}
	if _, phase := f.link.State(); phase != replica.Stream {
		return
	}
	if why := f.due(now); why != "" {
		f.wanted = ""
		f.beginRebase(why)
	}
}

// configure follows what the configuration says now. It returns whether that is
// another address: then an order of before is void.
func (f *follower) configure(m replica.Master) (repointed bool) {
	f.setCredentials(m.User, m.Password)
	if f.sentinel != nil || f.origin == m.Address() && f.configuredTLS == m.TLS {
		return false
	}
	f.origin, f.configuredTLS, f.noOne = m.Address(), m.TLS, false
	f.status.Order(m.Address(), false)
	f.follow(m)
	return true
}

// close waits for what uses the archive, and closes it. The links have stopped.
// Only the first call has an error.
func (f *follower) close() (err error) {
	f.closing.Do(func() {
		f.leaveRemote()
		f.work.Wait()
		err = f.archive.Close()
	})
	return err
}

// stop ends the links; done is called when nothing uses the archive any more. A
// second call replaces done.
func (f *follower) stop(done func()) {
	f.stopping = true
	if f.relay != nil {
		f.relay.Close()
	}
	if f.unwatch != nil {
		f.unwatch()
	}
	if f.rebase != nil {
		f.rebase.stop(func() { f.link.Stop(done) })
		return
	}
	f.link.Stop(done)
}
