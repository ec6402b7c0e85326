package integration

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"replicad/anet/tunnel/tunneltest"
	"replicad/integration/poll"
	"replicad/integration/redistest"
)

// tool finds a program that comes with redis-server; as for that one, the test
// is skipped without it, or fails.
func tool(t *testing.T, name string) string {
	t.Helper()
	redistest.Path(t)
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	text := "there is no " + name + " on the PATH: nothing was tested here"
	if os.Getenv(redistest.RequireVariable) == "1" {
		t.Fatal(text)
	}
	t.Skip(text)
	return ""
}

// cli runs redis-cli against a port, and gives what it prints.
func cli(t *testing.T, port int, args ...string) string {
	t.Helper()
	cmd := exec.Command(tool(t, "redis-cli"), append([]string{"-p", strconv.Itoa(port)}, args...)...)
	late := time.AfterFunc(patience, func() {
		if cmd.Process != nil {
			_ = cmd.Process.Kill()
		}
	})
	defer late.Stop()
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !isExit(err, &exit) {
		t.Fatalf("redis-cli %v: %v", args, err)
	}
	return strings.TrimRight(string(out), "\n")
}

func isExit(err error, exit **exec.ExitError) bool {
	e, ok := err.(*exec.ExitError)
	*exit = e
	return ok
}

// servedBy starts a replicad that follows a master, with a RESP port, and waits
// until it streams.
func servedBy(t *testing.T, master *redistest.Server, args ...string) (d *process, dir string, port int) {
	t.Helper()
	dir, port = t.TempDir(), redistest.FreePort(t, "127.0.0.1")
	d = run(t, dir, append([]string{"--replicaof", "main=" + master.Addr(), "--port", strconv.Itoa(port)}, args...)...)
	d.waitLog(`msg="full sync done"`)
	return d, dir, port
}

// wire is a connection that shows replies as they come.
type wire struct {
	net.Conn
	in *bufio.Reader
}

func dialWire(t *testing.T, port int) *wire {
	t.Helper()
	c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return &wire{c, bufio.NewReader(c)}
}

func (w *wire) ask(line string) string {
	if _, err := io.WriteString(w, line+"\r\n"); err != nil {
		return err.Error()
	}
	s, err := w.reply()
	if err != nil {
		return s + err.Error()
	}
	return s
}

func (w *wire) reply() (string, error) {
	line, err := w.in.ReadString('\n')
	if err != nil || line == "" {
		return line, err
	}
	n, _ := strconv.Atoi(strings.TrimSpace(line[1:]))
	switch line[0] {
	case '$', '=':
		b := make([]byte, max(0, n+2))
		if n < 0 {
			return line, nil
		}
		_, err = io.ReadFull(w.in, b)
		return line + string(b), err
	case '%':
		n *= 2
	case '*', '~', '>':
	default:
		return line, nil
	}
	for range max(0, n) {
		one, err := w.reply()
		if line += one; err != nil {
			return line, err
		}
	}
	return line, nil
}

func TestRedisCliIsAtHome(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	master.Do("SET", "k", "v")
	d, _, port := servedBy(t, master)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"PING"}, `^PONG$`},
		{[]string{"INFO", "replication"}, `(?s)role:slave\r\nmaster_host:127.0.0.1\r\nmaster_port:` + strconv.Itoa(master.Port) + `\r\nmaster_link_status:up\r\n.*slave_priority:0\r\n.*replica_announced:0\r\n`},
		{[]string{"INFO", "archive"}, `(?s)archive_generations:1\r\n.*archive_lag_bytes:`},
		{[]string{"ROLE"}, `^slave\n127.0.0.1\n` + strconv.Itoa(master.Port) + `\nconnected\n\d+$`},
		{[]string{"CLIENT", "LIST"}, `^id=\d+ addr=127.0.0.1:\d+ laddr=127.0.0.1:\d+ fd=-1 name= age=0 idle=0 flags=N .* cmd=client\|list user=default redir=-1 resp=2`},
		{[]string{"-3", "CLIENT", "LIST"}, ` resp=3`},
		{[]string{"-3", "HELLO"}, `(?s)server "?redis"?\n.*proto \(?i?n?t?e?g?e?r?\)? ?3\n.*role "?replica`},
		{[]string{"-3", "CONFIG", "GET", "appendonly"}, `appendonly.*yes`},
		{[]string{"nonsense", "a"}, `^ERR unknown command 'nonsense', with args beginning with: 'a' $`},
		{[]string{"GET", "k"}, `^ERR replicad keeps no dataset in memory.*replicad restore`},
		{[]string{"SET", "k", "v"}, `^READONLY You can't write against a read only replica\.$`},
		{[]string{"--bigkeys"}, `replicad keeps no dataset in memory`},
		{[]string{"--rdb", filepath.Join(t.TempDir(), "x.rdb")}, `replicad has no replicas of its own`},
		{[]string{"LASTSAVE"}, `^\d{10}$`},
		{[]string{"COMMAND", "DOCS", "REPLICAOF"}, `^$`},
		{[]string{"CLIENT", "HELP"}, `^ERR CLIENT HELP is not offered by replicad$`},
		{[]string{"BGSAVE"}, `^Background saving started$`},
	} {
		if got := cli(t, port, c.args...); !regexp.MustCompile(c.want).MatchString(got) {
			t.Errorf("redis-cli %v: %q, want %s", c.args, got, c.want)
		}
	}
	d.waitLog(`msg="rebase done`)
	if got := master.Do("INFO", "replication").(string); !strings.Contains(got, "port="+strconv.Itoa(port)) {
		t.Errorf("the master was told no listening-port %d: %s", port, got)
	}
	cli(t, port, "SHUTDOWN", "NOSAVE")
	if code := d.wait(); code != 0 {
		t.Errorf("exit code %d after SHUTDOWN", code)
	}
}

