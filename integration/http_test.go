package integration

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"replicad/integration/poll"
	"replicad/integration/redistest"
)

// site is what a daemon shows by HTTP.
type site struct {
	t    *testing.T
	addr string
}

// siteOf finds where a daemon with --http 127.0.0.1:0 listens.
func siteOf(d *process) site {
	d.t.Helper()
	line := d.waitLog(`msg="http is served"`)
	return site{d.t, regexp.MustCompile(`addr=(\S+)`).FindStringSubmatch(line)[1]}
}

func (s site) get(path string) (code int, body string) {
	s.t.Helper()
	c := http.Client{Timeout: patience}
	r, err := c.Get("http://" + s.addr + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

// waitReady waits for what /readyz says: ready, or what fits to why it is not.
// /healthz is 200 all the time.
func (s site) waitReady(code int, like string) {
	s.t.Helper()
	re := regexp.MustCompile(like)
	poll.Seen(s.t, fmt.Sprintf("/readyz to say %d %s", code, like), func() (bool, string) {
		if healthy, body := s.get("/healthz"); healthy != 200 || body != "ok\n" {
			s.t.Fatalf("/healthz: %d %s", healthy, body)
		}
		got, body := s.get("/readyz")
		return got == code && re.MatchString(body), fmt.Sprint(got, " ", body)
	})
}

// metrics scrapes, by name and labels but for that of the master, main.
func (s site) metrics() map[string]float64 {
	s.t.Helper()
	code, body := s.get("/metrics")
	if code != 200 {
		s.t.Fatalf("/metrics: %d %s", code, body)
	}
	all := map[string]float64{}
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		name, text, _ := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "replicad_")), " ")
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			s.t.Fatalf("%q: %v", line, err)
		}
		name = strings.NewReplacer(`{master="main"}`, "", `,master="main"`, "", `master="main",`, "").Replace(name)
		all[name] = v
	}
	return all
}

// wait waits until a metric fulfils a condition.
func (s site) wait(name, what string, cond func(v float64) bool) {
	s.t.Helper()
	poll.Seen(s.t, name+" "+what, func() (bool, string) {
		v, ok := s.metrics()[name]
		return ok && cond(v), fmt.Sprint(v, " ", ok)
	})
}

func (s site) is(name string, want float64) {
	s.t.Helper()
	s.wait(name, fmt.Sprintf("to be %v", want), func(v float64) bool { return v == want })
}

func (s site) atLeast(name string, want float64) {
	s.t.Helper()
	s.wait(name, fmt.Sprintf("to be at least %v", want), func(v float64) bool { return v >= want })
}

