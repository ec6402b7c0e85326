package integration

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"replicad/integration/poll"
	"replicad/integration/redistest"
)

// slowSave makes a full sync of a master last: it sleeps so many microseconds
// for each key.
const slowSave = "rdb-key-save-delay 2000"

// client connects to the RESP port of a daemon.
func client(t *testing.T, port int) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{
		Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), Protocol: 2, DisableIdentity: true,
		MaxRetries: -1, PoolSize: 1, DialTimeout: patience, ReadTimeout: patience,
	})
	t.Cleanup(func() { c.Close() })
	return c
}

// order gives a REPLICAOF; a daemon that has just started is waited for.
func order(t *testing.T, port int, host string, toPort any) {
	t.Helper()
	c := client(t, port)
	poll.Seen(t, "an answer to REPLICAOF", func() (bool, string) {
		err := c.Do(context.Background(), "REPLICAOF", host, toPort).Err()
		if err != nil && strings.HasPrefix(err.Error(), "ERR") {
			t.Fatalf("REPLICAOF %s %v: %v", host, toPort, err)
		}
		return err == nil, fmt.Sprint(err)
	})
}

func orderTo(t *testing.T, port int, s *redistest.Server) {
	t.Helper()
	order(t, port, s.Host, s.Port)
}

func field(t *testing.T, port int, section, name string) string {
	t.Helper()
	c := client(t, port)
	defer c.Close() // who asks again and again must not become many clients
	text, err := c.Info(context.Background(), section).Result()
	if err != nil {
		return err.Error()
	}
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), name+":"); ok {
			return v
		}
	}
	return ""
}

func TestReplicaOfAMasterWithTheSameHistoryIsAPartialResync(t *testing.T) {
	t.Parallel()
	top := redistest.Start(t, largeBacklog)
	everyType(top, 0)
	chained := redistest.Start(t, largeBacklog, "replicaof "+top.Host+" "+strconv.Itoa(top.Port))
	dir, port := t.TempDir(), redistest.FreePort(t, "127.0.0.1")
	args := append(byAddress(t, top), "--port", strconv.Itoa(port))
	d := run(t, dir, args...)
	d.waitLog(`msg="full sync done"`)
	load := startLoad(t, top, loadRate)
	n := count(t, "orders", 6, 40)
	partial := 0
	for i := range n {
		if i%3 == 2 {
			order(t, port, "NO", "ONE")
			if at := field(t, port, "replication", "master_link_status"); at != "down" {
				t.Errorf("following nobody master_link_status is %q", at)
			}
		}
		if i%5 == 4 { // the last order outlives a kill
			d.kill()
			d, partial = run(t, dir, args...), 0
		}
		to := []*redistest.Server{chained, top}[i%2]
		orderTo(t, port, to)
		partial++
		poll.Seen(t, "the next partial resync", func() (bool, string) {
			got := d.matches(`msg="partial resync"`)
			return got >= partial && field(t, port, "replication", "master_port") == strconv.Itoa(to.Port), fmt.Sprint(got)
		})
	}
	load.stop(t)
	equal(t, top, dir, "main")
	oneGeneration(t, dir, "main")
	if full := top.Number("stats", "sync_full"); full != 2 || chained.Number("stats", "sync_full") != 0 {
		t.Errorf("%d full syncs of the master, want one for each replica", full)
	}
	d.stop()
}

func TestReplicaOfAMasterWithAnotherHistoryBeginsAGeneration(t *testing.T) {
	t.Parallel()
	a, b := redistest.Start(t, largeBacklog), redistest.Start(t, largeBacklog)
	everyType(a, 0)
	b.Do("SET", "of", "b")
	dir, port := t.TempDir(), redistest.FreePort(t, "127.0.0.1")
	d := run(t, dir, append(byAddress(t, a), "--port", strconv.Itoa(port))...)
	d.waitLog(`msg="full sync done"`)
	was := a.Digest()
	caughtUp(t, a, dir, "main")
	orderTo(t, port, b)
	poll.Seen(t, "the second generation", func() (bool, string) {
		g := generations(t, dir, "main")
		return len(g) == 2 && g[1].Complete, fmt.Sprint(g)
	})
	equal(t, b, dir, "main")
	d.stop()
	// The first one is what it was.
	old := redistest.Load(t, filepath.Join(dir, "main", "generation-000001"))
	if got := old.Digest(); got != was {
		t.Errorf("the generation before has digest %s, had %s", got, was)
	}
}

// slowMaster is one whose full sync takes a while.
func slowMaster(t *testing.T) *redistest.Server {
	t.Helper()
	s := redistest.Start(t, largeBacklog, slowSave)
	for i := range 20 {
		var c commands
		for j := range 100 {
			c.add("SET", fmt.Sprint("key:", i, ":", j), noise(2000, uint64(i)))
		}
		s.Pipe(0, c...)
	}
	return s
}

func TestAnOrderDuringATransferIsObeyedAtOnceAndOutlivesAKill(t *testing.T) {
	t.Parallel()
	slow, other := slowMaster(t), redistest.Start(t, largeBacklog)
	other.Do("SET", "of", "other")
	for i := range count(t, "kill -9 behind an order", 2, 10) {
		for _, to := range []string{"another master", "no one"} {
			dir, port := t.TempDir(), redistest.FreePort(t, "127.0.0.1")
			args := append(byAddress(t, slow), "--port", strconv.Itoa(port))
			d := run(t, dir, args...)
			d.waitLog(`msg="transfer begins"`)
			if to == "no one" {
				order(t, port, "NO", "ONE")
			} else {
				orderTo(t, port, other)
			}
			synced := `msg="full sync done"`
			if i%2 == 0 {
				d.kill()
				if _, done := newestIfAny(t, dir, "main"); done { // the small master was quicker than the kill
					synced = `msg="partial resync"`
				}
				d = run(t, dir, args...)
			}
			switch to {
			case "no one":
				poll.Seen(t, "nobody to follow", func() (bool, string) {
					at := field(t, port, "replication", "master_port")
					return at == "0", at
				})
				poll.Seen(t, "the transfer that was given up to leave nothing", func() (bool, string) {
					g := generations(t, dir, "main")
					return len(g) == 0, fmt.Sprintf("%+v", g)
				})
				orderTo(t, port, other)
				fallthrough
			default:
				d.waitLog(synced)
				equal(t, other, dir, "main")
			}
			d.stop()
		}
	}
	poll.Seen(t, "no link to the slow master", func() (bool, string) {
		n := slow.Info("replication")["connected_slaves"]
		return n == "0", n
	})
}

func TestAnOrderAgainstAConfigurationThatWasChangedIsVoid(t *testing.T) {
	t.Parallel()
	a, b, c := redistest.Start(t), redistest.Start(t), redistest.Start(t)
	dir, port := t.TempDir(), redistest.FreePort(t, "127.0.0.1")
	named := func(s *redistest.Server) []string {
		return []string{"--replicaof", "main=" + s.Addr(), "--port", strconv.Itoa(port)}
	}
	d := run(t, dir, named(a)...)
	d.waitLog(`msg="full sync done"`)
	orderTo(t, port, b)
	d.waitLog(`state=SYNC/TRANSFER .*|msg="full sync done" .*`)
	d.stop()
	d = run(t, dir, named(c)...)
	line := d.waitLog(`the last REPLICAOF is void`)
	if !strings.Contains(line, b.Addr()) || !strings.Contains(line, c.Addr()) {
		t.Errorf("it says %s", line)
	}
	c.Do("SET", "of", "c")
	equal(t, c, dir, "main")
	d.stop()
}
