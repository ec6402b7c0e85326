package minimaster

import (
	"sync"

	"replicad/replica/master"
)

// replication is the stream of a master: what Redis keeps in server.replid,
// master_repl_offset and repl_backlog. It knows no commands and no data: the
// stream is bytes, and snapshot makes the payload of a full sync. It is the
// source of what the replicas are sent.
type replication struct {
	cfg      Config
	done     chan struct{} // closed by Close
	wg       sync.WaitGroup
	replicas master.Replicas

	// snapshot returns an RDB file that stands for everything up to the offset
	// of the moment when it returns. It is called with mu held.
	snapshot func() ([]byte, error)

	mu      sync.Mutex // the one lock: see the package comment
	replid  string
	offset  int64    // master_repl_offset: bytes of stream produced
	backlog *backlog // nil until the first replica, as in Redis: until then nothing is counted
	streams map[*stream]struct{}
	mains   map[int64]*stream // of main channels whose RDB channel has not come, by the id they were told
	clients int64             // ids of channels given
	acked   chan struct{}     // closed, and replaced, at each acknowledgement
	closed  bool
}

// feed is the one place where the stream grows: the offset counts the bytes, the
// backlog remembers them, and every replica's queue gets them (replication.c,
// replicationFeedReplicas, feedReplicationBuffer). Before the first replica the
// stream has not begun, and feed does nothing. The caller holds mu.
func (s *replication) feed(b []byte) {
	if s.backlog == nil {
		return
	}
	s.offset += int64(len(b))
	s.backlog.write(b)
	for st := range s.streams {
		if st.waits {
			continue
		}
		if len(st.out)+len(b) > s.cfg.OutputLimit {
			st.drop()
			continue
		}
		st.out = append(st.out, b...)
		st.wake()
	}
}

// ReplID is the replication id, 40 hex digits. It never changes.
func (s *replication) ReplID() string { return s.replid }

// Offset is master_repl_offset: how many bytes the stream has had. It stays 0
// until the first replica comes.
func (s *replication) Offset() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.offset
}

// Stats counts syncs, since Start.
func (s *replication) Stats() master.Stats { return s.replicas.Stats() }

// Backlog is a copy of what the backlog holds: the last bytes of the stream, as
// every replica was sent them, and the offset of the first byte among them. The
// first byte of a stream has offset 1.
func (s *replication) Backlog() (first int64, stream []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.backlog == nil {
		return s.offset + 1, nil
	}
	first = s.backlog.first()
	return first, s.backlog.from(first)
}

// Replicas is how many replicas are connected now.
func (s *replication) Replicas() int { return len(s.replicas.Replicas()) }

// CutReplicas closes the connection of every replica, as CLIENT KILL TYPE
// replica does, and returns how many there were.
func (s *replication) CutReplicas() int { return s.replicas.Cut(nil) }
