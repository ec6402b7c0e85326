// Package lately remembers what is slow to read: the description of an archive,
// the room on a disk. Those who show it (INFO, the metrics, the status page)
// must neither read it each time nor hang with a disk that hangs.
package lately

import (
	"sync"
	"time"
)

// Value is what was read lately. Make it by New; its methods may be called from
// any goroutine.
type Value[T any] struct {
	read  func() T
	fresh time.Duration
	share int

	mu    sync.Mutex
	last  Reading[T]
	ended chan struct{} // closed when the reading that is under way ends; nil while there is none
}

// Reading is a value, and how it was read.
type Reading[T any] struct {
	Value T
	At    time.Time     // when its reading began; zero where there was none yet
	Took  time.Duration // how long it lasted
	// Since is when the reading began that is under way; zero while there is
	// none. A value that is long since is one of a disk that hangs.
	Since time.Time
}

// New makes a value that read gives, on a goroutine, one at a time. It is good
// for fresh, and longer where reading takes long: with a share of 5 it takes a
// fifth of the time at most.
func New[T any](fresh time.Duration, share int, read func() T) *Value[T] {
	return &Value[T]{read: read, fresh: fresh, share: share}
}

// Get gives the value. Where it is not good any more it is read anew, which Get
// waits for so long at most; then it gives the last one.
func (v *Value[T]) Get(wait time.Duration) Reading[T] {
	if ended := v.begin(); ended != nil && wait > 0 {
		limit := time.NewTimer(wait)
		defer limit.Stop()
		select {
		case <-ended:
		case <-limit.C:
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.last
}

// begin begins a reading where the last one is not good, and gives what to wait
// for: nil for nothing.
func (v *Value[T]) begin() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now()
	if v.ended != nil {
		return v.ended
	}
	if !v.last.At.IsZero() && now.Sub(v.last.At) < max(v.fresh, time.Duration(v.share)*v.last.Took) {
		return nil
	}
	v.ended, v.last.Since = make(chan struct{}), now
	go v.renew(v.ended)
	return v.ended
}

func (v *Value[T]) renew(ended chan struct{}) {
	began := time.Now()
	x := v.read()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ended, v.last = nil, Reading[T]{Value: x, At: began, Took: time.Since(began)}
	close(ended)
}
