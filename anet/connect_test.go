package anet_test

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"replicad/anet"
)

func TestConnectOverIPv4IsInProgressAndThenMade(t *testing.T) {
	l, ep := listenTCP(t)
	connectsInProgress(t, l, ep)
}

func TestConnectOverIPv6IsInProgressAndThenMade(t *testing.T) {
	l, ep := listenIPv6(t)
	connectsInProgress(t, l, ep)
}

func connectsInProgress(t *testing.T, l net.Listener, ep anet.Endpoint) {
	t.Helper()
	fd, done, err := anet.NonBlockConnect(ep)
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, fd)
	if done {
		t.Error("connect(2) returned 0; TCP says EINPROGRESS, even on the loopback")
	}
	if err := outcome(t, fd); err != nil {
		t.Errorf("SO_ERROR is %v", err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if got, want := anet.LocalAddr(fd), server.RemoteAddr().String(); got != want {
		t.Errorf("LocalAddr is %s, the server sees %s", got, want)
	}
	if got, want := anet.PeerAddr(fd), ep.String(); got != want {
		t.Errorf("PeerAddr is %s, want %s", got, want)
	}
}

func TestConnectToAUnixSocketIsMadeAtOnce(t *testing.T) {
	_, ep := listenUnix(t)
	connectsAtOnce(t, ep)
}

func TestConnectToAnAbstractUnixSocketIsMadeAtOnce(t *testing.T) {
	name := "@replicad-anet-" + strings.ReplaceAll(t.TempDir(), "/", "-")
	name = name[:min(len(name), 107)]
	listen(t, "unix", name)
	connectsAtOnce(t, unixEndpoint(t, name))
}

func connectsAtOnce(t *testing.T, ep anet.Endpoint) {
	t.Helper()
	fd, done, err := anet.NonBlockConnect(ep)
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, fd)
	if !done {
		t.Error("a unix socket with room in its accept queue was not connected at once")
	}
	if err := anet.SocketError(fd); err != nil {
		t.Error(err)
	}
	if got := anet.PeerAddr(fd); got != ep.String() {
		t.Errorf("PeerAddr is %s, want %s", got, ep)
	}
	if got := anet.LocalAddr(fd); got != "unix://" {
		t.Errorf("LocalAddr of a client without a name is %q", got)
	}
}

func TestSocketsAreNonBlockingAndClosedOnExec(t *testing.T) {
	_, tcp := listenTCP(t)
	_, unixEP := listenUnix(t)
	for _, ep := range []anet.Endpoint{tcp, unixEP} {
		if nonblock, cloexec := flags(t, connected(t, ep)); !nonblock || !cloexec {
			t.Errorf("%s: O_NONBLOCK %v, FD_CLOEXEC %v", ep, nonblock, cloexec)
		}
	}
}

func TestARefusedConnectionIsWritableAndItsReasonIsInSocketError(t *testing.T) {
	fd, _, err := anet.NonBlockConnect(refusing(t))
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, fd)
	if err := outcome(t, fd); err != syscall.ECONNREFUSED {
		t.Errorf("SO_ERROR is %v, want ECONNREFUSED", err)
	}
	if err := anet.SocketError(fd); err != nil {
		t.Errorf("the error was taken and is still there: %v", err)
	}
}

func TestSocketErrorOfWhatIsNoSocketIsTheErrnoOfGetsockopt(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	closeAfter(t, pipe[0])
	closeAfter(t, pipe[1])
	if err := anet.SocketError(pipe[0]); err != syscall.ENOTSOCK {
		t.Errorf("a pipe: %v, want ENOTSOCK", err)
	}
	if err := anet.SocketError(-1); err != syscall.EBADF {
		t.Errorf("no descriptor: %v, want EBADF", err)
	}
}

func TestAConnectionToAFullAcceptQueueStaysInProgress(t *testing.T) {
	fd, done, err := anet.NonBlockConnect(saturated(t))
	if err != nil || done {
		t.Fatalf("connected %v, error %v; want EINPROGRESS", done, err)
	}
	closeAfter(t, fd)
	if poll(t, fd, unix.POLLOUT, 0) {
		t.Error("the descriptor is writable though nobody answered")
	}
	if got := anet.PeerAddr(fd); got != "" {
		t.Errorf("PeerAddr without a connection is %q", got)
	}
	if _, err := anet.Write(fd, []byte("PING\r\n")); err != anet.ErrWouldBlock {
		t.Errorf("a write before the connection is made: %v, want ErrWouldBlock", err)
	}
}

