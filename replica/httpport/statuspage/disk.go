package statuspage

import (
	"time"

	"replicad/replica/archive"
	"replicad/replica/lately"
)

// freshFor is how long what was read of an archive is shown before it is read
// again; longer where reading takes long, so that it takes a share of a fifth of
// the time at most.
const (
	freshFor = 2 * time.Second
	share    = 5
)

// reading is what was read of one master's archive.
type reading struct {
	At      time.Time // zero where nothing was read yet
	Archive archive.Master
	Err     error
	Free    int64 // bytes
	FreeErr error
}

// disk is what was read of an archive lately.
type disk struct{ lately *lately.Value[reading] }

func newDisk(describe func() (archive.Master, error), free func(dir string) (int64, error)) *disk {
	return &disk{lately.New(freshFor, share, func() (r reading) {
		r.Archive, r.Err = describe()
		if r.Archive.Dir != "" {
			r.Free, r.FreeErr = free(r.Archive.Dir)
		}
		r.At = time.Now()
		return r
	})}
}

// look gives what was read last. Where that is not good any more it is read
// anew, and waited for so long at most.
func (d *disk) look(wait time.Duration) reading { return d.lately.Get(wait).Value }
