package anet_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"replicad/anet"
)

// patience bounds every wait for something that is going to happen.
const patience = time.Minute

// listen opens a listener of package net, which accepts nothing by itself; its
// end is the test's.
func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// listenTCP is a listener on a free port of 127.0.0.1, and the endpoint to
// reach it.
func listenTCP(t *testing.T) (net.Listener, anet.Endpoint) {
	t.Helper()
	l := listen(t, "tcp4", "127.0.0.1:0")
	return l, anet.TCP(l.Addr().(*net.TCPAddr).AddrPort())
}

// listenIPv6 is the same on ::1; without IPv6 the test is skipped, and says so.
func listenIPv6(t *testing.T) (net.Listener, anet.Endpoint) {
	t.Helper()
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skipf("this machine has no ::1 to listen on: %v", err)
	}
	t.Cleanup(func() { l.Close() })
	return l, anet.TCP(l.Addr().(*net.TCPAddr).AddrPort())
}

func listenUnix(t *testing.T) (net.Listener, anet.Endpoint) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	return listen(t, "unix", path), unixEndpoint(t, path)
}

func unixEndpoint(t *testing.T, path string) anet.Endpoint {
	t.Helper()
	ep, err := anet.Unix(path)
	if err != nil {
		t.Fatal(err)
	}
	return ep
}

// refusing is an endpoint of 127.0.0.1 where nobody listens: a socket holds the
// port without listen(2), so that no other program can take it meanwhile.
func refusing(t *testing.T) anet.Endpoint {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	return anet.TCP(netip.MustParseAddrPort(anet.LocalAddr(fd)))
}

// saturated is an endpoint of 127.0.0.1 whose accept queue is full: the kernel
// drops every further SYN.
func saturated(t *testing.T) anet.Endpoint {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	ep := anet.TCP(netip.MustParseAddrPort(anet.LocalAddr(fd)))
	for range 16 {
		client, _, err := anet.NonBlockConnect(ep)
		if err != nil {
			t.Fatal(err)
		}
		closeAfter(t, client)
		if !poll(t, client, unix.POLLOUT, 200*time.Millisecond) {
			return ep // this one got no answer, neither will the next
		}
	}
	t.Fatal("a listener with a backlog of 0 answers its 16th unaccepted connection")
	return ep
}

// poll waits until one of the events, an error or a hang-up is there, and tells
// whether one came in time.
func poll(t *testing.T, fd int, events int16, timeout time.Duration) bool {
	t.Helper()
	deadline := time.Now().Add(timeout)
	for {
		left := max(time.Until(deadline), 0)
		fds := []unix.PollFd{{Fd: int32(fd), Events: events}}
		n, err := unix.Poll(fds, int(left/time.Millisecond))
		switch {
		case err == unix.EINTR:
		case err != nil:
			t.Fatal(err)
		case n > 0:
			return true
		case time.Now().After(deadline):
			return false
		}
	}
}

// outcome waits for the end of a connection attempt and takes it.
func outcome(t *testing.T, fd int) error {
	t.Helper()
	if !poll(t, fd, unix.POLLOUT, patience) {
		t.Fatal("the connection attempt has no outcome")
	}
	return anet.SocketError(fd)
}

// connected is a connection to ep that is made; it ends with the test.
func connected(t *testing.T, ep anet.Endpoint) int {
	t.Helper()
	fd, _, err := anet.NonBlockConnect(ep)
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, fd)
	if err := outcome(t, fd); err != nil {
		t.Fatal(err)
	}
	return fd
}

func closeAfter(t *testing.T, fd int) {
	t.Cleanup(func() {
		if err := anet.Close(fd); err != nil {
			t.Error(err)
		}
	})
}

// sockets counts the process' open sockets; the runtime's own descriptors do
// not disturb the count.
func sockets(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && strings.HasPrefix(target, "socket:") {
			n++
		}
	}
	return n
}

func flags(t *testing.T, fd int) (nonblock, cloexec bool) {
	t.Helper()
	fl, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		t.Fatal(err)
	}
	fdfl, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fl&unix.O_NONBLOCK != 0, fdfl&unix.FD_CLOEXEC != 0
}

func option(t *testing.T, fd, level, name int) int {
	t.Helper()
	v, err := unix.GetsockoptInt(fd, level, name)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestErrorsNameTheStepTheEndpointAndTheErrno(t *testing.T) {
	err := &anet.Error{Step: "connect to", Endpoint: anet.TCP(netip.MustParseAddrPort("127.0.0.1:1")), Err: syscall.ECONNREFUSED}
	if got, want := err.Error(), "connect to 127.0.0.1:1: connection refused (ECONNREFUSED)"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Error("the errno is not found in the error")
	}
}

func TestErrorNameFindsTheErrnoHoweverDeepItIsWrapped(t *testing.T) {
	ep := anet.TCP(netip.MustParseAddrPort("127.0.0.1:1"))
	for _, c := range []struct {
		err  error
		want string
	}{
		{syscall.ECONNREFUSED, "ECONNREFUSED"},
		{&anet.Error{Step: "connect to", Endpoint: ep, Err: syscall.EHOSTUNREACH}, "EHOSTUNREACH"},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ETIMEDOUT)}, "ETIMEDOUT"},
		{errors.Join(errors.New("first"), &anet.Error{Step: "connect to", Endpoint: ep, Err: syscall.ENETUNREACH}, syscall.EPIPE), "ENETUNREACH"},
		{errors.New("no errno in here"), ""},
		{syscall.Errno(0xfffff), ""},
		{nil, ""},
	} {
		if got := anet.ErrorName(c.err); got != c.want {
			t.Errorf("ErrorName(%v) = %q, want %q", c.err, got, c.want)
		}
	}
}
