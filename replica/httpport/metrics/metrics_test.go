package metrics

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/daemon/status"
	"replicad/replica/master"
	"replicad/replica/remote"
)

// fake is a master whose disk holds what a test says.
type fake struct {
	*status.Tracker
	name string
	copy remote.Status

	mu   sync.Mutex
	disk status.Disk

	replicas []status.Replica
	syncs    master.Stats
}

func newFake(name string) *fake {
	return &fake{Tracker: status.New(replica.Master{Name: name, Host: "10.0.0.1", Port: 6379}), name: name, disk: status.Disk{At: at(0)}}
}

func (f *fake) Status() status.Status {
	s := f.Tracker.Status()
	s.Remote, s.Replicas, s.Syncs = f.copy, f.replicas, f.syncs
	return s
}

// copied has the remote stand as it says.
func copied(s remote.Status) func(*fake, *Metrics) {
	s.URL = "s3://bucket/m"
	return func(f *fake, _ *Metrics) { f.copy = s }
}

func (f *fake) Name() string { return f.name }

func (f *fake) Disk(wait time.Duration) status.Disk {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.disk
}

// holds has the disk hold generations.
func holds(all ...archive.Generation) func(*fake, *Metrics) {
	return onceRead(func(d *status.Disk) { d.Archive.Generations = all })
}

// onceRead has the disk be read as a test says.
func onceRead(change func(*status.Disk)) func(*fake, *Metrics) {
	return func(f *fake, _ *Metrics) {
		f.mu.Lock()
		defer f.mu.Unlock()
		change(&f.disk)
	}
}

// scraped gives all values, by name{label="value",...} without the label master
// of m.
func scraped(t *testing.T, m *Metrics) map[string]float64 {
	t.Helper()
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		for _, x := range f.Metric {
			var labels []string
			for _, l := range x.Label {
				if l.GetName() != "master" || l.GetValue() != "m" {
					labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
				}
			}
			name := f.GetName()
			if len(labels) > 0 {
				name += "{" + strings.Join(labels, ",") + "}"
			}
			switch f.GetType() {
			case dto.MetricType_HISTOGRAM:
				all[name+" count"], all[name+" sum"] = float64(x.Histogram.GetSampleCount()), x.Histogram.GetSampleSum()
				for _, b := range x.Histogram.Bucket {
					all[fmt.Sprintf("%s le %g", name, b.GetUpperBound())] = float64(b.GetCumulativeCount())
				}
			case dto.MetricType_COUNTER:
				all[name] = x.Counter.GetValue()
			default:
				all[name] = x.Gauge.GetValue()
			}
		}
	}
	return all
}

const missing = -1 // no metric of these is below 0

func at(second int) time.Time { return time.Unix(1_700_000_000+int64(second), 0) }

// seen has a tracker see an event of a link that streams, if it says no other
// place.
func seen(events ...replica.Event) func(*fake, *Metrics) {
	return func(f *fake, _ *Metrics) {
		for _, e := range events {
			if e.Time.IsZero() {
				e.Time = at(0)
			}
			if e.State == replica.None && e.Kind != replica.StateEntered && e.Kind != replica.Failed {
				e.State, e.Phase = replica.Sync, replica.Stream
			}
			f.Observe(e)
		}
	}
}

// filed has a tracker see an event of the archive.
func filed(e archive.Event) func(*fake, *Metrics) {
	e.Time = at(0)
	return func(f *fake, _ *Metrics) { f.ObserveArchive(e) }
}

var (
	whole = archive.Generation{Complete: true, From: at(100), To: at(200), Bytes: 1000, Frees: 1000, Segments: 3}
	newer = archive.Generation{Complete: true, From: at(150), To: at(300), Bytes: 500, Frees: 500, Segments: 2, Damaged: 1}
	torn  = archive.Generation{Bytes: 7, Frees: 7, From: at(1), To: at(999)}
)

