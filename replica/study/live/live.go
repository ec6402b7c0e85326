// Package live has a conversation with a master for a study: a real handshake and
// full sync, the stream for a while, a cut, and a partial resync. What is
// received goes into a temporary archive that is thrown away.
package live

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/daemon"
	"replicad/replica/study"
	"replicad/replica/units"
)

// Options say what to do.
type Options struct {
	Link replica.Config // but for Observer
	// For is how long the stream is followed.
	For time.Duration
	// Resume cuts the link behind that, once, and follows it on.
	Resume bool
	// Timeout bounds the time until the stream begins, and until it goes on
	// after the cut.
	Timeout time.Duration
	// Keep is how many bytes of the stream of each connection are kept, and of
	// a payload at the least study.DefaultHead; 0 for study.DefaultKeep.
	Keep int64
	// Progress is told where the link stands, each time that changes; may be
	// nil. It must not wait.
	Progress func(string)
}

// ErrSetup is what errors wrap that are not the master's: no room for a temporary
// archive, for example.
var ErrSetup = errors.New("can't begin a study")

const (
	// resumedFor is how long the stream is followed after the resume: long
	// enough to see the next ACK, which comes each second.
	resumedFor = 1200 * time.Millisecond
	basePath   = archive.AOFDir + "/appendonly.aof.1.base.rdb"
)

// Run has the conversation and gives the study, with the records that it
// explains. If the master can't be followed the study tells that, and its
// Failure is not nil. The error is for what keeps the study itself from being
// made: it wraps ErrSetup, or is ctx's if ctx was done before the stream began.
func Run(ctx context.Context, opt Options) (*study.Study, []study.Record, error) {
	dir, err := os.MkdirTemp("", "replicad-study-")
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrSetup, err)
	}
	defer os.RemoveAll(dir)
	r := &run{opt: opt, recorder: &study.Recorder{Keep: opt.Keep}, outcomes: make(chan *replica.LinkError, 8)}
	r.last.Store(&replica.Event{})
	failure, err := r.converse(ctx, dir)
	if err != nil {
		return nil, nil, err
	}
	records, dropped := r.recorder.Records()
	records, err = study.AddPayloads(records, opt.Keep, payloads(dir))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrSetup, err)
	}
	s := study.Explain(opt.Link.Master.Address(), records)
	s.Failure, s.Dropped = failure, dropped
	return s, records, nil
}

// payloads reads the payloads of full syncs from the bases of an archive's
// generations.
func payloads(dir string) study.Reader {
	return func(n int, p []byte, at int64) error {
		bases, err := filepath.Glob(filepath.Join(dir, "*", "*", basePath)) // of each master and generation
		if err != nil || n > len(bases) {
			return cmp.Or(err, os.ErrNotExist)
		}
		f, err := os.Open(bases[n-1])
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.ReadAt(p, at)
		return err
	}
}

// run is a conversation under way. Its observer is called on the loop's thread;
// the script has a goroutine of its own.
type run struct {
	opt      Options
	recorder *study.Recorder
	outcomes chan *replica.LinkError       // why the link failed; nil: the stream has begun
	last     atomic.Pointer[replica.Event] // that said where the link stands
}

// converse runs a daemon with one link while the script follows it. The failure
// is the master's.
func (r *run) converse(ctx context.Context, dir string) (*replica.LinkError, error) {
	link := r.opt.Link
	link.ReplSyncioTimeout = r.within(link.ReplSyncioTimeout, replica.DefaultReplSyncioTimeout)
	link.ReplTimeout = r.within(link.ReplTimeout, replica.DefaultReplTimeout)
	link.ResolveTimeout = r.within(link.ResolveTimeout, r.opt.Timeout)
	d, err := daemon.Open(daemon.Config{Dir: dir, Masters: []replica.Master{r.opt.Link.Master}, Link: link, Observer: r})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSetup, err)
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- d.Run(running) }()
	failure, err := r.script(ctx, d)
	stop()
	if e := <-ended; e != nil && err == nil && failure == nil {
		return nil, fmt.Errorf("%w: %w", ErrSetup, e)
	}
	return failure, err
}

// within is a time-out of the link, or its default, but shorter than that of the
// study: so the link itself tells what took too long.
func (r *run) within(d, otherwise time.Duration) time.Duration {
	if d <= 0 {
		d = otherwise
	}
	return min(d, r.opt.Timeout*9/10)
}

// Observe implements [replica.Observer].
func (r *run) Observe(e replica.Event) {
	var failure *replica.LinkError
	if errors.As(e.Err, &failure) {
		advised := *failure
		advised.Remedy = strings.ReplaceAll(failure.Remedy, "below dir", "below TMPDIR") // where the archive is
		failure, e.Err = &advised, &advised
	}
	r.recorder.Observe(e)
	switch e.Kind {
	case replica.StateEntered, replica.PhaseEntered:
		if e.Phase == replica.Stream {
			r.tell(nil)
		}
	case replica.TransferBegun, replica.TransferProgress:
	case replica.Failed:
		if failure != nil && !errors.Is(failure, replica.ErrCut) {
			r.tell(failure)
		}
	default:
		return
	}
	r.last.Store(&e)
	if r.opt.Progress != nil {
		r.opt.Progress(place(e))
	}
}

// tell tells the script of an outcome, if it has not heard too many already.
func (r *run) tell(failure *replica.LinkError) {
	select {
	case r.outcomes <- failure:
	default:
	}
}

// ObserveArchive implements [archive.Observer]. Of the archive's events only the
// check of the base belongs to a conversation.
func (r *run) ObserveArchive(e archive.Event) {
	if e.Kind == archive.BaseVerified {
		r.recorder.BaseVerified(e.Time, e.Took)
	}
}

// place is where the link stands behind an event.
func place(e replica.Event) string {
	s := replica.Place(e.State, e.Phase)
	if e.Bytes > 0 {
		s += ", " + units.Size(e.Bytes)
	}
	if e.Bytes > 0 && e.Total > 0 {
		s += " of " + units.Size(e.Total)
	}
	return s
}

// script is what a study does. If ctx is done once the stream has begun, the
// study tells what has happened until then.
func (r *run) script(ctx context.Context, d *daemon.Daemon) (*replica.LinkError, error) {
	if failure, err := r.await(ctx); failure != nil || err != nil {
		return failure, err
	}
	wait(ctx, r.opt.For)
	if !r.opt.Resume || ctx.Err() != nil {
		return nil, nil
	}
	for len(r.outcomes) > 0 {
		<-r.outcomes
	}
	d.Cut()
	failure, _ := r.await(ctx)
	if failure == nil {
		wait(ctx, min(r.opt.For, resumedFor))
	}
	return failure, nil
}

func wait(ctx context.Context, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-ctx.Done()
}

// await waits until the stream begins, or the link fails other than by the cut.
func (r *run) await(ctx context.Context) (*replica.LinkError, error) {
	select {
	case failure := <-r.outcomes:
		return failure, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(r.opt.Timeout):
	}
	last := r.last.Load()
	return &replica.LinkError{
		Master: r.opt.Link.Master.String(), State: last.State, Phase: last.Phase,
		Cause:  fmt.Errorf("%w: the stream has not begun within %v (%s)", replica.ErrDeadline, r.opt.Timeout, place(*last)),
		Remedy: "raise --timeout if the master only needs longer, as for a large dataset",
	}, nil
}
