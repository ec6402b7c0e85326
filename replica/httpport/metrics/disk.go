package metrics

import (
	"time"

	"replicad/replica/archive"
	"replicad/replica/lately"
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
	err        error
	free, size int64
	archive    archive.Master
}

// disk reads what a master has there.
type disk struct {
	*lately.Value[*reading]
	patience time.Duration
	hung     time.Duration
}

func newDisk(m Master) *disk { return diskOf(m, fresh) }

func diskOf(m Master, fresh time.Duration) *disk {
	return &disk{patience: patience, hung: hung, Value: lately.New(fresh, busy, func() *reading {
		r := &reading{}
		if r.free, r.size, r.err = m.Space(); r.err == nil {
			r.archive, r.err = m.Archive()
		}
		return r
	})}
}

// read gives the disk as it was lately; nil where it can't be read, or hangs.
func (d *disk) read() *reading {
	r := d.Get(d.patience)
	if r.Value == nil || r.Value.err != nil || !r.Since.IsZero() && time.Since(r.Since) >= d.hung {
		return nil
	}
	return r.Value
}
