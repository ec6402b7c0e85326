package replica

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"replicad/anet"
)

// The payload of a full sync may have gigabytes, and a file system may block: no
// work for the loop's thread. So the loop lends the socket to a goroutine. The
// goroutine moves the bytes from socket to pipe to file by splice(2), so that
// they never enter this process, and comes back by Post. All that the loop does
// with a lent socket is shutdown(2), which wakes the goroutine. Only the loop's
// thread closes the socket.
//
// SO_RCVLOWAT lets the kernel gather half a megabyte before the kernel wakes the
// goroutine. At full speed that saves most of the wake-ups.

const (
	pipeSize  = 1 << 20
	lowWater  = 512 << 10
	copySize  = 256 << 10 // where splice is impossible
	searchEnd = 1 << 20   // how far back the mark is looked for when the socket is idle
)

// transfer is one payload on its way. Its fields belong to the goroutine that
// runs it, except the atomic ones; after the end they belong to the loop.
type transfer struct {
	fd       int
	full     FullSync
	mark     []byte // what ends the payload; empty for $<len>
	prefix   []byte // the first bytes, read together with the preamble
	timeout  time.Duration
	began    time.Time
	received atomic.Int64
	stop     atomic.Bool

	base     Base
	size     int64  // of the payload so far, mark included
	leftover []byte // of the stream, read behind the payload
	untold   int    // so many last bytes of leftover were never told as Received

	// The outcome.
	pos Position
	err error
}

// cancel ends the transfer soon. Loop's thread only.
func (t *transfer) cancel() {
	t.stop.Store(true)
	anet.Shutdown(t.fd)
}

// run is the goroutine. It posts received once the whole payload has come, and
// ended at its end.
func (t *transfer) run(store Store, post func(func()) bool, received, ended func()) {
	t.err = t.receive(store)
	if t.err == nil {
		post(received)
		t.pos, t.err = t.base.Commit()
		t.err = storeError(t.err)
	}
	if t.err != nil && t.base != nil {
		t.base.Abort()
	}
	post(ended)
}

func (t *transfer) receive(store Store) error {
	var err error
	if t.base, err = store.BeginBase(t.full); err != nil {
		t.base = nil
		return storeError(err)
	}
	if len(t.mark) == 0 && int64(len(t.prefix)) > t.full.Size {
		t.leftover = t.prefix[t.full.Size:]
		t.prefix = t.prefix[:t.full.Size]
	}
	if len(t.prefix) > 0 {
		if _, err := t.base.Write(t.prefix); err != nil {
			return storeError(err)
		}
		t.count(int64(len(t.prefix)))
	}
	if err := t.pump(); err != nil {
		return err
	}
	if len(t.mark) == 0 {
		return nil
	}
	t.count(-int64(len(t.mark)))
	return storeError(t.base.Truncate(t.size))
}

// storeError wraps ErrStore around an error of the base.
func storeError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrStore, err)
}

func (t *transfer) count(n int64) {
	t.size += n
	t.received.Store(t.size)
}

// pump moves bytes until the payload is complete.
func (t *transfer) pump() error {
	move, done := t.mover()
	defer done()
	w := waiter{fd: t.fd, timeout: t.timeout}
	defer w.restore()
	for {
		if t.stop.Load() {
			return ErrClosed // by cancel: the connection is forgotten already
		}
		want := int64(pipeSize)
		if len(t.mark) == 0 {
			if want = min(want, t.full.Size-t.size); want == 0 {
				return nil
			}
		}
		n, err := move(int(want))
		switch {
		case err == nil:
			t.count(n)
			w.moved()
		case err == anet.ErrWouldBlock:
			// Nothing more has come. A payload with a mark ends at such a
			// point: its master is silent until the first ACK.
			if found, err := t.atMark(w.idle()); found || err != nil {
				return err
			}
			if len(t.mark) == 0 {
				w.most = int(min(t.full.Size-t.size, lowWater))
			}
			if err := w.wait(); err != nil {
				return err
			}
		case errors.Is(err, ErrClosed), errors.Is(err, unix.ECONNRESET) && !errors.Is(err, ErrStore):
			// Where the mark came just before the end of the connection,
			// the payload is whole, and worth keeping.
			if found, markErr := t.atMark(true); found || markErr != nil {
				return markErr
			}
			return err
		default:
			return err
		}
	}
}

