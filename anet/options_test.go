package anet_test

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"replicad/anet"
)

func TestNoDelayIsSwitchedOn(t *testing.T) {
	fd, _ := pair(t)
	if err := anet.EnableNoDelay(fd); err != nil {
		t.Fatal(err)
	}
	if option(t, fd, unix.IPPROTO_TCP, unix.TCP_NODELAY) == 0 {
		t.Error("TCP_NODELAY is not set")
	}
}

func TestKeepAliveProbesThreeTimesEveryThirdOfTheInterval(t *testing.T) {
	for _, c := range []struct {
		interval         time.Duration
		idle, probeEvery int
	}{
		{60 * time.Second, 60, 20},
		{300 * time.Second, 300, 100},
		{2 * time.Second, 2, 1},
		{time.Millisecond, 1, 1},
		{0, 1, 1},
		{1000 * time.Hour, 32767, 10922},
	} {
		fd, _ := pair(t)
		if err := anet.KeepAlive(fd, c.interval); err != nil {
			t.Errorf("%s: %v", c.interval, err)
			continue
		}
		got := [4]int{
			option(t, fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE),
			option(t, fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE),
			option(t, fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL),
			option(t, fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT),
		}
		if want := [4]int{1, c.idle, c.probeEvery, 3}; got != want {
			t.Errorf("%s: on, idle, interval, count are %v, want %v", c.interval, got, want)
		}
	}
}

func TestTCPOptionsLeaveUnixSocketsAlone(t *testing.T) {
	_, ep := listenUnix(t)
	fd := connected(t, ep)
	if err := anet.EnableNoDelay(fd); err != nil {
		t.Error(err)
	}
	if err := anet.KeepAlive(fd, time.Minute); err != nil {
		t.Error(err)
	}
}

func TestOptionsOnAClosedDescriptorAreNamedErrors(t *testing.T) {
	for want, err := range map[string]error{
		"set TCP_NODELAY: bad file descriptor (EBADF)":  anet.EnableNoDelay(-1),
		"set SO_KEEPALIVE: bad file descriptor (EBADF)": anet.KeepAlive(-1, time.Second),
		"set SO_RCVLOWAT: bad file descriptor (EBADF)":  anet.SetReceiveLowWater(-1, 1),
	} {
		if err == nil || err.Error() != want || !errors.Is(err, syscall.EBADF) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestBelowTheReceiveLowWaterADescriptorIsNotReadable(t *testing.T) {
	fd, server := pair(t)
	server.(*net.TCPConn).SetNoDelay(true)
	if err := anet.SetReceiveLowWater(fd, 100); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Write(make([]byte, 99)); err != nil {
		t.Fatal(err)
	}
	waitQueued(t, fd, 99)
	if poll(t, fd, unix.POLLIN, 0) {
		t.Error("readable with 99 of 100 bytes")
	}
	if _, err := server.Write(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if !poll(t, fd, unix.POLLIN, patience) {
		t.Error("not readable with 100 bytes")
	}
	anet.Read(fd, make([]byte, 200))
	server.Close()
	if !poll(t, fd, unix.POLLIN, patience) {
		t.Error("the end of the stream does not wake")
	}
	if _, err := anet.Read(fd, make([]byte, 1)); err != io.EOF {
		t.Errorf("the end reads %v", err)
	}
}

// waitQueued waits until so many bytes lie in the receive buffer.
func waitQueued(t *testing.T, fd, want int) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
		if err != nil {
			t.Fatal(err)
		}
		if n == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes arrived, want %d", n, want)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestWhatIsNoSocketHasNoAddresses(t *testing.T) {
	if local, peer := anet.LocalAddr(-1), anet.PeerAddr(-1); local != "" || peer != "" {
		t.Errorf("%q and %q", local, peer)
	}
}
