package integration

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"replicad/integration/poll"
	"replicad/integration/redistest"
)

// largeBacklog keeps every byte that these tests let a master send.
const largeBacklog = "repl-backlog-size 256mb"

// loadRate is in bytes a second.
const loadRate = 4 << 20

// onlyPartial checks what the master counted: one full sync, and as many
// partial ones as are expected at least.
func onlyPartial(t *testing.T, master *redistest.Server, least int64) {
	t.Helper()
	full, ok, refused := master.Number("stats", "sync_full"), master.Number("stats", "sync_partial_ok"), master.Number("stats", "sync_partial_err")
	t.Logf("the master counted %d full syncs, %d partial ones, %d refused", full, ok, refused)
	// PSYNC ? -1 counts as neither.
	if full != 1 || refused != 0 || ok < least {
		t.Errorf("the master counted %d full syncs, %d partial ones, %d refused; want 1, at least %d, 0", full, ok, refused, least)
	}
}

func oneGeneration(t *testing.T, dir, name string) {
	t.Helper()
	if g := generations(t, dir, name); len(g) != 1 || g[0].Problem != "" {
		t.Errorf("want one sound generation, have %+v", g)
	}
}

func TestKilledAtAnyMomentTheDaemonResumesWhereItWas(t *testing.T) {
	t.Parallel()
	n := count(t, "kill -9", 6, 50)
	master := redistest.Start(t, largeBacklog)
	everyType(master, 0)
	load := startLoad(t, master, loadRate)
	dir := t.TempDir()
	d := run(t, dir, byAddress(t, master)...)
	d.waitLog(`msg="full sync done"`)
	resumed := 0
	for i := range n {
		// Every other one is killed in its handshake, or even before.
		if i%2 == 0 && i > 0 {
			d.waitLog(`msg="partial resync"`)
		}
		time.Sleep(rand.N(250 * time.Millisecond)) // the random moment
		d.kill()
		resumed += d.matches(`msg="partial resync"`)
		d = run(t, dir, append(byAddress(t, master), "--appendfsync", []string{"everysec", "always", "no"}[i%3])...)
	}
	d.waitLog(`msg="partial resync"`)
	resumed++
	load.stop(t)
	equal(t, master, dir, "main")
	onlyPartial(t, master, int64(max(resumed, n/2)))
	oneGeneration(t, dir, "main")
	if full := d.matches(`msg="full sync"`); full != 0 {
		t.Error("the last daemon took a full sync")
	}
}

func TestALinkThatTheMasterCutsResumesWhereItWas(t *testing.T) {
	t.Parallel()
	n := count(t, "CLIENT KILL TYPE replica", 12, 50)
	master := redistest.Start(t, largeBacklog)
	load := startLoad(t, master, loadRate)
	dir := t.TempDir()
	d := run(t, dir, byAddress(t, master)...)
	d.waitLog(`msg="full sync done"`)
	for range n {
		poll.Seen(t, "the link to be there", func() (bool, string) {
			n := master.Info("replication")["connected_slaves"]
			return n == "1", n
		})
		time.Sleep(rand.N(300 * time.Millisecond)) // the random moment
		if killed := killReplicas(master); killed != 1 {
			t.Fatalf("%d links were cut", killed)
		}
	}
	load.stop(t)
	equal(t, master, dir, "main")
	onlyPartial(t, master, int64(n))
	oneGeneration(t, dir, "main")
	if ok := master.Number("stats", "sync_partial_ok"); ok != int64(n) {
		t.Errorf("%d links were cut, and %d resumed", n, ok)
	}
}

func TestAMasterWithAnotherHistoryOpensTheNextGenerationAndLeavesTheOldOne(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	everyType(master, 0)
	dir := t.TempDir()
	d := run(t, dir, byAddress(t, master)...)
	d.waitLog(`msg="full sync done"`)
	everyWrite(t, master)
	before := caughtUp(t, master, dir, "main")
	digest := master.Digest()
	first := files(t, before.Dir)

	master.Kill()
	d.waitLog(`ECONNREFUSED`)
	master.Start()
	everyType(master, 4)
	d.waitLog(`msg="full sync" .*another history`)
	second := caughtUp(t, master, dir, "main")
	if second.Number != before.Number+1 {
		t.Fatalf("the generation is number %d, want %d", second.Number, before.Number+1)
	}
	// The old one has said where it ends; nothing else changed, or will.
	poll.Until(t, "the old generation to be closed", func() bool { return generations(t, dir, "main")[0].Closed })
	closed := files(t, before.Dir)
	for name, content := range first {
		switch {
		case name == "timeline":
			if !bytes.HasPrefix(closed[name], content) {
				t.Errorf("the old timeline does not begin as it did:\n%s\nwas\n%s", closed[name], content)
			}
		case !bytes.Equal(closed[name], content) && name != "fsynced":
			t.Errorf("%s of the old generation changed: %d bytes, were %d", name, len(closed[name]), len(content))
		}
	}
	everyType(master, 0)
	everyWrite(t, master)
	sameDataset(t, master, caughtUp(t, master, dir, "main").Dir)
	d.stop()
	if changed := differ(closed, files(t, before.Dir)); changed != "" {
		t.Errorf("the old generation changed after the new one began: %s", changed)
	}
	loaded := redistest.Load(t, before.Dir)
	if got := loaded.Digest(); got != digest {
		t.Errorf("the old generation loads with digest %s, want %s", got, digest)
	}
}

