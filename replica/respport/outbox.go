package respport

import "sync"

// outboxSize is how many bytes may wait for a subscriber that does not read; in
// Redis client-output-buffer-limit pubsub bounds them.
const outboxSize = 1 << 20

// outbox sends messages and replies to a subscriber in their order. So no
// publisher waits for a subscriber that does not read.
type outbox struct {
	c *client

	mu     sync.Mutex
	cond   sync.Cond
	queue  []byte
	busy   bool // a write is under way
	last   bool // nothing more will come
	closed bool
}

func newOutbox(c *client) *outbox {
	o := &outbox{c: c}
	o.cond.L = &o.mu
	go o.run()
	return o
}

// push adds to the queue. A reply (wait) waits for room: a client that sends
// commands and does not read makes only itself wait. A message does not wait:
// the subscriber is cut.
func (o *outbox) push(b []byte, wait bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for wait && !o.closed && len(o.queue) > 0 && len(o.queue)+len(b) > outboxSize {
		o.cond.Wait()
	}
	if o.closed || o.last {
		return
	}
	if !wait && len(o.queue)+len(b) > outboxSize || !o.c.memory.take(int64(len(b))) {
		// Not on this goroutine: a publisher holds the lock of all subscriptions.
		o.c.s.count().Unread.Add(1)
		go o.c.cut()
		return
	}
	o.queue = append(o.queue, b...)
	o.cond.Broadcast()
}

// finish waits until everything is written. Nothing more may be pushed.
func (o *outbox) finish() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last = true
	for !o.closed && (len(o.queue) > 0 || o.busy) {
		o.cond.Wait()
	}
}

// close drops the queue. It may be called more than once.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed, o.queue = true, nil
	o.cond.Broadcast()
}

// waiting is how many bytes are in the queue.
func (o *outbox) waiting() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.queue)
}

// run writes, until the outbox is closed.
func (o *outbox) run() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		for len(o.queue) == 0 && !o.closed {
			o.cond.Wait()
		}
		if o.closed {
			return
		}
		b := o.queue
		o.queue, o.busy = nil, true
		o.mu.Unlock()
		o.c.put(b) // cuts the client, and so closes the outbox, when it fails
		o.c.memory.give(int64(len(b)))
		o.mu.Lock()
		o.busy = false
		o.cond.Broadcast()
	}
}
