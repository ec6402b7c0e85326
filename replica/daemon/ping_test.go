package daemon

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"replicad/integration/poll"
	"replicad/replica"
)

func TestPingIsAnsweredByALoopThatLivesAndByNoOther(t *testing.T) {
	t.Parallel()
	m := startMaster(t)
	var fsyncs atomic.Int64
	cfg := Config{Dir: t.TempDir(), Masters: []replica.Master{parse(t, "m="+m.Addr())}, ObserveFsync: func(master string, took time.Duration) {
		if master == "m" && took > 0 {
			fsyncs.Add(1)
		}
	}}
	d, _, stop := running(t, cfg)
	h := handle(t, d)
	if err := h.Ping(t.Context()); err != nil {
		t.Errorf("of a loop that runs: %v", err)
	}
	awaitStream(t, m)
	if got := h.Disk(time.Minute); got.Err != nil || got.Free <= 0 || got.Size < got.Free || len(got.Archive.Generations) != 1 {
		t.Errorf("%+v", got)
	}
	if a, err := h.Archive(); err != nil || a.Name != "m" {
		t.Errorf("%+v, %v", a, err)
	}

	// A loop that stands still gets no more to do for each who asks.
	standing, release := make(chan struct{}), make(chan struct{})
	d.each(func(*follower) { close(standing); <-release })
	<-standing
	for range 100 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		if err := h.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("of a loop that stands still: %v", err)
		}
		cancel()
	}
	first, _ := d.ping()
	if again, _ := d.ping(); first != again {
		t.Error("a second one was posted")
	}
	close(release)
	if err := h.Ping(t.Context()); err != nil {
		t.Errorf("of a loop that goes on: %v", err)
	}
	poll.Until(t, "an fsync to be told of", func() bool { return fsyncs.Load() > 0 })
	stop()
	if err := h.Ping(t.Context()); !errors.Is(err, ErrStopped) {
		t.Errorf("of a loop that has ended: %v", err)
	}
}
