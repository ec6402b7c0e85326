package master

import (
	"context"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"replicad/replica/resp"
)

// Replica is one connected replica.
type Replica struct {
	Request
	of     *Replicas
	conn   Conn
	stream Stream
	number int64
	ctx    context.Context
	cancel context.CancelFunc
	first  chan struct{} // closed at the first acknowledgement
	read   chan struct{} // closed when hear has ended

	mu  sync.Mutex
	now Now
}

// Now is how a replica stands. Offsets are those of the last byte.
type Now struct {
	Online bool  // the payload is sent, or there was none
	Sent   int64 // of the stream
	Acked  bool  // it has acknowledged something
	Ack    int64 // the highest offset that it acknowledged
	Since  time.Time
	Heard  time.Time // when it said something last
}

// State is the replica's state as INFO gives it.
func (n Now) State() string {
	if n.Online {
		return "online"
	}
	return "send_bulk"
}

// Behind is how many bytes the replica lacks of a history that has come to an
// offset. Before its first acknowledgement it lacks all that it was not sent.
func (n Now) Behind(end int64) int64 {
	has := n.Sent
	if n.Acked {
		has = min(has, n.Ack)
	}
	return max(0, end-has)
}

// Now is how the replica stands now.
func (r *Replica) Now() Now {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *Replica) change(f func(*Now)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.now)
}

// Host is the address that the replica gave, or else that of its connection.
func (r *Replica) Host() string {
	if r.IP != "" {
		return r.IP
	}
	host, _, _ := net.SplitHostPort(r.conn.RemoteAddr().String())
	return host
}

// Addr is the address of the replica's connection.
func (r *Replica) Addr() string { return r.conn.RemoteAddr().String() }

// Stream is what the replica is sent; nil for none.
func (r *Replica) Stream() Stream { return r.stream }

// Cut ends the connection. Any goroutine may call it.
func (r *Replica) Cut() {
	r.cancel()
	_ = r.conn.Close()
}

// feed sends what the replica is to have, until the connection ends.
func (r *Replica) feed(a Answer) error {
	if err := r.wait(a.Wait); err != nil {
		return err
	}
	if err := r.write(a.Line); err != nil {
		return err
	}
	if a.Base != nil {
		if err := r.payload(a.Base); err != nil {
			return err
		}
	}
	if a.Stream == nil || r.RDBOnly {
		return ErrRDBOnly
	}
	r.change(func(n *Now) { n.Online = true })
	if a.Held {
		select {
		case <-r.first:
		case <-r.ctx.Done():
			return net.ErrClosed
		}
	}
	for {
		n, err := a.Stream.Send(r.ctx, r.conn)
		if n > 0 {
			r.change(func(now *Now) { now.Sent += n })
		}
		if err != nil {
			return err
		}
	}
}

func (r *Replica) write(s string) error {
	if s == "" {
		return nil
	}
	_, err := r.conn.Write([]byte(s))
	return err
}

// payload sends the payload in its framing.
func (r *Replica) payload(b *Base) error {
	if b.Prepare != nil {
		if err := b.Prepare(r.ctx, r.keepAlive); err != nil {
			return err
		}
	}
	head := strconv.FormatInt(b.Size, 10)
	if b.Mark != "" {
		head = "EOF:" + b.Mark
	}
	if err := r.write("$" + head + "\r\n"); err != nil {
		return err
	}
	if err := b.Send(r.ctx, r.conn); err != nil {
		return err
	}
	return r.write(b.Mark)
}

// keepAlive sends the newline that tells a replica, which waits for an answer or
// a payload, that its master lives.
func (r *Replica) keepAlive() error { return r.write("\n") }

// wait waits, and sends newlines meanwhile.
func (r *Replica) wait(d time.Duration) error {
	every := r.of.KeepAlive
	if every == 0 {
		every = time.Second
	}
	for end := time.Now().Add(d); time.Now().Before(end); {
		select {
		case <-r.ctx.Done():
			return net.ErrClosed
		case <-time.After(min(every, time.Until(end))):
		}
		if err := r.keepAlive(); err != nil {
			return err
		}
	}
	return nil
}

// lingerTime bounds how long linger reads what the replica still sends.
const lingerTime = 500 * time.Millisecond

// linger ends the connection after exactly the bytes that were written: closing
// with unread bytes makes the kernel send a reset, and a reset takes back what
// the replica has not read yet (tcp(7), RFC 1122 4.2.2.13).
func (r *Replica) linger() {
	_ = r.conn.CloseWrite() // if it fails the connection is gone already
	select {
	case <-r.read:
	case <-time.After(lingerTime):
	}
}

// hear takes what the replica says: REPLCONF ACK, which has no answer. Everything
// else is passed over, for an answer would land in the middle of the stream.
func (r *Replica) hear() {
	defer close(r.read)
	for {
		args, err := r.conn.Query()
		if err != nil {
			r.Cut()
			return
		}
		r.change(func(n *Now) { n.Heard = time.Now() })
		if len(args) < 3 || !strings.EqualFold(string(args[0]), "REPLCONF") || !strings.EqualFold(string(args[1]), "ACK") {
			continue
		}
		if offset, ok := resp.ParseInteger(args[2]); ok {
			r.acknowledge(offset)
		}
	}
}

// acknowledge takes REPLCONF ACK offset. The FACK that may follow it, for what is
// durable, is not looked at.
func (r *Replica) acknowledge(offset int64) {
	r.change(func(n *Now) {
		if !n.Acked {
			close(r.first)
		}
		n.Acked, n.Ack = true, max(n.Ack, offset)
	})
	if f := r.of.Acked; f != nil {
		f()
	}
}
