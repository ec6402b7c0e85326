package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a replica that was started.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // of the exit
	output *tail
	synced chan struct{} // closed when its log said that the full sync is done
}

// tail keeps the end of what a process said, for an error message.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if extra := len(t.buf) - 2048; extra > 0 {
		t.buf = append(t.buf[:0], t.buf[extra:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.buf))
}

// start starts a program. Its output goes to log and, the end of it, to what
// errors say.
func start(log func(line []byte), name string, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(name, args...), exited: make(chan struct{}), output: &tail{}, synced: make(chan struct{})}
	r, w := io.Pipe()
	p.cmd.Stdout = w
	p.cmd.Stderr = w
	// A program that is killed takes its replicas along.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	go func() {
		for lines := bufio.NewScanner(r); lines.Scan(); {
			fmt.Fprintf(p.output, "%s\n", lines.Bytes())
			if log != nil {
				log(lines.Bytes())
			}
		}
		io.Copy(io.Discard, r)
	}()
	if err := p.cmd.Start(); err != nil {
		w.Close()
		return nil, err
	}
	go func() {
		p.err = p.cmd.Wait()
		w.Close()
		close(p.exited)
	}()
	return p, nil
}

// startReplicad starts the daemon on an empty folder.
func startReplicad(binary, dir, addr string) (*process, error) {
	synced := make(chan struct{})
	once := sync.OnceFunc(func() { close(synced) })
	p, err := start(func(line []byte) {
		var entry struct {
			Msg string `json:"msg"`
		}
		if json.Unmarshal(line, &entry) == nil && entry.Msg == "full sync done" {
			once()
		}
	}, binary, "run", "--replicaof", "bench="+addr, "--dir", dir, "--log-format", "json")
	if err == nil {
		p.synced = synced
	}
	return p, err
}

// startRedis starts a redis-server that replicates and keeps nothing on disk.
func startRedis(binary, dir string, port int) (*process, error) {
	return start(nil, binary, "--port", "0", "--unixsocket", filepath.Join(dir, "s"), "--dir", dir,
		"--save", "", "--appendonly", "no", "--replicaof", "127.0.0.1", strconv.Itoa(port))
}

// stop ends a process and waits for it.
func (p *process) stop() error {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
		return nil
	case <-time.After(30 * time.Second):
		p.cmd.Process.Kill()
		<-p.exited
		return fmt.Errorf("%s did not end within 30 s of SIGTERM", p.cmd.Path)
	}
}

// failed adds to an error what the process had to say.
func (p *process) failed(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w; %s said: %s", err, filepath.Base(p.cmd.Path), p.output)
}

// awaitSync waits for the daemon's word that a full sync is durable.
func (p *process) awaitSync() error {
	select {
	case <-p.synced:
		return nil
	case <-p.exited:
		return p.failed(errors.New("it ended before the full sync was done"))
	case <-time.After(patience):
		return p.failed(fmt.Errorf("no full sync within %v", patience))
	}
}

// usage is what a process has used so far.
type usage struct {
	cpu  time.Duration // user and system, all threads
	peak int64         // resident memory at its most, bytes
}

// clockTick is the unit of times in /proc: USER_HZ is 100 on every Linux that
// Go runs on.
const clockTick = 10 * time.Millisecond

// usage reads /proc/PID/stat and status (proc(5)).
func (p *process) usage() (u usage, err error) {
	dir := filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return u, err
	}
	// Fields are counted from 1, the second is the name in parentheses;
	// utime and stime are the 14th and 15th.
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	for _, s := range f[11:13] {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return u, err
		}
		u.cpu += time.Duration(n) * clockTick
	}
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				return u, err
			}
			u.peak = n << 10
		}
	}
	return u, nil
}

// finalUsage is that of a process that has exited. Its peak is not known:
// ru_maxrss counts from fork(2) on, with this program's memory.
func (p *process) finalUsage() usage {
	s := p.cmd.ProcessState
	return usage{cpu: s.UserTime() + s.SystemTime()}
}
