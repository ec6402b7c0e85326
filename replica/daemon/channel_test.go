package daemon

import (
	"bytes"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"replicad/integration/poll"
	"replicad/replica"
	"replicad/replica/minimaster"
)

// paced writes some 30 MB a second until the function that it returns is called.
func paced(t *testing.T, m *minimaster.Master) (stop func()) {
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-quit:
				return
			case <-tick.C:
			}
			for k := range 20 {
				if _, err := m.Do("SET", strconv.Itoa(i%100*20+k), strings.Repeat("v", 3000)); err != nil {
					t.Error(err)
					return
				}
			}
		}
	}()
	return sync.OnceFunc(func() { close(quit); <-ended })
}

func TestTheArchiveOfAFullSyncOnTwoConnectionsHoldsWhatTheMasterSent(t *testing.T) {
	t.Parallel()
	for _, dialect := range []minimaster.Dialect{minimaster.RDBChannel, minimaster.DualChannel} {
		t.Run(string(dialect), func(t *testing.T) {
			var offset int64
			m, err := minimaster.Start(minimaster.Config{
				RequirePass: "both channels say it",
				Channels:    dialect, Diskless: true, OutputLimit: 4 << 20, BacklogSize: 64 << 20,
				OnSnapshot: func(at int64, _ []byte) { offset = at },
				Faults:     minimaster.Faults{SaveTime: 500 * time.Millisecond},
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { m.Close() })
			quiet := paced(t, m)
			defer quiet()
			target := parse(t, "m="+m.Addr())
			target.Password = "both channels say it"
			dir := t.TempDir()
			_, rec, stop := running(t, Config{Dir: dir, Masters: []replica.Master{target}})
			rec.await(t, replica.FullSyncDone, 1)
			poll.Until(t, "more of the stream than a replica's output buffer holds", func() bool { return m.Offset() > offset+8<<20 })
			quiet()
			awaitAck(t, m)
			stop()
			if s := m.Stats(); s.SyncFull != 1 {
				t.Errorf("%+v", s)
			}
			g := describe(t, filepath.Join(dir, "m")).Generations
			if len(g) != 1 || g[0].BaseOffset != offset {
				t.Fatalf("%+v, want a base at %d", g, offset)
			}
			first, sent := m.Backlog()
			if got := stream(t, g[0]); !bytes.Equal(got, sent[offset-first+1:]) {
				t.Errorf("the log has %d bytes, the master sent %d others", len(got), len(sent))
			}
		})
	}
}
