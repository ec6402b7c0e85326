package minimaster

import "time"

// Wait returns once n replicas have acknowledged everything written up to now, or the timeout has passed (0: never), and
// says how many have: the command WAIT.
func (m *Master) Wait(n int, timeout time.Duration) int {
	m.mu.Lock()
	target := m.offset
	m.mu.Unlock()
	return m.wait(target, n, timeout, false)
}

// wait is WAIT and, with fsynced, WAITAOF (replication.c, waitCommand): who waits asks the replicas for their
// offset, in the stream, by REPLCONF GETACK *.
func (m *Master) wait(target int64, n int, timeout time.Duration, fsynced bool) int {
	var over <-chan time.Time
	if timeout > 0 {
		t := time.NewTimer(timeout)
		defer t.Stop()
		over = t.C
	}
	for asked := false; ; asked = true {
		m.mu.Lock()
		got := m.countAcks(target, fsynced)
		if got < n && !asked && len(m.replicas) > 0 {
			m.feed(appendCommand(nil, "REPLCONF", "GETACK", "*"))
		}
		acked := m.acked
		m.mu.Unlock()
		if got >= n {
			return got
		}
		select {
		case <-acked:
		case <-over:
			m.mu.Lock()
			defer m.mu.Unlock()
			return m.countAcks(target, fsynced)
		case <-m.done:
			return got
		}
	}
}

// countAcks counts the replicas online that have acknowledged target. The caller holds mu.
func (m *Master) countAcks(target int64, fsynced bool) int {
	n := 0
	for r := range m.replicas {
		offset := r.ack
		if fsynced {
			offset = r.fack
		}
		if r.state == stateOnline && offset >= target {
			n++
		}
	}
	return n
}
