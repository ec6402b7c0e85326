package main

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/tidwall/redcon"
	"golang.org/x/sys/unix"

	"replicad/eventloop"
)

const (
	// pingEvery is redis.conf's repl-ping-replica-period.
	pingEvery = 10 * time.Second
	// fleetBase is the offset of each master's full sync.
	fleetBase = 1000
	// fleetListeners share the port, so that the queues of connections that
	// wait for accept(2) hold all masters' at once.
	fleetListeners = 8
)

// fleet plays many masters, each at a loopback address of its own, on one event
// loop. A master's stream is computed from the offset, so nothing is kept of it.
// The fields belong to the loop's thread once it runs.
type fleet struct {
	loop    *eventloop.Loop
	ended   chan error
	port    int
	lns     []int
	masters []fleetMaster
	conns   map[int]*fleetConn
	tiny    []byte // the payload of a full sync
	load    []byte // the stream of a loaded master: whole commands, the last is a GETACK
	pinged  int    // the next master to ping
	pings   *eventloop.Timer
	began   time.Time
	sent    int // pings since began

	streaming int   // masters whose replica has acknowledged all that was sent before it came
	acks      int64 // that ever came
}

// fleetMaster is one master.
type fleetMaster struct {
	id       string
	end      int64 // offset of the last byte of its stream
	loadFrom int64 // behind that offset the stream is load, up to loadTo
	loadTo   int64
	conn     *fleetConn // of its replica; nil without one
	acked    int64
	ackAt    time.Time
	worst    time.Duration // the longest time between two ACKs
}

// fleetConn is one connection of a replica.
type fleetConn struct {
	fd      int
	of      *fleetMaster
	in      []byte
	out     []byte // goes before the stream
	sent    int64  // offset of the last byte of the stream that was written; -1 before PSYNC
	from    int64  // where the stream began: an ACK of that says that the replica streams
	streams bool
}

// fleetAddress is the address of a master by its number.
func fleetAddress(i int) [4]byte { return [4]byte{127, byte(1 + i>>16), byte(i >> 8), byte(i)} }

// startFleet begins to play n masters.
func startFleet(n int, load []byte) (f *fleet, err error) {
	var tiny bytes.Buffer
	p := newPayload(0)
	fmt.Fprintf(&tiny, "$%d\r\n", p.size)
	for _, piece := range p.pieces {
		tiny.Write(piece)
	}
	f = &fleet{
		ended: make(chan error, 1), masters: make([]fleetMaster, n), conns: map[int]*fleetConn{},
		tiny: tiny.Bytes(), load: append(bytes.Clone(load), getAck...), began: time.Now(),
	}
	for i := range f.masters {
		f.masters[i] = fleetMaster{id: fmt.Sprintf("%040x", i+1), end: fleetBase}
	}
	if f.loop, err = eventloop.New(); err != nil {
		return nil, err
	}
	for range fleetListeners {
		if err := f.listen(); err != nil {
			return nil, err
		}
	}
	f.pings = f.loop.NewTimer(f.ping)
	f.pings.Reset(0)
	go func() { f.ended <- f.loop.Run() }()
	return f, nil
}

// listen opens the port for all loopback addresses.
func (f *fleet) listen() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	at := &unix.SockaddrInet4{Port: f.port}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1),
		unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, "lo"),
		unix.Bind(fd, at), unix.Listen(fd, 1<<16-1))
	if err != nil {
		return fmt.Errorf("listen at the loopback addresses: %w", err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return err
	}
	f.port = sa.(*unix.SockaddrInet4).Port
	f.lns = append(f.lns, fd)
	return f.loop.CreateFileEvent(fd, eventloop.Readable, f.accept)
}

// close ends the masters.
func (f *fleet) close() error {
	f.loop.Stop()
	err := <-f.ended
	for fd := range f.conns {
		unix.Close(fd)
	}
	for _, fd := range f.lns {
		unix.Close(fd)
	}
	return err
}

// on runs a function on the loop's thread and waits for it.
func (f *fleet) on(do func()) {
	done := make(chan struct{})
	f.loop.Post(func() { do(); close(done) })
	<-done
}

