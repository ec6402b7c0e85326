package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"replicad/eventloop"
	"replicad/replica"
	"replicad/replica/archive"
)

// Rebase says when a new full sync is taken beside the running link, so that
// what has to be loaded does not grow for ever. The names are redis.conf's; its
// zero value never rebases.
type Rebase struct {
	// Percentage (auto-aof-rewrite-percentage): when the stream of the
	// generation has so many percent of its base's size; 0 for never.
	Percentage int
	// MinSize (auto-aof-rewrite-min-size): but not while the stream has fewer
	// bytes.
	MinSize int64
	// Every: when the generation's base is so old; 0 for never.
	Every time.Duration
}

// Defaults of the flags.
const (
	DefaultRebasePercentage = 400
	DefaultRebaseMinSize    = 1 << 30
)

// Errors that end a rebase. The generation before goes on as it was.
var (
	ErrRebase    = errors.New("rebase")
	errOvertaken = fmt.Errorf("%w: the link itself had to take a full sync", ErrRebase)
	errNoHistory = fmt.Errorf("%w: the master knows no PSYNC, so nothing tells when a second link has caught up; each reconnect is a full sync anyway", ErrRebase)
	errOther     = fmt.Errorf("%w: the two links are in different histories", ErrRebase)
	errRepointed = fmt.Errorf("%w: the link follows another master now", ErrRebase)
	errStopped   = fmt.Errorf("%w: the daemon stops", ErrRebase)
	errBehind    = fmt.Errorf("%w: the new generation did not catch up", ErrRebase)
)

const (
	// near is how far the second link may be behind for the first one to
	// stop: what is missing comes in a moment, as both read the same bytes.
	near = 1 << 20
	// lookEvery is how often it is looked how far the second link is.
	lookEvery = 10 * time.Millisecond
	// takeOverWithin bounds the time in which the first link is stopped and
	// the second has not taken over.
	takeOverWithin = time.Minute

	firstPause = 10 * time.Second // after a rebase that failed
	lastPause  = time.Hour
)

// due says why a rebase is to begin now; "" for not.
func (f *follower) due(now time.Time) string {
	if f.wanted != "" {
		return f.wanted
	}
	is, ok := f.archive.Current()
	if !ok {
		return ""
	}
	stream := f.archive.Progress().Stored - is.BaseOffset
	if f.near && stream > is.BaseBytes {
		return fmt.Sprintf("the archive is near max-bytes %d, and of this generation %d bytes are stream", f.retention.MaxBytes, stream)
	}
	return f.rules.due(is, stream, now)
}

func (r Rebase) due(is archive.Current, stream int64, now time.Time) string {
	if r.Percentage > 0 && stream >= max(r.MinSize, 1) && float64(stream) >= float64(is.BaseBytes)*float64(r.Percentage)/100 {
		return fmt.Sprintf("the stream has %d bytes, the base %d: auto-aof-rewrite-percentage %d", stream, is.BaseBytes, r.Percentage)
	}
	if age := now.Sub(is.BaseTime); r.Every > 0 && age >= r.Every {
		return fmt.Sprintf("the base is %v old: rebase-every %v", age.Round(time.Second), r.Every)
	}
	return ""
}

// rebase is one under way: a second link takes a full sync into a generation
// beside the one that is followed. When it has caught up the first link ends
// and the generation takes over; until then everything can be given up.
type rebase struct {
	f     *follower
	next  *archive.Successor
	link  *replica.Link
	look  *eventloop.Timer
	began time.Time

	master string // its address

	taking context.CancelFunc // not nil while TakeOver runs
	cause  error              // why it ends without having taken over
	onEnd  func()             // called when it has ended
}

