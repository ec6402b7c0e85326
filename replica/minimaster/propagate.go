package minimaster

import "strconv"

// propagate turns effects into bytes of the stream and feeds them (server.c, propagatePendingCommands). Several effects
// of one command or transaction go as MULTI ... EXEC, in one piece: a replica never stands between two of them. One
// alone needs no wrapping. SELECT is said when the database is another than the stream's.
// The caller holds mu.
func (m *Master) propagate(effects []effect) {
	if len(effects) == 0 || m.backlog == nil {
		// Nobody has ever listened: replicationFeedReplicas counts nothing then either.
		return
	}
	var b []byte
	selectDB := func(db int) {
		if db != m.streamDB {
			b = appendCommand(b, "SELECT", strconv.Itoa(db))
			m.streamDB = db
		}
	}
	if len(effects) > 1 {
		selectDB(effects[0].db)
		b = appendCommand(b, "MULTI")
	}
	for _, x := range effects {
		selectDB(x.db)
		b = appendCommand(b, x.args...)
	}
	if len(effects) > 1 {
		b = appendCommand(b, "EXEC")
	}
	m.feed(b)
}

// feed is the one place where the stream grows: the offset counts the bytes, the backlog remembers them, every
// replica's queue gets them (replication.c, replicationFeedReplicas, feedReplicationBuffer). The caller holds mu.
func (m *Master) feed(b []byte) {
	m.offset += int64(len(b))
	m.backlog.write(b)
	for r := range m.replicas {
		// Before its snapshot a replica needs nothing: what happens now will be in it.
		if r.state == stateWaitSaveStart || r.rdbOnly {
			continue
		}
		if !r.out.put(b) {
			m.drop(r, "client-output-buffer-limit replica reached")
		}
	}
}
