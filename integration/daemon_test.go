package integration

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"replicad/integration/poll"
	"replicad/integration/redistest"
	"replicad/replica/archive"
)

// patience is how long a test waits for what must come.
const patience = 60 * time.Second

// process is a replicad that runs, or ran.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	exited chan struct{}
	log    *logLines
}

// logLines collects what a process writes to stderr.
type logLines struct {
	mu    sync.Mutex
	lines []string
}

func (l *logLines) read(r io.Reader) {
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		if line != "" {
			l.mu.Lock()
			l.lines = append(l.lines, strings.TrimSuffix(line, "\n"))
			l.mu.Unlock()
		}
		if err != nil {
			return
		}
	}
}

func (l *logLines) from(n int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.lines[min(n, len(l.lines)):]...)
}

// binaryPath is the replicad under test.
func binaryPath() string { return os.Getenv(binaryVariable) }

// command prepares a replicad with an environment that names no password but
// the one in env ("REPLICAD_MASTERAUTH=...").
func command(env []string, args ...string) *exec.Cmd {
	cmd := exec.Command(binaryPath(), args...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "REPLICAD_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	// No port that somebody else may have; --port goes before the variable.
	cmd.Env = append(cmd.Env, "REPLICAD_PORT=0")
	// The race detector, where the binary has it, sleeps a second at the end.
	cmd.Env = append(cmd.Env, "GORACE=atexit_sleep_ms=0")
	cmd.Env = append(cmd.Env, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// run starts "replicad run --dir dir" with more arguments. It serves no port
// unless one of them says so.
func run(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	return runEnv(t, nil, dir, args...)
}

func runEnv(t *testing.T, env []string, dir string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: command(env, append([]string{"run", "--port", "0", "--dir", dir}, args...)...), exited: make(chan struct{}), log: &logLines{}}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = w, w
	err = p.cmd.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		p.log.read(r)
		r.Close()
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.kill()
		if p.matches("DATA RACE|^panic:|^fatal error:") > 0 {
			t.Error("replicad has a race, or broke down")
		}
		if t.Failed() {
			lines := p.log.from(0)
			t.Logf("replicad %s wrote:\n%s", strings.Join(p.cmd.Args[1:], " "), strings.Join(lines[max(0, len(lines)-60):], "\n"))
		}
	})
	return p
}

// kill is kill -9.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// freeze has the process stand still, until thaw or kill.
func (p *process) freeze() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		p.t.Fatal(err)
	}
	poll.Seen(p.t, "the process to stand still", func() (bool, string) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
		if err != nil {
			p.t.Fatal(err)
		}
		_, after, _ := strings.Cut(string(b), ") ")
		return strings.HasPrefix(after, "T"), after[:1]
	})
}

func (p *process) thaw() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		p.t.Fatal(err)
	}
}

// signal sends a signal and waits for the end; it returns the exit code and
// the time it took.
func (p *process) signal(s os.Signal) (code int, took time.Duration) {
	p.t.Helper()
	began := time.Now()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
	return p.wait(), time.Since(began)
}

// ends sends a signal and wants the exit code within a second, or, where the
// machine itself stands still meanwhile, within three times that longer.
func (p *process) ends(s os.Signal, want int) {
	p.t.Helper()
	stalled := standstill(p.t)
	code, took := p.signal(s)
	if slow := stalled(); code != want || took > time.Second+3*slow {
		p.t.Errorf("exit code %d after %v (the machine stood still for %v), want %d within a second", code, took, slow, want)
	}
}

// standstill measures until the function that it returns is called, which tells
// how long the machine stood still: what it took for a file, its fsync and a
// process, where that was more than the tenth of a second.
func standstill(t *testing.T) (stalled func() time.Duration) {
	dir := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	sum := make(chan time.Duration, 1)
	go func() {
		slow := time.Duration(0)
		for ctx.Err() == nil {
			began := time.Now()
			if f, err := os.CreateTemp(dir, ""); err == nil {
				_ = f.Sync()
				f.Close()
			}
			_ = exec.Command("true").Run()
			if took := time.Since(began); took > 100*time.Millisecond {
				slow += took
			}
		}
		sum <- slow
	}()
	return func() time.Duration {
		stop()
		return <-sum
	}
}

// stop ends the process as a service manager does.
func (p *process) stop() {
	p.t.Helper()
	if code, _ := p.signal(syscall.SIGTERM); code != 0 {
		p.t.Fatalf("replicad ended with code %d after SIGTERM", code)
	}
}

// wait waits for the end and returns the exit code.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.t.Fatal("replicad does not end")
	}
	return p.cmd.ProcessState.ExitCode()
}

// waitLog waits for a log line that matches, and returns it.
func (p *process) waitLog(pattern string) string {
	p.t.Helper()
	return p.waitLogAfter(0, pattern)
}

// waitLogAfter looks at the lines from number n on.
func (p *process) waitLogAfter(n int, pattern string) (line string) {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	poll.Seen(p.t, "a log line like "+pattern, func() (bool, string) {
		lines := p.log.from(n)
		for _, line = range lines {
			if re.MatchString(line) {
				return true, ""
			}
		}
		select {
		case <-p.exited:
			p.t.Fatalf("replicad ended, without a log line like %s", pattern)
		default:
		}
		return false, fmt.Sprintf("%d lines", len(lines))
	})
	return line
}

