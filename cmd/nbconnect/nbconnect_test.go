package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"replicad/anet"
)

// listening is a listener of package net on a free port; what connects to it
// waits in its accept queue.
func listening(t *testing.T, network, address string) (host, port string) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Skipf("this machine cannot listen on %s: %v", address, err)
	}
	t.Cleanup(func() { l.Close() })
	host, port, err = net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return host, port
}

// socket is a bound IPv4 socket of 127.0.0.1. While it does not listen(2),
// connections to it are refused.
func socket(t *testing.T) (fd int, port string) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	_, port, err = net.SplitHostPort(anet.LocalAddr(fd))
	if err != nil {
		t.Fatal(err)
	}
	return fd, port
}

// silent is a port of 127.0.0.1 whose accept queue is full, so that the kernel
// drops every SYN.
func silent(t *testing.T) (port string) {
	t.Helper()
	fd, port := socket(t)
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	for range 16 {
		conn, err := net.DialTimeout("tcp4", "127.0.0.1:"+port, 200*time.Millisecond)
		if err != nil {
			return port
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Fatal("a listener with a backlog of 0 answers its 16th unaccepted connection")
	return ""
}

func endpoint(t *testing.T, host, port string) anet.Endpoint {
	t.Helper()
	ap, err := netip.ParseAddrPort(net.JoinHostPort(host, port))
	if err != nil {
		t.Fatal(err)
	}
	return anet.TCP(ap)
}

var timedLine = regexp.MustCompile(`^ *([0-9]+\.[0-9]{3})ms  (.+)$`)

// told takes the times off the output, after it has seen that every line has
// one and that they ascend. It puts N for the number of the descriptor, and for
// the port that the kernel chose.
func told(t *testing.T, out string) []string {
	t.Helper()
	var lines []string
	last := 0.0
	for line := range strings.Lines(out) {
		m := timedLine.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			t.Fatalf("a line without a time: %q", line)
		}
		at, err := strconv.ParseFloat(m[1], 64)
		if err != nil || at < last {
			t.Errorf("%q comes after %.3f ms", line, last)
		}
		last = at
		text := regexp.MustCompile(`\bfd [0-9]+`).ReplaceAllString(m[2], "fd N")
		lines = append(lines, regexp.MustCompile(`connected from (.*):[0-9]+ to`).ReplaceAllString(text, "connected from $1:N to"))
	}
	return lines
}

func expect(t *testing.T, out string, want ...string) {
	t.Helper()
	if got := strings.Join(told(t, out), "\n"); got != strings.Join(want, "\n") {
		t.Errorf("told:\n%s\n\nwant:\n%s", got, strings.Join(want, "\n"))
	}
}

func call(args ...string) (code int, stdout, stderr string) {
	var out, errOut bytes.Buffer
	code = run(args, &out, &errOut)
	return code, out.String(), errOut.String()
}

// play runs a lesson for a name with these addresses.
func play(t *testing.T, timeout time.Duration, endpoints ...anet.Endpoint) (out string, err error) {
	t.Helper()
	var b bytes.Buffer
	l := lesson{
		host: "redis.example", port: 1, timeout: timeout, out: &b, start: time.Now(),
		resolve: func(context.Context, string, int) ([]anet.Endpoint, error) { return endpoints, nil },
	}
	err = l.run()
	return b.String(), err
}

const resolving = ", on a goroutine: the resolver blocks, the loop must not"

func TestAConnectionIsToldEventByEvent(t *testing.T) {
	for _, c := range []struct{ network, address string }{{"tcp4", "127.0.0.1:0"}, {"tcp6", "[::1]:0"}} {
		t.Run(c.network, func(t *testing.T) {
			host, port := listening(t, c.network, c.address)
			code, out, stderr := call(host, port)
			if code != 0 || stderr != "" {
				t.Errorf("exit %d, stderr %q", code, stderr)
			}
			at := net.JoinHostPort(host, port)
			expect(t, out,
				"resolve "+host+resolving,
				"address 1 of 1: "+at,
				"connect("+at+") = EINPROGRESS: fd N, the kernel goes on alone",
				"fd N registered for READABLE|WRITABLE (EPOLLIN|EPOLLOUT)",
				"epoll_wait: fd N is WRITABLE (EPOLLOUT)",
				"getsockopt(SO_ERROR) = 0",
				"connected from "+net.JoinHostPort(host, "N")+" to "+at,
				"connection done.")
		})
	}
}

func TestARefusedConnectionIsNamedAndExitsWith1(t *testing.T) {
	_, port := socket(t)
	code, out, _ := call("127.0.0.1", port)
	if code != 1 {
		t.Errorf("exit %d", code)
	}
	expect(t, out,
		"resolve 127.0.0.1"+resolving,
		"address 1 of 1: 127.0.0.1:"+port,
		"connect(127.0.0.1:"+port+") = EINPROGRESS: fd N, the kernel goes on alone",
		"fd N registered for READABLE|WRITABLE (EPOLLIN|EPOLLOUT)",
		"epoll_wait: fd N is READABLE|WRITABLE|ERR|HUP (EPOLLIN|EPOLLOUT|EPOLLERR|EPOLLHUP)",
		"getsockopt(SO_ERROR) = ECONNREFUSED: connection refused",
		"failed: connect to 127.0.0.1:"+port+": connection refused (ECONNREFUSED)")
}

func TestTheNextAddressIsTriedAfterARefusalAndAfterATimeoutAndAfterAFailureAtOnce(t *testing.T) {
	_, refused := socket(t)
	quiet := silent(t)
	host, port := listening(t, "tcp4", "127.0.0.1:0")
	missing, err := anet.Unix(filepath.Join(t.TempDir(), "none"))
	if err != nil {
		t.Fatal(err)
	}
	out, err := play(t, 50*time.Millisecond,
		endpoint(t, "127.0.0.1", refused), endpoint(t, "127.0.0.1", quiet), missing, endpoint(t, host, port))
	if err != nil {
		t.Error(err)
	}
	expect(t, out,
		"resolve redis.example"+resolving,
		"address 1 of 4: 127.0.0.1:"+refused,
		"address 2 of 4: 127.0.0.1:"+quiet,
		"address 3 of 4: "+missing.String(),
		"address 4 of 4: 127.0.0.1:"+port,
		"connect(127.0.0.1:"+refused+") = EINPROGRESS: fd N, the kernel goes on alone",
		"fd N registered for READABLE|WRITABLE (EPOLLIN|EPOLLOUT)",
		"epoll_wait: fd N is READABLE|WRITABLE|ERR|HUP (EPOLLIN|EPOLLOUT|EPOLLERR|EPOLLHUP)",
		"getsockopt(SO_ERROR) = ECONNREFUSED: connection refused",
		"connect(127.0.0.1:"+quiet+") = EINPROGRESS: fd N, the kernel goes on alone",
		"fd N registered for READABLE|WRITABLE (EPOLLIN|EPOLLOUT)",
		"timeout: no answer in 50ms",
		"failed at once: connect to "+missing.String()+": no such file or directory (ENOENT)",
		"connect(127.0.0.1:"+port+") = EINPROGRESS: fd N, the kernel goes on alone",
		"fd N registered for READABLE|WRITABLE (EPOLLIN|EPOLLOUT)",
		"epoll_wait: fd N is WRITABLE (EPOLLOUT)",
		"getsockopt(SO_ERROR) = 0",
		"connected from 127.0.0.1:N to 127.0.0.1:"+port)
}

func TestAConnectionMadeAtOnceNeedsNoEvent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ep, err := anet.Unix(path)
	if err != nil {
		t.Fatal(err)
	}
	out, err := play(t, time.Second, ep)
	if err != nil {
		t.Error(err)
	}
	expect(t, out,
		"resolve redis.example"+resolving,
		"address 1 of 1: unix://"+path,
		"connect(unix://"+path+") = 0, at once: fd N",
		"getsockopt(SO_ERROR) = 0",
		"connected from unix:// to unix://"+path)
}

