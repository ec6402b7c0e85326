package integration

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"replicad/integration/poll"
	"replicad/integration/redistest"
)

// oneLine checks what a person sees who asked for something impossible.
func oneLine(t *testing.T, stdout, stderr string, code int, want string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(stderr), "\n")
	if n := len(lines); n == 2 && strings.HasPrefix(lines[1], "See '") {
		lines = lines[:1]
	}
	if code != 2 || stdout != "" || len(lines) != 1 || !strings.HasPrefix(lines[0], "replicad: ") || !strings.Contains(lines[0], want) {
		t.Errorf("exit code %d, stdout %q, stderr %q; want 2, nothing, and one line with %q", code, stdout, stderr, want)
	}
	if strings.Contains(stderr, "goroutine ") || strings.Contains(stderr, ".go:") {
		t.Errorf("a stack trace: %s", stderr)
	}
}

func TestWrongFlagsEndWithCode2AndOneLine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("y\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) []string { return append([]string{"run", "--dir", dir}, args...) }
	good := func(args ...string) []string { return run(append([]string{"--replicaof", "127.0.0.1:1"}, args...)...) }
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"runn"}, `unknown command "runn"`},
		{[]string{"--what"}, "--what"},
		{[]string{"run"}, "--replicaof is missing"},
		{[]string{"run", "--replicaof", "127.0.0.1:6379"}, "--dir is missing"},
		{good("extra"), `"extra"`},
		{good("--no-such-flag"), "--no-such-flag"},
		{run("--replicaof", ""), "--replicaof"},
		{run("--replicaof", "localhost"), "port"},
		{run("--replicaof", "localhost:0"), "port"},
		{run("--replicaof", "localhost:65536"), "port"},
		{run("--replicaof", "localhost:redis"), "port"},
		{run("--replicaof", ":6379"), "host"},
		{run("--replicaof", "../x=localhost:6379"), "neither a name nor an address"},
		{run("--replicaof", "-x=localhost:6379"), "the name"},
		{run("--replicaof", "a=localhost:6379", "--replicaof", "a=localhost:6380"), "two masters have the name"},
		{run("--replicaof", "http://localhost:6379"), "scheme"},
		{good("--tls-ca-cert-file", "ca.pem"), "--tls"},
		{good("--tls", "--tls-ca-cert-file", "/nowhere/ca.pem"), "no such file"},
		{good("--tls", "--tls-cert-file", "cert.pem"), "tls-key-file"},
		{run("--replicaof", "unix:///run/redis.sock", "--tls"), "unix socket"},
		{run("--replicaof", "unix://relative"), "absolute"},
		{run("--replicaof", "unix:///"+strings.Repeat("long/", 30)), "unix"},
		{run("--replicaof", "redis://:pass%zz@localhost:6379"), "malformed"},
		{run("--replicaof", "redis://localhost:6379/5"), "database"},
		{good("--appendfsync", "sometimes"), "appendfsync"},
		{good("--loglevel", "loud"), "loglevel"},
		{good("--log-format", "xml"), "log-format"},
		{good("--repl-timeout", "sixty"), "repl-timeout"},
		{good("--repl-timeout", "0s"), "repl-timeout"},
		{good("--repl-syncio-timeout", "-1s"), "repl-syncio-timeout"},
		{good("--proto-max-bulk-len", "1"), "proto-max-bulk-len"},
		{good("--replica-announce-port", "70000"), "replica-announce-port"},
		{good("--bind-source-addr", "nowhere"), "bind-source-addr"},
		{good("--masteruser", "someone"), "no password"},
		{good("--masterauth-file", filepath.Join(dir, "missing")), "masterauth-file"},
		{good("--masterauth-file", empty), "is empty"},
		{good("--masterauth-file", secret, "--masterauth", "x"), "exclude"},
		{[]string{"list"}, "--dir is missing"},
		{[]string{"list", "--dir", filepath.Join(dir, "missing")}, "there is no such folder"},
		{[]string{"list", "--dir", empty}, "no folder"},
	} {
		stdout, stderr, code := once(t, nil, c.args...)
		oneLine(t, stdout, stderr, code, c.want)
	}
	if _, err := os.Stat(filepath.Join(dir, "127.0.0.1-1")); err == nil {
		t.Error("wrong flags made an archive")
	}
}