// What a replica answers to a client depends on nothing but Redis' version.
func TestRepliesAreWordForWordThoseOfARealReplica(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	real := redistest.Start(t, "replicaof "+master.Host+" "+strconv.Itoa(master.Port))
	poll.Seen(t, "the real replica to stream", func() (bool, string) {
		s := real.Info("replication")["master_link_status"]
		return s == "up", s
	})
	if v := real.Info("server")["redis_version"]; !strings.HasPrefix(v, "7.0.") {
		t.Skipf("redis-server is %s, and the replies are those of 7.0: nothing was compared", v)
	}
	_, _, port := servedBy(t, master)
	a, b := dialWire(t, real.Port), dialWire(t, port)
	lines := []string{
		"PING", "PING x", "PING x y", "ECHO x", "ECHO", "echo 'a b' c", "ECHO \"a\\x41\\n\"", "ECHO 'it\\'s'",
		"nonsense", "nonsense a b c", "nonsense " + strings.Repeat("a", 200) + " b", strings.Repeat("n", 200) + " a", "config|get x", "CLIENT|ID",
		"SELECT 0", "SELECT 15", "SELECT 16", "SELECT -1", "SELECT x", "SELECT", "SELECT 99999999999999999999",
		"SET", "SET k", "SET k v", "DEL k", "FLUSHALL", "INCR k", "LPUSH k", "EXPIRE k 1", "GETDEL k", "SORT_RO", "XADD k * a", "RESTORE a b", "SWAPDB 0 1", "GETEX k",
		"GET", "MGET", "SCAN", "HGET k",
		"AUTH", "AUTH x", "AUTH default x", "AUTH nobody x", "AUTH a b c",
		"HELLO x", "HELLO 1", "HELLO 4", "HELLO 2 x", "HELLO 2 SETNAME", "HELLO 2 AUTH a", "HELLO 2 AUTH nobody x", "HELLO 2 SETNAME \"a b\"",
		"CLIENT", "CLIENT x", "CLIENT SETNAME", "CLIENT SETNAME \"a b\"", "CLIENT GETNAME", "CLIENT SETNAME me", "CLIENT GETNAME", "CLIENT ID x", "CLIENT LIST TYPE x",
		"CLIENT LIST TYPE master x", "CLIENT LIST ID", "CLIENT LIST x", "CLIENT LIST TYPE pubsub", "CLIENT KILL x", "CLIENT KILL TYPE x", "CLIENT KILL ID x", "CLIENT KILL ID 0", "CLIENT KILL ID 99999",
		"CLIENT KILL ADDR 1.2.3.4:5", "CLIENT KILL SKIPME x", "CLIENT KILL x y z", "CLIENT KILL ID 99999 TYPE normal",
		"CONFIG", "CONFIG x", "CONFIG GET", "CONFIG GET nonsense", "CONFIG GET appendfilename", "CONFIG GET databases", "CONFIG GET replica-read-only", "CONFIG GET slave-read-only", "CONFIG RESETSTAT", "CONFIG RESETSTAT x",
		"MULTI", "MULTI", "PING", "EXEC", "MULTI", "SET k v", "PING", "EXEC", "MULTI", "nonsense", "EXEC", "EXEC", "DISCARD", "MULTI", "DISCARD", "MULTI", "SHUTDOWN", "DISCARD",
		"MULTI", "PING x", "ECHO", "EXEC", "MULTI", "EXEC", "MULTI x", "WATCH", "WATCH k", "UNWATCH",
		"MULTI", "PING", "CONFIG RESETSTAT", "CLIENT GETNAME", "CLIENT KILL TYPE pubsub", "PUBLISH a b", "EXEC",
		"PUBLISH", "PUBLISH a", "PUBLISH a b", "SUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "UNSUBSCRIBE x", "PUBSUB", "PUBSUB x",
		"SUBSCRIBE a", "SUBSCRIBE a", "PING", "PING x", "PING x y", "GET k", "CLIENT ID", "nonsense", "PSUBSCRIBE a*", "PUNSUBSCRIBE", "UNSUBSCRIBE a", "PING",
		"REPLICAOF", "REPLICAOF x", "REPLICAOF a b", "REPLICAOF a 65536", "REPLICAOF a -1", "REPLICAOF a b c", "SLAVEOF a b",
		"REPLICAOF " + master.Host + " " + strconv.Itoa(master.Port), "SLAVEOF " + master.Host + " " + strconv.Itoa(master.Port),
		"ROLE x", "LASTSAVE x", "BGSAVE x", "BGSAVE a b", "BGREWRITEAOF x", "SHUTDOWN x", "SHUTDOWN ABORT", "SHUTDOWN ABORT SAVE", "SHUTDOWN SAVE x",
		"SLOWLOG", "SLOWLOG x", "SLOWLOG LEN", "SLOWLOG GET", "SLOWLOG RESET", "LATENCY LATEST", "LATENCY HISTORY x", "LATENCY RESET", "MEMORY x", "ACL WHOAMI", "MODULE LIST", "TIME x",
		"COMMAND COUNT x", "COMMAND x", "COMMAND DOCS nonsense", "CLUSTER INFO", "CLUSTER x", "RESET", "CLIENT GETNAME", "INFO nonsense",
		"QUIT",
	}
	n := 0
	both := func(ask func(*wire) string, what string) {
		n++
		if want, got := ask(a), ask(b); got != want {
			t.Errorf("%.60s: replicad answers %q, and redis-server %q", what, got, want)
		}
	}
	for _, line := range lines {
		both(func(w *wire) string { return w.ask(line) }, line)
	}
	// What is no command. Each on a connection of its own.
	for _, sent := range []string{"*x\r\n", "*-5\r\nPING\r\n", "*0\r\nPING\r\n", "*1\r\n+PING\r\n", "*1\r\n$-1\r\n", "*1\r\n$x\r\n", "*99999999999\r\n", "*1\r\n$999999999999\r\n", "PING 'a\r\n", "PING \"a\"b\r\n",
		strings.Repeat("a", 66000), "*" + strings.Repeat("1", 66000), "*1\r\n$" + strings.Repeat("1", 66000), "POST / HTTP/1.1\r\n\r\n", "PING\r\n*x\r\n", "\r\nPING\r\n"} {
		both(func(w *wire) string {
			_, p, _ := net.SplitHostPort(w.RemoteAddr().String())
			at, _ := strconv.Atoi(p)
			one := dialWire(t, at)
			_, _ = io.WriteString(one, sent)
			s, err := one.reply()
			return fmt.Sprint(s, err == nil)
		}, fmt.Sprintf("%.40q", sent))
	}
	// RESP3.
	a, b = dialWire(t, real.Port), dialWire(t, port)
	strip := regexp.MustCompile(`\$2\r\nid\r\n:\d+\r\n`)
	for _, line := range []string{"HELLO 3", "CLIENT GETNAME", "CONFIG GET appendfilename", "SUBSCRIBE a", "PING", "UNSUBSCRIBE", "LATENCY HISTOGRAM nonsense", "HELLO 2", "RESET"} {
		both(func(w *wire) string { return strip.ReplaceAllString(w.ask(line), "") }, "in RESP3, "+line)
	}
	t.Logf("compared: %d replies", n)
}

