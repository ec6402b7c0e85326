package metrics

import (
	"cmp"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"replicad/replica/archive"
	"replicad/replica/daemon/status"
)

// Master is one that is followed; a *daemon.Handle is one. Any goroutine may
// call its methods. Archive and Space may hang; the others do not wait.
type Master interface {
	Name() string
	Status() status.Status
	// LagSince is since when bytes wait for their fsync; zero when none do.
	LagSince() time.Time
	Archive() (archive.Master, error)
	// Space of the archive's file system, in bytes.
	Space() (free, size int64, err error)
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
	now      func() time.Time

	mu      sync.Mutex
	masters []*watched
}

// watched is a master and what was read of its disk.
type watched struct {
	Master
	disk *disk
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
	m.registry.MustRegister(build, m.fsyncs, newCollector(m),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Follow adds masters, whose names differ.
func (m *Metrics) Follow(masters ...Master) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, x := range masters {
		m.masters = append(m.masters, &watched{x, newDisk(x)})
		m.fsyncs.WithLabelValues(x.Name()) // shown from the start
	}
}

func (m *Metrics) followed() []*watched {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.masters[:len(m.masters):len(m.masters)]
}

// ObserveFsync counts an fsync of a master's archive. Any goroutine may call it.
func (m *Metrics) ObserveFsync(master string, took time.Duration) {
	m.fsyncs.WithLabelValues(master).Observe(took.Seconds())
}

// Gatherer gives the metrics.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

// mostScrapes bounds those that are answered at the same time.
const mostScrapes = 4

// Handler serves the metrics to Prometheus; log may be nil.
func (m *Metrics) Handler(log *slog.Logger) http.Handler {
	opt := promhttp.HandlerOpts{MaxRequestsInFlight: mostScrapes, EnableOpenMetrics: true}
	if log != nil {
		opt.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelError)
	}
	return promhttp.HandlerFor(m.registry, opt)
}
