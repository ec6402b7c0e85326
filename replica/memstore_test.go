package replica_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"replicad/replica"
	"replicad/replica/rdb"
)

// watch is one lock for everything that a test looks at, and a way to wait
// until any of it changes. Nothing here ever waits for a fixed time.
type watch struct {
	mu      sync.Mutex
	cond    *sync.Cond
	expired bool
}

// patience is how long a test waits for what it knows must come: long, as the
// machine may be busy; a test that passes does not wait for it.
const patience = time.Minute

func newWatch(t testing.TB) *watch {
	w := &watch{}
	w.cond = sync.NewCond(&w.mu)
	timer := time.AfterFunc(patience, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.expired = true
		w.cond.Broadcast()
	})
	t.Cleanup(func() { timer.Stop() })
	return w
}

// until waits for ok, which is called with the lock held; false after patience.
func (w *watch) until(ok func() bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for !ok() {
		if w.expired {
			return false
		}
		w.cond.Wait()
	}
	return true
}

// do changes or reads what is watched.
func (w *watch) do(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
	w.cond.Broadcast()
}

// storeOptions says how a memStore behaves. The zero value takes everything at
// once.
type storeOptions struct {
	buffer   int           // longest Buffer; 0: 64 KiB
	capacity int64         // what may be taken and not yet stored; 0: everything is stored at once
	splice   bool          // the base is a file that takes splice(2)
	byHand   bool          // durable only when the test calls fsync
	largest  int64         // a larger payload finds no room; 0: any
	gate     chan struct{} // Base.Commit waits until it is closed; nil: it does not
	position *replica.Position
	// fork makes the store a replica.Forker; ForkAt gives what it gives.
	fork func(replica.Replication) (replica.Position, bool)
}

// forkStore is a memStore that can fork.
type forkStore struct {
	*memStore
}

func (s forkStore) ForkAt(m replica.Replication) (replica.Position, bool) {
	defer s.alone("ForkAt")()
	return s.opt.fork(m)
}

func (s forkStore) Fork(p replica.Position) (replica.Position, error) {
	defer s.alone("Fork")()
	if s.opt.gate != nil {
		<-s.opt.gate
	}
	if s.resetErr != nil {
		return p, s.resetErr
	}
	s.w.do(func() { s.begin(p) })
	s.notify() // as the archive's new log does
	return p, nil
}

// memStore is a replica.Store in memory. It records what it is given, and
// watches over the rules of the interface while it does.
type memStore struct {
	t   testing.TB
	w   *watch
	opt storeOptions
	dir string

	busy   atomic.Int32 // of the methods that may block, how many are running
	notify func()

	// Below, w.mu.
	has      bool
	start    replica.Position // where the history begins
	ids      []replica.Position
	payload  []byte // of the base
	full     replica.FullSync
	stream   []byte // from start.Offset on
	last     replica.Boundary
	bounds   []replica.Boundary
	stored   int64
	durable  int64
	buf      []byte
	handed   int
	baseSize int64 // of the base that is being received
	total    int64 // stream bytes ever taken
	begun    int
	aborted  int
	commits  int // of bases
	resets   int
	rooms    int
	noRoom   error
	resetErr error
	stalled  error
	failed   error
}

func newMemStore(t testing.TB, w *watch, opt storeOptions) *memStore {
	if opt.buffer <= 0 {
		opt.buffer = 64 << 10
	}
	s := &memStore{t: t, w: w, opt: opt, buf: make([]byte, opt.buffer)}
	if opt.splice {
		s.dir = t.TempDir()
	}
	if p := opt.position; p != nil {
		s.begin(*p)
	}
	return s
}

func (s *memStore) begin(p replica.Position) {
	s.has, s.start, s.stream = true, p, nil
	s.ids = []replica.Position{p}
	s.last = replica.Boundary{Offset: p.Offset, DB: p.DB}
	s.bounds = nil
	s.stored, s.durable = p.Offset, p.Offset
}

func (s *memStore) taken() int64 { return s.start.Offset + int64(len(s.stream)) }

func (s *memStore) Position() (replica.Position, bool) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if !s.has || s.start.ReplID == "" {
		return replica.Position{}, false
	}
	id := s.ids[len(s.ids)-1].ReplID
	return replica.Position{ReplID: id, Offset: s.last.Offset, DB: s.last.DB}, true
}

