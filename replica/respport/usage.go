package respport

import (
	"bytes"
	"os"
	"runtime/metrics"
	"strconv"

	"golang.org/x/sys/unix"
)

// usage is what the process takes, in bytes.
type usage struct {
	used  int64 // by the Go runtime, of the system
	heap  int64 // by objects
	rss   int64 // as the kernel counts
	total int64 // the host's
}

// readMemory asks the runtime without stopping it.
func readMemory() usage {
	u := usage{used: usedMemory()}
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	u.heap = value(sample[0])
	if b, err := os.ReadFile("/proc/self/statm"); err == nil {
		if f := bytes.Fields(b); len(f) > 1 {
			pages, _ := strconv.ParseInt(string(f[1]), 10, 64)
			u.rss = pages * int64(os.Getpagesize())
		}
	}
	var s unix.Sysinfo_t
	if unix.Sysinfo(&s) == nil {
		u.total = int64(s.Totalram) * int64(s.Unit)
	}
	return u
}

func usedMemory() int64 {
	sample := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(sample)
	return value(sample[0]) - value(sample[1])
}

func value(s metrics.Sample) int64 {
	if s.Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return int64(s.Value.Uint64())
}

// memoryStats is MEMORY STATS, as far as there is something to tell.
func memoryStats(q *request) {
	m := readMemory()
	q.s.stats.mu.Lock()
	peak := max(q.s.stats.peak, m.used)
	q.s.stats.mu.Unlock()
	all := []struct {
		name string
		n    int64
	}{
		{"peak.allocated", peak}, {"total.allocated", m.used}, {"startup.allocated", 0}, {"replication.backlog", 0},
		{"clients.slaves", 0}, {"clients.normal", q.s.memory.used.Load()}, {"aof.buffer", 0}, {"overhead.total", m.used},
		{"keys.count", 0}, {"keys.bytes-per-key", 0}, {"dataset.bytes", 0},
	}
	q.dict(len(all))
	for _, one := range all {
		q.bulk(one.name)
		q.int(one.n)
	}
}
