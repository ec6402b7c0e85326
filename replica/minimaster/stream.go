package minimaster

import (
	"context"
	"errors"
	"net"

	"replicad/replica/master"
)

// stream is what one replica is sent: a queue that feed fills. It implements
// master.Stream.
type stream struct {
	s     *replication
	conn  net.Conn
	ready chan struct{} // holds a token when something has changed

	// Under replication.mu.
	out     []byte
	dropped bool
	waits   bool  // of a main channel: it begins when its RDB channel comes
	client  int64 // the id that a main channel was told
}

// errSlow ends the connection of a replica whose queue is longer than
// OutputLimit.
var errSlow = errors.New("minimaster: the replica does not read")

// newStream makes the stream of a replica, with what waits already. The caller
// holds mu.
func (s *replication) newStream(conn net.Conn, out []byte) *stream {
	st := &stream{s: s, conn: conn, ready: make(chan struct{}, 1), out: out}
	s.streams[st] = struct{}{}
	return st
}

func (st *stream) wake() {
	select {
	case st.ready <- struct{}{}:
	default:
	}
}

// drop cuts the replica. The caller holds mu.
func (st *stream) drop() {
	st.dropped, st.out = true, nil
	st.wake()
	st.conn.Close()
}

// Send implements master.Stream.
func (st *stream) Send(ctx context.Context, to master.Conn) (int64, error) {
	for {
		b, err := st.take()
		if err != nil {
			return 0, err
		}
		if len(b) > 0 {
			n, err := to.Write(b)
			return int64(n), err
		}
		select {
		case <-st.ready:
		case <-ctx.Done():
			return 0, net.ErrClosed
		}
	}
}

// take takes all bytes that wait.
func (st *stream) take() (b []byte, err error) {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	if st.dropped {
		return nil, errSlow
	}
	b, st.out = st.out, nil
	return b, nil
}

// Close implements master.Stream.
func (st *stream) Close() error {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	delete(st.s.streams, st)
	delete(st.s.mains, st.client)
	return nil
}
