package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"replicad/anet/anettest"
	"replicad/anet/tunnel/tunneltest"
	"replicad/integration/poll"
	"replicad/integration/redistest"
)

// probed is what replicad probe --json says; the fields are documented in
// package probe.
type probed struct {
	Master  string
	Verdict string
	Server  string
	Figures map[string]float64
	Checks  []struct{ Name, Status, Detail, Remedy string }
}

// slack is what a process may take beyond its --timeout on a busy machine.
const slack = 20 * time.Second

// quiet are the directives that redistest sets for its own ends, and of which a
// probe would warn.
var quiet = []string{"repl-ping-replica-period 10", "repl-timeout 60"}

// probe runs replicad probe, and checks that its exit code is its verdict, that
// it was over in time, and that it is no stack trace.
func probe(t *testing.T, env []string, args ...string) probed {
	t.Helper()
	timeout := 30 * time.Second
	for i, a := range args {
		if a == "--timeout" {
			timeout, _ = time.ParseDuration(args[i+1])
		}
	}
	begun := time.Now()
	stdout, stderr, code := once(t, env, append([]string{"probe", "--json"}, args...)...)
	if d := time.Since(begun); d > timeout+slack {
		t.Errorf("the probe took %v, with a --timeout of %v", d, timeout)
	}
	if strings.Contains(stderr, "goroutine ") {
		t.Errorf("a stack trace: %s", stderr)
	}
	var p probed
	if err := json.Unmarshal([]byte(stdout), &p); err != nil {
		t.Fatalf("%v: %q, %q", err, stdout, stderr)
	}
	if want := map[string]int{"pass": 0, "warn": 1, "fail": 2}[p.Verdict]; code != want {
		t.Errorf("exit code %d with the verdict %q", code, p.Verdict)
	}
	for _, e := range env {
		if _, secret, _ := strings.Cut(e, "="); strings.Contains(stdout+stderr, secret) {
			t.Errorf("the password is in the output: %s%s", stdout, stderr)
		}
	}
	return p
}

// check compares a check with its status and pieces of its text and remedy.
func (p probed) check(t *testing.T, name, status, detail, remedy string) {
	t.Helper()
	for _, c := range p.Checks {
		if c.Name != name {
			continue
		}
		if c.Status != status || !strings.Contains(c.Detail, detail) || !strings.Contains(c.Remedy, remedy) || remedy == "" && c.Remedy != "" {
			t.Errorf("got  %s %s: %q -> %q\nwant %s %s: %q -> %q", c.Status, name, c.Detail, c.Remedy, status, name, detail, remedy)
		}
		return
	}
	t.Errorf("there is no check %q", name)
}

// only checks that nothing but these checks warned or failed.
func (p probed) only(t *testing.T, names ...string) {
	t.Helper()
	for _, c := range p.Checks {
		bad := c.Status == "warn" || c.Status == "fail"
		wanted := false
		for _, n := range names {
			wanted = wanted || n == c.Name
		}
		if bad != wanted {
			t.Errorf("%s is %s: %s -> %s", c.Name, c.Status, c.Detail, c.Remedy)
		}
	}
}

// fast are flags for a probe whose write rate does not matter.
var fast = []string{"--for", "100ms"}

