package replica_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"replicad/anet"
	"replicad/anet/anettest"
	"replicad/eventloop"
	"replicad/replica"
	"replicad/replica/resp"
)

// TestMain lets many tests wait at once: most of them wait for a timer of the
// link.
func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "16")
	os.Exit(m.Run())
}

const (
	replID   = "1f7c9b4f9be120e8d6513d80deffc596506747ff"
	otherID  = "2e5b385a38e6623dff2bf1b057f4ee2ba5f20e05"
	eofMark  = "e0f7afda7855d3ea82f653217889d7ee246301f7"
	payload  = "REDIS0011\xff\x00\x00\x00\x00\x00\x00\x00\x00" // an empty RDB, without a checksum
	setFoo   = "*3\r\n$3\r\nset\r\n$3\r\nfoo\r\n$3\r\nbar\r\n"
	selectDB = "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n"
	getAck   = "*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n"
)

// fullSync is the answer to PSYNC with payload, and the whole answer with all
// that comes before it; a link reads them at once as well as one by one.
const (
	fullSync  = "+FULLRESYNC " + replID + " 1000\r\n$18\r\n" + payload
	everyStep = "+PONG\r\n+OK\r\n+OK\r\n+OK\r\n"
)

// talk is the master's end of a connection, for what no conversation file can
// say.
type talk struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
}

func accept(t testing.TB, ln net.Listener) *talk {
	t.Helper()
	if l, ok := ln.(interface{ SetDeadline(time.Time) error }); ok {
		l.SetDeadline(time.Now().Add(patience))
	}
	conn, err := ln.Accept()
	if err != nil {
		t.Fatalf("accept: %v", err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return &talk{t, conn, bufio.NewReader(conn)}
}

func (k *talk) say(s string) {
	k.t.Helper()
	if _, err := io.WriteString(k.conn, s); err != nil {
		k.t.Fatalf("write: %v", err)
	}
}

// hear reads commands up to one with this name.
func (k *talk) hear(name string) []string {
	k.t.Helper()
	for {
		cmd, err := k.command()
		if err != nil {
			k.t.Fatalf("%s was awaited: %v", name, err)
		}
		if cmd[0] == name {
			return cmd
		}
	}
}

func (k *talk) command() ([]string, error) {
	var n, size int
	if _, err := fmt.Fscanf(k.r, "*%d\r\n", &n); err != nil {
		return nil, err
	}
	var cmd []string
	for range n {
		if _, err := fmt.Fscanf(k.r, "$%d\r\n", &size); err != nil {
			return nil, err
		}
		arg := make([]byte, size+2)
		if _, err := io.ReadFull(k.r, arg); err != nil {
			return nil, err
		}
		cmd = append(cmd, string(arg[:size]))
	}
	return cmd, nil
}

// nextAck waits for an ACK, whatever it says.
func (k *talk) nextAck() ack {
	k.t.Helper()
	for {
		if a, ok := ackOf(k.hear("REPLCONF")); ok {
			return a
		}
	}
}

// hearAck waits for an ACK of an offset.
func (k *talk) hearAck(offset int64) {
	k.t.Helper()
	for k.nextAck().offset != offset {
	}
}

func endpointOf(addr net.Addr) anet.Endpoint {
	return anet.TCP(netip.MustParseAddrPort(addr.String()))
}

// addresses is a resolver that knows these.
func addresses(eps ...anet.Endpoint) func(context.Context, string, int) ([]anet.Endpoint, error) {
	return func(context.Context, string, int) ([]anet.Endpoint, error) { return eps, nil }
}

// deadPort is an address where nobody listens.
func deadPort(t testing.TB) anet.Endpoint {
	ln := listen(t)
	ln.Close()
	return endpointOf(ln.Addr())
}

// blackHole is an address that does not answer.
func blackHole(t testing.TB) anet.Endpoint {
	t.Helper()
	return anet.TCP(anettest.FullQueue(t))
}

func TestAnErrorFromSocketErrorLeadsToTheNextAddress(t *testing.T) {
	t.Parallel()
	ln, dead := listen(t), deadPort(t)
	r := newRig(t, replica.Config{Resolve: addresses(dead, endpointOf(ln.Addr()))}, storeOptions{}, ln.Addr())
	r.start()
	k := accept(t, ln)
	k.say(everyStep + fullSync)
	r.waitPlace("SYNC/STREAM")
	r.stop()
	r.checkPath()
	var told []error
	for _, e := range r.events {
		if e.Kind == replica.SocketError {
			told = append(told, e.Err)
		}
	}
	if len(told) != 2 || told[0] != syscall.ECONNREFUSED || told[1] != nil {
		t.Errorf("SO_ERROR was told as %v, want ECONNREFUSED and then nil", told)
	}
	if len(r.failures) > 0 {
		t.Errorf("the attempt failed: %v", r.failures[0].Err)
	}
}

func TestARefusedConnectionIsAFailureWithItsErrno(t *testing.T) {
	t.Parallel()
	dead := deadPort(t)
	r := newRig(t, replica.Config{Master: replica.Master{Name: "m", Host: "h", Port: 1}, Resolve: addresses(dead)}, storeOptions{}, nil)
	r.start()
	r.waitFailures(4) // it goes on trying
	r.stop()
	r.checkPath()
	f := r.failure(0)
	if f.State != replica.Connecting || !errors.Is(f, syscall.ECONNREFUSED) || !strings.Contains(f.Error(), "ECONNREFUSED") ||
		!strings.Contains(f.Error(), dead.String()) || !strings.Contains(f.Remedy, "is redis-server running there") {
		t.Errorf("got %v", f)
	}
	if d := r.failures[0].Delay; d != 0 {
		t.Errorf("the first retry waits %v", d)
	}
	if d := r.failures[3].Delay; d <= 0 || d > 5*time.Millisecond {
		t.Errorf("the fourth retry waits %v", d)
	}
}

func TestAnAddressThatDoesNotAnswerIsGivenUpForTheNext(t *testing.T) {
	t.Parallel()
	ln, hole := listen(t), blackHole(t)
	r := newRig(t, replica.Config{Resolve: addresses(hole, endpointOf(ln.Addr())), ReplSyncioTimeout: 200 * time.Millisecond}, storeOptions{}, ln.Addr())
	r.start()
	accept(t, ln).say(everyStep + fullSync)
	r.waitPlace("SYNC/STREAM")
	r.stop()
	r.checkPath()
	if n := r.count(replica.ConnectCalled); n < 2 {
		t.Errorf("connect was called %d times", n)
	}
}

func TestAConnectThatIsNeverAnsweredEndsByItsDeadline(t *testing.T) {
	t.Parallel()
	r := newRig(t, replica.Config{Master: replica.Master{Name: "m", Host: "h", Port: 1}, Resolve: addresses(blackHole(t)), ReplSyncioTimeout: 30 * time.Millisecond}, storeOptions{}, nil)
	r.start()
	r.waitFailures(1)
	r.stop()
	if f := r.failure(0); f.State != replica.Connecting || !errors.Is(f, replica.ErrDeadline) || !strings.Contains(f.Remedy, "firewall") {
		t.Errorf("got %v", f)
	}
}

func TestANameThatCannotBeResolvedIsAFailureInNone(t *testing.T) {
	t.Parallel()
	for name, resolve := range map[string]func(context.Context, string, int) ([]anet.Endpoint, error){
		"no such name": func(context.Context, string, int) ([]anet.Endpoint, error) {
			return nil, &net.DNSError{Err: "no such host", Name: "h", IsNotFound: true}
		},
		"no answer": func(ctx context.Context, _ string, _ int) ([]anet.Endpoint, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, replica.Config{Master: replica.Master{Name: "m", Host: "h", Port: 1}, Resolve: resolve, ResolveTimeout: 20 * time.Millisecond}, storeOptions{}, nil)
			r.start()
			r.waitFailures(2)
			r.stop()
			r.checkPath()
			if f := r.failure(0); f.State != replica.None || !errors.Is(f, replica.ErrResolve) || !strings.Contains(f.Remedy, "resolver") {
				t.Errorf("got %v", f)
			}
		})
	}
}