// matches counts the lines that match.
func (p *process) matches(pattern string) int {
	re := regexp.MustCompile(pattern)
	n := 0
	for _, line := range p.log.from(0) {
		if re.MatchString(line) {
			n++
		}
	}
	return n
}

// status reads a field of /proc/PID/status, in bytes where it is in kB.
func (p *process) status(field string) int64 {
	p.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, field+":"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(v), "kB")), 10, 64)
			if err != nil {
				p.t.Fatal(err)
			}
			return n << 10
		}
	}
	p.t.Fatalf("no %s in /proc/PID/status", field)
	return 0
}

// written is what the process had written to the disk (write_bytes of proc(5));
// nothing, where its folder is in memory.
func (p *process) written() (n int64) {
	p.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "write_bytes: "); ok {
			n, _ = strconv.ParseInt(strings.TrimSpace(v), 10, 64)
		}
	}
	return n
}

// once runs replicad to its end, which must come soon.
func once(t *testing.T, env []string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := command(env, args...)
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

// The archive, as a test sees it.

// generations are those of a master's archive; empty when there is none yet.
func generations(t *testing.T, dir, name string) []archive.Generation {
	t.Helper()
	m, _, err := archive.Describe(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return m.Generations
}

// newest is the last complete generation.
func newest(t *testing.T, dir, name string) archive.Generation {
	t.Helper()
	g, ok := newestIfAny(t, dir, name)
	if !ok {
		t.Fatalf("no generation in the archive of %s", name)
	}
	return g
}

func newestIfAny(t *testing.T, dir, name string) (archive.Generation, bool) {
	t.Helper()
	all := generations(t, dir, name)
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].Complete {
			return all[i], true
		}
	}
	return archive.Generation{}, false
}

// caughtUp waits until the archive ends where the master does, which nobody
// writes to, under the master's replication id.
func caughtUp(t *testing.T, master *redistest.Server, dir, name string) archive.Generation {
	t.Helper()
	var g archive.Generation
	poll.Seen(t, "the archive of "+name+" to end where the master does", func() (bool, string) {
		var ok bool
		if g, ok = newestIfAny(t, dir, name); !ok {
			return false, "no generation"
		}
		info := master.Info("replication")
		id := g.Histories[len(g.Histories)-1].ReplID
		saw := fmt.Sprintf("the archive at %d of %s, the master at %s of %s", g.EndOffset, id, info["master_repl_offset"], info["master_replid"])
		return strconv.FormatInt(g.EndOffset, 10) == info["master_repl_offset"] && id == info["master_replid"], saw
	})
	return g
}

// equal proves that the archive holds the master's dataset: it waits until it
// has caught up, loads a copy of it in a second redis-server and compares. It
// returns the second server.
func equal(t *testing.T, master *redistest.Server, dir, name string) *redistest.Server {
	t.Helper()
	g := caughtUp(t, master, dir, name)
	return sameDataset(t, master, g.Dir)
}

// sameDataset loads a copy of a generation and compares it with the master.
func sameDataset(t *testing.T, master *redistest.Server, gen string) *redistest.Server {
	t.Helper()
	loaded := redistest.Load(t, gen, "databases 16")
	want, got := master.Digest(), loaded.Digest()
	if want != got {
		t.Errorf("DEBUG DIGEST: the master's is %s, that of the loaded archive %s\nkeys of the master: %v\nkeys loaded: %v",
			want, got, master.Info("keyspace"), loaded.Info("keyspace"))
	}
	// DEBUG DIGEST knows no functions, and no consumer groups.
	want, got = fmt.Sprint(master.Do("FUNCTION", "LIST", "WITHCODE")), fmt.Sprint(loaded.Do("FUNCTION", "LIST", "WITHCODE"))
	if want != got {
		t.Errorf("FUNCTION LIST WITHCODE: %q, want %q", got, want)
	}
	for db := range 16 {
		for _, key := range keysOfType(t, master, db, "stream") {
			want, got = groups(master, db, key), groups(loaded, db, key)
			if want != got {
				t.Errorf("XINFO GROUPS %s in database %d: %s, want %s", key, db, got, want)
			}
		}
	}
	return loaded
}

func keysOfType(t *testing.T, s *redistest.Server, db int, kind string) []string {
	t.Helper()
	var keys []string
	cursor := any("0")
	for {
		answer := s.DoIn(db, "SCAN", cursor, "COUNT", 1000, "TYPE", kind).([]any)
		for _, k := range answer[1].([]any) {
			keys = append(keys, k.(string))
		}
		if cursor = answer[0]; cursor == "0" {
			return keys
		}
	}
}

// groups tells all of a stream's consumer groups and who has what pending.
func groups(s *redistest.Server, db int, key string) string {
	text := ""
	for _, g := range s.DoIn(db, "XINFO", "GROUPS", key).([]any) {
		text += fmt.Sprint(g)
		name := g.([]any)[1]
		text += fmt.Sprint(s.DoIn(db, "XPENDING", key, name))
	}
	return text
}

// killed tells how many clients of type replica a master has cut off.
func killReplicas(master *redistest.Server) int64 {
	n, _ := master.Do("CLIENT", "KILL", "TYPE", "replica").(int64)
	return n
}
