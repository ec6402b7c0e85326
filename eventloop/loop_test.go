package eventloop_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"replicad/eventloop"
)

// patience bounds every wait for something that is going to happen.
const patience = time.Minute

// newLoop is a loop that is given back at the end of the test, whether it ran
// or not.
func newLoop(t testing.TB) *eventloop.Loop {
	t.Helper()
	l, err := eventloop.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// run runs the loop here, until a handler stops it. When that does not happen
// in time the test fails.
func run(t testing.TB, l *eventloop.Loop) {
	t.Helper()
	var late atomic.Bool
	guard := time.AfterFunc(patience, func() { late.Store(true); l.Stop() })
	defer guard.Stop()
	if err := l.Run(); err != nil {
		t.Fatal(err)
	}
	if late.Load() {
		t.Fatal("the loop was not stopped in time")
	}
}

// runElsewhere runs the loop on a goroutine; the function that it returns stops
// it and waits.
func runElsewhere(t testing.TB, l *eventloop.Loop) (stop func()) {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- l.Run() }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			l.Stop()
			if err := receive(t, ended); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

// receive takes one value from a channel, in time.
func receive[T any](t testing.TB, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came in time")
		panic("unreachable")
	}
}

// on runs fn on the loop's thread and waits for it.
func on(t testing.TB, l *eventloop.Loop, fn func()) {
	t.Helper()
	done := make(chan struct{})
	if !l.Post(func() { fn(); close(done) }) {
		t.Fatal("the loop takes no posts")
	}
	receive(t, done)
}

// socketPair is two connected non-blocking descriptors. They are closed at the
// end, if they are still open.
func socketPair(t testing.TB) (int, int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[0]); unix.Close(fds[1]) })
	return fds[0], fds[1]
}

func put(t testing.TB, fd int, s string) {
	t.Helper()
	if n, err := unix.Write(fd, []byte(s)); n != len(s) || err != nil {
		t.Fatalf("write to %d: %d, %v", fd, n, err)
	}
}

// take reads what is there.
func take(t testing.TB, fd int) string {
	t.Helper()
	var b [256]byte
	n, err := unix.Read(fd, b[:])
	if err != nil {
		t.Fatalf("read from %d: %v", fd, err)
	}
	return string(b[:n])
}

func create(t testing.TB, l *eventloop.Loop, fd int, mask eventloop.Mask, proc eventloop.FileProc) {
	t.Helper()
	if err := l.CreateFileEvent(fd, mask, proc); err != nil {
		t.Fatal(err)
	}
}

func remove(t testing.TB, l *eventloop.Loop, fd int, mask eventloop.Mask) {
	t.Helper()
	if err := l.DeleteFileEvent(fd, mask); err != nil {
		t.Fatal(err)
	}
}

// loopDescriptors counts the epoll sets and eventfds of the process but for
// those of the Go runtime, which are there from the first count on.
func loopDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && (strings.Contains(target, "[eventpoll]") || strings.Contains(target, "[eventfd]")) {
			n++
		}
	}
	return n
}

func TestStopFromAHandlerEndsRun(t *testing.T) {
	l := newLoop(t)
	a, b := socketPair(t)
	put(t, b, "x")
	calls := 0
	create(t, l, a, eventloop.Readable, func(int, eventloop.Mask) { calls++; l.Stop() })
	run(t, l)
	if calls != 1 {
		t.Errorf("the handler was called %d times", calls)
	}
}

func TestStopFromATimerAndFromAPostedFunctionEndsRun(t *testing.T) {
	l := newLoop(t)
	l.NewTimer(l.Stop).Reset(0)
	run(t, l)

	l = newLoop(t)
	l.Post(l.Stop)
	run(t, l)
}

func TestStopFromAnotherGoroutineWakesAnIdleLoop(t *testing.T) {
	l := newLoop(t)
	ended := make(chan error)
	go func() { ended <- l.Run() }()
	on(t, l, func() {}) // it runs, and has nothing to wait for
	l.Stop()
	l.Stop() // twice is as good as once
	if err := receive(t, ended); err != nil {
		t.Error(err)
	}
}