// files reads all files below a folder.
func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		all[rel], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// differ names the files that are not the same, or not in both.
func differ(a, b map[string][]byte) string {
	text := ""
	for name := range a {
		if other, ok := b[name]; !ok || !bytes.Equal(a[name], other) {
			text += " " + name
		}
	}
	for name := range b {
		if _, ok := a[name]; !ok {
			text += " " + name
		}
	}
	return text
}

func TestTheStreamOfAChainedReplicaLandsInItsDatabase(t *testing.T) {
	t.Parallel()
	top := redistest.Start(t)
	middle := redistest.Start(t, "replicaof 127.0.0.1 "+strconv.Itoa(top.Port))
	inStep := func() {
		t.Helper()
		poll.Seen(t, "the replica to be where its master is", func() (bool, string) {
			info := middle.Info("replication")
			saw := fmt.Sprint(info["master_link_status"], info["slave_repl_offset"], top.Offset())
			return info["master_link_status"] == "up" && info["slave_repl_offset"] == strconv.FormatInt(top.Offset(), 10), saw
		})
	}
	inStep()
	// The stream's database is 5 from here on, and nobody says so again.
	top.DoIn(5, "SET", "before the sync", 1)
	inStep()
	dir := t.TempDir()
	d := run(t, dir, byAddress(t, middle)...)
	d.waitLog(`msg="full sync done"`)
	g := newest(t, dir, "main")
	for i := range 10 {
		top.DoIn(5, "SET", fmt.Sprint("after the sync:", i), allBytes())
	}
	inStep()
	caughtUp(t, middle, dir, "main")
	stream, err := os.ReadFile(filepath.Join(g.Dir, "appendonlydir", "appendonly.aof.1.incr.aof"))
	if err != nil {
		t.Fatal(err)
	}
	const header = "*2\r\n$6\r\nSELECT\r\n$1\r\n5\r\n"
	if rest, ok := strings.CutPrefix(string(stream), header); !ok || strings.Contains(rest, "SELECT") {
		t.Fatalf("this proves nothing: the stream selects a database by itself, or its header is not that of database 5: %q", stream[:min(100, len(stream))])
	}
	sameDataset(t, top, g.Dir)

	d.kill()
	top.DoIn(5, "SET", "while it was away", 1)
	d = run(t, dir, byAddress(t, middle)...)
	d.waitLog(`msg="partial resync"`)
	top.DoIn(5, "SET", "after it came back", 1)
	inStep()
	loaded := equal(t, middle, dir, "main")
	if n := loaded.DoIn(5, "DBSIZE"); n != int64(13) {
		t.Errorf("database 5 has %v keys, want 13", n)
	}
	if n := loaded.DoIn(0, "DBSIZE"); n != int64(0) {
		t.Errorf("database 0 has %v keys, want none", n)
	}
	top.DoIn(2, "SET", "elsewhere", 1)
	top.DoIn(5, "SET", "and back", 1)
	inStep()
	equal(t, middle, dir, "main")
	oneGeneration(t, dir, "main")
	onlyPartial(t, middle, 1)
}

