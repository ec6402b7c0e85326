package integration

import (
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"replicad/integration/poll"
	"replicad/integration/redistest"
)

// relaying runs a daemon that feeds replicas, and gives its port.
func relaying(t *testing.T, dir string, port int, args ...string) *process {
	t.Helper()
	d := run(t, dir, append(args, "--port", strconv.Itoa(port), "--relay=yes")...)
	d.waitLog(`msg="(full sync done|partial resync)"`)
	return d
}

// follows points a replica somewhere, and waits until it has all that the master
// has.
func follows(t *testing.T, replica, master *redistest.Server, port int) {
	t.Helper()
	replica.Do("REPLICAOF", "127.0.0.1", port)
	same(t, replica, master, port)
}

// same waits until a replica of a port has what the master has, and compares
// them.
func same(t *testing.T, replica, master *redistest.Server, port int) {
	t.Helper()
	poll.Until(t, "the replica has the master's offset", func() bool {
		i := replica.Info("replication")
		return i["master_link_status"] == "up" && i["master_port"] == strconv.Itoa(port) && i["slave_repl_offset"] == strconv.FormatInt(master.Offset(), 10)
	})
	if is, want := replica.Digest(), master.Digest(); is != want {
		t.Fatalf("the replica of port %d has digest %s, the master %s", port, is, want)
	}
}

func TestAReplicaIsSeededByTheRelayAndMovesToTheMasterAndBack(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t, largeBacklog, "repl-ping-replica-period 3600", "repl-timeout 7200")
	everyType(master, 0)
	dir, port := t.TempDir(), redistest.FreePort(t, "127.0.0.1")
	d := relaying(t, dir, port, byAddress(t, master)...)
	everyType(master, 3) // goes with the stream
	replica := redistest.Start(t, "repl-timeout 2")
	follows(t, replica, master, port)

	// A quiet history: the replica gives up the link, and resumes.
	poll.Until(t, "the replica has resumed", func() bool { return d.matches(`msg="a replica goes on where it was"`) > 0 })
	same(t, replica, master, port)

	// What came while no relay ran.
	d.kill()
	load := startLoad(t, master, loadRate)
	d = relaying(t, dir, port, byAddress(t, master)...)
	d.waitLog(`msg="a replica goes on where it was"`)
	load.stop(t)
	same(t, replica, master, port)

	partial := master.Number("stats", "sync_partial_ok")
	follows(t, replica, master, master.Port)
	if n := master.Number("stats", "sync_partial_ok"); n <= partial {
		t.Errorf("the master counts %d partial resyncs, as before the replica moved to it", n)
	}
	master.Do("SET", "while-it-is-the-master's", "own")
	follows(t, replica, master, port)
	master.Do("SET", "and-back", "again")
	same(t, replica, master, port)
	onlyPartial(t, master, 1)
	if full := d.matches(`msg="a replica is seeded"`); full != 0 {
		t.Errorf("the relay seeded the replica again")
	}
	info := cli(t, port, "INFO", "replication")
	if !strings.Contains(info, "connected_slaves:1\r\nslave0:ip=127.0.0.1,port="+strconv.Itoa(replica.Port)+",state=online,offset=") {
		t.Errorf("INFO shows no replica:\n%s", info)
	}
	if list := cli(t, port, "CLIENT", "LIST", "TYPE", "replica"); !strings.Contains(list, " flags=S ") || !strings.Contains(list, " behind=") {
		t.Errorf("CLIENT LIST shows no replica: %s", list)
	}
}

func TestReplicadBehindReplicadIsKilledAndTakesNoFullSync(t *testing.T) {
	t.Parallel()
	n := count(t, "kill -9", 6, 100)
	master := redistest.Start(t, largeBacklog)
	everyType(master, 0)
	const deep = 3
	var dirs [deep]string
	var ports [deep]int
	var daemons [deep]*process
	from := byAddress(t, master)
	start := func(i int) {
		args := from
		if i > 0 {
			args = []string{"--replicaof", fmt.Sprintf("main=127.0.0.1:%d", ports[i-1])}
		}
		daemons[i] = run(t, dirs[i], append(args, "--port", strconv.Itoa(ports[i]), "--relay=yes", "--repl-timeout", "5s")...)
	}
	for i := range deep {
		dirs[i], ports[i] = t.TempDir(), redistest.FreePort(t, "127.0.0.1")
		start(i)
		daemons[i].waitLog(`msg="full sync done"`)
	}
	load := startLoad(t, master, loadRate)
	for range n {
		i := rand.IntN(deep)
		daemons[i].kill()
		start(i)
		daemons[i].waitLog(`msg="partial resync"`)
	}
	load.stop(t)
	for i := range deep {
		equal(t, master, dirs[i], "main")
		oneGeneration(t, dirs[i], "main")
	}
	onlyPartial(t, master, 1)
}

