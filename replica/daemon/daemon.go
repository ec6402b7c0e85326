// Package daemon puts the pieces together: an archive and a link for each
// master, all links on one event loop; now and then a rebase, by a short link
// that takes a base. Who asks or orders from outside the loop, as REPLICAOF and
// the Sentinels do, has a [Handle] for each master.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"replicad/eventloop"
	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/daemon/sentinel"
	"replicad/replica/relay"
	"replicad/replica/remote"
)

// Config says what to follow, and where to keep it.
type Config struct {
	Dir     string
	Masters []replica.Master
	Link    replica.Config // of each link, but for Master and Observer
	// PerMaster, where it is not nil, changes what the links of one master are
	// made with: Link, with Master filled in.
	PerMaster func(*replica.Config)
	// Credentials gives masteruser and masterauth of a master as they stand now.
	// It is called when the master has refused them, on any goroutine. May be
	// nil.
	Credentials func(master string) (user, password string, err error)
	Archive     archive.Options // of each archive, but for Observe and ObserveFsync
	// ObserveFsync is archive.Options' for each master. May be nil.
	ObserveFsync func(master string, took time.Duration)
	Rebase       Rebase
	// Sentinel says, by the master's name, which Sentinels know where it is:
	// such a master has no address in Masters.
	Sentinel map[string]sentinel.Config
	// Retention of each archive. Its zero value keeps everything.
	Retention archive.Retention
	// Remote is where each archive is copied to. Its zero value is nowhere.
	Remote remote.Config
	// Relay says how replicas are fed from the archives; its Lineage, Watch, End,
	// Disk and Log are filled in. nil for not.
	Relay    *relay.Config
	Observer Observer // may be nil
	Log      *slog.Logger
}

// ErrSetup is what errors wrap that no waiting mends: a folder that can't be
// used, or that another process uses.
var ErrSetup = errors.New("can't start")

// Daemon follows masters. Open makes one, Run runs it.
type Daemon struct {
	cfg    Config
	loop   *eventloop.Loop
	cron   *eventloop.Timer
	remote *remote.Remote // of all archives; nil for none
	ended  chan struct{}  // closed when the loop runs no more

	changing sync.Mutex // held by Change
	watching context.Context
	watchers sync.WaitGroup
	stopping bool // of the loop's thread: no master is followed any more

	mu        sync.Mutex  // guards what follows; the slices are never changed in place
	followers []*follower // changed on the loop's thread alone
	leaving   []*follower // are followed no more, and still end

	pinging sync.Mutex
	pong    chan struct{} // closed by the loop; nil where no Ping waits for it
}

// cronEvery is how often it is looked whether a rebase is due.
const cronEvery = time.Second

// Open opens the archives. An error wraps ErrSetup, and leaves nothing open.
func Open(cfg Config) (d *Daemon, err error) {
	d = &Daemon{ended: make(chan struct{})}
	defer func() {
		if err != nil {
			d.close()
			d, err = nil, fmt.Errorf("%w: %w", ErrSetup, err)
		}
	}()
	if err := cfg.check(); err != nil {
		return d, err
	}
	if d.loop, err = eventloop.New(); err != nil {
		return d, err
	}
	d.cron = d.loop.NewTimer(d.everySecond)
	cfg.Link.AckDurable = cfg.Archive.AppendFsync == archive.Always
	d.cfg = cfg
	if d.remote, err = openRemote(cfg.Remote); err != nil {
		return d, err
	}
	d.followers, err = d.open(cfg, cfg.Masters)
	return d, err
}

// probeWait is how long the start waits for the remote to show what it can do.
// One that is away is no reason not to start.
const probeWait = 3 * time.Second

// openRemote opens the remote that all archives are copied to; nil for none. The
// error wraps remote.ErrUnconditional where the store can't be used.
func openRemote(cfg remote.Config) (*remote.Remote, error) {
	if cfg.URL == "" {
		return nil, nil
	}
	r, err := remote.Open(cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeWait)
	defer cancel()
	if err := r.Probe(ctx, "start"); errors.Is(err, remote.ErrUnconditional) {
		return nil, err
	}
	return r, nil
}