func TestAPromotedReplicaContinuesTheHistoryUnderItsOwnID(t *testing.T) {
	t.Parallel()
	old := redistest.Start(t)
	promoted := redistest.Start(t, "replicaof 127.0.0.1 "+strconv.Itoa(old.Port))
	everyType(old, 0)
	dir := t.TempDir()
	d := run(t, dir, byAddress(t, old)...)
	d.waitLog(`msg="full sync done"`)
	everyWrite(t, old)
	caughtUp(t, old, dir, "main")
	poll.Seen(t, "the replica to be where its master is", func() (bool, string) {
		a, b := old.Offset(), promoted.Offset()
		return a == b && promoted.Info("replication")["master_link_status"] == "up", fmt.Sprint(a, b)
	})
	oldID := old.ReplID()
	d.stop()
	end := newest(t, dir, "main").EndOffset
	old.Kill()
	promoted.Do("REPLICAOF", "NO", "ONE")
	newID := promoted.ReplID()
	if newID == oldID {
		t.Fatal("this proves nothing: the promoted replica kept the id")
	}
	promoted.DoIn(3, "SET", "after the failover", 1)

	d = run(t, dir, byAddress(t, promoted)...)
	line := d.waitLog(`msg="partial resync"`)
	if !strings.Contains(line, "replid="+newID) || !strings.Contains(line, "former_replid="+oldID) {
		t.Errorf("the log does not name both ids: %s", line)
	}
	promoted.Do("FLUSHALL")
	everyType(promoted, 0)
	everyWrite(t, promoted)
	equal(t, promoted, dir, "main")
	oneGeneration(t, dir, "main")

	stdout, _, code := once(t, nil, "list", "--dir", dir, "--json")
	var first, second int
	if first, second = strings.Index(stdout, oldID), strings.Index(stdout, newID); code != 0 || first < 0 || second < first {
		t.Errorf("list --json does not name %s, then %s:\n%s", oldID, newID, stdout)
	}
	h := newest(t, dir, "main").Histories
	if len(h) != 2 || h[0].ReplID != oldID || h[1].ReplID != newID || h[1].From != end {
		t.Errorf("histories %+v; want %s, and from offset %d %s", h, oldID, end, newID)
	}

	// And it is the new id that a restart asks for.
	d.kill()
	promoted.Do("SET", "and on", 1)
	d = run(t, dir, byAddress(t, promoted)...)
	d.waitLog(`msg="partial resync" .*replid=` + newID)
	equal(t, promoted, dir, "main")
	oneGeneration(t, dir, "main")
}