func TestAUnixSocketGoesThroughAllStates(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "redis.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	r := newRig(t, replica.Config{Master: replica.Master{Name: "m", Path: path}}, storeOptions{splice: true}, nil)
	r.start()
	k := accept(t, ln)
	k.say(everyStep + "+FULLRESYNC " + replID + " 1000\r\n$18\r\n" + payload[:9])
	r.wait("the first half", func() bool { return r.store.baseSize == 9 })
	k.say(payload[9:] + selectDB)
	r.wait("the stream", func() bool { return r.store.taken() == 1023 })
	r.stop()
	r.checkPath()
	if string(r.store.payload) != payload || r.store.rooms != 1 {
		t.Errorf("payload %q, asked for room %d times", r.store.payload, r.store.rooms)
	}
}

func TestAMissingUnixSocketIsAFailureWithItsRemedy(t *testing.T) {
	t.Parallel()
	r := newRig(t, replica.Config{Master: replica.Master{Name: "m", Path: filepath.Join(t.TempDir(), "none")}}, storeOptions{}, nil)
	r.start()
	r.waitFailures(1)
	r.stop()
	r.checkPath()
	if f := r.failure(0); !errors.Is(f, syscall.ENOENT) || !strings.Contains(f.Remedy, "no such unix socket") {
		t.Errorf("got %v", f)
	}
}

// stops are the places where a link can stand, each with what a master has said
// to bring it there.
var stops = []struct{ place, said string }{
	{"RECEIVE_PONG", ""},
	{"SYNC/AUTH", "+PONG\r\n"},
	{"SYNC/PORT", "+PONG\r\n+OK\r\n"},
	{"SYNC/IP", "+PONG\r\n+OK\r\n+OK\r\n"},
	{"SYNC/CAPA", "+PONG\r\n+OK\r\n+OK\r\n+OK\r\n"},
	{"SYNC/VERSION", "+PONG\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n"},
	{"SYNC/PSYNC", "+PONG\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n"},
	{"SYNC/TRANSFER", "+PONG\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+FULLRESYNC " + replID + " 1000\r\n"},
	{"SYNC/TRANSFER", "+PONG\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+FULLRESYNC " + replID + " 1000\r\n$18\r\nREDIS"},
	{"SYNC/TRANSFER", "+PONG\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+FULLRESYNC " + replID + " 1000\r\n$EOF:" + eofMark + "\r\nREDIS"},
	{"SYNC/STREAM", "+PONG\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n" + fullSync},
}

// everyStop is a configuration that passes through all phases.
func everyStop() replica.Config {
	return replica.Config{
		Master:     replica.Master{Name: "m", Host: "h", Port: 1, User: "backup", Password: "s3cr3t-pass"},
		AnnounceIP: "10.1.2.3",
	}
}

// serve says the same to everyone who connects, and then nothing.
func serve(t testing.TB, ln net.Listener, said string) {
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				io.WriteString(conn, said)
				io.Copy(io.Discard, conn)
			}()
		}
	}()
}

