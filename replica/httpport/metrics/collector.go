package metrics

import (
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"replicad/replica/archive"
	"replicad/replica/daemon/status"
)

// namespace begins the name of each metric.
const namespace = "replicad_"

// patience is how long a scrape waits for a disk. Then the scrape shows the last
// reading.
const patience = 2 * time.Second

// moment is what is known of a master while it is scraped.
type moment struct {
	status.Status
	disk status.Disk
	now  time.Time
}

// readable says whether the disk is read, and does not hang.
func (m *moment) readable() bool { return m.disk.Err == nil && !m.disk.At.IsZero() }

// family is all metrics of one name.
type family struct {
	name   string // behind the namespace
	help   string
	kind   prometheus.ValueType
	labels []string // beside master
	values func(m *moment, put put)
	desc   *prometheus.Desc
}

// put takes a value, and the values of the family's labels.
type put func(v float64, labels ...string)

// collector makes the metrics of masters during a scrape. It implements
// prometheus.Collector.
type collector struct {
	m        *Metrics
	families []family
}

// Describe implements prometheus.Collector.
func (c collector) Describe(out chan<- *prometheus.Desc) {
	for _, f := range c.families {
		out <- f.desc
	}
}

// Collect implements prometheus.Collector. It waits for all disks at the same
// time.
func (c collector) Collect(out chan<- prometheus.Metric) {
	masters := c.m.followed()
	moments := make([]moment, len(masters))
	var reading sync.WaitGroup
	for i, x := range masters {
		reading.Go(func() {
			disk := x.Disk(patience) // before the status, which is to be the newer one
			moments[i] = moment{x.Status(), disk, c.m.now()}
		})
	}
	reading.Wait()
	for i, x := range masters {
		for _, f := range c.families {
			f.values(&moments[i], func(v float64, labels ...string) {
				out <- prometheus.MustNewConstMetric(f.desc, f.kind, v, append([]string{x.Name()}, labels...)...)
			})
		}
	}
}

// gauge is a family of one metric, which goes up and down.
func gauge(name, help string, of func(*moment) float64) family {
	return family{name: name, help: help, kind: prometheus.GaugeValue, values: func(m *moment, put put) { put(of(m)) }}
}

// flag is a gauge that is 1 or 0.
func flag(name, help string, of func(*moment) bool) family {
	return gauge(name, help, func(m *moment) float64 { return one(of(m)) })
}

// counter is a family of one metric, which counts since the start.
func counter(name, help string, of func(*moment) int64) family {
	return family{name: name, help: help, kind: prometheus.CounterValue, values: func(m *moment, put put) { put(float64(of(m))) }}
}

// counters is a family with a counter for each of some words.
func counters(name, help, label string, words []string, of func(*moment) map[string]int64) family {
	return family{name: name, help: help, kind: prometheus.CounterValue, labels: []string{label}, values: func(m *moment, put put) {
		n := of(m)
		for _, w := range words { // all of them, so that each has a beginning
			put(float64(n[w]), w)
		}
	}}
}

// choice is a family of a gauge for each of some words: 1 for the word that
// holds, 0 for the others.
func choice(name, help, label string, words []string, of func(*moment) string) family {
	return family{name: name, help: help, kind: prometheus.GaugeValue, labels: []string{label}, values: func(m *moment, put put) {
		for _, w := range words {
			put(one(of(m) == w), w)
		}
	}}
}

// transfer is a family with a gauge for each of the two links that may take a
// full sync. A gauge whose ok is false is missing.
func transfer(name, help string, of func(status.Transfer) (v int64, ok bool)) family {
	return family{name: name, help: help, kind: prometheus.GaugeValue, labels: []string{"link"}, values: func(m *moment, put put) {
		if v, ok := of(m.Transfer); ok {
			put(float64(v), "main")
		}
		if v, ok := of(m.Rebase.Transfer); ok {
			put(float64(v), "rebase")
		}
	}}
}

// remotely is a gauge that is missing where there is no remote.
func remotely(name, help string, of func(*moment) float64) family {
	return family{name: name, help: help, kind: prometheus.GaugeValue, values: func(m *moment, put put) {
		if m.Remote.URL != "" {
			put(of(m))
		}
	}}
}

// replicas is a family with a gauge for each replica that is fed from the archive.
// Of those that name the same address, or none, the largest value counts.
func replicas(name, help string, of func(status.Replica) float64) family {
	return family{name: name, help: help, kind: prometheus.GaugeValue, labels: []string{"replica"}, values: func(m *moment, put put) {
		all := map[string]float64{}
		for _, r := range m.Replicas {
			who := net.JoinHostPort(r.Host, strconv.Itoa(r.Port))
			all[who] = max(all[who], of(r))
		}
		for who, v := range all {
			put(v, who)
		}
	}}
}

// onDisk is a gauge that is missing where the disk can't be read, or where ok is
// false.
func onDisk(name, help string, of func(status.Disk) (v float64, ok bool)) family {
	return family{name: name, help: help, kind: prometheus.GaugeValue, values: func(m *moment, put put) {
		if v, ok := of(m.disk); ok && m.readable() {
			put(v)
		}
	}}
}

// total is what the generations on the disk have together.
func total(name, help string, of func(archive.Generation) int64) family {
	return onDisk(name, help, func(d status.Disk) (float64, bool) {
		n := int64(0)
		for _, g := range d.Archive.Generations {
			n += of(g)
		}
		return float64(n), true
	})
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