func TestAProbeOfASoundMasterPassesAndLeavesNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		directives, env, args []string
	}{
		"plain":                     {nil, nil, nil},
		"requirepass":               {[]string{"requirepass the-password"}, []string{"REPLICAD_MASTERAUTH=the-password"}, nil},
		"an ACL user with all that": {[]string{"user me on >the-password +psync +replconf +ping +info +config|get +acl|whoami +acl|dryrun"}, []string{"REPLICAD_MASTERAUTH=the-password"}, []string{"--masteruser", "me"}},
		"an ACL user with no more than it needs": {[]string{"user me on >the-password +psync +replconf +ping"}, []string{"REPLICAD_MASTERAUTH=the-password"},
			[]string{"--masteruser", "me"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t, append(c.directives, quiet...)...)
			s.Do("SET", "k", "v")
			p := probe(t, c.env, append(append(fast, s.Addr(), "--dir", t.TempDir()), c.args...)...)
			if strings.Contains(name, "no more") {
				p.only(t, "INFO", "CONFIG GET")
				p.check(t, "INFO", "warn", "loading, role, version, memory and the write rate are not checked (answered \"NOPERM", "ACL SETUSER me +info")
				p.check(t, "CONFIG GET", "warn", "NOPERM", "ACL SETUSER me +config|get")
				p.check(t, "ACL", "pass", "user me may run psync, replconf and ping", "")
				p.check(t, "repl-timeout", "skip", "CONFIG GET was not answered", "")
			} else {
				p.only(t)
				p.check(t, "role", "pass", "a master, with 0 replicas", "")
				p.check(t, "disk", "pass", "are free", "")
				if p.Figures["used_memory_bytes"] <= 0 || p.Figures["free_bytes"] <= 0 || p.Figures["repl_backlog_bytes"] != 1<<20 || p.Server == "" {
					t.Errorf("the figures are %v, of %q", p.Figures, p.Server)
				}
			}
			left := func() (bool, string) {
				list := fmt.Sprint(s.Do("CLIENT", "LIST"))
				return strings.Count(list, "id=") == 1, list
			}
			poll.Seen(t, "the probe's connection to be gone", left)
			for field, want := range map[string]string{"sync_full": "0", "sync_partial_ok": "0", "total_forks": "0"} {
				if got := s.Info("stats")[field]; got != want {
					t.Errorf("%s is %s, want %s", field, got, want)
				}
			}
			if i := s.Info("replication"); i["connected_slaves"] != "0" || i["repl_backlog_active"] != "0" {
				t.Errorf("%v", i)
			}
			if log := s.Log(); strings.Contains(log, "asks for synchronization") {
				t.Errorf("the master has seen a replica: %s", log)
			}
		})
	}
}

func TestAProbeWithPsyncIsAReplicaForThatMomentAlone(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, quiet...)
	gone := func() {
		t.Helper()
		poll.Seen(t, "the probe to be a replica no more", func() (bool, string) {
			n := s.Info("replication")["connected_slaves"]
			return n == "0", n
		})
	}
	p := probe(t, nil, append(fast, s.Addr(), "--psync")...)
	p.only(t)
	p.check(t, "PSYNC", "pass", "a BGSAVE may have begun on the master", "")
	gone()
	forks := s.Info("stats")["total_forks"]
	s.Do("SET", "k", "v")
	p = probe(t, nil, append(fast, s.Addr(), "--psync")...)
	p.only(t)
	p.check(t, "PSYNC", "pass", "nothing was begun on the master", "")
	gone()
	i := s.Info("stats")
	if i["sync_full"] != "1" || i["sync_partial_ok"] != "1" || i["total_forks"] != forks {
		t.Errorf("full syncs %s, partial ones %s, forks %s and then %s", i["sync_full"], i["sync_partial_ok"], forks, i["total_forks"])
	}
	delayed := redistest.Start(t, append(quiet, "repl-diskless-sync yes", "repl-diskless-sync-delay 3600")...)
	p = probe(t, nil, append(fast, delayed.Addr(), "--psync", "--timeout", "2s")...)
	p.only(t, "PSYNC", "repl-diskless-sync")
	p.check(t, "PSYNC", "warn", "nothing was begun", "longer by repl-diskless-sync-delay, 3600 s")
}

