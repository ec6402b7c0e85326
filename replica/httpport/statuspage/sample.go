package statuspage

import (
	"time"

	"replicad/replica/daemon/status"
)

// The graphs show the last five minutes, a sample a second.
const (
	sampleEvery = time.Second
	shown       = 300 * time.Second
)

// sample is how a link stood at one moment. Counters count from the daemon's
// start; offsets are those of the last byte.
type sample struct {
	at        time.Time
	up        bool
	bytesIn   int64
	commands  int64
	received  int64
	durable   int64
	lag       time.Duration // since when bytes wait for their fsync
	knownOffs bool          // there is a history: the offsets mean something
}

func takeSample(now time.Time, s status.Status, lagSince time.Time) sample {
	x := sample{
		at: now, up: s.Up(), bytesIn: s.BytesIn, commands: s.Commands,
		received: s.Received, durable: s.Durable, knownOffs: s.ReplID != "" || s.Received != 0,
	}
	if !lagSince.IsZero() {
		x.lag = max(now.Sub(lagSince), 0)
	}
	return x
}

// samples is a ring of the newest.
type samples struct {
	ring [int(shown/sampleEvery) + 2]sample
	n    int // so many were ever added
}

func (s *samples) add(x sample) {
	s.ring[s.n%len(s.ring)] = x
	s.n++
}

// window copies what is shown at that time, the oldest first: what is not older
// than shown, and the one before, from which the first rate is computed.
func (s *samples) window(now time.Time) []sample {
	var all []sample
	for i := max(s.n-len(s.ring), 0); i < s.n; i++ {
		if x := s.ring[i%len(s.ring)]; now.Sub(x.at) <= shown+2*sampleEvery {
			all = append(all, x)
		}
	}
	return all
}
