package metrics

import (
	"sync"
	"time"

	"replicad/replica/archive"
)

const (
	// fresh is how long a reading of the disk is good for; busy bounds what
	// readings take of the time, where each takes long.
	fresh = time.Second
	busy  = 20
	// patience is how long a scrape waits for a reading. Without one in that
	// time it shows the last.
	patience = 2 * time.Second
	// hung is when a reading that does not end says that the disk hangs.
	hung = 10 * time.Second
)

// reading is what the disk held at a moment.
type reading struct {
	at         time.Time // when it was begun
	took       time.Duration
	err        error
	free, size int64
	archive    archive.Master
}

// disk reads what a master has there.
type disk struct {
	master   Master
	patience time.Duration
	hung     time.Duration

	mu    sync.Mutex
	last  *reading      // nil before there is one
	began time.Time     // of the one under way
	ended chan struct{} // closed when that ends; nil while there is none
}

func newDisk(m Master) *disk { return &disk{master: m, patience: patience, hung: hung} }

// read gives the disk as it was lately; nil where it can't be read, or hangs.
func (d *disk) read() *reading {
	if ended := d.begin(); ended != nil {
		t := time.NewTimer(d.patience)
		defer t.Stop()
		select {
		case <-ended:
		case <-t.C:
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last == nil || d.last.err != nil || d.ended != nil && time.Since(d.began) >= d.hung {
		return nil
	}
	return d.last
}

// begin begins a reading, unless the last one is fresh, and gives what to wait
// for. There is never more than one: a disk that hangs holds one goroutine.
func (d *disk) begin() (ended <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	if d.ended != nil {
		return d.ended
	}
	if d.last != nil && now.Sub(d.last.at) < max(fresh, busy*d.last.took) {
		return nil
	}
	done := make(chan struct{})
	d.began, d.ended = now, done
	go func() {
		r := &reading{at: now}
		if r.free, r.size, r.err = d.master.Space(); r.err == nil {
			r.archive, r.err = d.master.Archive()
		}
		r.took = time.Since(now)
		d.mu.Lock()
		d.last, d.ended = r, nil
		d.mu.Unlock()
		close(done)
	}()
	return done
}
