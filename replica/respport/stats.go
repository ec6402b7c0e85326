package respport

import (
	"bytes"
	"maps"
	"os"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// counters count since the start, or since CONFIG RESETSTAT.
type counters struct {
	Connections    atomic.Int64
	Rejected       atomic.Int64
	Commands       atomic.Int64
	In, Out        atomic.Int64 // bytes
	Reads, Writes  atomic.Int64
	Errors         atomic.Int64
	ProtocolErrors atomic.Int64
	Unread         atomic.Int64 // clients that were cut because they did not read
	Denied         atomic.Int64 // wrong users or passwords

	Calls []called // by command.index

	mu     sync.Mutex
	byCode map[string]int64 // error replies
}

// called counts the calls of one command.
type called struct {
	Name                              string
	Calls, Rejected, Failed, duration atomic.Int64
}

// Usec is how many microseconds the calls took.
func (c *called) Usec() int64 { return time.Duration(c.duration.Load()).Microseconds() }

func (s *Server) count() *counters { return s.counters.Load() }

// resetStats sets all counters to 0.
func (s *Server) resetStats() {
	k := &counters{Calls: make([]called, len(s.commands.all)), byCode: map[string]int64{}}
	for i, c := range s.commands.all {
		k.Calls[i].Name = c.name
	}
	s.counters.Store(k)
	s.rates.Store(&rates{})
}

func (k *counters) call(c *command, took time.Duration, failed bool) {
	k.Commands.Add(1)
	one := &k.Calls[c.index]
	one.Calls.Add(1)
	one.duration.Add(int64(took))
	if failed {
		one.Failed.Add(1)
	}
}

// errorReply counts an error reply by its code, the first word. There are few
// codes: the texts are replicad's own.
func (k *counters) errorReply(text string) {
	k.Errors.Add(1)
	code, _, _ := strings.Cut(text, " ")
	k.mu.Lock()
	defer k.mu.Unlock()
	k.byCode[code]++
}

// ErrorCodes are how many error replies there were of each code.
func (k *counters) ErrorCodes() map[string]int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.byCode)
}

// rates are what the last second had of each: commands, and bytes of clients and
// of the link.
type rates struct{ Commands, In, Out, ReplIn, ReplOut int64 }

// sample measures once a second what INFO tells by the second.
func (s *Server) sample() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last, at := s.totals(), time.Now()
	for {
		select {
		case <-s.done:
			return
		case now := <-tick.C:
			is, took := s.totals(), now.Sub(at).Seconds()
			per := func(now, before int64) int64 { return max(0, int64(float64(now-before)/took)) }
			s.rates.Store(&rates{
				per(is.Commands, last.Commands), per(is.In, last.In), per(is.Out, last.Out),
				per(is.ReplIn, last.ReplIn), per(is.ReplOut, last.ReplOut),
			})
			last, at = is, now
		}
	}
}

// totals are the counters of which sample takes the rates.
func (s *Server) totals() rates {
	k, st := s.count(), s.backend.Status()
	return rates{k.Commands.Load(), k.In.Load(), k.Out.Load(), st.BytesIn, st.BytesOut}
}

// usage is the memory of the process, in bytes.
type usage struct {
	Used    int64 // what the Go runtime has of the system
	Heap    int64 // what objects have of that
	RSS     int64 // as the kernel counts
	Total   int64 // the host's
	Peak    int64 // the most that it was, as the kernel counts
	Clients int64 // what clients hold
}

// readMemory asks the runtime without stopping it.
func readMemory() usage {
	u := usage{
		Used: runtimeMetric("/memory/classes/total:bytes") - runtimeMetric("/memory/classes/heap/released:bytes"),
		Heap: runtimeMetric("/memory/classes/heap/objects:bytes"),
	}
	if b, err := os.ReadFile("/proc/self/statm"); err == nil {
		if f := bytes.Fields(b); len(f) > 1 {
			pages, _ := strconv.ParseInt(string(f[1]), 10, 64)
			u.RSS = pages * int64(os.Getpagesize())
		}
	}
	var s unix.Sysinfo_t
	if unix.Sysinfo(&s) == nil {
		u.Total = int64(s.Totalram) * int64(s.Unit)
	}
	return u
}

func runtimeMetric(name string) int64 {
	sample := []metrics.Sample{{Name: name}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return int64(sample[0].Value.Uint64())
}
