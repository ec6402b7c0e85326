package respport

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"replicad/integration/poll"
)

func TestWhatIsNoCommandIsToldWhyAndCut(t *testing.T) {
	p := start(t, Config{QueryBufferLimit: 8 << 10})
	witness := p.dial()
	for sent, want := range map[string]string{
		"*x\r\n":                             "invalid multibulk length",
		"*99999999999999999999999\r\n":       "invalid multibulk length",
		"*9223372036854775807\r\n":           "invalid multibulk length",
		"*01\r\n":                            "invalid multibulk length",
		"*1\n":                               "invalid multibulk length",
		"*1\r\n+PING\r\n":                    "expected '$', got '+'",
		"*1\r\n\x00PING\r\n":                 "expected '$', got '?'",
		"*1\r\n$-1\r\n":                      "invalid bulk length",
		"*1\r\n$x\r\n":                       "invalid bulk length",
		"*1\r\n$4\r\nPINGxx":                 "invalid bulk length",
		"*1\r\n$600000000\r\n":               "invalid bulk length",
		"ECHO \"open\r\n":                    "unbalanced quotes in request",
		"ECHO \"a\"b\r\n":                    "unbalanced quotes in request",
		"\x16\x03\x01\x02\x00\x01\x00\x01\n": "this port speaks plain RESP, not TLS: see tls-port",
		strings.Repeat("a", 9<<10):           "too big inline request",
	} {
		c := p.dial()
		c.send(sent)
		if got := c.ended(); got != "-ERR Protocol error: "+want+"\r\n" {
			t.Errorf("%.40q: %q, want %q", sent, got, want)
		}
	}
	for _, sent := range []string{"*1\r\n$9000\r\n", "*3000\r\n" + strings.Repeat("$0\r\n\r\n", 1500), "*" + strings.Repeat("1", 9<<10)} {
		c := p.dial()
		c.send(sent)
		if got := c.ended(); got != "-ERR the command is longer than client-query-buffer-limit, which is 8192 bytes\r\n" {
			t.Errorf("%.40q: %q", sent, got)
		}
	}
	c := p.dial()
	c.send("PING\r\n" + array("PING") + "*x\r\n")
	if got := c.ended(); got != "+PONG\r\n+PONG\r\n-ERR Protocol error: invalid multibulk length\r\n" {
		t.Errorf("what came before is not answered: %q", got)
	}
	for _, http := range []string{"POST / HTTP/1.1\r\nHost: x\r\n\r\n", "host: x\r\n"} {
		c := p.dial()
		c.send(http)
		if got := c.ended(); got != "" {
			t.Errorf("%q: %q", http, got)
		}
	}
	witness.wants("PING", "+PONG")
}

func TestEmptyCommandsAreNone(t *testing.T) {
	c := start(t, Config{}).dial()
	c.send("\r\n\n*0\r\n*-1\r\n  \r\nPING\n*0\r\n" + array("PING", "x") + "\r\n")
	if got := c.next() + c.next(); got != "+PONG$1|x" {
		t.Errorf("%q", got)
	}
}

func TestCommandsMayComeByteByByteAndManyAtATime(t *testing.T) {
	p := start(t, Config{})
	c := p.dial()
	const n = 5000
	var sent, want strings.Builder
	for i := range n {
		s := fmt.Sprint(i)
		if i%3 == 0 {
			sent.WriteString("ping " + s + "\r\n")
		} else {
			sent.WriteString(array("PING", s))
		}
		fmt.Fprintf(&want, "$%d\r\n%s\r\n", len(s), s)
	}
	go io.WriteString(c, sent.String())
	got := make([]byte, want.Len())
	if _, err := io.ReadFull(c.in, got); err != nil || string(got) != want.String() {
		t.Errorf("%v, and the replies differ: %v", err, string(got) != want.String())
	}
	for _, b := range []byte(array("ECHO", "slow")) {
		c.send(string(b))
	}
	if got := c.next(); got != "$4|slow" {
		t.Errorf("%q", got)
	}
}

