package statuspage

import (
	"sync"
	"time"

	"replicad/replica/archive"
)

// freshFor is how long what was read of an archive is shown before it is read
// again; longer where reading takes long, so that it takes a fifth of the time at
// most.
const freshFor = 2 * time.Second

// reading is what was read of one master's archive.
type reading struct {
	At      time.Time // zero where nothing was read yet
	Took    time.Duration
	Archive archive.Master
	Err     error
	Free    int64 // bytes
	FreeErr error
}

// disk reads an archive now and then, once at a time, and remembers what it read.
type disk struct {
	describe func() (archive.Master, error)
	free     func(dir string) (int64, error)

	mu      sync.Mutex
	last    reading
	reading chan struct{} // closed when the reading that is under way is done
}

// look gives what was read last. Where that is not fresh, reading begins anew, and
// is waited for so long at most.
func (d *disk) look(wait time.Duration) reading {
	d.mu.Lock()
	if d.reading == nil && time.Since(d.last.At) > max(freshFor, 5*d.last.Took) {
		d.reading = make(chan struct{})
		go d.read(d.reading)
	}
	last, under := d.last, d.reading
	d.mu.Unlock()
	if under == nil || wait == 0 {
		return last
	}
	limit := time.NewTimer(wait)
	defer limit.Stop()
	select {
	case <-under:
	case <-limit.C:
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.last
}

func (d *disk) read(done chan struct{}) {
	began := time.Now()
	var r reading
	r.Archive, r.Err = d.describe()
	if r.Archive.Dir != "" {
		r.Free, r.FreeErr = d.free(r.Archive.Dir)
	}
	r.At = time.Now()
	r.Took = r.At.Sub(began)
	d.mu.Lock()
	d.last, d.reading = r, nil
	d.mu.Unlock()
	close(done)
}