// fieldNames are those of an INFO, by section.
func fieldNames(info string) map[string][]string {
	all := map[string][]string{}
	section := ""
	for line := range strings.Lines(info) {
		line = strings.TrimSpace(line)
		if title, ok := strings.CutPrefix(line, "# "); ok {
			section = title
		} else if name, _, ok := strings.Cut(line, ":"); ok {
			all[section] = append(all[section], name)
		}
	}
	return all
}

func TestInfoHasEveryFieldOfARealReplica(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	real := redistest.Start(t, "replicaof "+master.Host+" "+strconv.Itoa(master.Port), "appendonly yes")
	poll.Seen(t, "the real replica to stream", func() (bool, string) {
		s := real.Info("replication")["master_link_status"]
		return s == "up", s
	})
	_, _, port := servedBy(t, master)
	want := fieldNames(real.Do("INFO", "everything").(string))
	c := client(t, port)
	text, err := c.Info(t.Context(), "everything").Result()
	if err != nil {
		t.Fatal(err)
	}
	got := fieldNames(text)
	// What replicad has nothing to say of: its threads are not Redis' main one,
	// and percentiles of latencies are not kept.
	without := []string{"used_cpu_sys_main_thread", "used_cpu_user_main_thread"}
	n := 0
	for section, names := range want {
		if section == "Latencystats" || section == "Commandstats" || section == "Errorstats" || section == "Keyspace" || section == "Modules" {
			continue
		}
		for _, name := range names {
			if n++; !slices.Contains(got[section], name) && !slices.Contains(without, name) {
				t.Errorf("%s lacks %s", section, name)
			}
		}
	}
	t.Logf("compared: %d fields of redis-server %s", n, real.Info("server")["redis_version"])
	for _, name := range []string{"role", "master_link_status", "master_replid", "master_repl_offset"} {
		if r, g := real.Info("replication")[name], field(t, port, "replication", name); r != g {
			t.Errorf("%s: %q, and redis-server says %q", name, g, r)
		}
	}
}