func TestEachMetricIsMovedByWhatItMeasures(t *testing.T) {
	failed := errors.New("why")
	table := []struct {
		metric        string
		cause         func(*fake, *Metrics)
		before, after float64
	}{
		{"link_up", seen(replica.Event{Kind: replica.PhaseEntered}), 0, 1},
		{"link_up", seen(replica.Event{Kind: replica.PhaseEntered}, replica.Event{Kind: replica.StateEntered}), 0, 0},
		{"link_wanted", func(f *fake, _ *Metrics) { f.Order("", true) }, 1, 0},
		{`link_state{state="NONE"}`, seen(replica.Event{Kind: replica.StateEntered, State: replica.Connecting}), 1, 0},
		{`link_state{state="CONNECTING"}`, seen(replica.Event{Kind: replica.StateEntered, State: replica.Connecting}), 0, 1},
		{`link_state{state="RECEIVE_PONG"}`, seen(replica.Event{Kind: replica.StateEntered, State: replica.ReceivePong}), 0, 1},
		{`link_state{state="SYNC"}`, seen(replica.Event{Kind: replica.StateEntered, State: replica.Sync, Phase: replica.Auth}), 0, 1},
		{`link_phase{phase="AUTH"}`, seen(replica.Event{Kind: replica.StateEntered, State: replica.Sync, Phase: replica.Auth}), 0, 1},
		{`link_phase{phase="TRANSFER"}`, seen(replica.Event{Kind: replica.StateEntered, State: replica.Sync, Phase: replica.Transfer}), 0, 1},
		{`link_phase{phase="STREAM"}`, seen(replica.Event{Kind: replica.PhaseEntered}), 0, 1},
		{"link_last_byte_timestamp_seconds", seen(replica.Event{Kind: replica.Received, Bytes: 1, Time: at(5)}), 0, 1_700_000_005},
		{"link_paused", seen(replica.Event{Kind: replica.Paused}), 0, 1},
		{`link_failures_total{cause="timeout"}`, seen(replica.Event{Kind: replica.Failed, Cause: replica.CauseTimeout, Err: failed}), 0, 1},
		{`link_failures_total{cause="closed"}`, seen(replica.Event{Kind: replica.Failed, Cause: replica.CauseTimeout, Err: failed}), 0, 0},
		{"received_bytes_total", seen(replica.Event{Kind: replica.Received, Bytes: 41}), 0, 41},
		{"sent_bytes_total", seen(replica.Event{Kind: replica.Sent, Bytes: 42}), 0, 42},
		{"commands_total", seen(replica.Event{Kind: replica.Advanced, Commands: 43}), 0, 43},
		{"offset_received_bytes", seen(replica.Event{Kind: replica.Advanced, Received: 9, Offset: 8, Durable: 7}), 0, 9},
		{"offset_stored_bytes", seen(replica.Event{Kind: replica.Advanced, Received: 9, Offset: 8, Durable: 7}), 0, 8},
		{"offset_fsynced_bytes", seen(replica.Event{Kind: replica.Advanced, Received: 9, Offset: 8, Durable: 7}), 0, 7},
		{"offset_acknowledged_bytes", seen(replica.Event{Kind: replica.Acknowledged, Offset: 6, Durable: 5}), 0, 6},
		{"lag_bytes", seen(replica.Event{Kind: replica.Advanced, Received: 9, Offset: 8, Durable: 7}), 0, 2},
		{"lag_seconds", func(f *fake, m *Metrics) {
			seen(replica.Event{Kind: replica.Advanced, Received: 9, Durable: 7, Time: at(10)})(f, m)
			m.now = func() time.Time { return at(13) }
		}, 0, 3},
		{"lag_seconds", func(f *fake, m *Metrics) { // the clock jumped back
			seen(replica.Event{Kind: replica.Advanced, Received: 9, Durable: 7, Time: at(10)})(f, m)
			m.now = func() time.Time { return at(0) }
		}, 0, 0},
		{`relay_replica_behind_bytes{replica="10.0.0.7:7401"}`, func(f *fake, _ *Metrics) {
			two := status.Replica{Host: "10.0.0.7", Port: 7401, Behind: 3}
			f.replicas = []status.Replica{two, {Host: "10.0.0.7", Port: 7401, Behind: 7}, two}
		}, missing, 7},
		{"relay_full_syncs_total", func(f *fake, _ *Metrics) { f.syncs.SyncFull = 2 }, 0, 2},
		{"relay_partial_syncs_total", func(f *fake, _ *Metrics) { f.syncs.SyncPartialOK = 3 }, 0, 3},
		{`full_syncs_total{cause="initial"}`, seen(replica.Event{Kind: replica.FullSyncBegun, Cause: replica.SyncInitial}), 0, 1},
		{`full_syncs_total{cause="backlog"}`, seen(replica.Event{Kind: replica.FullSyncBegun, Cause: replica.SyncBacklog}), 0, 1},
		{`full_syncs_total{cause="history"}`, seen(replica.Event{Kind: replica.FullSyncBegun, Cause: replica.SyncHistory}), 0, 1},
		{`full_syncs_total{cause="no_psync"}`, seen(replica.Event{Kind: replica.FullSyncBegun, Cause: replica.SyncNoPsync}), 0, 1},
		{"full_syncs_completed_total", seen(replica.Event{Kind: replica.FullSyncDone}), 0, 1},
		{"partial_syncs_total", seen(replica.Event{Kind: replica.Resumed}), 0, 1},
		{`transfer_bytes{link="main"}`, transferring(false, 100), 0, 40},
		{`transfer_bytes{link="rebase"}`, transferring(true, 100), 0, 40},
		{`transfer_size_bytes{link="main"}`, transferring(false, 100), missing, 100},
		{`transfer_size_bytes{link="main"}`, transferring(false, -1), missing, missing},
		{`transfer_size_bytes{link="rebase"}`, transferring(true, 100), missing, 100},
		{"rebase_running", filed(archive.Event{Kind: archive.RebaseBegun}), 0, 1},
		{`rebases_total{result="done"}`, filed(archive.Event{Kind: archive.RebaseDone}), 0, 1},
		{`rebases_total{result="failed"}`, filed(archive.Event{Kind: archive.RebaseFailed, Err: failed}), 0, 1},
		{"archive_stalled", seen(replica.Event{Kind: replica.Stalled, Err: failed}), 0, 1},
		{"archive_stalled", seen(replica.Event{Kind: replica.Stalled, Err: failed}, replica.Event{Kind: replica.Healed}), 0, 0},
		{"remote_restorable", copied(remote.Status{Generation: 3}), missing, 1},
		{"remote_offset_bytes", copied(remote.Status{Offset: 7}), missing, 7},
		{"remote_lag_bytes", copied(remote.Status{Missing: 9}), missing, 9},
		{"remote_lag_seconds", copied(remote.Status{}), missing, 0},
		{"remote_failing", copied(remote.Status{Failure: "why"}), missing, 1},
		{"remote_failures_total", copied(remote.Status{Failures: 2}), 0, 2},
		{"remote_contradictions_total", copied(remote.Status{Conflicts: 2}), 0, 2},
		{"remote_objects_total", copied(remote.Status{Objects: 4}), 0, 4},
		{"remote_bytes_total", copied(remote.Status{Bytes: 5}), 0, 5},
		{"archive_overfull", filed(archive.Event{Kind: archive.Overfull}), 0, 1},
		{"archive_resets_total", seen(replica.Event{Kind: replica.StoreReset}), 0, 1},
		{"segments_sealed_total", filed(archive.Event{Kind: archive.SegmentSealed}), 0, 1},
		{"segments_verified_total", filed(archive.Event{Kind: archive.SegmentVerified}), 0, 1},
		{"segments_damaged_total", filed(archive.Event{Kind: archive.SegmentVerified, Err: failed}), 0, 1},
		{"bases_verified_total", filed(archive.Event{Kind: archive.BaseVerified}), 0, 1},
		{"generations_pruned_total", filed(archive.Event{Kind: archive.GenerationPruned}), 0, 1},
		{"archive_readable", onceRead(func(d *status.Disk) { d.Err = failed }), 1, 0},
		{"archive_readable", onceRead(func(d *status.Disk) { d.At = time.Time{} }), 1, 0},
		{"disk_free_bytes", onceRead(func(d *status.Disk) { d.Free = 44 }), 0, 44},
		{"disk_size_bytes", onceRead(func(d *status.Disk) { d.Size = 45 }), 0, 45},
		{"archive_bytes", holds(whole, newer, torn), 0, 1507},
		{"archive_generations", holds(whole, newer, torn), 0, 2},
		{"archive_segments", holds(whole, newer, torn), 0, 5},
		{"archive_damaged_segments", holds(whole, newer, torn), 0, 1},
		{"archive_oldest_restorable_timestamp_seconds", holds(whole, newer, torn), missing, 1_700_000_100},
		{"archive_newest_restorable_timestamp_seconds", holds(whole, newer, torn), missing, 1_700_000_300},
		{"archive_newest_restorable_timestamp_seconds", holds(torn), missing, missing},
		{"fsync_duration_seconds count", fsynced(3 * time.Millisecond), 0, 1},
		{"fsync_duration_seconds sum", fsynced(3 * time.Millisecond), 0, .003},
		{"fsync_duration_seconds le 0.0025", fsynced(3 * time.Millisecond), 0, 0},
		{"fsync_duration_seconds le 0.005", fsynced(3 * time.Millisecond), 0, 1},
	}
	caused := map[string]bool{"build_info": true, "fsync_duration_seconds": true}
	for _, c := range table {
		f := newFake("m")
		m := New(Build{})
		m.Follow(f)
		for _, when := range []struct {
			name string
			want float64
		}{{"before", c.before}, {"after", c.after}} {
			if when.name == "after" {
				c.cause(f, m)
			}
			got, ok := scraped(t, m)[namespace+c.metric]
			if !ok {
				got = missing
			}
			if math.Abs(got-when.want) > 1e-9 {
				t.Errorf("%s: %v %s its cause, want %v", c.metric, got, when.name, when.want)
			}
		}
		name, _, _ := strings.Cut(c.metric, "{")
		caused[name] = true
	}
	for _, f := range families() {
		if !caused[f.name] {
			t.Errorf("nothing causes %s", f.name)
		}
	}
}

