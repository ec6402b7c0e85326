package integration

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"replicad/integration/poll"
	"replicad/integration/redistest"
)

// pair is two real servers, a master and its replica, under one Sentinel.
type pair struct {
	t        *testing.T
	sentinel *redistest.Server
	master   *redistest.Server
	replica  *redistest.Server
}

func startPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{t: t, master: redistest.Start(t, largeBacklog)}
	p.replica = redistest.Start(t, largeBacklog, "replicaof "+p.master.Host+" "+strconv.Itoa(p.master.Port))
	p.sentinel = redistest.StartSentinel(t, p.master)
	return p
}

// ready waits until the real replica streams, and Sentinel may promote it. On a
// machine that stood still Sentinel may have failed over by itself.
func (p *pair) ready() {
	p.t.Helper()
	poll.Seen(p.t, "a replica that Sentinel may promote", func() (bool, string) {
		if p.sentinel.MasterOf(redistest.MasterName) == p.replica.Addr() {
			p.t.Log("Sentinel failed over by itself")
			p.master, p.replica = p.replica, p.master
		}
		link := p.replica.Info("replication")["master_link_status"]
		for _, r := range p.sentinel.Sentinel("REPLICAS", redistest.MasterName) {
			if r["port"] == strconv.Itoa(p.replica.Port) && r["flags"] == "slave" && r["master-link-status"] == "ok" {
				return link == "up", fmt.Sprint(link, r)
			}
		}
		return false, fmt.Sprint(link, p.sentinel.Sentinel("REPLICAS", redistest.MasterName))
	})
}

// failover kills the master under load and waits until Sentinel has promoted the
// replica; the killed server comes back as a replica of that.
//
// The load ends a moment before, when both replicas have all there is: FAILOVER
// of Redis 6.2 holds writes back likewise. Without that the promoted one may
// lack bytes that another replica has, which then needs a full sync, whoever it
// is.
func (p *pair) failover() {
	p.t.Helper()
	p.ready()
	load := startLoad(p.t, p.master, loadRate)
	poll.Seen(p.t, "some load", func() (bool, string) {
		n := load.commands.Load()
		return n > 200, fmt.Sprint(n)
	})
	load.stop(p.t)
	poll.Seen(p.t, "replicas that have everything", func() (bool, string) {
		info := p.master.Info("replication")
		have := 0
		for i := range 2 {
			f := strings.Split(info[fmt.Sprint("slave", i)], ",")
			if slices.Contains(f, "state=online") && slices.Contains(f, "offset="+info["master_repl_offset"]) {
				have++
			}
		}
		return have == 2, fmt.Sprint(info)
	})
	p.master.Kill()
	poll.Seen(p.t, "the promotion", func() (bool, string) {
		at := p.sentinel.MasterOf(redistest.MasterName)
		return at == p.replica.Addr() && p.replica.Info("replication")["role"] == "master", at
	})
	p.master, p.replica = p.replica, p.master
	p.replica.Start("replicaof " + p.master.Host + " " + strconv.Itoa(p.master.Port))
}

// follows waits until replicad follows the master, and has all it has.
func (p *pair) follows(d *process, dir string, partial int) {
	p.t.Helper()
	poll.Seen(p.t, "the next partial resync", func() (bool, string) {
		n := d.matches(`msg="partial resync"`)
		return n >= partial, fmt.Sprint(n)
	})
	p.master.Do("SET", "after", partial)
	caughtUp(p.t, p.master, dir, redistest.MasterName)
}

func TestSentinelLeadsFromMasterToMasterWithoutReachingReplicad(t *testing.T) {
	t.Parallel()
	n := count(t, "failovers", 2, 10)
	p := startPair(t)
	everyType(p.master, 0)
	dir := t.TempDir()
	d := run(t, dir, "--sentinel", "127.0.0.1:1,"+p.sentinel.Addr(), "--master-name", redistest.MasterName)
	d.waitLog(`msg="full sync done"`)
	for i := range n {
		p.failover()
		p.follows(d, dir, i+1)
	}
	equal(t, p.master, dir, redistest.MasterName)
	oneGeneration(t, dir, redistest.MasterName)
	if full := d.matches(`msg="full sync done"`); full != 1 {
		t.Errorf("%d full syncs", full)
	}
	// A daemon that starts later asks Sentinel first.
	d.stop()
	p.master.Do("SET", "while", "away")
	d = run(t, dir, "--sentinel", p.sentinel.Addr(), "--master-name", redistest.MasterName)
	p.follows(d, dir, 1)
	d.stop()
}

func TestThePromotedReplicaIsFollowedWhileSentinelsFailoverIsInProgress(t *testing.T) {
	t.Parallel()
	p := &pair{t: t, master: redistest.Start(t, largeBacklog)}
	replicaof := "replicaof " + p.master.Host + " " + strconv.Itoa(p.master.Port)
	p.replica = redistest.Start(t, largeBacklog, replicaof)
	// The failover is in progress until the other replica follows, too: it
	// can't, with a password where none is wanted.
	other := redistest.Start(t, largeBacklog, replicaof, "replica-priority 0")
	p.sentinel = redistest.StartSentinel(t, p.master, "sentinel failover-timeout "+redistest.MasterName+" 600000")
	dir := t.TempDir()
	d := run(t, dir, "--sentinel", p.sentinel.Addr(), "--master-name", redistest.MasterName)
	d.waitLog(`msg="full sync done"`)
	poll.Seen(t, "two replicas that Sentinel knows", func() (bool, string) {
		all := p.sentinel.Sentinel("REPLICAS", redistest.MasterName)
		streaming := 0
		for _, r := range all {
			if r["flags"] == "slave" && r["master-link-status"] == "ok" {
				streaming++
			}
		}
		return streaming >= 2, fmt.Sprint(all)
	})
	other.Do("CONFIG", "SET", "masterauth", "wrong")
	p.master.Kill()
	d.waitLog(`address=` + p.replica.Addr())
	p.master = p.replica
	p.follows(d, dir, 1)
	of := p.sentinel.Sentinel("MASTERS")[0]
	if !strings.Contains(of["flags"], "failover_in_progress") || of["port"] == strconv.Itoa(p.replica.Port) {
		t.Errorf("the failover has ended too soon for this test: %v", of)
	}
	d.stop()
}
