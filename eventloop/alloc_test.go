package eventloop_test

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"replicad/eventloop"
)

// rig is a running loop with one of each kind of event; its functions make one
// happen and wait for it without allocating themselves.
type rig struct {
	l     *eventloop.Loop
	fd    int
	peer  int
	timer *eventloop.Timer
	done  chan struct{}

	posted, armed func()
	one, buf      []byte
}

func newRig(t testing.TB) *rig {
	r := &rig{l: newLoop(t), done: make(chan struct{}, 1), one: []byte{1}, buf: make([]byte, 16)}
	r.fd, r.peer = socketPair(t)
	r.timer = r.l.NewTimer(r.finish)
	r.posted = r.finish
	r.armed = func() { r.timer.Reset(0) }
	create(t, r.l, r.fd, eventloop.Readable, func(fd int, _ eventloop.Mask) {
		unix.Read(fd, r.buf)
		r.finish()
	})
	runElsewhere(t, r.l)
	return r
}

func (r *rig) finish() { r.done <- struct{}{} }

func (r *rig) event() {
	unix.Write(r.peer, r.one)
	<-r.done
}

func (r *rig) post() {
	r.l.Post(r.posted)
	<-r.done
}

// timerRound is a post that arms the timer, and the timer.
func (r *rig) timerRound() {
	r.l.Post(r.armed)
	<-r.done
}

func TestEventsTimersAndPostsAllocateNothing(t *testing.T) {
	r := newRig(t)
	for name, round := range map[string]func(){"event": r.event, "post": r.post, "timer": r.timerRound} {
		for range 10 { // buffers grow, the runtime warms up
			round()
		}
		if n := testing.AllocsPerRun(200, round); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func TestChangingARegistrationAllocatesNothing(t *testing.T) {
	l := newLoop(t)
	a, _ := socketPair(t)
	proc := func(int, eventloop.Mask) {}
	if n := testing.AllocsPerRun(200, func() {
		create(t, l, a, eventloop.Readable, proc)
		create(t, l, a, eventloop.Writable, proc)
		remove(t, l, a, eventloop.Writable)
		remove(t, l, a, eventloop.Readable)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkEvent(b *testing.B) {
	r := newRig(b)
	b.ReportAllocs()
	for b.Loop() {
		r.event()
	}
}

func BenchmarkPost(b *testing.B) {
	r := newRig(b)
	b.ReportAllocs()
	for b.Loop() {
		r.post()
	}
}

// BenchmarkPostStorm posts without waiting for each: how the flusher reports.
func BenchmarkPostStorm(b *testing.B) {
	r := newRig(b)
	nothing := func() {}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%1000 == 999 {
			r.post() // wait, so that the queue stays short
		}
		r.l.Post(nothing)
	}
}

// BenchmarkTimer is a timer that resets itself to zero: one iteration of the
// loop for each.
func BenchmarkTimer(b *testing.B) {
	l := newLoop(b)
	left := b.N
	var timer *eventloop.Timer
	timer = l.NewTimer(func() {
		if left--; left <= 0 {
			l.Stop()
			return
		}
		timer.Reset(0)
	})
	timer.Reset(0)
	b.ReportAllocs()
	b.ResetTimer()
	run(b, l)
}

// BenchmarkReset moves one of a thousand armed timers, as every byte of a link
// moves its timeout.
func BenchmarkReset(b *testing.B) {
	l := newLoop(b)
	timers := make([]*eventloop.Timer, 1000)
	for i := range timers {
		timers[i] = l.NewTimer(func() {})
		timers[i].Reset(time.Hour)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		timers[i%len(timers)].Reset(time.Hour)
	}
}