func TestAClientThatDoesNotReadItsRepliesIsCut(t *testing.T) {
	p := startOn(t, Config{}, listen(t), false, func(s *Server) { s.writeWithin = 200 * time.Millisecond })
	c := p.dial()
	c.wants("PING", "+PONG")
	go func() { // until it is cut
		for {
			if _, err := io.WriteString(c, strings.Repeat("INFO\r\n", 1000)); err != nil {
				return
			}
		}
	}()
	other := p.dial()
	poll.Until(t, "it to be cut", func() bool {
		other.wants("PING", "+PONG")
		return len(p.connected()) == 1
	})
	if n := other.section("stats")["client_output_buffer_limit_disconnections"]; n != "1" {
		t.Errorf("client_output_buffer_limit_disconnections: %s", n)
	}
}

func TestASubscriberThatDoesNotReadIsCutAndNobodyWaitsForIt(t *testing.T) {
	p := start(t, Config{})
	slow, quick, from := p.dial(), p.dial(), p.dial()
	slow.wants("SUBSCRIBE a", "*3|$9|subscribe|$1|a|:1")
	quick.wants("PSUBSCRIBE *", "*3|$10|psubscribe|$1|*|:1")
	message := strings.Repeat("x", 100<<10)
	poll.Until(t, "the slow one to be cut", func() bool {
		from.send(array("PUBLISH", "a", message))
		n := from.next()
		if got := quick.next(); !strings.HasPrefix(got, "*4|$8|pmessage|$1|*|$1|a|") {
			t.Fatalf("%.50q", got)
		}
		return n == ":1"
	})
}

func TestMessagesComeBehindTheConfirmationAndInTheirOrder(t *testing.T) {
	p := start(t, Config{})
	from, to := p.dial(), p.dial()
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				from.does(fmt.Sprint("PUBLISH a ", i))
			}
		}
	}()
	for range 50 {
		to.send("PING first\r\nSUBSCRIBE a\r\n")
		if got := to.next(); got != "$5|first" {
			t.Fatalf("%q", got)
		}
		if got := to.next(); got != "*3|$9|subscribe|$1|a|:1" {
			t.Fatalf("%q", got)
		}
		last := -1
		for range 5 {
			n := 0
			got := to.next()
			if _, err := fmt.Sscanf(got[strings.LastIndexByte(got, '|')+1:], "%d", &n); err != nil || n <= last {
				t.Fatalf("%q after %d", got, last)
			}
			last = n
		}
		to.send("UNSUBSCRIBE\r\n")
		for to.next() != "*3|$11|unsubscribe|$1|a|:0" {
			// A message that was on its way.
		}
	}
	close(stop)
	<-done
}

func TestWhatAllClientsHoldHasABound(t *testing.T) {
	p := start(t, Config{MaxMemoryClients: 1 << 20})
	var held []*raw
	for range 20 {
		c := p.dial()
		held = append(held, c)
		// All but the end. Who is cut may have it refused.
		_, _ = io.WriteString(c, "*2\r\n$4\r\nPING\r\n$200000\r\n"+strings.Repeat("x", 199_000))
	}
	poll.Until(t, "some to be cut", func() bool { return p.count().ProtocolErrors.Load() > 0 })
	if used := p.memory.used.Load(); used > 1<<20 {
		t.Errorf("%d bytes are held", used)
	}
	p.dial().wants("PING", "+PONG") // small ones are free
	for _, c := range held {
		c.Close()
	}
	poll.Until(t, "the memory to be given back", func() bool { return p.memory.used.Load() == 0 })
}