func TestStopBeforeRunEndsRunAfterThePostedFunctions(t *testing.T) {
	l := newLoop(t)
	ran := false
	l.Post(func() { ran = true })
	l.Stop()
	run(t, l)
	if !ran {
		t.Error("what was posted before Stop did not run")
	}
}

func TestWhatWasPostedBeforeStopRunsAndNothingAfterIsTaken(t *testing.T) {
	l := newLoop(t)
	var got []string
	l.Post(func() {
		got = append(got, "first")
		l.Post(func() {
			got = append(got, "posted before Stop")
			if l.Post(func() { got = append(got, "posted after Stop") }) {
				t.Error("a stopping loop took a post")
			}
			if err := l.DeleteFileEvent(0, eventloop.Readable); err != nil {
				t.Errorf("the last functions cannot tidy up: %v", err)
			}
		})
		l.Stop()
	})
	run(t, l)
	if want := "[first posted before Stop]"; fmt.Sprint(got) != want {
		t.Errorf("ran %v, want %s", got, want)
	}
}

func TestAStoppedLoopAnswersWithErrorsNotWithPanics(t *testing.T) {
	ran, neverRan := newLoop(t), newLoop(t)
	for name, l := range map[string]*eventloop.Loop{"after Run": ran, "after Close": neverRan} {
		a, _ := socketPair(t)
		proc := func(int, eventloop.Mask) {}
		create(t, l, a, eventloop.Readable, proc)
		armed := l.NewTimer(func() { t.Error("a timer fired on a stopped loop") })
		armed.Reset(time.Hour)
		if l == ran {
			l.Stop()
			run(t, l)
		} else if err := l.Close(); err != nil {
			t.Fatal(err)
		}

		if err := l.Run(); !errors.Is(err, eventloop.ErrStopped) {
			t.Errorf("%s: Run: %v", name, err)
		}
		if err := l.CreateFileEvent(a, eventloop.Readable, proc); !errors.Is(err, eventloop.ErrStopped) {
			t.Errorf("%s: CreateFileEvent: %v", name, err)
		}
		if err := l.DeleteFileEvent(a, eventloop.Readable); !errors.Is(err, eventloop.ErrStopped) {
			t.Errorf("%s: DeleteFileEvent: %v", name, err)
		}
		if got := l.FileEvents(a); got != eventloop.None {
			t.Errorf("%s: FileEvents: %s", name, got)
		}
		if l.Post(func() {}) {
			t.Errorf("%s: Post is taken", name)
		}
		if armed.Armed() {
			t.Errorf("%s: a timer is armed that cannot fire", name)
		}
		armed.Stop()
		armed.Reset(0)
		if timer := l.NewTimer(func() {}); armed.Armed() || timer.Armed() {
			t.Errorf("%s: a timer can be armed", name)
		}
		l.Stop()
		if err := l.Close(); err != nil {
			t.Errorf("%s: Close: %v", name, err)
		}
	}
}

func TestALoopThatRunsCanNeitherBeRunNorClosed(t *testing.T) {
	l := newLoop(t)
	l.Post(func() {
		if err := l.Run(); !errors.Is(err, eventloop.ErrRunning) {
			t.Errorf("Run: %v", err)
		}
		if err := l.Close(); !errors.Is(err, eventloop.ErrRunning) {
			t.Errorf("Close: %v", err)
		}
		l.Stop()
	})
	run(t, l)
}

