package respport

import (
	"sync/atomic"
	"time"
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
}

func (s *Server) count() *counters { return s.counters.Load() }

// resetStats sets all counters to 0.
func (s *Server) resetStats() {
	s.counters.Store(&counters{})
	s.rates.Store(&rates{})
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
