package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"replicad/replica/archive"
)

// bench measures one side at a time, each time in a new folder below dir.
type bench struct {
	dir    string
	eof    bool // the payload's framing
	redis  string
	cli    string
	chunk  []byte
	tiny   *payload
	stream int64
}

// inFolder calls f with an empty folder, and removes it. What the run before
// left to the disk is waited for first.
func (b *bench) inFolder(f func(dir string) error) error {
	dir, err := os.MkdirTemp(b.dir, "bench-")
	if err != nil {
		return err
	}
	unix.Sync()
	return errors.Join(f(dir), os.RemoveAll(dir))
}

// connected starts a replica in a new folder and calls f with its link, the
// handshake of which is over.
func (b *bench) connected(run func(dir string, m *master) (*process, error), f func(dir string, proc *process, l *link) error) error {
	return b.inFolder(func(dir string) error {
		m, err := newMaster()
		if err != nil {
			return err
		}
		defer m.close()
		proc, err := run(dir, m)
		if err != nil {
			return err
		}
		defer proc.stop()
		l, err := m.accept()
		if err != nil {
			return proc.failed(err)
		}
		defer l.close()
		return f(dir, proc, l)
	})
}

// bulkResult is one full sync.
type bulkResult struct {
	took     time.Duration // until fsynced
	usage    usage
	verified time.Duration // until the checksum was verified, and CPU till then; replicad alone
	verify   usage
}

// bulkReplicad takes the payload with the daemon; with verify it waits for the
// verification of the checksum too.
func (b *bench) bulkReplicad(binary string, p *payload, verify bool) (r bulkResult, err error) {
	run := func(dir string, m *master) (*process, error) { return startReplicad(binary, dir, m.addr()) }
	err = b.connected(run, func(dir string, proc *process, l *link) (err error) {
		begun := time.Now()
		if err := l.send(p, b.eof); err != nil {
			return proc.failed(err)
		}
		if err := proc.awaitSync(); err != nil {
			return err
		}
		r.took = time.Since(begun)
		if r.usage, err = proc.usage(); err != nil || !verify {
			return err
		}
		if err := awaitVerified(dir); err != nil {
			return proc.failed(err)
		}
		r.verified = time.Since(begun)
		r.verify, err = proc.usage()
		return err
	})
	return r, err
}

// awaitVerified looks at the archive until its base is.
func awaitVerified(dir string) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		masters, err := archive.List(dir)
		if err != nil {
			return err
		}
		if len(masters) == 1 && len(masters[0].Generations) == 1 && masters[0].Generations[0].BaseVerified {
			return nil
		}
	}
	return fmt.Errorf("the base was not verified within %v", patience)
}

// bulkCLI takes the payload with redis-cli --rdb.
func (b *bench) bulkCLI(p *payload) (r bulkResult, err error) {
	run := func(dir string, m *master) (*process, error) {
		return start(nil, b.cli, "-h", "127.0.0.1", "-p", strconv.Itoa(m.port()), "--rdb", filepath.Join(dir, "dump.rdb"))
	}
	err = b.connected(run, func(dir string, proc *process, l *link) error {
		begun := time.Now()
		if err := l.send(p, b.eof); err != nil {
			return proc.failed(err)
		}
		select {
		case <-proc.exited:
		case <-time.After(patience):
			return proc.failed(fmt.Errorf("not done within %v", patience))
		}
		r.took = time.Since(begun)
		r.usage = proc.finalUsage()
		if st, err := os.Stat(filepath.Join(dir, "dump.rdb")); proc.err != nil || err != nil || st.Size() != p.size {
			return proc.failed(errors.Join(errors.New("redis-cli did not store the payload"), proc.err, err))
		}
		return nil
	})
	return r, err
}

// diskAlone writes the payload to a file that is allocated before, with large
// writes, which the kernel is told to begin to write back at once, and fsyncs
// it.
func (b *bench) diskAlone(p *payload) (took time.Duration, err error) {
	err = b.inFolder(func(dir string) error {
		f, err := os.Create(filepath.Join(dir, "file"))
		if err != nil {
			return err
		}
		defer f.Close()
		begun := time.Now()
		if err := unix.Fallocate(int(f.Fd()), 0, 0, p.size); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
			return err
		}
		var size, kicked int64
		for _, piece := range p.pieces {
			n, err := f.Write(piece)
			if err != nil {
				return err
			}
			if size += int64(n); size-kicked >= 8<<20 {
				unix.SyncFileRange(int(f.Fd()), kicked, size-kicked, unix.SYNC_FILE_RANGE_WRITE)
				kicked = size
			}
		}
		if err := f.Sync(); err != nil {
			return err
		}
		took = time.Since(begun)
		return nil
	})
	return took, err
}

