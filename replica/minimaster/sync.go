package minimaster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"replicad/replica/master"
)

// answer answers a connection that asked for PSYNC or SYNC (replication.c,
// syncCommand). From this instant the replica's stream collects what it lacks.
func (s *replication) answer(k *link, q master.Request) (a master.Answer, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return a, net.ErrClosed
	}
	missing, partial := s.tryPartialSync(q)
	if s.backlog == nil {
		s.backlog = newBacklog(s.cfg.BacklogSize, s.offset)
	}
	a.Offset = s.offset
	switch {
	case q.ReplID == "?" && s.cfg.Channels == RDBChannel && q.Knows(string(RDBChannel)) && !q.RDBChannel:
		// The stream begins when the RDB channel has its snapshot.
		s.clients++
		st := s.newStream(k, nil)
		st.client, st.waits = s.clients, true
		s.mains[st.client] = st
		a.Line, a.Stream = fmt.Sprintf("+RDBCHANNELSYNC %d\r\n", st.client), st
	case partial:
		a.Line, a.Stream, a.Granted = q.Continue(s.replid), s.newStream(k, missing), true
		a.Offset -= int64(len(missing))
	default:
		err = s.fullSync(k, q, &a)
	}
	return a, err
}

// tryPartialSync decides whether a replica can go on where it is. It returns the
// bytes that the replica lacks; false when they are not all in the backlog
// (replication.c, masterTryPartialResynchronization). The caller holds mu.
func (s *replication) tryPartialSync(q master.Request) ([]byte, bool) {
	if s.backlog == nil || !strings.EqualFold(q.ReplID, s.replid) || !s.backlog.has(q.Offset) {
		return nil, false
	}
	return s.backlog.from(q.Offset), true
}

// fullSync takes the snapshot, which fits together with the stream at the offset
// of this moment (replication.c, replicationSetupReplicaForFullResync). The
// caller holds mu.
func (s *replication) fullSync(k *link, q master.Request, a *master.Answer) error {
	rdb, err := s.snapshot()
	if err != nil {
		return err
	}
	if main := s.mains[q.Main]; main != nil && q.RDBChannel {
		main.waits = false
		delete(s.mains, q.Main)
	}
	a.Offset, a.Line = s.offset, q.FullResync(s.replid, s.offset)
	if q.RDBChannel && s.cfg.Channels == DualChannel {
		s.clients++
		a.Line = fmt.Sprintf("$ENDOFF:%d %s 0 %d\r\n", s.offset, s.replid, s.clients)
	}
	mark := ""
	if s.cfg.Diskless && q.Knows(master.CapaEOF) {
		mark, a.Held = randomHex(), true
	}
	a.Base = s.payload(k, rdb, mark)
	if !q.RDBOnly {
		a.Stream = s.newStream(k, nil)
	}
	return nil
}

// errReplaced ends the connection behind a payload that a fault has replaced.
var errReplaced = errors.New("minimaster: the payload was replaced by Faults.Replies")

// payload is the snapshot, as the faults let it be sent.
func (s *replication) payload(k *link, rdb []byte, mark string) *master.Base {
	prepare := func(ctx context.Context, keepAlive func() error) error {
		f := k.faults.Load()
		if mark != "" { // a diskless master is silent while it saves
			keepAlive = func() error { return nil }
		}
		if err := s.pretendToSave(ctx, f.SaveTime, keepAlive); err != nil {
			return err
		}
		if raw, ok := f.Replies["RDB"]; ok {
			_, _ = k.Write([]byte(raw)) // the connection ends either way
			k.shutdown()
			return errReplaced
		}
		if f.CorruptRDB {
			rdb = slices.Clone(rdb) // the snapshot is also OnSnapshot's
			rdb[len(rdb)/2] ^= 0x10
		}
		return nil
	}
	return &master.Base{Size: int64(len(rdb)), Mark: mark, Prepare: prepare, Send: func(_ context.Context, to master.Conn) error {
		_, err := to.Write(rdb)
		return err
	}}
}

// pretendToSave waits. While a disk-based master saves it sends a newline every
// KeepAlive, so that the replica does not take the master for dead
// (replicationCron). It ends early when the replica is gone.
func (s *replication) pretendToSave(ctx context.Context, d time.Duration, keepAlive func() error) error {
	for end := time.Now().Add(d); time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return net.ErrClosed
		case <-time.After(min(s.cfg.KeepAlive, time.Until(end))):
		}
		if err := keepAlive(); err != nil {
			return err
		}
	}
	return nil
}
