package integration

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"replicad/anet/tunnel/tunneltest"
	"replicad/integration/poll"
	"replicad/integration/redistest"
)

// studied is what a study says, as JSON.
type studied struct {
	steps []studiedStep
	end   struct {
		Failure, Remedy string
		Dropped         int64
	}
}

type studiedStep struct {
	Kind, Title, State, Direction string
	Connection                    int
	Bytes                         int64
	Items                         []struct {
		Title string
		First int64 `json:"first_offset"`
		Last  int64 `json:"last_offset"`
		Parts []struct {
			Name, Text, Data string
			Bytes            int64
		}
	}
}

// studyTimeout is the time-out of the studies here; they may take a little longer
// on a slow machine, but never hang.
const (
	studyTimeout = 10 * time.Second
	studySlack   = 20 * time.Second
)

// study runs replicad study with JSON.
func studyOf(t *testing.T, env []string, args ...string) (s studied, stderr string, code int) {
	t.Helper()
	begun := time.Now()
	stdout, stderr, code := once(t, env, append([]string{"study", "--format", "json", "--timeout", studyTimeout.String()}, args...)...)
	if took := time.Since(begun); took > studyTimeout+studySlack {
		t.Errorf("it took %v", took)
	}
	in := bufio.NewScanner(strings.NewReader(stdout))
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		var x studiedStep
		if err := json.Unmarshal(in.Bytes(), &x); err != nil {
			t.Fatalf("%v in %s", err, in.Text())
		}
		if x.Kind == "" {
			if err := json.Unmarshal(in.Bytes(), &s.end); err != nil {
				t.Fatal(err)
			}
			continue
		}
		s.steps = append(s.steps, x)
	}
	for _, x := range s.steps {
		var n int64
		for _, i := range x.Items {
			for _, p := range i.Parts {
				n += p.Bytes
			}
		}
		if n != x.Bytes {
			t.Errorf("%q explains %d of %d bytes", x.Title, n, x.Bytes)
		}
	}
	return s, stderr, code
}

// tell looks for a step.
func (s studied) tells(kind, title string) bool {
	re := regexp.MustCompile(title)
	for _, x := range s.steps {
		if x.Kind == kind && re.MatchString(x.Title) {
			return true
		}
	}
	return false
}

// temporaries are the folders that studies have left.
func temporaries(t *testing.T, dir string) []string {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, "replicad-study-*"))
	if err != nil {
		t.Fatal(err)
	}
	return left
}

func TestAStudyOfARealMasterTellsSyncStreamAndResume(t *testing.T) {
	t.Parallel()
	for _, diskless := range []string{"yes", "no"} {
		t.Run("repl-diskless-sync "+diskless, func(t *testing.T) {
			t.Parallel()
			master := redistest.Start(t, "requirepass the-password", "repl-diskless-sync "+diskless)
			everyType(master, 0)
			load := startLoad(t, master, 20_000)
			tmp := t.TempDir()
			s, stderr, code := studyOf(t, []string{"REPLICAD_MASTERAUTH=the-password", "TMPDIR=" + tmp}, master.Addr(), "--for", "2s", "--keep", "64mb")
			load.stop(t)
			if code != 0 || stderr != "" || s.end.Failure != "" {
				t.Fatalf("exit code %d, failure %q, stderr %q", code, s.end.Failure, stderr)
			}
			for _, want := range [][2]string{
				{"kernel", `^connect\(fd \d+, .*\) = -1 EINPROGRESS$`},
				{"kernel", `^getsockopt\(SO_ERROR\) = 0$`},
				{"state", `^CONNECTING -> RECEIVE_PONG$`},
				{"message", `^-NOAUTH`},
				{"message", `AUTH \*+`},
				{"message", `full sync at offset \d+`},
				{"message", `RDB of \d+ bytes`},
				{"sync", `^the base is durable`},
				{"sync", `^the base was read again, and is what the master sent`},
				{"state", `^SYNC/TRANSFER -> SYNC/STREAM$`},
				{"message", `^REPLCONF ACK \d+ FACK \d+$`},
				{"note", `^the link is cut on purpose$`},
				{"sync", `^resumed behind offset \d+$`},
			} {
				if !s.tells(want[0], want[1]) {
					t.Errorf("no step of kind %s says %s", want[0], want[1])
				}
			}
			checkStudiedOffsets(t, s)
			if left := temporaries(t, tmp); len(left) > 0 {
				t.Errorf("%q were left behind", left)
			}
		})
	}
}