// beginRebase starts the second link.
func (f *follower) beginRebase(why string) {
	f.tell(archive.Event{Kind: archive.RebaseBegun, Text: why})
	r := &rebase{f: f, began: time.Now(), master: f.cfg.Master.Address()}
	if p, _ := f.link.Position(); p.ReplID == "" {
		f.rebaseFailed(errNoHistory)
		return
	}
	r.next = f.archive.NewSuccessor()
	r.link = f.newLink(r.next, true)
	r.look = f.loop.NewTimer(r.caughtUp)
	f.rebase = r
	r.link.Start()
	r.look.Reset(lookEvery)
}

// caughtUp is the time event that looks how far the second link is.
func (r *rebase) caughtUp() {
	if r.taking != nil || r.cause != nil {
		return
	}
	old, _ := r.f.link.Position()
	now, known := r.link.Position()
	_, phase := r.link.State()
	switch {
	case phase != replica.Stream || !known || !r.next.Ready() || old.Offset-now.Offset > near:
		r.look.Reset(lookEvery)
	case now.ReplID != old.ReplID:
		r.fail(errOther)
	default:
		r.takeOver()
	}
}

// takeOver stops the first link, whose end the second one reaches in a moment,
// and has the archive go on in the new generation.
func (r *rebase) takeOver() {
	ctx, cancel := context.WithTimeout(context.Background(), takeOverWithin)
	r.taking = cancel
	r.f.link.StandAside()
	r.f.link.Stop(func() {
		go func() {
			err := r.next.TakeOver(ctx)
			if errors.Is(err, context.DeadlineExceeded) {
				err = fmt.Errorf("%w within %v: %w", errBehind, takeOverWithin, err)
			}
			r.f.loop.Post(func() { r.tookOver(err) })
		}()
	})
}

// tookOver goes on with the second link as the one that is followed, or begins
// to give it up.
func (r *rebase) tookOver(err error) {
	r.taking()
	if err != nil {
		if r.cause == nil {
			r.cause = err
		}
		r.end()
		return
	}
	f := r.f
	f.link, f.rebase, f.failures = r.link, nil, 0
	f.nextPrune, f.near = time.Time{}, false
	f.link.Promote()
	if r.master != f.cfg.Master.Address() { // an order came too late to give it up
		f.link.Follow(f.cfg.Master)
	}
	is, _ := f.archive.Current()
	p, _ := f.link.Position()
	f.tell(archive.Event{Kind: archive.RebaseDone, Generation: is.Generation, Offset: p.Offset, Took: time.Since(r.began)})
	if r.onEnd != nil {
		r.onEnd()
	}
}

// fail gives the rebase up. The first cause counts.
func (r *rebase) fail(cause error) {
	if r.f.rebase != r || r.cause != nil {
		return
	}
	r.cause = cause
	r.look.Stop()
	if r.taking != nil {
		r.taking() // tookOver ends it
		return
	}
	r.end()
}

// stop gives it up because the daemon stops.
func (r *rebase) stop(done func()) {
	r.onEnd = done
	r.fail(errStopped)
}

// end stops the second link and removes what it has made. Where the first one
// was stopped already, another takes its place.
func (r *rebase) end() {
	stopped := r.taking != nil
	r.link.Stop(func() {
		go func() {
			err := r.next.Abort()
			if stopped {
				err = errors.Join(err, r.f.archive.Reset())
			}
			r.f.loop.Post(func() { r.ended(stopped, err) })
		}()
	})
}

func (r *rebase) ended(stopped bool, err error) {
	f := r.f
	f.rebase = nil
	if stopped {
		f.link = f.newLink(f.archive, false)
		if r.onEnd == nil {
			f.start()
		}
	}
	if r.onEnd != nil {
		r.onEnd()
		return
	}
	f.rebaseFailed(errors.Join(r.cause, err))
}

// rebaseFailed tells it, and keeps the next one from coming at once: a full sync
// is dear to the master.
func (f *follower) rebaseFailed(err error) {
	pause := min(firstPause<<min(f.failures, 16), lastPause)
	f.failures++
	f.notBefore = time.Now().Add(pause)
	f.tell(archive.Event{Kind: archive.RebaseFailed, Err: err, Delay: pause})
}
