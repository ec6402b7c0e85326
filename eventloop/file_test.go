package eventloop_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"replicad/eventloop"
)

func TestMasksPrintAsInAeAndAsInEpoll(t *testing.T) {
	all := eventloop.Readable | eventloop.Writable | eventloop.Err | eventloop.HangUp
	for _, c := range []struct {
		mask      eventloop.Mask
		ae, epoll string
	}{
		{eventloop.None, "NONE", "0"},
		{eventloop.Readable, "READABLE", "EPOLLIN"},
		{eventloop.Readable | eventloop.Writable, "READABLE|WRITABLE", "EPOLLIN|EPOLLOUT"},
		{eventloop.Writable | eventloop.Err, "WRITABLE|ERR", "EPOLLOUT|EPOLLERR"},
		{all, "READABLE|WRITABLE|ERR|HUP", "EPOLLIN|EPOLLOUT|EPOLLERR|EPOLLHUP"},
	} {
		if got := c.mask.String(); got != c.ae {
			t.Errorf("String: %s, want %s", got, c.ae)
		}
		if got := c.mask.EpollNames(); got != c.epoll {
			t.Errorf("EpollNames: %s, want %s", got, c.epoll)
		}
	}
}

func TestAReadableDescriptorIsReportedUntilItIsRead(t *testing.T) {
	l := newLoop(t)
	a, b := socketPair(t)
	put(t, b, "hello")
	calls := 0
	create(t, l, a, eventloop.Readable, func(fd int, mask eventloop.Mask) {
		if fd != a || mask != eventloop.Readable {
			t.Errorf("called for %d with %s", fd, mask)
		}
		switch calls++; calls {
		case 3: // level-triggered: twice it was left unread
			if got := take(t, fd); got != "hello" {
				t.Errorf("read %q", got)
			}
			l.NewTimer(l.Stop).Reset(10 * time.Millisecond)
		case 4:
			t.Error("reported after it was read")
		}
	})
	run(t, l)
	if calls != 3 {
		t.Errorf("%d calls", calls)
	}
}

func TestAProcRegisteredForBothInOneCallIsCalledOnceWithBothBits(t *testing.T) {
	l := newLoop(t)
	a, b := socketPair(t)
	put(t, b, "x")
	var got []eventloop.Mask
	create(t, l, a, eventloop.Readable|eventloop.Writable, func(_ int, mask eventloop.Mask) {
		got = append(got, mask)
		l.Stop()
	})
	run(t, l)
	if !slices.Equal(got, []eventloop.Mask{eventloop.Readable | eventloop.Writable}) {
		t.Errorf("called with %v", got)
	}
}

func TestAProcRegisteredForBothGetsOnlyWhatIsReady(t *testing.T) {
	l := newLoop(t)
	a, _ := socketPair(t)
	create(t, l, a, eventloop.Readable|eventloop.Writable, func(_ int, mask eventloop.Mask) {
		if mask != eventloop.Writable {
			t.Errorf("called with %s; there is nothing to read", mask)
		}
		l.Stop()
	})
	run(t, l)
}

func TestSeparateProcsAreCalledReadableFirstThenWritable(t *testing.T) {
	l := newLoop(t)
	a, b := socketPair(t)
	put(t, b, "x")
	var got []string
	note := func(_ int, mask eventloop.Mask) {
		got = append(got, mask.String())
		l.Stop()
	}
	create(t, l, a, eventloop.Writable, note) // in the other order, and the same function twice
	create(t, l, a, eventloop.Readable, note)
	run(t, l)
	if fmt.Sprint(got) != "[READABLE WRITABLE]" {
		t.Errorf("called with %v", got)
	}
}

func TestTheWritableProcIsNotCalledIfTheReadableOneRemovedIt(t *testing.T) {
	for name, change := range map[string]func(l *eventloop.Loop, fd int){
		"removed": func(l *eventloop.Loop, fd int) { remove(t, l, fd, eventloop.Writable) },
		"removed both": func(l *eventloop.Loop, fd int) {
			remove(t, l, fd, eventloop.Readable|eventloop.Writable)
		},
		"removed and registered anew": func(l *eventloop.Loop, fd int) {
			remove(t, l, fd, eventloop.Readable|eventloop.Writable)
			create(t, l, fd, eventloop.Writable, func(int, eventloop.Mask) {})
		},
		"replaced": func(l *eventloop.Loop, fd int) {
			create(t, l, fd, eventloop.Writable, func(int, eventloop.Mask) {})
		},
	} {
		l := newLoop(t)
		a, b := socketPair(t)
		put(t, b, "x")
		create(t, l, a, eventloop.Writable, func(int, eventloop.Mask) {
			t.Errorf("%s: the old writable handler was called", name)
		})
		create(t, l, a, eventloop.Readable, func(int, eventloop.Mask) {
			change(l, a)
			l.Stop()
		})
		run(t, l)
	}
}

