package respport

import (
	"errors"
	"sync"
	"sync/atomic"
)

// errMemory is what a client is told that asks for more than there is.
var errMemory = errors.New("the clients together hold more than maxmemory-clients")

// budget is the memory that all clients share.
type budget struct {
	max  int64
	used atomic.Int64
}

// account is what one client has of it.
type account struct {
	b      *budget
	mu     sync.Mutex
	held   int64
	closed bool
}

// take takes n bytes, where there are as many.
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

// close gives all back, and takes nothing any more.
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
