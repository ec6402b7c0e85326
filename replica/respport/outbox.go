package respport

import "sync"

// outboxSize is how much may wait for a subscriber that does not read, as
// client-output-buffer-limit pubsub bounds it in Redis.
const outboxSize = 1 << 20

// outbox carries messages and replies to a subscriber in their order, so that
// nobody who publishes waits for one who does not read.
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

// push adds to the queue. A reply waits for room: who sends commands and does
// not read waits for himself. A message does not: the subscriber is cut.
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
		// Not here: who publishes holds the lock of all subscriptions.
		o.c.s.stats.unread.Add(1)
		go o.c.cut("it does not read its messages")
		return
	}
	o.queue = append(o.queue, b...)
	o.cond.Broadcast()
}

// finish waits until all is written; nothing more may be pushed.
func (o *outbox) finish() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last = true
	for !o.closed && (len(o.queue) > 0 || o.busy) {
		o.cond.Wait()
	}
}

// close drops what waits. It may be called more than once.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed, o.queue = true, nil
	o.cond.Broadcast()
}

// waiting is how many bytes are.
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
		_, err := o.c.put(b) // cuts the client when it fails
		o.c.memory.give(int64(len(b)))
		o.mu.Lock()
		o.busy = false
		o.cond.Broadcast()
		if err != nil {
			return
		}
	}
}
