package integration

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"replicad/integration/poll"
	"replicad/integration/redistest"
)

// oneFullSync checks that a daemon took one full sync, the first.
func oneFullSync(t *testing.T, d *process) {
	t.Helper()
	if n := d.matches(`msg="full sync" `); n != 1 {
		t.Errorf("%d full syncs, want 1", n)
	}
}

// role is what INFO says, "" for a server that has just cut its clients: Sentinel
// has a server do so that it demotes.
func role(s *redistest.Server) string {
	c := s.NewClient(0)
	text, _ := c.Info(context.Background(), "replication").Result()
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "role:"); ok {
			return value
		}
	}
	return ""
}

// inStep waits until real replicas have all that their master has.
func inStep(t *testing.T, master *redistest.Server, replicas ...*redistest.Server) {
	t.Helper()
	for _, r := range replicas {
		poll.Seen(t, "a replica to be where its master is", func() (bool, string) {
			a, b, link := master.Offset(), r.Offset(), r.Info("replication")["master_link_status"]
			return a == b && link == "up", fmt.Sprint(a, b, link)
		})
	}
}

// replicaOf starts a real replica.
func replicaOf(t *testing.T, master *redistest.Server) *redistest.Server {
	t.Helper()
	return redistest.Start(t, largeBacklog, "replicaof "+master.Host+" "+strconv.Itoa(master.Port))
}

func TestAFailoverUnderLoadCostsNoFullSync(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(*pair){
		// The former master writes until it is demoted, and sends pings and
		// hellos: the promoted one lacks some of that.
		"by SENTINEL FAILOVER": func(p *pair) {
			poll.Seen(p.t, "a failover that Sentinel begins", func() (bool, string) {
				err := p.sentinel.Client(0).Do(context.Background(), "SENTINEL", "FAILOVER", redistest.MasterName).Err()
				return err == nil, fmt.Sprint(err)
			})
		},
		"by kill -9": func(p *pair) { p.master.Kill() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failovers(t, count(t, "failovers "+name, 1, 20), fail)
		})
	}
}

// failovers has a Sentinel fail over n times under load, and compares after each.
func failovers(t *testing.T, n int, fail func(*pair)) {
	p := startPair(t)
	everyType(p.master, 0)
	inStep(t, p.master, p.replica) // else it may lack what the base holds
	dir := t.TempDir()
	d := run(t, dir, "--sentinel", p.sentinel.Addr(), "--master-name", redistest.MasterName)
	d.waitLog(`msg="full sync done"`)
	for i := range n {
		p.ready()
		inStep(t, p.master, p.replica)
		load := startLoad(t, p.master, loadRate)
		poll.Seen(t, "some load", func() (bool, string) { n := load.commands.Load(); return n > 200, fmt.Sprint(n) })
		fail(p)
		poll.Seen(t, "the promotion", func() (bool, string) {
			at := p.sentinel.MasterOf(redistest.MasterName)
			if !p.master.Running() {
				return at == p.replica.Addr() && role(p.replica) == "master", at
			}
			return at == p.replica.Addr() && role(p.replica) == "master" && role(p.master) == "slave", at
		})
		load.end() // it broke with its master
		p.master, p.replica = p.replica, p.master
		if !p.replica.Running() {
			p.replica.Start("replicaof " + p.master.Host + " " + strconv.Itoa(p.master.Port))
		}
		p.master.Do("SET", "after", i)
		equal(t, p.master, dir, redistest.MasterName).Kill()
	}
	oneFullSync(t, d)
	t.Logf("%d failovers, %d of them with a fork", n, d.matches(`parts from it`))
	d.stop()
}

func TestWhatAFailoverLostStaysRestorable(t *testing.T) {
	t.Parallel()
	old := redistest.Start(t, largeBacklog)
	promoted := replicaOf(t, old)
	everyType(old, 0)
	dir, port := t.TempDir(), redistest.FreePort(t, "127.0.0.1")
	d := run(t, dir, append(byAddress(t, old), "--port", strconv.Itoa(port), "--segment-size", "64kb")...)
	d.waitLog(`msg="full sync done"`)
	everyWrite(t, old)
	inStep(t, old, promoted)
	// A split brain: the former master lives on, and replicad follows it.
	promoted.Do("REPLICAOF", "NO", "ONE")
	for i := range 300 {
		old.Do("SET", fmt.Sprint("lost:", i), strings.Repeat("x", i))
	}
	lost := caughtUp(t, old, dir, "main")
	digest := old.Digest()
	orderTo(t, port, promoted)
	d.waitLog(`parts from it`)
	promoted.Do("SET", "after", "it")
	equal(t, promoted, dir, "main").Kill()

	stdout, stderr, code := once(t, nil, "list", "--dir", dir)
	if code != 0 || !strings.Contains(stdout, "by a failover: lost are") || !strings.Contains(stdout, ": 300 writes, ") || !strings.Contains(stdout, "restore --generation 1 reaches them") {
		t.Errorf("list: %d\n%s%s", code, stdout, stderr)
	}
	for _, args := range [][]string{{"--generation", "1"}, {"--generation", "1", "--to", fmt.Sprint("offset:", lost.EndOffset)}} {
		out := t.TempDir()
		r := restoreTo(t, dir, append(args, "--out", out)...)
		loaded := redistest.Load(t, out)
		if got := loaded.Digest(); got != digest || r.Generation != 1 {
			t.Errorf("restore %v gives generation %d with digest %s, want %s", args, r.Generation, got, digest)
		}
		loaded.Kill()
	}
	if _, stderr, code := once(t, nil, "verify", "--dir", dir, "--generation", "1"); code != 0 {
		t.Errorf("verify --generation 1: %d\n%s", code, stderr)
	}

	// Back at the former master: its present id is an earlier one of ours, and
	// the generation before the fork has all of it.
	old.Do("SET", "meanwhile", "there")
	orderTo(t, port, old)
	d.waitLogAfter(1, `msg="a new generation goes on from the fork.*generation=3`)
	equal(t, old, dir, "main").Kill()
	oneFullSync(t, d)
	if _, stderr, code := once(t, nil, "verify", "--dir", dir); code != 0 {
		t.Errorf("verify: %d\n%s", code, stderr)
	}
	d.stop()
}

