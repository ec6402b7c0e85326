package eventloop

import (
	"testing"
	"time"
)

func TestABusyPollingLoopDoesNotSleepAndSleepsAgainAfterwards(t *testing.T) {
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := l.waitMillis(); got != -1 {
		t.Fatalf("without timers the loop waits %d ms, want -1", got)
	}
	l.BusyPoll(time.Hour)
	if got := l.waitMillis(); got != 0 {
		t.Fatalf("while it polls busily the loop waits %d ms, want 0", got)
	}
	l.BusyPoll(0)
	if got := l.waitMillis(); got != -1 {
		t.Fatalf("afterwards the loop waits %d ms, want -1", got)
	}
}

func TestABusyPollingLoopStillRunsTimersAndPostsAndStops(t *testing.T) {
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	l.BusyPoll(time.Hour)
	var order []string
	timer := l.NewTimer(func() {
		order = append(order, "timer")
		l.Stop()
	})
	l.Post(func() {
		order = append(order, "post")
		timer.Reset(time.Millisecond)
	})
	if err := l.Run(); err != nil {
		t.Fatal(err)
	}
	if len(order) != 2 || order[0] != "post" || order[1] != "timer" {
		t.Fatalf("%v, want post and timer", order)
	}
}
