package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a replica that was started.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{}
	err    error         // of the exit
	synced chan struct{} // closed when the log said that the full sync is done

	mu   sync.Mutex
	said []byte    // the end of the log
	done sync.Once // closes synced
}

// syncedLine is part of the line of replicad's log that tells that a full sync
// is durable.
const syncedLine = "full sync done"

// start starts a program.
func start(name string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(name, args...), exited: make(chan struct{}), synced: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p, p
	// A program that is killed takes its replicas along.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// Write takes a piece of the log. It keeps the end of the log, for an error
// message, and looks for syncedLine there.
func (p *process) Write(log []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said = append(p.said, log...)
	if bytes.Contains(p.said, []byte(syncedLine)) {
		p.done.Do(func() { close(p.synced) })
	}
	p.said = p.said[max(0, len(p.said)-2048):]
	return len(log), nil
}

// replicad is the daemon, on an empty folder.
func replicad(name, binary string) *side {
	return &side{name: name, facks: true, start: func(dir string, m *master) (*process, error) {
		return start(binary, "run", "--replicaof", "bench="+m.addr(), "--dir", dir, "--port", "0", "--log-format", "json")
	}}
}

// redisCLI is redis-cli, which stores a full sync and exits.
func redisCLI(binary string) *side {
	return &side{name: "redis-cli --rdb", start: func(dir string, m *master) (*process, error) {
		return start(binary, "-h", "127.0.0.1", "-p", strconv.Itoa(m.port()), "--rdb", filepath.Join(dir, "dump.rdb"))
	}}
}

// redisServer is a redis-server that replicates and keeps nothing on disk.
func redisServer(binary string) *side {
	return &side{name: "redis-server", start: func(dir string, m *master) (*process, error) {
		return start(binary, "--port", "0", "--unixsocket", filepath.Join(dir, "s"), "--dir", dir,
			"--save", "", "--appendonly", "no", "--replicaof", "127.0.0.1", strconv.Itoa(m.port()))
	}}
}

// stop ends a process and waits for it.
func (p *process) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(30 * time.Second):
		p.cmd.Process.Kill()
		<-p.exited
	}
}

// failed adds to an error what the process had to say.
func (p *process) failed(err error) error {
	if err == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Errorf("%w; %s said: %s", err, filepath.Base(p.cmd.Path), bytes.TrimSpace(p.said))
}

// awaitSync waits until a full sync is durable: the daemon's word, or the good
// end of redis-cli.
func (p *process) awaitSync() error {
	select {
	case <-p.synced:
		return nil
	case <-p.exited:
		return p.err
	case <-time.After(patience):
		return fmt.Errorf("no full sync within %v", patience)
	}
}

// usage is what a process has used so far.
type usage struct {
	cpu  time.Duration // user and system, all threads
	peak float64       // resident memory at its most, MiB; negative where that is not known
}

// usage asks the clock of the process (clock_getcpuclockid(3)) and
// /proc/PID/status (proc(5)). The peak of a process that has exited is not
// known: ru_maxrss counts from fork(2) on, with this program's memory.
func (p *process) usage() (usage, error) {
	select {
	case <-p.exited:
		s := p.cmd.ProcessState
		return usage{s.UserTime() + s.SystemTime(), -1}, nil
	default:
	}
	pid := p.cmd.Process.Pid
	var used unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &used); err != nil {
		return usage{}, err
	}
	u := usage{time.Duration(used.Nano()), -1}
	switch peak, err := p.status("VmHWM:"); {
	case err == nil:
		u.peak = peak / (1 << 10)
	case !errors.Is(err, errNoField):
		return u, err
	}
	return u, nil
}

var errNoField = errors.New("no such field")

// status reads a number of /proc/PID/status; memory is in KiB.
func (p *process) status(key string) (v float64, err error) {
	path := fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid)
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			_, err = fmt.Sscan(rest, &v)
			return v, err
		}
	}
	return 0, fmt.Errorf("%s: %w: %s", path, errNoField, key)
}
