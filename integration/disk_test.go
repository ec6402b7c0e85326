package integration

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"replicad/integration/poll"
	"replicad/integration/redistest"
)

// The tests on a full disk fill a tmpfs with a ballast and make room by
// removing it.
const (
	diskSize    = "64m"
	ballastSize = 56 << 20
)

const stalledLine = `level=warning msg="the archive can't write: nothing is lost, waiting for the disk" master=main .*no space left on device`

// writeMiB writes values that do not compress, n MiB in all.
func writeMiB(s *redistest.Server, n int) {
	for i := range n * 4 {
		s.Do("SET", fmt.Sprint("mib:", i), noise(256<<10, uint64(i)))
	}
}

func streamOf(t *testing.T, gen string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(gen, "appendonlydir", "appendonly.aof.1.incr.aof"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestADiskThatFillsUpWhileStreamingLosesNothingAndHeals(t *testing.T) {
	t.Parallel()
	for _, fsync := range []string{"everysec", "always"} {
		t.Run(fsync, func(t *testing.T) {
			t.Parallel()
			dir := mountTmpfs(t, diskSize, "")
			makeRoom := ballast(t, dir, ballastSize)
			master := redistest.Start(t, largeBacklog)
			args := append(byAddress(t, master), "--appendfsync", fsync)
			d := run(t, dir, args...)
			d.waitLog(`msg="full sync done"`)
			everyType(master, 0)
			caughtUp(t, master, dir, "main")
			writeMiB(master, 16)
			d.waitLog(stalledLine)
			// What is stored stays; and the link does, for no byte is lost.
			stored := streamOf(t, newest(t, dir, "main").Dir)
			if len(stored) < 4<<20 {
				t.Errorf("only %d bytes were stored before the disk was full", len(stored))
			}
			if n := master.Do("WAIT", 1, 100); n != int64(0) {
				t.Errorf("WAIT counts a replica that can't write: %v", n)
			}
			if n := d.matches("level=warning"); n != 1 {
				t.Errorf("%d warnings, want one", n)
			}
			makeRoom()
			d.waitLog(`msg="the archive writes again"`)
			everyWrite(t, master)
			equal(t, master, dir, "main")
			if !bytes.HasPrefix(streamOf(t, newest(t, dir, "main").Dir), stored) {
				t.Error("what was stored before the disk was full has changed")
			}
			onlyPartial(t, master, 0)
			if n := master.Number("stats", "sync_partial_ok"); n != 0 {
				t.Errorf("the link was cut %d times", n)
			}
			oneGeneration(t, dir, "main")
			d.stop()
		})
	}
}

// TestADaemonThatEndsOnAFullDiskLosesNothingThatItAcknowledged ends it both
// ways while the disk is full, and starts it there too.
func TestADaemonThatEndsOnAFullDiskLosesNothingThatItAcknowledged(t *testing.T) {
	t.Parallel()
	for _, how := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(how.String(), func(t *testing.T) {
			t.Parallel()
			dir := mountTmpfs(t, diskSize, "")
			makeRoom := ballast(t, dir, ballastSize)
			master := redistest.Start(t, largeBacklog)
			args := append(byAddress(t, master), "--loglevel", "debug")
			d := run(t, dir, args...)
			d.waitLog(`msg="full sync done"`)
			writeMiB(master, 16)
			d.waitLog(stalledLine)
			stored := streamOf(t, newest(t, dir, "main").Dir)
			if how == syscall.SIGKILL {
				d.kill()
			} else if d.ends(how, 1); d.matches(`^replicad: .*no space left on device`) != 1 {
				t.Error("no line says why it ended with 1")
			}
			g := newest(t, dir, "main")
			if acked := lastAck(d); g.EndOffset < acked {
				t.Errorf("the archive ends at %d, %d was acknowledged", g.EndOffset, acked)
			}
			if !bytes.HasPrefix(streamOf(t, g.Dir), stored) {
				t.Error("what was stored before has changed")
			}
			// There is no room yet, and the daemon starts all the same.
			d = run(t, dir, args...)
			d.waitLog(`msg="partial resync"`)
			d.waitLog(stalledLine)
			makeRoom()
			equal(t, master, dir, "main")
			onlyPartial(t, master, 1)
			oneGeneration(t, dir, "main")
			d.stop()
		})
	}
}

func TestADiskThatFillsUpDuringAFullSyncKeepsNoTraceOfItAndIsTriedAgainWhenThereIsRoom(t *testing.T) {
	t.Parallel()
	for _, framing := range []string{"repl-diskless-sync yes", "repl-diskless-sync no"} {
		t.Run(framing, func(t *testing.T) {
			t.Parallel()
			dir := mountTmpfs(t, diskSize, "")
			makeRoom := ballast(t, dir, ballastSize)
			master := redistest.Start(t, framing, largeBacklog)
			everyType(master, 0)
			writeMiB(master, 12)
			d := run(t, dir, byAddress(t, master)...)
			first := d.waitLog(`level=warning`)
			if !strings.Contains(first, "in state SYNC/TRANSFER") || !strings.Contains(first, "not enough room for a full sync") || !strings.Contains(first, "free some room below dir") {
				t.Errorf("the line is not as clear as it should be: %s", first)
			}
			// The master is not asked for another as long as there is no room.
			d.waitLog(`level=warning msg="main .* in state NONE: not enough room for a full sync: the last one failed`)
			if n := master.Number("stats", "sync_full"); n != 1 {
				t.Errorf("the master was asked for %d full syncs", n)
			}
			entries, err := os.ReadDir(filepath.Join(dir, "main"))
			if err != nil || len(entries) != 1 {
				t.Errorf("the archive holds %v (%v), want its LOCK alone", entries, err)
			}
			makeRoom()
			d.waitLog(`msg="full sync done"`)
			equal(t, master, dir, "main")
			oneGeneration(t, dir, "main")
			d.stop()
		})
	}
	t.Run("beside an old generation", func(t *testing.T) {
		t.Parallel()
		dir := mountTmpfs(t, diskSize, "")
		makeRoom := ballast(t, dir, ballastSize)
		master := redistest.Start(t, largeBacklog)
		everyType(master, 0)
		d := run(t, dir, byAddress(t, master)...)
		d.waitLog(`msg="full sync done"`)
		g := caughtUp(t, master, dir, "main")
		d.stop()
		digest, old := master.Digest(), files(t, g.Dir)
		master.Kill()
		master.Start()
		writeMiB(master, 12)
		d = run(t, dir, byAddress(t, master)...)
		d.waitLog(`level=warning msg="main .*not enough room for a full sync`)
		poll.Seen(t, "the unfinished generation to go", func() (bool, string) {
			all := generations(t, dir, "main")
			return len(all) == 1, fmt.Sprintf("%+v", all)
		})
		now := files(t, g.Dir)
		for name := range old {
			if strings.HasPrefix(name, "appendonlydir") && !bytes.Equal(old[name], now[name]) {
				t.Errorf("%s of the old generation changed", name)
			}
		}
		makeRoom()
		equal(t, master, dir, "main")
		d.stop()
		if got := redistest.Load(t, g.Dir).Digest(); got != digest {
			t.Errorf("the old generation loads with digest %s, want %s", got, digest)
		}
	})
}

// TestALinkThatIsCutWhileTheDiskIsFullGoesOnWhenThereIsRoom has a master lose
// patience with a replica that does not read. What the kernel has received waits
// for the disk; the link goes on behind it.
func TestALinkThatIsCutWhileTheDiskIsFullGoesOnWhenThereIsRoom(t *testing.T) {
	t.Parallel()
	dir := mountTmpfs(t, diskSize, "")
	makeRoom := ballast(t, dir, ballastSize)
	master := redistest.Start(t, largeBacklog)
	d := run(t, dir, byAddress(t, master)...)
	d.waitLog(`msg="full sync done"`)
	writeMiB(master, 16)
	d.waitLog(stalledLine)
	stored := streamOf(t, newest(t, dir, "main").Dir)
	poll.Seen(t, "a link to cut", func() (bool, string) { return killReplicas(master) == 1, "none" })
	d.waitLog(`cause=closed`)
	makeRoom()
	d.waitLog(`msg="the archive writes again"`)
	d.waitLog(`msg="partial resync"`)
	everyType(master, 1)
	equal(t, master, dir, "main")
	if !bytes.HasPrefix(streamOf(t, newest(t, dir, "main").Dir), stored) {
		t.Error("what was stored before the disk was full has changed")
	}
	onlyPartial(t, master, 1)
	oneGeneration(t, dir, "main")
	d.stop()
}