func TestAHandlerMayReplaceItselfAsTheHandshakeDoes(t *testing.T) {
	l := newLoop(t)
	a, b := socketPair(t)
	var got []string
	receive := func(_ int, mask eventloop.Mask) {
		got = append(got, "receive "+mask.String()+" "+take(t, a))
		l.Stop()
	}
	create(t, l, a, eventloop.Readable|eventloop.Writable, func(_ int, mask eventloop.Mask) {
		got = append(got, "connected "+mask.String())
		remove(t, l, a, eventloop.Writable)
		create(t, l, a, eventloop.Readable, receive)
		put(t, b, "+PONG")
	})
	run(t, l)
	if want := "[connected WRITABLE receive READABLE +PONG]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

// twoReady is a loop with two descriptors that are both readable; first gets
// the loop's first call of the batch, whichever of the two it is for, and
// second every call after that.
func twoReady(t *testing.T, first func(l *eventloop.Loop, other int), second eventloop.FileProc) {
	t.Helper()
	l := newLoop(t)
	a, b := socketPair(t)
	c, d := socketPair(t)
	put(t, b, "x")
	put(t, d, "x")
	calls := 0
	for _, fd := range []int{a, c} {
		create(t, l, fd, eventloop.Readable, func(fd int, mask eventloop.Mask) {
			if calls++; calls > 1 {
				second(fd, mask)
				return
			}
			first(l, a+c-fd)
			l.Stop() // ends the loop after this batch
		})
	}
	run(t, l)
}

func TestBothEventsOfABatchAreDeliveredWhenNobodyRemovesOne(t *testing.T) {
	delivered := 0
	twoReady(t, func(*eventloop.Loop, int) {}, func(int, eventloop.Mask) { delivered++ })
	if delivered != 1 {
		t.Errorf("the second event was delivered %d times; the tests that follow rest on 1", delivered)
	}
}

func TestAnEventOfTheSameBatchIsNotDeliveredToARemovedHandler(t *testing.T) {
	twoReady(t, func(l *eventloop.Loop, other int) {
		remove(t, l, other, eventloop.Readable)
	}, func(fd int, mask eventloop.Mask) {
		t.Errorf("delivered to %d: %s", fd, mask)
	})
}

func TestAnEventOfTheSameBatchIsNotDeliveredToADescriptorReopenedUnderTheSameNumber(t *testing.T) {
	twoReady(t, func(l *eventloop.Loop, other int) {
		remove(t, l, other, eventloop.Readable)
		reopen(t, other)
		create(t, l, other, eventloop.Readable, func(fd int, mask eventloop.Mask) {
			t.Errorf("the new %d has nothing to read and got %s", fd, mask)
		})
	}, func(fd int, mask eventloop.Mask) {
		t.Errorf("delivered to %d's old handler: %s", fd, mask)
	})
}

func TestAnEventOfTheSameBatchIsNotDeliveredAfterRemovingAndRegisteringTheSameDescriptor(t *testing.T) {
	var fresh []eventloop.Mask
	twoReady(t, func(l *eventloop.Loop, other int) {
		remove(t, l, other, eventloop.Readable)
		create(t, l, other, eventloop.Readable, func(_ int, mask eventloop.Mask) { fresh = append(fresh, mask) })
	}, func(fd int, mask eventloop.Mask) {
		t.Errorf("delivered to %d's old handler: %s", fd, mask)
	})
	if len(fresh) != 0 {
		t.Errorf("the new registration got %v of a batch from before its time", fresh)
	}
}

// reopen closes a descriptor and opens a socket, with nothing to read, under
// the same number.
func reopen(t *testing.T, fd int) {
	t.Helper()
	fresh, peer, err := func() (int, int, error) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		return fds[0], fds[1], err
	}()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(peer) })
	if err := unix.Dup3(fresh, fd, unix.O_CLOEXEC); err != nil { // closes fd first
		t.Fatal(err)
	}
	unix.Close(fresh)
}