func TestEveryStateAndPhaseHasItsDeadline(t *testing.T) {
	for _, s := range stops {
		t.Run(s.place+fmt.Sprint(len(s.said)), func(t *testing.T) {
			t.Parallel()
			ln := listen(t)
			serve(t, ln, s.said)
			cfg := everyStop()
			cfg.ReplSyncioTimeout, cfg.ReplTimeout = 50*time.Millisecond, 60*time.Millisecond
			r := newRig(t, cfg, storeOptions{}, ln.Addr())
			r.start()
			// On a busy machine an earlier step may take too long as well.
			var f *replica.LinkError
			r.wait("its deadline", func() bool {
				for _, e := range r.failures {
					if f = e.Err.(*replica.LinkError); replica.Place(f.State, f.Phase) == s.place {
						return true
					}
				}
				return false
			})
			r.stop()
			r.checkPath()
			if !errors.Is(f, replica.ErrDeadline) || f.Remedy == "" {
				t.Errorf("got %v", f)
			}
			if r.store.begun != r.store.aborted+r.store.commits {
				t.Errorf("%d bases begun, %d aborted, %d committed", r.store.begun, r.store.aborted, r.store.commits)
			}
		})
	}
}

func TestAMasterThatSendsNewlinesForEverIsCut(t *testing.T) {
	for place, said := range map[string]string{"SYNC/PSYNC": everyStep, "SYNC/TRANSFER": everyStep + "+FULLRESYNC " + replID + " 1000\r\n"} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			ln := listen(t)
			cfg := replica.Config{ReplTimeout: 10 * time.Second, ReplBGSaveTimeout: 200 * time.Millisecond}
			r := newRig(t, cfg, storeOptions{}, ln.Addr())
			r.start()
			k := accept(t, ln)
			k.say(said)
			r.waitPlace(place)
			done := make(chan struct{})
			go func() {
				defer close(done)
				for {
					if _, err := io.WriteString(k.conn, "\n"); err != nil {
						return
					}
					runtime.Gosched()
				}
			}()
			r.waitFailures(1)
			<-done
			r.stop()
			r.checkPath()
			if f := r.failure(0); replica.Place(f.State, f.Phase) != place || !errors.Is(f, replica.ErrDeadline) {
				t.Errorf("got %v", f)
			}
		})
	}
}

func TestNewlinesKeepALinkAliveBeyondReplTimeout(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	timeout := 2 * time.Second
	if testing.Short() {
		timeout /= 2
	}
	r := newRig(t, replica.Config{ReplTimeout: timeout}, storeOptions{}, ln.Addr())
	r.start()
	k := accept(t, ln)
	k.say(everyStep)
	// Time itself is what this is about: newlines, for twice the timeout.
	newlines := func() {
		every := time.NewTicker(timeout / 14)
		defer every.Stop()
		for begin := time.Now(); time.Since(begin) < 2*timeout; <-every.C {
			k.say("\n")
		}
	}
	newlines()
	k.say("+FULLRESYNC " + replID + " 1000\r\n")
	newlines()
	k.say("$18\r\n" + payload)
	r.waitPlace("SYNC/STREAM")
	r.stop()
	r.checkPath()
	if len(r.failures) > 0 {
		t.Errorf("it failed: %v", r.failures[0].Err)
	}
}

func TestAReplyOfMoreThan64KiBIsRefusedInEveryPlace(t *testing.T) {
	for _, s := range stops[:8] {
		t.Run(s.place, func(t *testing.T) {
			t.Parallel()
			ln := listen(t)
			r := newRig(t, everyStop(), storeOptions{}, ln.Addr())
			r.start()
			k := accept(t, ln)
			k.say(s.said)
			go io.Copy(k.conn, strings.NewReader(strings.Repeat("x", 65<<10)))
			r.waitFailures(1)
			r.stop()
			r.checkPath()
			f := r.failure(0)
			if replica.Place(f.State, f.Phase) != s.place || !errors.Is(f, replica.ErrUnexpected) || !errors.Is(f, resp.ErrLineTooLong) {
				t.Errorf("got %v", f)
			}
			if len(f.Error()) > 500 {
				t.Errorf("the error has %d bytes", len(f.Error()))
			}
		})
	}
}

// openFDs is how many descriptors this process has open.
func openFDs(t testing.TB) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}

