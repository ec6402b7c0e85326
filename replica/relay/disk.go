package relay

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"replicad/replica/master"
)

// Disk bounds how many goroutines use the disk at a time: one that reads what is
// not in memory holds a thread.
type Disk chan struct{}

// diskThreads is how many threads of a process read for replicas at a time.
const diskThreads = 8

// NewDisk makes one.
func NewDisk() Disk { return make(Disk, diskThreads) }

// use waits for a turn, and calls a function that uses the disk.
func (d Disk) use(do func()) {
	d <- struct{}{}
	defer func() { <-d }()
	do()
}

const (
	// fileShare is how much of a file one turn sends: what is not in memory takes
	// milliseconds.
	fileShare = 512 << 10
	// bufferSize is how much is read at once for a connection over TLS.
	bufferSize = 64 << 10
)

// Raw is a connection on which the kernel may send a file itself (sendfile(2)).
type Raw interface {
	// Raw gives the socket; false where bytes have to be encrypted first.
	Raw() (syscall.RawConn, bool)
}

// conn notes when the replica has taken something last.
type conn struct {
	master.Conn
	moved atomic.Int64 // in unix nanoseconds
}

func (c *conn) lastMoved() time.Time { return time.Unix(0, c.moved.Load()) }

// Raw implements [Raw].
func (c *conn) Raw() (syscall.RawConn, bool) {
	if r, ok := c.Conn.(Raw); ok {
		return r.Raw()
	}
	return nil, false
}

// Write implements io.Writer.
func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if n > 0 {
		c.moved.Store(time.Now().UnixNano())
	}
	return n, err
}

// send sends the first bytes of n bytes of a file, and says how many it sent. It
// waits for the replica without a turn at the disk.
func (d Disk) send(ctx context.Context, to master.Conn, f *os.File, from, n int64) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	c, _ := to.(*conn)
	if c != nil {
		if raw, ok := c.Raw(); ok {
			sent, err := d.sendfile(raw, f, from, n)
			if sent > 0 {
				c.moved.Store(time.Now().UnixNano())
			}
			return sent, err
		}
	}
	return d.copy(to, f, from, n)
}

// sendfile sends until the socket is full, one share at most.
func (d Disk) sendfile(raw syscall.RawConn, f *os.File, from, n int64) (sent int64, err error) {
	at, share := from, int(min(n, fileShare))
	over := raw.Write(func(fd uintptr) (done bool) {
		d.use(func() {
			for {
				k := 0
				k, err = unix.Sendfile(int(fd), int(f.Fd()), &at, share-int(at-from))
				if !errors.Is(err, unix.EINTR) {
					sent = at - from
					done = k > 0 || !errors.Is(err, unix.EAGAIN)
					return
				}
			}
		})
		return done
	})
	if err == nil {
		err = over
	}
	if err == nil && sent == 0 {
		err = io.ErrUnexpectedEOF // the file was cut
	}
	return sent, err
}

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// copy reads, and then writes.
func (d Disk) copy(to master.Conn, f *os.File, from, n int64) (int64, error) {
	b := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(b)
	var k int
	var err error
	d.use(func() { k, err = f.ReadAt(b[:min(n, bufferSize)], from) })
	switch {
	case k == 0 && err == io.EOF:
		return 0, io.ErrUnexpectedEOF // the file was cut
	case k == 0:
		return 0, err
	}
	k, err = to.Write(b[:k])
	return int64(k), err
}
