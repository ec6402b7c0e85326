package daemon

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"replicad/replica/daemon/status"
)

// ErrHangs is what [status.Disk].Err wraps while a reading of the folder does
// not end.
var ErrHangs = errors.New("the disk hangs")

const (
	// freshFor is how long a reading of a folder is good.
	freshFor = time.Second
	// diskShare bounds how much of the time readings take, where each takes
	// long: one part of this many.
	diskShare = 10
	// hangsAfter is how long a reading may take.
	hangsAfter = 10 * time.Second
	// archiveWait is how long [Handle.Archive] waits for a reading.
	archiveWait = 250 * time.Millisecond
)

// disk keeps the last reading of a master's folder for all that show it. There
// is one reading at a time, on a goroutine of its own: a disk that hangs holds
// one goroutine, however many ask. Its methods may be called from any goroutine.
type disk struct {
	read func() status.Disk

	mu    sync.Mutex
	last  status.Disk
	took  time.Duration // the last reading
	began time.Time     // when the newest reading began
	ended chan struct{} // closed when the newest reading has ended
}

// get gives the last reading. Where that is too old, get begins a new one and
// waits for it until the new reading has taken as long as wait.
func (d *disk) get(wait time.Duration) status.Disk {
	began, ended := d.renew()
	select {
	case <-ended:
	case <-time.After(wait - time.Since(began)):
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	last := d.last
	if lasts := time.Since(d.began); d.reading() && lasts >= hangsAfter {
		last.Err = fmt.Errorf("%w: a reading has been under way for %v", ErrHangs, lasts.Round(time.Second))
	}
	return last
}

// renew begins a reading where the last one is too old. It tells when the newest
// reading began, and which channel is closed at its end.
func (d *disk) renew() (began time.Time, ended <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.reading() && (d.began.IsZero() || time.Since(d.began) >= max(freshFor, diskShare*d.took)) {
		d.began, d.ended = time.Now(), make(chan struct{})
		go d.renewed(d.began, d.ended)
	}
	return d.began, d.ended
}

// reading says whether a reading is under way.
func (d *disk) reading() bool {
	select {
	case <-d.ended:
		return false
	default:
		return d.ended != nil
	}
}

func (d *disk) renewed(began time.Time, ended chan<- struct{}) {
	now := d.read()
	d.mu.Lock()
	defer d.mu.Unlock()
	now.At = began
	d.last, d.took = now, time.Since(began)
	close(ended)
}
