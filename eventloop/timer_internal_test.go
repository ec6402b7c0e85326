package eventloop

import (
	"math"
	"slices"
	"testing"
	"time"
)

// The longest time from now is the end of the clock, whenever it is asked for:
// the one deadline that many Resets can share.
func TestTimersWithEqualDeadlinesFireInTheOrderOfTheirResets(t *testing.T) {
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var got, want []int
	timers := make([]*Timer, 100)
	for i := range timers {
		timers[i] = l.NewTimer(func() {
			got = append(got, i)
			if i == 50 {
				timers[0].Reset(math.MaxInt64) // due at this very time again, but armed in this round
			}
		})
		timers[i].Reset(math.MaxInt64)
		want = append(want, i)
	}
	for _, i := range []int{3, 97} { // reset once more: behind all others
		timers[i].Reset(math.MaxInt64)
		want = append(slices.DeleteFunc(want, func(w int) bool { return w == i }), i)
	}
	if timers[0].deadline != timers[99].deadline {
		t.Fatalf("the deadlines are %d and %d, the test needs them equal", timers[0].deadline, timers[99].deadline)
	}
	l.runTimers(math.MaxInt64)
	if !slices.Equal(got, want) {
		t.Errorf("fired as %v", got)
	}
	if !timers[0].Armed() || timers[1].Armed() {
		t.Error("the timer that was armed during the round, and no other, waits for the next one")
	}
}

func TestTheWaitIsRoundedUpToMillisecondsAndFitsEpollWait(t *testing.T) {
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := l.waitMillis(); got != -1 {
		t.Errorf("without a timer: %d, want -1", got)
	}
	timer := l.NewTimer(func() {})
	for _, c := range []struct {
		left     time.Duration
		from, to int // what it may be: time goes on between Reset and the question
	}{
		{0, 0, 0},
		{31 * 24 * time.Hour, 1, math.MaxInt32},
		{math.MaxInt64, 1, math.MaxInt32},
		{time.Hour - time.Nanosecond, int((time.Hour - time.Minute) / time.Millisecond), int(time.Hour / time.Millisecond)},
	} {
		timer.Reset(c.left)
		if got := l.waitMillis(); got < c.from || got > c.to {
			t.Errorf("%s left: %d ms, want %d to %d", c.left, got, c.from, c.to)
		}
	}
	for range 100 { // 0 would be a wait that ends before the timer is due
		timer.Reset(900 * time.Microsecond)
		got := l.waitMillis()
		if l.timers[0].deadline > time.Since(l.start) && got != 1 {
			t.Fatalf("less than a millisecond left: %d ms, want 1", got)
		}
	}
}