// transferring has a full sync under way, of which 40 bytes are here.
func transferring(rebase bool, total int64) func(*fake, *Metrics) {
	e := replica.Event{State: replica.Sync, Phase: replica.Transfer, Total: total, Rebase: rebase}
	begun, progress := e, e
	begun.Kind, progress.Kind, progress.Bytes = replica.TransferBegun, replica.TransferProgress, 40
	return seen(begun, progress)
}

func fsynced(took time.Duration) func(*fake, *Metrics) {
	return func(_ *fake, m *Metrics) { m.ObserveFsync("m", took) }
}

func TestEachMasterHasItsOwn(t *testing.T) {
	a, b := newFake("m"), newFake("other")
	m := New(Build{Version: "1.2.3", Commit: "abc", Go: "go1"})
	m.Follow(newFake("gone"))
	m.Follow(a, b)
	seen(replica.Event{Kind: replica.Sent, Bytes: 1})(a, m)
	seen(replica.Event{Kind: replica.Sent, Bytes: 2})(b, m)
	m.ObserveFsync("other", time.Second)
	all := scraped(t, m)
	for name := range all {
		if strings.Contains(name, "gone") {
			t.Errorf("%s, of one that is followed no more", name)
		}
	}
	for name, want := range map[string]float64{
		"sent_bytes_total": 1, `sent_bytes_total{master="other"}`: 2,
		"fsync_duration_seconds count": 0, `fsync_duration_seconds{master="other"} count`: 1,
		`build_info{commit="abc",goversion="go1",version="1.2.3"}`: 1,
	} {
		if got, ok := all[namespace+name]; !ok || got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if all["go_goroutines"] == 0 || all["process_open_fds"] == 0 {
		t.Error("Go and the process are not told of")
	}
}

func TestADiskThatCanNotBeReadShowsNothingOfIt(t *testing.T) {
	f, sound := newFake("m"), newFake("sound")
	m := New(Build{})
	m.Follow(f, sound)
	holds(whole)(f, m)
	if got := scraped(t, m)["replicad_archive_bytes"]; got != 1000 {
		t.Fatalf("%v bytes", got)
	}
	onceRead(func(d *status.Disk) { d.Err = errors.New("the disk hangs") })(f, m)
	all := scraped(t, m)
	for _, f := range families() {
		if _, ok := all[namespace+f.name]; ok && (strings.HasPrefix(f.name, "disk_") || strings.HasSuffix(f.name, "restorable_timestamp_seconds")) {
			t.Errorf("%s shows what was read long ago", f.name)
		}
	}
	if _, ok := all["replicad_archive_bytes"]; ok || all["replicad_archive_readable"] != 0 || all[`replicad_archive_readable{master="sound"}`] != 1 {
		t.Errorf("the scrape says %v", all)
	}
}

func TestScrapesWhileTheLoopWrites(t *testing.T) {
	f := newFake("m")
	m := New(Build{})
	m.Follow(f)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 20 {
				if _, err := m.registry.Gather(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range int64(2000) {
		seen(replica.Event{Kind: replica.Advanced, Received: i, Durable: i}, replica.Event{Kind: replica.Failed, Cause: replica.CauseClosed})(f, m)
		m.ObserveFsync("m", time.Microsecond)
	}
	wg.Wait()
	if got := scraped(t, m)["replicad_fsync_duration_seconds count"]; got != 2000 {
		t.Errorf("%v fsyncs", got)
	}
}

func TestTheNamesFollowPrometheusConventions(t *testing.T) {
	f := newFake("m")
	m := New(Build{})
	m.Follow(f)
	transferring(false, 100)(f, m)
	holds(whole)(f, m)
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
	for _, f := range families() {
		if !strings.HasSuffix(f.help, ".") {
			t.Errorf("%s: %q is no sentence", f.name, f.help)
		}
	}
}

func TestPromtoolAcceptsTheMetrics(t *testing.T) {
	promtool := promtoolPath(t)
	f := newFake("m")
	m := New(Build{})
	m.Follow(f)
	transferring(false, 100)(f, m)
	holds(whole)(f, m)
	w := httptest.NewRecorder()
	m.Handler(nil).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	text := w.Body.String()
	if w.Code != 200 || !strings.Contains(text, "# HELP replicad_link_up 1 while") || !strings.Contains(text, `replicad_link_up{master="m"} 0`) {
		t.Fatalf("%d %s", w.Code, text)
	}
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}

// promtoolPath finds promtool, of Debian's package prometheus. Without one it
// skips the test, or fails it.
func promtoolPath(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err == nil {
		return path
	}
	const text = "there is no promtool on the PATH (Debian's package prometheus): nothing was tested here"
	if os.Getenv("REPLICAD_REQUIRE_PROMTOOL") == "1" {
		t.Fatalf("%s, and REPLICAD_REQUIRE_PROMTOOL is 1", text)
	}
	t.Skip(text)
	return ""
}

func BenchmarkScrape(b *testing.B) {
	f := newFake("m")
	m := New(Build{})
	m.Follow(f)
	h := m.Handler(nil)
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		_, _ = io.Copy(io.Discard, w.Body)
	}
}
