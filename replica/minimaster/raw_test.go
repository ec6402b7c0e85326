package minimaster

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// raw is a replica that does nothing by itself: each test says what it sends
// and what it expects.
type raw struct {
	t testing.TB
	c net.Conn
	r *bufio.Reader
}

func dialRaw(t testing.TB, m *Master) *raw {
	t.Helper()
	c, err := net.Dial("tcp", m.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return &raw{t, c, bufio.NewReader(c)}
}

func (r *raw) send(args ...string) {
	r.t.Helper()
	if _, err := r.c.Write(appendCommand(nil, args...)); err != nil {
		r.t.Fatalf("sending %q: %v", args, err)
	}
}

// line reads a line without its end.
func (r *raw) line() string {
	r.t.Helper()
	s, err := r.r.ReadString('\n')
	if err != nil {
		r.t.Fatalf("reading a line: %v after %q", err, s)
	}
	return strings.TrimSuffix(strings.TrimSuffix(s, "\n"), "\r")
}

func (r *raw) ask(want string, args ...string) {
	r.t.Helper()
	r.send(args...)
	if got := r.line(); got != want {
		r.t.Fatalf("%q: %q, want %q", args, got, want)
	}
}

func (r *raw) read(n int) []byte {
	r.t.Helper()
	b := make([]byte, n)
	if k, err := io.ReadFull(r.r, b); err != nil {
		r.t.Fatalf("reading %d bytes: %v after %q", n, err, b[:k])
	}
	return b
}

// wants reads as many bytes as it wants and compares.
func (r *raw) wants(stream string) {
	r.t.Helper()
	if got := r.read(len(stream)); string(got) != stream {
		r.t.Fatalf("the stream has\n%q, want\n%q", got, stream)
	}
}

// ends reads to the end of the connection and returns what came before.
func (r *raw) ends() []byte {
	r.t.Helper()
	b, err := io.ReadAll(r.r)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		r.t.Fatal("the connection stays open")
	}
	return b
}

// fullSync does the whole handshake and returns the snapshot and its offset.
func (r *raw) fullSync(m *Master, capa ...string) (rdb []byte, offset int64) {
	r.t.Helper()
	r.ask("+PONG", "PING")
	for _, c := range capa {
		r.ask("+OK", "REPLCONF", "capa", c)
	}
	r.send("PSYNC", "?", "-1")
	return r.answer(m)
}

// answer reads +FULLRESYNC and the snapshot in either framing.
func (r *raw) answer(m *Master) (rdb []byte, offset int64) {
	r.t.Helper()
	words := strings.Fields(r.line())
	if len(words) != 3 || words[0] != "+FULLRESYNC" || words[1] != m.ReplID() {
		r.t.Fatalf("PSYNC: %q", words)
	}
	offset, err := strconv.ParseInt(words[2], 10, 64)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.payload(), offset
}

func (r *raw) payload() []byte {
	r.t.Helper()
	head := r.line()
	if mark, ok := strings.CutPrefix(head, "$EOF:"); ok {
		var b []byte
		for !bytes.HasSuffix(b, []byte(mark)) {
			b = append(b, r.read(1)...)
		}
		return b[:len(b)-len(mark)]
	}
	n, err := strconv.Atoi(strings.TrimPrefix(head, "$"))
	if err != nil || head[0] != '$' {
		r.t.Fatalf("framing %q", head)
	}
	return r.read(n)
}

// stream reads everything up to the master's offset.
func (r *raw) stream(m *Master, from int64) []byte {
	r.t.Helper()
	return r.read(int(m.Offset() - from))
}

// cmds is the stream of these commands, each written with spaces.
func cmds(lines ...string) string {
	var b []byte
	for _, l := range lines {
		b = appendCommand(b, strings.Fields(l)...)
	}
	return string(b)
}
