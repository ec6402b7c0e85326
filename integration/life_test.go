package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"replicad/integration/poll"
	"replicad/integration/redistest"
	"replicad/replica/archive"
)

func TestASignalEndsTheDaemonWithinASecondAndAllThatWasReceivedIsStored(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		signal os.Signal
		fsync  string
	}{
		{"SIGTERM", syscall.SIGTERM, "everysec"},
		{"SIGINT", syscall.SIGINT, "no"},
		{"SIGTERM with appendfsync always", syscall.SIGTERM, "always"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			master := redistest.Start(t, largeBacklog)
			everyType(master, 0)
			dir := t.TempDir()
			args := append(byAddress(t, master), "--appendfsync", c.fsync, "--loglevel", "debug")
			d := run(t, dir, args...)
			d.waitLog(`msg="full sync done"`)
			// Under load, the last ACK is the promise to check.
			load := startLoad(t, master, loadRate)
			poll.Seen(t, "a second's ACK under load", func() (bool, string) {
				n := lastAck(d)
				return n > 1_000_000, fmt.Sprint(n)
			})
			d.ends(c.signal, 0)
			g, acked := newest(t, dir, "main"), lastAck(d)
			if g.EndOffset < acked || g.FsyncedOffset != g.EndOffset {
				t.Errorf("the archive ends at %d and is fsynced up to %d; %d was acknowledged", g.EndOffset, g.FsyncedOffset, acked)
			}
			if got := d.log.from(0); !strings.Contains(got[len(got)-1], "msg=stopped") {
				t.Errorf("the last log line is %q", got[len(got)-1])
			}
			load.stop(t)

			// With the master at rest, WAIT tells that all of it was received.
			d = run(t, dir, args...)
			d.waitLog(`msg="partial resync"`)
			caughtUp(t, master, dir, "main")
			master.Do("SET", "the last", noise(1<<20, 1))
			if got := master.Do("WAIT", 1, patience.Milliseconds()); got != int64(1) {
				t.Fatalf("WAIT returned %v", got)
			}
			d.ends(c.signal, 0)
			if g := newest(t, dir, "main"); g.FsyncedOffset < master.Offset()-100 { // the GETACK of WAIT may be on its way
				t.Errorf("fsynced up to %d, the master is at %d", g.FsyncedOffset, master.Offset())
			}
			d = run(t, dir, args...)
			equal(t, master, dir, "main")
			oneGeneration(t, dir, "main")
			d.stop()
		})
	}
}

var ackForm = regexp.MustCompile(`msg=ack .*offset=(\d+) `)

// lastAck is the highest offset that a daemon with loglevel debug has
// acknowledged.
func lastAck(d *process) (most int64) {
	for _, line := range d.log.from(0) {
		if m := ackForm.FindStringSubmatch(line); m != nil {
			n, _ := strconv.ParseInt(m[1], 10, 64)
			most = max(most, n)
		}
	}
	return most
}