func TestADescriptorClosedBehindTheLoopsBackIsTakenAsANewOne(t *testing.T) {
	l := newLoop(t)
	a, _ := socketPair(t)
	create(t, l, a, eventloop.Readable, func(fd int, mask eventloop.Mask) {
		t.Errorf("the handler of the closed descriptor got %s", mask)
	})
	reopen(t, a) // no DeleteFileEvent
	calls := 0
	create(t, l, a, eventloop.Writable, func(_ int, mask eventloop.Mask) {
		if calls++; mask != eventloop.Writable {
			t.Errorf("got %s", mask)
		}
		l.Stop()
	})
	if got := l.FileEvents(a); got != eventloop.Writable {
		t.Errorf("registered for %s, want WRITABLE: the old registration is void", got)
	}
	run(t, l)
	if calls != 1 {
		t.Errorf("%d calls", calls)
	}
}

func TestAnEventOfTheSameBatchIsNotDeliveredToADescriptorClosedBehindTheLoopsBack(t *testing.T) {
	twoReady(t, func(l *eventloop.Loop, other int) {
		reopen(t, other)
		create(t, l, other, eventloop.Readable, func(fd int, mask eventloop.Mask) {
			t.Errorf("the new %d has nothing to read and got %s", fd, mask)
		})
	}, func(fd int, mask eventloop.Mask) {
		t.Errorf("delivered to %d's old handler: %s", fd, mask)
	})
}

func TestARegistrationOfAClosedDescriptorIsAnErrorAndForgotten(t *testing.T) {
	l := newLoop(t)
	a, _ := socketPair(t)
	create(t, l, a, eventloop.Readable, func(int, eventloop.Mask) {})
	closed := closedNumber(t, a)
	err := l.CreateFileEvent(closed, eventloop.Writable, func(int, eventloop.Mask) {})
	if !errors.Is(err, unix.EBADF) {
		t.Errorf("got %v, want EBADF", err)
	}
	if got := l.FileEvents(closed); got != eventloop.None {
		t.Errorf("still registered for %s", got)
	}
}

// closedNumber closes a descriptor behind everyone's back. Nothing opens
// descriptors at the same time in these tests.
func closedNumber(t *testing.T, fd int) int {
	t.Helper()
	if err := unix.Close(fd); err != nil {
		t.Fatal(err)
	}
	return fd
}

func TestDeletingWhatIsClosedOrUnknownIsNoErrorButLosingTheOtherBitIs(t *testing.T) {
	l := newLoop(t)
	for _, fd := range []int{-1, 0, 1 << 20} {
		if err := l.DeleteFileEvent(fd, eventloop.Readable|eventloop.Writable); err != nil {
			t.Errorf("%d, never registered: %v", fd, err)
		}
	}
	proc := func(int, eventloop.Mask) {}

	a, _ := socketPair(t)
	create(t, l, a, eventloop.Readable, proc)
	if err := l.DeleteFileEvent(a, eventloop.Writable); err != nil || l.FileEvents(a) != eventloop.Readable {
		t.Errorf("a bit that is not registered: %v, left %s", err, l.FileEvents(a))
	}
	closedNumber(t, a)
	if err := l.DeleteFileEvent(a, eventloop.Readable); err != nil {
		t.Errorf("closed: %v", err)
	}

	b, _ := socketPair(t)
	create(t, l, b, eventloop.Readable|eventloop.Writable, proc)
	reopen(t, b)
	if err := l.DeleteFileEvent(b, eventloop.Writable); !errors.Is(err, unix.ENOENT) || l.FileEvents(b) != eventloop.None {
		t.Errorf("reopened, with a bit to keep: %v, left %s; want ENOENT, NONE", err, l.FileEvents(b))
	}
}

func TestFileEventsTellsWhatIsRegistered(t *testing.T) {
	l := newLoop(t)
	a, _ := socketPair(t)
	proc := func(int, eventloop.Mask) {}
	check := func(want eventloop.Mask) {
		t.Helper()
		if got := l.FileEvents(a); got != want {
			t.Errorf("registered for %s, want %s", got, want)
		}
	}
	check(eventloop.None)
	create(t, l, a, eventloop.Readable, proc)
	check(eventloop.Readable)
	create(t, l, a, eventloop.Writable, proc)
	check(eventloop.Readable | eventloop.Writable)
	remove(t, l, a, eventloop.Readable)
	check(eventloop.Writable)
	remove(t, l, a, eventloop.Readable|eventloop.Writable)
	check(eventloop.None)
	if got := l.FileEvents(-1); got != eventloop.None {
		t.Errorf("descriptor -1: %s", got)
	}
}

func TestWithoutABitTheDescriptorLeavesTheEpollSet(t *testing.T) {
	l := newLoop(t)
	a, _ := socketPair(t)
	create(t, l, a, eventloop.Readable|eventloop.Writable, func(int, eventloop.Mask) {})
	remove(t, l, a, eventloop.Readable)
	if !watched(t, a) {
		t.Error("the descriptor left with a bit to keep")
	}
	remove(t, l, a, eventloop.Writable)
	if watched(t, a) {
		t.Error("the descriptor is in an epoll set with no bit left; hang-ups would wake the loop for ever")
	}
}

