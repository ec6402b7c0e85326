package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"replicad/replica/rdb"
	"replicad/replica/resp"
)

func TestAPayloadIsAnRDBWithoutAChecksum(t *testing.T) {
	p := newPayload(3 << 20)
	var b bytes.Buffer
	for _, piece := range p.pieces {
		b.Write(piece)
	}
	if int64(b.Len()) != p.size || p.size < 3<<20 || p.size > 5<<20 {
		t.Fatalf("size %d, of which %d bytes are there; wanted somewhat above 3 MiB", p.size, b.Len())
	}
	got, err := rdb.VerifyChecksum(context.Background(), bytes.NewReader(b.Bytes()), p.size)
	if err != nil || got != rdb.Disabled {
		t.Errorf("verdict %v, error %v; want %v", got, err, rdb.Disabled)
	}
}

func TestAStreamChunkIsWholeCommands(t *testing.T) {
	chunk := streamChunk(1000)
	s := resp.NewScanner(0, resp.Limits{})
	n, kind, err := s.Scan(chunk)
	if n != len(chunk) || kind != resp.More || err != nil {
		t.Fatalf("Scan took %d of %d bytes, kind %v, error %v", n, len(chunk), kind, err)
	}
	if got := s.Boundary().Offset; got != int64(len(chunk)) {
		t.Errorf("the last command ends at %d of %d", got, len(chunk))
	}
	one := int64(len(chunk) / 1000)
	b := &bench{chunk: chunk}
	for n, want := range map[int64]int64{1: one, one: one, one + 1: 2 * one} {
		if got := b.whole(n); got != want {
			t.Errorf("%d bytes of commands of %d are rounded up to %d", n, one, got)
		}
	}
}

// replicaOf plays the replica: it says what is given and returns all answers.
func replicaOf(t *testing.T, m *master, says string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", m.addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(c, says); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTheMasterSendsThePayloadInBothFramingsAndHearsTheACK(t *testing.T) {
	p := newPayload(0)
	var rdb bytes.Buffer
	for _, piece := range p.pieces {
		rdb.Write(piece)
	}
	for eof, framed := range map[bool]string{
		false: fmt.Sprintf("$%d\r\n%s", p.size, rdb.Bytes()),
		true:  "$EOF:" + eofMark + "\r\n" + rdb.String() + eofMark,
	} {
		m, err := newMaster()
		if err != nil {
			t.Fatal(err)
		}
		defer m.close()
		// Inline as redis-cli may, then as an array.
		c := replicaOf(t, m, "PING\r\n*3\r\n$8\r\nREPLCONF\r\n$4\r\ncapa\r\n$3\r\neof\r\n*3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n")
		l, err := m.accept()
		if err != nil {
			t.Fatal(err)
		}
		defer l.close()
		if l.resumed {
			t.Error("PSYNC ? -1 was answered by CONTINUE")
		}
		if err := l.send(p, eof); err != nil {
			t.Fatal(err)
		}
		want := "+PONG\r\n+OK\r\n+FULLRESYNC " + replID + " 0\r\n" + framed
		got := make([]byte, len(want))
		if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
			t.Fatalf("eof %v: the replica got %.80q..., error %v", eof, got, err)
		}
		io.WriteString(c, "*5\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$2\r\n42\r\n$4\r\nFACK\r\n$1\r\n7\r\n")
		if err := l.await(func(a ack) bool { return a == ack{42, 7} }); err != nil {
			t.Error(err)
		}
		c.Close()
		if err := l.await(func(a ack) bool { return a.offset > 42 }); err == nil {
			t.Error("waiting for more from a replica that has gone returned without an error")
		}
	}
}

func TestTheMasterContinuesAHistoryThatIsNamed(t *testing.T) {
	m, err := newMaster()
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	replicaOf(t, m, "PING\r\nPSYNC "+replID+" 43\r\n")
	l, err := m.accept()
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	if !l.resumed || l.replied.Before(l.accepted) {
		t.Errorf("resumed %v, accepted %v, replied %v", l.resumed, l.accepted, l.replied)
	}
}

func TestARowIsJudgedByTheMedians(t *testing.T) {
	for want, values := range map[string][2][]float64{
		"2.50": {{50, 1, 60}, {20, 20, 900}},
		"0.40": {{1, 3}, {4, 6}},
		"-":    {{3}, nil},
	} {
		if got := (row{values: values}).ratio(); got != want {
			t.Errorf("%v: ratio %s, want %s", values, got, want)
		}
	}
}

func TestWrongFlagsAreRefused(t *testing.T) {
	for _, args := range [][]string{{"extra"}, {"--runs", "0"}, {"--bulk", "much"}, {"--nonsense"}} {
		if err := run(args, io.Discard, io.Discard); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
}
