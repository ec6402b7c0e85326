package integration

import (
	"fmt"
	"testing"

	"replicad/integration/poll"
	"replicad/integration/redistest"
)

func TestAFullSyncOnTwoConnectionsOutlivesAnOutputBufferThatIsTooSmall(t *testing.T) {
	t.Parallel()
	keys := count(t, "keys of 100,000 bytes", 300, 20_000)
	for _, channels := range []string{"yes", "no"} {
		t.Run("dual-channel-replication-enabled "+channels, func(t *testing.T) {
			t.Parallel()
			// The RDB takes a second; each second more is written than a
			// replica's output buffer may hold.
			master := redistest.StartValkey(t, "repl-backlog-size 1mb", "repl-diskless-sync-delay 0",
				"dual-channel-replication-enabled "+channels, "client-output-buffer-limit replica 4mb 4mb 60", fmt.Sprint("rdb-key-save-delay ", 1_000_000/keys))
			master.Do("DEBUG", "POPULATE", keys, "key", 100_000)
			load := startLoad(t, master, 16<<20)
			dir := t.TempDir()
			d := run(t, dir, byAddress(t, master)...)
			if channels == "no" { // which is the point
				d.waitLog(`state SYNC/TRANSFER: the master closed the connection`)
				load.stop(t)
				d.stop()
				return
			}
			buffered := sampleBuffers(t, master)
			d.waitLog(`msg="full sync done"`)
			links, most := buffered()
			t.Logf("the master had %d links, and buffered at most %d bytes for one", links, most)
			poll.Seen(t, "more load", func() (bool, string) { n := load.commands.Load(); return n > 500, fmt.Sprint(n) })
			load.stop(t)
			g := caughtUp(t, master, dir, "main")
			loaded := master.Load(g.Dir)
			if want, got := master.Digest(), loaded.Digest(); want != got {
				t.Errorf("DEBUG DIGEST: the master's is %s, that of the loaded archive %s", want, got)
			}
			oneGeneration(t, dir, "main")
			oneFullSync(t, d)
			if n := d.matches(`level=warning`); n > 0 {
				t.Errorf("%d warnings", n)
			}
			d.stop()
		})
	}
}
