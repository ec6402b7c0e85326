package httpport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"replicad/replica"
	"replicad/replica/daemon/status"
)

// Master is one that is followed; a *daemon.Handle is one. Any goroutine may
// call its methods.
type Master interface {
	Name() string
	Status() status.Status
	// Ping returns nil when the loop has answered, or an error, at the latest
	// when ctx is done.
	Ping(ctx context.Context) error
}

// Config says what is shown.
type Config struct {
	Masters []Master
	Metrics http.Handler
	// Page has all other paths; nil for a plain list of them. An answer of
	// its that takes longer than writeTimeout, as server-sent events do, moves
	// its deadline by http.ResponseController, and ends when the request's
	// context does.
	Page http.Handler
	Log  *slog.Logger // nil for none
}

// Limits of a request.
const (
	readTimeout  = 10 * time.Second
	writeTimeout = 30 * time.Second
	idleTimeout  = time.Minute
	headerBytes  = 16 << 10

	pingTimeout = 2 * time.Second
	farewell    = 200 * time.Millisecond // for answers that are under way at the end
)

// Server answers until it is closed.
type Server struct {
	http  *http.Server
	end   context.CancelFunc
	ended chan struct{}
}

// Serve begins to answer what comes at l, which is the server's from then on.
func Serve(l net.Listener, cfg Config) *Server {
	ctx, end := context.WithCancel(context.Background())
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{end: end, ended: make(chan struct{}), http: &http.Server{
		Handler:     Handler(cfg),
		ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: headerBytes,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(cfg.Log.Handler(), slog.LevelWarn),
	}}
	cfg.Log.Info("http is served", "addr", l.Addr().String())
	go func() {
		defer close(s.ended)
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			cfg.Log.Error("http is served no more", "err", err)
		}
	}()
	return s
}

// Close ends the server: answers that are under way have a moment left.
func (s *Server) Close() {
	s.end()
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close()
	}
	<-s.ended
}

// Handler answers all paths.
func Handler(cfg Config) http.Handler {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", cfg.Metrics) // GET is HEAD too
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		verdict(w, "ok", unhealthy(r.Context(), cfg.Masters))
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		verdict(w, "ready", append(unhealthy(r.Context(), cfg.Masters), unready(cfg.Masters)...))
	})
	if cfg.Page != nil {
		mux.Handle("GET /", cfg.Page)
	} else {
		mux.HandleFunc("GET /{$}", index)
	}
	return contained(mux, cfg.Log)
}

// verdict is 200 and a word, or 503 and what is wrong, a line each.
func verdict(w http.ResponseWriter, word string, wrong []string) {
	plain(w)
	if len(wrong) == 0 {
		_, _ = io.WriteString(w, word+"\n")
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	for _, line := range wrong {
		_, _ = io.WriteString(w, line+"\n")
	}
}

func plain(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
}

func index(w http.ResponseWriter, _ *http.Request) {
	plain(w)
	_, _ = io.WriteString(w, "replicad\n\n/metrics  for Prometheus\n/healthz  is the process alive?\n/readyz   is each master followed, and stored?\n")
}

// unhealthy asks whether the loop is alive: it is one for all, or each master's.
func unhealthy(ctx context.Context, masters []Master) (why []string) {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	for _, m := range masters {
		if err := m.Ping(ctx); err != nil {
			return []string{err.Error()}
		}
	}
	return nil
}

// unready says what the masters miss.
func unready(masters []Master) (why []string) {
	for _, m := range masters {
		s := m.Status()
		if text := misses(s); s.Wanted() && text != "" {
			why = append(why, m.Name()+": "+text)
		}
		if s.Stalled != "" {
			why = append(why, m.Name()+": the archive can't be written: "+s.Stalled)
		}
	}
	return why
}

// misses says why a link does not follow; "" when it does.
func misses(s status.Status) string {
	switch {
	case s.Up():
		return ""
	case !s.Following():
		return "no Sentinel has named the master yet"
	case s.Transfer.Running() && s.Transfer.Total > 0:
		return fmt.Sprintf("a full sync is under way: %d of %d bytes are here", s.Transfer.Bytes, s.Transfer.Total)
	case s.Transfer.Running():
		return fmt.Sprintf("a full sync is under way: %d bytes are here", s.Transfer.Bytes)
	case s.LastFailure != "":
		return "the link to " + s.Address + " is in state " + replica.Place(s.State, s.Phase) + "; last failure: " + s.LastFailure
	}
	return "the link to " + s.Address + " is in state " + replica.Place(s.State, s.Phase)
}

// contained sets the headers that every answer has, and keeps a panic from
// ending the daemon. A page sets a Content-Security-Policy of its own.
func contained(h http.Handler, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		for name, v := range map[string]string{
			"Cache-Control":                "no-store",
			"Content-Security-Policy":      "default-src 'none'; frame-ancestors 'none'",
			"Cross-Origin-Resource-Policy": "same-origin",
			"Referrer-Policy":              "no-referrer",
			"X-Content-Type-Options":       "nosniff",
			"X-Frame-Options":              "DENY",
		} {
			head.Set(name, v)
		}
		a := &answer{ResponseWriter: w}
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if p != http.ErrAbortHandler {
				log.Error("http: a page broke down", "path", r.URL.Path, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			}
			if a.begun || p == http.ErrAbortHandler {
				panic(http.ErrAbortHandler) // net/http cuts the connection: half an answer is not to look whole
			}
			http.Error(w, "internal error: see the log", http.StatusInternalServerError)
		}()
		h.ServeHTTP(a, r)
	})
}

// answer knows whether something was sent.
type answer struct {
	http.ResponseWriter
	begun bool
}

func (a *answer) WriteHeader(code int) {
	a.begun = true
	a.ResponseWriter.WriteHeader(code)
}

func (a *answer) Write(p []byte) (int, error) {
	a.begun = true
	return a.ResponseWriter.Write(p)
}

// Flush implements http.Flusher.
func (a *answer) Flush() {
	a.begun = true
	_ = http.NewResponseController(a.ResponseWriter).Flush()
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