func TestSubscriptionsAndTransactionsCountAsHeld(t *testing.T) {
	p := start(t, Config{MaxMemoryClients: 1 << 20})
	c := p.dial()
	before := p.memory.used.Load()
	c.wants("SUBSCRIBE "+strings.Repeat("n", 1000), fmt.Sprintf("*3|$9|subscribe|$1000|%s|:1", strings.Repeat("n", 1000)))
	if got := p.memory.used.Load() - before; got < 1000 {
		t.Errorf("a subscription counts as %d", got)
	}
	c.wants("RESET", "+RESET")
	// A reply counts too, until it is written.
	poll.Until(t, "RESET to give it back", func() bool { return p.memory.used.Load() == before })
	c.wants("MULTI", "+OK")
	c.wants("ECHO "+strings.Repeat("n", 1000), "+QUEUED")
	if got := p.memory.used.Load() - before; got < 1000 {
		t.Errorf("a transaction counts as %d", got)
	}
	c.wants("DISCARD", "+OK")
	poll.Until(t, "DISCARD to give it back", func() bool { return p.memory.used.Load() == before })
	for i := range maxSubscriptions {
		_, _ = fmt.Fprintf(c, "SUBSCRIBE %d\r\n", i)
		got, err := c.read()
		if err != nil { // cut, for there was no room for the refusal either
			poll.Until(t, "all to be given back", func() bool { return p.memory.used.Load() == 0 })
			return
		}
		if got[0] == '-' {
			if !strings.Contains(got, errMemory.Error()) {
				t.Errorf("%q", got)
			}
			return
		}
	}
	if got := c.does("SUBSCRIBE more"); !strings.HasPrefix(got, "-ERR too many subscriptions") {
		t.Errorf("%q", got)
	}
}

func TestAListenerThatFailsIsTriedAgainWithoutHaste(t *testing.T) {
	var l logged
	ln := newPipes("127.0.0.1")
	p := startOn(t, Config{Log: logInto(&l)}, &flaky{pipes: ln}, false)
	wrap(t, ln.dial()).wants("PING", "+PONG")
	if got := p.listeners[0].Listener.(*flaky).tries.Load(); got > 20 {
		t.Errorf("it was tried %d times", got)
	}
	if !strings.Contains(l.text(), "too many open files") {
		t.Errorf("the log: %s", l.text())
	}
}

// flaky fails three times first.
type flaky struct {
	*pipes
	tries atomic.Int32
}

func (f *flaky) Accept() (net.Conn, error) {
	if f.tries.Add(1) <= 3 {
		return nil, errors.New("accept: too many open files")
	}
	return f.pipes.Accept()
}

func TestGlobsMatchAsRedisHasThem(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"", "", true}, {"", "a", false}, {"*", "", true}, {"*", "a/b", true}, {"a*c", "abbc", true}, {"a*c", "abcd", false}, {"a**c", "ac", true},
		{"h?llo", "hello", true}, {"h?llo", "hllo", false}, {"h[ae]llo", "hallo", true}, {"h[ae]llo", "hillo", false},
		{"h[^e]llo", "hallo", true}, {"h[^e]llo", "hello", false}, {"h[a-c]llo", "hbllo", true}, {"h[a-c]llo", "hdllo", false},
		{`h\*llo`, "h*llo", true}, {`h\*llo`, "hello", false}, {`[\]]`, "]", true}, {"[", "a", false},
		{"*a*b*c*", "xxaxxbxxcxx", true}, {"*a*b*c*", "xxaxxcxxbxx", false},
	} {
		if got := glob(c.pattern, c.name); got != c.want {
			t.Errorf("%q with %q: %v", c.pattern, c.name, got)
		}
	}
	// A matcher that tries all ways would not come back from this.
	if glob(strings.Repeat("a*", 500)+"b", strings.Repeat("a", 5000)) {
		t.Error("it matches")
	}
}

func requests() []string {
	return []string{
		"PING\r\n", array("PING"), array("SET", "k", "") + array("GET", "k"), "*0\r\n*-1\r\n\r\nPING\r\n", "ECHO \"a\\x41\" 'b'\r\n",
		"*1\r\n$4\r\nPI", "*x\r\n", "*1\r\n$-1\r\n", "*9223372036854775807\r\n", "*2\r\n$4\r\nECHO\r\n$3\r\n\r\n\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n", "MULTI\r\nSLAVEOF 127.0.0.1 1\r\nEXEC\r\n", "SUBSCRIBE a b\r\nPUBLISH a x\r\nUNSUBSCRIBE\r\n",
		"HELLO 3 SETNAME x\r\nCLIENT LIST\r\nCLIENT KILL TYPE pubsub\r\n", "INFO everything\r\nCOMMAND DOCS\r\nCONFIG GET *\r\n",
		array("COMMAND", "INFO"), array("CLIENT", "KILL"), array("PUBSUB", "X"), array("", ""), array("CONFIG", ""), array("AUTH"),
		"CLIENT ID\r\nPING\r\nRESET\r\nPING\r\n", "'\r\n\"\r\n\\\r\n", "\x00\r\n", strings.Repeat("a ", 100) + "\n",
	}
}

