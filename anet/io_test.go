package anet_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"replicad/anet"
)

// pair is a connection over the loopback: our descriptor and the server's end.
func pair(t *testing.T) (int, net.Conn) {
	t.Helper()
	l, ep := listenTCP(t)
	fd := connected(t, ep)
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return fd, server
}

// pairFDs is a socketpair of two descriptors of ours, non-blocking both.
func pairFDs(t testing.TB) (int, int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[0]); unix.Close(fds[1]) })
	return fds[0], fds[1]
}

// fill writes until the kernel takes no more, and tells how much that was.
func fill(t *testing.T, fd int) int {
	t.Helper()
	chunk, total := make([]byte, 64<<10), 0
	for {
		n, err := anet.Write(fd, chunk)
		total += n
		if err == anet.ErrWouldBlock {
			return total
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestReadGivesBytesThenWouldBlockThenEOF(t *testing.T) {
	fd, server := pair(t)
	buf := make([]byte, 16)
	if n, err := anet.Read(fd, buf); n != 0 || err != anet.ErrWouldBlock {
		t.Errorf("with nothing there: %d, %v", n, err)
	}
	if _, err := server.Write([]byte("+PONG\r\n")); err != nil {
		t.Fatal(err)
	}
	poll(t, fd, unix.POLLIN, patience)
	if n, err := anet.Read(fd, buf); err != nil || string(buf[:n]) != "+PONG\r\n" {
		t.Errorf("read %q, %v", buf[:n], err)
	}
	server.Close()
	poll(t, fd, unix.POLLIN, patience)
	if n, err := anet.Read(fd, buf); n != 0 || err != io.EOF {
		t.Errorf("after the close: %d, %v", n, err)
	}
}

func TestAnEmptyBufferIsNeitherTheEndNorAnError(t *testing.T) {
	fd, _ := pair(t)
	if n, err := anet.Read(fd, nil); n != 0 || err != nil {
		t.Errorf("read: %d, %v", n, err)
	}
	if n, err := anet.Write(fd, nil); n != 0 || err != nil {
		t.Errorf("write: %d, %v", n, err)
	}
	if n, err := anet.SyncWrite(fd, nil, 0); n != 0 || err != nil {
		t.Errorf("synchronous write: %d, %v", n, err)
	}
}

func TestAResetIsNamedByReadAndByWrite(t *testing.T) {
	fd, server := pair(t)
	server.(*net.TCPConn).SetLinger(0)
	server.Close()
	poll(t, fd, unix.POLLIN, patience)
	_, err := anet.Read(fd, make([]byte, 1))
	if !errors.Is(err, syscall.ECONNRESET) || err.Error() != "read: connection reset by peer (ECONNRESET)" {
		t.Errorf("read: %v", err)
	}
	if _, err = anet.Write(fd, []byte("x")); !errors.Is(err, syscall.EPIPE) || err.Error() != "write: broken pipe (EPIPE)" {
		t.Errorf("write: %v", err)
	}
	if _, err = anet.SyncWrite(fd, []byte("x"), time.Second); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("synchronous write: %v", err)
	}
}

func TestWriteStopsAtTheFullSendBuffer(t *testing.T) {
	fd, server := pair(t)
	total := fill(t, fd)
	if total == 0 {
		t.Fatal("nothing was written")
	}
	anet.Shutdown(fd)
	if n, err := io.Copy(io.Discard, server); err != nil || n != int64(total) {
		t.Errorf("%d bytes arrived (%v), Write said %d", n, err, total)
	}
}

func TestSyncWriteWritesASmallCommandAtOnce(t *testing.T) {
	fd, server := pair(t)
	if n, err := anet.SyncWrite(fd, []byte("PING\r\n"), 0); n != 6 || err != nil {
		t.Fatalf("%d, %v; there is room, so no time is needed", n, err)
	}
	buf := make([]byte, 6)
	if _, err := io.ReadFull(server, buf); err != nil || string(buf) != "PING\r\n" {
		t.Errorf("the server read %q, %v", buf, err)
	}
}

func TestSyncWriteWaitsForASlowReader(t *testing.T) {
	fd, server := pair(t)
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // 16 MiB: more than the buffers between them
	got := make(chan []byte)
	go func() {
		b := make([]byte, len(want))
		n, _ := io.ReadFull(server, b)
		got <- b[:n]
	}()
	n, err := anet.SyncWrite(fd, want, patience)
	if n != len(want) || err != nil {
		t.Fatalf("%d of %d, %v", n, len(want), err)
	}
	if !bytes.Equal(<-got, want) {
		t.Error("other bytes arrived than were written")
	}
}

func TestSyncWriteTimesOutOnAReaderThatNeverReads(t *testing.T) {
	fd, _ := pair(t)
	const timeout = 100 * time.Millisecond
	start := time.Now()
	n, err := anet.SyncWrite(fd, make([]byte, 64<<20), timeout)
	took := time.Since(start)
	if !errors.Is(err, anet.ErrTimeout) {
		t.Fatalf("%d, %v; want ErrTimeout", n, err)
	}
	if n == 0 || n == 64<<20 {
		t.Errorf("%d bytes written; the buffers take some, not all", n)
	}
	if !strings.Contains(err.Error(), "timed out after 100ms") {
		t.Errorf("the error does not say how long: %v", err)
	}
	if took < timeout || took > patience {
		t.Errorf("it took %s", took)
	}
}

func TestSyncWriteWithoutTimeDoesNotWait(t *testing.T) {
	fd, _ := pair(t)
	fill(t, fd)
	for _, timeout := range []time.Duration{0, -time.Second} {
		if n, err := anet.SyncWrite(fd, []byte("x"), timeout); n != 0 || !errors.Is(err, anet.ErrTimeout) {
			t.Errorf("with %s: %d, %v", timeout, n, err)
		}
	}
}

func TestSyncWriteTimesOutOnAConnectionThatIsNotMade(t *testing.T) {
	fd, _, err := anet.NonBlockConnect(saturated(t))
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, fd)
	if n, err := anet.SyncWrite(fd, []byte("PING\r\n"), 20*time.Millisecond); n != 0 || !errors.Is(err, anet.ErrTimeout) {
		t.Errorf("%d, %v; want ErrTimeout", n, err)
	}
}

func TestSyncWriteIsNeitherCutNorProlongedBySignals(t *testing.T) {
	fd, _ := pairFDs(t)
	fill(t, fd)
	const timeout = 150 * time.Millisecond
	thread, done := make(chan int), make(chan struct{})
	var took time.Duration
	var err error
	go func() {
		defer close(done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		thread <- unix.Gettid()
		start := time.Now()
		_, err = anet.SyncWrite(fd, []byte("x"), timeout)
		took = time.Since(start)
	}()
	tid := <-thread
	tick := time.NewTicker(5 * time.Millisecond) // SIGURG: the Go runtime takes it and does nothing, ppoll says EINTR
	defer tick.Stop()
	for signalling := true; signalling; {
		select {
		case <-done:
			signalling = false
		case <-tick.C:
			unix.Tgkill(unix.Getpid(), tid, unix.SIGURG)
		}
	}
	if !errors.Is(err, anet.ErrTimeout) || took < timeout || took > patience {
		t.Errorf("it ended after %s with %v", took, err)
	}
}

func TestReadingAndWritingAllocateNothing(t *testing.T) {
	a, b := pairFDs(t)
	msg, buf := []byte("PING\r\n"), make([]byte, 64)
	var failed error
	note := func(_ int, err error) {
		if err != nil && failed == nil {
			failed = err
		}
	}
	for _, c := range []struct {
		name string
		run  func()
	}{
		{"Write and Read", func() { note(anet.Write(a, msg)); note(anet.Read(b, buf)) }},
		{"SyncWrite", func() { note(anet.SyncWrite(a, msg, time.Second)); note(anet.Read(b, buf)) }},
		{"Read that would block", func() {
			if _, err := anet.Read(b, buf); err != anet.ErrWouldBlock {
				note(0, err)
			}
		}},
	} {
		if n := testing.AllocsPerRun(100, c.run); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
		if failed != nil {
			t.Fatalf("%s: %v", c.name, failed)
		}
	}
}

func TestShutdownWakesWhoeverPollsTheDescriptor(t *testing.T) {
	fd, server := pair(t)
	if poll(t, fd, unix.POLLIN, 0) {
		t.Fatal("readable before the shutdown")
	}
	woken := make(chan bool)
	go func() { woken <- poll(t, fd, unix.POLLIN, patience) }()
	if err := anet.Shutdown(fd); err != nil {
		t.Fatal(err)
	}
	if !<-woken {
		t.Error("the poll was not woken")
	}
	if _, err := anet.Read(fd, make([]byte, 1)); err != io.EOF {
		t.Errorf("our end reads %v", err)
	}
	if _, err := server.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the other end reads %v", err)
	}
}

func TestShutdownAndCloseNameWhatIsWrongWithTheDescriptor(t *testing.T) {
	if err := anet.Close(-1); err == nil || err.Error() != "close: bad file descriptor (EBADF)" {
		t.Errorf("close: %v", err)
	}
	fd, _, err := anet.NonBlockConnect(refusing(t))
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, fd)
	outcome(t, fd)
	if err := anet.Shutdown(fd); !errors.Is(err, syscall.ENOTCONN) {
		t.Errorf("shutdown without a connection: %v", err)
	}
}

func BenchmarkWriteRead(b *testing.B) {
	one, other := pairFDs(b)
	msg, buf := []byte("PING\r\n"), make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := anet.Write(one, msg); err != nil {
			b.Fatal(err)
		}
		if _, err := anet.Read(other, buf); err != nil {
			b.Fatal(err)
		}
	}
}
