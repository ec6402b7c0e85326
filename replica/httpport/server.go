// Package httpport is what a daemon shows by HTTP, to read only:
//
//	/         the status page
//	/metrics  for Prometheus
//	/healthz  200 while the process and its event loop answer, else 503
//	/readyz   200 while each archive is what it is there for, else 503 and why
//
// Ready means that nothing is missing: the loop answers, each link that should
// follow a master receives its stream, and each archive can be written. A link
// after REPLICAOF NO ONE should follow no master, so nothing is missing there. A
// link whose first full sync is under way is not ready, nor is one whose
// Sentinels have named no master. Restart a daemon by /healthz, never by
// /readyz: a master that is down is not the daemon's fault.
//
// There is no password and no TLS: listen at a loopback address, or behind a
// proxy that has both.
package httpport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/netutil"

	"replicad/replica"
	"replicad/replica/daemon/status"
)

// Master is one that is followed; a *daemon.Handle is one. Any goroutine may
// call its methods.
type Master interface {
	Name() string
	Status() status.Status
}

// Config says what is shown.
type Config struct {
	// Masters are those that are followed now, and are to be.
	Masters func() []Master
	// Ping returns nil when the loop has answered, or an error, at the latest
	// when ctx is done.
	Ping    func(ctx context.Context) error
	Metrics http.Handler
	Page    http.Handler // has all other paths
	Log     *slog.Logger // nil for none
}

// Limits. A connection that comes when all are taken waits.
const (
	mostConnections = 128 // the link and the archive need file descriptors, too
	readTimeout     = 10 * time.Second
	writeTimeout    = 30 * time.Second
	idleTimeout     = time.Minute
	headerBytes     = 16 << 10

	pingTimeout = 2 * time.Second
	mostWrong   = 20                     // masters that /readyz names
	farewell    = 200 * time.Millisecond // for answers that are under way at the end
)

// ErrListen is what every error of [Listen] wraps.
var ErrListen = errors.New("http")

// Listen opens the port. Connections wait until Serve is called, so that a port
// in use stops a start before anything is done.
func Listen(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%w: can't listen at %s: %s", ErrListen, addr, why(addr, err))
	}
	return netutil.LimitListener(l, mostConnections), nil
}

// why says what is wrong with an address, and what to do.
func why(addr string, err error) string {
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "the port is in use, perhaps by another replicad: choose another one (--http)"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		host, _, _ := net.SplitHostPort(addr)
		return "this host has no address " + host
	case errors.Is(err, syscall.EACCES):
		return "not permitted: ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher one"
	case errors.As(err, &dns):
		return "there is no host of that name: " + strings.TrimPrefix(dns.Error(), "lookup ")
	}
	return err.Error()
}

// Server answers until it is closed.
type Server struct {
	http  *http.Server
	ended chan struct{}
}

// Serve begins to answer the requests that come at l. The server closes l.
func Serve(l net.Listener, cfg Config) *Server {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{ended: make(chan struct{}), http: &http.Server{
		Handler:     handler(cfg),
		ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: headerBytes,
		ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelError),
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
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close()
	}
	<-s.ended
}

// handler answers all paths. Where a handler panics net/http logs that and cuts
// the connection, so that half an answer does not look whole.
func handler(cfg Config) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", cfg.Metrics) // GET is HEAD too
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		verdict(w, "ok", unhealthy(r.Context(), cfg.Ping))
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		verdict(w, "ready", append(unhealthy(r.Context(), cfg.Ping), unready(cfg.Masters())...))
	})
	mux.Handle("GET /", cfg.Page)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'") // the page has a policy of its own
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		mux.ServeHTTP(w, r)
	})
}

// verdict is 200 and a word, or 503 and what is wrong, a line each.
func verdict(w http.ResponseWriter, word string, wrong []string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if len(wrong) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		word = strings.Join(wrong, "\n")
	}
	_, _ = io.WriteString(w, word+"\n")
}

// unhealthy asks whether the loop is alive.
func unhealthy(ctx context.Context, ping func(context.Context) error) (wrong []string) {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	if err := ping(ctx); err != nil {
		return []string{err.Error()}
	}
	return nil
}

// unready says what the masters miss. Of many masters it names the first, those
// whose archive can't be written before the others, and counts the rest.
func unready(masters []Master) []string {
	stalled, down := missing(masters)
	wrong := append(stalled, down...)
	if more := len(wrong) - mostWrong; more > 1 {
		wrong = append(wrong[:mostWrong], fmt.Sprintf("and %d more, of %d masters: %d are not followed, of %d the archive can't be written", more, len(masters), len(down), len(stalled)))
	}
	return wrong
}

func missing(masters []Master) (stalled, notFollowed []string) {
	for _, m := range masters {
		s := m.Status()
		if s.Wanted() && !s.Up() {
			notFollowed = append(notFollowed, m.Name()+": "+down(s))
		}
		if s.Stalled != "" {
			stalled = append(stalled, m.Name()+": the archive can't be written: "+s.Stalled)
		}
	}
	return stalled, notFollowed
}

// down says why a link does not stream.
func down(s status.Status) string {
	place := "the link to " + s.Address + " is in state " + replica.Place(s.State, s.Phase)
	switch {
	case !s.Following():
		return "no Sentinel has named the master yet"
	case s.Transfer.Running() && s.Transfer.Total > 0:
		return fmt.Sprintf("a full sync is under way: %d of %d bytes are here", s.Transfer.Bytes, s.Transfer.Total)
	case s.Transfer.Running():
		return fmt.Sprintf("a full sync is under way: %d bytes are here", s.Transfer.Bytes)
	case s.LastFailure != "":
		return place + "; last failure: " + s.LastFailure
	}
	return place
}