func TestAFolderThatCantBeUsedEndsWithCode2AndOneLine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	try := func(dir, want string) {
		t.Helper()
		stdout, stderr, code := once(t, nil, "run", "--dir", dir, "--replicaof", "main=127.0.0.1:1")
		oneLine(t, stdout, stderr, code, want)
	}
	try(file, "not a directory")
	try(filepath.Join(file, "below"), "not a directory")
	if content, err := os.ReadFile(file); err != nil || string(content) != "mine" {
		t.Errorf("the file was changed: %q, %v", content, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "main"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	try(dir, "not a directory")

	t.Run("read-only", func(t *testing.T) {
		readOnly := mountTmpfs(t, "1m", "ro")
		try(readOnly, "read-only file system")
	})
	t.Run("locked", func(t *testing.T) {
		dir := t.TempDir()
		d := run(t, dir, "--replicaof", "main=127.0.0.1:1")
		d.waitLog("replicad is running")
		try(dir, "locked by another replicad")
		d.stop()
	})
}

// trouble is a master that can't be followed, for now.
type trouble struct {
	name  string
	start func(t *testing.T) (addr string, heal func() *redistest.Server)
	env   []string
	args  []string
	want  string // state, cause and remedy, as one regular expression
}

// TestATroubleWithTheMasterIsOneClearLineAndTriedAgain checks that the log
// says state, cause and remedy, that the daemon keeps trying, and that it
// recovers when the cause is gone.
func TestATroubleWithTheMasterIsOneClearLineAndTriedAgain(t *testing.T) {
	t.Parallel()
	server := func(heal func(s *redistest.Server), directives ...string) func(t *testing.T) (string, func() *redistest.Server) {
		return func(t *testing.T) (string, func() *redistest.Server) {
			s := redistest.Start(t, directives...)
			return s.Addr(), func() *redistest.Server { heal(s); return s }
		}
	}
	listener := func(serve func(c net.Conn)) func(t *testing.T) (string, func() *redistest.Server) {
		return func(t *testing.T) (string, func() *redistest.Server) {
			return script(t, func(c *conversation) { serve(c.Conn) }).addr, nil
		}
	}
	// chained makes a replica whose master is not there yet.
	chained := func(directives ...string) func(t *testing.T) (string, func() *redistest.Server) {
		return func(t *testing.T) (string, func() *redistest.Server) {
			top := redistest.New(t, t.TempDir())
			middle := redistest.Start(t, append(directives, "replicaof 127.0.0.1 "+strconv.Itoa(top.Port))...)
			return middle.Addr(), func() *redistest.Server {
				top.Start()
				top.Do("SET", "key", "value")
				poll.Seen(t, "the replica to follow its master", func() (bool, string) {
					s := middle.Info("replication")["master_link_status"]
					return s == "up", s
				})
				return middle
			}
		}
	}
	for _, c := range []trouble{
		{name: "nobody listens", want: `in state CONNECTING: .*ECONNREFUSED.*: is redis-server running there`,
			start: func(t *testing.T) (string, func() *redistest.Server) {
				s := redistest.New(t, t.TempDir())
				return s.Addr(), func() *redistest.Server { s.Start(); return s }
			}},
		{name: "no unix socket", want: `in state (NONE|CONNECTING): .*ENOENT.*: there is no such unix socket`,
			start: func(t *testing.T) (string, func() *redistest.Server) {
				s := redistest.New(t, t.TempDir(), "port 0", "unixsocket "+filepath.Join(shortDir(t), "s"))
				return "unix://" + s.Socket, func() *redistest.Server { s.Start(); return s }
			}},
		{name: "no such name", want: `in state NONE: name resolution failed: .*no-such-host\.invalid.*: check the name, and the resolver`,
			start: func(*testing.T) (string, func() *redistest.Server) { return "no-such-host.invalid:6379", nil }},
		{name: "wrong password", want: `in state SYNC/AUTH: AUTH was answered -WRONGPASS .*: wrong user or password: check masteruser`,
			env: []string{"REPLICAD_MASTERAUTH=not-the-password"},
			start: server(func(s *redistest.Server) { s.SetPassword("not-the-password") },
				"requirepass the-password")},
		{name: "no password where one is needed", want: `in state SYNC/PSYNC: PSYNC was answered -NOAUTH .*: the master wants a password`,
			start: server(func(s *redistest.Server) { s.SetPassword("") }, "requirepass the-password")},
		{name: "a password where none is set", want: `in state SYNC/AUTH: AUTH was answered -ERR AUTH <password> called without .*: the master has no password`,
			env:   []string{"REPLICAD_MASTERAUTH=a-password"},
			start: server(func(s *redistest.Server) { s.SetPassword("a-password") })},
		{name: "an ACL user without PSYNC", want: `in state SYNC/PSYNC: PSYNC was answered -NOPERM .*: the ACL user lacks a command: .*\+psync`,
			env: []string{"REPLICAD_MASTERAUTH=a-password"}, args: []string{"--masteruser", "replica"},
			start: server(func(s *redistest.Server) { s.Do("ACL", "SETUSER", "replica", "+psync") },
				"user replica on >a-password +replconf +ping")},
		{name: "an ACL user without anything", want: `in state SYNC/PSYNC: PSYNC was answered -NOPERM .*: the ACL user lacks a command`,
			env: []string{"REPLICAD_MASTERAUTH=a-password"}, args: []string{"--masteruser", "replica"},
			start: server(func(s *redistest.Server) { s.Do("ACL", "SETUSER", "replica", "+psync", "+ping", "+replconf") },
				"user replica on >a-password")},
		{name: "it is loading", want: `in state RECEIVE_PONG: PING was answered -LOADING .*: the master is still reading its dataset`,
			start: func(t *testing.T) (string, func() *redistest.Server) {
				s := redistest.Start(t, `save ""`)
				var c commands
				for i := range 1000 {
					c.add("SET", fmt.Sprint("key:", i), i)
				}
				s.Pipe(0, c...)
				s.Shutdown("SAVE")
				// Two seconds, in which it looks at its clients all the time.
				s.Launch("key-load-delay 2000", "loading-process-events-interval-bytes 1024")
				poll.Seen(t, "the master to listen", func() (bool, string) {
					nc, err := net.Dial("tcp", s.Addr())
					if err != nil {
						return false, err.Error()
					}
					nc.Close()
					return true, ""
				})
				return s.Addr(), func() *redistest.Server { s.WaitReady(); return s }
			}},
		{name: "a replica that lost its master", want: `in state SYNC/PSYNC: PSYNC was answered -NOMASTERLINK .*: the master is itself a replica and has lost its own master`,
			start: chained()},
		{name: "a replica that serves no stale data", want: `in state RECEIVE_PONG: PING was answered -MASTERDOWN .*: the master is itself a replica without its master`,
			start: chained("replica-serve-stale-data no")},
		{name: "maxclients", want: `in state RECEIVE_PONG: PING was answered -ERR max number of clients reached: raise maxclients`,
			start: func(t *testing.T) (string, func() *redistest.Server) {
				s := redistest.Start(t)
				s.Do("CONFIG", "SET", "maxclients", 1)
				return s.Addr(), func() *redistest.Server {
					s.Do("CONFIG", "SET", "maxclients", 100)
					return s
				}
			}},
		{name: "protected mode", want: `in state RECEIVE_PONG: PING was answered -DENIED .*: the master is in protected mode`,
			start: listener(func(c net.Conn) {
				// It says so and closes, without waiting for a command.
				fmt.Fprint(c, "-DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the default user.\r\n")
			})},
		{name: "a port that speaks HTTP", want: `in state RECEIVE_PONG: unexpected answer to PING: .*HTTP/1.*: that port speaks HTTP`,
			start: func(t *testing.T) (string, func() *redistest.Server) {
				s := httptest.NewServer(http.NotFoundHandler())
				t.Cleanup(s.Close)
				return strings.TrimPrefix(s.URL, "http://"), nil
			}},
		{name: "a port that speaks TLS", want: `in state RECEIVE_PONG: the master closed the connection: .*a port that expects TLS closes like this too`,
			start: listener(func(c net.Conn) { _ = tls.Server(c, &tls.Config{}).Handshake() })},
		{name: "a port that speaks SSH", want: `in state RECEIVE_PONG: unexpected answer to PING: .*: that port speaks SSH`,
			start: listener(func(c net.Conn) { fmt.Fprint(c, "SSH-2.0-OpenSSH_9.6\r\n") })},
		{name: "a port that closes", want: `in state RECEIVE_PONG: the master closed the connection: look at the master's log`,
			start: listener(func(c net.Conn) {
				_, _ = c.Read(make([]byte, 100)) // PING, lest it be a reset
			})},
		{name: "a port that is silent", want: `in state RECEIVE_PONG: timed out: no answer within 300ms: something accepts connections`,
			args:  []string{"--repl-syncio-timeout", "300ms"},
			start: listener(func(c net.Conn) { _, _ = c.Read(make([]byte, 100)); _, _ = c.Read(make([]byte, 100)) })},
		{name: "a line without an end", want: `in state RECEIVE_PONG: unexpected answer`,
			start: listener(func(c net.Conn) { fmt.Fprint(c, strings.Repeat("x", 200_000)); _, _ = c.Read(make([]byte, 100)) })},
		{name: "nonsense after PSYNC", want: `in state SYNC/PSYNC: unexpected answer to PSYNC: .*: is that port a Redis or Valkey server`,
			start: func(t *testing.T) (string, func() *redistest.Server) {
				return script(t, func(c *conversation) {
					if _, _, ok := c.handshake(); ok {
						c.say("+FULLRESYNC short 1\r\n")
						c.acks(func(_, _ int64) {})
					}
				}).addr, nil
			}},
		{name: "it can't save", want: `in state SYNC/TRANSFER: PSYNC was answered -ERR BGSAVE failed, replication can't continue: the master can't save: its disk is full or its memory does not bear a fork .*; look at its log`,
			start: func(t *testing.T) (string, func() *redistest.Server) {
				return script(t, func(c *conversation) {
					if _, _, ok := c.handshake(); ok {
						c.say("+FULLRESYNC %s 0\r\n\n\n-ERR BGSAVE failed, replication can't continue\r\n", replID('a'))
					}
				}).addr, nil
			}},
		{name: "cut in the transfer", want: `in state SYNC/TRANSFER: the master closed the connection: look at the master's log: client-output-buffer-limit`,
			start: func(t *testing.T) (string, func() *redistest.Server) {
				return script(t, func(c *conversation) {
					if _, _, ok := c.handshake(); ok {
						c.say("+FULLRESYNC %s 0\r\n$1000000\r\nREDIS0010", replID('a'))
					}
				}).addr, nil
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			addr, heal := c.start(t)
			dir := t.TempDir()
			d := runEnv(t, c.env, dir, append(c.args, "--replicaof", "main="+addr)...)
			clear := regexp.MustCompile(`level=warning msg="main \(.*\) ` + c.want + `.*next_attempt_in=`)
			poll.Seen(t, "a second failure", func() (bool, string) {
				for _, line := range d.log.from(0) {
					if strings.Contains(line, "level=warning") && !clear.MatchString(line) {
						t.Fatalf("the line is not as clear as it should be: %s\nwant: %s", line, clear)
					}
				}
				n := d.matches("level=warning")
				return n >= 2, fmt.Sprint(n, " warnings")
			})
			if n := len(generations(t, dir, "main")); n != 0 {
				t.Errorf("%d generations were left behind", n)
			}
			if heal != nil {
				master := heal()
				master.Client(0) // whoever may write, now or later
				d.waitLog(`msg="full sync done"`)
				equal(t, master, dir, "main")
			}
			d.stop()
			for _, line := range d.log.from(0) {
				if strings.Contains(line, "goroutine ") || strings.Contains(line, "panic") {
					t.Errorf("a stack trace: %s", line)
				}
			}
		})
	}
}

// TestAServerThatCantReplicateIsToldFromAMasterInTrouble takes miniredis for a
// master, which knows PING and refuses all that follows.
func TestAServerThatCantReplicateIsToldFromAMasterInTrouble(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	d := run(t, t.TempDir(), "--replicaof", "main="+m.Addr())
	clear := `level=warning msg="main \(` + regexp.QuoteMeta(m.Addr()) + `\) in state SYNC/PSYNC: the server can't replicate: it knows neither PSYNC nor SYNC: SYNC was answered -ERR unknown command .*: is that a Redis or Valkey server`
	const failures = 5
	poll.Seen(t, "five failures", func() (bool, string) {
		n := d.matches("level=warning")
		return n >= failures, fmt.Sprint(n)
	})
	if got, all := d.matches(clear), d.matches("level=warning"); got != all {
		t.Errorf("%d of %d warnings say what they should: %s", got, all, clear)
	}
	// At once, then from 100 ms doubling, with jitter down to the half.
	delay := regexp.MustCompile(`level=warning .*next_attempt_in=(\S+)`)
	n, most := 0, time.Duration(0)
	for _, line := range d.log.from(0) {
		found := delay.FindStringSubmatch(line)
		if found == nil {
			continue
		}
		got, err := time.ParseDuration(found[1])
		if err != nil {
			t.Fatal(err)
		}
		if got < most/2 || got > most {
			t.Errorf("after failure %d the next attempt comes in %v, want between %v and %v", n+1, got, most/2, most)
		}
		n, most = n+1, max(2*most, 100*time.Millisecond)
	}
	d.stop()
}

func TestPasswordsAppearInNoLogAndNoFileOfOurs(t *testing.T) {
	t.Parallel()
	const secret = "correct-horse-battery"
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, password := range []string{secret, "another-one"} {
		master := redistest.Start(t, "requirepass "+password, "user replica on >"+password+" +psync +replconf +ping")
		outcome := `msg="full sync done"`
		if password != secret {
			outcome = `WRONGPASS`
		}
		for _, c := range []struct {
			name    string
			env     []string
			args    []string
			visible bool // on the command line, by the user's will
		}{
			{"variable", []string{"REPLICAD_MASTERAUTH=" + secret}, []string{"--replicaof", "main=" + master.Addr()}, false},
			{"file", nil, []string{"--replicaof", "main=" + master.Addr(), "--masterauth-file", file, "--masteruser", "replica"}, false},
			{"flag", nil, []string{"--replicaof", "main=" + master.Addr(), "--masterauth", secret}, true},
			{"URL", nil, []string{"--replicaof", "main=redis://replica:" + secret + "@" + master.Addr()}, true},
			{"URL without a name", nil, []string{"--replicaof", "redis://:" + secret + "@" + master.Addr()}, true},
		} {
			for _, format := range []string{"text", "json"} {
				dir := t.TempDir()
				d := runEnv(t, c.env, dir, append(c.args, "--loglevel", "debug", "--log-format", format)...)
				if format == "json" {
					d.waitLog(strings.Replace(outcome, "msg=", `"msg":`, 1))
				} else {
					d.waitLog(outcome)
				}
				cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", d.cmd.Process.Pid))
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(string(cmdline), secret) != c.visible {
					t.Errorf("%s: the command line is %q", c.name, cmdline)
				}
				d.stop()
				text := strings.Join(d.log.from(0), "\n")
				if strings.Contains(text, secret) {
					t.Errorf("%s: the log holds the password:\n%s", c.name, text)
				}
				if c.visible && !strings.Contains(text, "visible to every user") {
					t.Errorf("%s: no warning of a password on the command line:\n%s", c.name, text)
				}
				for name, content := range files(t, dir) {
					if strings.Contains(name, secret) || strings.Contains(string(content), secret) {
						t.Errorf("%s: the archive's %s holds the password", c.name, name)
					}
				}
			}
		}
	}
	// Nor in the message about a wrong address.
	_, stderr, _ := once(t, nil, "run", "--dir", t.TempDir(), "--replicaof", "redis://user:"+secret+"%zz@localhost:6379")
	if strings.Contains(stderr, secret) {
		t.Errorf("stderr holds the password: %s", stderr)
	}
}
