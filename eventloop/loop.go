package eventloop

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

var (
	// ErrStopped: the loop has stopped, or was closed.
	ErrStopped = errors.New("eventloop: the loop has stopped")
	// ErrRunning: Run or Close was called while the loop runs.
	ErrRunning = errors.New("eventloop: the loop is running")
)

const (
	// batchSize is how many events one epoll_wait takes. More ready descriptors
	// than that wait for the next one; the kernel hands them out in turn.
	batchSize = 256

	// keptPosts is the longest queue of posted functions, as a number of them,
	// whose memory is kept for the next batch.
	keptPosts = 64 << 10
)

// Loop is an event loop. See the package comment for who may call what.
type Loop struct {
	epfd int // the epoll set
	wake int // an eventfd: readable when something was posted or the loop shall stop

	// Of the loop's thread.
	running bool
	closed  bool
	start   time.Time // the zero of every deadline
	batch   []unix.EpollEvent
	timers  timerHeap
	armings uint64 // counts Timer.Reset: the order of timers that are due at the same time

	files       []fileEvent // by descriptor, like ae.c's events
	generations uint32      // counts entries into the epoll set
	calls       uint64      // counts CreateFileEvent

	busyUntil time.Duration // since start: until then the loop polls instead of sleeping

	spare []func() // the other buffer of posted

	count [8]byte // what drainWake reads; here, so that it need not be allocated

	mu       sync.Mutex
	posted   []func() // in order
	stopping bool     // Stop was called: no more posts
	one      [8]byte  // what signal writes
}

// New makes a loop with nothing registered. It holds two descriptors until Run
// returns; a loop that is not run after all needs Close.
func New() (*Loop, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("eventloop: epoll_create1: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		unix.Close(epfd)
		return nil, fmt.Errorf("eventloop: eventfd: %w", err)
	}
	err = unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(wake)})
	if err != nil {
		unix.Close(wake)
		unix.Close(epfd)
		return nil, fmt.Errorf("eventloop: watch the eventfd: %w", err)
	}
	return &Loop{
		epfd: epfd, wake: wake,
		start: time.Now(),
		batch: make([]unix.EpollEvent, batchSize),
		one:   [8]byte{1}, // a count, in the host's byte order; any value but zero wakes
	}, nil
}