func TestTheForkIsWhereTheSharedHistoryEndsOnEitherSide(t *testing.T) {
	t.Parallel()
	first := redistest.Start(t, largeBacklog)
	second, third := replicaOf(t, first), replicaOf(t, first)
	dir, port := t.TempDir(), redistest.FreePort(t, "127.0.0.1")
	d := run(t, dir, append(byAddress(t, first), "--port", strconv.Itoa(port))...)
	d.waitLog(`msg="full sync done"`)
	everyType(first, 0)
	inStep(t, first, second, third)
	caughtUp(t, first, dir, "main")
	for round := range count(t, "split brains", 1, 5) {
		// replicad goes on with the second; the third goes on with the first, and
		// leaves the shared history later than replicad did.
		second.Do("REPLICAOF", "NO", "ONE")
		orderTo(t, port, second)
		for i := range 100 {
			second.Do("SET", fmt.Sprint("second:", round, ":", i), "pppppppppppppp")
		}
		equal(t, second, dir, "main").Kill()
		lost, digest := newest(t, dir, "main").Number, second.Digest()
		for i := range 50 {
			first.DoIn(1, "SET", fmt.Sprint("first:", round, ":", i), "aaaaaaaaaaaaaa")
		}
		inStep(t, first, third)
		third.Do("REPLICAOF", "NO", "ONE")
		third.Do("SET", "third", "q")
		orderTo(t, port, third)
		poll.Until(t, "the fork to be logged", func() bool { return d.matches(`parts from it`) > round })
		equal(t, third, dir, "main").Kill()
		out := t.TempDir()
		restoreTo(t, dir, "--generation", strconv.Itoa(lost), "--out", out)
		loaded := redistest.Load(t, out)
		if got := loaded.Digest(); got != digest {
			t.Errorf("round %d: what the fork lost gives digest %s, want %s", round, got, digest)
		}
		loaded.Kill()
		// All three share one history again.
		for _, s := range []*redistest.Server{first, second} {
			s.Do("REPLICAOF", third.Host, third.Port)
		}
		inStep(t, third, first, second)
		caughtUp(t, third, dir, "main")
		first, second, third = third, first, second
	}
	oneFullSync(t, d)
	d.stop()
}

func TestAMasterThatRestartsFromAnOlderRDBIsFollowedFromThere(t *testing.T) {
	t.Parallel()
	n := count(t, "restarts from an older RDB", 2, 5)
	master := redistest.Start(t, largeBacklog)
	everyType(master, 0)
	dir := t.TempDir()
	d := run(t, dir, byAddress(t, master)...)
	d.waitLog(`msg="full sync done"`)
	for i := range n {
		master.Do("SET", "round", i)
		caughtUp(t, master, dir, "main")
		master.Do("SAVE")
		for k := range 50 {
			master.Do("SET", fmt.Sprint("forgotten:", k), i)
		}
		caughtUp(t, master, dir, "main")
		master.Kill()
		master.Start()
		d.waitLogAfter(0, fmt.Sprintf(`msg="a new generation goes on from the fork.*generation=%d`, i+2))
		master.Do("SET", "remembered", i)
		equal(t, master, dir, "main").Kill()
	}
	oneFullSync(t, d)
	d.stop()
}

func TestWhereINFOIsNotPermittedAFailoverCostsAFullSyncThatSaysWhy(t *testing.T) {
	t.Parallel()
	old := redistest.Start(t, largeBacklog, "user backup on >secret +psync +replconf +ping ~* &*")
	promoted := redistest.Start(t, largeBacklog, "user backup on >secret +psync +replconf +ping ~* &*", "replicaof "+old.Host+" "+strconv.Itoa(old.Port))
	dir, port := t.TempDir(), redistest.FreePort(t, "127.0.0.1")
	d := runEnv(t, []string{"REPLICAD_MASTERAUTH=secret"}, dir, append(byAddress(t, old), "--masteruser", "backup", "--port", strconv.Itoa(port))...)
	d.waitLog(`msg="full sync done"`)
	inStep(t, old, promoted)
	promoted.Do("REPLICAOF", "NO", "ONE")
	old.Do("SET", "lost", "write")
	caughtUp(t, old, dir, "main")
	promoted.Do("SET", "a", "b")
	orderTo(t, port, promoted)
	d.waitLog(`msg="full sync" .*why=.*INFO is not permitted`)
	equal(t, promoted, dir, "main").Kill()
	d.stop()
}
