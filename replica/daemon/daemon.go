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
	"sync"
	"time"

	"replicad/eventloop"
	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/daemon/sentinel"
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
	Observer  Observer // may be nil
	Log       *slog.Logger
}

// ErrSetup is what errors wrap that no waiting mends: a folder that can't be
// used, or that another process uses.
var ErrSetup = errors.New("can't start")

// Daemon follows masters. Open makes one, Run runs it.
type Daemon struct {
	loop      *eventloop.Loop
	followers []*follower
	cron      *eventloop.Timer
	ended     chan struct{} // closed when the loop runs no more

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
	if len(cfg.Masters) == 0 {
		return d, errors.New("no master to follow")
	}
	seen := map[string]bool{}
	for _, m := range cfg.Masters {
		if seen[m.Name] {
			return d, fmt.Errorf("two masters are named %q: name them as NAME=ADDR", m.Name)
		}
		seen[m.Name] = true
	}
	if d.loop, err = eventloop.New(); err != nil {
		return d, err
	}
	d.cron = d.loop.NewTimer(d.everySecond)
	cfg.Link.AckDurable = cfg.Archive.AppendFsync == archive.Always
	for name, c := range cfg.Sentinel {
		if err := c.Check(); err != nil {
			return d, fmt.Errorf("%s: %w", name, err)
		}
	}
	for _, m := range cfg.Masters {
		f := newFollower(d.loop, cfg, m)
		if err := f.open(cfg.Archive, cfg.Log); err != nil {
			return d, err
		}
		d.followers = append(d.followers, f)
		logRecovery(cfg.Log, m, f.archive.Recovery())
	}
	return d, nil
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
	for _, f := range d.followers {
		d.loop.Post(f.start)
	}
	d.loop.Post(d.everySecond)
	stop := context.AfterFunc(ctx, func() { d.loop.Post(d.stop) })
	defer stop()
	watching, cancel := context.WithCancel(ctx)
	var watchers sync.WaitGroup
	for _, h := range d.Handles() {
		if c := h.f.sentinel; c != nil {
			watchers.Go(func() { sentinel.Watch(watching, *c, h.sentinelNames) })
		}
	}
	err := d.loop.Run()
	close(d.ended)
	cancel()
	watchers.Wait()
	return errors.Join(err, d.close())
}

// everySecond is the daemon's time event.
func (d *Daemon) everySecond() {
	now := time.Now()
	for _, f := range d.followers {
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
		for _, f := range d.followers {
			do(f)
		}
	})
}

// stop runs on the loop: when all links have stopped, the loop does.
func (d *Daemon) stop() {
	d.cron.Stop()
	left := len(d.followers)
	for _, f := range d.followers {
		f.stop(func() {
			if left--; left == 0 {
				d.loop.Stop()
			}
		})
	}
}

func (d *Daemon) close() error {
	errs := make([]error, len(d.followers)+1)
	var wg sync.WaitGroup
	for i, f := range d.followers {
		wg.Go(func() {
			f.work.Wait()
			errs[i] = f.archive.Close()
		})
	}
	wg.Wait()
	if d.loop != nil {
		errs[len(d.followers)] = d.loop.Close()
	}
	return errors.Join(errs...)
}
