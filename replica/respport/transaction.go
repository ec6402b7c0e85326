package respport

import "bytes"

// maxQueued is how many commands a transaction may hold.
const maxQueued = 1024

// transaction is what stands between MULTI and EXEC.
type transaction struct {
	open  bool
	dirty bool // a command was refused: EXEC refuses all of them
	queue []queued
	size  int64 // bytes that the client is charged with
}

type queued struct {
	cmd  *command
	args [][]byte
}

// enqueue keeps a command for EXEC.
func (q *request) enqueue() {
	tx := &q.c.tx
	n := int64(perArg)
	for _, a := range q.args {
		n += int64(len(a) + perArg)
	}
	if len(tx.queue) >= maxQueued || !q.c.memory.take(n) {
		q.refuse("ERR the transaction is too large")
		return
	}
	args := make([][]byte, len(q.args))
	for i, a := range q.args {
		args[i] = bytes.Clone(a)
	}
	tx.size += n
	tx.queue = append(tx.queue, queued{q.cmd, args})
	q.status("QUEUED")
}

// endTransaction forgets the transaction.
func (c *client) endTransaction() {
	c.memory.give(c.tx.size)
	c.tx = transaction{}
}

func multi(q *request) {
	if q.c.tx.open {
		q.error("ERR MULTI calls can not be nested")
		return
	}
	q.c.tx.open = true
	q.ok()
}

func discard(q *request) {
	if !q.c.tx.open {
		q.error("ERR DISCARD without MULTI")
		return
	}
	q.c.endTransaction()
	q.ok()
}

// exec executes the queue. No order of another client comes between.
func exec(q *request) {
	tx := q.c.tx
	if !tx.open {
		q.error("ERR EXEC without MULTI")
		return
	}
	q.c.endTransaction()
	if tx.dirty {
		q.error("EXECABORT Transaction discarded because of previous errors.")
		return
	}
	q.waiting(q.s.orders.Lock)
	defer q.s.orders.Unlock()
	q.array(len(tx.queue))
	for _, k := range tx.queue {
		if len(q.b) > maxMessages {
			q.b = q.b[:0] // better no reply than a part of one
			q.error("ERR the replies of the transaction are too large")
			q.c.closing = true
			return
		}
		one := *q
		one.cmd, one.args, one.inExec = k.cmd, k.args, true
		one.call()
	}
}
