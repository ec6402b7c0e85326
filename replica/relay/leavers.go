package relay

import (
	"cmp"
	"net"
	"strconv"
	"sync"
	"time"

	"replicad/replica/master"
)

// leavers are the replicas that left in the RDB or right behind it. A replica
// whose version can't load the RDB would ask for the next one at once, for ever.
type leavers struct {
	mu  sync.Mutex
	all map[string]*leaver
}

// leaver is one of them.
type leaver struct {
	times int
	until time.Time // when it gets the next RDB
}

const (
	firstPause = time.Second
	lastPause  = time.Minute
	// mostLeavers bounds the memory. A replica that leaves may name any port.
	mostLeavers = 1000
)

// name is by what a replica is known again: the address of its host, and the port
// that it names.
func name(h master.Handshake, addr net.Addr) string {
	host, _, _ := net.SplitHostPort(addr.String())
	return cmp.Or(h.IP, host) + ":" + strconv.Itoa(h.Port)
}

// pause says how long a replica waits for the next RDB.
func (l *leavers) pause(who string, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if x := l.all[who]; x != nil {
		return max(0, x.until.Sub(now))
	}
	return 0
}

// note notes that a replica has left. It says how long the replica waits for the
// next RDB, and whether this was the first time.
func (l *leavers) note(who string, now time.Time) (pause time.Duration, first bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	x := l.all[who]
	if x == nil {
		for other, y := range l.all {
			if len(l.all) >= mostLeavers || now.Sub(y.until) > lastPause {
				delete(l.all, other)
			}
		}
		x = &leaver{}
		l.all[who] = x
	}
	pause = min(firstPause<<min(x.times, 16), lastPause)
	x.times++
	x.until = now.Add(pause)
	return pause, x.times == 1
}

// forget is told that a replica has loaded an RDB.
func (l *leavers) forget(who string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.all, who)
}
