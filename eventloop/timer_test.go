package eventloop_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"replicad/eventloop"
)

func TestATimerFiresOnceAndNotBeforeItsTime(t *testing.T) {
	l := newLoop(t)
	const d = 25 * time.Millisecond
	start, fired := time.Now(), 0
	timer := l.NewTimer(func() {
		fired++
		if took := time.Since(start); took < d {
			t.Errorf("fired after %s, %s too early", took, d-took)
		}
	})
	timer.Reset(d)
	l.NewTimer(l.Stop).Reset(2 * d)
	run(t, l)
	if fired != 1 {
		t.Errorf("fired %d times", fired)
	}
}

func TestTimersFireInTheOrderOfTheirDeadlines(t *testing.T) {
	l := newLoop(t)
	var got []int
	for _, ms := range rand.Perm(40) {
		l.NewTimer(func() { got = append(got, ms) }).Reset(time.Duration(ms) * time.Millisecond)
	}
	l.NewTimer(l.Stop).Reset(60 * time.Millisecond)
	run(t, l)
	if len(got) != 40 || !slices.IsSorted(got) {
		t.Errorf("fired as %v", got)
	}
}

func TestTimersResetToZeroFireInTheOrderOfTheirResets(t *testing.T) {
	l := newLoop(t)
	var got, want []int
	for i := range 100 {
		l.NewTimer(func() { got = append(got, i) }).Reset(0)
		want = append(want, i)
	}
	l.NewTimer(l.Stop).Reset(0)
	run(t, l)
	if !slices.Equal(got, want) {
		t.Errorf("fired as %v", got)
	}
}

func TestATimerCanBeResetStoppedAndAsked(t *testing.T) {
	l := newLoop(t)
	fired := 0
	var timer *eventloop.Timer
	timer = l.NewTimer(func() {
		if timer.Armed() {
			t.Error("armed in its own function")
		}
		if fired++; fired < 3 {
			timer.Reset(time.Millisecond)
			if !timer.Armed() {
				t.Error("not armed after Reset in its own function")
			}
		}
	})
	if timer.Armed() {
		t.Error("armed before Reset")
	}
	timer.Stop() // idle already
	timer.Reset(time.Hour)
	if !timer.Armed() {
		t.Error("not armed after Reset")
	}
	timer.Reset(time.Millisecond) // earlier
	stopped := l.NewTimer(func() { t.Error("a stopped timer fired") })
	stopped.Reset(time.Millisecond)
	stopped.Stop()
	if stopped.Armed() {
		t.Error("armed after Stop")
	}
	later := l.NewTimer(func() { t.Error("fired at the time before the Reset") })
	later.Reset(0)
	later.Reset(time.Hour)
	l.NewTimer(l.Stop).Reset(50 * time.Millisecond)
	run(t, l)
	if fired != 3 {
		t.Errorf("fired %d times, want 3", fired)
	}
}

func TestATimerThatIsDueAndStoppedByAnEarlierOneDoesNotFire(t *testing.T) {
	l := newLoop(t)
	var second *eventloop.Timer
	l.NewTimer(func() { second.Stop() }).Reset(0)
	second = l.NewTimer(func() { t.Error("fired") })
	second.Reset(0)
	l.NewTimer(l.Stop).Reset(5 * time.Millisecond)
	run(t, l)
}

func TestATimerThatResetsItselfToZeroDoesNotStarveFilesOrOtherTimersOrPosts(t *testing.T) {
	l := newLoop(t)
	a, b := socketPair(t)
	put(t, b, "x") // readable in every iteration: nobody reads it
	var got []string
	create(t, l, a, eventloop.Readable, func(int, eventloop.Mask) { got = append(got, "file") })
	var greedy, modest *eventloop.Timer
	greedy = l.NewTimer(func() { got = append(got, "greedy"); greedy.Reset(0) })
	modest = l.NewTimer(func() { got = append(got, "modest"); modest.Reset(-time.Second) })
	greedy.Reset(0)
	modest.Reset(0)
	rounds := 0
	var again func()
	again = func() {
		got = append(got, "post")
		if rounds++; rounds == 5 {
			l.Stop()
			return
		}
		l.Post(again)
	}
	l.Post(again)
	run(t, l)
	if want := strings.TrimSpace(strings.Repeat("file greedy modest post ", 5)); strings.Join(got, " ") != want {
		t.Errorf("got  %v\nwant %s", got, want)
	}
}

func TestALongTimerDoesNotOverflow(t *testing.T) {
	l := newLoop(t)
	forever := l.NewTimer(func() { t.Error("fired") })
	forever.Reset(math.MaxInt64)
	month := l.NewTimer(func() { t.Error("fired") }) // its milliseconds do not fit epoll_wait's int32
	month.Reset(31 * 24 * time.Hour)
	l.NewTimer(l.Stop).Reset(5 * time.Millisecond)
	run(t, l)

	l = newLoop(t) // the long wait itself
	l.NewTimer(func() { t.Error("fired") }).Reset(math.MaxInt64)
	stop := runElsewhere(t, l)
	on(t, l, func() {})
	stop()
}

func TestManyTimersStoppedAndResetAtRandomFireExactlyWhenArmed(t *testing.T) {
	l := newLoop(t)
	const timers = 300
	fired, want := make([]int, timers), make([]int, timers)
	all := make([]*eventloop.Timer, timers)
	for i := range all {
		all[i] = l.NewTimer(func() { fired[i]++ })
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 20 * timers {
		i := random.IntN(timers)
		if random.IntN(3) == 0 {
			all[i].Stop()
			want[i] = 0
		} else {
			all[i].Reset(time.Duration(random.IntN(20)) * time.Millisecond)
			want[i] = 1
		}
	}
	l.NewTimer(l.Stop).Reset(40 * time.Millisecond)
	run(t, l)
	if fmt.Sprint(fired) != fmt.Sprint(want) {
		t.Errorf("fired %v\nwant  %v", fired, want)
	}
}

func TestSignalsNeitherEndNorDisturbTheWait(t *testing.T) {
	l := newLoop(t)
	tid := make(chan int, 1)
	l.Post(func() { tid <- unix.Gettid() })
	const d = 100 * time.Millisecond
	fired := make(chan time.Duration, 1)
	start := time.Now()
	l.NewTimer(func() { fired <- time.Since(start) }).Reset(d)
	runElsewhere(t, l)
	thread := receive(t, tid)
	tick := time.NewTicker(2 * time.Millisecond) // SIGURG: the Go runtime takes it and does nothing, epoll_wait says EINTR
	defer tick.Stop()
	for sent := 0; ; sent++ {
		select {
		case took := <-fired:
			if took < d {
				t.Errorf("fired after %s, want %s", took, d)
			}
			if sent == 0 {
				t.Error("no signal was sent")
			}
			return
		case <-tick.C:
			if err := unix.Tgkill(unix.Getpid(), thread, unix.SIGURG); err != nil {
				t.Fatal(err)
			}
		case <-time.After(patience):
			t.Fatal("the timer did not fire")
		}
	}
}
