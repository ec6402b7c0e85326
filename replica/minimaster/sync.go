package minimaster

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/redcon"
)

// handshake is what REPLCONF tells before PSYNC.
type handshake struct {
	port    int      // listening-port, 0 when it named none
	capa    []string // in order: eof, psync2
	rdbOnly bool     // it takes the payload of a full sync and no stream

	rdbChannel bool  // it is the RDB channel of a full sync on two connections
	main       int64 // of the main channel with that id (Redis)
}

// knows says whether the replica has a capability.
func (h handshake) knows(capa Dialect) bool { return slices.Contains(h.capa, string(capa)) }

// sync makes a connection that asked for PSYNC or SYNC a replica. id and offset
// are the arguments of PSYNC; the id is "" for SYNC (replication.c, syncCommand).
func (s *replication) sync(conn redcon.DetachedConn, k *link, h handshake, id string, offset int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	r := &replica{s: s, conn: conn, link: k, hand: h, gone: make(chan struct{}), ackTime: time.Now()}
	r.ready.L = &s.mu
	missing, partial := s.tryPartialSync(id, offset)
	if s.backlog == nil {
		s.backlog = newBacklog(s.cfg.BacklogSize, s.offset)
	}
	send := r.write
	if id == "?" && s.cfg.Channels == RDBChannel && h.knows(RDBChannel) && !h.rdbChannel {
		// The stream begins when the RDB channel has its snapshot.
		s.clients++
		r.client, r.waits = s.clients, true
		s.mains[r.client] = r
		r.out = fmt.Appendf(nil, "+RDBCHANNELSYNC %d\r\n", r.client)
	} else if partial {
		s.stats.SyncPartialOK++
		r.online = true
		r.out = append(s.continueReply(h), missing...)
	} else {
		if id != "" && id != "?" {
			s.stats.SyncPartialErr++
		}
		var err error
		if send, err = s.beginFullSync(r, id != ""); err != nil {
			return err
		}
	}
	s.replicas[r] = struct{}{}
	s.wg.Go(r.read)
	s.wg.Go(send)
	return nil
}

// tryPartialSync decides whether a replica can go on with the byte at offset in
// the history id. It returns the bytes that the replica lacks; false when they
// are not all in the backlog (replication.c, masterTryPartialResynchronization).
// The caller holds mu.
func (s *replication) tryPartialSync(id string, offset int64) ([]byte, bool) {
	if s.backlog == nil || !strings.EqualFold(id, s.replid) || !s.backlog.has(offset) {
		return nil, false
	}
	return s.backlog.from(offset), true
}

// continueReply grants a partial resync. A replica without psync2 does not expect
// an id behind the word.
func (s *replication) continueReply(h handshake) []byte {
	if slices.Contains(h.capa, "psync2") {
		return []byte("+CONTINUE " + s.replid + "\r\n")
	}
	return []byte("+CONTINUE\r\n")
}

// beginFullSync takes the snapshot. From this instant the replica's queue
// collects the stream, and the two fit together at the offset. psync says that
// the replica expects a line with the offset before the payload. The caller
// holds mu. The function returned, for a goroutine of its own, sends the
// payload and then the queue (replication.c,
// replicationSetupReplicaForFullResync).
func (s *replication) beginFullSync(r *replica, psync bool) (send func(), err error) {
	rdb, err := s.snapshot()
	if err != nil {
		return nil, err
	}
	s.stats.SyncFull++
	if main := s.mains[r.hand.main]; main != nil && r.hand.rdbChannel {
		main.waits, main.online = false, true
		delete(s.mains, r.hand.main)
	}
	diskless := s.cfg.Diskless && slices.Contains(r.hand.capa, "eof")
	// Nothing tells the end of a diskless payload, so the replica's word that it
	// has the payload lets the stream begin (repl_start_cmd_stream_on_ack).
	r.held = diskless
	head := ""
	if r.hand.rdbChannel && s.cfg.Channels == DualChannel {
		s.clients++
		head = fmt.Sprintf("$ENDOFF:%d %s 0 %d\r\n", s.offset, s.replid, s.clients)
	} else if psync {
		head = fmt.Sprintf("+FULLRESYNC %s %d\r\n", s.replid, s.offset)
	}
	return func() {
		if err := r.fullSync(head, rdb, diskless); err != nil {
			r.leave()
			return
		}
		r.write()
	}, nil
}

// fullSync sends the line that answers PSYNC, and the snapshot in its framing
// (replication.c, sendBulkToSlave).
func (r *replica) fullSync(head string, rdb []byte, diskless bool) error {
	if _, err := r.link.Write([]byte(head)); err != nil {
		return err
	}
	f := r.link.faults.Load()
	if err := r.pretendToSave(f.SaveTime, !diskless); err != nil {
		return err
	}
	if raw, ok := f.Replies["RDB"]; ok {
		_, _ = r.link.Write([]byte(raw)) // the connection ends either way
		r.link.shutdown()
		return fmt.Errorf("payload replaced by Faults.Replies")
	}
	if f.CorruptRDB {
		rdb = slices.Clone(rdb) // the snapshot is also OnSnapshot's
		rdb[len(rdb)/2] ^= 0x10
	}
	payload := slices.Concat([]byte("$"+strconv.Itoa(len(rdb))+"\r\n"), rdb)
	if diskless {
		mark := randomHex()
		payload = slices.Concat([]byte("$EOF:"+mark+"\r\n"), rdb, []byte(mark))
	}
	if _, err := r.link.Write(payload); err != nil {
		return err
	}
	if r.hand.rdbOnly {
		r.link.shutdown()
		return errRDBOnly
	}
	r.s.mu.Lock()
	r.online = true
	r.s.mu.Unlock()
	return nil
}

// errRDBOnly ends the connection of a replica that wanted the payload alone
// (replication.c, replicaPutOnline).
var errRDBOnly = errors.New("minimaster: the payload is sent, and REPLCONF rdb-only asked for no more")

// pretendToSave waits. While a disk-based master saves it sends a newline every
// KeepAlive, so that the replica does not take the master for dead
// (replicationCron); a diskless one is silent. It ends early when the replica is
// gone.
func (r *replica) pretendToSave(d time.Duration, newlines bool) error {
	for end := time.Now().Add(d); time.Now().Before(end); {
		select {
		case <-r.gone:
			return net.ErrClosed
		case <-time.After(min(r.s.cfg.KeepAlive, time.Until(end))):
		}
		if newlines {
			if _, err := r.link.Write([]byte("\n")); err != nil {
				return err
			}
		}
	}
	return nil
}
