package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"replicad/replica/units"
)

// bench measures one side at a time, each time in a new folder below work.
type bench struct {
	options
	work  string
	say   func(string, ...any)
	chunk []byte   // of the stream
	tiny  *payload // a full sync of nothing
	table table
}

// side is a program that is measured.
type side struct {
	name  string
	start func(dir string, m *master) (*process, error)
	facks bool // its ACKs say what is fsynced
}

// sides are replicad and its peer: another replicad, or the program of Redis
// that redis makes a side of. Where that program is missing there is no peer.
func (b *bench) sides(program string, redis func(path string) *side) []*side {
	both := []*side{replicad("replicad", b.replicad)}
	if b.against != "" {
		return append(both, replicad("the other", b.against))
	}
	path, err := exec.LookPath(program)
	if err != nil {
		b.say("%s is not in PATH: replicad is measured alone where it would be the peer", program)
		return both
	}
	return append(both, redis(path))
}

// compare has the sides take turns, so that a machine that is busy for a while
// is so for both. once measures a side, and gives a value for each of the rows,
// or a negative one where the side has none.
func (b *bench) compare(what string, runs int, sides []*side, rows []row, once func(*side) ([]float64, error)) error {
	for i := range runs {
		said := fmt.Sprintf("%s %d/%d:", what, i+1, runs)
		for k, s := range sides {
			values, err := once(s)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			said += " " + s.name
			for j, v := range values {
				if v < 0 {
					continue
				}
				r := &rows[j]
				r.values[k] = append(r.values[k], v)
				said += fmt.Sprintf(", %.4g %s %s", v, r.unit, r.what)
			}
			said += ";"
		}
		b.say("%s", strings.TrimSuffix(said, ";"))
	}
	if len(sides) > 1 {
		what += ", beside " + sides[1].name
	}
	for _, r := range rows {
		r.what = what + ": " + r.what
		b.table = append(b.table, r)
	}
	return nil
}

// bulks measures full syncs, and what the disk alone takes for the same bytes.
func (b *bench) bulks() error {
	p := newPayload(b.bulk)
	rows := []row{
		{what: "until fsynced", unit: "s"},
		{what: "throughput", unit: "MB/s"},
		{what: "CPU", unit: "s"},
		{what: "peak memory", unit: "MiB"},
	}
	what := "bulk " + units.FormatSize(b.bulk)
	err := b.compare(what, b.runs, b.sides("redis-cli", redisCLI), rows, func(s *side) ([]float64, error) {
		took, used, err := b.bulkOnce(s, p)
		return []float64{took, float64(p.size) / 1e6 / took, used.cpu.Seconds(), used.peak}, err
	})
	if err != nil {
		return err
	}
	return b.compare("the disk alone", b.runs, []*side{{name: "the disk"}}, []row{{what: "until fsynced", unit: "s"}}, func(*side) ([]float64, error) {
		took, err := b.diskAlone(p)
		return []float64{took}, err
	})
}

// inFolder calls f with an empty folder, and removes it. What the run before
// left to the disk is waited for first.
func (b *bench) inFolder(f func(dir string) error) error {
	dir, err := os.MkdirTemp(b.work, "bench-")
	if err != nil {
		return err
	}
	unix.Sync()
	return errors.Join(f(dir), os.RemoveAll(dir))
}

// connected starts a replica in a new folder and calls f with its link, the
// handshake of which is over.
func (b *bench) connected(s *side, f func(proc *process, l *link) error) error {
	return b.inFolder(func(dir string) error {
		m, err := newMaster()
		if err != nil {
			return err
		}
		defer m.close()
		proc, err := s.start(dir, m)
		if err != nil {
			return err
		}
		defer proc.stop()
		l, err := m.accept()
		if err != nil {
			return proc.failed(err)
		}
		defer l.close()
		return proc.failed(f(proc, l))
	})
}

