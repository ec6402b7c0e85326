package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"replicad/eventloop"
)

// settle is how long the daemon is left alone before it counts as idle.
const settle = 12 * time.Second

// spread is how many masters share a load that one master has alone, too.
const spread = 100

// fleets measures one daemon that follows many masters.
func (b *bench) fleets() error {
	sides := []*side{replicad("replicad", b.replicad)}
	if b.against != "" {
		sides = append(sides, replicad("the other", b.against))
	}
	rows := []row{
		{what: "all stream after", unit: "s"},
		{what: "resident memory a link, idle", unit: "KiB"},
		{what: "descriptors a link, idle", unit: ""},
		{what: "threads", unit: ""},
		{what: "CPU when idle", unit: "% of a core"},
		{what: "ACKs when idle", unit: "/s"},
		{what: "restart after kill -9 until all have resumed", unit: "s"},
		{what: "SIGTERM until exit", unit: "s"},
	}
	binaries := map[*side]string{sides[0]: b.replicad}
	if len(sides) > 1 {
		binaries[sides[1]] = b.against
	}
	acks := 0.0
	what := fmt.Sprintf("fleet of %d", b.masters)
	err := b.compare(what, b.runs, sides, rows, func(s *side) ([]float64, error) {
		values, err := b.fleetOnce(binaries[s])
		if err == nil && s == sides[0] {
			acks = values[5]
		}
		return values, err
	})
	if err != nil {
		return err
	}
	alone := []row{{what: "all stream after", unit: "s"}, {what: "CPU when idle", unit: "% of a core"}}
	if err := b.compare("the files alone", b.runs, []*side{{name: "the disk"}}, alone[:1], func(*side) ([]float64, error) {
		took, err := b.filesAlone()
		return []float64{took}, err
	}); err != nil {
		return err
	}
	if err := b.compare("a bare loop", b.runs, []*side{{name: "the loop"}}, alone[1:], func(*side) ([]float64, error) {
		used, err := b.bareLoop(acks)
		return []float64{used}, err
	}); err != nil || b.masters <= spread {
		return err
	}
	loads := []row{
		{what: "one master, others idle", unit: "MB/s"},
		{what: fmt.Sprintf("%d masters at once", spread), unit: "MB/s"},
		{what: "longest time between the ACKs of an idle one", unit: "s"},
	}
	return b.compare(what, b.runs, sides, loads, func(s *side) ([]float64, error) { return b.fleetLoad(binaries[s]) })
}

// newFleet plays the masters, and has a daemon follow them in a new folder.
// Nothing is removed before the end of the program: ext4 is slow to use inodes
// again.
func (b *bench) newFleet(binary string) (f *fleet, restart func() (*process, error), err error) {
	dir, err := os.MkdirTemp(b.work, "fleet-")
	if err != nil {
		return nil, nil, err
	}
	if f, err = startFleet(b.masters, b.chunk); err != nil {
		return nil, nil, err
	}
	var text bytes.Buffer
	fmt.Fprintf(&text, "dir: %s\nmasters:\n", filepath.Join(dir, "archives"))
	for i := range b.masters {
		a := fleetAddress(i)
		fmt.Fprintf(&text, "  - name: m%05d\n    replicaof: %d.%d.%d.%d:%d\n", i, a[0], a[1], a[2], a[3], f.port)
	}
	settings := filepath.Join(dir, "replicad.yml")
	if err := os.WriteFile(settings, text.Bytes(), 0o600); err != nil {
		return nil, nil, errors.Join(err, f.close())
	}
	unix.Sync()
	return f, func() (*process, error) { return start(binary, "run", "--config", settings, "--log-format", "json") }, nil
}

// allStream waits until all links stream, and gives the seconds until then; negative
// where they never do.
func (b *bench) allStream(f *fleet, p *process) (float64, error) {
	took, ok := f.await(b.patience, func() bool { return f.streaming == len(f.masters) })
	if ok {
		return took.Seconds(), nil
	}
	select {
	case <-p.exited:
		return 0, p.failed(fmt.Errorf("it has exited: %v", p.err))
	default:
	}
	f.on(func() { b.say("only %d of %d masters are followed after %v", f.streaming, len(f.masters), b.patience) })
	return -1, nil
}

