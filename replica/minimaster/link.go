package minimaster

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// Faults make a master misbehave, for tests of replicas. They hit every
// connection, also those of clients.
type Faults struct {
	// CutAfter closes the connection once so many bytes were sent to it, counted
	// from its connect. 0: never.
	CutAfter int64

	// Replies replaces replies: raw bytes by step. A step is a command in upper
	// case, for REPLCONF followed by its first argument in lower case: "PING",
	// "AUTH", "REPLCONF listening-port", "REPLCONF capa", "PSYNC", "SYNC". The
	// command itself is not executed. The step "RDB" is what replaces the payload
	// of a full sync with its framing; the connection is closed after it.
	Replies map[string]string

	// ByteAtATime sends every byte in a write of its own (and TCP_NODELAY is on).
	ByteAtATime bool

	// SaveTime is how long the snapshot of a full sync pretends to take, after
	// +FULLRESYNC. While a disk-based one (the $<length> framing) lasts there are
	// newlines; a diskless one is silent, as in Redis.
	SaveTime time.Duration

	// CorruptRDB flips a bit in the middle of each snapshot sent; its checksum is
	// the one of the original.
	CorruptRDB bool
}

// listener hands out links instead of bare connections.
type listener struct {
	net.Listener
	faults *atomic.Pointer[Faults]
}

// Accept implements net.Listener.
func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &link{Conn: c, faults: l.faults}, nil
}

// link is one connection, with the faults of the master in its way out.
type link struct {
	net.Conn
	faults *atomic.Pointer[Faults]
	sent   atomic.Int64 // bytes written since the connect
}

var errCut = errors.New("minimaster: cut by Faults.CutAfter")

// Write writes all of b, as far as the faults let it.
func (k *link) Write(b []byte) (int, error) {
	f := k.faults.Load()
	total := 0
	for total < len(b) {
		n := len(b) - total
		if f.ByteAtATime {
			n = 1
		}
		if f.CutAfter > 0 {
			n = min(n, max(0, int(f.CutAfter-k.sent.Load())))
		}
		n, err := k.Conn.Write(b[total : total+n])
		total += n
		sent := k.sent.Add(int64(n))
		if err != nil {
			return total, err
		}
		if f.CutAfter > 0 && sent >= f.CutAfter {
			k.shutdown()
			return total, errCut
		}
	}
	return total, nil
}

// CloseWrite implements master.Conn.
func (k *link) CloseWrite() error {
	if tcp, ok := k.Conn.(*net.TCPConn); ok {
		return tcp.CloseWrite()
	}
	return nil
}

// lingerTime bounds how long shutdown reads what the replica still sends.
const lingerTime = 500 * time.Millisecond

// shutdown ends the connection after exactly the bytes that were written. It
// reads until the replica closes, too, before it closes: closing with unread
// bytes makes the kernel send a reset, and a reset takes back what the replica
// has not read yet (tcp(7), RFC 1122 4.2.2.13).
func (k *link) shutdown() {
	if tcp, ok := k.Conn.(*net.TCPConn); ok {
		_ = tcp.CloseWrite() // if it fails the connection is gone already
		_ = tcp.SetReadDeadline(time.Now().Add(lingerTime))
		_, _ = io.Copy(io.Discard, tcp)
	}
	k.Close()
}
