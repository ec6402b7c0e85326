package integration

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"replicad/integration/poll"
	"replicad/integration/redistest"
)

// knows counts the replicas that Sentinel knows, those it shows to nobody among
// them.
func (p *pair) knows() string {
	for name, v := range p.sentinel.Info("sentinel") {
		if _, n, ok := strings.Cut(v, "slaves="); ok && strings.HasPrefix(name, "master") {
			n, _, _ = strings.Cut(n, ",")
			return n
		}
	}
	return ""
}

func TestSentinelRepointsReplicadAndNeitherPromotesNorShowsIt(t *testing.T) {
	t.Parallel()
	n := count(t, "failovers", 2, 10)
	p := startPair(t)
	everyType(p.master, 0)
	dir, port := t.TempDir(), redistest.FreePort(t, "127.0.0.1")
	d := run(t, dir, "--replicaof", redistest.MasterName+"="+p.master.Addr(), "--port", strconv.Itoa(port))
	d.waitLog(`msg="full sync done"`)
	poll.Seen(t, "Sentinel to discover replicad", func() (bool, string) { return p.knows() == "2", p.knows() })
	discovered := func() (bool, string) {
		v := fmt.Sprint(p.sentinel.Do("SENTINEL", "INFO-CACHE", redistest.MasterName))
		return strings.Contains(v, "replicad_version"), v
	}
	poll.Seen(t, "Sentinel to have its INFO", discovered)
	for i := range n {
		p.failover()
		p.follows(d, dir, i+1)
		for _, r := range p.sentinel.Sentinel("REPLICAS", redistest.MasterName) {
			if r["port"] == strconv.Itoa(port) {
				t.Errorf("SENTINEL REPLICAS shows replicad to clients: %v", r)
			}
		}
		if role := field(t, port, "replication", "role"); role != "slave" {
			t.Errorf("replicad says it is %q", role)
		}
	}
	equal(t, p.master, dir, redistest.MasterName)
	oneGeneration(t, dir, redistest.MasterName)
	if full := d.matches(`msg="full sync done"`); full != 1 {
		t.Errorf("%d full syncs", full)
	}
	if p.knows() != "2" {
		t.Errorf("Sentinel knows %s replicas", p.knows())
	}
	if log := p.sentinel.Log(); strings.Contains(log, "+promoted-slave slave 127.0.0.1:"+strconv.Itoa(port)) ||
		strings.Contains(log, "+selected-slave slave 127.0.0.1:"+strconv.Itoa(port)) {
		t.Errorf("Sentinel promoted replicad:\n%s", log)
	}
	d.stop()
}

func TestSentinelWithNobodyLeftToPromotePromotesNotReplicad(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	sentinel := redistest.StartSentinel(t, master)
	p := &pair{t: t, master: master, sentinel: sentinel}
	dir, port := t.TempDir(), redistest.FreePort(t, "127.0.0.1")
	d := run(t, dir, "--replicaof", "main="+master.Addr(), "--port", strconv.Itoa(port))
	d.waitLog(`msg="full sync done"`)
	poll.Seen(t, "Sentinel to discover replicad", func() (bool, string) { return p.knows() == "1", p.knows() })
	master.Kill()
	poll.Seen(t, "Sentinel to find nobody", func() (bool, string) {
		log := sentinel.Log()
		return strings.Contains(log, "-failover-abort-no-good-slave"), log
	})
	if at := sentinel.MasterOf(redistest.MasterName); at != master.Addr() {
		t.Errorf("Sentinel names %s", at)
	}
	master.Start()
	d.waitLog(`msg="partial resync"|another history`)
	d.stop()
}