func TestOneReplicaThatStopsReadingDisturbsNobody(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t, largeBacklog)
	dir, port := t.TempDir(), redistest.FreePort(t, "127.0.0.1")
	relaying(t, dir, port, byAddress(t, master)...)
	stuck, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	defer stuck.Close()
	if _, err := stuck.Write([]byte("PSYNC ? -1\r\n")); err != nil {
		t.Fatal(err)
	}
	replica := redistest.Start(t)
	follows(t, replica, master, port)
	value := noise(1<<20, 4)
	for i := range 64 { // more than the kernel's buffers hold
		master.Do("SET", fmt.Sprint("k", i%8), value)
	}
	same(t, replica, master, port)
	if got := cli(t, port, "INFO", "replication"); !strings.Contains(got, "connected_slaves:2\r\n") {
		t.Errorf("the replica that does not read is not shown:\n%s", got)
	}
	equal(t, master, dir, "main")
}

func TestRedisCliTakesAnRDBFromTheRelayWhileTheBaseIsYoung(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	everyType(master, 0)
	dir, port := t.TempDir(), redistest.FreePort(t, "127.0.0.1")
	d := relaying(t, dir, port, byAddress(t, master)...)
	file := filepath.Join(t.TempDir(), "x.rdb")
	if got := cli(t, port, "--rdb", file); !strings.Contains(got, "Transfer finished with success") {
		t.Fatalf("redis-cli --rdb: %s", got)
	}
	d.stop()
	relaying(t, dir, port, append(byAddress(t, master), "--relay-max-base-age", "1ms")...)
	if got := cli(t, port, "--rdb", file); !strings.Contains(got, "restore --format rdb") {
		t.Errorf("redis-cli --rdb: %s", got)
	}
}

func TestAServerLoadsAMomentThroughREPLICAOF(t *testing.T) {
	t.Parallel()
	n := count(t, "moments", 3, 20)
	master := redistest.Start(t, "repl-diskless-sync-delay 0")
	everyType(master, 0)
	dir := t.TempDir()
	d := run(t, dir, append(byAddress(t, master), "--timeline-resolution", "1ms")...)
	d.waitLog(`msg="full sync done"`)
	load := startLoad(t, master, loadRate)
	poll.Until(t, "there is a stream", func() bool { return newest(t, dir, "main").EndOffset > 4<<20 })
	load.stop(t)
	g := caughtUp(t, master, dir, "main")
	for range n {
		to := fmt.Sprintf("offset:%d", g.BaseOffset+rand.Int64N(g.EndOffset-g.BaseOffset+1))
		port := redistest.FreePort(t, "127.0.0.1")
		out := make(chan string, 1)
		go func() {
			stdout, stderr, code := once(t, nil, "serve", "--dir", dir, "--to", to, "--port", strconv.Itoa(port), "--until-loaded", "1")
			out <- fmt.Sprintf("%s%s exit code %d", stdout, stderr, code)
		}()
		replica := redistest.Start(t)
		replica.Do("REPLICAOF", "127.0.0.1", port)
		said := <-out // it has ended: the replica has acknowledged the moment
		if !strings.Contains(said, "replicas that have loaded it: 1\n") || !strings.HasSuffix(said, "exit code 0") ||
			!strings.Contains(said, fmt.Sprintf("redis-cli -h HOST -p PORT REPLICAOF 127.0.0.1 %d\n", port)) {
			t.Fatalf("serve --to %s: %s", to, said)
		}
		replica.Do("REPLICAOF", "NO", "ONE")
		restored := filepath.Join(t.TempDir(), "restored")
		if _, stderr, code := once(t, nil, "restore", "--dir", dir, "--to", to, "--out", restored); code != 0 {
			t.Fatalf("restore --to %s: %s", to, stderr)
		}
		if is, want := replica.Digest(), redistest.Load(t, restored).Digest(); is != want {
			t.Errorf("through REPLICAOF --to %s has digest %s, restored %s", to, is, want)
		}
	}
}