// checkStudiedOffsets: the commands of the stream follow each other without a
// gap, over the cut too.
func checkStudiedOffsets(t *testing.T, s studied) {
	t.Helper()
	var next int64
	n := 0
	for _, x := range s.steps {
		for _, i := range x.Items {
			switch {
			case i.Last == 0 || i.Last == next-1: // the rest of a command
				continue
			case next > 0 && i.First != next:
				t.Errorf("%q of connection %d has offset %d, want %d", i.Title, x.Connection, i.First, next)
			}
			next = i.Last + 1
			n++
		}
	}
	if n < 20 {
		t.Errorf("only %d commands have offsets", n)
	}
	t.Logf("%d commands, each at the offset behind the last", n)
}

// A dataset larger than what is kept is told by its head and tail.
func TestAStudyOfALargeDatasetKeepsItsHeadAndTail(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t, "repl-diskless-sync no")
	master.Do("DEBUG", "POPULATE", 200_000, "key", 100)
	s, _, code := studyOf(t, nil, master.Addr(), "--for", "100ms", "--resume=false")
	if code != 0 || s.end.Failure != "" {
		t.Fatalf("exit code %d: %s", code, s.end.Failure)
	}
	names := map[string]int64{}
	for _, x := range s.steps {
		for _, i := range x.Items {
			for _, p := range i.Parts {
				names[p.Name] += p.Bytes
			}
		}
	}
	for _, want := range []string{"magic", "aux field", "key", "left out", "opcode 0xFF", "checksum"} {
		if names[want] == 0 {
			t.Errorf("there is no part %q", want)
		}
	}
	if names["left out"] < 5_000_000 {
		t.Errorf("%d bytes were left out", names["left out"])
	}
}

// A transcript of a study is read again, and means the same.
func TestATranscriptOfAStudyIsExplainedAgain(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	everyType(master, 0)
	file := filepath.Join(t.TempDir(), "talk.txt")
	if _, stderr, code := once(t, nil, "study", master.Addr(), "--for", "300ms", "--keep", "64mb", "--format", "transcript", "--out", file); code != 0 || stderr != "" {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	s, stderr, code := studyOf(t, nil, "--from", file)
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	for _, want := range []string{"^PING$", "full sync at offset", "RDB of", "partial resync"} {
		if !s.tells("message", want) {
			t.Errorf("no message says %s", want)
		}
	}
}

func TestAStudyThatIsInterruptedLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	for _, sig := range []os.Signal{syscall.SIGINT, syscall.SIGTERM} {
		tmp := t.TempDir()
		cmd := command([]string{"TMPDIR=" + tmp}, "study", master.Addr(), "--for", "1h")
		var out strings.Builder
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var wanted int64 // an offset that only the stream leads to
		poll.Seen(t, "an ACK of the stream", func() (bool, string) {
			slave := master.Info("replication")["slave0"]
			_, offset, _ := strings.Cut(slave, "offset=")
			offset, _, _ = strings.Cut(offset, ",")
			at, _ := strconv.ParseInt(offset, 10, 64)
			if wanted == 0 && strings.Contains(slave, "state=online") {
				master.Do("INCR", "n")
				wanted = master.Offset()
			}
			return wanted > 0 && at >= wanted, slave
		})
		if len(temporaries(t, tmp)) != 1 {
			t.Error("there is no temporary archive")
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("after %v: %v", sig, err)
		}
		if !strings.Contains(out.String(), "REPLCONF ACK") {
			t.Errorf("after %v what was seen until then was not told: %s", sig, out.String())
		}
		if left := temporaries(t, tmp); len(left) > 0 {
			t.Errorf("after %v %q were left behind", sig, left)
		}
	}
}

