package study

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sync"
	"time"

	"replicad/replica"
)

// Record is one event of a link, kept. Of what was sent or received a Record has
// the bytes; if too many came, the first and the last of them.
type Record struct {
	At    time.Duration // since the first record
	Conn  int           // the connection it belongs to, from 1 on; 0 before the first
	Event replica.Event // but for Data
	Data  []byte
	Gap   int64  // bytes behind Data that were not kept
	Tail  []byte // the bytes behind the gap
	// Payload: these are bytes of a full sync that went from the socket to
	// the disk and never through memory. They were read from there later.
	Payload bool
	// Verified: the base was read again, and is what the master sent. That
	// took Event.Took.
	Verified bool
}

// Bytes is how many bytes were sent or received.
func (r Record) Bytes() int64 { return int64(len(r.Data)) + r.Gap + int64(len(r.Tail)) }

const (
	// DefaultKeep is how many bytes of the stream of each connection a
	// [Recorder] keeps, and a study explains.
	DefaultKeep = 16 << 10
	// DefaultHead is how many bytes are kept at least of the head of a
	// payload that never passed through memory.
	DefaultHead = 64 << 10

	tailKept    = 1 << 10 // bytes of the tail of such a payload
	mostRecords = 20_000  // of what may happen without end
)

// Recorder is a [replica.Observer] that keeps what it is told, in bounded memory.
type Recorder struct {
	// Keep is how many bytes of each connection's stream are kept; 0 means
	// DefaultKeep.
	Keep int64

	mu      sync.Mutex
	records []Record
	first   time.Time
	conn    int
	kept    int64 // bytes of this connection's stream
	dropped int64
}

// Observe implements [replica.Observer].
func (r *Recorder) Observe(e replica.Event) {
	if e.Kind == replica.Advanced {
		return // the offsets are in the ACKs
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	x := Record{Event: e, Data: e.Data}
	x.Event.Data = nil
	endless := [...]replica.EventKind{replica.Sent, replica.Received, replica.Acknowledged, replica.Paused, replica.Unpaused}
	last := &Record{}
	if n := len(r.records); n > 0 {
		last = &r.records[n-1]
	}
	switch e.Kind {
	case replica.Resolved:
		r.conn, r.kept = r.conn+1, 0
	case replica.TransferProgress:
		if last.Event.Kind == e.Kind {
			r.records = r.records[:len(r.records)-1] // the new one says more
		}
	case replica.Received:
		if e.Phase == replica.Stream {
			n := min(int64(len(x.Data)), cmp.Or(r.Keep, DefaultKeep)-r.kept)
			r.kept += n
			x.Data, x.Gap = x.Data[:n], int64(len(x.Data))-n
		}
		// Nearly all of a long stream is only counted.
		if len(x.Data) == 0 && last.Event.Kind == e.Kind && last.Event.Phase == e.Phase && last.Conn == r.conn {
			last.Gap += x.Gap
			return
		}
	}
	if len(r.records) >= mostRecords && e.Phase == replica.Stream && slices.Contains(endless[:], e.Kind) {
		r.dropped++
		return
	}
	x.Data = slices.Clone(x.Data)
	r.add(e.Time, x)
}

// BaseVerified tells that the base was read again, and is what the master sent.
// The archive knows that, and not the link.
func (r *Recorder) BaseVerified(at time.Time, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.add(at, Record{Verified: true, Event: replica.Event{Took: took}})
}

func (r *Recorder) add(at time.Time, x Record) {
	if r.first.IsZero() {
		r.first = at
	}
	x.At, x.Conn = at.Sub(r.first), r.conn
	r.records = append(r.records, x)
}

// Records are the records so far, and how many more there were for which there
// was no room.
func (r *Recorder) Records() (all []Record, dropped int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.records), r.dropped
}

// Reader reads the payload of full sync n, from 1 on, into p, from a position of
// the payload on. It is an [io.ReaderAt] for each n.
type Reader func(n int, p []byte, at int64) error

// AddPayloads puts the payloads of full syncs in their places among records. What
// was not told as received is read again: all of it, or of more than keep bytes
// (DefaultHead if that is more) only head and tail.
func AddPayloads(records []Record, keep int64, read Reader) ([]Record, error) {
	keep = max(keep, DefaultHead)
	var all []Record
	var before []byte // received on this connection, before the payload's end
	conn, syncs := -1, 0
	for _, r := range records {
		if r.Conn != conn {
			conn, before = r.Conn, nil
		}
		switch {
		case r.Event.Kind == replica.Received && r.Event.Phase != replica.Stream:
			before = append(before, r.Data...)
		case r.Event.Kind == replica.TransferReceived:
			p, err := payloadOf(r, before, keep, func(p []byte, at int64) error { return read(syncs+1, p, at) })
			if err != nil {
				return nil, fmt.Errorf("reading the payload again: %w", err)
			}
			if p.Bytes() > 0 {
				all = append(all, p)
			}
		case r.Event.Kind == replica.FullSyncDone:
			syncs++
		}
		all = append(all, r)
	}
	return all, nil
}

// payloadOf is the record of what is missing of a payload that done tells to be
// complete.
func payloadOf(done Record, before []byte, keep int64, read func([]byte, int64) error) (Record, error) {
	told, mark := payloadTold(before)
	size := done.Event.Bytes
	r := Record{At: done.At, Conn: done.Conn, Payload: true, Event: done.Event}
	r.Event.Kind = replica.Received
	head, tail := max(size-told, 0), int64(0)
	if head > keep+tailKept {
		r.Gap = head - keep - tailKept
		head, tail = keep, tailKept
	}
	r.Data, r.Tail = make([]byte, head), make([]byte, tail)
	if head > 0 {
		if err := errors.Join(read(r.Data, told), read(r.Tail, size-tail)); err != nil {
			return r, err
		}
	}
	// The mark is no part of the base; what was not told of it is known.
	rest := mark[min(max(told-size, 0), int64(len(mark))):]
	if r.Gap > 0 {
		r.Tail = append(r.Tail, rest...)
	} else {
		r.Data = append(r.Data, rest...)
	}
	return r, nil
}

// payloadTold finds the payload in what was received before its end: how many of
// its bytes came behind the line that announces it, and the mark that ends it, ""
// for none.
func payloadTold(before []byte) (told int64, mark string) {
	line := regexp.MustCompile(`(?m)^\$(EOF:)?([^\r\n]*)\r?\n`).FindSubmatchIndex(before)
	if line == nil {
		return 0, ""
	}
	if line[2] >= 0 {
		mark = string(before[line[4]:line[5]])
	}
	return int64(len(before) - line[1]), mark
}