func TestAUnixSocketWithAFullAcceptQueueFailsAtOnce(t *testing.T) {
	_, ep := saturatedUnix(t)
	_, _, err := anet.NonBlockConnect(ep)
	if !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("got %v, want EAGAIN", err)
	}
}

// saturatedUnix is a unix socket whose accept queue is full.
func saturatedUnix(t *testing.T) (fd int, ep anet.Endpoint) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, fd)
	path := t.TempDir() + "/s"
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	ep = unixEndpoint(t, path)
	for range 16 {
		client, _, err := anet.NonBlockConnect(ep)
		if err != nil {
			return fd, ep
		}
		closeAfter(t, client)
	}
	t.Fatal("a listener with a backlog of 0 takes 16 connections")
	return fd, ep
}

func TestABoundConnectionComesFromItsSource(t *testing.T) {
	l, ep := listenTCP(t)
	source := netip.MustParseAddr("127.0.0.2")
	for name, connect := range map[string]func(anet.Endpoint, netip.Addr) (int, bool, error){
		"strict": anet.NonBlockBindConnect, "best effort": anet.NonBlockBestEffortBindConnect,
	} {
		fd, _, err := connect(ep, source)
		if err != nil {
			t.Fatal(err)
		}
		closeAfter(t, fd)
		if err := outcome(t, fd); err != nil {
			t.Fatal(err)
		}
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		if host, _, _ := net.SplitHostPort(server.RemoteAddr().String()); host != "127.0.0.2" {
			t.Errorf("%s: the server sees %s", name, host)
		}
	}
}

func TestABoundIPv6ConnectionComesFromItsSource(t *testing.T) {
	l, ep := listenIPv6(t)
	fd, _, err := anet.NonBlockBindConnect(ep, netip.IPv6Loopback())
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, fd)
	if err := outcome(t, fd); err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	server.Close()
	if got := anet.LocalAddr(fd); !strings.HasPrefix(got, "[::1]:") {
		t.Errorf("it comes from %s", got)
	}
}

func TestTheZeroSourceBindsNothing(t *testing.T) {
	_, ep := listenTCP(t)
	for _, connect := range []func(anet.Endpoint, netip.Addr) (int, bool, error){
		anet.NonBlockBindConnect, anet.NonBlockBestEffortBindConnect,
	} {
		fd, _, err := connect(ep, netip.Addr{})
		if err != nil {
			t.Fatal(err)
		}
		closeAfter(t, fd)
		if err := outcome(t, fd); err != nil {
			t.Error(err)
		}
	}
}

// notOurs is an address reserved for documentation (RFC 5737): no machine has
// it.
var notOurs = netip.MustParseAddr("192.0.2.1")

func TestASourceThatIsNotOursFailsStrictly(t *testing.T) {
	_, ep := listenTCP(t)
	_, _, err := anet.NonBlockBindConnect(ep, notOurs)
	if !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Fatalf("got %v, want EADDRNOTAVAIL", err)
	}
	want := "bind to 192.0.2.1, to connect to " + ep.String() + ": cannot assign requested address (EADDRNOTAVAIL)"
	if err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
}

func TestASourceThatIsNotOursIsGivenUpWithBestEffort(t *testing.T) {
	l, ep := listenTCP(t)
	fd, _, err := anet.NonBlockBestEffortBindConnect(ep, notOurs)
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, fd)
	if err := outcome(t, fd); err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	server.Close()
	if got := anet.LocalAddr(fd); !strings.HasPrefix(got, "127.0.0.1:") {
		t.Errorf("it comes from %s", got)
	}
}

