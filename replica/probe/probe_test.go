package probe

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"replicad/anet"
	"replicad/anet/anettest"
	"replicad/replica"
	"replicad/replica/minimaster"
)

func TestASoundMasterPassesEveryCheck(t *testing.T) {
	m := master(t, sound())
	r := run(t, Options{Master: m, Dir: filepath.Join(t.TempDir(), "not", "yet")})
	for _, c := range r.Checks {
		if c.Status != Pass || c.Remedy != "" {
			t.Errorf("%s %s: %s -> %s", c.Status, c.Name, c.Detail, c.Remedy)
		}
	}
	if r.Verdict != Pass || r.Server != "Redis 7.2.6" || r.Master != m.Address() || r.Took <= 0 {
		t.Errorf("the report is %s, %q, %q, %v", r.Verdict, r.Server, r.Master, r.Took)
	}
}

func TestARefusalHasItsCheckItsReasonAndItsRemedy(t *testing.T) {
	const secret = "correct-horse"
	type want struct {
		check          string
		status         Status
		detail, remedy string
	}
	for name, c := range map[string]struct {
		answers script
		user    string
		pass    string
		psync   bool
		want    []want
	}{
		"a password is wanted": {sound().with("PING", "-NOAUTH Authentication required.\r\n"), "", "", false, []want{
			{"PING", Pass, "-NOAUTH", ""}, {"AUTH", Fail, "-NOAUTH", "masterauth"}, {"REPLCONF capa", Skip, "AUTH failed", ""}}},
		"a password is wanted, by a master before 6.0": {sound().with("PING", "-ERR operation not permitted\r\n"), "", "", false, []want{
			{"AUTH", Fail, "operation not permitted", "masterauth"}}},
		"the password is wrong, and quoted": {sound().with("AUTH", "-WRONGPASS invalid "+secret+" pair\r\n"), "", secret, false, []want{
			{"AUTH", Fail, "-WRONGPASS invalid *** pair", "wrong user or password"}, {"ACL", Skip, "AUTH failed", ""}}},
		"AUTH is renamed, and its arguments quoted": {sound().with("AUTH", "-ERR unknown command 'AUTH', with args beginning with: 'correct-h\r\n"), "", secret, false, []want{
			{"AUTH", Fail, "unknown command 'AUTH'", "renamed"}}},
		"AUTH is answered with nonsense": {sound().with("AUTH", "what is "+secret+"?\r\n"), "", secret, false, []want{
			{"AUTH", Fail, "unexpected answer to AUTH", "is that port"}}},
		"a good password": {sound().with("PING", "-NOAUTH Authentication required.\r\n"), "me", secret, false, []want{
			{"AUTH", Pass, "as me", ""}, {"requirepass", Pass, "has a password", ""}}},
		"protected mode": {sound().with("PING", "-DENIED Redis is running in protected mode because\r\n"), "", "", false, []want{
			{"PING", Fail, "-DENIED", "set bind and requirepass"}, {"AUTH", Skip, "PING failed", ""}, {"protected-mode", Fail, "refuses this connection", "set bind and requirepass"}, {"maxclients", Skip, "PING failed", ""}}},
		"maxclients": {sound().with("PING", "-ERR max number of clients reached\r\n"), "", "", false, []want{
			{"PING", Fail, "max number", "raise maxclients"}, {"protected-mode", Skip, "PING failed", ""}, {"maxclients", Fail, "refuses this connection", "raise maxclients"}}},
		"loading": {sound().with("PING", "-LOADING Redis is loading the dataset in memory\r\n", "INFO", bulk(strings.Replace(infoText, "\nloading:0\r\n", "\nloading:1\r\nloading_loaded_perc:43.21\r\nloading_eta_seconds:12\r\n", 1))), "", "", false, []want{
			{"PING", Fail, "-LOADING", "wait for it"}, {"loading", Fail, "43.21 % are read, about 12 s are left", "wait"}, {"ACL", Pass, "", ""}}},
		"a replica without its master": {sound().with("PING", "-MASTERDOWN Link with MASTER is down\r\n", "INFO", bulk(strings.Replace(infoText, "role:master", "role:slave\r\nmaster_host:h\r\nmaster_port:1\r\nmaster_link_status:down\r\nmaster_link_down_since_seconds:300", 1))), "", "", false, []want{
			{"PING", Fail, "-MASTERDOWN", "wait for it"}, {"role", Fail, "lost its master h:1", "follow h:1"}}},
		"no psync, by DRYRUN": {sound().with("ACL WHOAMI", bulk("me"), "ACL DRYRUN ME PSYNC", bulk("This user has no permissions to run the 'psync' command")), "me", secret, false, []want{
			{"ACL", Fail, "user me may not run psync (ACL DRYRUN)", "ACL SETUSER me +psync"}}},
		"no psync and no replconf, by DRYRUN": {sound().with("ACL DRYRUN DEFAULT PSYNC", bulk("no"), "ACL DRYRUN DEFAULT REPLCONF", bulk("no")), "", "", false, []want{
			{"ACL", Fail, "psync, replconf", "+psync +replconf"}}},
		"no psync, without DRYRUN": {sound().with("ACL", "-NOPERM no\r\n", "ACL WHOAMI", "-NOPERM no\r\n", "ACL DRYRUN", "-NOPERM no\r\n", "PSYNC ? -1", "-NOPERM this user has no permissions\r\n"), "me", secret, false, []want{
			{"ACL", Fail, "user me may not run psync (-NOPERM", "ACL SETUSER me +psync"}}},
		"psync behind a PING": {sound().with("ACL DRYRUN", "-ERR unknown subcommand\r\n"), "", "", false, []want{
			{"ACL", Pass, "refused for its place alone", ""}}},
		"no ACLs": {sound().with("ACL WHOAMI", "-ERR unknown command `ACL`\r\n"), "", "", false, []want{
			{"ACL", Pass, "no ACLs (before 6.0)", ""}}},
		"a server that takes a PSYNC out of its place": {sound().with("ACL DRYRUN", "-ERR no\r\n", "PSYNC ? -1", "+FULLRESYNC "+strings.Repeat("a", 40)+" 1\r\n$100000\r\nREDIS"), "", "", false, []want{
			{"ACL", Pass, "was cut; a BGSAVE may have begun", ""}, {"INFO", Pass, "fields", ""}}},
		"no master behind, and INFO not permitted": {sound().with("ACL DRYRUN", "-NOPERM no\r\n", "INFO", "-NOPERM no\r\n", "PSYNC ? -1", "-NOMASTERLINK Can't SYNC while not connected with my master\r\n"), "", "", false, []want{
			{"ACL", Pass, "-NOMASTERLINK", ""}, {"role", Fail, "-NOMASTERLINK", "wait for it, or name its master"}, {"version", Skip, "INFO was not answered", ""}}},
		"a PSYNC that is refused for some reason": {sound().with("ACL DRYRUN", "-ERR no\r\n", "PSYNC ? -1", "-SOMETHING new\r\n"), "", "", false, []want{
			{"ACL", Fail, "PSYNC was answered -SOMETHING new", "master's log"}, {"role", Pass, "a master", ""}}},
		"no PSYNC": {sound().with("PSYNC", "-ERR unknown command 'PSYNC'\r\n"), "", "", false, []want{
			{"ACL", Warn, "falls back to SYNC", "upgrade"}}},
		"neither PSYNC nor SYNC": {sound().with("PSYNC", "-ERR unknown command 'PSYNC'\r\n", "SYNC X", "-ERR unknown command 'SYNC'\r\n"), "", "", false, []want{
			{"ACL", Fail, "knows neither PSYNC nor SYNC", "renamed"}}},
		"no REPLCONF right": {sound().with("REPLCONF", "-NOPERM this user has no permissions to run the 'replconf' command\r\n"), "", "", false, []want{
			{"REPLCONF listening-port", Fail, "-NOPERM", "+replconf"}}},
		"an option of REPLCONF that it does not know": {sound().with("REPLCONF VERSION", "-ERR Unrecognized REPLCONF option: version\r\n", "REPLCONF CAPA", "-ERR Unrecognized REPLCONF option: capa\r\n"), "", "", false, []want{
			{"REPLCONF version", Pass, "need not", ""}, {"REPLCONF capa", Warn, "Unrecognized", "goes on without it"}}},
		"APPEND is renamed, and a module is loaded": {sound().with("COMMAND INFO", strings.Replace(sound()["COMMAND INFO"], "*1\r\n+x\r\n", "*-1\r\n", 1), "MODULE LIST", "*1\r\n*4\r\n+name\r\n+ReJSON\r\n+ver\r\n:1\r\n"), "", "", false, []want{
			{"commands", Warn, "renamed or disabled append, and it has loaded 1 module (ReJSON)", "--redis-config"}}},
		"COMMAND is not known": {sound().without("COMMAND INFO"), "", "", false, []want{{"commands", Skip, "does not say", ""}}},
		"MODULE is refused":    {sound().with("MODULE LIST", "-NOPERM no\r\n"), "", "", false, []want{{"commands", Pass, "have their names", ""}}},
		"CONFIG is renamed": {sound().with("CONFIG GET", "-ERR unknown command 'CONFIG'\r\n", "CONFIG GET MAXCLIENTS", "-ERR unknown command 'CONFIG'\r\n").without("CONFIG GET "), "", "", false, []want{
			{"CONFIG GET", Warn, "unknown command", "renamed"}, {"repl-timeout", Skip, "CONFIG GET was not answered", ""}, {"repl-backlog-size", Pass, "1.0 MiB", ""}}},
		"PSYNC is continued": {sound().with("PSYNC AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA 101", "\n\n+CONTINUE\r\n"), "", "", true, []want{
			{"PSYNC", Pass, "from offset 101", ""}}},
		"PSYNC is a full sync": {sound().with("INFO", bulk(strings.Replace(infoText, "repl_backlog_active:1", "repl_backlog_active:0", 1)), "PSYNC ? -1", "+FULLRESYNC "+strings.Repeat("b", 40)+" 0\r\n"), "", "", true, []want{
			{"PSYNC", Pass, "a BGSAVE may have begun", ""}}},
		"PSYNC is refused": {sound().with("PSYNC AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA 101", "-NOMASTERLINK Can't SYNC\r\n"), "", "", true, []want{
			{"PSYNC", Fail, "-NOMASTERLINK", "name its master"}}},
		"PSYNC is answered with nonsense": {sound().with("PSYNC AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA 101", "+HELLO\x1b[31m\r\n"), "", "", true, []want{
			{"PSYNC", Fail, "unexpected answer to PSYNC", "is that port"}}},
		"INFO with nonsense": {sound().with("INFO", bulk(strings.NewReplacer("7.2.6", "\x1b[2J"+strings.Repeat("9", 5000), "10000", "-5", "1048576", "99999999999999999999", "role:master", "role:\x07king", "master_repl_offset:100", "master_repl_offset:x").Replace(infoText))), "", "", false, []want{
			{"version", Warn, `\x1b[2J999`, "form"}, {"role", Warn, `role "\aking"`, "Sentinel"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := master(t, c.answers)
			m.User, m.Password = c.user, c.pass
			r := run(t, Options{Master: m, Psync: c.psync})
			worst := Pass
			for _, w := range c.want {
				expect(t, find(t, r, w.check), w.status, w.detail, w.remedy)
				if w.status == Fail || w.status == Warn && worst == Pass {
					worst = w.status
				}
			}
			if r.Verdict != worst {
				t.Errorf("the verdict is %s, want %s: %+v", r.Verdict, worst, r.Checks)
			}
			if p, err := json.Marshal(r); err != nil || strings.Contains(string(p), secret) || strings.Contains(string(p), "correct-h") {
				t.Errorf("JSON is %s, %v", p, err)
			}
		})
	}
}

// without takes out the answers to what begins so.
func (a script) without(prefix string) script {
	for k := range a {
		if strings.HasPrefix(k, prefix) {
			delete(a, k)
		}
	}
	return a
}

func TestAHostileServerNeitherHangsNorFillsTheMemory(t *testing.T) {
	const timeout = time.Second
	forever := func(c net.Conn, s string) {
		p := []byte(strings.Repeat(s, 1+32<<10/len(s)))
		for {
			if _, err := c.Write(p); err != nil {
				return
			}
		}
	}
	slowly := func(c net.Conn, s string) {
		for i := 0; ; i++ {
			if _, err := c.Write([]byte{s[i%len(s)]}); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	for name, c := range map[string]struct {
		serve func(net.Conn)
		want  string
	}{
		"silence":              {func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, "timed out: no answer within"},
		"garbage":              {func(c net.Conn) { forever(c, "\x00\xff\x01garbage") }, "line too long"},
		"a line without end":   {func(c net.Conn) { forever(c, "+PONG") }, "line too long"},
		"newlines without end": {func(c net.Conn) { forever(c, "\n") }, `unexpected answer to PING: ""`},
		"a byte at a time":     {func(c net.Conn) { slowly(c, "+PONG") }, "timed out"},
		"a huge length":        {func(c net.Conn) { _, _ = io.WriteString(c, "$4000000000\r\n"); forever(c, "x") }, "unexpected answer"},
		"a huge list":          {func(c net.Conn) { forever(c, "*1000\r\n") }, `unexpected answer to PING: "*1000"`},
		"a long list":          {func(c net.Conn) { _, _ = io.WriteString(c, "*1000\r\n"); forever(c, bulk(strings.Repeat("x", 8000))) }, "unexpected answer"},
		"a negative length":    {func(c net.Conn) { _, _ = io.WriteString(c, "$-9\r\n") }, "unexpected answer"},
		"HTTP":                 {func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") }, "unexpected answer to PING: \"HTTP/1.1"},
		"half a line":          {func(c net.Conn) { _, _ = io.WriteString(c, "220 mail"); _, _ = io.Copy(io.Discard, c) }, "timed out"},
		"a TLS alert":          {func(c net.Conn) { _, _ = io.WriteString(c, "\x15\x03\x01\x00\x02\x02\x0a") }, `unexpected answer to PING: "\x15`},
		"it closes":            {func(c net.Conn) { _, _ = c.Read(make([]byte, 100)) }, "closed the connection"},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			r := run(t, Options{Master: serve(t, c.serve), Timeout: timeout, Psync: true})
			runtime.ReadMemStats(&after)
			expect(t, find(t, r, "PING"), Fail, c.want, find(t, r, "PING").Remedy)
			if find(t, r, "PING").Remedy == "" {
				t.Error("there is no remedy")
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 32<<20 {
				t.Errorf("%d bytes were allocated", n)
			}
		})
	}
	// Later, where the server has won some trust.
	for name, c := range map[string]struct{ ask, say, check string }{
		"in INFO":       {"INFO", "$4000000\r\nhalf of it", "INFO"},
		"in CONFIG GET": {"CONFIG GET REPL-TIMEOUT", "*2\r\n", "CONFIG GET"},
		"in ACL":        {"ACL WHOAMI", "\n", "ACL"},
		"in PSYNC":      {"PSYNC AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA 101", strings.Repeat("\n", 10000), "PSYNC"},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, Options{Master: master(t, sound().with(c.ask, c.say)), Timeout: timeout, Psync: true})
			if got := find(t, r, c.check); got.Status != Fail && got.Status != Warn {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestEachAddressOfANameIsTriedAndTold(t *testing.T) {
	m := master(t, sound())
	good := anet.TCP(netip.MustParseAddrPort(m.Address()))
	closed := anet.TCP(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), closedPort(t)))
	m.Host = "db.example.org"
	resolve := func(eps ...anet.Endpoint) func(context.Context, string, int) ([]anet.Endpoint, error) {
		return func(_ context.Context, host string, port int) ([]anet.Endpoint, error) {
			if host != m.Host || port != m.Port {
				t.Errorf("asked for %s:%d", host, port)
			}
			return eps, nil
		}
	}
	r := run(t, Options{Master: m, Resolve: resolve(closed, good)})
	expect(t, find(t, r, "name resolution"), Pass, closed.String()+", "+good.String(), "")
	expect(t, find(t, r, "connect"), Warn, good.String()+"; before that, connect to "+closed.String()+": connection refused (ECONNREFUSED)", "one after the other")
	expect(t, find(t, r, "connect"), Warn, good.String(), "is redis-server running there")
	expect(t, find(t, r, "full sync"), Pass, "about", "")

	r = run(t, Options{Master: m, Resolve: resolve(closed)})
	expect(t, find(t, r, "connect"), Fail, "ECONNREFUSED", "is redis-server running there")
	expect(t, find(t, r, "PING"), Skip, "connect failed", "")

	// One that drops what is sent to it, and time for the rest all the same.
	r = run(t, Options{Master: m, Resolve: resolve(anet.TCP(anettest.FullQueue(t)), good), Timeout: 2 * time.Second})
	expect(t, find(t, r, "connect"), Warn, "timed out: no answer within ", "a firewall may be dropping packets")
	expect(t, find(t, r, "full sync"), Pass, "about", "")
}

func closedPort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

func TestAResolverThatHangsIsGivenUpInTime(t *testing.T) {
	r := run(t, Options{Master: replica.Master{Host: "h", Port: 1}, Timeout: 100 * time.Millisecond, Dir: t.TempDir(),
		Resolve: func(ctx context.Context, _ string, _ int) ([]anet.Endpoint, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
	expect(t, find(t, r, "name resolution"), Fail, "timed out: no answer within", "resolver of this host")
	expect(t, find(t, r, "connect"), Skip, "name resolution failed", "")
	if c := find(t, r, "disk"); c.Status != Pass || r.Figures["free_bytes"] == 0 {
		t.Errorf("the disk is there without a master: %+v", c)
	}
}

func TestAnInterruptedProbeEndsAtOnceWithWhatItHas(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	asked := make(chan struct{})
	m := serve(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 100))
		close(asked)
		_, _ = io.Copy(io.Discard, c)
	})
	go func() {
		<-asked
		cancel()
	}()
	begun := time.Now()
	r := Run(ctx, Options{Master: m, Timeout: time.Hour})
	if time.Since(begun) > patience {
		t.Error("it went on")
	}
	expect(t, find(t, r, "connect"), Pass, "", "")
	expect(t, find(t, r, "PING"), Fail, "interrupted", "")
	expect(t, find(t, r, "role"), Skip, "interrupted", "")
}

func TestTheMeasuringEndsWithTheTimeout(t *testing.T) {
	r := run(t, Options{Master: master(t, sound()), For: time.Hour, Timeout: 500 * time.Millisecond})
	expect(t, find(t, r, "repl-backlog-size"), Pass, "nothing was written", "")
}

func TestAUnixSocketNeedsNoResolver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	m := replica.Master{Path: path}
	r := run(t, Options{Master: m})
	expect(t, find(t, r, "connect"), Fail, "ENOENT", "no such unix socket")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, _ = io.WriteString(c, "-DENIED no\r\n")
			c.Close()
		}
	}()
	r = run(t, Options{Master: m})
	expect(t, find(t, r, "protected-mode"), Fail, "-DENIED no", "requirepass")
	expect(t, find(t, r, "TLS"), Pass, "nothing leaves this host", "")
}

