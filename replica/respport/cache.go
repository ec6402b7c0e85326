package respport

import (
	"sync"
	"time"

	"replicad/replica/archive"
	"replicad/replica/daemon/status"
	"replicad/replica/lately"
)

// statusFor is how long a copy of the status serves: clients that ask all the
// time must not take the lock from the loop.
const statusFor = 5 * time.Millisecond

// stateCache has the link's status.
type stateCache struct {
	read func() status.Status

	mu sync.Mutex
	s  status.Status
	at time.Time
}

// get gives the status; its maps are not to be changed.
func (c *stateCache) get() status.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); c.at.IsZero() || now.Sub(c.at) > statusFor || now.Before(c.at) {
		c.s, c.at = c.read(), now
	}
	return c.s
}

// forget has the next get read it: after an order.
func (c *stateCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = time.Time{}
}

const (
	archiveFor   = time.Second
	archiveShare = 5                      // of the time at most
	archiveWait  = 250 * time.Millisecond // for a disk that is slow: INFO does not wait longer
)

// onDisk is an archive's description, or why there is none.
type onDisk struct {
	m   archive.Master
	err error
}

func newArchiveCache(read func() (archive.Master, error)) *lately.Value[onDisk] {
	return lately.New(archiveFor, archiveShare, func() (d onDisk) {
		d.m, d.err = read()
		return d
	})
}

// archiveNow is what is on disk, as it was a moment ago.
func (s *Server) archiveNow() (archive.Master, error) {
	d := s.archive.Get(archiveWait).Value
	return d.m, d.err
}