// It runs alone, as it counts.
func TestStopInEveryStateAndPhaseLeaksNothing(t *testing.T) {
	hang := func(ctx context.Context, _ string, _ int) ([]anet.Endpoint, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	type where struct {
		name    string
		place   string
		said    string
		resolve func(context.Context, string, int) ([]anet.Endpoint, error)
	}
	all := []where{{"resolving", "NONE", "", hang}, {"connecting", "CONNECTING", "", addresses(blackHole(t))}}
	for _, s := range stops {
		all = append(all, where{s.place + fmt.Sprint(len(s.said)), s.place, s.said, nil})
	}
	for _, opt := range []storeOptions{{}, {splice: true}} {
		for _, s := range all {
			t.Run(fmt.Sprintf("%s/splice=%v", s.name, opt.splice), func(t *testing.T) {
				ln := listen(t)
				goroutines, fds := runtime.NumGoroutine(), openFDs(t)
				cfg := everyStop()
				cfg.Resolve = s.resolve
				r := newRig(t, cfg, opt, ln.Addr())
				r.start()
				var k *talk
				if s.resolve == nil {
					k = accept(t, ln)
					k.say(s.said)
				}
				if i := strings.Index(s.said, "\r\nREDIS"); i > 0 && s.place == "SYNC/TRANSFER" {
					r.wait("the payload", func() bool { return r.store.baseSize == 5 })
				} else if s.place != "NONE" {
					r.waitPlace(s.place)
				}
				r.stop()
				r.checkPath()
				if n := r.events[len(r.events)-1]; n.Kind != replica.Stopped && r.count(replica.Stopped) != 1 {
					t.Errorf("Stopped was told %d times", r.count(replica.Stopped))
				}
				if len(r.failures) > 0 {
					t.Errorf("Stop is no failure: %v", r.failures[0].Err)
				}
				if r.place() != "NONE" {
					t.Errorf("it stopped in %s", r.place())
				}
				if r.store.begun != r.store.aborted+r.store.commits {
					t.Errorf("%d bases begun, %d aborted, %d committed", r.store.begun, r.store.aborted, r.store.commits)
				}
				if k != nil {
					if _, err := io.Copy(io.Discard, k.r); err != nil && !errors.Is(err, syscall.ECONNRESET) {
						t.Errorf("the connection is open: %v", err)
					}
					k.conn.Close()
				}
				end := time.Now().Add(patience)
				for runtime.NumGoroutine() > goroutines || openFDs(t) > fds {
					if time.Now().After(end) {
						buf := make([]byte, 1<<16)
						t.Fatalf("before %d goroutines and %d descriptors, after %d and %d\n%s", goroutines, fds, runtime.NumGoroutine(), openFDs(t), buf[:runtime.Stack(buf, true)])
					}
					runtime.Gosched()
				}
			})
		}
	}
}

func TestStopWaitsForTheResolverAndAsksForNoRoomAfterIt(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	var back atomic.Bool
	cfg := replica.Config{Master: replica.Master{Name: "m", Host: "h", Port: 1}}
	cfg.Resolve = func(ctx context.Context, _ string, _ int) ([]anet.Endpoint, error) {
		close(entered)
		<-ctx.Done() // Stop cancels
		<-release
		back.Store(true)
		return nil, ctx.Err()
	}
	r := newRig(t, cfg, storeOptions{}, nil)
	r.start()
	<-entered
	r.on(func() {
		r.link.Stop(func() {
			if !back.Load() {
				t.Error("done is called while the resolver runs")
			}
		})
	})
	close(release)
	r.stop()
}

func TestAStoreThatFailsWhileTheNameIsResolvedIsResetBeforeTheConnect(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	entered, release := make(chan struct{}, 10), make(chan struct{})
	cfg := replica.Config{Resolve: func(context.Context, string, int) ([]anet.Endpoint, error) {
		entered <- struct{}{}
		<-release
		return []anet.Endpoint{endpointOf(ln.Addr())}, nil
	}}
	r := newRig(t, cfg, storeOptions{position: &replica.Position{ReplID: replID, Offset: 1000}}, ln.Addr())
	r.start()
	<-entered
	r.store.set(func() { r.store.failed = errors.New("fsync: input/output error") })
	r.on(func() {}) // the notification was posted before this
	close(release)
	k := accept(t, ln)
	k.say(everyStep)
	if got := k.hear("PSYNC"); got[2] != "1001" {
		t.Errorf("it asks for %q", got)
	}
	r.wait("the reset", func() bool { return r.store.resets == 1 && r.count(replica.StoreReset) == 1 })
	for _, e := range r.events {
		if e.Kind == replica.ConnectCalled && r.count(replica.StoreReset) == 0 {
			t.Error("it connected before the reset")
		}
		if e.Kind == replica.StoreReset {
			break
		}
	}
	r.stop()
	r.checkPath()
}

func TestAStreamThatBreaksTheProtocolIsCutAtTheLastCommandAndResumed(t *testing.T) {
	for name, bad := range map[string][]string{
		"in its own segment":      {selectDB + setFoo, "garbage\r\n"},
		"with the good commands":  {"", selectDB + setFoo + "garbage\r\n"},
		"inside a command":        {selectDB + setFoo, "*3\r\n$3\r\nset", "\r\nx"},
		"inside a transaction":    {selectDB + setFoo, "*1\r\n$5\r\nMULTI\r\n" + setFoo, "+OK\r\n"},
		"a reply":                 {selectDB + setFoo, "-ERR what\r\n"},
		"a newline":               {selectDB + setFoo, "\n"},
		"a bulk that is too long": {selectDB + setFoo, "*2\r\n$3\r\nset\r\n$1001\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ln := listen(t)
			r := newRig(t, replica.Config{Limits: resp.Limits{MaxBulk: 1000}}, storeOptions{}, ln.Addr())
			r.start()
			k := accept(t, ln)
			k.say(everyStep + fullSync)
			for i, s := range bad {
				if i > 0 {
					total := r.total()
					k.say(s)
					r.wait("bytes or failure", func() bool { return r.store.total > total || len(r.failures) > 0 })
					continue
				}
				k.say(s)
				r.wait("the good bytes", func() bool { return r.store.total == int64(len(s)) })
			}
			r.waitFailures(1)
			k = accept(t, ln)
			k.say(everyStep)
			if got, want := k.hear("PSYNC"), []string{"PSYNC", replID, "1055"}; !slices.Equal(got, want) {
				t.Errorf("it asks for %q, want %q", got, want)
			}
			k.say("+CONTINUE\r\n" + setFoo)
			r.wait("the resumed stream", func() bool { return r.store.taken() == 1054+31 })
			r.stop()
			r.checkPath()
			if f := r.failure(0); f.Phase != replica.Stream || !errors.Is(f, resp.ErrProtocol) || f.Remedy == "" {
				t.Errorf("got %v", f)
			}
			if got := string(r.store.stream); got != selectDB+setFoo+setFoo || r.store.resets != 1 || r.count(replica.StoreReset) != 1 {
				t.Errorf("%d resets, stream %q", r.store.resets, got)
			}
		})
	}
}

func (r *rig) total() int64 {
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	return r.store.total
}

