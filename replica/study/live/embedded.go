package live

import (
	"fmt"
	"time"

	"replicad/replica/minimaster"
)

const (
	writeEvery = 300 * time.Millisecond
	waitFor    = 100 * time.Millisecond
)

// StartEmbedded starts an embedded master with a client that writes to it, for a
// study without a Redis. The master listens at addr; stop ends both.
func StartEmbedded() (addr string, stop func() error, err error) {
	m, err := minimaster.Start(minimaster.Config{Diskless: true, ReplPingPeriod: time.Second})
	if err != nil {
		return "", nil, err
	}
	for _, cmd := range [][]string{{"SET", "greeting", "hello"}, {"RPUSH", "list", "a", "b", "c"}, {"HSET", "hash", "field", "value"}} {
		if _, err := m.Do(cmd...); err != nil {
			m.Close()
			return "", nil, fmt.Errorf("%s: %w", cmd[0], err)
		}
	}
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		write(m, quit)
	}()
	return m.Addr(), func() error {
		close(quit)
		<-ended
		return m.Close()
	}, nil
}

// write writes a value now and then, at times a transaction, and at times waits
// for the replica with WAIT, for which the master asks GETACK.
func write(m *minimaster.Master, quit <-chan struct{}) {
	c := m.NewClient()
	for i := 1; ; i++ {
		select {
		case <-quit:
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
			m.Wait(1, waitFor)
		}
	}
}