func (s *memStore) Continue(id string) {
	s.w.do(func() { s.ids = append(s.ids, replica.Position{ReplID: id, Offset: s.taken()}) })
}

func (s *memStore) Buffer() []byte {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.handed = 0
	if s.failed != nil || !s.has {
		return nil
	}
	s.handed = len(s.buf)
	if s.opt.capacity > 0 {
		s.handed = int(min(int64(s.handed), s.opt.capacity-(s.taken()-s.stored)))
	}
	return s.buf[:s.handed]
}

func (s *memStore) Commit(n int, b replica.Boundary) {
	s.w.do(func() {
		if !s.has {
			return // an aborted base has taken its history with it
		}
		if n < 1 || n > s.handed {
			s.t.Errorf("Commit of %d bytes, Buffer had room for %d", n, s.handed)
			return
		}
		s.handed = 0
		s.stream = append(s.stream, s.buf[:n]...)
		for i := range s.buf {
			s.buf[i] = '!' // nobody may rely on it any more
		}
		s.total += int64(n)
		if b.Offset < s.last.Offset || b.Offset > s.taken() {
			s.t.Errorf("boundary %d, the one before was %d, %d are taken", b.Offset, s.last.Offset, s.taken())
		}
		s.last = b
		s.bounds = append(s.bounds, b)
		if s.opt.capacity == 0 {
			s.stored = s.taken()
			if !s.opt.byHand {
				s.durable = s.stored
			}
		}
	})
	s.notify()
}

// store moves up to n taken bytes to "the file", as a flusher does.
func (s *memStore) store(n int64) {
	s.w.do(func() {
		s.stored = min(s.stored+n, s.taken())
		if !s.opt.byHand {
			s.durable = s.stored
		}
	})
	s.notify()
}

// fsync makes everything durable that is stored.
func (s *memStore) fsync() {
	s.w.do(func() { s.durable = s.stored })
	s.notify()
}

// set changes what Progress or Room report.
func (s *memStore) set(change func()) {
	s.w.do(change)
	s.notify()
}

func (s *memStore) Progress() replica.Progress {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return replica.Progress{Stored: s.stored, Durable: s.durable, Stalled: s.stalled, Failed: s.failed}
}

func (s *memStore) Notify(f func()) { s.notify = f }

// alone watches over "never two at a time".
func (s *memStore) alone(what string) (leave func()) {
	if n := s.busy.Add(1); n != 1 {
		s.t.Errorf("%s while another blocking method runs", what)
	}
	return func() { s.busy.Add(-1) }
}

func (s *memStore) Room() error {
	defer s.alone("Room")()
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.rooms++
	return s.noRoom
}

func (s *memStore) Reset() error {
	defer s.alone("Reset")()
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	defer s.w.cond.Broadcast()
	s.resets++
	if s.resetErr != nil {
		return s.resetErr
	}
	s.failed = nil
	s.stream = s.stream[:s.last.Offset-s.start.Offset]
	s.stored, s.durable = s.last.Offset, s.last.Offset
	return nil
}

func (s *memStore) BeginBase(full replica.FullSync) (replica.Base, error) {
	defer s.alone("BeginBase")()
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if s.opt.largest > 0 && full.Size > s.opt.largest {
		return nil, fmt.Errorf("%w: %d bytes", replica.ErrNoRoom, full.Size)
	}
	s.begun++
	s.baseSize = 0
	b := &memBase{s: s, full: full}
	if !s.opt.splice {
		return b, nil
	}
	f, err := os.Create(filepath.Join(s.dir, fmt.Sprintf("base-%d", s.begun)))
	if err != nil {
		return nil, err
	}
	return &fileBase{memBase: memBase{s: s, full: full}, f: f}, nil
}

// memBase keeps a payload in memory. Like the archive's it has no lock: one
// goroutine at a time uses it, which the race detector watches.
type memBase struct {
	s     *memStore
	full  replica.FullSync
	data  []byte
	begun bool // the history behind it has begun
	ended bool
}

func (b *memBase) use(what string) func() {
	if b.ended {
		b.s.t.Errorf("%s of a base that has ended", what)
	}
	return b.s.alone(what)
}

func (b *memBase) Write(p []byte) (int, error) {
	defer b.use("Write")()
	b.data = append(b.data, p...)
	b.s.w.do(func() { b.s.baseSize = int64(len(b.data)) })
	return len(p), nil
}

