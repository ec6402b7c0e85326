package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"replicad/anet"
	"replicad/replica"
	"replicad/replica/archive"
)

// Rebase says when a new base is taken beside the running link, so that
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
	errForked    = fmt.Errorf("%w: the link went back to a fork", ErrRebase)
	errNoHistory = fmt.Errorf("%w: the master knows no PSYNC, so nothing tells where a base stands in the log; each reconnect is a full sync anyway", ErrRebase)
	errRepointed = fmt.Errorf("%w: the link follows another master now", ErrRebase)
	errStopped   = fmt.Errorf("%w: the daemon stops", ErrRebase)
	errStalled   = fmt.Errorf("%w: the disk is needed for the stream", ErrRebase)
)

const (
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

// rebase is one under way: a short link takes a base beside the log, and then the
// archive makes a generation of both. The link that is followed goes on all the
// while; until the end everything can be given up.
type rebase struct {
	f      *follower
	next   *archive.Rebase
	link   *replica.Link
	began  time.Time
	ctx    context.Context // of the take-over
	cancel context.CancelFunc
	taking bool   // the take-over runs
	cause  error  // why it is given up
	onEnd  func() // called when it has ended
}

// beginRebase starts the short link. It goes to the very address that the link
// has, of those that the master's name may have.
func (f *follower) beginRebase(why string) {
	f.tell(archive.Event{Kind: archive.RebaseBegun, Text: why})
	r := &rebase{f: f, began: time.Now(), next: f.archive.NewRebase()}
	at, connected := f.link.Endpoint()
	if p, _ := f.link.Position(); p.ReplID == "" || !connected {
		f.rebaseFailed(errNoHistory)
		return
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	cfg := f.cfg
	cfg.Until = replica.Transfer
	cfg.Resolve = func(context.Context, string, int) ([]anet.Endpoint, error) { return []anet.Endpoint{at}, nil }
	r.link = replica.NewLink(f.loop, r.next, cfg)
	f.rebase = r
	r.link.Start()
}

// takeOver has the archive go on behind the base, which is complete. The short
// link has ended.
func (r *rebase) takeOver() {
	if r.cause != nil {
		return
	}
	r.taking = true
	go func() {
		err := r.next.TakeOver(r.ctx)
		r.f.loop.Post(func() { r.tookOver(err) })
	}()
}

// tookOver tells that the archive went on in the new generation, or removes what
// was made of it.
func (r *rebase) tookOver(err error) {
	r.taking = false
	if err != nil {
		if r.cause == nil {
			r.cause = err
		}
		r.end()
		return
	}
	f := r.f
	r.cancel()
	f.rebase, f.failures = nil, 0
	f.nextPrune, f.near = time.Time{}, false
	is, _ := f.archive.Current()
	f.tell(archive.Event{Kind: archive.RebaseDone, Generation: is.Generation, Offset: is.BaseOffset, Took: time.Since(r.began)})
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
	r.cancel()
	if !r.taking { // else tookOver ends it
		r.end()
	}
}

// stop gives it up because the daemon stops.
func (r *rebase) stop(done func()) {
	r.onEnd = done
	r.fail(errStopped)
}

// end stops the short link, and removes what was made.
func (r *rebase) end() {
	r.link.Stop(func() {
		go func() {
			err := r.next.Abort()
			r.f.loop.Post(func() { r.ended(err) })
		}()
	})
}

func (r *rebase) ended(err error) {
	r.f.rebase = nil
	if r.onEnd != nil {
		r.onEnd()
		return
	}
	r.f.rebaseFailed(errors.Join(r.cause, err))
}

// rebaseFailed tells it, and keeps the next one from coming at once: a full sync
// is dear to the master.
func (f *follower) rebaseFailed(err error) {
	pause := min(firstPause<<min(f.failures, 16), lastPause)
	f.failures++
	f.notBefore = time.Now().Add(pause)
	f.tell(archive.Event{Kind: archive.RebaseFailed, Err: err, Delay: pause})
}