func TestAProbesRemediesHelp(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "user me on >the-password +replconf +ping +info +config|get", "repl-backlog-size 16kb", "client-output-buffer-limit replica 100mb 16kb 0",
		"maxclients 12", "repl-ping-replica-period 90", "repl-timeout 60")
	load := startLoad(t, s, loadRate)
	defer load.stop(t)
	once(t, nil, "probe", s.Addr(), "--psync", "--for", "100ms") // the first replica makes the backlog
	env, args := []string{"REPLICAD_MASTERAUTH=the-password"}, []string{"--masteruser", "me", s.Addr(), "--for", "1s"}
	p := probe(t, env, args...)
	p.check(t, "ACL", "fail", "user me may not run psync", "ACL SETUSER me +psync")
	p.check(t, "repl-backlog-size", "warn", "16.0 KiB hold ", "CONFIG SET repl-backlog-size ")
	p.check(t, "repl-timeout", "warn", "pings each 1 min 30 s", "CONFIG SET repl-ping-replica-period 10")
	p.check(t, "maxclients", "warn", " of 12 connections", "CONFIG SET maxclients 100")
	if p.Figures["write_bytes_per_second"] <= 0 || p.Figures["longest_cut_seconds"] <= 0 {
		t.Errorf("the figures are %v", p.Figures)
	}
	for range 5 { // one may follow from another, and the rate is not always the same
		for _, c := range p.Checks {
			if at := strings.Index(c.Remedy, "on the master, "); at >= 0 {
				obey(t, s, c.Remedy[at+len("on the master, "):])
			}
		}
		if p = probe(t, env, args...); p.Verdict == "pass" {
			break
		}
	}
	p.only(t)
}

// obey gives the master the command that a remedy begins with.
func obey(t *testing.T, s *redistest.Server, remedy string) {
	t.Helper()
	text, _, _ := strings.Cut(remedy, ": ")
	text, _, _ = strings.Cut(text, ", ")
	text, _, _ = strings.Cut(text, "; ")
	var args []any
	for i, part := range strings.Split(text, `"`) {
		if i%2 == 1 {
			args = append(args, part)
			continue
		}
		for _, f := range strings.Fields(part) {
			args = append(args, f)
		}
	}
	t.Logf("%q", args)
	s.Do(args...)
}