func TestWAITCountsTheDaemonOnceTheWriteIsInTheFile(t *testing.T) {
	t.Parallel()
	for _, fsync := range []string{"always", "everysec"} {
		t.Run(fsync, func(t *testing.T) {
			t.Parallel()
			n := count(t, "writes", 300, 5000)
			master := redistest.Start(t)
			dir := t.TempDir()
			d := run(t, dir, append(byAddress(t, master), "--appendfsync", fsync)...)
			d.waitLog(`msg="full sync done"`)
			g := newest(t, dir, "main")
			f, err := os.Open(filepath.Join(g.Dir, "appendonlydir", "appendonly.aof.1.incr.aof"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			var total, most time.Duration
			var at int64
			for i := range n {
				value := fmt.Sprintf("value-%d-of-%s", i, fsync)
				master.Do("SET", "key", value)
				offset := master.Offset()
				began := time.Now()
				if got := master.Do("WAIT", 1, patience.Milliseconds()); got != int64(1) {
					t.Fatalf("WAIT 1 after write %d returned %v, want 1", i, got)
				}
				took := time.Since(began)
				total, most = total+took, max(most, took)
				st, err := f.Stat()
				if err != nil {
					t.Fatal(err)
				}
				added := make([]byte, st.Size()-at)
				if _, err := f.ReadAt(added, at); err != nil {
					t.Fatal(err)
				}
				if at = st.Size(); !bytes.Contains(added, []byte(value)) {
					t.Fatalf("WAIT returned, but write %d is not in the file: %q was added", i, added)
				}
				if fsync != "always" {
					continue
				}
				if durable := newest(t, dir, "main").FsyncedOffset; durable < offset {
					t.Fatalf("WAIT returned at offset %d, but only %d is fsynced", offset, durable)
				}
			}
			t.Logf("WAIT took %v on average, %v at most", (total / time.Duration(n)).Round(time.Microsecond), most.Round(time.Microsecond))
		})
	}
}

func TestABacklogThatIsTooSmallIsNamedAndTheNextGenerationOpened(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t, "repl-backlog-size 16kb")
	dir := t.TempDir()
	d := run(t, dir, byAddress(t, master)...)
	d.waitLog(`msg="full sync done"`)
	everyType(master, 0)
	digest := master.Digest()
	old := caughtUp(t, master, dir, "main")
	d.stop()
	master.Do("SET", "too much for the backlog", noise(1<<20, 1))
	d = run(t, dir, byAddress(t, master)...)
	d.waitLog(`msg="full sync" .*why="the master's backlog does not reach back to offset ` + strconv.FormatInt(old.EndOffset+1, 10) + `: raise repl-backlog-size`)
	everyWrite(t, master)
	equal(t, master, dir, "main")
	if g := newest(t, dir, "main"); g.Number != 2 || old.Number != 1 {
		t.Errorf("the generation is number %d, want 2", g.Number)
	}
	if got := redistest.Load(t, old.Dir).Digest(); got != digest {
		t.Errorf("the old generation loads with digest %s, want %s", got, digest)
	}
}

func TestAMasterThatKnowsOnlySYNCIsFollowedAndSyncedInFullEachTime(t *testing.T) {
	t.Parallel()
	for _, framing := range []string{"repl-diskless-sync yes", "repl-diskless-sync no"} {
		t.Run(framing, func(t *testing.T) {
			t.Parallel()
			master := redistest.Start(t, `rename-command PSYNC ""`, framing)
			followBySYNC(t, master, strings.HasSuffix(framing, "yes"))
		})
	}
}

func followBySYNC(t *testing.T, master *redistest.Server, diskless bool) {
	t.Helper()
	everyType(master, 0)
	dir := t.TempDir()
	d := run(t, dir, append(byAddress(t, master), "--loglevel", "debug")...)
	d.waitLog(`falling back to SYNC`)
	d.waitLog(`msg="full sync done"`)
	// There are no offsets to compare: the last write must be in the file.
	written := func(marker string) string {
		t.Helper()
		master.Do("SET", "marker", marker)
		var gen string
		poll.Seen(t, marker+" to be stored", func() (bool, string) {
			g, ok := newestIfAny(t, dir, "main")
			gen = g.Dir
			return ok && bytes.HasSuffix(streamOf(t, gen), []byte(marker+"\r\n")), fmt.Sprintf("%+v", g)
		})
		return gen
	}
	everyWrite(t, master)
	first := written("the end of the first")
	sameDataset(t, master, first)
	digest := master.Digest()
	killReplicas(master)
	poll.Seen(t, "a second full sync", func() (bool, string) {
		n := d.matches(`msg="full sync done"`)
		return n == 2, fmt.Sprint(n)
	})
	master.Do("SET", "later", 1)
	second := written("the end of the second")
	if second == first {
		t.Errorf("the same generation went on: %s", first)
	}
	sameDataset(t, master, second)
	if got := redistest.Load(t, first).Digest(); got != digest {
		t.Errorf("the first generation loads with digest %s, want %s", got, digest)
	}
	// An ACK starts the stream behind an $EOF payload, and says nothing else.
	all, starting := d.matches(`msg=ack `), d.matches(`msg=ack .*offset=0 `)
	if all != starting || (all > 0) != diskless {
		t.Errorf("%d ACKs went to a master without offsets, %d of them to start its stream", all, starting)
	}
	d.stop()
}

func TestKilledDuringTheFullSyncTheDaemonLeavesNothingAndBeginsAgain(t *testing.T) {
	t.Parallel()
	for _, framing := range []string{"repl-diskless-sync yes", "repl-diskless-sync no"} {
		t.Run(framing, func(t *testing.T) {
			t.Parallel()
			n := count(t, "kill -9 during the full sync", 4, 30)
			master := redistest.Start(t, framing, largeBacklog)
			everyType(master, 0)
			var c commands
			for i := range 400 {
				c.add("SET", fmt.Sprint("key:", i), noise(20_000, uint64(i)))
			}
			master.Pipe(0, c...)
			// 0.5 ms for each key: the transfer, or what comes before it, takes
			// its time.
			master.Do("CONFIG", "SET", "rdb-key-save-delay", 500)
			dir := t.TempDir()
			during := 0
			for i := range n {
				d := run(t, dir, byAddress(t, master)...)
				d.waitLog(`msg="full sync"`)
				most := 150 * time.Millisecond
				if i%2 == 0 {
					d.waitLog(`msg="transfer begins"`)
					if strings.HasSuffix(framing, "no") {
						most = 8 * time.Millisecond // it comes all at once
					}
				}
				time.Sleep(rand.N(most)) // the random moment
				d.kill()
				all := generations(t, dir, "main")
				for _, g := range all {
					if g.Complete && d.matches(`transfer received`) == 0 {
						t.Fatalf("a generation is complete, though its transfer was not: %+v", g)
					}
				}
				if _, done := newestIfAny(t, dir, "main"); !done {
					during++
				} else if err := os.RemoveAll(filepath.Join(dir, "main")); err != nil { // the next one is to begin anew
					t.Fatal(err)
				}
			}
			if during == 0 {
				t.Error("this proves nothing: all were killed too late")
			}
			t.Logf("%d of %d were killed before the full sync was done", during, n)
			master.Do("CONFIG", "SET", "rdb-key-save-delay", 0)
			d := run(t, dir, byAddress(t, master)...)
			d.waitLog(`msg="(full sync done|partial resync)"`)
			everyWrite(t, master)
			equal(t, master, dir, "main")
			d.stop()
			for _, g := range generations(t, dir, "main") {
				if !g.Complete {
					t.Errorf("left behind: %+v", g)
				}
			}
		})
	}
}