// fleetOnce measures a daemon from its first start to its end, in the order of
// the rows.
func (b *bench) fleetOnce(binary string) (values []float64, err error) {
	f, restart, err := b.newFleet(binary)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	p, err := restart()
	if err != nil {
		return nil, err
	}
	defer func() { p.stop() }()
	all, err := b.allStream(f, p)
	if err != nil {
		return nil, err
	}
	time.Sleep(settle)
	idle, err := b.idleFor(f, p)
	if err != nil {
		return nil, p.failed(err)
	}
	values = append([]float64{all}, idle...)
	if err := p.cmd.Process.Kill(); err != nil {
		return nil, err
	}
	<-p.exited
	f.await(b.patience, func() bool { return len(f.conns) == 0 })
	if p, err = restart(); err != nil {
		return nil, err
	}
	resumed, err := b.allStream(f, p)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return nil, err
	}
	<-p.exited
	return append(values, resumed, time.Since(began).Seconds()), nil
}

// idleFor gives memory, descriptors, threads, CPU and ACKs of a daemon that has
// nothing to do but to take the masters' pings.
func (b *bench) idleFor(f *fleet, p *process) ([]float64, error) {
	acks := func() (n int64) { f.on(func() { n = f.acks }); return n }
	before, err := p.usage()
	if err != nil {
		return nil, err
	}
	began, heard := time.Now(), acks()
	time.Sleep(b.idle)
	took, heard := time.Since(began).Seconds(), acks()-heard
	after, err := p.usage()
	if err != nil {
		return nil, err
	}
	resident, err := p.status("VmRSS:")
	if err != nil {
		return nil, err
	}
	threads, err := p.status("Threads:")
	if err != nil {
		return nil, err
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		return nil, err
	}
	links := float64(b.masters)
	return []float64{resident / links, float64(len(files)) / links, threads, 100 * (after.cpu - before.cpu).Seconds() / took, float64(heard) / took}, nil
}

// fleetLoad gives the throughput of one master, and of many, while all others are
// idle; and how late the ACKs of an idle one are meanwhile.
func (b *bench) fleetLoad(binary string) (values []float64, err error) {
	f, restart, err := b.newFleet(binary)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	p, err := restart()
	if err != nil {
		return nil, err
	}
	defer p.stop()
	if took, err := b.allStream(f, p); err != nil || took < 0 {
		return []float64{-1, -1, -1}, err
	}
	time.Sleep(settle)
	f.on(func() {
		for i := range f.masters {
			f.masters[i].worst = 0
		}
	})
	for _, n := range []int{1, spread} {
		loads := max(1, int(b.stream)/len(f.load)/n)
		some := f.masters[:n]
		f.on(func() { f.put(some, loads) })
		took, ok := f.await(b.patience, func() bool {
			for i := range some {
				if some[i].acked < some[i].loadTo-int64(len(getAck)) {
					return false
				}
			}
			return true
		})
		if !ok {
			return nil, p.failed(fmt.Errorf("the load of %d masters was not acknowledged", n))
		}
		values = append(values, float64(n*loads*len(f.load))/1e6/took.Seconds())
	}
	worst := time.Duration(0)
	f.on(func() {
		for _, m := range f.masters[spread:] {
			worst = max(worst, m.worst)
		}
	})
	return append(values, worst.Seconds()), nil
}