// TestAProbeSaysWhatIsWrongWithAMaster takes each trouble that a person meets.
func TestAProbeSaysWhatIsWrongWithAMaster(t *testing.T) {
	t.Parallel()
	type want struct{ check, status, detail, remedy string }
	chained := func(directives ...string) func(t *testing.T) string {
		return func(t *testing.T) string {
			top := redistest.New(t, t.TempDir())
			return redistest.Start(t, append(append(directives, quiet...), "replicaof 127.0.0.1 "+strconv.Itoa(top.Port))...).Addr()
		}
	}
	server := func(directives ...string) func(t *testing.T) string {
		return func(t *testing.T) string { return redistest.Start(t, append(quiet, directives...)...).Addr() }
	}
	for name, c := range map[string]struct {
		start     func(t *testing.T) string
		env, args []string
		wants     []want
	}{
		"requirepass without the password": {server("requirepass the-password"), nil, nil, []want{
			{"PING", "pass", "-NOAUTH", ""}, {"AUTH", "fail", "-NOAUTH", "masterauth"}, {"ACL", "skip", "AUTH failed", ""}}},
		"a wrong password": {server("requirepass the-password"), []string{"REPLICAD_MASTERAUTH=not-it"}, nil, []want{
			{"AUTH", "fail", "-WRONGPASS", "wrong user or password"}, {"INFO", "skip", "AUTH failed", ""}}},
		"a password where none is set": {server(), []string{"REPLICAD_MASTERAUTH=not-it"}, nil, []want{
			{"AUTH", "fail", "without any password configured", "the master has no password"}}},
		"an ACL user without psync, and no more rights": {server("user me on >the-password +replconf +ping"), []string{"REPLICAD_MASTERAUTH=the-password"}, []string{"--masteruser", "me"}, []want{
			{"ACL", "fail", "user me may not run psync (-NOPERM", "ACL SETUSER me +psync"}, {"INFO", "warn", "NOPERM", "+info"}}},
		"an ACL user without psync, who may ask": {server("user me on >the-password +@all -psync"), []string{"REPLICAD_MASTERAUTH=the-password"}, []string{"--masteruser", "me"}, []want{
			{"ACL", "fail", "user me may not run psync (ACL DRYRUN)", "ACL SETUSER me +psync"}, {"role", "pass", "a master", ""}}},
		"an ACL user without ping and replconf": {server("user me on >the-password +psync"), []string{"REPLICAD_MASTERAUTH=the-password"}, []string{"--masteruser", "me"}, []want{
			{"REPLCONF capa", "fail", "-NOPERM", "+replconf"}, {"ACL", "fail", "may not run ping", "+ping"}}},
		"PSYNC is renamed": {server("rename-command PSYNC \"\""), nil, nil, []want{
			{"ACL", "warn", "does not know PSYNC", "rename-command"}}},
		"PSYNC, SYNC and CONFIG are renamed": {server("rename-command PSYNC \"\"", "rename-command SYNC \"\"", "rename-command CONFIG \"\""), nil, nil, []want{
			{"ACL", "fail", "knows neither PSYNC nor SYNC", "not renamed"}, {"CONFIG GET", "warn", "unknown command", "renamed"}}},
		"maxclients": {func(t *testing.T) string {
			s := redistest.Start(t)
			s.Do("CONFIG", "SET", "maxclients", 1)
			return s.Addr()
		}, nil, nil, []want{
			{"PING", "fail", "max number of clients reached", "raise maxclients"}, {"maxclients", "fail", "refuses this connection", "raise maxclients"}, {"role", "skip", "PING failed", ""}}},
		"loading": {loadingMaster, nil, nil, []want{
			{"PING", "fail", "-LOADING", "wait for it"}, {"loading", "fail", "% are read", "wait for it"}, {"ACL", "pass", "", ""}}},
		"a replica whose master is down": {chained(), nil, nil, []want{
			{"PING", "pass", "+PONG", ""}, {"role", "fail", "has lost its master 127.0.0.1:", "follow 127.0.0.1:"}}},
		"a replica whose master is down, and its rights hide it": {chained("user me on >the-password +psync +replconf +ping"), []string{"REPLICAD_MASTERAUTH=the-password"}, []string{"--masteruser", "me"}, []want{
			{"role", "fail", "-NOMASTERLINK", "wait for it, or name its master"}}},
		"a replica that serves no stale data": {chained("replica-serve-stale-data no"), nil, nil, []want{
			{"PING", "fail", "-MASTERDOWN", "wait for it, or name its master"}, {"role", "fail", "has lost its master 127.0.0.1:", "follow 127.0.0.1:"}}},
		"HTTP": {func(t *testing.T) string {
			s := httptest.NewServer(http.NotFoundHandler())
			t.Cleanup(s.Close)
			return s.Listener.Addr().String()
		}, nil, nil, []want{{"PING", "fail", "HTTP/1", "that port speaks HTTP"}}},
		"a closed port": {func(t *testing.T) string { return fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t, "127.0.0.1")) }, nil, nil, []want{
			{"name resolution", "pass", "127.0.0.1:", ""}, {"connect", "fail", "ECONNREFUSED", "is redis-server running there"}, {"PING", "skip", "connect failed", ""}}},
		"a full accept queue": {firewalled, nil, []string{"--timeout", "2s"}, []want{
			{"connect", "fail", "timed out", "a firewall may be dropping packets"}}},
		"a name that does not resolve": {func(*testing.T) string { return "no-such-host.invalid:6379" }, nil, nil, []want{
			{"name resolution", "fail", "no-such-host.invalid", "check the name, and the resolver"}, {"connect", "skip", "name resolution failed", ""}}},
		"a byte at a time": {func(t *testing.T) string {
			return script(t, func(c *conversation) {
				for i := 0; c.say("%c", "+PONG"[i%5]); i++ {
					time.Sleep(50 * time.Millisecond)
				}
			}).addr
		}, nil, []string{"--timeout", "2s"}, []want{{"PING", "fail", "timed out", "does not answer like a Redis master"}}},
		"a server that is silent in the middle": {func(t *testing.T) string {
			return script(t, func(c *conversation) {
				if _, err := c.command(); err == nil && c.say("+PONG\r\n") {
					_, _ = io.Copy(io.Discard, c)
				}
			}).addr
		}, nil, []string{"--timeout", "2s"}, []want{{"PING", "pass", "+PONG", ""}, {"REPLCONF listening-port", "fail", "timed out", "does not answer"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := probe(t, c.env, append(append(fast, c.start(t)), c.args...)...)
			for _, w := range c.wants {
				p.check(t, w.check, w.status, w.detail, w.remedy)
			}
		})
	}
}