// streamResult is one stream.
type streamResult struct {
	took    time.Duration // until the ACK
	usage   usage         // cpu for the stream alone
	durable time.Duration // until the FACK, where there is one
}

// streamTo measures the stream to the replica that run starts.
func (b *bench) streamTo(run func(dir string, m *master) (*process, error), facks bool) (r streamResult, err error) {
	err = b.connected(run, func(_ string, proc *process, l *link) error {
		return proc.failed(b.stream1(l, proc, facks, &r))
	})
	return r, err
}

func (b *bench) stream1(l *link, proc *process, facks bool, r *streamResult) error {
	// With the $EOF framing a replica sends its first ACK at once.
	if err := l.send(b.tiny, true); err != nil {
		return err
	}
	if err := l.await(func(a ack) bool { return a.offset >= 0 }); err != nil {
		return err
	}
	offset := int64(0)
	write := func(p []byte) error {
		n, err := l.conn.Write(p)
		offset += int64(n)
		return err
	}
	// The first command and its ACK: now the replica follows.
	if err := write([]byte("*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n" + getAck)); err != nil {
		return err
	}
	if err := l.await(func(a ack) bool { return a.offset >= offset-int64(len(getAck)) && (!facks || a.durable >= 0) }); err != nil {
		return err
	}
	before, err := proc.usage()
	if err != nil {
		return err
	}
	begun := time.Now()
	for end := offset + b.stream; offset < end; {
		if err := write(b.chunk[:min(int64(len(b.chunk)), b.whole(end-offset))]); err != nil {
			return err
		}
	}
	if err := write([]byte(getAck)); err != nil {
		return err
	}
	want := offset - int64(len(getAck)) // Redis answers the offset before the GETACK
	if err := l.await(func(a ack) bool { return a.offset >= want }); err != nil {
		return err
	}
	r.took = time.Since(begun)
	if r.usage, err = proc.usage(); err != nil {
		return err
	}
	r.usage.cpu -= before.cpu
	if facks {
		if err := l.await(func(a ack) bool { return a.durable >= want }); err != nil {
			return err
		}
		r.durable = time.Since(begun)
	}
	return nil
}

// pace is how long a link is left alone before it is closed: replicad and
// redis-server come back at once only to a master whose last link was no flash
// in the pan (replicad's Backoff.Min, 100 ms).
const pace = 150 * time.Millisecond

// whole rounds n up to whole commands of the chunk, which are all equally long.
func (b *bench) whole(n int64) int64 {
	one := int64(bytes.IndexByte(b.chunk[1:], '*') + 1)
	if one == 0 {
		one = int64(len(b.chunk))
	}
	return (n + one - 1) / one * one
}

// handshaker has one replica connect again and again.
type handshaker struct {
	m    *master
	proc *process
	link *link
}

// newHandshaker starts a replica and gives it its first full sync.
func newHandshaker(run func(m *master) (*process, error), tiny *payload) (*handshaker, error) {
	m, err := newMaster()
	if err != nil {
		return nil, err
	}
	m.eager = true
	h := &handshaker{m: m}
	if h.proc, err = run(m); err != nil {
		m.close()
		return nil, err
	}
	if h.link, err = m.accept(); err == nil {
		if err = h.link.send(tiny, true); err == nil {
			err = h.settle(0)
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
func (h *handshaker) settle(offset int64) error {
	if err := h.link.await(func(a ack) bool { return a.offset >= offset }); err != nil {
		return err
	}
	if _, err := h.link.conn.Write([]byte(ping + getAck)); err != nil {
		return err
	}
	return h.link.await(func(a ack) bool { return a.offset >= offset+int64(len(ping)) })
}

// again closes the connection and measures the next one. offset is what the
// replica has.
func (h *handshaker) again(offset int64) (time.Duration, error) {
	h.link.close()
	l, err := h.m.accept()
	if err != nil {
		return 0, h.proc.failed(err)
	}
	h.link = l
	if !l.resumed {
		return 0, h.proc.failed(errors.New("it asked for a full sync instead of the rest"))
	}
	l.conn.SetDeadline(time.Time{})
	go l.listen()
	return l.replied.Sub(l.accepted), h.proc.failed(h.settle(offset))
}

func (h *handshaker) close() {
	if h.link != nil {
		h.link.close()
	}
	h.m.close()
	h.proc.stop()
}
