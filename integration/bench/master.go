package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/tidwall/redcon"
	"golang.org/x/sys/unix"
)

const (
	replID  = "00112233445566778899aabbccddeeff00112233"
	eofMark = "ffeeddccbbaa99887766554433221100ffeeddcc"

	ping   = "*1\r\n$4\r\nPING\r\n"
	getAck = "*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n"

	// patience bounds each wait for the replica.
	patience = 2 * time.Minute
)

// master listens for one replica at a time.
type master struct {
	ln    *net.TCPListener
	eager bool // see eagerly
}

func newMaster() (*master, error) {
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	return &master{ln: ln}, err
}

func (m *master) port() int    { return m.ln.Addr().(*net.TCPAddr).Port }
func (m *master) addr() string { return m.ln.Addr().String() }
func (m *master) close()       { m.ln.Close() }

// eagerly reads from a connection without going to sleep for the first moment:
// being woken takes longer than a replica on the loopback needs for its part of
// a handshake, and it is the replica that is measured.
type eagerly struct{ conn *net.TCPConn }

const eagerFor = 2 * time.Millisecond

func (e eagerly) Read(p []byte) (n int, err error) {
	raw, err := e.conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	for start := time.Now(); time.Since(start) < eagerFor; {
		var got error
		err := raw.Read(func(fd uintptr) bool {
			n, got = unix.Read(int(fd), p)
			return true // do not wait
		})
		if err == nil && got == nil && n > 0 {
			return n, nil
		}
		if err != nil || got != unix.EAGAIN && got != unix.EINTR {
			break // let the ordinary read tell
		}
	}
	return e.conn.Read(p)
}

// link is the connection of a replica.
type link struct {
	conn     *net.TCPConn
	in       *redcon.Reader
	accepted time.Time
	replied  time.Time // when the reply to PSYNC or SYNC was written
	resumed  bool      // that reply was CONTINUE
	acked    ack
}

// ack is what a REPLCONF ACK says; durable is -1 without a FACK.
type ack struct {
	offset, durable int64
}

// accept waits for a replica and goes with it through the handshake until it
// has asked for a sync; that is answered by FULLRESYNC from offset 0, or by
// CONTINUE where it asks to. The preamble of a payload comes next.
func (m *master) accept() (*link, error) {
	if err := m.ln.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	conn, err := m.ln.AcceptTCP()
	if err != nil {
		return nil, fmt.Errorf("waiting for a replica: %w", err)
	}
	var in io.Reader = conn
	if m.eager {
		in = eagerly{conn}
	}
	l := &link{conn: conn, in: redcon.NewReader(in), accepted: time.Now(), acked: ack{-1, -1}}
	conn.SetDeadline(time.Now().Add(patience))
	if err := l.handshake(); err != nil {
		conn.Close()
		return nil, fmt.Errorf("handshake: %w", err)
	}
	return l, nil
}

// handshake answers each read by one write, as Redis does.
func (l *link) handshake() error {
	for l.replied.IsZero() {
		commands, err := l.in.ReadCommands()
		if err != nil {
			return err
		}
		var out []byte
		synced := false
		for _, c := range commands {
			switch name := strings.ToUpper(string(c.Args[0])); {
			case name == "PING":
				out = append(out, "+PONG\r\n"...)
			case name == "SYNC":
				synced = true
			case name == "PSYNC" && len(c.Args) == 3 && string(c.Args[1]) != "?":
				out = append(out, "+CONTINUE\r\n"...)
				l.resumed, synced = true, true
			case name == "PSYNC":
				out = fmt.Appendf(out, "+FULLRESYNC %s 0\r\n", replID)
				synced = true
			default:
				out = append(out, "+OK\r\n"...)
			}
		}
		if _, err := l.conn.Write(out); err != nil {
			return err
		}
		if synced {
			l.replied = time.Now()
		}
	}
	return nil
}

// send sends a payload, in one framing or the other.
func (l *link) send(p *payload, eof bool) error {
	l.conn.SetWriteDeadline(time.Now().Add(patience))
	pieces := p.buffers()
	preamble := fmt.Sprintf("$%d\r\n", p.size)
	if eof {
		preamble = "$EOF:" + eofMark + "\r\n"
		pieces = append(pieces, []byte(eofMark))
	}
	if _, err := io.WriteString(l.conn, preamble); err != nil {
		return err
	}
	_, err := pieces.WriteTo(l.conn)
	return err
}

// parseAck reads REPLCONF ACK offset [FACK offset].
func parseAck(args [][]byte) (a ack, ok bool) {
	says := strings.ToUpper(string(bytes.Join(args, []byte(" "))))
	a.durable = -1
	n, _ := fmt.Sscanf(says, "REPLCONF ACK %d FACK %d", &a.offset, &a.durable)
	return a, n > 0
}

// await reads what the replica says until an ACK satisfies enough.
func (l *link) await(enough func(ack) bool) error {
	l.conn.SetDeadline(time.Now().Add(patience))
	for !enough(l.acked) {
		c, err := l.in.ReadCommand()
		if err != nil {
			return fmt.Errorf("waiting for the replica after ACK %d: %w", l.acked.offset, err)
		}
		if a, ok := parseAck(c.Args); ok {
			l.acked = a
		}
	}
	return nil
}

func (l *link) close() { l.conn.Close() }
