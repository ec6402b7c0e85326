package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"replicad/replica"
	"replicad/replica/daemon/status"
)

// namespace begins the name of each metric.
const namespace = "replicad_"

// moment is what is known of a master while it is scraped.
type moment struct {
	status.Status
	now      time.Time
	lagSince time.Time
}

// collector makes the metrics of masters when somebody asks. It implements
// prometheus.Collector.
type collector struct {
	m   *Metrics
	all []family
}

func newCollector(m *Metrics) collector {
	c := collector{m, families()}
	for i := range c.all {
		f := &c.all[i]
		f.desc = prometheus.NewDesc(namespace+f.name, f.help, append([]string{"master"}, f.labels...), nil)
	}
	return c
}

// Describe implements prometheus.Collector.
func (c collector) Describe(out chan<- *prometheus.Desc) {
	for _, f := range c.all {
		out <- f.desc
	}
}

// Collect implements prometheus.Collector. The disks are read at the same time.
func (c collector) Collect(out chan<- prometheus.Metric) {
	masters := c.m.followed()
	readings := make([]chan *reading, len(masters))
	for i, w := range masters {
		readings[i] = make(chan *reading, 1)
		go func() { readings[i] <- w.disk.read() }()
	}
	for i, w := range masters {
		r := <-readings[i] // before the status, which is to be the newer one
		at := &moment{Status: w.Status(), lagSince: w.LagSince(), now: c.m.now()}
		for _, f := range c.all {
			f.collect(at, r, func(v float64, labels ...string) {
				out <- prometheus.MustNewConstMetric(f.desc, f.kind, v, append([]string{w.Name()}, labels...)...)
			})
		}
	}
}

// family is all metrics of one name.
type family struct {
	name    string // behind the namespace
	help    string
	kind    prometheus.ValueType
	labels  []string // beside master
	collect func(at *moment, r *reading, put put)
	desc    *prometheus.Desc
}

// put takes a value, and those of the labels.
type put func(v float64, labels ...string)

// gauge is a family of one metric, which goes up and down.
func gauge(name, help string, of func(*moment) float64) family {
	return family{name: name, help: help, kind: prometheus.GaugeValue, collect: func(at *moment, _ *reading, put put) { put(of(at)) }}
}

// counter is a family of one metric, which counts since the start.
func counter(name, help string, of func(*moment) int64) family {
	return family{name: name, help: help, kind: prometheus.CounterValue, collect: func(at *moment, _ *reading, put put) { put(float64(of(at))) }}
}

// counters is a family of a metric for each cause.
func counters(name, help string, causes []string, of func(*moment) map[string]int64) family {
	return family{name: name, help: help, kind: prometheus.CounterValue, labels: []string{"cause"}, collect: func(at *moment, _ *reading, put put) {
		n := of(at)
		for _, c := range causes { // all of them, so that each has a beginning
			put(float64(n[c]), c)
		}
	}}
}

// choice is a family of a metric for each of some words, of which the one that
// holds is 1 and the others are 0.
func choice(name, help, label string, words []string, of func(*moment) string) family {
	return family{name: name, help: help, kind: prometheus.GaugeValue, labels: []string{label}, collect: func(at *moment, _ *reading, put put) {
		for _, w := range words {
			put(one(of(at) == w), w)
		}
	}}
}

// onDisk is a family of one metric, which is missing where the disk can't be
// read, or has nothing to say of it.
func onDisk(name, help string, of func(*reading) (v float64, ok bool)) family {
	return family{name: name, help: help, kind: prometheus.GaugeValue, collect: func(_ *moment, r *reading, put put) {
		if r == nil {
			return
		}
		if v, ok := of(r); ok {
			put(v)
		}
	}}
}

// transfer is a family with a metric for each of the links that may take a full
// sync.
func transfer(name, help string, of func(status.Transfer) (v float64, ok bool)) family {
	return family{name: name, help: help, kind: prometheus.GaugeValue, labels: []string{"link"}, collect: func(at *moment, _ *reading, put put) {
		if v, ok := of(at.Transfer); ok {
			put(v, "main")
		}
		if v, ok := of(at.Rebase.Transfer); ok {
			put(v, "rebase")
		}
	}}
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// seconds is a time as Prometheus has it; 0 for none.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

func states() (names []string) {
	for s := replica.None; s <= replica.Sync; s++ {
		names = append(names, s.String())
	}
	return names
}

func phases() (names []string) {
	for p := replica.Auth; p <= replica.Stream; p++ {
		names = append(names, p.String())
	}
	return names
}
