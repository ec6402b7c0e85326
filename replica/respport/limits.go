package respport

import (
	"errors"
	"sync"
	"sync/atomic"
)

// errMemory is what a client is told that needs more memory than is left.
var errMemory = errors.New("the clients together hold more than maxmemory-clients")

// budget is the memory that all clients share.
type budget struct {
	max  int64
	used atomic.Int64
}

// account is what one client has of the budget.
type account struct {
	b      *budget
	mu     sync.Mutex
	held   int64
	closed bool
}

// take takes n bytes; false if as many are not left.
func (a *account) take(n int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return false
	}
	if a.b.used.Add(n) > a.b.max {
		a.b.used.Add(-n)
		return false
	}
	a.held += n
	return true
}

// give gives n bytes back that were taken.
func (a *account) give(n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed {
		a.held -= n
		a.b.used.Add(-n)
	}
}

// close gives everything back. From then on take fails.
func (a *account) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed {
		a.closed = true
		a.b.used.Add(-a.held)
	}
}

func (a *account) holds() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.held
}

// turns bound how many clients are answered at a time. The loop's goroutine must
// find a processor when bytes of its master come; hundreds of clients that all
// ask something would make it wait. Clients get their turns in the order in which
// they came.
type turns chan struct{}

// turn is a client's. The client has its turn from when bytes came until it
// waits for more of them, but not while it waits for anything else.
type turn struct {
	of  turns
	has bool
}

func (t *turn) take() {
	t.of <- struct{}{}
	t.has = true
}

// give may be called without having the turn.
func (t *turn) give() {
	if t.has {
		t.has = false
		<-t.of
	}
}

// waiting calls a function that may block, while others have the turn.
func (t *turn) waiting(do func()) {
	t.give()
	defer t.take()
	do()
}
