package integration

import (
	"context"
	"testing"

	"replicad/integration/poll"
	"replicad/integration/redistest"
	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/daemon"
)

// followInSegments follows a master in this process, in segments of size bytes;
// the function that it returns ends that.
func followInSegments(t *testing.T, master *redistest.Server, dir string, size int64, policy archive.Policy) (stop func()) {
	t.Helper()
	m, err := replica.ParseMaster("main=" + master.Addr())
	if err != nil {
		t.Fatal(err)
	}
	d, err := daemon.Open(daemon.Config{
		Dir: dir, Masters: []replica.Master{m},
		Archive: archive.Options{SegmentSize: size, AppendFsync: policy},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestManySegmentsLoadAsTheMastersDataset(t *testing.T) {
	t.Parallel()
	rounds := count(t, "restarts", 4, 30)
	for _, policy := range []archive.Policy{archive.Everysec, archive.Always, archive.No} {
		t.Run(policy.String(), func(t *testing.T) {
			t.Parallel()
			master := redistest.Start(t, largeBacklog)
			everyType(master, 0)
			dir := t.TempDir()
			load := startLoad(t, master, loadRate)
			segments := 0
			for range rounds {
				stop := followInSegments(t, master, dir, 50_000, policy)
				poll.Seen(t, "some more segments", func() (bool, string) {
					g, ok := newestIfAny(t, dir, "main")
					return ok && g.Segments >= segments+3, g.Problem
				})
				stop()
				segments = newest(t, dir, "main").Segments
			}
			load.stop(t)
			stop := followInSegments(t, master, dir, 50_000, policy)
			caughtUp(t, master, dir, "main")
			poll.Seen(t, "all closed segments to be verified", func() (bool, string) {
				g := newest(t, dir, "main")
				return g.Sealed == g.Segments-1 && g.Verified == g.Sealed && g.Damaged == 0, ""
			})
			stop()
			g := newest(t, dir, "main")
			t.Logf("%d segments, %d verified", g.Segments, g.Verified)
			onlyPartial(t, master, int64(rounds-1)) // the last one may have had nothing to ask for
			oneGeneration(t, dir, "main")
			sameDataset(t, master, g.Dir)
		})
	}
}
