package replica

import (
	"cmp"
	"math/rand/v2"
	"time"
)

// Backoff says how long a link waits before the next attempt. The first attempt
// after a connection that worked comes at once. The wait then doubles from Min
// to Max, with jitter, so that not all replicas meet a master that comes back
// at once.
type Backoff struct {
	Min, Max time.Duration // zero: 100 ms and 10 s
}

// delay is the wait after so many failures in a row. After the first there is
// none.
func (b Backoff) delay(failures int) time.Duration {
	lo, hi := b.min(), cmp.Or(b.Max, 10*time.Second)
	if failures <= 1 {
		return 0
	}
	d := lo
	for i := 2; i < failures && d < hi; i++ {
		d *= 2
	}
	d = min(d, hi)
	return d/2 + rand.N(d/2+1) // between half and all of it
}

func (b Backoff) min() time.Duration { return cmp.Or(b.Min, 100*time.Millisecond) }
