package httpport

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"replicad/replica"
	"replicad/replica/daemon/status"
)

// fake is a master that a test moves.
type fake struct {
	name string
	s    status.Status
}

func (f fake) Name() string          { return f.name }
func (f fake) Status() status.Status { return f.s }

// of is what is shown of some masters, whose loop answers.
func of(masters ...Master) Config {
	return Config{Masters: func() []Master { return masters }, Ping: func(context.Context) error { return nil }, Metrics: text, Page: text}
}

var (
	up   = status.Status{Address: "10.0.0.1:6379", State: replica.Sync, Phase: replica.Stream}
	text = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "the text") })
)

func ask(h http.Handler, method, path string) (code int, body string, head http.Header) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w.Code, w.Body.String(), w.Header()
}

func TestReadyMeansThatEachLinkThatShouldStreamsAndEachArchiveCanBeWritten(t *testing.T) {
	with := func(change func(*status.Status)) status.Status {
		s := up
		change(&s)
		return s
	}
	for _, c := range []struct {
		name string
		s    status.Status
		want string // in the answer 503; "" for ready
	}{
		{"streams", up, ""},
		{"nobody, by order", status.Status{NoOne: true}, ""},
		{"nobody yet", status.Status{}, "m: no Sentinel has named the master yet"},
		{"down", with(func(s *status.Status) { s.State, s.Phase, s.LastFailure = replica.None, replica.NoPhase, "refused" }),
			"m: the link to 10.0.0.1:6379 is in state NONE; last failure: refused"},
		{"handshake", with(func(s *status.Status) { s.Phase = replica.Psync }), "m: the link to 10.0.0.1:6379 is in state SYNC/PSYNC"},
		{"full sync", with(func(s *status.Status) {
			s.Phase, s.Transfer = replica.Transfer, status.Transfer{Began: time.Now(), Bytes: 5, Total: 10}
		}),
			"m: a full sync is under way: 5 of 10 bytes are here"},
		{"full sync of unknown size", with(func(s *status.Status) {
			s.Phase, s.Transfer = replica.Transfer, status.Transfer{Began: time.Now(), Bytes: 5, Total: -1}
		}),
			"m: a full sync is under way: 5 bytes are here"},
		{"stalled", with(func(s *status.Status) { s.Stalled = "no space left on device" }), "m: the archive can't be written: no space left on device"},
		{"stalled while nobody is followed", status.Status{NoOne: true, Stalled: "no space"}, "m: the archive can't be written: no space"},
		{"a rebase that failed", with(func(s *status.Status) { s.Rebase.Failed = 1 }), ""},
	} {
		h := handler(of(fake{name: "other", s: up}, fake{name: "m", s: c.s}))
		code, body, _ := ask(h, "GET", "/readyz")
		if c.want == "" && (code != 200 || body != "ready\n") || c.want != "" && (code != 503 || body != c.want+"\n") {
			t.Errorf("%s: %d %q, want %q", c.name, code, body, c.want)
		}
		if code, body, _ := ask(h, "GET", "/healthz"); code != 200 || body != "ok\n" {
			t.Errorf("%s: it lives, and /healthz says %d %q", c.name, code, body)
		}
	}
}

func TestOfThousandsTheWorstAreNamedAndTheRestIsCounted(t *testing.T) {
	var all []Master
	for i := range 5000 {
		s := up
		switch {
		case i == 4999:
			s.Stalled = "no space left on device"
		case i%2 == 0:
			s = status.Status{Address: "10.0.0.1:6379"}
		}
		all = append(all, fake{name: fmt.Sprintf("m%04d", i), s: s})
	}
	code, body, _ := ask(handler(of(all...)), "GET", "/readyz")
	lines := strings.Split(strings.TrimSpace(body), "\n")
	if code != 503 || len(lines) != mostWrong+1 || !strings.HasPrefix(lines[0], "m4999: the archive can't be written") || !strings.HasPrefix(lines[1], "m0000: the link") {
		t.Fatalf("%d %q", code, lines)
	}
	if want := "and 2481 more, of 5000 masters: 2500 are not followed, of 1 the archive can't be written"; lines[mostWrong] != want {
		t.Errorf("%q, want %q", lines[mostWrong], want)
	}
}

func TestALoopThatDoesNotAnswerIsNeitherHealthyNorReady(t *testing.T) {
	cfg := of(fake{name: "m", s: up})
	cfg.Ping = func(ctx context.Context) error {
		<-ctx.Done() // at the latest; see pingTimeout
		return errors.New("it stands still")
	}
	h := handler(cfg)
	for _, path := range []string{"/healthz", "/readyz"} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			if code, body, _ := ask(h, "GET", path); code != 503 || body != "it stands still\n" {
				t.Errorf("%d %q", code, body)
			}
		})
	}
}

