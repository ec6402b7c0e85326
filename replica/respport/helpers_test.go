package respport

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"replicad/integration/poll"
	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/daemon/status"
	"replicad/replica/relay"
)

// patience is how long a test waits for what must come.
const patience = time.Minute

// backend is a master's stand-in, which notes the orders.
type backend struct {
	mu      sync.Mutex
	st      status.Status
	m       archive.Master
	orders  []string
	refuse  error
	panics  bool
	relay   *relay.Relay
	gate    chan struct{} // orders wait for it; nil: they do not
	reading chan struct{} // Archive waits for it; nil: it does not
}

func newBackend() *backend {
	b := &backend{st: status.Status{
		Name: "m", Address: "10.0.0.1:6379", State: replica.Sync, Phase: replica.Stream, ReplID: strings.Repeat("a", 40), SecondOffset: -1,
		Received: 120, Stored: 110, Durable: 100, LastByte: time.Now(), FullSyncs: map[string]int64{}, Failures: map[string]int64{},
	}}
	b.m.Dir = "data/m"
	b.m.Generations = []archive.Generation{{Number: 1, Complete: true, From: time.Unix(1000, 0), To: time.Unix(2000, 0), Bytes: 77, Frees: 77, BaseBytes: 7}}
	return b
}

func (b *backend) set(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

func (b *backend) Status() status.Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.st
}

func (b *backend) Archive() (archive.Master, error) {
	b.mu.Lock()
	reading, m := b.reading, b.m
	b.mu.Unlock()
	if reading != nil {
		<-reading
	}
	return m, nil
}

func (b *backend) order(what, address string) error {
	b.mu.Lock()
	gate := b.gate
	b.mu.Unlock()
	if gate != nil {
		<-gate
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.panics {
		panic("broken")
	}
	if b.refuse != nil {
		return b.refuse
	}
	b.orders = append(b.orders, what)
	if address != "-" {
		b.st.Address = address
	}
	return nil
}

func (b *backend) ReplicaOf(host, port string) error {
	return b.order("replicaof "+host+" "+port, net.JoinHostPort(host, port))
}
func (b *backend) Relay() *relay.Relay   { return b.relay }
func (b *backend) NoOne() error          { return b.order("no one", "") }
func (b *backend) Rebase(_ string) error { return b.order("rebase", "-") }

func (b *backend) ordered() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.orders, ", ")
}

// logged collects what a port logs.
type logged struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func logInto(l *logged) *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// port is a server at a free port of the loopback.
type port struct {
	*Server
	t    testing.TB
	addr string
	b    *backend
}

func start(t testing.TB, cfg Config) *port { return startWith(t, cfg, false) }

func startWith(t testing.TB, cfg Config, overTLS bool) *port {
	t.Helper()
	return startOn(t, cfg, listen(t), overTLS)
}

// listen opens a free port of the loopback.
func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func startOn(t testing.TB, cfg Config, ln net.Listener, overTLS bool, more ...func(*Server)) *port {
	s := newServer(cfg)
	for _, f := range more {
		f(s)
	}
	s.add(ln, overTLS)
	p := &port{Server: s, t: t, addr: ln.Addr().String(), b: newBackend()}
	ended := make(chan struct{})
	go func() {
		s.Serve(p.b)
		close(ended)
	}()
	t.Cleanup(func() {
		s.Close()
		select {
		case <-ended:
		case <-time.After(patience):
			t.Error("Serve does not return")
		}
		if used := s.memory.used.Load(); used != 0 {
			// Connections that were just cut give back on their own goroutines.
			poll.Until(t, "the clients' memory to be given back", func() bool { return s.memory.used.Load() == 0 })
		}
	})
	return p
}

// raw is a client that speaks bytes.
type raw struct {
	net.Conn
	t  testing.TB
	in *bufio.Reader
}

func (p *port) dial() *raw {
	p.t.Helper()
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	return wrap(p.t, c)
}

func wrap(t testing.TB, c net.Conn) *raw {
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return &raw{c, t, bufio.NewReader(c)}
}

func (r *raw) send(s string) {
	r.t.Helper()
	if _, err := io.WriteString(r, s); err != nil {
		r.t.Fatalf("sending %.60q: %v", s, err)
	}
}

// read gives one reply as it came.
func (r *raw) read() (string, error) {
	line, err := r.in.ReadString('\n')
	if err != nil {
		return line, err
	}
	n, _ := strconv.Atoi(strings.TrimSpace(line[1:]))
	switch line[0] {
	case '$', '=':
		if n < 0 {
			return line, nil
		}
		b := make([]byte, n+2)
		_, err := io.ReadFull(r.in, b)
		return line + string(b), err
	case '%':
		n *= 2
	case '*', '~', '>':
	default:
		return line, nil
	}
	for range max(0, n) {
		one, err := r.read()
		if line += one; err != nil {
			return line, err
		}
	}
	return line, nil
}

// does sends a line and gives the reply, with \r\n as a bar.
func (r *raw) does(line string) string {
	r.t.Helper()
	r.send(line + "\r\n")
	return r.next()
}

func (r *raw) next() string {
	r.t.Helper()
	s, err := r.read()
	if err != nil {
		r.t.Fatalf("no reply, but %q, %v", s, err)
	}
	return strings.ReplaceAll(strings.TrimSuffix(s, "\r\n"), "\r\n", "|")
}

func (r *raw) wants(line, want string) {
	r.t.Helper()
	if got := r.does(line); got != want {
		r.t.Errorf("%s: %q, want %q", line, got, want)
	}
}

// ended wants the connection to be closed, and gives what came before.
func (r *raw) ended() string {
	r.t.Helper()
	b, err := io.ReadAll(r.in)
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		r.t.Fatalf("the connection is open still; it said %q", b)
	}
	return string(b)
}

// section reads fields of INFO.
func (r *raw) section(names string) map[string]string {
	r.t.Helper()
	text := r.does("INFO " + names)
	_, text, _ = strings.Cut(text, "|")
	fields := map[string]string{}
	for line := range strings.SplitSeq(text, "|") {
		if k, v, ok := strings.Cut(line, ":"); ok {
			fields[k] = v
		}
	}
	return fields
}

func array(args ...string) string {
	s := fmt.Sprintf("*%d\r\n", len(args))
	for _, a := range args {
		s += fmt.Sprintf("$%d\r\n%s\r\n", len(a), a)
	}
	return s
}