func TestASourceOfAnotherFamilyFailsStrictlyAndIsGivenUpWithBestEffort(t *testing.T) {
	_, tcp := listenTCP(t)
	_, unixEP := listenUnix(t)
	for _, c := range []struct {
		ep     anet.Endpoint
		source string
	}{{tcp, "::1"}, {unixEP, "127.0.0.1"}} {
		source := netip.MustParseAddr(c.source)
		_, _, err := anet.NonBlockBindConnect(c.ep, source)
		if err == nil || !strings.Contains(err.Error(), "different families") ||
			!strings.Contains(err.Error(), c.source) || !strings.Contains(err.Error(), c.ep.String()) {
			t.Errorf("from %s to %s: the error is %v", c.source, c.ep, err)
		}
		fd, _, err := anet.NonBlockBestEffortBindConnect(c.ep, source)
		if err != nil {
			t.Errorf("from %s to %s with best effort: %v", c.source, c.ep, err)
			continue
		}
		closeAfter(t, fd)
		if err := outcome(t, fd); err != nil {
			t.Error(err)
		}
	}
}

func TestBestEffortFailsWithTheReasonThatHasNothingToDoWithTheSource(t *testing.T) {
	_, _, err := anet.NonBlockBestEffortBindConnect(unixEndpoint(t, t.TempDir()+"/none"), notOurs)
	if anet.ErrorName(err) != "ENOENT" {
		t.Errorf("got %v, want ENOENT", err)
	}
}

func TestAnIPv4SourceWrittenAsIPv6IsAnIPv4Source(t *testing.T) {
	_, ep := listenTCP(t)
	fd, _, err := anet.NonBlockBindConnect(ep, netip.MustParseAddr("::ffff:127.0.0.2"))
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, fd)
	if err := outcome(t, fd); err != nil {
		t.Fatal(err)
	}
	if got := anet.LocalAddr(fd); !strings.HasPrefix(got, "127.0.0.2:") {
		t.Errorf("it comes from %s", got)
	}
}

func TestAZoneThatDoesNotExistIsNamedInTheError(t *testing.T) {
	_, _, err := anet.NonBlockConnect(anet.TCP(netip.MustParseAddrPort("[fe80::1%nosuchif0]:6379")))
	if err == nil || !strings.Contains(err.Error(), "nosuchif0") {
		t.Errorf("got %v", err)
	}
}

func TestNoFailureLeavesASocketOpen(t *testing.T) {
	_, tcp := listenTCP(t)
	_, full := saturatedUnix(t)
	missing := unixEndpoint(t, t.TempDir()+"/none")
	before := sockets(t)
	for name, connect := range map[string]func() (int, bool, error){
		"no such socket":         func() (int, bool, error) { return anet.NonBlockConnect(missing) },
		"full accept queue":      func() (int, bool, error) { return anet.NonBlockConnect(full) },
		"no endpoint":            func() (int, bool, error) { return anet.NonBlockConnect(anet.Endpoint{}) },
		"bind":                   func() (int, bool, error) { return anet.NonBlockBindConnect(tcp, notOurs) },
		"family":                 func() (int, bool, error) { return anet.NonBlockBindConnect(tcp, netip.IPv6Loopback()) },
		"best effort, both fail": func() (int, bool, error) { return anet.NonBlockBestEffortBindConnect(missing, notOurs) },
		"connector": func() (int, bool, error) {
			a, err := anet.NewConnector([]anet.Endpoint{missing, full}, anet.Source{}).Next()
			return a.FD, a.Connected, err
		},
	} {
		fd, done, err := connect()
		if err == nil || fd != -1 || done {
			t.Errorf("%s: descriptor %d, connected %v, error %v", name, fd, done, err)
		}
		if after := sockets(t); after != before {
			t.Errorf("%s: %d sockets are open, there were %d", name, after, before)
		}
	}
}

func TestASocketThatMetItselfIsRecognised(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	self, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(fd, self); err != nil {
		t.Fatal(err)
	}
	if !anet.SelfConnected(fd) {
		t.Errorf("%s to %s was not recognised", anet.LocalAddr(fd), anet.PeerAddr(fd))
	}
	_, ep := listenTCP(t)
	_, unixEP := listenUnix(t)
	for _, other := range []int{connected(t, ep), connected(t, unixEP), -1} {
		if anet.SelfConnected(other) {
			t.Errorf("descriptor %d is taken for one", other)
		}
	}
}