// bulkOnce gives a side the payload and says how many seconds passed until the
// payload was fsynced.
func (b *bench) bulkOnce(s *side, p *payload) (took float64, used usage, err error) {
	err = b.connected(s, func(proc *process, l *link) (err error) {
		begun := time.Now()
		if err := l.send(p, false); err != nil {
			return err
		}
		if err := proc.awaitSync(); err != nil {
			return err
		}
		took = time.Since(begun).Seconds()
		used, err = proc.usage()
		return err
	})
	return took, used, err
}

// diskAlone writes the payload to a file with large writes, which the kernel is
// told to begin to write back at once, and fsyncs the file.
func (b *bench) diskAlone(p *payload) (took float64, err error) {
	err = b.inFolder(func(dir string) error {
		f, err := os.Create(filepath.Join(dir, "file"))
		if err != nil {
			return err
		}
		defer f.Close()
		begun := time.Now()
		size := int64(0)
		for _, piece := range p.pieces {
			n, err := f.Write(piece)
			if err != nil {
				return err
			}
			unix.SyncFileRange(int(f.Fd()), size, int64(n), unix.SYNC_FILE_RANGE_WRITE)
			size += int64(n)
		}
		err = f.Sync()
		took = time.Since(begun).Seconds()
		return err
	})
	return took, err
}

// streams measures a stream behind a full sync of nothing.
func (b *bench) streams() error {
	rows := []row{
		{what: "throughput", unit: "MB/s"},
		{what: "CPU per GB", unit: "s"},
		{what: "until fsynced", unit: "s"},
		{what: "peak memory", unit: "MiB"},
	}
	what := fmt.Sprintf("stream %s, %d keys", units.FormatSize(b.stream), b.keys)
	gigabytes := float64(b.stream) / 1e9
	return b.compare(what, b.runs, b.sides("redis-server", redisServer), rows, func(s *side) (values []float64, err error) {
		err = b.connected(s, func(proc *process, l *link) error {
			r, err := b.streamTo(l, proc, s.facks)
			values = []float64{1000 * gigabytes / r.took, r.usage.cpu.Seconds() / gigabytes, r.durable, r.usage.peak}
			return err
		})
		return values, err
	})
}

// streamResult is one stream.
type streamResult struct {
	took    float64 // seconds until the ACK
	durable float64 // seconds until the FACK; negative without one
	usage   usage   // cpu for the stream alone
}

func (b *bench) streamTo(l *link, proc *process, facks bool) (r streamResult, err error) {
	r.durable = -1
	// With the $EOF framing a replica sends its first ACK at once.
	if err = l.send(b.tiny, true); err != nil {
		return r, err
	}
	if err = l.await(func(a ack) bool { return a.offset >= 0 }); err != nil {
		return r, err
	}
	offset := int64(0)
	write := func(p []byte) error {
		n, err := l.conn.Write(p)
		offset += int64(n)
		return err
	}
	// The first command and its ACK: now the replica follows.
	if err = write([]byte("*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n" + getAck)); err != nil {
		return r, err
	}
	if err = l.await(func(a ack) bool { return a.offset >= offset-int64(len(getAck)) && (!facks || a.durable >= 0) }); err != nil {
		return r, err
	}
	before, err := proc.usage()
	if err != nil {
		return r, err
	}
	begun := time.Now()
	for end := offset + b.stream; offset < end; {
		if err = write(b.chunk[:min(int64(len(b.chunk)), b.whole(end-offset))]); err != nil {
			return r, err
		}
	}
	if err = write([]byte(getAck)); err != nil {
		return r, err
	}
	want := offset - int64(len(getAck)) // Redis answers the offset before the GETACK
	if err = l.await(func(a ack) bool { return a.offset >= want }); err != nil {
		return r, err
	}
	r.took = time.Since(begun).Seconds()
	if r.usage, err = proc.usage(); err != nil {
		return r, err
	}
	r.usage.cpu -= before.cpu
	if facks {
		err = l.await(func(a ack) bool { return a.durable >= want })
		r.durable = time.Since(begun).Seconds()
	}
	return r, err
}

