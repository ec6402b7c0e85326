package compose

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
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

	"github.com/redis/go-redis/v9"

	"replicad/integration/poll"
	"replicad/replica/archive"
)

// What docker-compose.yml sets.
const (
	redisVariable    = "REPLICAD_COMPOSE_REDIS"    // host:port of the master
	replicadVariable = "REPLICAD_COMPOSE_REPLICAD" // host:port of replicad's --port
	httpVariable     = "REPLICAD_COMPOSE_HTTP"     // host:port of replicad's --http
	dirVariable      = "REPLICAD_COMPOSE_DIR"      // the archive, read-only
)

const patience = time.Minute

// variable is what the compose file says; without it the test is skipped.
func variable(t *testing.T, name string) string {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		t.Skipf("%s is not set: this is for the service integration of docker-compose.yml", name)
	}
	return v
}

// dial makes a client with one connection, so that WAIT counts what it wrote.
func dial(t *testing.T, addr string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr, PoolSize: 1, ReadTimeout: patience, MaxRetries: -1, DisableIdentity: true})
	t.Cleanup(func() { c.Close() })
	poll.Seen(t, addr+" to answer", func() (bool, string) {
		err := c.Ping(t.Context()).Err()
		return err == nil, fmt.Sprint(err)
	})
	return c
}

// master is a client of the master, which replicad follows.
func master(t *testing.T) *redis.Client {
	t.Helper()
	c := dial(t, variable(t, redisVariable))
	poll.Seen(t, "a replica to be online", func() (bool, string) {
		info, err := c.Info(t.Context(), "replication").Result()
		return online(info) > 0, fmt.Sprint(info, err)
	})
	return c
}

var replicaForm = regexp.MustCompile(`(?m)^slave\d+:.*state=online`)

func online(info string) int { return len(replicaForm.FindAllString(info, -1)) }

func info(t *testing.T, c *redis.Client, field string) string {
	t.Helper()
	text, err := c.Info(t.Context(), "replication").Result()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), field+":"); ok {
			return v
		}
	}
	t.Fatalf("no %s in INFO: %s", field, text)
	return ""
}

func offset(t *testing.T, c *redis.Client) int64 {
	t.Helper()
	n, err := strconv.ParseInt(info(t, c, "master_repl_offset"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// acknowledged waits until all replicas have what c wrote; replicad is one of
// them.
func acknowledged(t *testing.T, c *redis.Client) {
	t.Helper()
	text, err := c.Info(t.Context(), "replication").Result()
	if err != nil {
		t.Fatal(err)
	}
	want := int64(online(text))
	got, err := c.Do(t.Context(), "WAIT", want, patience.Milliseconds()).Int64()
	if err != nil || want == 0 || got < want {
		t.Fatalf("WAIT: %d of %d replicas, %v", got, want, err)
	}
}

// write writes keys of every type below a prefix of its own, which it returns.
func write(t *testing.T, c *redis.Client) (prefix string) {
	t.Helper()
	prefix = fmt.Sprintf("integration:%08x:", rand.Uint32())
	_, err := c.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		ctx := t.Context()
		for i := range 1000 {
			p.Set(ctx, fmt.Sprint(prefix, "string:", i), strings.Repeat("v", i), 0)
			p.SAdd(ctx, prefix+"set", i)
			p.HSet(ctx, prefix+"hash", i, i*i)
			p.ZAdd(ctx, prefix+"zset", redis.Z{Score: float64(i) / 3, Member: i})
			p.RPush(ctx, prefix+"list", i)
			p.XAdd(ctx, &redis.XAddArgs{Stream: prefix + "stream", Values: []any{"n", i}})
		}
		p.Set(ctx, prefix+"binary", "\x00\r\n$-1\r\n\xff", 0)
		p.Set(ctx, prefix+"expires", "v", time.Hour)
		p.Incr(ctx, prefix+"counter")
		p.Set(ctx, prefix+"gone", "v", 0)
		p.Del(ctx, prefix+"gone")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return prefix
}

func dataset(t *testing.T, c *redis.Client, prefix string) map[string]string {
	t.Helper()
	d, err := readDataset(t.Context(), c, prefix+"*")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// replicad runs a command of the binary to its end.
func replicad(t *testing.T, args ...string) string {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	cmd := exec.CommandContext(ctx, "replicad", args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("replicad %s: %v\n%s%s", strings.Join(args, " "), err, &out, &errs)
	}
	return out.String()
}

// restored loads a restore of the archive into a redis-server, and gives a
// client of it.
func restored(t *testing.T, to string) *redis.Client {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "restored")
	t.Logf("%s", replicad(t, "restore", "--dir", variable(t, dirVariable), "--to", to, "--out", dir))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	var log bytes.Buffer
	cmd := exec.Command("redis-server", "--bind", "127.0.0.1", "--port", port, "--dir", dir, "--appendonly", "yes")
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("redis-server wrote:\n%s", &log)
		}
	})
	return dial(t, "127.0.0.1:"+port)
}

