package daemon

import (
	"path/filepath"
	"sync"
	"time"

	"replicad/eventloop"
	"replicad/replica"
	"replicad/replica/archive"
)

// follower is what the daemon has for one master. Its methods belong to the
// loop's thread.
type follower struct {
	loop     *eventloop.Loop
	cfg      replica.Config // of its links
	rules    Rebase
	archive  *archive.Archive
	link     *replica.Link
	rebase   *rebase // nil while there is none
	stopping bool

	dir          string
	retention    archive.Retention
	work         sync.WaitGroup // of prune
	pruning      bool
	near         bool // the archive is near max-bytes
	nextPrune    time.Time
	nextOverfull time.Time

	wanted    string    // why a rebase was asked for; "" for none
	notBefore time.Time // after one that failed
	failures  int       // of rebases, in a row
}

func newFollower(loop *eventloop.Loop, cfg Config, m replica.Master) *follower {
	f := &follower{loop: loop, cfg: cfg.Link, rules: cfg.Rebase, retention: cfg.Retention, dir: filepath.Join(cfg.Dir, m.Name)}
	f.cfg.Master = m
	if f.cfg.Observer == nil {
		f.cfg.Observer = replica.Observers(nil)
	}
	return f
}

// open opens the archive and makes the link.
func (f *follower) open(opt archive.Options) (err error) {
	opt.Observe = func(e replica.Event) { f.loop.Post(func() { f.ofTheFiles(e) }) }
	if f.archive, err = archive.Open(f.dir, opt); err != nil {
		return err
	}
	f.link = f.newLink(f.archive, false)
	return nil
}

func (f *follower) newLink(s replica.Store, aside bool) *replica.Link {
	cfg := f.cfg
	cfg.Aside = aside
	cfg.Observer = replica.ObserverFunc(f.observe)
	return replica.NewLink(f.loop, s, cfg)
}

func (f *follower) start() { f.link.Start() }

// observe is told what happens to the links. What follows from it is done
// later: a link is not to be stopped from within.
func (f *follower) observe(e replica.Event) {
	f.cfg.Observer.Observe(e)
	re := f.rebase
	switch {
	case e.Kind == replica.FullSyncDone && !e.Rebase:
		f.nextPrune = time.Time{}
	case re == nil:
	case e.Rebase && e.Kind == replica.Failed:
		f.loop.Post(func() { re.fail(e.Err) })
	case !e.Rebase && e.Kind == replica.FullSyncBegun:
		f.loop.Post(func() { re.fail(errOvertaken) })
	}
}

// ofTheFiles tells an event of the archive as one of the master's.
func (f *follower) ofTheFiles(e replica.Event) {
	f.tell(e)
	if e.Kind == replica.SegmentVerified && e.Err != nil && f.wanted == "" {
		f.wanted = "a sealed segment is damaged"
	}
}

// tell tells an event that is none of a link's own.
func (f *follower) tell(e replica.Event) {
	e.Time = time.Now()
	e.Master = f.cfg.Master.Name
	e.State, e.Phase = f.link.State()
	f.cfg.Observer.Observe(e)
}

func (f *follower) everySecond(now time.Time) {
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

// stop ends the links; done is called when nothing uses the archive any more.
func (f *follower) stop(done func()) {
	f.stopping = true
	if f.rebase != nil {
		f.rebase.stop(func() { f.link.Stop(done) })
		return
	}
	f.link.Stop(done)
}
