package lately

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const patience = time.Minute

func TestManyWhoAskShareOneReading(t *testing.T) {
	var reads atomic.Int64
	enter, leave := make(chan struct{}), make(chan struct{})
	v := New(time.Hour, 0, func() int64 {
		close(enter)
		<-leave
		return reads.Add(1)
	})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if r := v.Get(patience); r.Value != 1 || r.At.IsZero() || !r.Since.IsZero() {
				t.Errorf("%+v", r)
			}
		})
	}
	<-enter
	close(leave)
	wg.Wait()
	if r := v.Get(patience); r.Value != 1 || reads.Load() != 1 {
		t.Errorf("%+v after %d readings, want the first one", r, reads.Load())
	}
}

func TestAReadingThatHangsHoldsNobodyAndIsTold(t *testing.T) {
	leave := make(chan struct{})
	n := 0
	v := New(0, 0, func() int {
		if n++; n == 2 {
			<-leave
		}
		return n
	})
	if r := v.Get(patience); r.Value != 1 {
		t.Fatalf("%+v", r)
	}
	for range 3 {
		if r := v.Get(time.Millisecond); r.Value != 1 || r.Since.IsZero() {
			t.Errorf("%+v, want the last value, and that another is being read", r)
		}
	}
	if r := v.Get(0); r.Value != 1 || r.Since.IsZero() {
		t.Errorf("%+v without waiting", r)
	}
	close(leave)
	for deadline := time.Now().Add(patience); v.Get(patience).Value < 2; {
		if time.Now().After(deadline) {
			t.Fatal("what was read in the end is never shown")
		}
	}
}

func TestAShareBoundsHowMuchOfTheTimeIsSpentReading(t *testing.T) {
	reads := 0
	v := New(0, 1_000_000, func() int {
		time.Sleep(time.Millisecond) // it takes time: a million times that is good for long
		reads++
		return reads
	})
	for range 3 {
		if r := v.Get(patience); r.Value != 1 || r.Took < time.Millisecond {
			t.Errorf("%+v", r)
		}
	}
}