// mover gives the function that moves up to n bytes from the socket to the base
// and returns how many. It moves by splice where the base can, else by read and
// write. The end of the connection is ErrClosed.
func (t *transfer) mover() (move func(n int) (int64, error), done func()) {
	var buf []byte
	byCopy := func(n int) (int64, error) {
		if buf == nil {
			buf = make([]byte, copySize)
		}
		k, err := anet.Read(t.fd, buf[:min(n, len(buf))])
		switch {
		case err == io.EOF:
			return 0, ErrClosed
		case err != nil:
			return 0, err
		}
		_, err = t.base.Write(buf[:k])
		return int64(k), storeError(err)
	}
	splicer, ok := t.base.(Splicer)
	if !ok {
		return byCopy, func() {}
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return byCopy, func() {} // too many descriptors: copying needs none
	}
	done = func() { unix.Close(pipe[0]); unix.Close(pipe[1]) }
	// A smaller pipe works too: pipe-user-pages-soft may forbid this one.
	_, _ = unix.FcntlInt(uintptr(pipe[1]), unix.F_SETPIPE_SZ, pipeSize)
	spliced := false
	return func(n int) (int64, error) {
		if buf != nil {
			return byCopy(n)
		}
		k, err := unix.Splice(t.fd, nil, pipe[1], nil, n, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		switch {
		case err == unix.EINTR:
			return 0, nil
		case err == unix.EINVAL && !spliced: // this kind of socket can't
			return byCopy(n)
		case err == unix.EAGAIN:
			return 0, anet.ErrWouldBlock
		case err != nil:
			return 0, &anet.Error{Step: "read", Err: err}
		case k == 0:
			return 0, ErrClosed
		}
		spliced = true
		return k, t.drain(splicer, pipe[0], int(k))
	}, done
}

// drain moves n bytes from the pipe to the base.
func (t *transfer) drain(base Splicer, pipe, n int) error {
	for n > 0 {
		k, err := base.SpliceFrom(pipe, n)
		if err == nil && k == 0 {
			err = io.ErrShortWrite
		}
		if err != nil {
			return storeError(err)
		}
		n -= k
	}
	return nil
}

// atMark says whether the payload's end has come. Redis looks for the mark at
// the end of each read (readSyncBulkPayload). Here it is looked for at the end of
// what has arrived, so it is found however the kernel cut the bytes. When the
// socket stays idle, the mark is looked for further back: the master may have
// sent more behind the mark without waiting for the ACK.
func (t *transfer) atMark(idle bool) (bool, error) {
	m := int64(len(t.mark))
	if m == 0 || t.size < m {
		return false, nil
	}
	back := m
	if idle {
		back = min(t.size, searchEnd)
	}
	buf := make([]byte, back)
	if _, err := t.base.ReadAt(buf, t.size-back); err != nil {
		return false, storeError(err)
	}
	i := bytes.Index(buf, t.mark)
	if i < 0 {
		return false, nil
	}
	t.leftover = bytes.Clone(buf[i+len(t.mark):])
	t.untold = int(min(int64(len(t.leftover)), t.size-int64(len(t.prefix))))
	t.count(-int64(len(t.leftover)))
	return true, nil
}

// waiter waits for a lent socket. As long as bytes come quickly, SO_RCVLOWAT
// gathers them.
type waiter struct {
	fd      int
	timeout time.Duration
	low     int       // the low-water mark that is set, 0 for the default
	most    int       // bytes that may still come; 0 when unknown
	since   time.Time // when the first wait without a byte began; zero when one came
	timeup  int       // waits in a row that ended below the low-water mark
}

const (
	gatherFor = 2 * time.Millisecond
	idleFor   = 100 * time.Millisecond
)

// moved tells the waiter that bytes came.
func (w *waiter) moved() {
	w.since = time.Time{}
	w.timeup = 0
}

// idle says that nothing came for a while.
func (w *waiter) idle() bool { return !w.since.IsZero() && time.Since(w.since) >= idleFor }

// wait returns when there is something to read, or soon, so that the caller
// tries. The error is ErrDeadline after the timeout without a byte.
func (w *waiter) wait() error {
	now := time.Now()
	if w.since.IsZero() {
		w.since = now
	}
	if now.Sub(w.since) >= w.timeout {
		return fmt.Errorf("%w: no byte of the payload for %v", ErrDeadline, w.timeout)
	}
	low, long := lowWater, gatherFor
	if w.most > 0 {
		low = min(low, w.most)
	}
	if w.timeup > 0 { // bytes come slowly: take each one at once
		low, long = 1, idleFor
	}
	if low != w.low && anet.SetReceiveLowWater(w.fd, low) == nil {
		w.low = low
	}
	fds := []unix.PollFd{{Fd: int32(w.fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, int(min(long, w.timeout)/time.Millisecond))
	if err != nil && err != unix.EINTR {
		return fmt.Errorf("poll: %w", err)
	}
	if n == 0 {
		w.timeup++
	}
	return nil
}

// restore undoes the low-water mark: epoll must tell of every byte again.
func (w *waiter) restore() {
	if w.low > 1 {
		_ = anet.SetReceiveLowWater(w.fd, 1)
	}
}

// transferProgress is the time event that tells how far the transfer is.
func (l *Link) transferProgress() {
	c := l.conn
	t := c.transfer
	l.emit(Event{Kind: TransferProgress, Bytes: t.received.Load(), Total: t.full.Size, Took: time.Since(t.began)})
	c.progress.Reset(progressEvery)
}

// transferReceived is posted when the payload is complete. A link that takes no
// more hangs up: the master must buffer no stream for it. Else the ACK is sent at
// once: a master that sent an $EOF payload begins its stream only then
// (replicationSendAck at the end of readSyncBulkPayload). The stream waits in the
// socket until the base is durable.
func (l *Link) transferReceived(c *conn) {
	if l.conn != c {
		return
	}
	t := c.transfer
	c.progress.Stop()
	l.emit(Event{Kind: TransferReceived, Bytes: t.size, Total: t.size, Took: time.Since(t.began)})
	if l.cfg.Until == Transfer {
		anet.Shutdown(t.fd)
		return
	}
	c.streams = true   // or will, once the base is durable
	c.cron.Reset(tick) // first: an ACK that fails stops it again
	l.sendAck(c)
}

// transferEnded is posted when the goroutine has done with socket and store.
func (l *Link) transferEnded(c *conn) {
	t := c.transfer
	c.transfer, l.busy = nil, false
	if t.err == nil {
		// The store's history is the new one, whatever became of the
		// connection.
		l.setHistory(t.pos, t.full.ReplID != "")
		l.stored = l.store.Progress()
	}
	if c.streams = c.streams && t.err == nil; c.streams {
		c.leftover = t.leftover
	}
	if l.conn != c {
		if l.drain(c); l.ending == nil {
			l.idle()
		}
		return
	}
	if t.err != nil {
		l.fail(t.err)
		return
	}
	l.emit(Event{Kind: FullSyncDone, ReplID: t.pos.ReplID, Offset: t.pos.Offset, Bytes: t.size, Took: time.Since(t.began)})
	if l.cfg.Until == Transfer {
		l.Stop(l.onStop)
		return
	}
	l.beginStream(c, false, t.leftover[len(t.leftover)-t.untold:])
}