func (b *memBase) ReadAt(p []byte, off int64) (int, error) {
	defer b.use("ReadAt")()
	return bytes.NewReader(b.data).ReadAt(p, off)
}

func (b *memBase) Truncate(size int64) error {
	defer b.use("Truncate")()
	b.data = b.data[:size]
	return nil
}

func (b *memBase) Begin() (replica.Position, bool, error) { return b.beginBehind(b.data) }

func (b *memBase) beginBehind(data []byte) (pos replica.Position, ok bool, err error) {
	defer b.use("Begin")()
	if b.begun {
		b.s.t.Error("Begin of a base that has begun its history")
	}
	h, err := rdb.ReadHeader(bytes.NewReader(data))
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return pos, false, nil
	}
	if err != nil {
		return pos, false, fmt.Errorf("%w: %w", replica.ErrNotRDB, err)
	}
	b.begun = true
	pos = replica.Position{ReplID: b.full.ReplID, Offset: b.full.Offset, DB: h.ReplStreamDB}
	b.s.w.do(func() { b.s.begin(pos) })
	b.s.notify()
	return pos, true, nil
}

func (b *memBase) Commit() (replica.Position, error) {
	defer b.use("Commit")()
	b.ended = true
	return b.adopt(b.data)
}

func (b *memBase) adopt(data []byte) (replica.Position, error) {
	s := b.s
	if s.opt.gate != nil {
		<-s.opt.gate
	}
	pos := replica.Position{ReplID: b.full.ReplID, Offset: b.full.Offset}
	if h, err := rdb.ReadHeader(bytes.NewReader(data)); err == nil {
		pos.DB = h.ReplStreamDB
	}
	s.w.do(func() {
		s.commits++
		s.full, s.payload = b.full, slices.Clone(data)
		if !b.begun {
			s.begin(pos)
		}
	})
	s.notify()
	return pos, nil
}

func (b *memBase) Abort() {
	defer b.s.alone("Abort")()
	if b.ended {
		return
	}
	b.ended = true
	b.s.w.do(func() {
		b.s.aborted++
		if b.begun {
			b.s.begin(replica.Position{})
			b.s.has = false
		}
	})
}

// fileBase is a base in a file, which takes splice(2).
type fileBase struct {
	memBase
	f    *os.File
	size int64
}

func (b *fileBase) grew(n int) {
	b.size += int64(n)
	b.s.w.do(func() { b.s.baseSize = b.size })
}

func (b *fileBase) Write(p []byte) (int, error) {
	defer b.use("Write")()
	n, err := b.f.WriteAt(p, b.size)
	b.grew(n)
	return n, err
}

func (b *fileBase) SpliceFrom(pipe, n int) (int, error) {
	defer b.use("SpliceFrom")()
	off := b.size
	k, err := unix.Splice(pipe, nil, int(b.f.Fd()), &off, n, unix.SPLICE_F_MOVE)
	for err == unix.EINTR {
		k, err = unix.Splice(pipe, nil, int(b.f.Fd()), &off, n, unix.SPLICE_F_MOVE)
	}
	if err != nil {
		return 0, err
	}
	b.grew(int(k))
	return int(k), nil
}

func (b *fileBase) ReadAt(p []byte, off int64) (int, error) {
	defer b.use("ReadAt")()
	return b.f.ReadAt(p, off)
}

func (b *fileBase) Truncate(size int64) error {
	defer b.use("Truncate")()
	b.size = size
	return b.f.Truncate(size)
}

func (b *fileBase) Begin() (replica.Position, bool, error) {
	data, err := os.ReadFile(b.f.Name())
	if err != nil {
		return replica.Position{}, false, err
	}
	return b.beginBehind(data)
}

func (b *fileBase) Commit() (replica.Position, error) {
	defer b.use("Commit")()
	data, err := os.ReadFile(b.f.Name())
	b.ended = true
	if err = errors.Join(err, b.f.Close()); err != nil {
		return replica.Position{}, err
	}
	return b.adopt(data)
}

func (b *fileBase) Abort() {
	if !b.ended {
		if err := errors.Join(b.f.Close(), os.Remove(b.f.Name())); err != nil {
			b.s.t.Errorf("abort: %v", err)
		}
	}
	b.memBase.Abort()
}