func TestADirThatCantBeUsedIsAFailure(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	m := master(t, sound())
	for _, dir := range []string{file, filepath.Join(file, "below")} {
		expect(t, find(t, run(t, Options{Master: m, Dir: dir}), "disk"), Fail, "not a directory", "name a --dir")
	}
	if r := room(filepath.Join(t.TempDir(), "a", "b")); r["disk.trouble"] != "" || r["disk.free"] == "" || filepath.Base(r["disk.dir"]) == "a" {
		t.Errorf("%+v", r)
	}
}

// TestTheEmbeddedMasterCanBeProbed: it does not refuse a PSYNC behind a PING, as
// Redis does, so the probe has to notice and cut.
func TestTheEmbeddedMasterCanBeProbed(t *testing.T) {
	mm, err := minimaster.Start(minimaster.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer mm.Close()
	m, err := replica.ParseMaster(mm.Addr())
	if err != nil {
		t.Fatal(err)
	}
	r := run(t, Options{Master: m, Psync: true})
	expect(t, find(t, r, "ACL"), Pass, "was cut; a BGSAVE may have begun", "")
	expect(t, find(t, r, "PSYNC"), Pass, "+CONTINUE", "")
	if r.Verdict != Pass {
		t.Errorf("%+v", r.Checks)
	}
}