func TestASignalEndsTheDaemonInEveryState(t *testing.T) {
	t.Parallel()
	silent := script(t, func(c *conversation) { c.acks(func(_, _ int64) {}) })
	saving := script(t, func(c *conversation) {
		if _, _, ok := c.handshake(); ok && c.say("+FULLRESYNC %s 0\r\n", replID('a')) {
			c.acks(func(_, _ int64) {})
		}
	})
	sending := script(t, func(c *conversation) {
		if _, _, ok := c.handshake(); ok && c.say("+FULLRESYNC %s 0\r\n$1000000\r\nREDIS0010", replID('a')) {
			c.acks(func(_, _ int64) {})
		}
	})
	for _, c := range []struct{ name, addr, wait string }{
		{"waiting for the next attempt", "127.0.0.1:1", `level=warning`},
		{"resolving", "no-such-host.invalid:1", `replicad is running`},
		{"RECEIVE_PONG", silent.addr, `state=RECEIVE_PONG`},
		{"waiting for the payload", saving.addr, `msg="full sync"`},
		{"TRANSFER", sending.addr, `msg="transfer begins"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			d := run(t, dir, "--replicaof", "main="+c.addr, "--loglevel", "debug")
			d.waitLog(c.wait)
			d.ends(syscall.SIGTERM, 0)
			if g := generations(t, dir, "main"); len(g) != 0 {
				t.Errorf("left behind: %+v", g)
			}
		})
	}
}

func TestListTellsTheSameWhileTheDaemonRunsAndAfterwards(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	everyType(master, 0)
	dir := t.TempDir()
	list := func() archive.Master {
		t.Helper()
		stdout, stderr, code := once(t, nil, "list", "--dir", dir, "--json")
		var all []archive.Master
		if err := json.Unmarshal([]byte(stdout), &all); err != nil || code != 0 || stderr != "" || len(all) != 1 {
			t.Fatalf("list --json: code %d, %v\n%s%s", code, err, stdout, stderr)
		}
		return all[0]
	}
	table := func(want ...string) {
		t.Helper()
		stdout, _, code := once(t, nil, "list", "--dir", dir)
		for _, w := range want {
			if code != 0 || !strings.Contains(stdout, w) {
				t.Errorf("list: code %d, want %q in\n%s", code, w, stdout)
			}
		}
	}
	table("no archive below " + dir)
	d := run(t, dir, byAddress(t, master)...)
	d.waitLog(`msg="full sync done"`)
	everyWrite(t, master)
	caughtUp(t, master, dir, "main")
	poll.Seen(t, "the end to be fsynced and the base verified", func() (bool, string) {
		m := list()
		if !m.Running {
			t.Fatal("list says that no daemon writes to the archive")
		}
		g := m.Generations[0]
		return g.FsyncedOffset == master.Offset() && g.BaseVerified, fmt.Sprintf("%+v", g)
	})
	table("main: a daemon writes to it", "complete", master.ReplID()[:8], "0-"+strconv.FormatInt(master.Offset(), 10), "base, 0/1")
	running := list()
	// Listing all the time disturbs no daemon, and no daemon's start.
	d.stop()
	after := list()
	if after.Running {
		t.Error("list says that a daemon writes to the archive")
	}
	table("main: no daemon writes to it")
	running.Running = false
	if a, b := fmt.Sprintf("%+v", running), fmt.Sprintf("%+v", after); a != b {
		t.Errorf("after the daemon's end:\n%s\nbefore:\n%s", b, a)
	}
	g := after.Generations[0]
	st, err := os.Stat(filepath.Join(g.Dir, "appendonlydir", "appendonly.aof.1.base.rdb"))
	if err != nil || g.BaseBytes != st.Size() || g.EndOffset != master.Offset() || !g.Complete || g.Problem != "" || g.To.Before(g.From) {
		t.Errorf("the generation is described as %+v (%v)", g, err)
	}
}

func TestThreeMastersShareOneLoopAndADeadOneDisturbsNobody(t *testing.T) {
	t.Parallel()
	a, b := redistest.Start(t), redistest.Start(t, "repl-diskless-sync no")
	dead := redistest.New(t, t.TempDir())
	everyType(a, 0)
	everyType(b, 2)
	dir := t.TempDir()
	args := []string{"--replicaof", "a=" + a.Addr(), "--replicaof", "dead=" + dead.Addr(), "--replicaof", "b=" + b.Addr()}
	d := run(t, dir, args...)
	d.waitLog(`msg="full sync done" master=a`)
	d.waitLog(`msg="full sync done" master=b`)
	d.waitLog(`level=warning msg="dead .*ECONNREFUSED`)
	everyWrite(t, a)
	everyType(b, 0)
	everyWrite(t, b)
	equal(t, a, dir, "a")
	equal(t, b, dir, "b")
	if n := d.matches(`level=warning msg="[ab] `); n != 0 {
		t.Errorf("%d warnings of the masters that live", n)
	}
	dead.Start()
	dead.Do("SET", "risen", 1)
	d.waitLog(`msg="full sync done" master=dead`)
	equal(t, dead, dir, "dead")
	b.Kill()
	d.waitLog(`level=warning msg="b .*ECONNREFUSED`)
	a.Do("SET", "after the death of b", 1)
	equal(t, a, dir, "a")
	d.ends(syscall.SIGTERM, 0)
}

func TestABaseWithAWrongChecksumIsDiscardedAndSyncedAgain(t *testing.T) {
	const stream = "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n"
	t.Parallel()
	const damagedSyncs = 3
	var at [damagedSyncs + 1]atomic.Int64 // when PSYNC came, in ns
	master := script(t, func(c *conversation) {
		id, offset, ok := c.handshake()
		if !ok {
			return
		}
		if c.number <= len(at) {
			at[c.number-1].Store(time.Now().UnixNano())
		}
		if id != "?" || offset != "-1" {
			// The base that was discarded must not be continued.
			c.say("-ERR this test wants PSYNC ? -1, not PSYNC %s %s\r\n", id, offset)
			return
		}
		rdb := dump(map[string]string{"key": noise(100_000, 1)}, c.number <= damagedSyncs)
		c.say("+FULLRESYNC %s 100\r\n$%d\r\n%s", replID('a'), len(rdb), rdb)
		c.say("%s", stream)
		c.acks(func(_, _ int64) {})
	})
	dir := t.TempDir()
	d := run(t, dir, "--replicaof", "main="+master.addr)
	poll.Seen(t, "a base whose checksum is right, and the stream behind it", func() (bool, string) {
		g, ok := newestIfAny(t, dir, "main")
		return ok && g.BaseVerified && g.EndOffset == int64(100+len(stream)), fmt.Sprintf("%+v", g)
	})
	if got := d.matches(`level=warning msg="main .* the RDB of the full sync is damaged: generation .* wrong checksum: .*: the base is discarded and a full sync asked for`); got != damagedSyncs {
		t.Errorf("%d lines say that a base was damaged, want %d", got, damagedSyncs)
	}
	entries, err := os.ReadDir(filepath.Join(dir, "main"))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 2 { // LOCK and the good generation
		t.Errorf("the archive holds %v", entries)
	}
	if master.count() != damagedSyncs+1 {
		t.Errorf("%d connections, want %d", master.count(), damagedSyncs+1)
	}
	// A full sync is dear: the second failure in a row is waited upon.
	if d := time.Duration(at[3].Load() - at[2].Load()); d < 100*time.Millisecond {
		t.Errorf("the full sync after the third damaged one came after %v already", d)
	}
	loaded := redistest.Load(t, newest(t, dir, "main").Dir)
	if got := loaded.Do("GET", "k"); got != "v" {
		t.Errorf("loaded: k is %v", got)
	}
}

func TestAnRDBLargerThanTheDiskIsRefusedBeforeAByteIsWritten(t *testing.T) {
	t.Parallel()
	const huge = int64(1) << 55
	var small atomic.Bool
	master := script(t, func(c *conversation) {
		if _, _, ok := c.handshake(); !ok {
			return
		}
		if small.Load() {
			rdb := dump(nil, false)
			c.say("+FULLRESYNC %s 0\r\n$%d\r\n%s", replID('a'), len(rdb), rdb)
		} else {
			c.say("+FULLRESYNC %s 0\r\n$%d\r\nREDIS0010", replID('a'), huge)
		}
		c.acks(func(_, _ int64) {})
	})
	dir := t.TempDir()
	d := run(t, dir, "--replicaof", "main="+master.addr)
	d.waitLog(`level=warning msg="main .* in state SYNC/TRANSFER: .*not enough room for a full sync: the RDB has ` + strconv.FormatInt(huge, 10) + ` bytes, below .* are free: free some room below dir`)
	// And it is not asked for again as long as there is no room.
	d.waitLog(`level=warning msg="main .* in state NONE: not enough room for a full sync: the last one failed, it needs more than`)
	entries, err := os.ReadDir(filepath.Join(dir, "main"))
	if err != nil || len(entries) != 1 {
		t.Errorf("the archive holds %v (%v), want its LOCK alone", entries, err)
	}
	if n := master.count(); n > 1 {
		t.Errorf("the master was asked %d times", n)
	}
	small.Store(true)
	d.stop()
	d = run(t, dir, "--replicaof", "main="+master.addr)
	d.waitLog(`msg="full sync done"`)
}
