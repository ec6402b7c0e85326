package restore

import "math/bits"

// ends counts when times to live end, by how far that is behind a moment: a
// place for each power of two of milliseconds. Those before the moment are left
// out.
type ends struct {
	moment int64 // in milliseconds since 1970
	counts [64]int64
}

func (e *ends) add(ms int64) {
	if ms >= e.moment {
		e.counts[bits.Len64(uint64(ms-e.moment))]++
	}
}

// before estimates how many end from one time to before another: it takes those
// of one place to be spread evenly. Where there may be one, there is one.
func (e *ends) before(from, to int64) int64 {
	sum := 0.0
	for i, n := range e.counts {
		low, high := int64(0), int64(1)
		if i > 0 {
			low, high = 1<<(i-1), 1<<min(i, 62)
		}
		low, high = low+e.moment, high+e.moment
		if part := min(high, to) - max(low, from); part > 0 && n > 0 {
			sum += max(float64(n)*float64(part)/float64(high-low), 1)
		}
	}
	return int64(sum + 0.5)
}
