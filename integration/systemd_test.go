package integration

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"replicad/integration/poll"
	"replicad/integration/redistest"
)

// unitFile is the service that is shipped.
const unitFile = "../cmd/replicad/replicad.service"

// manager plays systemd's end of the socket that a Type=notify service speaks
// to.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
	env  []string // what it would set
}

// playSystemd listens; watchdog is WatchdogSec of the unit.
func playSystemd(t *testing.T, watchdog time.Duration) *manager {
	t.Helper()
	dir, err := os.MkdirTemp("", "notify-") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "socket")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &manager{t, conn, []string{"NOTIFY_SOCKET=" + path, fmt.Sprintf("WATCHDOG_USEC=%d", watchdog.Microseconds())}}
}

// next is the next message; "" when none comes in time.
func (m *manager) next(within time.Duration) string {
	m.t.Helper()
	if err := m.conn.SetReadDeadline(time.Now().Add(within)); err != nil {
		m.t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, err := m.conn.Read(b)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		m.t.Fatal(err)
	}
	return string(b[:n])
}

// wants reads up to the message that holds a text, and returns it.
func (m *manager) wants(text string) string {
	m.t.Helper()
	var got string
	poll.Seen(m.t, "a message to systemd with "+text, func() (bool, string) {
		last := got
		got = m.next(time.Second)
		return strings.Contains(got, text), last
	})
	return got
}

func TestSystemdHearsThatTheDaemonIsReadyAliveAndStops(t *testing.T) {
	t.Parallel()
	m := playSystemd(t, 200*time.Millisecond)
	// The master is away, which must not hold up the boot.
	dead := redistest.New(t, t.TempDir())
	d := runEnv(t, m.env, t.TempDir(), byAddress(t, dead)...)
	first := m.next(patience)
	if !strings.HasPrefix(first, "READY=1\nSTATUS=main: ") {
		t.Errorf("the first message is %q", first)
	}
	// A slow machine has failed to connect before it is ready.
	if failed := "STATUS=main: no stream from " + dead.Addr() + " since "; !strings.Contains(first, failed) {
		m.wants(failed)
	}
	m.wants("WATCHDOG=1")

	dead.Start()
	dead.Do("SET", "k", "v")
	m.wants("STATUS=main: follows " + dead.Addr() + ", offset ")
	dead.Do("SET", "k", "w")
	offset := dead.Offset()
	m.wants(fmt.Sprintf("follows %s, offset %d, fsynced up to %d", dead.Addr(), offset, offset))

	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil { // ExecReload
		t.Fatal(err)
	}
	m.wants("RELOADING=1\nMONOTONIC_USEC=")
	m.wants("READY=1")

	// A process that stands still feeds no watchdog.
	d.freeze()
	for m.next(time.Millisecond) != "" { // what had been sent
	}
	if got := m.next(time.Second); got != "" {
		t.Errorf("%q from a process that stands still", got)
	}
	if err := d.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	m.wants("WATCHDOG=1")

	d.ends(syscall.SIGTERM, 0)
	if got := m.wants("STOPPING=1"); !strings.HasPrefix(got, "STOPPING=1\nSTATUS=") {
		t.Errorf("%q", got)
	}
}

func TestADaemonThatCannotStartIsNeverReady(t *testing.T) {
	t.Parallel()
	m := playSystemd(t, time.Second)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := once(t, m.env, "run", "--port", "0", "--replicaof", "127.0.0.1:1", "--dir", file); code != 2 {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if got := m.next(10 * time.Millisecond); got != "" {
		t.Errorf("%q", got)
	}
}

// unit gives the lines of the unit file, with those that are offered as
// comments taken in.
func unit(t *testing.T, offered bool) (lines []string) {
	t.Helper()
	b, err := os.ReadFile(unitFile)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if s, ok := strings.CutPrefix(line, "#"); ok && offered && strings.Contains(s, "=") && !strings.HasPrefix(s, " ") {
			line = s
		}
		lines = append(lines, line)
	}
	return lines
}

func TestSystemdAcceptsTheUnitFile(t *testing.T) {
	t.Parallel()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("there is no systemd-analyze on the PATH: the unit file was not verified")
	}
	for _, offered := range []bool{false, true} {
		dir := t.TempDir()
		file := filepath.Join(dir, "replicad.service")
		text := strings.Join(unit(t, offered), "\n")
		if offered && strings.Count(text, "\nLoadCredential=")+strings.Count(text, "\nSupplementaryGroups=") != 2 {
			t.Errorf("what the comments offer was not taken in:\n%s", text)
		}
		// The binary that it names is not installed here.
		text = strings.Replace(text, "ExecStart=/usr/bin/replicad", "ExecStart="+binaryPath(), 1)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(analyze, "verify", file).CombinedOutput()
		if err != nil || len(bytes.TrimSpace(out)) > 0 {
			t.Errorf("systemd-analyze verify: %v\n%s", err, out)
		}
		// Of 0 (shut) to 10 (open), times ten. Older ones know no --offline.
		help, _ := exec.Command(analyze, "--help").Output()
		if !bytes.Contains(help, []byte("--offline")) {
			t.Log("this systemd-analyze judges no security offline")
			continue
		}
		out, err = exec.Command(analyze, "security", "--offline=true", "--threshold=15", "--no-pager", file).CombinedOutput()
		if err != nil {
			t.Errorf("systemd-analyze security: %v\n%s", err, out)
		}
		if i := bytes.LastIndex(out, []byte("Overall")); i >= 0 {
			t.Logf("%s", bytes.TrimSpace(out[i:]))
		}
	}
}

func TestTheUnitFileStartsReplicadAsItWantsToBeStarted(t *testing.T) {
	t.Parallel()
	has := map[string]bool{}
	var start []string
	for _, line := range unit(t, false) {
		has[line] = true
		if s, ok := strings.CutPrefix(line, "ExecStart="); ok {
			start = strings.Fields(s)
		}
	}
	for _, want := range []string{
		"Type=notify", "WatchdogSec=60s", "DynamicUser=yes", "StateDirectory=replicad", "ProtectSystem=strict",
		"CapabilityBoundingSet=", "NoNewPrivileges=yes", "Restart=on-failure", "RestartPreventExitStatus=2",
		"Environment=GOTRACEBACK=crash",
	} {
		if !has[want] {
			t.Errorf("the unit file does not say %s", want)
		}
	}
	// Its command line, with a folder of ours in the place of /var/lib.
	dir := t.TempDir()
	for i := range start {
		start[i] = strings.ReplaceAll(start[i], "%S", dir)
	}
	m := playSystemd(t, 0)
	cmd := command(append(m.env, "REPLICAD_REPLICAOF=main=127.0.0.1:1", "REPLICAD_PORT=0", "GOTRACEBACK=crash"), start[1:]...)
	// LimitCORE=0.
	cmd.Args = append([]string{"sh", "-c", `ulimit -c 0; exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Path = sh
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	m.wants("READY=1")
	if _, err := os.Stat(filepath.Join(dir, "replicad", "main")); err != nil {
		t.Error(err)
	}
	// What the watchdog sends must not end it with the code 2, by which the
	// unit tells a wrong configuration, and after which it is not restarted.
	if err := cmd.Process.Signal(syscall.SIGABRT); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !ws.Signaled() || ws.Signal() != syscall.SIGABRT {
		t.Errorf("SIGABRT ended it with %v", cmd.ProcessState)
	}
	if !strings.Contains(stderr.String(), "goroutine ") {
		t.Errorf("without the goroutines' stacks: %s", stderr.String())
	}
}