func TestNoDescriptorIsLeftAfterRunOrClose(t *testing.T) {
	os.Stdin.SetReadDeadline(time.Time{}) // start the runtime's own poller, if it has not started yet
	l := newLoop(t)
	l.Stop()
	run(t, l)
	before := loopDescriptors(t)
	for range 10 {
		l, err := eventloop.New()
		if err != nil {
			t.Fatal(err)
		}
		if got := loopDescriptors(t); got != before+2 {
			t.Fatalf("a loop has %d descriptors, want 2", got-before)
		}
		l.Post(l.Stop)
		run(t, l)
		if got := loopDescriptors(t); got != before {
			t.Fatalf("%d descriptors are left after Run", got-before)
		}
		l, err = eventloop.New()
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // idempotent
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if got := loopDescriptors(t); got != before {
			t.Fatalf("%d descriptors are left after Close", got-before)
		}
	}
}

func TestEverythingRunsOnTheOneThreadOfRun(t *testing.T) {
	l := newLoop(t)
	a, b := socketPair(t)
	put(t, b, "x")
	var threads []int
	note := func() { threads = append(threads, unix.Gettid()) }
	create(t, l, a, eventloop.Readable, func(int, eventloop.Mask) {
		note()
		take(t, a)
	})
	l.NewTimer(note).Reset(0)
	l.NewTimer(func() { note(); l.Stop() }).Reset(20 * time.Millisecond)
	l.Post(note)
	run(t, l)
	if len(threads) != 4 {
		t.Fatalf("%d of 4 ran", len(threads))
	}
	for _, id := range threads {
		if id != threads[0] {
			t.Errorf("ran on the threads %v", threads)
		}
	}
}

func TestPostedFunctionsRunInOrder(t *testing.T) {
	l := newLoop(t)
	var got []int
	for i := range 1000 {
		if !l.Post(func() { got = append(got, i) }) {
			t.Fatal("not taken")
		}
	}
	l.Post(l.Stop)
	run(t, l)
	for i, v := range got {
		if i != v {
			t.Fatalf("number %d ran as number %d", v, i)
		}
	}
	if len(got) != 1000 {
		t.Errorf("%d of 1000 ran", len(got))
	}
}

func TestAPostStormFromManyGoroutinesLosesNothingAndKeepsEachOnesOrder(t *testing.T) {
	l := newLoop(t)
	stop := runElsewhere(t, l)
	const goroutines, posts = 8, 5000
	var last [goroutines]int // of the loop's thread
	total := 0
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := 1; i <= posts; i++ {
				if !l.Post(func() {
					if i != last[g]+1 {
						t.Errorf("goroutine %d: post %d came after %d", g, i, last[g])
					}
					last[g] = i
					total++
				}) {
					t.Errorf("goroutine %d: post %d was not taken", g, i)
				}
			}
		})
	}
	wg.Wait()
	stop()
	if total != goroutines*posts {
		t.Errorf("%d of %d ran", total, goroutines*posts)
	}
}

func TestPostsThatRaceWithStopRunIfAndOnlyIfTheyWereTaken(t *testing.T) {
	for range 50 {
		l := newLoop(t)
		stop := runElsewhere(t, l)
		var taken, ran atomic.Int64
		var wg sync.WaitGroup
		started := make(chan struct{}, 4)
		for range 4 {
			wg.Go(func() {
				for first := true; l.Post(func() { ran.Add(1) }); first = false {
					taken.Add(1)
					if first {
						started <- struct{}{}
					}
				}
			})
		}
		receive(t, started)
		stop()
		wg.Wait()
		if taken.Load() != ran.Load() {
			t.Fatalf("%d were taken, %d ran", taken.Load(), ran.Load())
		}
	}
}

func TestAPostFromAPostedFunctionWaitsForTheNextIterationAndDoesNotStarveFiles(t *testing.T) {
	l := newLoop(t)
	a, b := socketPair(t)
	put(t, b, "x") // readable in every iteration: nobody reads it
	var got []string
	create(t, l, a, eventloop.Readable, func(int, eventloop.Mask) { got = append(got, "file") })
	var again func()
	rounds := 0
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
	if want := strings.TrimSuffix(strings.Repeat("file post ", 5), " "); strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestNothingIsPostedWithoutAFunction(t *testing.T) {
	if newLoop(t).Post(nil) {
		t.Error("nil was taken")
	}
}
