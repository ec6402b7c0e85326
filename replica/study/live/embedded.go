package live

import (
	"fmt"
	"time"

	"replicad/replica/minimaster"
)

// Embedded is an embedded master with a client that writes to it, for a study
// without a Redis.
type Embedded struct {
	master *minimaster.Master
	quit   chan struct{}
	ended  chan struct{}
}

const (
	writeEvery = 300 * time.Millisecond
	waitFor    = 100 * time.Millisecond
)

// StartEmbedded starts an embedded master on a free port of the loopback. Close
// it.
func StartEmbedded() (*Embedded, error) {
	m, err := minimaster.Start(minimaster.Config{Diskless: true, ReplPingPeriod: time.Second})
	if err != nil {
		return nil, err
	}
	for _, cmd := range [][]string{{"SET", "greeting", "hello"}, {"RPUSH", "list", "a", "b", "c"}, {"HSET", "hash", "field", "value"}} {
		if _, err := m.Do(cmd...); err != nil {
			m.Close()
			return nil, fmt.Errorf("%s: %w", cmd[0], err)
		}
	}
	e := &Embedded{master: m, quit: make(chan struct{}), ended: make(chan struct{})}
	go e.write()
	return e, nil
}

// Addr is the address on which the master listens.
func (e *Embedded) Addr() string { return e.master.Addr() }

// Close ends the client and the master.
func (e *Embedded) Close() error {
	close(e.quit)
	<-e.ended
	return e.master.Close()
}

// write writes a value now and then, at times a transaction, and at times waits
// for the replica with WAIT, for which the master asks GETACK.
func (e *Embedded) write() {
	defer close(e.ended)
	c := e.master.NewClient()
	for i := 1; ; i++ {
		select {
		case <-e.quit:
			return
		case <-time.After(writeEvery):
		}
		cmds := [][]string{{"SELECT", "0"}, {"SET", "key", fmt.Sprint(i)}}
		if i%4 == 0 {
			cmds = [][]string{{"SELECT", "1"}, {"MULTI"}, {"INCR", "counter"}, {"LPUSH", "list", "z"}, {"EXEC"}}
		}
		for _, cmd := range cmds {
			_, _ = c.Do(cmd...)
		}
		if i%3 == 0 {
			e.master.Wait(1, waitFor)
		}
	}
}