func TestAStoreThatFailsIsResetAndAsksForWhatItLost(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	r := newRig(t, replica.Config{}, storeOptions{}, ln.Addr())
	r.start()
	k := accept(t, ln)
	k.say(everyStep + fullSync + selectDB + setFoo[:10])
	r.wait("the stream", func() bool { return r.store.taken() == 1033 })
	sick := errors.New("fsync: input/output error")
	r.store.set(func() { r.store.failed, r.store.resetErr = sick, errors.New("still sick") })
	r.waitFailures(3) // the stream, and two resets
	r.store.set(func() { r.store.resetErr = nil })
	k = accept(t, ln)
	k.say(everyStep)
	if got, want := k.hear("PSYNC"), []string{"PSYNC", replID, "1024"}; !slices.Equal(got, want) {
		t.Errorf("it asks for %q, want %q", got, want)
	}
	k.say("+CONTINUE\r\n")
	r.waitPlace("SYNC/STREAM")
	r.stop()
	r.checkPath()
	if f := r.failure(0); f.Phase != replica.Stream || !errors.Is(f, replica.ErrStore) || !errors.Is(f, sick) || !strings.Contains(f.Remedy, "check the disk") {
		t.Errorf("got %v", f)
	}
	if f := r.failure(1); f.State != replica.None || !errors.Is(f, replica.ErrStore) {
		t.Errorf("got %v", f)
	}
}

func TestWhatIsReceivedInAStallIsToldThoughNothingMoreIsStored(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	r := newRig(t, replica.Config{}, storeOptions{capacity: 1 << 10}, ln.Addr())
	r.start()
	k := accept(t, ln)
	k.say(everyStep + fullSync)
	r.waitPlace("SYNC/STREAM")
	full := fmt.Errorf("write: %w", syscall.ENOSPC)
	r.store.set(func() { r.store.stalled = full })
	r.waitEvent(replica.Stalled, 1)
	k.say(setFoo)
	r.wait("the bytes", func() bool { return r.store.total == int64(len(setFoo)) })
	r.store.set(func() { r.store.stalled = full }) // as the archive tries again
	r.on(func() {})                                // behind what that posts
	r.store.set(func() { r.store.stalled = full })
	r.on(func() {})
	r.stop()
	n := 0
	for _, e := range r.events {
		if e.Kind == replica.Advanced && e.Received == 1000+int64(len(setFoo)) && e.Offset == 1000 && e.Durable == 1000 {
			n++
		}
	}
	if n != 1 {
		t.Errorf("the bytes that wait were told %d times\n%s", n, r.story())
	}
}

func TestAStallIsToldOnceAndSoIsItsEnd(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	r := newRig(t, replica.Config{}, storeOptions{}, ln.Addr())
	r.start()
	accept(t, ln).say(everyStep + fullSync)
	r.waitPlace("SYNC/STREAM")
	full := fmt.Errorf("write: %w", syscall.ENOSPC)
	r.store.set(func() { r.store.stalled = full })
	r.waitEvent(replica.Stalled, 1)
	r.store.set(func() { r.store.stalled = full })
	r.on(func() {})
	r.store.set(func() { r.store.stalled = nil })
	r.waitEvent(replica.Healed, 1)
	r.stop()
	if n := r.count(replica.Stalled); n != 1 {
		t.Errorf("the stall was told %d times", n)
	}
	if len(r.failures) > 0 {
		t.Errorf("a stall ended the link: %v", r.failures[0].Err)
	}
}

func TestAFullSyncWithoutRoomIsNotAskedForAgainUntilThereIsSome(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	r := newRig(t, replica.Config{}, storeOptions{largest: 17}, ln.Addr())
	r.start()
	k := accept(t, ln)
	// First: later attempts must not get as far as the master.
	r.store.set(func() { r.store.noRoom = fmt.Errorf("%w: 18 bytes", replica.ErrNoRoom) })
	k.say(everyStep + fullSync)
	r.waitFailures(3)
	r.store.set(func() { r.store.noRoom, r.store.opt.largest = nil, 0 })
	k = accept(t, ln)
	k.say(everyStep + fullSync)
	r.waitPlace("SYNC/STREAM")
	r.stop()
	r.checkPath()
	if f := r.failure(0); f.Phase != replica.Transfer || !errors.Is(f, replica.ErrNoRoom) || !errors.Is(f, replica.ErrStore) || !strings.Contains(f.Remedy, "free some room") {
		t.Errorf("got %v", f)
	}
	if f := r.failure(1); f.State != replica.None || !errors.Is(f, replica.ErrNoRoom) {
		t.Errorf("got %v", f)
	}
}