func TestNoAnswerInTimeIsATimeoutByName(t *testing.T) {
	port := silent(t)
	code, out, _ := call("-timeout", "60ms", "127.0.0.1", port)
	lines := told(t, out)
	if want := "failed: connect to 127.0.0.1:" + port + ": timeout: no answer in 60ms"; code != 1 || lines[len(lines)-1] != want {
		t.Errorf("exit %d, told:\n%s", code, out)
	}
}

func TestAResolverThatDoesNotAnswerIsATimeoutByName(t *testing.T) {
	var b bytes.Buffer
	l := lesson{
		host: "redis.example", port: 1, timeout: 20 * time.Millisecond, out: &b, start: time.Now(),
		resolve: func(ctx context.Context, _ string, _ int) ([]anet.Endpoint, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
	}
	err := l.run()
	if !errors.Is(err, errTimeout) || err.Error() != "resolve redis.example: timeout: no answer in 20ms" {
		t.Errorf("got %v", err)
	}
}

func TestANameThatCannotBeResolvedExitsWith1(t *testing.T) {
	code, out, _ := call("not..a..name", "6379") // no resolver is asked for such a name
	lines := told(t, out)
	if last := lines[len(lines)-1]; code != 1 || !strings.HasPrefix(last, "failed: resolve not..a..name: ") {
		t.Errorf("exit %d, told:\n%s", code, out)
	}
}

func TestTheConnectionComesFromTheSource(t *testing.T) {
	host, port := listening(t, "tcp4", "127.0.0.1:0")
	code, out, _ := call("-source", "127.0.0.2", host, port)
	if code != 0 || !strings.Contains(out, "connected from 127.0.0.2:") {
		t.Errorf("exit %d, told:\n%s", code, out)
	}
}

func TestASourceThatIsNotOursIsNamedAndExitsWith1(t *testing.T) {
	host, port := listening(t, "tcp4", "127.0.0.1:0")
	code, out, _ := call("-source", "192.0.2.1", host, port) // reserved for documentation, RFC 5737
	failure := "bind to 192.0.2.1, to connect to 127.0.0.1:" + port + ": cannot assign requested address (EADDRNOTAVAIL)"
	if code != 1 {
		t.Errorf("exit %d", code)
	}
	expect(t, out,
		"resolve 127.0.0.1"+resolving,
		"address 1 of 1: 127.0.0.1:"+port,
		"failed at once: "+failure,
		"failed: "+failure)
}

func TestWrongUsageExitsWith2AndShowsAnExampleOnStderr(t *testing.T) {
	for _, c := range []struct{ args, says string }{
		{"", "got 0 arguments"},
		{"localhost", "got 1 arguments"},
		{"localhost 1 2", "got 3 arguments"},
		{"localhost redis", `"redis"`},
		{"localhost 0", `"0"`},
		{"localhost 65536", `"65536"`},
		{"localhost -1", `"-1"`},
		{"-timeout 0s localhost 1", "timeout"},
		{"-timeout soon localhost 1", "soon"},
		{"-source nowhere localhost 1", "nowhere"},
		{"-verbose localhost 1", "verbose"},
	} {
		code, stdout, stderr := call(strings.Fields(c.args)...)
		first, _, _ := strings.Cut(stderr, "\n")
		if code != 2 || stdout != "" || !strings.Contains(first, c.says) || !strings.Contains(stderr, "example:\n  nc -l") {
			t.Errorf("nbconnect %s: exit %d, stdout %q, stderr:\n%s", c.args, code, stdout, stderr)
		}
	}
	if code, _, stderr := call("", "1"); code != 2 || !strings.Contains(stderr, "the host is empty") {
		t.Errorf("an empty host: exit %d, stderr:\n%s", code, stderr)
	}
}

func TestHelpExitsWith0AndShowsAnExampleOnStdout(t *testing.T) {
	for _, arg := range []string{"-h", "-help", "--help"} {
		code, stdout, stderr := call(arg)
		if code != 0 || stderr != "" || !strings.Contains(stdout, "example:\n  nc -l") {
			t.Errorf("nbconnect %s: exit %d, stdout %q, stderr %q", arg, code, stdout, stderr)
		}
	}
}

func TestTheBinaryConnectsRefusesAndExitsAsItSays(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "nbconnect")
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	host, port := listening(t, "tcp4", "127.0.0.1:0")
	_, refused := socket(t)
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{host, port}, 0, "ms  connection done.\n"},
		{[]string{host, refused}, 1, "(ECONNREFUSED)\n"},
		{[]string{host}, 2, "usage: nbconnect"},
	} {
		cmd := exec.CommandContext(t.Context(), binary, c.args...)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		if code := cmd.ProcessState.ExitCode(); code != c.code || !strings.Contains(string(out), c.says) {
			t.Errorf("nbconnect %v: exit %d, want %d with %q:\n%s", c.args, code, c.code, c.says, out)
		}
	}
}
