package sentinel

import (
	"bytes"
	"cmp"
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
	ip     string // as GET-MASTER-ADDR-BY-NAME says
	port   string
	old    string // the host that MASTER names instead; "" for ip
	flags  string
	epoch  int
	id     string // "": it does not know MYID
	others []string
	ids    map[string]string // of others
	mute   bool              // it hangs up
	refuse string            // the command that its ACL refuses
	slow   chan struct{}     // not nil: it answers when that is closed
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
	slow := f.slow
	f.mu.Unlock()
	if slow != nil {
		<-slow
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	words := make([]string, 3)
	for i, a := range cmd.Args[:min(len(cmd.Args), len(words))] {
		words[i] = strings.ToLower(string(a))
	}
	list := func(fields ...string) {
		c.WriteArray(len(fields))
		for _, s := range fields {
			c.WriteBulkString(s)
		}
	}
	switch {
	case f.mute:
		c.Close()
	case words[0] == "subscribe":
		for _, channel := range cmd.Args[1:] {
			f.pubsub.Subscribe(c, string(channel))
		}
	case words[0] != "sentinel":
		c.WriteError("ERR unknown command '" + words[0] + "'")
	case words[1] == f.refuse:
		c.WriteError("NOPERM this user has no permissions to run the 'sentinel|" + f.refuse + "' command")
	case words[1] == "myid" && f.id != "":
		c.WriteBulkString(f.id)
	case words[1] == "master" && words[2] == f.name:
		list("name", f.name, "ip", cmp.Or(f.old, f.ip), "port", f.port, "flags", "master"+f.flags, "config-epoch", strconv.Itoa(f.epoch))
	case words[1] == "get-master-addr-by-name" && words[2] == f.name:
		list(f.ip, f.port)
	case words[1] == "sentinels" && words[2] == f.name:
		c.WriteArray(len(f.others))
		for _, o := range f.others {
			host, port, _ := net.SplitHostPort(o)
			list("ip", host, "port", port, "runid", f.ids[o])
		}
	case words[1] == "get-master-addr-by-name":
		c.WriteNull()
	default:
		c.WriteError("ERR No such master with that name")
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
	for _, channel := range []string{switched, promoted} {
		poll.Until(t, "the subscription", func() bool { return f.pubsub.Publish(channel, "another 1 2 3 4") > 0 })
	}
	begin := time.Now()
	f.set(func() { f.ip, f.epoch = "10.0.0.2", 2 })
	f.pubsub.Publish(switched, "mymaster 10.0.0.1 6379 10.0.0.2 6379")
	w.await("10.0.0.1:6379", "10.0.0.2:6379")
	f.set(func() { f.ip, f.epoch = "10.0.0.3", 3 })
	f.pubsub.Publish(promoted, "slave 10.0.0.3:6379 10.0.0.3 6379 @ mymaster 10.0.0.2 6379")
	w.await("10.0.0.1:6379", "10.0.0.2:6379", "10.0.0.3:6379")
	t.Logf("told twice after %v; it is asked each %v anyway", time.Since(begin), askEvery)
}

// asks gives a watcher that asks Sentinels for the master m.
func asks(named ...string) *watcher {
	return &watcher{cfg: Config{MasterName: "m", Addresses: named}}
}

// names asks, and wants an address.
func (w *watcher) names(t *testing.T, want string) {
	t.Helper()
	if a, err := w.ask(t.Context()); err != nil || a.address() != want {
		t.Errorf("the master is at %s, %v; want %s", a.address(), err, want)
	}
}

// agreed asks until all Sentinels have answered in time.
func (w *watcher) agreed(t *testing.T) (all []said) {
	t.Helper()
	poll.Until(t, "answers of all Sentinels", func() bool {
		all = w.askAll(t.Context())
		return len(all) == len(w.known())
	})
	return w.counted(all)
}

func TestTheAnswerOfTheHighestEpochCounts(t *testing.T) {
	t.Parallel()
	old := startFake(t, "m", "10.0.0.1", "6379", 3)
	young := startFake(t, "m", "10.0.0.2", "6380", 4)
	for _, order := range [][]string{{old.addr(), young.addr()}, {young.addr(), old.addr()}} {
		w := asks(order...)
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
	w := asks(first.addr())
	if _, err := w.ask(t.Context()); err != nil {
		t.Fatal(err)
	}
	first.set(func() { first.mute = true })
	second.set(func() { second.ip, second.epoch = "10.0.0.9", 2 })
	if a, err := w.ask(t.Context()); err != nil || a.address() != "10.0.0.9:6379" {
		t.Errorf("%v, %v", a, err)
	}
}

func TestDuringAFailoverTheAddressOfTheNewEpochCounts(t *testing.T) {
	t.Parallel()
	other := startFake(t, "m", "10.0.0.2", "6379", 2)
	leader := startFake(t, "m", "10.0.0.2", "6379", 2)
	leader.old, leader.flags = "10.0.0.1", ",s_down,o_down,failover_in_progress"
	for range 10 { // whoever answers first
		asks(leader.addr(), other.addr()).names(t, "10.0.0.2:6379")
		asks(leader.addr()).names(t, "10.0.0.2:6379")
	}
	// Its ACL hides the new address: then it says nothing.
	leader.set(func() { leader.refuse = "get-master-addr-by-name" })
	asks(leader.addr(), other.addr()).names(t, "10.0.0.2:6379")
	if a, err := asks(leader.addr()).ask(t.Context()); err == nil || !strings.Contains(err.Error(), "failover is in progress") || !strings.Contains(err.Error(), "NOPERM") {
		t.Errorf("%v, %v", a, err)
	}
	leader.set(func() { leader.flags, leader.old = "", "" })
	asks(leader.addr()).names(t, "10.0.0.2:6379")
}

func TestOfTwoAddressesWithOneEpochTheOneThatIsFollowedCounts(t *testing.T) {
	t.Parallel()
	a := startFake(t, "m", "10.0.0.1", "6379", 2)
	b := startFake(t, "m", "10.0.0.2", "6379", 2)
	for _, followed := range []string{"10.0.0.1:6379", "10.0.0.2:6379"} {
		for _, order := range [][]string{{a.addr(), b.addr()}, {b.addr(), a.addr()}} {
			w := asks(order...)
			w.told = followed
			if all := w.agreed(t); !all[0].before(all[1].answer, w.told) != (all[1].address() == followed) {
				t.Errorf("%s is followed, and of %v and %v the other one counts", followed, all[0], all[1])
			}
		}
	}
	a.set(func() { a.flags = ",s_down" })
	w := asks(a.addr(), b.addr())
	w.told = "10.0.0.1:6379"
	poll.Until(t, "the master that is not down", func() bool {
		got, err := w.ask(t.Context())
		return err == nil && got.address() == "10.0.0.2:6379"
	})
}

func TestASentinelThatNobodyKnowsAnyMoreIsForgotten(t *testing.T) {
	t.Parallel()
	second := startFake(t, "m", "10.0.0.1", "6379", 1)
	first := startFake(t, "m", "10.0.0.1", "6379", 1, second.addr())
	w := asks(first.addr())
	w.hint, w.listening = make(chan struct{}, 1), map[string]context.CancelFunc{}
	ctx, cancel := context.WithCancel(t.Context())
	defer func() {
		cancel()
		w.listeners.Wait()
	}()
	w.names(t, "10.0.0.1:6379")
	w.subscribe(ctx)
	poll.Until(t, "a subscription to the learned one", func() bool { return second.pubsub.Publish(switched, "another 1 2 3 4") > 0 })
	first.set(func() { first.others = nil }) // SENTINEL RESET
	second.set(func() { second.ip, second.epoch = "10.9.9.9", 7 })
	for range 3 {
		w.names(t, "10.0.0.1:6379")
	}
	if known := w.known(); !slices.Equal(known, []string{first.addr()}) {
		t.Errorf("it asks %v", known)
	}
	w.subscribe(ctx)
	poll.Until(t, "the end of the subscription", func() bool { return second.pubsub.Publish(switched, "another 1 2 3 4") == 0 })
	first.set(func() { first.others = []string{second.addr()} })
	poll.Until(t, "its answer, once it is known again", func() bool {
		a, err := w.ask(t.Context())
		return err == nil && a.address() == "10.9.9.9:6379"
	})
}

func TestAnotherSentinelAtALearnedAddressDoesNotCount(t *testing.T) {
	t.Parallel()
	second := startFake(t, "m", "10.0.0.1", "6379", 1)
	second.id = "two"
	first := startFake(t, "m", "10.0.0.1", "6379", 1, second.addr())
	first.ids = map[string]string{second.addr(): "two"}
	w := asks(first.addr())
	w.names(t, "10.0.0.1:6379")
	second.set(func() { second.id, second.ip, second.epoch = "of another deployment", "10.9.9.9", 7 })
	if all := w.agreed(t); len(all) != 1 {
		t.Errorf("%+v", all)
	}
	w.names(t, "10.0.0.1:6379")
	first.set(func() { first.mute = true })
	if a, err := w.ask(t.Context()); err == nil {
		t.Errorf("%v is believed when no named Sentinel answers", a)
	}
	second.set(func() { second.id = "two" })
	w.names(t, "10.9.9.9:6379")
	// A named one may be set up anew, with a new id.
	first.set(func() { first.mute, first.id, first.ip, first.epoch = false, "new", "10.0.0.3", 8 })
	poll.Until(t, "the named one's answer", func() bool {
		a, err := w.ask(t.Context())
		return err == nil && a.address() == "10.0.0.3:6379"
	})
}

func TestLearnedSentinelsDoNotCountBeforeASlowNamedOne(t *testing.T) {
	t.Parallel()
	second := startFake(t, "m", "10.9.9.9", "6379", 7)
	first := startFake(t, "m", "10.0.0.1", "6379", 1)
	w := asks(first.addr())
	w.learned = map[string]string{second.addr(): ""}
	slow := make(chan struct{})
	first.set(func() { first.slow = slow })
	time.AfterFunc(2*othersIn, func() { close(slow) })
	w.names(t, "10.0.0.1:6379")
}

func TestAnswersThatAreNoneAreErrors(t *testing.T) {
	t.Parallel()
	f := startFake(t, "m", "", "0", 1)
	w := asks(f.addr())
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