// loadingMaster is a master that reads its dataset for a long while.
func loadingMaster(t *testing.T) string {
	s := redistest.Start(t)
	var c commands
	for i := range 1000 {
		c.add("SET", fmt.Sprint("key:", i), string(noise(2000, uint64(i))))
	}
	s.Pipe(0, c...)
	s.Shutdown("SAVE")
	// For 100 seconds; it looks at its clients after each key.
	s.Launch("key-load-delay 100000", "loading-process-events-interval-bytes 1024")
	poll.Seen(t, "the master to say that it is loading", func() (bool, string) {
		nc, err := net.Dial("tcp", s.Addr())
		if err != nil {
			return false, err.Error()
		}
		defer nc.Close()
		_ = nc.SetDeadline(time.Now().Add(patience))
		fmt.Fprint(nc, "PING\r\n")
		p := make([]byte, 8)
		_, _ = io.ReadFull(nc, p)
		return string(p) == "-LOADING", string(p)
	})
	return s.Addr()
}

// firewalled is a port that answers no SYN.
func firewalled(t *testing.T) string {
	t.Helper()
	return anettest.FullQueue(t).String()
}

func TestAProbeSaysWhatIsWrongWithTLS(t *testing.T) {
	t.Parallel()
	a, other := tunneltest.NewAuthority(t), tunneltest.NewAuthority(t)
	day := 24 * time.Hour
	_, good := startTLS(t, a, time.Now().Add(90*day), quiet...)
	master, soon := startTLS(t, a, time.Now().Add(day), quiet...)
	_, expired := startTLS(t, a, time.Now().Add(-time.Minute))
	_, strict := startTLS(t, a, time.Now().Add(90*day), "tls-auth-clients yes")
	for name, c := range map[string]struct {
		args                          []string
		check, status, detail, remedy string
	}{
		"all is well":                     {[]string{"rediss://" + good, "--tls-ca-cert-file", a.CA(), "--psync"}, "TLS", "pass", `the certificate of "server" is valid until`, ""},
		"it ends soon":                    {[]string{soon, "--tls", "--tls-ca-cert-file", a.CA()}, "TLS", "warn", "which is 23 h", "renew"},
		"it has ended":                    {[]string{"rediss://" + expired, "--tls-ca-cert-file", a.CA()}, "TLS", "fail", "expired", "renew the master's certificate"},
		"another authority":               {[]string{"rediss://" + good, "--tls-ca-cert-file", other.CA()}, "TLS", "fail", "unknown authority", "tls-ca-cert-file"},
		"another name":                    {[]string{"rediss://" + good, "--tls-ca-cert-file", a.CA(), "--tls-server-name", "somebody"}, "TLS", "fail", "not somebody", "tls-server-name"},
		"a certificate is wanted":         {[]string{"rediss://" + strict, "--tls-ca-cert-file", a.CA()}, "TLS", "fail", "refuses the connection", "tls-auth-clients"},
		"plain where TLS is expected":     {[]string{good}, "PING", "fail", "", "rediss://"},
		"TLS where plain is expected":     {[]string{"rediss://" + master.Addr(), "--tls-ca-cert-file", a.CA(), "--timeout", "2s"}, "TLS", "fail", "", "leave tls out"},
		"TLS where nobody accepts at all": {[]string{"rediss://" + firewalled(t), "--timeout", "2s"}, "connect", "fail", "timed out", "firewall"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := probe(t, nil, append(fast, c.args...)...)
			p.check(t, c.check, c.status, c.detail, c.remedy)
			if c.status != "fail" {
				p.check(t, "full sync", "pass", "about", "")
			}
		})
	}
}

