package minimaster

import (
	"container/heap"
	"time"
)

// expiry says that a key may have to go at a time. It is a hint: the key may have got another expiry since, or
// none, or be gone. The truth is in the engine, and is asked when the time has come.
type expiry struct {
	at  int64 // Unix ms
	db  int
	key string
}

type expiryHeap []expiry

func (h expiryHeap) Len() int           { return len(h) }
func (h expiryHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h expiryHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *expiryHeap) Push(x any)        { *h = append(*h, x.(expiry)) }
func (h *expiryHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

// expireAt is a key's expiry in Unix ms, 0 when it has none.
func (e *Engine) expireAt(db int, key string) int64 {
	return e.db(db).TTL(key).Milliseconds()
}

// setExpire gives a key its expiry in Unix ms, which must lie within (0, maxExpiry].
func (e *Engine) setExpire(db int, key string, at int64) {
	e.db(db).SetTTL(key, time.Duration(at)*time.Millisecond)
	e.hint(db, key)
}

// hint notes the expiry a key has now. Every way by which a key can come to one must end here.
func (e *Engine) hint(db int, key string) {
	if at := e.expireAt(db, key); at > 0 {
		heap.Push(&e.due, expiry{at, db, key})
	}
}

// hintAll notes the expiries of a whole database.
func (e *Engine) hintAll(db int) {
	for _, key := range e.db(db).Keys() {
		e.hint(db, key)
	}
}

// expireDue deletes every key whose time is over and returns the DELs to propagate: the work of
// activeExpireCycle and expireIfNeeded (expire.c, db.c) in one. As there, a key lives through the very
// millisecond of its expiry. Done before each command it leaves no command a stale key to see.
func (e *Engine) expireDue() []effect {
	var gone []effect
	for len(e.due) > 0 && e.due[0].at < e.now {
		x := heap.Pop(&e.due).(expiry)
		if e.exists(x.db, x.key) && e.expireAt(x.db, x.key) == x.at {
			e.call(x.db, "DEL", x.key)
			gone = append(gone, effect{x.db, []string{"DEL", x.key}})
		}
	}
	return gone
}
