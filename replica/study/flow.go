package study

import "slices"

// flow is what went in one direction of one connection, in one piece whatever
// messages it came in, with gaps where bytes were not kept.
type flow struct {
	runs []run // what was kept, in order
	size int64
}

// run is bytes that lie next to each other.
type run struct {
	at   int64
	data []byte
}

func (f *flow) add(p []byte) {
	if len(p) == 0 {
		return
	}
	if n := len(f.runs); n > 0 && f.runs[n-1].end() == f.size {
		f.runs[n-1].data = append(f.runs[n-1].data, p...)
	} else {
		f.runs = append(f.runs, run{f.size, slices.Clone(p)})
	}
	f.size += int64(len(p))
}

func (f *flow) addGap(n int64) { f.size += n }

func (f *flow) addRecord(r Record) {
	f.add(r.Data)
	f.addGap(r.Gap)
	f.add(r.Tail)
}

func (r run) end() int64 { return r.at + int64(len(r.data)) }

// from gives the bytes from a position on to the next gap; none inside one.
func (f *flow) from(at int64) []byte {
	i, _ := slices.BinarySearchFunc(f.runs, at, func(r run, at int64) int {
		switch {
		case r.end() <= at:
			return -1
		case r.at > at:
			return 1
		}
		return 0
	})
	if i == len(f.runs) || f.runs[i].at > at || f.runs[i].end() <= at {
		return nil
	}
	return f.runs[i].data[at-f.runs[i].at:]
}

// border is where the run or the gap ends that a position lies in.
func (f *flow) border(at int64) int64 {
	if p := f.from(at); len(p) > 0 {
		return at + int64(len(p))
	}
	for _, r := range f.runs {
		if r.at > at {
			return r.at
		}
	}
	return f.size
}

// rest is the flow from a position on, behind some bytes.
func (f *flow) rest(before []byte, at int64) *flow {
	g := &flow{}
	g.add(before)
	for at < f.size {
		to := f.border(at)
		if p := f.from(at); len(p) > 0 {
			g.add(p)
		} else {
			g.addGap(to - at)
		}
		at = to
	}
	return g
}