// ownNetwork puts the rest of the test, and what it starts, into a network
// namespace of its own, with an address that is no loopback's, 198.51.100.1, and
// a neighbour who never answers, 192.0.2.2.
func ownNetwork(t *testing.T) {
	t.Helper()
	tool, err := exec.LookPath("ip")
	if err != nil {
		t.Skip("there is no ip (iproute2) on the PATH: nothing was tested in a network namespace")
	}
	runtime.LockOSThread() // for good: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("a network namespace is not permitted here (%v): nothing was tested in one", err)
	}
	for _, line := range []string{
		"link set lo up", "addr add 198.51.100.1/32 dev lo", "link add near type veth peer name far", "addr add 192.0.2.1/24 dev near",
		"link set near up", "link set far up", "neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev near",
	} {
		if out, err := exec.Command(tool, strings.Fields(line)...).CombinedOutput(); err != nil {
			t.Skipf("ip %s: %v: %s: nothing was tested in a network namespace", line, err, out)
		}
	}
}

func TestAProbeFromAnotherHostMeetsProtectedModeAndFirewalls(t *testing.T) {
	redistest.Path(t)
	ownNetwork(t)
	start := func(directives ...string) string {
		t.Helper()
		s := redistest.New(t, t.TempDir(), append([]string{"bind 198.51.100.1"}, append(quiet, directives...)...)...)
		s.Launch()
		// By hand: a client's goroutines would be outside of the namespace.
		poll.Seen(t, "the master to listen", func() (bool, string) {
			nc, err := net.Dial("tcp", s.Addr())
			if err != nil {
				return false, err.Error()
			}
			nc.Close()
			return true, ""
		})
		return s.Addr()
	}
	p := probe(t, nil, append(fast, start("protected-mode yes"))...)
	p.only(t, "TLS", "PING", "protected-mode")
	p.check(t, "PING", "fail", "-DENIED", "set bind and requirepass")
	p.check(t, "protected-mode", "fail", "refuses this connection", "set bind and requirepass")
	p.check(t, "INFO", "skip", "PING failed", "")

	p = probe(t, nil, append(fast, start("protected-mode no"))...)
	p.only(t, "TLS", "requirepass")
	p.check(t, "TLS", "warn", "a public one", "tls-port")
	p.check(t, "requirepass", "warn", "whoever reaches the port", "requirepass")

	p = probe(t, nil, append(fast, "192.0.2.2:6379", "--timeout", "2s")...)
	p.check(t, "connect", "fail", "timed out", "a firewall may be dropping packets")
	p = probe(t, nil, append(fast, "203.0.113.1:6379", "--timeout", "2s")...)
	p.check(t, "connect", "fail", "ENETUNREACH", "no route to the master")
}

func TestAProbePrintsAsItGoesAndEndsWithItsVerdict(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, quiet...)
	stdout, stderr, code := once(t, nil, "probe", s.Addr(), "--for", "100ms", "--dir", filepath.Join(t.TempDir(), "new"))
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	if code != 0 || stderr != "" || !strings.HasPrefix(lines[len(lines)-1], s.Addr()+" (") || !strings.HasSuffix(lines[len(lines)-1], " can be followed") {
		t.Errorf("exit code %d, %q:\n%s", code, stderr, stdout)
	}
	for _, line := range lines[:len(lines)-2] {
		if !strings.HasPrefix(line, "PASS  ") {
			t.Errorf("%s", line)
		}
	}
	if _, err := os.Stat(filepath.Join(t.TempDir(), "new")); err == nil {
		t.Error("the probe has made the folder")
	}
}

func TestAProbeThatIsInterruptedEndsAtOnce(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	s := script(t, func(c *conversation) {
		if _, err := c.command(); err == nil {
			close(asked)
			_, _ = io.Copy(io.Discard, c)
		}
	})
	cmd := command(nil, "probe", s.addr, "--timeout", "1h")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	<-asked
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(out)
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 2 || !strings.Contains(string(text), "interrupted") {
		t.Errorf("exit code %d:\n%s", code, text)
	}
}
