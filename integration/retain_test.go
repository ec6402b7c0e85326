package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"replicad/integration/poll"
	"replicad/replica/archive"
)

func TestPruneLetsOldGenerationsGoBesideTheDaemonAndNoneThatIsHeld(t *testing.T) {
	t.Parallel()
	const syncs = 5
	// Each connection finds another history.
	master := script(t, func(c *conversation) {
		if _, _, ok := c.handshake(); !ok {
			return
		}
		rdb := dump(map[string]string{"sync": strconv.Itoa(c.number)}, false)
		c.say("+FULLRESYNC %s 100\r\n$%d\r\n%s", replID(byte('a'+c.number)), len(rdb), rdb)
		c.say("*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n")
		c.acks(func(_, _ int64) {})
	})
	dir := t.TempDir()
	var d *process
	for i := 1; i <= syncs; i++ {
		if d != nil {
			d.stop()
		}
		d = run(t, dir, "--replicaof", "main="+master.addr)
		poll.Seen(t, "another generation", func() (bool, string) {
			g, ok := newestIfAny(t, dir, "main")
			return ok && g.Number == i && g.BaseVerified && g.EndOffset > g.BaseOffset && g.To.After(g.From), fmt.Sprintf("%+v", g)
		})
	}
	prune := func(want int, more ...string) archive.Plan {
		t.Helper()
		stdout, stderr, code := once(t, nil, append([]string{"prune", "--dir", dir, "--keep-for", "0s", "--json"}, more...)...)
		var all []archive.Plan
		if err := json.Unmarshal([]byte(stdout), &all); err != nil || code != 0 || stderr != "" || len(all) != 1 {
			t.Fatalf("prune: code %d, %v\n%s%s", code, err, stdout, stderr)
		}
		if len(all[0].Removals) != want {
			t.Fatalf("prune %v: %d removals, want %d:\n%s", more, len(all[0].Removals), want, stdout)
		}
		return all[0]
	}
	// A moment means the generation that was written then.
	all := generations(t, dir, "main")
	for _, g := range all {
		var places []struct{ Point archive.Point }
		stdout, stderr, code := once(t, nil, "list", "--dir", dir, "--json", "--at", g.To.Format(time.RFC3339Nano))
		if err := json.Unmarshal([]byte(stdout), &places); err != nil || code != 0 || len(places) != 1 || places[0].Point.Generation != g.Number || places[0].Point.Offset != g.EndOffset {
			t.Errorf("list --at the end of %+v: code %d, %v\n%s%s", g, code, err, stdout, stderr)
		}
	}

	prune(0, "--keep-for", "7d")
	// From then on the daemon changes no file by itself.
	poll.Seen(t, "the daemon to have fsynced everything", func() (bool, string) {
		g := newest(t, dir, "main")
		return g.FsyncedOffset == g.EndOffset, fmt.Sprintf("%+v", g)
	})
	before := files(t, dir)
	prune(syncs-2, "--dry-run")
	if what := differ(before, files(t, dir)); what != "" {
		t.Errorf("a dry run changed %s", what)
	}
	held, err := os.Open(all[1].Dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(held.Fd()), syscall.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	p := prune(2)
	if !p.Removals[0].Removed || p.Removals[1].Removed || !p.Removals[1].Held {
		t.Errorf("with the second one held: %+v", p)
	}
	held.Close()
	prune(syncs - 3)
	if left := generations(t, dir, "main"); len(left) != 2 || left[0].Number != syncs-1 {
		t.Errorf("left are %+v", left)
	}
	_, stderr, code := once(t, nil, "list", "--dir", dir, "--at", all[0].To.Format(time.RFC3339Nano))
	if code != 2 {
		t.Errorf("a time that went: code %d\n%s", code, stderr)
	}
	if code, _ := d.signal(syscall.SIGTERM); code != 0 {
		t.Errorf("the daemon ended with code %d", code)
	}
}
