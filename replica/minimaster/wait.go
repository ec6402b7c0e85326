package minimaster

import "time"

// Wait returns once n replicas have acknowledged everything written up to now, or
// the timeout has passed (0: never), and says how many have. It asks the replicas
// for their offset, in the stream, by REPLCONF GETACK * (replication.c,
// waitCommand).
func (s *replication) Wait(n int, timeout time.Duration) int {
	target := s.Offset()
	var over <-chan time.Time
	if timeout > 0 {
		t := time.NewTimer(timeout)
		defer t.Stop()
		over = t.C
	}
	for asked := false; ; asked = true {
		s.mu.Lock()
		got := s.countAcks(target)
		if got < n && !asked && s.Replicas() > 0 {
			s.feed(appendCommand(nil, "REPLCONF", "GETACK", "*"))
		}
		acked := s.acked
		s.mu.Unlock()
		if got >= n {
			return got
		}
		select {
		case <-acked:
		case <-over:
			return s.countAcks(target)
		case <-s.done:
			return got
		}
	}
}

// countAcks counts the replicas online that have acknowledged target.
func (s *replication) countAcks(target int64) int {
	n := 0
	for _, r := range s.replicas.Replicas() {
		if now := r.Now(); now.Online && now.Ack >= target {
			n++
		}
	}
	return n
}

// heardAck wakes Wait.
func (s *replication) heardAck() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.acked)
	s.acked = make(chan struct{})
}