func TestSIGHUPTakesAChangedRequirepass(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	file := filepath.Join(t.TempDir(), "password")
	put := func(s string) {
		if err := os.WriteFile(file, []byte(s+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("hunter-one")
	d, _, port := servedBy(t, master, "--requirepass-file", file)
	w := dialWire(t, port)
	if got := w.ask("PING"); got != "-NOAUTH Authentication required.\r\n" {
		t.Errorf("%q", got)
	}
	if got := w.ask("AUTH hunter-one"); got != "+OK\r\n" {
		t.Errorf("%q", got)
	}
	put("hunter-two")
	n := len(d.log.from(0))
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	d.waitLogAfter(n, "SIGHUP: masters, log level and secrets are read again")
	if got := w.ask("PING"); got != "+PONG\r\n" {
		t.Errorf("who was let in: %q", got)
	}
	if got := dialWire(t, port).ask("AUTH hunter-one"); !strings.HasPrefix(got, "-WRONGPASS") {
		t.Errorf("the former password: %q", got)
	}
	if got := dialWire(t, port).ask("AUTH hunter-two"); got != "+OK\r\n" {
		t.Errorf("the new password: %q", got)
	}
	if d.matches("hunter") > 0 {
		t.Error("the log has a password")
	}
	d.stop()
}

func TestAPortThatCantBeHadIsSaidAtTheStart(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	taken := strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--replicaof", "127.0.0.1:1", "--port", taken}, "port " + taken + " is in use"},
		{[]string{"--replicaof", "a=127.0.0.1:1", "--replicaof", "b=127.0.0.1:2", "--port", taken}, "port"},
		{[]string{"--replicaof", "127.0.0.1:1", "--port", "65536"}, "port"},
		{[]string{"--replicaof", "127.0.0.1:1", "--port", "0", "--tls-port", taken}, "tls-cert-file"},
		{[]string{"--replicaof", "127.0.0.1:1", "--port", taken, "--maxmemory-clients", "1kb"}, "maxmemory-clients"},
	} {
		_, stderr, code := once(t, nil, append([]string{"run", "--dir", t.TempDir()}, c.args...)...)
		if code != 2 || !strings.Contains(stderr, c.want) {
			t.Errorf("%v: exit code %d, %q; want 2 and %q", c.args, code, stderr, c.want)
		}
	}
}

// TestProtectedModeInANetworkOfItsOwn makes a network namespace with an address
// beside the loopback's: who connects to that one comes from it.
func TestProtectedModeInANetworkOfItsOwn(t *testing.T) {
	t.Parallel()
	cliPath := tool(t, "redis-cli")
	const script = `set -e
ip link set lo up
ip addr add 10.99.0.1/32 dev lo
"$REPLICAD" run --replicaof 127.0.0.1:1 --dir "$DIR" --port 6380 --bind '127.0.0.1 10.99.0.1' $MORE >"$DIR/log" 2>&1 &
trap 'kill -9 $!' EXIT
for i in $(seq 300); do
	"$CLI" -p 6380 PING 2>/dev/null | grep -q 'PONG\|NOAUTH' && break
	sleep 0.1
done
echo "loopback: $("$CLI" -p 6380 PING 2>&1)"
echo "network: $("$CLI" -h 10.99.0.1 -p 6380 PING 2>&1)"
`
	ask := func(more string) string {
		dir := t.TempDir()
		cmd := exec.Command("sh", "-c", script)
		cmd.Env = append(os.Environ(), "REPLICAD="+binaryPath(), "CLI="+cliPath, "DIR="+dir, "MORE="+more)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
		out, err := cmd.CombinedOutput()
		if err != nil && len(out) == 0 && strings.Contains(err.Error(), "not permitted") {
			t.Skipf("a network namespace is not permitted here (%v): nothing was tested from outside the loopback", err)
		}
		if strings.Contains(string(out), "ip: not found") {
			t.Skip("there is no ip on the PATH: nothing was tested from outside the loopback")
		}
		if err != nil {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			t.Fatalf("%v: %s\n%s", err, out, log)
		}
		return string(out)
	}
	if got := ask(""); !strings.Contains(got, "loopback: PONG\n") || !strings.Contains(got, "network: DENIED replicad is running in protected mode") {
		t.Errorf("protected mode: %s", got)
	}
	if got := ask("--protected-mode=no"); !strings.Contains(got, "loopback: PONG\n") || !strings.Contains(got, "network: PONG\n") {
		t.Errorf("without protected mode: %s", got)
	}
	if got := ask("--requirepass x"); !strings.Contains(got, "loopback: NOAUTH") || !strings.Contains(got, "network: NOAUTH") {
		t.Errorf("with a password: %s", got)
	}
}

func TestTheTLSPortSpeaksWithRedisCli(t *testing.T) {
	t.Parallel()
	a := tunneltest.NewAuthority(t)
	master, addr := startTLS(t, a, time.Now().Add(time.Hour))
	cert, key := a.SignFiles("replicad", time.Now().Add(time.Hour))
	mine, myKey := a.SignFiles("me", time.Now().Add(time.Hour))
	dir, plain, secure := t.TempDir(), redistest.FreePort(t, "127.0.0.1"), redistest.FreePort(t, "127.0.0.1")
	d := run(t, dir, "--replicaof", "main=rediss://"+addr, "--port", strconv.Itoa(plain), "--tls-port", strconv.Itoa(secure),
		"--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", a.CA())
	d.waitLog(`msg="full sync done"`)
	withTLS := []string{"--tls", "--cacert", a.CA()}
	certified := append(withTLS, "--cert", mine, "--key", myKey)
	if got := cli(t, secure, append(certified, "PING")...); got != "PONG" {
		t.Errorf("with a certificate: %q", got)
	}
	if got := cli(t, secure, append(withTLS, "PING")...); got == "PONG" {
		t.Error("without a certificate: PONG")
	}
	if got := cli(t, secure, "PING"); !strings.Contains(got, "this port speaks TLS") {
		t.Errorf("plain to the TLS port: %q", got)
	}
	if got := cli(t, plain, append(withTLS, "PING")...); got == "PONG" || got == "" {
		t.Errorf("TLS to the plain port: %q", got)
	}
	d.waitLog("a client speaks TLS to the plain port")
	if got := cli(t, plain, "PING"); got != "PONG" {
		t.Errorf("the plain port: %q", got)
	}
	// A master that is spoken to by TLS is told the port that speaks it.
	if got := master.Do("INFO", "replication").(string); !strings.Contains(got, "port="+strconv.Itoa(secure)) {
		t.Errorf("the master was told no listening-port %d: %s", secure, got)
	}
	a.SignFiles("replicad", time.Now().Add(-time.Minute)) // renewed, badly
	if got := cli(t, secure, append(certified, "PING")...); !strings.Contains(got, "expired") && !strings.Contains(got, "verify") {
		t.Errorf("an expired certificate: %q", got)
	}
	a.SignFiles("replicad", time.Now().Add(time.Hour))
	if got := cli(t, secure, append(certified, "PING")...); got != "PONG" {
		t.Errorf("a renewed certificate: %q", got)
	}
	d.stop()
}