func TestTheArchiveReachesTheOffsetThatTheMasterSaysIsAcknowledged(t *testing.T) {
	dir := variable(t, dirVariable)
	m := master(t)
	write(t, m)
	want := offset(t, m)
	acknowledged(t, m)
	var all []archive.Master
	if err := json.Unmarshal([]byte(replicad(t, "list", "--dir", dir, "--json")), &all); err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 || !all[0].Running || len(all[0].Generations) == 0 {
		t.Fatalf("the archive: %+v", all)
	}
	g := all[0].Generations[len(all[0].Generations)-1]
	id := g.Histories[len(g.Histories)-1].ReplID
	if g.EndOffset < want || id != info(t, m, "master_replid") {
		t.Errorf("the archive ends at %d of %s, the master was at %d of %s", g.EndOffset, id, want, info(t, m, "master_replid"))
	}
}

func TestTheArchiveIsSoundWhileTheDaemonWrites(t *testing.T) {
	dir := variable(t, dirVariable)
	write(t, master(t))
	t.Logf("%s", replicad(t, "verify", "--dir", dir))
}

func TestWhatIsRestoredIsWhatTheMasterHolds(t *testing.T) {
	m := master(t)
	prefix := write(t, m)
	acknowledged(t, m)
	want := dataset(t, m, prefix)
	if len(want) != 1008 {
		t.Fatalf("%d keys were written, not 1008", len(want))
	}
	if err := differences(want, dataset(t, restored(t, "latest"), prefix)); err != nil {
		t.Error(err)
	}
}

func TestARestoreToAnOffsetHoldsWhatWasWrittenUntilThen(t *testing.T) {
	m := master(t)
	prefix := write(t, m)
	before, at := dataset(t, m, prefix), offset(t, m)
	if err := m.Incr(t.Context(), prefix+"counter").Err(); err != nil {
		t.Fatal(err)
	}
	if err := m.Del(t.Context(), prefix+"list").Err(); err != nil {
		t.Fatal(err)
	}
	acknowledged(t, m)
	if err := differences(before, dataset(t, restored(t, fmt.Sprint("offset:", at)), prefix)); err != nil {
		t.Error(err)
	}
}

func TestReplicadAnswersAsAReplicaDoes(t *testing.T) {
	r := dial(t, variable(t, replicadVariable))
	m := master(t)
	prefix := write(t, m)
	want := offset(t, m)
	acknowledged(t, m)
	if role, status := info(t, r, "role"), info(t, r, "master_link_status"); role != "slave" || status != "up" {
		t.Errorf("role:%s, master_link_status:%s", role, status)
	}
	got, err := strconv.ParseInt(info(t, r, "slave_repl_offset"), 10, 64)
	if err != nil || got < want {
		t.Errorf("slave_repl_offset:%d (%v), the master was at %d", got, err, want)
	}
	if err := r.Set(t.Context(), prefix+"counter", "x", 0).Err(); err == nil || !strings.HasPrefix(err.Error(), "READONLY") {
		t.Errorf("a write is answered by %v", err)
	}
}

func TestReplicadSaysByHTTPThatItFollows(t *testing.T) {
	addr := variable(t, httpVariable)
	m := master(t)
	write(t, m)
	want := offset(t, m)
	acknowledged(t, m)
	client := http.Client{Timeout: patience}
	for path, says := range map[string]string{
		"/":        "replicad",
		"/healthz": "ok",
		"/readyz":  "", // 200 says it
		"/metrics": "# HELP replicad_",
	} {
		resp, err := client.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || !bytes.Contains(body, []byte(says)) {
			t.Errorf("%s: %s, %v, without %q: %.500s", path, resp.Status, err, says, body)
		}
		if n := metric(body, "offset"); path == "/metrics" && n < want {
			t.Errorf("no offset of at least %d in the metrics: %s", want, body)
		}
	}
	t.Logf("%s", replicad(t, "healthcheck", "--http", addr))
}

// metric is the largest value of the metrics with a word in their name.
func metric(text []byte, word string) (most int64) {
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		if n, err := strconv.ParseFloat(value, 64); err == nil && strings.HasPrefix(name, "replicad_") && strings.Contains(name, word) {
			most = max(most, int64(n))
		}
	}
	return most
}
