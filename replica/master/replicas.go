package master

import (
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"time"
)

// Conn is a connection that asked for PSYNC. One goroutine reads from it, and
// another writes to it.
type Conn interface {
	io.Writer
	// Query reads the next command. Its arguments are good until the next call;
	// there are none where an empty line came.
	Query() ([][]byte, error)
	RemoteAddr() net.Addr
	// CloseWrite ends what is sent, and leaves what was sent to be read.
	CloseWrite() error
	Close() error
}

// Stream is what a replica is sent behind the base, or behind the place where it
// left off: the bytes of the history, and nothing else.
type Stream interface {
	// Send waits until there are bytes, and writes some of them. It tells how
	// many it wrote, beside an error, too. An error ends the connection.
	Send(ctx context.Context, to Conn) (int64, error)
	// Close is called once, when Send is not called any more.
	Close() error
}

// Base is the payload of a full sync.
type Base struct {
	Size int64
	// Mark frames the payload: 40 bytes that end it. "" frames it by its size.
	Mark string
	// Prepare, where it is not nil, is called before the payload is announced. It
	// may take its time, and calls keepAlive now and then.
	Prepare func(ctx context.Context, keepAlive func() error) error
	// Send writes Size bytes.
	Send func(ctx context.Context, to Conn) error
}

// Answer is what a source answers to PSYNC and SYNC.
type Answer struct {
	// Wait is how long the replica waits for the answer.
	Wait   time.Duration
	Line   string // with its end; "" for none
	Base   *Base  // nil for none
	Offset int64  // the last byte before the stream
	// Stream is nil where none follows the base. Of a replica that wanted the
	// payload alone a stream is closed, and nothing of it is sent.
	Stream Stream
	// Held: the stream waits for the first acknowledgement, since nothing else
	// tells that the replica has found the end of the payload
	// (repl_start_cmd_stream_on_ack).
	Held bool
	// Joined, where it is not nil, is told the replica when it is registered.
	Joined func(*Replica)
	// Granted: the replica asked for a partial resync, and gets it.
	Granted bool
}

// Stats counts what INFO shows under the same names.
type Stats struct {
	SyncFull       int64 // full syncs begun
	SyncPartialOK  int64 // partial resyncs granted
	SyncPartialErr int64 // partial resyncs asked for and not granted
}

// Replicas are the replicas of one master. The zero value has none. The methods
// may be called from any goroutine.
type Replicas struct {
	// KeepAlive is the time between the newlines to a replica that waits for an
	// answer or a payload; 1 s when 0, as replicationCron has it.
	KeepAlive time.Duration
	// Acked, where it is not nil, is called after each acknowledgement.
	Acked func()

	mu     sync.Mutex
	all    map[*Replica]struct{}
	lastID int64
	stats  Stats
	closed bool
}

// join registers a replica.
func (s *Replicas) join(r *Replica, a *Answer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	if s.all == nil {
		s.all = map[*Replica]struct{}{}
	}
	s.lastID++
	r.number = s.lastID
	s.all[r] = struct{}{}
	switch {
	case a.Granted:
		s.stats.SyncPartialOK++
	case a.Base != nil:
		s.stats.SyncFull++
		if r.Partial() {
			s.stats.SyncPartialErr++
		}
	}
	return nil
}

func (s *Replicas) leave(r *Replica) {
	s.mu.Lock()
	delete(s.all, r)
	s.mu.Unlock()
	r.Cut()
}

// Replicas are those that are connected, in the order in which they came.
func (s *Replicas) Replicas() []*Replica {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Keys(s.all), func(a, b *Replica) int { return cmp.Compare(a.number, b.number) })
}

// Stats counts syncs.
func (s *Replicas) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Cut closes the connections of the replicas that a function chooses, or of all
// where it is nil, and returns how many there were. They are forgotten at once.
func (s *Replicas) Cut(which func(*Replica) bool) (n int) {
	for _, r := range s.Replicas() {
		if which == nil || which(r) {
			s.leave(r)
			n++
		}
	}
	return n
}

// Close cuts all replicas, and lets no others in.
func (s *Replicas) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.Cut(nil)
}

// ErrRDBOnly ends the connection of a replica that wanted the payload alone
// (replication.c, replicaPutOnline).
var ErrRDBOnly = errors.New("the payload is sent, and REPLCONF rdb-only asked for no more")

// Feed makes a connection a replica, and returns when the connection has ended.
// The answer belongs to Feed. The error is why the replica was cut, or has left;
// acked says whether the replica acknowledged anything.
func (s *Replicas) Feed(c Conn, q Request, a Answer) (acked bool, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	r := &Replica{Request: q, conn: c, of: s, ctx: ctx, cancel: cancel, first: make(chan struct{}), read: make(chan struct{})}
	r.now.Sent, r.now.Heard, r.now.Since = a.Offset, time.Now(), time.Now()
	r.stream = a.Stream
	err = s.join(r, &a)
	if err == nil {
		if a.Joined != nil {
			a.Joined(r)
		}
		go r.hear()
		err = r.feed(a)
		if errors.Is(err, ErrRDBOnly) {
			r.linger()
		}
		s.leave(r)
		<-r.read
	} else {
		cancel()
		_ = c.Close()
	}
	if a.Stream != nil {
		err = cmp.Or(err, a.Stream.Close())
	}
	return r.Now().Acked, err
}