func TestMetricsAndReadinessTellWhatHappensToALink(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t, largeBacklog)
	everyType(master, 0)
	dir := t.TempDir()
	began := float64(time.Now().Unix())
	d := run(t, dir, append(byAddress(t, master), "--http", "127.0.0.1:0", "--segment-size", "64kb", "--keep-for", "0s")...)
	s := siteOf(d)
	s.waitReady(200, "^ready\n$")
	everyWrite(t, master)
	writeMiB(master, 1)
	caughtUp(t, master, dir, "main")

	// The link streams.
	for name, want := range map[string]float64{
		"link_up": 1, "link_wanted": 1, `link_state{state="SYNC"}`: 1, `link_state{state="NONE"}`: 0, `link_phase{phase="STREAM"}`: 1,
		`full_syncs_total{cause="initial"}`: 1, "full_syncs_completed_total": 1, "partial_syncs_total": 0, "archive_generations": 1, "archive_readable": 1,
	} {
		s.is(name, want)
	}
	for name, want := range map[string]float64{
		"received_bytes_total": 1 << 20, "sent_bytes_total": 100, "commands_total": 4, "fsync_duration_seconds_count": 1, "fsync_duration_seconds_sum": 1e-9,
		"disk_free_bytes": 1, "disk_size_bytes": 1, "archive_bytes": 1 << 20, "archive_segments": 3, "segments_sealed_total": 2, "segments_verified_total": 2, "bases_verified_total": 1,
		"link_last_byte_timestamp_seconds": began, "archive_oldest_restorable_timestamp_seconds": began, "archive_newest_restorable_timestamp_seconds": began, "process_open_fds": 1,
	} {
		s.atLeast(name, want)
	}
	poll.Seen(t, "all offsets to be the master's", func() (bool, string) {
		m := s.metrics()
		offset, _ := strconv.ParseFloat(master.Info("replication")["master_repl_offset"], 64)
		saw := fmt.Sprint(offset, m["offset_received_bytes"], m["offset_stored_bytes"], m["offset_fsynced_bytes"], m["offset_acknowledged_bytes"], m["lag_bytes"], m["lag_seconds"])
		return m["offset_received_bytes"] == offset && m["offset_stored_bytes"] == offset && m["offset_fsynced_bytes"] == offset &&
			m["offset_acknowledged_bytes"] == offset && m["lag_bytes"] == 0 && m["lag_seconds"] == 0, saw
	})

	// A rebase, three times: the third generation lets the first one go.
	for n := range 3 {
		if err := d.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		s.is(`rebases_total{result="done"}`, float64(n+1))
	}
	s.atLeast("generations_pruned_total", 1)

	// A link that the master cuts resumes; one whose master is killed does not.
	if n := killReplicas(master); n != 1 {
		t.Fatalf("%d links were cut", n)
	}
	s.is("partial_syncs_total", 1)
	s.is(`link_failures_total{cause="closed"}`, 1)
	s.waitReady(200, "^ready\n$")
	master.Kill()
	s.waitReady(503, `(?m)^main: the link to `+regexp.QuoteMeta(master.Addr())+` is in state \w+; last failure: `)
	s.is("link_up", 0)
	s.atLeast(`link_failures_total{cause="connect"}`, 1)
	master.Start() // without its data: another history
	s.waitReady(200, "^ready\n$")
	s.is(`full_syncs_total{cause="history"}`, 1)
	s.is("link_up", 1)

	if code, body := s.get("/"); code != 200 || body == "" {
		t.Errorf("/: %d %s", code, body)
	}
	checkMetrics(t, s)
	d.ends(syscall.SIGTERM, 0)
}

// checkMetrics has promtool look at a scrape.
func checkMetrics(t *testing.T, s site) {
	t.Helper()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		const text = "there is no promtool on the PATH (Debian's package prometheus)"
		if os.Getenv("REPLICAD_REQUIRE_PROMTOOL") == "1" {
			t.Fatalf("%s, and REPLICAD_REQUIRE_PROMTOOL is 1", text)
		}
		t.Log(text + ": the scrape was not checked")
		return
	}
	_, body := s.get("/metrics")
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(body)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

func TestAFullDiskIsStalledAndNotReadyUntilThereIsRoom(t *testing.T) {
	t.Parallel()
	dir := mountTmpfs(t, diskSize, "")
	makeRoom := ballast(t, dir, ballastSize)
	master := redistest.Start(t, largeBacklog)
	d := run(t, dir, append(byAddress(t, master), "--http", "127.0.0.1:0")...)
	s := siteOf(d)
	s.waitReady(200, "^ready\n$")
	writeMiB(master, 16)
	s.waitReady(503, "^main: the archive can't be written: .*no space left on device\n$")
	s.is("archive_stalled", 1)
	s.is("link_paused", 1)
	s.atLeast("lag_bytes", 1)
	s.atLeast("lag_seconds", 1)
	if m := s.metrics(); m["disk_free_bytes"] > 1<<20 || m["disk_size_bytes"] != 64<<20 {
		t.Errorf("%v of %v bytes are free", m["disk_free_bytes"], m["disk_size_bytes"])
	}
	makeRoom()
	s.waitReady(200, "^ready\n$")
	s.is("archive_stalled", 0)
	s.is("link_paused", 0)
	s.is("lag_bytes", 0)
	d.stop()
}

func TestAPortThatIsInUseEndsTheStartWithNothingDone(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := filepath.Join(t.TempDir(), "data")
	stdout, stderr, code := once(t, nil, "run", "--replicaof", "127.0.0.1:1", "--dir", dir, "--http", l.Addr().String())
	oneLine(t, stdout, stderr, code, "the port is in use")
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the folder was made: %v", err)
	}
	for _, addr := range []string{"9121", "127.0.0.1", "127.0.0.1:65536"} {
		stdout, stderr, code := once(t, nil, "run", "--replicaof", "127.0.0.1:1", "--dir", dir, "--http", addr)
		oneLine(t, stdout, stderr, code, "http")
	}
}
