package study

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"replicad/replica"
)

// Record is one event of a link, kept. Of what was sent or received it has the
// bytes; where too many came, the first and the last of them.
type Record struct {
	At    time.Duration // since the first record
	Conn  int           // the connection it belongs to, from 1 on; 0 before the first
	Event replica.Event // but for Data
	// Verified: the base was read again, and is what the master sent. That
	// took Event.Took.
	Verified bool
	Data     []byte
	Gap      int64  // bytes behind Data that were not kept
	Tail     []byte // the bytes behind the gap
	// Payload: these are bytes of a full sync that went from the socket to
	// the disk and never through memory. They were read from there later.
	Payload bool
}

// Bytes is how many bytes were sent or received.
func (r Record) Bytes() int64 { return int64(len(r.Data)) + r.Gap + int64(len(r.Tail)) }

// Bounds of a [Recorder].
const (
	// DefaultKeep is how many bytes of the stream of each connection are
	// kept, and so explained.
	DefaultKeep = 16 << 10
	// mostRecords bounds the records of what may happen without end.
	mostRecords = 20_000
)

// Recorder is a replica.Observer that keeps what it is told, in bounded memory.
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

// Observe implements replica.Observer.
func (r *Recorder) Observe(e replica.Event) {
	if e.Kind == replica.Advanced {
		return // the offsets are in the ACKs
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counted(e.Kind, e.Phase, len(e.Data)) {
		return
	}
	if r.first.IsZero() {
		r.first = e.Time
	}
	x := Record{At: e.Time.Sub(r.first), Event: e}
	x.Event.Data = nil
	switch e.Kind {
	case replica.Resolved:
		r.conn, r.kept = r.conn+1, 0
	case replica.TransferProgress:
		if last := r.last(); last != nil && last.Event.Kind == e.Kind {
			*last = x
			last.Conn = r.conn
			return
		}
	case replica.Sent:
		x.Data = slices.Clone(e.Data)
	case replica.Received:
		r.keep(&x, e)
	}
	x.Conn = r.conn
	if e.Phase == replica.Stream && len(r.records) >= mostRecords && endless(e.Kind) {
		r.dropped++
		return
	}
	r.records = append(r.records, x)
}

// BaseVerified tells that the base was read again, and is what the master sent. The
// archive knows that, and not the link.
func (r *Recorder) BaseVerified(at time.Time, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.first.IsZero() {
		r.first = at
	}
	r.records = append(r.records, Record{At: at.Sub(r.first), Conn: r.conn, Verified: true, Event: replica.Event{Took: took}})
}

// endless says of which events there is no end while a link streams.
func endless(k replica.EventKind) bool {
	return k == replica.Sent || k == replica.Received || k == replica.Acknowledged || k == replica.Paused || k == replica.Unpaused
}

// most is how many bytes of a connection's stream are kept.
func (r *Recorder) most() int64 {
	if r.Keep <= 0 {
		return DefaultKeep
	}
	return r.Keep
}

// counted only counts bytes of a stream of which there is enough, with the record
// before: nearly all of a long stream passes here. false where they need a record.
func (r *Recorder) counted(k replica.EventKind, p replica.Phase, n int) bool {
	if k != replica.Received || p != replica.Stream || r.kept < r.most() {
		return false
	}
	last := r.last()
	if last == nil || last.Event.Kind != k || last.Event.Phase != p || last.Conn != r.conn || len(last.Tail) > 0 {
		return false
	}
	last.Gap += int64(n)
	return true
}

// keep gives a record the bytes received, as far as there is room.
func (r *Recorder) keep(x *Record, e replica.Event) {
	n := int64(len(e.Data))
	if e.Phase == replica.Stream {
		n = min(n, r.most()-r.kept)
		r.kept += n
	}
	x.Data, x.Gap = slices.Clone(e.Data[:n]), int64(len(e.Data))-n
}

func (r *Recorder) last() *Record {
	if len(r.records) == 0 {
		return nil
	}
	return &r.records[len(r.records)-1]
}

// Records are the records so far, and how many more there were that found no
// room.
func (r *Recorder) Records() (all []Record, dropped int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.records), r.dropped
}

// Reader gives the payload of a full sync again, the n-th one from 1 on: size
// bytes. It is an [io.ReaderAt] as a function.
type Reader func(n int, p []byte, at int64) error

// DefaultHead is how many bytes are kept of the head of a payload that never passed
// through memory, at the least.
const (
	DefaultHead = 64 << 10
	tailKept    = 1 << 10
)

// AddPayloads puts the payloads of full syncs in their place among records: what
// was not told as received is read again, all of it, or of one that is larger than
// keep bytes (DefaultHead where that is more) head and tail.
func AddPayloads(records []Record, keep int64, read Reader) ([]Record, error) {
	keep = max(keep, DefaultHead)
	var all []Record
	var before []byte // received on this connection, before the payload's end
	conn, syncs := -1, 0
	for _, r := range records {
		if r.Conn != conn {
			conn, before = r.Conn, nil
		}
		if r.Event.Kind == replica.Received && r.Event.Phase != replica.Stream {
			before = append(before, r.Data...)
		}
		if r.Event.Kind == replica.TransferReceived {
			p, err := payloadOf(r, before, keep, func(p []byte, at int64) error { return read(syncs+1, p, at) })
			if err != nil {
				return nil, err
			}
			if p.Bytes() > 0 {
				all = append(all, p)
			}
		}
		if r.Event.Kind == replica.FullSyncDone {
			syncs++
		}
		all = append(all, r)
	}
	return all, nil
}

// payloadOf is the record of what is missing of a payload before it was told to
// be complete.
func payloadOf(r Record, before []byte, keep int64, read func([]byte, int64) error) (Record, error) {
	p := Record{At: r.At, Conn: r.Conn, Payload: true}
	p.Event = replica.Event{Kind: replica.Received, Time: r.Event.Time, Master: r.Event.Master, State: r.Event.State, Phase: r.Event.Phase}
	told, mark := payloadTold(before)
	size := r.Event.Bytes
	from, to := min(told, size), size
	get := func(from, to int64) ([]byte, error) {
		b := make([]byte, to-from)
		if len(b) == 0 {
			return b, nil
		}
		if err := read(b, from); err != nil {
			return nil, fmt.Errorf("reading the payload again: %w", err)
		}
		return b, nil
	}
	var err error
	if to-from <= keep+tailKept {
		p.Data, err = get(from, to)
	} else {
		if p.Data, err = get(from, from+keep); err != nil {
			return p, err
		}
		p.Gap = to - from - keep - tailKept
		p.Tail, err = get(to-tailKept, to)
	}
	if err != nil {
		return p, err
	}
	// The mark is no part of the base; what of it was not told is known.
	rest := mark[min(max(told-size, 0), int64(len(mark))):]
	if p.Gap > 0 {
		p.Tail = append(p.Tail, rest...)
	} else {
		p.Data = append(p.Data, rest...)
	}
	return p, nil
}

// payloadTold finds the payload in what was received before its end: how many of
// its bytes came with the preamble, and the mark that ends it, "" for none.
func payloadTold(p []byte) (told int64, mark string) {
	for len(p) > 0 {
		line, rest, ok := bytes.Cut(p, []byte("\n"))
		if !ok {
			return 0, ""
		}
		p = rest
		if bytes.HasPrefix(line, []byte("$")) {
			mark, _ = strings.CutPrefix(strings.TrimSuffix(string(line), "\r"), "$EOF:")
			if mark[0] == '$' {
				mark = ""
			}
			return int64(len(p)), mark
		}
	}
	return 0, ""
}
