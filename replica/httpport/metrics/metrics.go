// Package metrics shows Prometheus how the masters are followed. Each scrape
// asks each master for its [status.Status] and its [status.Disk], so that one
// scrape is one moment and nothing is counted twice.
//
//	m := metrics.New(metrics.Build{Version: "1.2.3"})
//	m.Follow(masters...)
//	http.Handle("/metrics", m.Handler(log))
package metrics

import (
	"cmp"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"replicad/replica/daemon/status"
)

// Master is one that is followed; a *daemon.Handle is one. Its methods may be
// called from any goroutine.
type Master interface {
	Name() string
	Status() status.Status
	// Disk waits for a reading of the disk as long as wait at most.
	Disk(wait time.Duration) status.Disk
}

// Build says which replicad this is.
type Build struct {
	Version string
	Commit  string
	Go      string // the compiler's version
}

// Metrics is a registry of its own, with the metrics of all masters, of Go and
// of the process. Make it by New.
type Metrics struct {
	registry *prometheus.Registry
	fsyncs   *prometheus.HistogramVec
	masters  atomic.Pointer[[]Master]
	now      func() time.Time
}

// New makes the registry. No master is followed yet.
func New(b Build) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), now: time.Now}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: namespace + "build_info", Help: "Which replicad this is, in the labels; the value is always 1.",
		ConstLabels: prometheus.Labels{"version": cmp.Or(b.Version, "unknown"), "commit": cmp.Or(b.Commit, "unknown"), "goversion": cmp.Or(b.Go, "unknown")},
	})
	build.Set(1)
	m.fsyncs = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: namespace + "fsync_duration_seconds",
		Help: "How long the fsyncs (fdatasync) of the archive's stream took, those that failed included. None for long, while bytes wait, is a disk that hangs.",
		// From a disk that only writes to its cache to one that is about to fail.
		Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	}, []string{"master"})
	m.registry.MustRegister(build, m.fsyncs, collector{m, families()},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Follow says which masters the next scrape shows; their names differ.
func (m *Metrics) Follow(masters ...Master) {
	gone := map[string]bool{}
	for _, x := range m.followed() {
		gone[x.Name()] = true
	}
	for _, x := range masters {
		delete(gone, x.Name())
		m.fsyncs.WithLabelValues(x.Name()) // shown from the start
	}
	for name := range gone {
		m.fsyncs.DeleteLabelValues(name)
	}
	m.masters.Store(&masters)
}

func (m *Metrics) followed() []Master {
	if all := m.masters.Load(); all != nil {
		return *all
	}
	return nil
}

// ObserveFsync counts an fsync of a master's archive. Any goroutine may call it.
func (m *Metrics) ObserveFsync(master string, took time.Duration) {
	m.fsyncs.WithLabelValues(master).Observe(took.Seconds())
}

// mostScrapes bounds the scrapes that are answered at the same time.
const mostScrapes = 4

// Handler serves the metrics to Prometheus; log may be nil.
func (m *Metrics) Handler(log *slog.Logger) http.Handler {
	opt := promhttp.HandlerOpts{MaxRequestsInFlight: mostScrapes, EnableOpenMetrics: true}
	if log != nil {
		opt.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelError)
	}
	return promhttp.HandlerFor(m.registry, opt)
}