// Run is the loop. It locks the calling goroutine to its thread and returns
// after Stop: it finishes the iteration under way, runs the functions that were
// posted before Stop, and closes the loop's descriptors; those of the file
// events are their owners' to close. A loop runs once: after that Run returns
// ErrStopped, and ErrRunning from inside. Any other error is epoll's own, and
// ends the loop in the same way.
func (l *Loop) Run() error {
	switch {
	case l.closed:
		return ErrStopped
	case l.running:
		return ErrRunning
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	l.running = true
	var err error
	for err == nil && !l.isStopping() {
		err = l.iterate()
	}
	l.Stop() // after an error: from here on nothing can be posted
	l.runPosted()
	l.running = false
	return errors.Join(err, l.release())
}

// iterate waits once and calls whatever is due. Redis: aeProcessEvents, ae.c.
func (l *Loop) iterate() error {
	n, err := unix.EpollWait(l.epfd, l.batch, l.waitMillis())
	if err == unix.EINTR {
		// A process that was stopped and goes on (SIGCONT) comes here. File
		// events come first: what they bring may put off a timer that is
		// overdue.
		return nil
	}
	if err != nil {
		return fmt.Errorf("eventloop: epoll_wait: %w", err)
	}
	ended := time.Since(l.start)
	woken := false
	for i := 0; i < n; i++ {
		if int(l.batch[i].Fd) == l.wake {
			woken = true
			continue
		}
		l.dispatch(&l.batch[i])
	}
	l.runTimers(ended)
	if woken {
		l.drainWake()
		l.runPosted()
	}
	return nil
}

// BusyPoll keeps the loop awake: for d from now on, the loop asks epoll again
// and again instead of sleeping in it. It is for a caller that awaits an answer
// within microseconds, as in a handshake on a fast network: to fall asleep and
// be woken takes longer. BusyPoll keeps a core busy for d; a second call
// replaces the first, and 0 ends it.
//
// The kernel's own busy polling (SO_BUSY_POLL, socket(7)) asks the network
// card, and does nothing on the loopback.
func (l *Loop) BusyPoll(d time.Duration) { l.busyUntil = time.Since(l.start) + d }

// waitMillis is the timeout of epoll_wait: -1 without a timer, else the time to
// the first one, rounded up so that the wait does not end a moment before the
// timer is due and begin again; 0 while the loop polls busily.
func (l *Loop) waitMillis() int {
	if l.busyUntil > 0 {
		if time.Since(l.start) < l.busyUntil {
			return 0
		}
		l.busyUntil = 0
	}
	if len(l.timers) == 0 {
		return -1
	}
	left := l.timers[0].deadline - time.Since(l.start)
	if left <= 0 {
		return 0
	}
	const longest = 24 * time.Hour // far below the int32 of epoll_wait; a longer wait just begins again
	return int((min(left, longest) + time.Millisecond - 1) / time.Millisecond)
}

// Post hands fn to the loop, which runs it on its own thread, after what was
// posted before. Post does not wait for that, and any goroutine may call it.
// True says that fn will run (unless the loop is never run and closed); false
// that it will not, because Stop was called or fn is nil. A Post from the
// loop's own thread is in order too, and what a posted function posts waits for
// the next iteration.
func (l *Loop) Post(fn func()) bool {
	if fn == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopping {
		return false
	}
	l.posted = append(l.posted, fn)
	if len(l.posted) == 1 {
		l.signal()
	}
	return true
}

// Stop ends the loop: Run returns soon. Any goroutine may call it, also before
// Run and more than once.
func (l *Loop) Stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopping {
		return
	}
	l.stopping = true
	l.signal()
}

func (l *Loop) isStopping() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stopping
}

// signal makes the eventfd readable. l.mu is held, and stopping was not set
// before this call, so the eventfd is open. The write cannot fail: the counter
// of the eventfd holds 2^64-2, and drainWake takes it back to zero.
func (l *Loop) signal() {
	for {
		if _, err := unix.Write(l.wake, l.one[:]); err != unix.EINTR {
			return
		}
	}
}

// drainWake must come before the queue is taken: a Post after that signals
// again, so none is slept over.
func (l *Loop) drainWake() {
	for {
		if _, err := unix.Read(l.wake, l.count[:]); err != unix.EINTR {
			return
		}
	}
}

// runPosted runs what was posted until now, and nothing that is posted
// meanwhile. Two buffers change places, so posting allocates only while the
// queue grows.
func (l *Loop) runPosted() {
	l.mu.Lock()
	batch := l.posted
	l.posted = l.spare[:0]
	l.mu.Unlock()
	l.spare = nil
	for i, fn := range batch {
		batch[i] = nil // what it holds can be collected, though the buffer stays
		fn()
	}
	if cap(batch) <= keptPosts {
		l.spare = batch[:0]
	}
}

// Close gives back the descriptors of a loop that never ran; what was posted is
// dropped. After Run, or a second time, there is nothing to do and it returns
// nil; while the loop runs it returns ErrRunning: Stop is meant.
func (l *Loop) Close() error {
	switch {
	case l.running:
		return ErrRunning
	case l.closed:
		return nil
	}
	l.Stop()
	l.mu.Lock()
	l.posted = nil
	l.mu.Unlock()
	return l.release()
}

// release closes what New opened, and lets go of all handlers.
func (l *Loop) release() error {
	l.closed = true
	for _, t := range l.timers {
		t.index = -1
	}
	l.timers, l.files, l.spare = nil, nil, nil
	return errors.Join(unix.Close(l.epfd), unix.Close(l.wake))
}