// Whatever is sent, others are answered, and nothing is held when its sender is
// gone.
func FuzzServer(f *testing.F) {
	for i, r := range requests() {
		f.Add([]byte(r), uint64(i))
	}
	ln := newPipes("127.0.0.1")
	var l logged
	p := startOn(f, Config{QueryBufferLimit: 4 << 10, MaxMemoryClients: 1 << 20, Log: logInto(&l)}, ln, false)
	f.Fuzz(func(t *testing.T, b []byte, seed uint64) {
		c := ln.dial()
		drained := make(chan struct{})
		go func() {
			_, _ = io.Copy(io.Discard, c)
			close(drained)
		}()
		rnd := rand.New(rand.NewPCG(seed, 0))
		for len(b) > 0 {
			n := 1 + rnd.IntN(len(b))
			if _, err := c.Write(b[:n]); err != nil {
				break
			}
			b = b[n:]
		}
		c.Close()
		<-drained
		witness := wrap(t, ln.dial())
		witness.wants("PING", "+PONG")
		witness.Close()
		poll.Until(t, "the memory to be given back", func() bool { return p.memory.used.Load() == 0 })
		if strings.Contains(l.text(), "broke down") {
			t.Fatal(l.text())
		}
	})
}

func BenchmarkPing(b *testing.B) {
	for _, pipeline := range []int{1, 100} {
		b.Run(fmt.Sprint("pipeline=", pipeline), func(b *testing.B) {
			c := start(b, Config{}).dial()
			ask := strings.Repeat(array("PING"), pipeline)
			got := make([]byte, len("+PONG\r\n")*pipeline)
			b.ReportAllocs()
			for b.Loop() {
				_ = c.SetDeadline(time.Now().Add(patience))
				c.send(ask)
				if _, err := io.ReadFull(c.in, got); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkInfo(b *testing.B) {
	c := start(b, Config{}).dial()
	b.ReportAllocs()
	for b.Loop() {
		_ = c.SetDeadline(time.Now().Add(patience))
		c.does("INFO")
	}
}

func TestWhoWaitsForSomethingHoldsNobodyUp(t *testing.T) {
	p := startOn(t, Config{}, listen(t), false, func(s *Server) { s.turns = make(turns, 1) })
	gate := make(chan struct{})
	p.b.set(func() { p.b.gate = gate })
	var waiting []*raw
	for i := range 5 { // one waits for the order, and the others for that one
		c := p.dial()
		waiting = append(waiting, c)
		if i%2 == 0 {
			c.send("REPLICAOF NO ONE\r\n")
			continue
		}
		c.send("MULTI\r\nREPLICAOF NO ONE\r\nEXEC\r\n")
	}
	full := p.dial() // and one for room in its socket
	go func() {
		for {
			if _, err := io.WriteString(full, strings.Repeat("INFO\r\n", 1000)); err != nil {
				return
			}
		}
	}()
	other := p.dial()
	poll.Until(t, "that one to be held up", func() bool {
		before := p.count().Writes.Load()
		const pings = 100
		for range pings {
			other.wants("PING", "+PONG")
		}
		return p.count().Writes.Load() == before+pings && p.count().Commands.Load() > pings+10
	})
	close(gate)
	for i, c := range waiting {
		want := "+OK"
		if i%2 == 1 {
			c.next()
			c.next()
			want = "*1|+OK"
		}
		if got := c.next(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	full.Close()
}
