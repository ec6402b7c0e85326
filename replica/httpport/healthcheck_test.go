package httpport_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"replicad/replica/httpport"
)

func TestTheAnswerIsOneLineAndAnythingBut200Fails(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte("main: NONE\nside:\tSTREAM\x1b[2J\n"))
	})
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/healthz", http.StatusFound) })
	mux.HandleFunc("/long", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, strings.Repeat("x", 1<<20)) })
	s := httptest.NewServer(mux)
	defer s.Close()
	addr := s.Listener.Addr().String()
	if got, err := httpport.Get(t.Context(), addr, httpport.Live); err != nil || got != "ok" {
		t.Errorf("%q, %v", got, err)
	}
	_, err := httpport.Get(t.Context(), addr, httpport.Ready)
	want := "not healthy: 503 Service Unavailable: main: NONE; side: STREAM\\x1b[2J"
	if !errors.Is(err, httpport.ErrFailed) || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if _, err := httpport.Get(t.Context(), addr, "/moved"); !errors.Is(err, httpport.ErrFailed) {
		t.Errorf("a redirect: %v", err)
	}
	if got, err := httpport.Get(t.Context(), addr, "/long"); err != nil || got != strings.Repeat("x", 1000) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestADaemonThatDoesNotAnswerFailsInTime(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepted by the kernel, answered by nobody
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if _, err := httpport.Get(ctx, l.Addr().String(), httpport.Ready); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestAProxyOfTheEnvironmentIsNotAsked(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) }))
	defer s.Close()
	if _, err := httpport.Get(t.Context(), s.Listener.Addr().String(), httpport.Live); err != nil {
		t.Error(err)
	}
}

func TestWhatTheDaemonListensAtIsAskedOnThisMachine(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) }))
	defer s.Close()
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	for _, host := range []string{"", "0.0.0.0", "127.0.0.1"} {
		if got, err := httpport.Get(t.Context(), host+":"+port, httpport.Ready); err != nil || got != "ok" {
			t.Errorf("%s: %q, %v", host, got, err)
		}
	}
}

func TestAnAddressHasAHostAndAPort(t *testing.T) {
	for _, addr := range []string{":9121", "0.0.0.0:9121", "[::]:9121", "replicad:9121", "[fe80::1%lo]:9121"} {
		if err := httpport.CheckAddr(addr); err != nil {
			t.Errorf("%q: %v", addr, err)
		}
	}
	for _, addr := range []string{"", "9121", "localhost", "localhost:http", "localhost:0", "localhost:70000"} {
		if err := httpport.CheckAddr(addr); err == nil || !strings.Contains(err.Error(), "port") {
			t.Errorf("%q: %v", addr, err)
		}
	}
}
