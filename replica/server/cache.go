package server

import (
	"sync"
	"time"

	"replicad/replica/archive"
	"replicad/replica/status"
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
	archiveFor  = time.Second
	archiveWait = 250 * time.Millisecond // for a disk that is slow: INFO does not wait longer
)

// archiveCache has what the archive's description said last. It is read at most
// once at a time and once a second, and nobody waits long for a disk that
// stands still.
type archiveCache struct {
	read func() (archive.Master, error)

	mu      sync.Mutex
	m       archive.Master
	err     error
	at      time.Time
	reading chan struct{} // closed when it is read; nil while nobody does
}

func (c *archiveCache) get() (archive.Master, error) {
	c.mu.Lock()
	if now := time.Now(); !c.at.IsZero() && now.Sub(c.at) < archiveFor && !now.Before(c.at) {
		defer c.mu.Unlock()
		return c.m, c.err
	}
	if c.reading == nil {
		c.reading = make(chan struct{})
		go c.refresh(c.reading)
	}
	reading := c.reading
	c.mu.Unlock()
	t := time.NewTimer(archiveWait)
	defer t.Stop()
	select {
	case <-reading:
	case <-t.C:
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.m, c.err
}

func (c *archiveCache) refresh(done chan struct{}) {
	m, err := c.read()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.m, c.err, c.at, c.reading = m, err, time.Now(), nil
	close(done)
}
