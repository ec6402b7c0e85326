// Package live has a conversation with a master for a study: a real handshake and
// full sync, the stream for a while, a cut, and a partial resync. What is received
// goes into a temporary archive that is thrown away.
package live

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/daemon"
	"replicad/replica/study"
)

// Options say what to do.
type Options struct {
	Master replica.Master
	Link   replica.Config // but for Master and Observer
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
	// resumedFor is how long the stream is followed after the resume: the
	// ACK of the second after is seen.
	resumedFor = 1200 * time.Millisecond
	basePath   = archive.AOFDir + "/appendonly.aof.1.base.rdb"
)

// Run has the conversation and gives the study. Where the master can't be followed
// the study tells it, and its Failure is not nil. The error is for what keeps the
// study itself from being made; it wraps ErrSetup, or is ctx's where that was done
// before anything could be followed.
func Run(ctx context.Context, opt Options) (*study.Study, []study.Record, error) {
	dir, err := os.MkdirTemp("", "replicad-study-")
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrSetup, err)
	}
	defer os.RemoveAll(dir)
	r := &run{opt: opt, recorder: &study.Recorder{Keep: opt.Keep}, changed: make(chan struct{}, 1)}
	cfg := opt.Link
	cfg.ReplSyncioTimeout = atMost(cfg.ReplSyncioTimeout, replica.DefaultReplSyncioTimeout, opt.Timeout)
	cfg.ReplTimeout = atMost(cfg.ReplTimeout, replica.DefaultReplTimeout, opt.Timeout)
	cfg.ResolveTimeout = atMost(cfg.ResolveTimeout, opt.Timeout, opt.Timeout)
	d, err := daemon.Open(daemon.Config{Dir: dir, Masters: []replica.Master{opt.Master}, Link: cfg, Observer: r})
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrSetup, err)
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- d.Run(running) }()
	failure, err := r.script(ctx, d)
	stop()
	if e := <-ended; err == nil && e != nil && failure == nil {
		err = fmt.Errorf("%w: %w", ErrSetup, e)
	}
	if err != nil {
		return nil, nil, err
	}
	return r.study(dir, failure)
}

// atMost is d, or its default, but shorter than the time-out of all: so the link
// itself tells what took too long.
func atMost(d, otherwise, timeout time.Duration) time.Duration {
	if d <= 0 {
		d = otherwise
	}
	return min(d, timeout*9/10)
}

// run is a conversation under way. Its observer is on the loop's thread, the
// script on its own.
type run struct {
	opt      Options
	recorder *study.Recorder
	changed  chan struct{}

	mu      sync.Mutex
	last    replica.Event // the one that was told last
	streams int           // how often STREAM was entered
	failure *replica.LinkError
	bytes   int64 // of the payload
	total   int64
}

// Observe implements replica.Observer.
func (r *run) Observe(e replica.Event) {
	r.recorder.Observe(e)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch e.Kind {
	case replica.StateEntered, replica.PhaseEntered:
		if e.Phase == replica.Stream {
			r.streams++
		}
	case replica.TransferBegun:
		r.bytes, r.total = 0, e.Total
	case replica.TransferProgress:
		r.bytes = e.Bytes
	case replica.Failed:
		errors.As(e.Err, &r.failure)
	default:
		return
	}
	r.last = e
	if r.opt.Progress != nil {
		r.opt.Progress(r.place())
	}
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// ObserveArchive implements archive.Observer. Of the archive's events only the check
// of the base belongs to a conversation.
func (r *run) ObserveArchive(e archive.Event) {
	if e.Kind == archive.BaseVerified {
		r.recorder.BaseVerified(e.Time, e.Took)
	}
}

// place is where the link stands, with r.mu.
func (r *run) place() string {
	s := replica.Place(r.last.State, r.last.Phase)
	switch {
	case r.last.Phase != replica.Transfer || r.bytes == 0:
	case r.total > 0:
		s += fmt.Sprintf(", %d of %d bytes", r.bytes, r.total)
	default:
		s += fmt.Sprintf(", %d bytes", r.bytes)
	}
	return s
}

// script is what the study does. The failure is the master's.
func (r *run) script(ctx context.Context, d *daemon.Daemon) (failure *replica.LinkError, err error) {
	if failure, err := r.await(ctx, 1); failure != nil || err != nil {
		return failure, err
	}
	r.follow(ctx, r.opt.For)
	if !r.opt.Resume || ctx.Err() != nil {
		return nil, nil
	}
	r.mu.Lock()
	r.failure = nil
	n := r.streams
	r.mu.Unlock()
	d.Cut()
	failure, err = r.await(ctx, n+1)
	if failure != nil || err != nil {
		return failure, nil // interrupted: what is there is told
	}
	r.follow(ctx, min(r.opt.For, resumedFor))
	return nil, nil
}

func (r *run) follow(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// await waits until STREAM was entered n times, or the link failed. A cut on
// purpose is no failure.
func (r *run) await(ctx context.Context, n int) (*replica.LinkError, error) {
	late := time.NewTimer(r.opt.Timeout)
	defer late.Stop()
	for {
		r.mu.Lock()
		streams, failure := r.streams, r.failure
		r.mu.Unlock()
		switch {
		case streams >= n:
			return nil, nil
		case failure != nil && !(errors.Is(failure, replica.ErrClosed) && strings.Contains(failure.Error(), "on purpose")):
			return r.advise(failure), nil
		}
		select {
		case <-r.changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-late.C:
			return r.tooLate(), nil
		}
	}
}

// tooLate is the failure of a study that ran out of its time.
func (r *run) tooLate() *replica.LinkError {
	r.mu.Lock()
	defer r.mu.Unlock()
	return &replica.LinkError{
		Master: r.opt.Master.String(), State: r.last.State, Phase: r.last.Phase,
		Cause:  fmt.Errorf("%w: the stream has not begun within %v (%s)", replica.ErrDeadline, r.opt.Timeout, r.place()),
		Remedy: "raise --timeout where the master only needs longer, as for a large dataset",
	}
}

// advise makes the remedy one for this command.
func (r *run) advise(e *replica.LinkError) *replica.LinkError {
	advised := *e
	advised.Remedy = study.Advice(e.Remedy)
	return &advised
}

// study explains what was recorded; the payloads are read from the archive.
func (r *run) study(dir string, failure *replica.LinkError) (*study.Study, []study.Record, error) {
	records, dropped := r.recorder.Records()
	masters, err := archive.List(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrSetup, err)
	}
	records, err = study.AddPayloads(records, r.opt.Keep, func(n int, p []byte, at int64) error {
		if len(masters) != 1 || n > len(masters[0].Generations) {
			return os.ErrNotExist
		}
		f, err := os.Open(filepath.Join(masters[0].Generations[n-1].Dir, basePath))
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.ReadAt(p, at)
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrSetup, err)
	}
	s := study.Explain(r.opt.Master.Address(), records)
	s.Failure, s.Dropped = failure, dropped
	return s, records, nil
}