// check says what is wrong with the masters.
func (c Config) check() error {
	if len(c.Masters) == 0 {
		return errors.New("no master to follow")
	}
	seen := map[string]bool{}
	for _, m := range c.Masters {
		if seen[m.Name] {
			return fmt.Errorf("two masters are named %q: name them as NAME=ADDR", m.Name)
		}
		seen[m.Name] = true
	}
	for name, s := range c.Sentinel {
		if err := s.Check(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// open makes followers of masters, and opens their archives. Beside an error it
// gives those that are open.
func (d *Daemon) open(cfg Config, masters []replica.Master) (opened []*follower, err error) {
	for _, m := range masters {
		f := newFollower(d.loop, cfg, m)
		if err := f.open(cfg.Archive, d.remote, cfg.Log); err != nil {
			return opened, err
		}
		opened = append(opened, f)
		logRecovery(cfg.Log, m, f.archive.Recovery())
	}
	return opened, nil
}

// following are the followers as they are now.
func (d *Daemon) following() []*follower {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.followers
}

func logRecovery(log *slog.Logger, m replica.Master, r archive.Recovery) {
	if log == nil || r.Generation == 0 {
		return
	}
	args := []any{"master", m.Name, "generation", r.Generation, "offset", r.Offset}
	if r.Why != "" {
		args = append(args, "cut_bytes", r.Cut, "why", r.Why)
	}
	log.Info("archive opened", args...)
}

// Run follows the masters until ctx is done; then everything received is
// stored and fsynced.
func (d *Daemon) Run(ctx context.Context) error {
	var cancel context.CancelFunc
	d.watching, cancel = context.WithCancel(ctx)
	d.loop.Post(func() {
		for _, f := range d.following() {
			d.begin(f)
		}
		d.everySecond()
	})
	stop := context.AfterFunc(ctx, func() { d.loop.Post(d.stop) })
	defer stop()
	err := d.loop.Run()
	close(d.ended)
	cancel()
	d.watchers.Wait()
	return errors.Join(err, d.close())
}

// begin begins to follow a master. It runs on the loop.
func (d *Daemon) begin(f *follower) {
	f.start()
	if c := f.sentinel; c != nil {
		watching, cancel := context.WithCancel(d.watching)
		f.unwatch = cancel
		d.watchers.Go(func() { sentinel.Watch(watching, *c, (&Handle{d, f}).sentinelNames) })
	}
}

// everySecond is the daemon's time event.
func (d *Daemon) everySecond() {
	now := time.Now()
	for _, f := range d.following() {
		f.everySecond(now)
	}
	d.cron.Reset(cronEvery)
}

// Cut closes the connections to the masters as a network would.
func (d *Daemon) Cut() {
	d.each(func(f *follower) { f.link.Cut() })
}

// RebaseNow begins a rebase of each archive, whatever the triggers say, as soon
// as its link streams; why goes to the log.
func (d *Daemon) RebaseNow(why string) {
	d.each(func(f *follower) {
		if f.rebase == nil {
			f.rebaseNow(why)
		}
	})
}

// Post runs a function on the loop's thread, which must not wait; false when the
// loop runs no more. To be called before Run or after.
func (d *Daemon) Post(do func()) bool { return d.loop.Post(do) }

// each calls on the loop's thread.
func (d *Daemon) each(do func(*follower)) {
	d.loop.Post(func() {
		for _, f := range d.following() {
			do(f)
		}
	})
}

// stop runs on the loop: when all links have stopped, the loop does.
func (d *Daemon) stop() {
	d.cron.Stop()
	d.stopping = true
	d.mu.Lock()
	all := slices.Concat(d.followers, d.leaving)
	d.mu.Unlock()
	stopAll(all, d.loop.Stop)
}

func (d *Daemon) close() error {
	d.mu.Lock()
	all := slices.Concat(d.followers, d.leaving)
	d.mu.Unlock()
	err := closeAll(all)
	if d.loop != nil {
		err = errors.Join(err, d.loop.Close())
	}
	return err
}

// closeAll closes the archives of followers whose links have stopped, or have
// never begun.
func closeAll(all []*follower) error {
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, f := range all {
		wg.Go(func() { errs[i] = f.close() })
	}
	wg.Wait()
	return errors.Join(errs...)
}