// whole rounds n up to whole commands of the chunk, which are all equally long.
func (b *bench) whole(n int64) int64 {
	one := int64(bytes.IndexByte(b.chunk[1:], '*') + 1)
	if one == 0 {
		one = int64(len(b.chunk))
	}
	return (n + one - 1) / one * one
}

// pace is how long a link is left alone before it is closed: replicad and
// redis-server come back at once only to a master whose last link was no flash
// in the pan (replicad's Backoff.Min, 100 ms).
const pace = 150 * time.Millisecond

// handshake measures how long a replica takes that connects again.
func (b *bench) handshake() error {
	// The master and the replica have a core each: which of the two waits for
	// the other's core is the scheduler's whim, and longer than a handshake.
	var all unix.CPUSet
	_ = unix.SchedGetaffinity(0, &all)
	runtime.LockOSThread()
	pin(0)
	defer func() {
		_ = unix.SchedSetaffinity(0, &all)
		runtime.UnlockOSThread()
	}()
	return b.inFolder(func(dir string) error {
		open := map[*side]*handshaker{}
		defer func() {
			for _, h := range open {
				h.close()
			}
		}()
		rows := []row{{what: "accept to PSYNC reply", unit: "us"}}
		return b.compare("handshake", b.handshakes, b.sides("redis-server", redisServer), rows, func(s *side) ([]float64, error) {
			if open[s] == nil {
				h, err := newHandshaker(s, dir, b.tiny)
				if err != nil {
					return nil, err
				}
				open[s] = h
			}
			took, err := open[s].again()
			return []float64{float64(took.Nanoseconds()) / 1e3}, open[s].proc.failed(err)
		})
	})
}

// pin binds this thread, and the programs that it starts, to one core.
func pin(core int) {
	var one unix.CPUSet
	one.Set(core)
	_ = unix.SchedSetaffinity(0, &one) // without it the figures are only noisier
}

// handshaker has one replica connect again and again.
type handshaker struct {
	m       *master
	proc    *process
	link    *link
	offset  int64 // that the replica has acknowledged
	settled time.Time
}

// newHandshaker starts a replica and gives it its first full sync.
func newHandshaker(s *side, dir string, tiny *payload) (*handshaker, error) {
	m, err := newMaster()
	if err != nil {
		return nil, err
	}
	m.eager = true
	h := &handshaker{m: m}
	if dir, err = os.MkdirTemp(dir, ""); err == nil {
		pin(1)
		h.proc, err = s.start(dir, m)
		pin(0)
	}
	if err != nil {
		m.close()
		return nil, err
	}
	if h.link, err = m.accept(); err == nil {
		if err = h.link.send(tiny, true); err == nil {
			err = h.settle()
		}
	}
	if err != nil {
		err = h.proc.failed(err)
		h.close()
		return nil, err
	}
	return h, nil
}

// settle makes the replica take a command, so that it counts the link as a good
// one and comes back at once, and waits for its ACK.
func (h *handshaker) settle() error {
	if err := h.link.await(func(a ack) bool { return a.offset >= h.offset }); err != nil {
		return err
	}
	if _, err := h.link.conn.Write([]byte(ping + getAck)); err != nil {
		return err
	}
	err := h.link.await(func(a ack) bool { return a.offset >= h.offset+int64(len(ping)) })
	h.offset += int64(len(ping) + len(getAck))
	h.settled = time.Now()
	return err
}

// again closes the connection and measures the next one.
func (h *handshaker) again() (time.Duration, error) {
	time.Sleep(time.Until(h.settled.Add(pace)))
	h.link.close()
	l, err := h.m.accept()
	if err != nil {
		return 0, err
	}
	h.link = l
	if !l.resumed {
		return 0, errors.New("it asked for a full sync instead of the rest")
	}
	return l.replied.Sub(l.accepted), h.settle()
}

func (h *handshaker) close() {
	if h.link != nil {
		h.link.close()
	}
	h.m.close()
	h.proc.stop()
}