// watched tells whether an epoll set of this process holds the descriptor: each
// lists them as "tfd:" in fdinfo, proc(5).
func watched(t *testing.T, fd int) bool {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || target != "anon_inode:[eventpoll]" {
			continue
		}
		info, err := os.ReadFile("/proc/self/fdinfo/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(info)) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "tfd:" && f[1] == strconv.Itoa(fd) {
				return true
			}
		}
	}
	return false
}

func TestRegistrationsThatCannotBeAreErrors(t *testing.T) {
	l := newLoop(t)
	a, _ := socketPair(t)
	file, err := os.Create(filepath.Join(t.TempDir(), "regular"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	proc := func(int, eventloop.Mask) {}
	for _, c := range []struct {
		name string
		fd   int
		mask eventloop.Mask
		proc eventloop.FileProc
		is   error
	}{
		{"no bit", a, eventloop.None, proc, nil},
		{"only bits that are reported", a, eventloop.Err | eventloop.HangUp, proc, nil},
		{"no handler", a, eventloop.Readable, nil, nil},
		{"no descriptor", -1, eventloop.Readable, proc, unix.EBADF},
		{"a regular file", int(file.Fd()), eventloop.Readable, proc, unix.EPERM},
	} {
		err := l.CreateFileEvent(c.fd, c.mask, c.proc)
		if err == nil || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := l.FileEvents(c.fd); got != eventloop.None {
			t.Errorf("%s: registered for %s all the same", c.name, got)
		}
	}
}

func TestAHangUpIsReportedToWhicheverHandlerIsRegistered(t *testing.T) {
	for _, registered := range []eventloop.Mask{
		eventloop.Readable, eventloop.Writable, eventloop.Readable | eventloop.Writable,
	} {
		l := newLoop(t)
		var pipe [2]int // a pipe without a writer: EPOLLHUP at the end for reading, and nothing else
		if err := unix.Pipe2(pipe[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		unix.Close(pipe[1])
		t.Cleanup(func() { unix.Close(pipe[0]) })
		create(t, l, pipe[0], registered, func(_ int, mask eventloop.Mask) {
			if want := registered | eventloop.HangUp; mask != want {
				t.Errorf("registered for %s it got %s, want %s", registered, mask, want)
			}
			l.Stop()
		})
		run(t, l)
	}
}

func TestAnErrorIsReportedToWhicheverHandlerIsRegistered(t *testing.T) {
	for _, registered := range []eventloop.Mask{eventloop.Readable, eventloop.Writable} {
		l := newLoop(t)
		var pipe [2]int // a pipe without a reader: EPOLLERR at the end for writing, and nothing else
		if err := unix.Pipe2(pipe[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		unix.Close(pipe[0])
		t.Cleanup(func() { unix.Close(pipe[1]) })
		create(t, l, pipe[1], registered, func(_ int, mask eventloop.Mask) {
			if want := registered | eventloop.Err; mask != want {
				t.Errorf("registered for %s it got %s, want %s", registered, mask, want)
			}
			l.Stop()
		})
		run(t, l)
	}
}

func TestAThousandSocketsAreAllServed(t *testing.T) {
	const sockets = 1000
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur < 2*sockets+100 {
		t.Fatalf("the limit of open files is %d, this test needs %d (ulimit -n)", limit.Cur, 2*sockets+100)
	}
	l := newLoop(t)
	stop := runElsewhere(t, l)
	const rounds = 5
	served := make(map[int]int, sockets)
	peers := make([]int, sockets)
	done := make(chan struct{})
	ours := make([]int, sockets)
	for i := range ours {
		ours[i], peers[i] = socketPair(t)
	}
	on(t, l, func() {
		total := 0
		for _, fd := range ours {
			create(t, l, fd, eventloop.Readable, func(fd int, _ eventloop.Mask) {
				served[fd] += len(take(t, fd))
				if total++; total%sockets == 0 {
					done <- struct{}{}
				}
			})
		}
	})
	for range rounds {
		for _, peer := range peers { // while the loop is at work already
			put(t, peer, "x")
		}
		receive(t, done)
	}
	stop()
	if len(served) != sockets {
		t.Errorf("%d of %d sockets were served", len(served), sockets)
	}
	for fd, n := range served {
		if n != rounds {
			t.Errorf("socket %d: %d of %d bytes", fd, n, rounds)
		}
	}
}