func TestBackPressureLosesNoByteAndIsNoTimeout(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	// repl-timeout is shorter than the ACK's second: each of the two ACKs
	// awaited below could have ended the link.
	r := newRig(t, replica.Config{ReplTimeout: 900 * time.Millisecond}, storeOptions{buffer: 1000, capacity: 5000}, ln.Addr())
	r.start()
	k := accept(t, ln)
	k.say(everyStep + fullSync)
	r.waitPlace("SYNC/STREAM")
	var want bytes.Buffer
	for want.Len() < 300_000 {
		want.Write(resp.AppendCommand(nil, "set", strconv.Itoa(want.Len()), strings.Repeat("v", rng.IntN(3000))))
	}
	written := make(chan error, 1)
	go func() {
		_, err := k.conn.Write(want.Bytes())
		written <- err
	}()
	r.waitEvent(replica.Paused, 1)
	acks := r.count(replica.Acknowledged)
	r.wait("two ACKs more", func() bool { return r.count(replica.Acknowledged) >= acks+2 })
	if got := r.store.taken() - 1000; got != 5000 {
		t.Errorf("paused, it took %d bytes, there was room for 5000", got)
	}
	go io.Copy(io.Discard, k.r)
	for stored := int64(0); stored < int64(want.Len()); {
		n := int64(rng.IntN(5000))
		if !r.wait("bytes to store", func() bool { return r.store.taken() > r.store.stored }) {
			break
		}
		r.store.store(n)
		r.w.do(func() { stored = r.store.stored - 1000 })
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
	r.stop()
	r.checkPath()
	if !bytes.Equal(r.store.stream, want.Bytes()) {
		t.Errorf("%d bytes are not the %d that were sent", len(r.store.stream), want.Len())
	}
	paused, unpaused := r.count(replica.Paused), r.count(replica.Unpaused)
	if paused < 10 || paused-unpaused > 1 || len(r.failures) > 0 {
		t.Errorf("paused %d times, unpaused %d times, failures %v", paused, unpaused, r.failures)
	}
	for _, e := range r.events {
		if e.Kind == replica.Paused && e.Registered&eventloop.Readable != 0 || e.Kind == replica.Unpaused && e.Registered&eventloop.Readable == 0 {
			t.Errorf("event %d says %s is registered", e.Kind, e.Registered)
		}
	}
}

func TestBytesReadWithTheReplyWaitForRoomToo(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	r := newRig(t, replica.Config{}, storeOptions{buffer: 3, capacity: 7, position: &replica.Position{ReplID: replID, Offset: 1000}}, ln.Addr())
	r.start()
	k := accept(t, ln)
	k.say(everyStep + "+CONTINUE\r\n" + selectDB + setFoo)
	for end := int64(1007); ; end = min(end+7, 1054) {
		if !r.wait(fmt.Sprint("offset ", end), func() bool { return r.store.taken() == end }) || end == 1054 {
			break
		}
		r.store.store(7)
	}
	k.say(setFoo)
	for r.store.store(7); r.wait("more", func() bool { return r.store.taken() > r.store.stored || r.store.taken() == 1085 }); r.store.store(7) {
		var end int64
		r.w.do(func() { end = r.store.taken() })
		if end == 1085 {
			break
		}
	}
	r.stop()
	if got := string(r.store.stream); got != selectDB+setFoo+setFoo {
		t.Errorf("got %q", got)
	}
}

func TestAMasterThatDoesNotReadItsAcksGetsThemWholeLater(t *testing.T) {
	t.Parallel()
	// A unix socket: its writer has a buffer of a known size, its reader none.
	path := filepath.Join(t.TempDir(), "redis.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	r := newRig(t, replica.Config{Master: replica.Master{Name: "m", Path: path}}, storeOptions{buffer: len(getAck)}, nil)
	r.hook = func(e replica.Event) {
		if e.Kind == replica.ConnectCalled && e.FD >= 0 {
			unix.SetsockoptInt(e.FD, unix.SOL_SOCKET, unix.SO_SNDBUF, 1) // the kernel's least
		}
	}
	r.start()
	k := accept(t, ln)
	k.say(everyStep + fullSync)
	r.waitPlace("SYNC/STREAM")
	// One GETACK at a time, until an ACK can't be written as a whole: the
	// write event is registered.
	registered := func() (on bool) {
		r.on(func() { on = r.loop.FileEvents(r.link.FD())&eventloop.Writable != 0 })
		return on
	}
	n := int64(0)
	for ; !registered(); n++ {
		k.say(getAck)
		if n > 100_000 || !r.wait("GETACK", func() bool { return r.store.total == (n+1)*37 }) {
			t.Fatal("the write event is never registered")
		}
	}
	for range 10 { // dropped, but for their bytes
		k.say(getAck)
		n++
	}
	r.wait("all GETACKs", func() bool { return r.store.total == n*37 })
	last := int64(-1)
	for last < 1000+n*37 { // the last one is that of the next second
		a, ok := ackOf(k.hear("REPLCONF"))
		if !ok {
			continue
		}
		if a.offset < last {
			t.Fatalf("ACK %d after %d", a.offset, last)
		}
		last = a.offset
	}
	end := time.Now().Add(patience)
	for registered() && time.Now().Before(end) {
		runtime.Gosched()
	}
	if registered() {
		t.Error("the write event stays registered, with nothing to write")
	}
	r.stop()
	r.checkPath()
	if len(r.failures) > 0 {
		t.Errorf("it failed: %v", r.failures[0].Err)
	}
}

func TestWhatWasLeftUnsentWhileTheSocketWasLentIsSentInTheStream(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	opt := storeOptions{gate: make(chan struct{})}
	r := newRig(t, replica.Config{}, opt, ln.Addr())
	r.start()
	k := accept(t, ln)
	k.say(everyStep + fullSync)
	k.hearAck(0)
	r.on(func() { r.link.Queue("*1\r\n$4\r\nrest\r\n") })
	close(opt.gate)
	k.hear("rest")
	k.say(getAck)
	k.hearAck(1000)
	r.stop()
}

func TestNoAckIsAboveZeroBeforeTheBaseIsDurableAndInPlace(t *testing.T) {
	for _, durable := range []bool{false, true} {
		t.Run(fmt.Sprintf("AckDurable=%v", durable), func(t *testing.T) {
			t.Parallel()
			ln := listen(t)
			opt := storeOptions{gate: make(chan struct{})}
			r := newRig(t, replica.Config{AckDurable: durable}, opt, ln.Addr())
			r.start()
			k := accept(t, ln)
			k.say(everyStep + fullSync)
			for range 2 { // at once, and a second later
				if a := k.nextAck(); a != (ack{0, 0}) {
					t.Errorf("before the base is in place it says ACK %d FACK %d", a.offset, a.durable)
				}
			}
			close(opt.gate)
			if a := k.nextAck(); a != (ack{1000, 1000}) {
				t.Errorf("behind it, it says ACK %d FACK %d", a.offset, a.durable)
			}
			r.stop()
			r.checkPath()
		})
	}
}

func TestAnAckThatFailsBehindThePayloadLeavesNoTimerBehind(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	opt := storeOptions{gate: make(chan struct{})}
	r := newRig(t, replica.Config{}, opt, ln.Addr())
	gone := make(chan struct{})
	r.hook = func(e replica.Event) {
		if e.Kind == replica.TransferReceived {
			<-gone
		}
	}
	r.start()
	k := accept(t, ln)
	k.say(everyStep + "+FULLRESYNC " + replID + " 1000\r\n$18\r\n" + payload)
	r.waitEvent(replica.TransferReceived, 1)
	k.conn.(*net.TCPConn).SetLinger(0) // a reset
	k.conn.Close()
	close(gone)
	r.waitFailures(1)
	r.on(func() {
		if r.link.Ticking() {
			t.Error("the ACK of the next second is due, in NONE")
		}
	})
	close(opt.gate)
	// The base was committed all the same: its history goes on.
	k = accept(t, ln)
	k.say(everyStep)
	if got := k.hear("PSYNC"); got[1] != replID || got[2] != "1001" {
		t.Errorf("it asks for %q", got)
	}
	r.stop()
	r.checkPath()
	if f := r.failure(0); f.Phase != replica.Transfer {
		t.Errorf("got %v", f)
	}
}

func TestTheFsyncBehindAGetAckIsToldAtOnce(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	r := newRig(t, replica.Config{}, storeOptions{byHand: true}, ln.Addr())
	r.start()
	k := accept(t, ln)
	k.say(everyStep + fullSync + setFoo + getAck)
	k.hearAck(1031)
	r.store.fsync()
	k.hearAck(1068)
	r.stop()
	// By the ACK of the next second it would come too, but not right behind
	// the news.
	i := slices.IndexFunc(r.events, func(e replica.Event) bool { return e.Kind == replica.Advanced && e.Durable == 1068 })
	if i < 0 || i+2 >= len(r.events) {
		t.Fatalf("the fsync was not told\n%s", r.story())
	}
	if a := r.events[i+2]; a.Kind != replica.Acknowledged || a.Durable != 1068 {
		t.Errorf("the fsync is followed by event %d\n%s", a.Kind, r.story())
	}
}

// failingStore gives bases whose Commit fails.
type failingStore struct{ *memStore }

type failingBase struct{ replica.Base }

func (s failingStore) BeginBase(f replica.FullSync) (replica.Base, error) {
	b, err := s.memStore.BeginBase(f)
	return failingBase{b}, err
}

func (failingBase) Commit() (replica.Position, error) {
	return replica.Position{}, errors.New("what the master sent is no RDB")
}

func TestABaseThatCannotBeCommittedIsAborted(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	r := newRig(t, replica.Config{}, storeOptions{}, ln.Addr())
	r.link = replica.NewLink(r.loop, failingStore{r.store}, r.cfg)
	r.start()
	accept(t, ln).say(everyStep + fullSync)
	r.waitFailures(1)
	r.stop()
	r.checkPath()
	if f := r.failure(0); f.Phase != replica.Transfer || !strings.Contains(f.Error(), "no RDB") || r.store.aborted == 0 {
		t.Errorf("%d aborted, got %v", r.store.aborted, f)
	}
}

func TestStopDuringTheCommitOfABaseWaitsForIt(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	opt := storeOptions{gate: make(chan struct{})}
	r := newRig(t, replica.Config{}, opt, ln.Addr())
	r.start()
	k := accept(t, ln)
	k.say(everyStep + fullSync)
	k.hearAck(0)
	var done atomic.Bool
	r.on(func() { r.link.Stop(func() { done.Store(true) }) })
	r.on(func() {
		if done.Load() {
			t.Error("done is called while the base is being committed")
		}
	})
	close(opt.gate)
	r.stop()
	if r.store.commits != 1 || r.store.aborted != 0 {
		t.Errorf("%d committed, %d aborted", r.store.commits, r.store.aborted)
	}
}

func TestCutIsAFailureThatTheLinkRecoversFrom(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	r := newRig(t, replica.Config{}, storeOptions{}, ln.Addr())
	r.on(func() { r.link.Cut() }) // nothing to cut
	r.start()
	k := accept(t, ln)
	k.say(everyStep + fullSync + selectDB)
	r.wait("the stream", func() bool { return r.store.taken() == 1023 })
	r.on(func() {
		r.link.Queue("*1\r\n$4\r\njunk\r\n") // must not reach the next connection
		r.link.Cut()
	})
	k = accept(t, ln)
	k.say(everyStep)
	if got := k.hear("PSYNC"); got[2] != "1024" {
		t.Errorf("it asks for %q", got)
	}
	k.say("+CONTINUE " + otherID + "\r\n" + setFoo)
	if got, err := k.command(); err != nil || got[0] != "REPLCONF" {
		t.Errorf("behind PSYNC it says %q, %v", got, err)
	}
	r.wait("the rest", func() bool { return r.store.taken() == 1054 })
	r.stop()
	r.checkPath()
	if len(r.failures) != 1 || !errors.Is(r.failure(0), replica.ErrClosed) {
		t.Errorf("failures %v", r.failures)
	}
}

func TestAPayloadOfManyPipesIsStoredByteForByte(t *testing.T) {
	const size = 5<<20 + 4321
	want := make([]byte, size)
	rand.NewChaCha8([32]byte{1}).Read(want)
	for _, opt := range []storeOptions{{}, {splice: true}} {
		for _, framing := range []string{"$" + strconv.Itoa(size), "$EOF:" + eofMark} {
			t.Run(fmt.Sprintf("splice=%v/%.4s", opt.splice, framing), func(t *testing.T) {
				t.Parallel()
				ln := listen(t)
				r := newRig(t, replica.Config{}, opt, ln.Addr())
				r.start()
				k := accept(t, ln)
				k.say(everyStep + "+FULLRESYNC " + replID + " 1000\r\n" + framing + "\r\n")
				rng := rand.New(rand.NewPCG(7, 7))
				for rest := want; len(rest) > 0; {
					n := min(len(rest), 1+rng.IntN(400_000))
					k.say(string(rest[:n]))
					rest = rest[n:]
				}
				if framing[1] == 'E' {
					k.say(eofMark)
				}
				k.hearAck(1000)
				k.say(setFoo)
				r.wait("the stream", func() bool { return r.store.taken() == 1031 })
				r.stop()
				r.checkPath()
				if !bytes.Equal(r.store.payload, want) {
					t.Errorf("%d bytes are not the %d that were sent", len(r.store.payload), size)
				}
			})
		}
	}
}

func TestAStreamThatBreaksTheProtocolTwiceAtOnePlaceIsFollowedByAFullSync(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	r := newRig(t, replica.Config{}, storeOptions{}, ln.Addr())
	r.start()
	const poison = "-ERR unknown command\r\n"
	accept(t, ln).say(everyStep + fullSync + setFoo + poison + setFoo)
	k := accept(t, ln)
	k.say(everyStep + "+CONTINUE\r\n" + poison + setFoo)
	if got := k.hear("PSYNC"); got[2] != "1032" {
		t.Errorf("got %q", got)
	}
	k = accept(t, ln)
	k.say(everyStep + "+FULLRESYNC " + replID + " 2000\r\n$18\r\n" + payload + setFoo)
	if got := k.hear("PSYNC"); got[1] != "?" {
		t.Errorf("the third time it asks %q", got)
	}
	k.hearAck(2031)
	// Once is a damage on the way: the same bytes may come whole.
	k.say(poison)
	k = accept(t, ln)
	k.say(everyStep + "+CONTINUE\r\n" + setFoo)
	if got := k.hear("PSYNC"); got[2] != "2032" {
		t.Errorf("got %q", got)
	}
	k.hearAck(2062)
	r.stop()
	r.checkPath()
	n := 0
	for _, e := range r.events {
		if e.Kind == replica.FullSyncBegun && e.Cause == replica.SyncPoisoned && strings.Contains(e.Text, "1031") {
			n++
		}
	}
	if n != 1 || len(r.failures) != 3 {
		t.Errorf("%d full syncs for that, %d failures\n%s", n, len(r.failures), r.story())
	}
}

func TestWithoutRoomForAFullSyncAHistoryIsContinuedAllTheSame(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	r := newRig(t, replica.Config{}, storeOptions{position: &replica.Position{ReplID: replID, Offset: 1000}}, ln.Addr())
	r.store.noRoom = fmt.Errorf("%w: 18 bytes", replica.ErrNoRoom)
	r.start()
	k := accept(t, ln)
	k.say(everyStep + "+CONTINUE\r\n" + setFoo)
	k.hearAck(1031)
	k.conn.Close()
	k = accept(t, ln)
	k.say(everyStep + "+FULLRESYNC " + otherID + " 2000\r\n")
	r.waitFailures(2)
	if f := r.failure(1); !errors.Is(f, replica.ErrNoRoom) {
		t.Errorf("%v", f)
	}
	// A master that an order names may have a smaller dataset.
	r.on(func() { r.link.Follow(replica.Master{Host: "other.test", Port: 1}) })
	k = accept(t, ln)
	k.say(everyStep + "+FULLRESYNC " + otherID + " 2000\r\n$18\r\n" + payload)
	r.waitPlace("SYNC/STREAM")
	r.stop()
	r.checkPath()
	if len(r.failures) != 2 {
		t.Errorf("%d failures\n%s", len(r.failures), r.story())
	}
}

func TestAMasterThatRefusesREPLCONFGetsNewlinesInPlaceOfACKs(t *testing.T) {
	t.Parallel()
	for _, refusal := range []string{"-NOPERM this user has no permissions to run the 'replconf' command\r\n", "-ERR unknown command 'REPLCONF'\r\n"} {
		ln := listen(t)
		r := newRig(t, replica.Config{}, storeOptions{}, ln.Addr())
		r.start()
		k := accept(t, ln)
		k.say("+PONG\r\n" + strings.Repeat(refusal, 3) + fullSync + setFoo)
		k.hear("PSYNC")
		for range 3 { // a command would begin with *
			if b, err := k.r.ReadByte(); b != '\n' || err != nil {
				t.Fatalf("it sent %q, %v", b, err)
			}
		}
		k.say(getAck)
		r.wait("GETACK", func() bool { return r.store.taken() == 1031+37 })
		if b, err := k.r.ReadByte(); b != '\n' || err != nil {
			t.Errorf("GETACK was answered %q, %v", b, err)
		}
		r.stop()
		r.checkPath()
		warned := 0
		for _, e := range r.events {
			if e.Kind == replica.ReplyNoted && e.Err != nil && strings.Contains(e.Err.Error(), "+replconf") {
				warned++
			}
		}
		if warned != 1 || r.count(replica.Acknowledged) != 0 {
			t.Errorf("%d warnings, %d ACKs\n%s", warned, r.count(replica.Acknowledged), r.story())
		}
	}
}

func TestALongWaitForASyncIsTold(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	r := newRig(t, replica.Config{}, storeOptions{}, ln.Addr())
	r.start()
	k := accept(t, ln)
	k.say(everyStep)
	k.hear("PSYNC")
	r.waitEvent(replica.Waiting, 1)
	k.say(fullSync)
	k.hearAck(1000)
	r.stop()
	r.checkPath()
	for _, e := range r.events {
		if e.Kind == replica.Waiting && (!strings.Contains(e.Text, "PSYNC") || e.Took < time.Second) {
			t.Errorf("%+v", e)
		}
	}
}
