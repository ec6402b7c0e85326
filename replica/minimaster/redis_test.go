package minimaster

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"replicad/integration/poll"
)

// needRedis skips where there is no such binary, and fails with
// REPLICAD_REQUIRE_REDIS=1.
func needRedis(t *testing.T, binary string) string {
	t.Helper()
	path, err := exec.LookPath(binary)
	if err != nil {
		if os.Getenv("REPLICAD_REQUIRE_REDIS") == "1" {
			t.Fatalf("%s is required (REPLICAD_REQUIRE_REDIS=1): %v", binary, err)
		}
		t.Skipf("%s is not on the PATH: this test compares with the real thing and is skipped", binary)
	}
	return path
}

// redisReplica is a real redis-server that replicates from a Master.
type redisReplica struct {
	t    *testing.T
	dir  string // short, for the path of a Unix socket has room for a hundred bytes
	sock string

	client *redis.Conn
}

func startRedis(t *testing.T, m *Master, args ...string) *redisReplica {
	t.Helper()
	path := needRedis(t, "redis-server")
	dir, err := os.MkdirTemp("", "mm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	host, masterPort, _ := net.SplitHostPort(m.Addr())
	r := &redisReplica{t: t, dir: dir, sock: filepath.Join(dir, "sock")}
	logfile := filepath.Join(r.dir, "log")
	cmd := exec.Command(path, append([]string{"--port", "0", "--unixsocket", r.sock, "--dir", r.dir, "--save", "",
		"--logfile", logfile, "--replicaof", host + " " + masterPort, "--repl-diskless-load", "swapdb"}, args...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			log, _ := os.ReadFile(logfile)
			t.Logf("the replica's log:\n%s", log)
		}
	})
	r.client = redis.NewClient(&redis.Options{Network: "unix", Addr: r.sock, Protocol: 2, PoolSize: 1, DisableIdentity: true}).Conn()
	t.Cleanup(func() { r.client.Close() })
	poll.Until(t, "redis-server answers", func() bool { return r.client.Ping(t.Context()).Err() == nil })
	return r
}

// Do executes a command, on one connection.
func (r *redisReplica) Do(args ...string) (any, error) {
	list := make([]any, len(args))
	for i, a := range args {
		list[i] = a
	}
	return r.client.Do(r.t.Context(), list...).Result()
}

// info is one field of the replica's INFO.
func (r *redisReplica) info(field string) string {
	for line := range strings.Lines(mustDo(r.t, r, "INFO").(string)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), field+":"); ok {
			return v
		}
	}
	return ""
}

// applied waits until the replica has applied all of the master's stream, and
// returns the offset.
func (r *redisReplica) applied(m *Master) (offset int64) {
	r.t.Helper()
	poll.Until(r.t, "the replica has the master's offset", func() bool {
		offset = m.Offset()
		return r.info("master_link_status") == "up" && r.info("slave_repl_offset") == strconv.FormatInt(offset, 10)
	})
	return offset
}

// caughtUp waits until the replica has applied all of the master's stream, then
// compares everything.
func (r *redisReplica) caughtUp(m *Master) {
	r.t.Helper()
	r.applied(m)
	want := content(r.t, m.NewClient())
	if d := diff(want, content(r.t, r)); d != nil {
		r.t.Fatalf("the replica differs:\n%s", strings.Join(d, "\n"))
	}
}

func TestARealRedisFollowsEveryKindOfWrite(t *testing.T) {
	for _, diskless := range []bool{false, true} {
		t.Run(fmt.Sprintf("diskless=%v", diskless), func(t *testing.T) {
			m := startMaster(t, Config{Diskless: diskless})
			everyWrite(t, m.NewClient(), "before ") // goes with the snapshot
			r := startRedis(t, m)
			r.caughtUp(m)
			everyWrite(t, m.NewClient(), "after ") // goes with the stream
			r.caughtUp(m)
			if got := m.Wait(1, 5*time.Second); got != 1 {
				t.Fatalf("Wait = %d, want the replica", got)
			}
			if s := m.Stats(); s.SyncFull != 1 {
				t.Fatalf("%+v, want one full sync", s)
			}
		})
	}
}

func TestARealRedisResumesWithContinueWhenItsLinkIsKilled(t *testing.T) {
	m := startMaster(t, Config{})
	r := startRedis(t, m)
	mustDo(t, m, "SET", "a", "1")
	r.caughtUp(m)
	for i := range 3 {
		if n := m.CutReplicas(); n != 1 {
			t.Fatalf("CutReplicas = %d", n)
		}
		mustDo(t, m, "SELECT", strconv.Itoa(i))
		mustDo(t, m, "SET", fmt.Sprint("written while away ", i), "x")
		r.caughtUp(m)
	}
	if s := m.Stats(); s.SyncFull != 1 || s.SyncPartialOK != 3 || s.SyncPartialErr != 0 {
		t.Fatalf("%+v, want 1 full and 3 partial syncs", s)
	}
	if got := r.info("master_replid"); got != m.ReplID() {
		t.Fatalf("the replica follows %s, want %s", got, m.ReplID())
	}
}

func TestARealRedisLogsInAndReadsAByteAtATime(t *testing.T) {
	m := startMaster(t, Config{RequirePass: "secret", Diskless: true, Faults: Faults{ByteAtATime: true}})
	smallWrites(t, m.NewClient(), "")
	r := startRedis(t, m, "--masteruser", "default", "--masterauth", "secret")
	r.caughtUp(m)
	smallWrites(t, m.NewClient(), "again ")
	r.caughtUp(m)
}

func TestRedisCLITakesADumpThatRedisCheckRDBAccepts(t *testing.T) {
	cli, check := needRedis(t, "redis-cli"), needRedis(t, "redis-check-rdb")
	for _, diskless := range []bool{false, true} {
		m := startMaster(t, Config{Diskless: diskless})
		everyWrite(t, m.NewClient(), "")
		file := filepath.Join(t.TempDir(), "dump.rdb")
		host, port, _ := net.SplitHostPort(m.Addr())
		if out, err := exec.Command(cli, "-h", host, "-p", port, "--rdb", file).CombinedOutput(); err != nil {
			t.Fatalf("redis-cli --rdb: %v\n%s", err, out)
		}
		if out, err := exec.Command(check, file).CombinedOutput(); err != nil || !bytes.Contains(out, []byte("RDB looks OK")) {
			t.Fatalf("redis-check-rdb: %v\n%s", err, out)
		}
	}
}

func TestRedisCLITalksToTheMaster(t *testing.T) {
	cli := needRedis(t, "redis-cli")
	m := startMaster(t, Config{RequirePass: "secret"})
	host, port, _ := net.SplitHostPort(m.Addr())
	cmd := exec.Command(cli, "-h", host, "-p", port, "-a", "secret", "--no-auth-warning")
	cmd.Stdin = strings.NewReader("SELECT 3\nSET k v\nMULTI\nINCR n\nINCR n\nEXEC\nPING\nINFO replication\n")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("redis-cli: %v\n%s", err, out)
	}
	for _, want := range []string{"OK\n", "QUEUED\n", "2\n", "PONG\n", "role:master"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is missing in:\n%s", want, out)
		}
	}
	mustDo(t, m, "SELECT", "3")
	if v := mustDo(t, m, "GET", "n"); v != "2" {
		t.Errorf("n in database 3 is %v", v)
	}
}
