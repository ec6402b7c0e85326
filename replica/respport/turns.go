package respport

import (
	"net"
	"runtime"
	"sync/atomic"
	"syscall"
)

// turns bound how many clients are answered at a time, whatever number there
// is: the loop's goroutine must find a processor when bytes of its master come,
// and hundreds of clients that all have something to ask would have it wait
// behind them. Who waits does so in the order of coming.
type turns chan struct{}

func newTurns() turns { return make(turns, max(1, runtime.GOMAXPROCS(0)/2)) }

// turn is a client's. It is had from when bytes have come until the next are
// waited for, but not while the client waits for anything else.
type turn struct {
	of  turns
	has atomic.Bool
}

func (t *turn) take() {
	t.of <- struct{}{}
	t.has.Store(true)
}

// give may be called without one.
func (t *turn) give() {
	if t.has.CompareAndSwap(true, false) {
		<-t.of
	}
}

// pass lets those who wait go first.
func (t *turn) pass() {
	t.give()
	t.take()
}

// waiting calls what may block.
func (t *turn) waiting(do func()) {
	t.give()
	defer t.take()
	do()
}

// tryWrite writes what a socket takes at once.
func tryWrite(c net.Conn, p []byte) (n int) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return 0
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Write(func(fd uintptr) bool {
		n, _ = syscall.Write(int(fd), p)
		return true // an error shows again at the next write
	})
	return max(0, n)
}
