package respport

import (
	"errors"
	"os"
	"sync"
	"time"
)

// maxMessages is how many bytes of messages may wait for a subscriber that does
// not read; in Redis client-output-buffer-limit pubsub bounds them.
const maxMessages = 1 << 20

// sender writes what a client is to read, in order: the replies to its commands,
// and the messages of its subscriptions. Whoever publishes a message does not
// wait for a client that does not read.
type sender struct {
	c       *client
	writing sync.Mutex // held by the goroutine that writes

	mu      sync.Mutex
	queue   []byte
	charged int64 // bytes of the queue that the client is charged with
	begun   bool  // a goroutine was started to write messages
	closed  bool
}

// reply queues a reply, and tells how many bytes wait. The client's goroutine
// calls flush in the end.
func (o *sender) reply(b []byte, charged int64) (waiting int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closed {
		o.queue = append(o.queue, b...)
		o.charged += charged
	}
	return len(o.queue)
}

// message queues a message, which any goroutine writes. A client with too many of
// them is cut.
func (o *sender) message(b []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	n := int64(len(b))
	if len(o.queue)+len(b) > maxMessages || !o.c.memory.take(n) {
		// Not on this goroutine: a publisher holds the lock of all subscriptions.
		o.c.s.count().Unread.Add(1)
		go o.c.cut()
		return
	}
	o.queue = append(o.queue, b...)
	o.charged += n
	if !o.begun {
		o.begun = true
		go o.flush()
	}
}

// flush writes until the queue is empty. The caller does not have the client's
// turn: flush waits for a client that does not read.
func (o *sender) flush() {
	o.writing.Lock()
	defer o.writing.Unlock()
	for {
		b, charged := o.take()
		if len(b) == 0 {
			return
		}
		o.write(b)
		o.c.memory.give(charged)
	}
}

// take takes the queue.
func (o *sender) take() (b []byte, charged int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	b, charged = o.queue, o.charged
	o.queue, o.charged, o.begun = nil, 0, false
	return b, charged
}

// close drops the queue. It may be called more than once.
func (o *sender) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed, o.queue = true, nil
}

// waiting is how many bytes are in the queue.
func (o *sender) waiting() int { return o.reply(nil, 0) }

// write writes all bytes. A client that does not take them is cut.
func (o *sender) write(p []byte) {
	c := o.c
	_ = c.conn.SetWriteDeadline(time.Now().Add(c.s.writeWithin))
	n, err := c.conn.Write(p)
	c.s.count().Out.Add(int64(n))
	c.s.count().Writes.Add(1)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.s.count().Unread.Add(1)
	}
	if err != nil {
		c.cut()
	}
}
