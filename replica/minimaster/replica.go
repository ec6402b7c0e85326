package minimaster

import (
	"strings"
	"sync"
	"time"

	"github.com/tidwall/redcon"
)

// replica is one connected replica. Two goroutines serve it: one reads its
// acknowledgements, one sends what is in out.
type replica struct {
	s    *replication
	conn redcon.DetachedConn
	link *link
	hand handshake
	gone chan struct{} // closed when the replica is dropped

	// Under replication.mu.
	out     []byte    // waits to be sent
	held    bool      // nothing of it may be sent yet
	ready   sync.Cond // of replication.mu: something has changed
	waits   bool      // a main channel: its stream begins when its RDB channel comes
	client  int64     // the id that a main channel was told
	online  bool      // the payload is sent, or there was none
	ack     int64
	ackTime time.Time
}

// leave drops the replica.
func (r *replica) leave() {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.s.drop(r)
}

// read takes what the replica says: REPLCONF ACK, which has no answer. Everything
// else is passed over, for an answer would land in the middle of the stream.
func (r *replica) read() {
	for {
		cmd, err := r.conn.ReadCommand()
		if err != nil {
			r.leave()
			return
		}
		args := stringArgs(cmd)
		if len(args) < 3 || !strings.EqualFold(args[0], "REPLCONF") || !strings.EqualFold(args[1], "ACK") {
			continue
		}
		if offset, ok := parseInt(args[2]); ok {
			r.acknowledge(offset)
		}
	}
}

// acknowledge takes REPLCONF ACK offset. The FACK that may follow it, for what is
// durable, is not looked at.
func (r *replica) acknowledge(offset int64) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.ack = max(r.ack, offset)
	r.ackTime = time.Now()
	r.held = false
	r.ready.Signal()
	close(r.s.acked)
	r.s.acked = make(chan struct{})
}

// write sends what the queue has until the connection ends.
func (r *replica) write() {
	for {
		b := r.take()
		if b == nil {
			return
		}
		if _, err := r.link.Write(b); err != nil {
			r.leave()
			return
		}
	}
}

// take waits for bytes and takes them all; nil when the replica is dropped.
func (r *replica) take() []byte {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	for r.held || len(r.out) == 0 {
		if _, ok := r.s.replicas[r]; !ok {
			return nil
		}
		r.ready.Wait()
	}
	b := r.out
	r.out = nil
	return b
}
