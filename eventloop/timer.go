package eventloop

import (
	"container/heap"
	"math"
	"time"
)

// Timer is a time event: a function that the loop calls once, some time after
// Reset. It belongs to its loop's thread and can be used again and again, also
// from its own function. Make it with [Loop.NewTimer].
type Timer struct {
	loop     *Loop
	proc     func()
	deadline time.Duration // since loop.start, on the monotonic clock
	arming   uint64        // which Reset of the loop this was
	index    int           // in the heap; -1 when idle
}

// NewTimer makes a timer that calls proc. It is idle until Reset.
func (l *Loop) NewTimer(proc func()) *Timer {
	return &Timer{loop: l, proc: proc, index: -1}
}

// Reset arms the timer to fire once, d from now, instead of whenever it was to
// fire before. It fires late rather than early: the loop's wait is in whole
// milliseconds, and handlers come in between. d of 0 or less is the next
// iteration. Timers due at the same time fire in the order of their Resets.
// After the loop has stopped, Reset does nothing. It allocates nothing once the
// loop has had as many timers armed.
func (t *Timer) Reset(d time.Duration) {
	l := t.loop
	if l.closed {
		return
	}
	now := time.Since(l.start)
	d = max(d, 0)
	if d > math.MaxInt64-now { // some 292 years
		d = math.MaxInt64 - now
	}
	l.armings++
	t.deadline, t.arming = now+d, l.armings
	if t.index >= 0 {
		heap.Fix(&l.timers, t.index)
		return
	}
	heap.Push(&l.timers, t)
}

// Stop makes the timer idle. If it is due in this very iteration but has not
// fired yet, it will not.
func (t *Timer) Stop() {
	if t.index >= 0 {
		heap.Remove(&t.loop.timers, t.index)
	}
}

// Armed tells whether the timer is going to fire. In its own function it is
// not, unless that has Reset it.
func (t *Timer) Armed() bool { return t.index >= 0 }

// runTimers fires what was due when the wait ended, a time since start. What is
// armed meanwhile is left for the next iteration: its deadline is not before
// that time, and where it is equal it stands behind all older ones, so the
// first newer arming ends the round. Redis: processTimeEvents, ae.c.
func (l *Loop) runTimers(ended time.Duration) {
	newest := l.armings
	for len(l.timers) > 0 && l.timers[0].deadline <= ended && l.timers[0].arming <= newest {
		t := heap.Pop(&l.timers).(*Timer)
		t.proc()
	}
}

// timerHeap is a heap by deadline and then by arming; container/heap keeps it.
// Redis has a list, and says why that could be better (ae.c,
// usUntilEarliestTimer); with a few timers for each of many links a heap is.
type timerHeap []*Timer

func (h timerHeap) Len() int { return len(h) }

func (h timerHeap) Less(i, j int) bool {
	if h[i].deadline != h[j].deadline {
		return h[i].deadline < h[j].deadline
	}
	return h[i].arming < h[j].arming
}

func (h timerHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *timerHeap) Push(x any) {
	t := x.(*Timer)
	t.index = len(*h)
	*h = append(*h, t)
}

func (h *timerHeap) Pop() any {
	old := *h
	last := len(old) - 1
	t := old[last]
	old[last] = nil
	*h = old[:last]
	t.index = -1
	return t
}