func (f *fleet) accept(ln int, _ eventloop.Mask) {
	for {
		fd, _, err := unix.Accept4(ln, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return // EAGAIN, or one that went meanwhile
		}
		sa, err := unix.Getsockname(fd)
		a, ok := sa.(*unix.SockaddrInet4)
		if err != nil || !ok {
			unix.Close(fd)
			continue
		}
		i := int(a.Addr[1]-1)<<16 | int(a.Addr[2])<<8 | int(a.Addr[3])
		if i >= len(f.masters) {
			unix.Close(fd)
			continue
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		f.conns[fd] = &fleetConn{fd: fd, of: &f.masters[i], sent: -1}
		if f.loop.CreateFileEvent(fd, eventloop.Readable, f.event) != nil {
			f.drop(f.conns[fd])
		}
	}
}

func (f *fleet) drop(c *fleetConn) {
	_ = f.loop.DeleteFileEvent(c.fd, eventloop.Readable|eventloop.Writable)
	unix.Close(c.fd)
	delete(f.conns, c.fd)
	if c.of.conn == c {
		c.of.conn = nil
	}
	if c.streams {
		f.streaming--
	}
}

func (f *fleet) event(fd int, mask eventloop.Mask) {
	c := f.conns[fd]
	if mask&eventloop.Readable != 0 && !f.read(c) {
		f.drop(c)
		return
	}
	f.push(c)
}

// read reads once and answers what is complete; false where the replica went.
func (f *fleet) read(c *fleetConn) bool {
	var buf [4096]byte
	n, err := unix.Read(c.fd, buf[:])
	if n <= 0 {
		return err == unix.EAGAIN || err == unix.EINTR
	}
	c.in = append(c.in, buf[:n]...)
	for rest := c.in; ; {
		complete, args, _, left, err := redcon.ReadNextCommand(rest, nil)
		if err != nil {
			return false
		}
		if !complete {
			c.in = append(c.in[:0], rest...)
			if len(c.in) == 0 {
				c.in = nil
			}
			return true
		}
		rest = left
		if len(args) > 0 {
			f.command(c, args)
		}
	}
}

func (f *fleet) command(c *fleetConn, args [][]byte) {
	name := string(bytes.ToUpper(args[0]))
	switch a, isAck := parseAck(args); {
	case isAck:
		f.acked(c, a)
	case name == "PING":
		c.out = append(c.out, "+PONG\r\n"...)
	case name == "INFO":
		text := fmt.Sprintf("role:master\r\nmaster_replid:%s\r\nmaster_repl_offset:%d\r\nsecond_repl_offset:-1\r\n", c.of.id, c.of.end)
		c.out = fmt.Appendf(c.out, "$%d\r\n%s\r\n", len(text), text)
	case name == "PSYNC" && len(args) == 3 && string(args[1]) == c.of.id:
		next, _ := strconv.ParseInt(string(args[2]), 10, 64)
		c.out = append(c.out, "+CONTINUE\r\n"...)
		c.of.conn, c.sent = c, next-1
		c.from = c.of.end
	case name == "PSYNC":
		c.out = fmt.Appendf(c.out, "+FULLRESYNC %s %d\r\n", c.of.id, c.of.end)
		c.out = append(c.out, f.tiny...)
		c.of.conn, c.sent = c, c.of.end
		c.from = c.of.end
	default:
		c.out = append(c.out, "+OK\r\n"...)
	}
}

func (f *fleet) acked(c *fleetConn, a ack) {
	f.acks++
	m, now := c.of, time.Now()
	if !m.ackAt.IsZero() {
		m.worst = max(m.worst, now.Sub(m.ackAt))
	}
	m.acked, m.ackAt = a.offset, now
	if !c.streams && a.offset >= c.from {
		c.streams = true
		f.streaming++
	}
}

// push writes what is to be written, as far as the socket takes it.
func (f *fleet) push(c *fleetConn) {
	for len(c.out) > 0 || c.sent >= 0 && c.sent < c.of.end {
		p := c.out
		if len(p) == 0 {
			p = f.stream(c.of, c.sent)
		}
		n, err := unix.Write(c.fd, p)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			_ = f.loop.CreateFileEvent(c.fd, eventloop.Writable, f.event)
			return
		case err != nil:
			f.drop(c)
			return
		case len(c.out) > 0:
			if c.out = c.out[n:]; len(c.out) == 0 {
				c.out = nil
			}
		default:
			c.sent += int64(n)
		}
	}
	if f.loop.FileEvents(c.fd)&eventloop.Writable != 0 {
		_ = f.loop.DeleteFileEvent(c.fd, eventloop.Writable)
	}
}

// stream is the part of a master's stream behind an offset that lies in one
// piece.
func (f *fleet) stream(m *fleetMaster, at int64) []byte {
	of := func(p []byte, from, to int64) []byte {
		i := (at - from) % int64(len(p))
		return p[i:min(int64(len(p)), i+to-at)]
	}
	switch {
	case at < m.loadFrom:
		return of([]byte(ping), fleetBase, m.loadFrom)
	case at < m.loadTo:
		return of(f.load, m.loadFrom, m.loadTo)
	}
	return of([]byte(ping), max(m.loadTo, fleetBase), m.end)
}

// ping is the time event that pings the masters in turn, each once in pingEvery.
func (f *fleet) ping() {
	due := int(int64(len(f.masters)) * int64(time.Since(f.began)) / int64(pingEvery))
	for ; f.sent < due; f.sent++ {
		m := &f.masters[f.pinged]
		f.pinged = (f.pinged + 1) % len(f.masters)
		if m.conn != nil && m.conn.sent >= 0 && m.end >= m.loadTo {
			m.end += int64(len(ping))
			f.push(m.conn)
		}
	}
	f.pings.Reset(20 * time.Millisecond)
}

// put has each of some masters send so many loads, as fast as the replica takes
// them.
func (f *fleet) put(masters []fleetMaster, loads int) {
	for i := range masters {
		m := &masters[i]
		m.loadFrom = m.end
		m.loadTo = m.end + int64(loads*len(f.load))
		m.end = m.loadTo
		if m.conn != nil {
			f.push(m.conn)
		}
	}
}

// await waits until a condition holds, which is asked on the loop's thread; false
// where it does not within a time.
func (f *fleet) await(within time.Duration, cond func() bool) (took time.Duration, ok bool) {
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		f.on(func() { ok = cond() })
		if took = time.Since(began); ok || took > within {
			return took, ok
		}
	}
}
