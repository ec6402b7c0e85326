package metrics

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/daemon"
	"replicad/replica/minimaster"
)

// followed is a daemon that follows a master in this process.
type followed struct {
	t       *testing.T
	master  *minimaster.Master
	handle  *daemon.Handle
	metrics *Metrics
}

func follow(t *testing.T, retention archive.Retention) *followed {
	t.Helper()
	master, err := minimaster.Start(minimaster.Config{BacklogSize: 16 << 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	m, err := replica.ParseMaster("m=" + master.Addr())
	if err != nil {
		t.Fatal(err)
	}
	metrics := New(Build{})
	d, err := daemon.Open(daemon.Config{
		Dir: t.TempDir(), Masters: []replica.Master{m}, Retention: retention,
		Archive: archive.Options{AppendFsync: archive.Always}, ObserveFsync: metrics.ObserveFsync,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	f := &followed{t, master, d.Handles()[0], metrics}
	metrics.Follow(f.handle)
	return f
}

func (f *followed) do(args ...string) {
	f.t.Helper()
	if _, err := f.master.Do(args...); err != nil {
		f.t.Fatal(err)
	}
}

// wait waits for a metric to fulfil a condition.
func (f *followed) wait(metric string, cond func(v float64) bool) {
	f.t.Helper()
	var v float64
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		var ok bool
		if v, ok = scraped(f.t, f.metrics)[namespace+metric]; ok && cond(v) {
			return
		}
	}
	f.t.Fatalf("in vain waited for %s, which is %v", metric, v)
}

func (f *followed) is(metric string, want float64) {
	f.t.Helper()
	f.wait(metric, func(v float64) bool { return v == want })
}

func (f *followed) moves(metric string) {
	f.t.Helper()
	f.wait(metric, func(v float64) bool { return v > 0 })
}

func (f *followed) replicaOf() {
	f.t.Helper()
	host, port, _ := net.SplitHostPort(f.master.Addr())
	if err := f.handle.ReplicaOf(host, port); err != nil {
		f.t.Fatal(err)
	}
}

func TestARealDaemonMovesTheMetrics(t *testing.T) {
	f := follow(t, archive.Retention{KeepGenerations: archive.DefaultKeepGenerations, MaxBytes: 1})
	f.is("link_up", 1)
	f.is(`full_syncs_total{cause="initial"}`, 1)
	f.is("archive_overfull", 1)
	f.do("SET", "k", "v")
	f.moves("commands_total")
	f.moves("fsync_duration_seconds count")

	// Nobody is followed; then, for too long for the backlog, somebody again.
	if err := f.handle.NoOne(); err != nil {
		t.Fatal(err)
	}
	f.is("link_wanted", 0)
	f.is("link_up", 0)
	for i := range 100 {
		f.do("SET", fmt.Sprint("k", i), strings.Repeat("x", 1000))
	}
	f.replicaOf()
	f.is("link_wanted", 1)
	f.is("link_up", 1)
	f.is(`full_syncs_total{cause="backlog"}`, 1)

	// A slow transfer, of a rebase and of the link itself.
	for i := range 20 {
		f.do("SET", fmt.Sprint("large", i), strings.Repeat(fmt.Sprint("x", i), 10_000))
	}
	f.master.SetFaults(minimaster.Faults{ByteAtATime: true})
	if err := f.handle.Rebase("a test"); err != nil {
		t.Fatal(err)
	}
	f.is("rebase_running", 1)
	f.moves(`transfer_bytes{link="rebase"}`)
	f.moves(`transfer_size_bytes{link="rebase"}`)
	f.master.SetFaults(minimaster.Faults{ByteAtATime: true, Replies: map[string]string{"PSYNC": "-ERR unknown command 'PSYNC'\r\n"}})
	f.master.CutReplicas()
	f.is(`rebases_total{result="failed"}`, 1)
	f.is("rebase_running", 0)
	f.is(`link_phase{phase="TRANSFER"}`, 1)
	f.moves(`transfer_bytes{link="main"}`)
	f.is(`full_syncs_total{cause="no_psync"}`, 1)
	f.master.SetFaults(minimaster.Faults{})
	f.master.CutReplicas()
	f.is("link_up", 1)
	f.is(`transfer_bytes{link="main"}`, 0)

	// The folder goes away, and comes back.
	dir := f.handle.Dir()
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	f.is("archive_readable", 0)
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	f.is("archive_readable", 1)
	f.moves("archive_newest_restorable_timestamp_seconds")
}