// filesAlone gives the seconds that the disk takes for the files of all archives,
// made by a program that receives nothing and waits once for the disk.
func (b *bench) filesAlone() (float64, error) {
	dir, err := os.MkdirTemp(b.work, "files-")
	if err != nil {
		return 0, err
	}
	unix.Sync()
	began := time.Now()
	for i := range b.masters {
		generation := filepath.Join(dir, fmt.Sprintf("m%05d", i), "generation-000001")
		aof := filepath.Join(generation, "appendonlydir", "appendonly.aof.")
		if err := os.MkdirAll(filepath.Dir(aof), 0o750); err != nil {
			return 0, err
		}
		for path, size := range map[string]int{
			aof + "manifest": 100, aof + "1.base.rdb": int(b.tiny.size), aof + "1.incr.aof": 40,
			filepath.Join(generation, "timeline"): 200, filepath.Join(generation, "fsynced"): 8 << 10,
			filepath.Join(filepath.Dir(generation), "LOCK"): 0,
		} {
			if err := os.WriteFile(path, make([]byte, size), 0o640); err != nil {
				return 0, err
			}
		}
	}
	f, err := os.Open(dir)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	err = unix.Syncfs(int(f.Fd()))
	return time.Since(began).Seconds(), err
}

// bareLoop gives the CPU, in per cent of a core, of a loop that reads what all
// masters send, writes it to a file each, and sends so many ACKs a second: no
// more than what following takes at least.
func (b *bench) bareLoop(acks float64) (used float64, err error) {
	f, err := startFleet(b.masters, b.chunk)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	dir, err := os.MkdirTemp(b.work, "bare-")
	if err != nil {
		return 0, err
	}
	loop, err := eventloop.New()
	if err != nil {
		return 0, err
	}
	bare := &bare{loop: loop, every: time.Duration(float64(time.Second) / max(acks, 1)), files: map[int]*os.File{}}
	defer bare.close()
	for i := range b.masters {
		if err := bare.follow(f, i, filepath.Join(dir, fmt.Sprint(i))); err != nil {
			return 0, err
		}
	}
	cpu := make(chan time.Duration)
	clock := func() {
		var t unix.Timespec
		_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t)
		cpu <- time.Duration(t.Nano())
	}
	bare.cron, bare.began = loop.NewTimer(bare.ack), time.Now()
	bare.cron.Reset(0)
	ended := make(chan error, 1)
	go func() { ended <- loop.Run() }()
	time.Sleep(time.Second)
	loop.Post(clock)
	before, began := <-cpu, time.Now()
	time.Sleep(b.idle)
	loop.Post(clock)
	after, took := <-cpu, time.Since(began)
	loop.Stop()
	return 100 * (after - before).Seconds() / took.Seconds(), <-ended
}

// bare is the loop of bareLoop.
type bare struct {
	loop  *eventloop.Loop
	files map[int]*os.File // by the socket
	fds   []int
	next  int
	every time.Duration // between two ACKs of any of them
	cron  *eventloop.Timer
	began time.Time
	acked int
	buf   [4096]byte
}

func (b *bare) follow(f *fleet, i int, path string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	b.files[fd], b.fds = file, append(b.fds, fd)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: f.port, Addr: fleetAddress(i)}); err != nil {
		return err
	}
	if _, err := unix.Write(fd, fmt.Appendf(nil, "PSYNC %s %d\r\n", f.masters[i].id, fleetBase+1)); err != nil {
		return err
	}
	if _, err := unix.Read(fd, b.buf[:]); err != nil {
		return err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return err
	}
	return b.loop.CreateFileEvent(fd, eventloop.Readable, b.read)
}

func (b *bare) read(fd int, _ eventloop.Mask) {
	if n, _ := unix.Read(fd, b.buf[:]); n > 0 {
		_, _ = b.files[fd].Write(b.buf[:n])
	}
}

// ack is the time event that sends the ACKs that are due.
func (b *bare) ack() {
	said := []byte("*5\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$4\r\n1000\r\n$4\r\nFACK\r\n$4\r\n1000\r\n")
	for due := int(time.Since(b.began) / b.every); b.acked < due; b.acked++ {
		_, _ = unix.Write(b.fds[b.next], said)
		b.next = (b.next + 1) % len(b.fds)
	}
	b.cron.Reset(20 * time.Millisecond)
}

func (b *bare) close() {
	for fd, f := range b.files {
		unix.Close(fd)
		f.Close()
	}
}