func TestOnlyReadingIsAllowedAndEachAnswerHasTheHeaders(t *testing.T) {
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'self'")
		_, _ = io.WriteString(w, "page "+r.URL.Path)
	})
	cfg := of(fake{name: "m", s: up})
	cfg.Page = page
	for _, c := range []struct {
		method, path string
		code         int
		body         string
	}{
		{"GET", "/metrics", 200, "the text"},
		{"HEAD", "/metrics", 200, ""},
		{"POST", "/metrics", 405, ""},
		{"PUT", "/healthz", 405, ""},
		{"DELETE", "/readyz", 405, ""},
		{"GET", "/", 200, "page /"},
		{"GET", "/events", 200, "page /events"},
		{"GET", "/healthz", 200, "ok"},
		{"POST", "/events", 405, ""},
		{"CONNECT", "/", 405, ""},
	} {
		code, body, head := ask(handler(cfg), c.method, c.path)
		if code != c.code || !strings.Contains(body, c.body) {
			t.Errorf("%s %s: %d %q, want %d %q", c.method, c.path, code, body, c.code, c.body)
		}
		if code == 405 && head.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s %s: Allow is %q", c.method, c.path, head.Get("Allow"))
		}
		policy := "default-src 'none'; frame-ancestors 'none'"
		if strings.HasPrefix(body, "page") {
			policy = "default-src 'self'"
		}
		if head.Get("X-Content-Type-Options") != "nosniff" || head.Get("X-Frame-Options") != "DENY" || head.Get("Content-Security-Policy") != policy || head.Get("Cache-Control") != "no-store" {
			t.Errorf("%s %s: %v", c.method, c.path, head)
		}
	}
}

// serve serves on a free port; logged gives what was logged so far.
func serve(t *testing.T, cfg Config) (addr string, s *Server, logged func() string) {
	t.Helper()
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var buf bytes.Buffer
	cfg.Log = slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return buf.Write(p)
	}), nil))
	s = Serve(l, cfg)
	t.Cleanup(s.Close)
	return l.Addr().String(), s, func() string {
		mu.Lock()
		defer mu.Unlock()
		return buf.String()
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func get(t *testing.T, addr, path string) (code int, body string, err error) {
	t.Helper()
	r, err := http.Get("http://" + addr + path)
	if err != nil {
		return 0, "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return r.StatusCode, string(b), err
}

func TestAPanicIsLoggedAndEndsNoMoreThanItsAnswer(t *testing.T) {
	addr, _, logged := serve(t, Config{Ping: of().Ping, Metrics: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("before") }),
		Page: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "half an")
			w.(http.Flusher).Flush()
			panic("between")
		})})
	for _, path := range []string{"/metrics", "/half"} {
		if code, body, err := get(t, addr, path); err == nil {
			t.Errorf("%s: no answer, or half of one, looks whole: %d %q", path, code, body)
		}
	}
	if code, _, err := get(t, addr, "/healthz"); code != 200 || err != nil {
		t.Errorf("afterwards: %d %v", code, err)
	}
	for _, want := range []string{"panic serving", "before", "between", "server_test.go"} {
		if !strings.Contains(logged(), want) {
			t.Errorf("the log has no %s: %s", want, logged())
		}
	}
}

func TestAnAnswerThatLastsEndsWithTheServer(t *testing.T) {
	began, ended := make(chan struct{}), make(chan struct{})
	addr, s, _ := serve(t, Config{Metrics: text, Page: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
		close(ended)
	})})
	go func() { _, _, _ = get(t, addr, "/") }()
	<-began
	s.Close()
	<-ended
	if _, _, err := get(t, addr, "/healthz"); err == nil {
		t.Error("it still answers")
	}
}

func TestAHeaderThatIsTooLongIsRefused(t *testing.T) {
	addr, _, _ := serve(t, Config{Metrics: text, Page: text})
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() {
		_, _ = fmt.Fprintf(c, "GET /healthz HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n", strings.Repeat("x", 1<<20))
	}()
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil || !strings.Contains(line, "431") {
		t.Errorf("%q %v", line, err)
	}
}

func TestAnAddressThatCantBeListenedAtIsOneClearLine(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for addr, want := range map[string]string{
		taken.Addr().String():     "the port is in use",
		"192.0.2.1:9121":          "this host has no address 192.0.2.1",
		"no-such-host.invalid:80": "no host of that name",
	} {
		l, err := Listen(addr)
		if err == nil {
			l.Close()
		}
		if !errors.Is(err, ErrListen) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), addr) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", addr, err)
		}
	}
}
