package respport

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// stats are counters since the start, or since CONFIG RESETSTAT.
type stats struct {
	connections    atomic.Int64
	rejected       atomic.Int64
	commands       atomic.Int64
	in, out        atomic.Int64 // bytes
	reads, writes  atomic.Int64
	errors         atomic.Int64
	protocolErrors atomic.Int64
	unread         atomic.Int64 // clients cut because they did not read
	denied         atomic.Int64 // wrong users or passwords

	calls []callStats // by command.index

	mu     sync.Mutex
	byCode map[string]int64
	rate   rate
	peak   int64 // of used_memory
}

type callStats struct{ calls, nanoseconds, rejected, failed atomic.Int64 }

// rate is what the last second had.
type rate struct {
	at              time.Time
	last, per       counts
	primed          bool
	replIn, replOut int64 // bytes a second
	lastIn, lastOut int64
}

type counts struct{ commands, in, out int64 }

func (s *stats) init(commands int) {
	s.calls = make([]callStats, commands)
	s.byCode = map[string]int64{}
}

func (s *stats) reset() {
	for _, n := range []*atomic.Int64{&s.connections, &s.rejected, &s.commands, &s.in, &s.out, &s.reads, &s.writes, &s.errors, &s.protocolErrors, &s.unread, &s.denied} {
		n.Store(0)
	}
	for i := range s.calls {
		c := &s.calls[i]
		c.calls.Store(0)
		c.nanoseconds.Store(0)
		c.rejected.Store(0)
		c.failed.Store(0)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.byCode, s.rate = map[string]int64{}, rate{}
}

func (s *stats) called(c *command, took time.Duration, failed bool) {
	s.commands.Add(1)
	k := &s.calls[c.index]
	k.calls.Add(1)
	k.nanoseconds.Add(int64(took))
	if failed {
		k.failed.Add(1)
	}
}

func (s *stats) rejectedCall(c *command) { s.calls[c.index].rejected.Add(1) }

// maxCodes bounds the kinds of error that are counted apart.
const maxCodes = 128

func (s *stats) errorReply(text string) {
	s.errors.Add(1)
	code, _, _ := strings.Cut(text, " ")
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.byCode[code]; known || len(s.byCode) < maxCodes {
		s.byCode[code]++
	}
}

func (s *stats) errorCodes() (codes []string, n map[string]int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n = maps.Clone(s.byCode)
	return slices.Sorted(maps.Keys(n)), n
}

func (s *stats) perSecond() rate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rate
}

// sample measures each second what INFO tells by the second.
func (s *Server) sample() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-s.done:
			return
		case now := <-tick.C:
			st := s.state.get()
			used := usedMemory()
			s.stats.sampled(now, st.BytesIn, st.BytesOut, used)
		}
	}
}

func (s *stats) sampled(now time.Time, replIn, replOut, used int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.peak = max(s.peak, used)
	r := &s.rate
	is := counts{s.commands.Load(), s.in.Load(), s.out.Load()}
	if took := now.Sub(r.at).Seconds(); r.primed && took > 0 {
		per := func(now, before int64) int64 { return max(0, int64(float64(now-before)/took)) }
		r.per = counts{per(is.commands, r.last.commands), per(is.in, r.last.in), per(is.out, r.last.out)}
		r.replIn, r.replOut = per(replIn, r.lastIn), per(replOut, r.lastOut)
	}
	r.at, r.last, r.lastIn, r.lastOut, r.primed = now, is, replIn, replOut, true
}
