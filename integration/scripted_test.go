package integration

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"replicad/replica/rdb"
)

// A scripted master says what no real one could be brought to say at the
// moment that a test wants it.
type scripted struct {
	addr     string
	mu       sync.Mutex
	sessions int
}

// conversation is one connection to a scripted master.
type conversation struct {
	net.Conn
	in     *bufio.Reader
	number int // from 1
}

// script starts a master that holds the conversation that converse describes,
// with each who connects; when it returns the connection is closed.
func script(t *testing.T, converse func(c *conversation)) *scripted {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &scripted{addr: l.Addr().String()}
	var all sync.WaitGroup
	open := map[net.Conn]bool{}
	all.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.sessions++
			c := &conversation{Conn: nc, in: bufio.NewReader(nc), number: s.sessions}
			open[nc] = true
			s.mu.Unlock()
			all.Go(func() {
				converse(c)
				nc.Close()
				s.mu.Lock()
				delete(open, nc)
				s.mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.mu.Lock()
		for nc := range open {
			nc.Close()
		}
		s.mu.Unlock()
		all.Wait()
	})
	return s
}

// count is how many have connected so far.
func (s *scripted) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions
}

// command reads a RESP array of bulk strings.
func (c *conversation) command() ([]string, error) {
	n, err := c.header('*')
	if err != nil {
		return nil, err
	}
	args := make([]string, n)
	for i := range args {
		k, err := c.header('$')
		if err != nil {
			return nil, err
		}
		b := make([]byte, k+2)
		if _, err := io.ReadFull(c.in, b); err != nil {
			return nil, err
		}
		args[i] = string(b[:k])
	}
	return args, nil
}

// header reads a line of a kind and its number.
func (c *conversation) header(kind byte) (int, error) {
	line, err := c.in.ReadString('\n')
	if err != nil {
		return 0, err
	}
	if line[0] != kind {
		return 0, fmt.Errorf("%q does not begin with %c", line, kind)
	}
	return strconv.Atoi(strings.TrimSpace(line[1:]))
}

// say writes; a replica that went away is not the script's concern.
func (c *conversation) say(format string, args ...any) bool {
	_, err := fmt.Fprintf(c, format, args...)
	return err == nil
}

// handshake answers as a master does until PSYNC comes, and returns its
// arguments; false when the connection ended before.
func (c *conversation) handshake() (id, offset string, ok bool) {
	for {
		args, err := c.command()
		if err != nil {
			return "", "", false
		}
		switch strings.ToUpper(args[0]) {
		case "PING":
			c.say("+PONG\r\n")
		case "PSYNC":
			return args[1], args[2], true
		default:
			c.say("+OK\r\n")
		}
	}
}

// acks reads REPLCONF ACK and tells each, until the connection ends.
func (c *conversation) acks(tell func(offset, fsynced int64)) {
	for {
		args, err := c.command()
		if err != nil {
			return
		}
		if len(args) >= 3 && strings.EqualFold(args[1], "ACK") {
			offset, _ := strconv.ParseInt(args[2], 10, 64)
			fsynced := int64(0)
			if len(args) == 5 {
				fsynced, _ = strconv.ParseInt(args[4], 10, 64)
			}
			tell(offset, fsynced)
		}
	}
}

// replID makes a replication id that a test can tell from others.
func replID(b byte) string { return strings.Repeat(string(b), 40) }

// dump is an RDB file with string keys; damaged, its checksum is wrong.
func dump(values map[string]string, damaged bool) string {
	b := []byte("REDIS0010\xfe\x00")
	for k, v := range values {
		b = append(b, 0)
		b = append(b, rdbString(k)...)
		b = append(b, rdbString(v)...)
	}
	b = append(b, 0xff)
	sum := rdb.NewChecksum()
	sum.Write(b)
	crc := sum.Sum64()
	if damaged {
		crc ^= 1
	}
	return string(binary.LittleEndian.AppendUint64(b, crc))
}

// rdbString has its length in 32 bits.
func rdbString(s string) string {
	return string(append(binary.BigEndian.AppendUint32([]byte{0x80}, uint32(len(s))), s...))
}