// TestAStudySaysWhyAMasterCantBeFollowed is the list of what people meet.
func TestAStudySaysWhyAMasterCantBeFollowed(t *testing.T) {
	t.Parallel()
	server := func(directives ...string) func(t *testing.T) string {
		return func(t *testing.T) string { return redistest.Start(t, directives...).Addr() }
	}
	for _, c := range []struct {
		name  string
		start func(t *testing.T) string
		env   []string
		args  []string
		want  string // state, cause and remedy
		step  [2]string
	}{
		{name: "no password where one is needed", start: server("requirepass the-password"),
			want: `in state SYNC/PSYNC: PSYNC was answered -NOAUTH .*: the master wants a password`, step: [2]string{"message", "^-NOAUTH"}},
		{name: "a wrong password", start: server("requirepass the-password"), env: []string{"REPLICAD_MASTERAUTH=not-the-password"},
			want: `in state SYNC/AUTH: AUTH was answered -WRONGPASS .*: wrong user or password`, step: [2]string{"message", "^-WRONGPASS"}},
		{name: "an ACL user without PSYNC", start: server("user replica on >a-password +replconf +ping"), env: []string{"REPLICAD_MASTERAUTH=a-password"},
			args: []string{"--masteruser", "replica"},
			want: `in state SYNC/PSYNC: PSYNC was answered -NOPERM .*: the ACL user lacks a command: .*\+psync`, step: [2]string{"message", "^-NOPERM"}},
		{name: "protected mode", start: server("protected-mode yes"), args: []string{"--bind-source-addr", "127.0.0.2"},
			want: `in state RECEIVE_PONG: PING was answered -DENIED .*: the master is in protected mode: .*or run replicad on its host`, step: [2]string{"message", "^-DENIED"}},
		{name: "maxclients", want: `in state RECEIVE_PONG: PING was answered -ERR max number of clients reached: raise maxclients`, step: [2]string{"message", "^-ERR max number of clients"},
			start: func(t *testing.T) string {
				s := redistest.Start(t)
				s.Do("CONFIG", "SET", "maxclients", 1)
				return s.Addr()
			}},
		{name: "it is loading a large RDB", want: `in state RECEIVE_PONG: PING was answered -LOADING .*: the master is still reading its dataset: wait for it$`, step: [2]string{"message", "^-LOADING"},
			start: func(t *testing.T) string {
				s := redistest.Start(t, `save ""`)
				s.Do("DEBUG", "POPULATE", 10_000)
				s.Shutdown("SAVE")
				s.Launch("key-load-delay 20000", "loading-process-events-interval-bytes 1024") // minutes, during which it looks at its clients
				poll.Seen(t, "the master to listen", func() (bool, string) {
					nc, err := net.Dial("tcp", s.Addr())
					if err != nil {
						return false, err.Error()
					}
					nc.Close()
					return true, ""
				})
				return s.Addr()
			}},
		{name: "a replica that lost its master", want: `in state SYNC/PSYNC: PSYNC was answered -NOMASTERLINK .*: wait for it, or name its master instead$`, step: [2]string{"message", "^-NOMASTERLINK"},
			start: func(t *testing.T) string {
				return redistest.Start(t, "replicaof 127.0.0.1 "+strconv.Itoa(redistest.FreePort(t, "127.0.0.1"))).Addr()
			}},
		{name: "a port that speaks HTTP", want: `in state RECEIVE_PONG: unexpected answer to PING: .*HTTP/1.*: that port speaks HTTP, .*: check the port$`, step: [2]string{"message", "HTTP/1"},
			start: func(t *testing.T) string {
				s := httptest.NewServer(http.NotFoundHandler())
				t.Cleanup(s.Close)
				return strings.TrimPrefix(s.URL, "http://")
			}},
		{name: "a closed port", want: `in state CONNECTING: .*ECONNREFUSED.*: is redis-server running there`, step: [2]string{"kernel", "ECONNREFUSED$"},
			start: func(t *testing.T) string {
				return net.JoinHostPort("127.0.0.1", strconv.Itoa(redistest.FreePort(t, "127.0.0.1")))
			}},
		{name: "a firewalled port", want: `in state CONNECTING: .*timed out.*: no answer: a firewall may be dropping packets`, step: [2]string{"kernel", "EINPROGRESS$"}, start: firewalled},
		{name: "a name that does not resolve", want: `in state NONE: name resolution failed: .*no-such-host\.invalid.*: check the name, and the resolver`, step: [2]string{"failure", "name resolution failed"},
			start: func(*testing.T) string { return "no-such-host.invalid:6379" }},
		{name: "TLS where plain is expected", want: `in state RECEIVE_PONG: .*leave tls out`, step: [2]string{"failure", "TLS"}, args: []string{"--tls"}, start: server()},
		{name: "plain where TLS is expected", want: `in state RECEIVE_PONG: .*(TLS|rediss://)`, step: [2]string{"state", "RECEIVE_PONG"},
			start: func(t *testing.T) string {
				_, addr := startTLS(t, tunneltest.NewAuthority(t), time.Now().Add(time.Hour))
				return addr
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			addr := c.start(t)
			tmp := t.TempDir()
			s, stderr, code := studyOf(t, append(c.env, "TMPDIR="+tmp), append([]string{addr}, c.args...)...)
			lines := strings.Split(strings.TrimSpace(stderr), "\n")
			if code != 1 || len(lines) != 1 || !regexp.MustCompile(`^replicad: .*`+c.want).MatchString(lines[0]) {
				t.Errorf("exit code %d, stderr %q; want 1 and %s", code, stderr, c.want)
			}
			if !regexp.MustCompile(c.want).MatchString(s.end.Failure) || s.end.Remedy == "" {
				t.Errorf("the study ends with failure %q, remedy %q; want %s", s.end.Failure, s.end.Remedy, c.want)
			}
			if !s.tells(c.step[0], c.step[1]) {
				t.Errorf("no step of kind %s says %s", c.step[0], c.step[1])
			}
			if left := temporaries(t, tmp); len(left) > 0 {
				t.Errorf("%q were left behind", left)
			}
		})
	}
}

// A master that never finishes is given up in time.
func TestAStudyEndsAtItsTimeout(t *testing.T) {
	t.Parallel()
	addr := script(t, func(c *conversation) {
		if _, _, ok := c.handshake(); ok {
			c.say("+FULLRESYNC %s 0\r\n", replID('a'))
			for { // saving, for ever
				if _, err := fmt.Fprint(c.Conn, "\n"); err != nil {
					return
				}
				time.Sleep(50 * time.Millisecond)
			}
		}
	}).addr
	begun := time.Now()
	stdout, stderr, code := once(t, nil, "study", addr, "--timeout", "1s")
	if took := time.Since(begun); code != 1 || took < time.Second || took > studySlack {
		t.Errorf("exit code %d after %v", code, took)
	}
	if want := `in state SYNC/TRANSFER: timed out: the stream has not begun within 1s \(SYNC/TRANSFER\): raise --timeout`; !regexp.MustCompile(want).MatchString(stderr) {
		t.Errorf("stderr %q, want %s", stderr, want)
	}
	if !strings.Contains(stdout, "newline: a keep-alive") {
		t.Error("the newlines are not told")
	}
}
