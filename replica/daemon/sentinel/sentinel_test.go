package sentinel

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidwall/redcon"

	"replicad/integration/poll"
)

// fake is a Sentinel that says what it is told to.
type fake struct {
	t  *testing.T
	ln net.Listener

	mu     sync.Mutex
	name   string
	ip     string
	port   string
	epoch  int
	others []string
	asked  int
	mute   bool // it hangs up
	pubsub redcon.PubSub
}

func startFake(t *testing.T, name, ip, port string, epoch int, others ...string) *fake {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{t: t, ln: ln, name: name, ip: ip, port: port, epoch: epoch, others: others}
	s := redcon.NewServer("", f.serve, func(redcon.Conn) bool { return true }, nil)
	go s.Serve(ln)
	t.Cleanup(func() { s.Close() })
	return f
}

func (f *fake) addr() string { return f.ln.Addr().String() }

func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fake) serve(c redcon.Conn, cmd redcon.Command) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var words []string
	for _, a := range cmd.Args {
		words = append(words, strings.ToLower(string(a)))
	}
	switch {
	case f.mute:
		c.Close()
	case words[0] == "subscribe":
		f.pubsub.Subscribe(c, words[1])
	case words[0] == "sentinel" && words[2] != f.name:
		c.WriteError("ERR No such master with that name")
	case words[0] == "sentinel" && words[1] == "master":
		f.asked++
		fields := []string{"name", f.name, "ip", f.ip, "port", f.port, "config-epoch", strconv.Itoa(f.epoch)}
		c.WriteArray(len(fields))
		for _, s := range fields {
			c.WriteBulkString(s)
		}
	case words[0] == "sentinel" && words[1] == "sentinels":
		c.WriteArray(len(f.others))
		for _, o := range f.others {
			host, port, _ := net.SplitHostPort(o)
			c.WriteArray(4)
			for _, s := range []string{"ip", host, "port", port} {
				c.WriteBulkString(s)
			}
		}
	default:
		c.WriteError("ERR unknown command '" + words[0] + "'")
	}
}

// watched collects what Watch tells.
type watched struct {
	t *testing.T

	mu   sync.Mutex
	told []string
	err  error
}

func watch(t *testing.T, c Config) *watched {
	t.Helper()
	w := &watched{t: t}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		Watch(ctx, c, func(host string, port int) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.told = append(w.told, net.JoinHostPort(host, strconv.Itoa(port)))
			return w.err
		})
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case <-ended:
		case <-time.After(time.Minute):
			t.Error("Watch does not end with its context")
		}
	})
	return w
}

func (w *watched) await(want ...string) {
	w.t.Helper()
	poll.Until(w.t, strings.Join(want, ", "), func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return slices.Equal(w.told, want)
	})
}

func TestASwitchIsFollowedAtOnce(t *testing.T) {
	t.Parallel()
	f := startFake(t, "mymaster", "10.0.0.1", "6379", 1)
	w := watch(t, Config{Addresses: []string{f.addr()}, MasterName: "mymaster"})
	w.await("10.0.0.1:6379")
	// Not before it listens: the message would be lost, and only the next look,
	// seconds later, would tell.
	poll.Until(t, "the subscription", func() bool { return f.pubsub.Publish(switched, "another 1 2 3 4") > 0 })
	f.set(func() { f.ip, f.epoch = "10.0.0.2", 2 })
	begin := time.Now()
	f.pubsub.Publish(switched, "mymaster 10.0.0.1 6379 10.0.0.2 6379")
	w.await("10.0.0.1:6379", "10.0.0.2:6379")
	t.Logf("told after %v; it is asked each %v anyway", time.Since(begin), askEvery)
}

func TestTheAnswerOfTheHighestEpochCounts(t *testing.T) {
	t.Parallel()
	old := startFake(t, "m", "10.0.0.1", "6379", 3)
	young := startFake(t, "m", "10.0.0.2", "6380", 4)
	for _, order := range [][]string{{old.addr(), young.addr()}, {young.addr(), old.addr()}} {
		w := &watcher{cfg: Config{MasterName: "m"}, known: order}
		poll.Until(t, "both answers", func() bool { // the slower one may come too late
			a, err := w.ask(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return a.address() == "10.0.0.2:6380"
		})
		young.set(func() { young.mute = true })
		if a, err := w.ask(t.Context()); err == nil {
			t.Errorf("the Sentinel that missed the failover was believed: %v", a)
		}
		w.behind = time.Now().Add(-2 * believeAfter)
		if a, err := w.ask(t.Context()); err != nil || a.address() != "10.0.0.1:6379" {
			t.Errorf("Sentinels that were set up anew are not believed: %v, %v", a, err)
		}
		young.set(func() { young.mute = false })
	}
}

func TestSentinelsThatTheNamedOnesKnowAreAskedWhenThoseAreGone(t *testing.T) {
	t.Parallel()
	second := startFake(t, "m", "10.0.0.1", "6379", 1)
	first := startFake(t, "m", "10.0.0.1", "6379", 1, second.addr())
	w := &watcher{cfg: Config{MasterName: "m"}, known: []string{first.addr()}}
	if _, err := w.ask(t.Context()); err != nil {
		t.Fatal(err)
	}
	first.set(func() { first.mute = true })
	second.set(func() { second.ip, second.epoch = "10.0.0.9", 2 })
	if a, err := w.ask(t.Context()); err != nil || a.address() != "10.0.0.9:6379" {
		t.Errorf("%v, %v", a, err)
	}
}

func TestAnswersThatAreNoneAreErrors(t *testing.T) {
	t.Parallel()
	f := startFake(t, "m", "", "0", 1)
	w := &watcher{cfg: Config{MasterName: "m"}, known: []string{f.addr()}}
	if _, err := w.ask(t.Context()); err == nil || !strings.Contains(err.Error(), "names no address") {
		t.Errorf("%v", err)
	}
	w.cfg.MasterName = "other"
	if _, err := w.ask(t.Context()); !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), `"other"`) {
		t.Errorf("%v", err)
	}
}

func TestWhatIsNotObeyedIsToldAgain(t *testing.T) {
	t.Parallel()
	f := startFake(t, "m", "10.0.0.1", "6379", 1)
	var log bytes.Buffer
	var mu sync.Mutex
	w := watch(t, Config{Addresses: []string{"127.0.0.1:1", f.addr()}, MasterName: "m", Log: slog.New(slog.NewTextHandler(&locked{&mu, &log}, nil))})
	w.mu.Lock()
	w.err = errors.New("not now")
	w.mu.Unlock()
	poll.Until(t, "a second try", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.told) >= 2 {
			w.err = nil
			return true
		}
		return false
	})
}

// locked makes a writer safe.
type locked struct {
	mu *sync.Mutex
	b  *bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func TestParseAddresses(t *testing.T) {
	for s, want := range map[string]string{
		"a:1":                 "a:1",
		"a":                   "a:26379",
		" a:1 , b:2,a:1":      "a:1 b:2",
		"::1":                 "[::1]:26379",
		"[::1]:5":             "[::1]:5",
		"10.0.0.1:26380,s2:7": "10.0.0.1:26380 s2:7",
		"":                    "",
		"a:0":                 "",
		"a:b":                 "",
		"a:1,":                "",
		"redis://a:1":         "",
		"p@a:1":               "",
	} {
		got, err := ParseAddresses(s)
		if want == "" != errors.Is(err, ErrConfig) || strings.Join(got, " ") != want {
			t.Errorf("%q: %q, %v, want %q", s, got, err, want)
		}
	}
}
