package minimaster

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestReplayStopsAtATornTailWhereverItIsTorn(t *testing.T) {
	parts := []struct {
		stream string
		done   int64 // commands executed once the part is complete
	}{
		{cmds("SELECT 2"), 0}, {cmds("SET a 1"), 1}, {cmds("PING"), 1}, {cmds("MULTI", "INCR a", "SELECT 3", "INCR b", "EXEC"), 3},
		{cmds("REPLCONF GETACK *", "DEL b"), 4}, {cmds("SET c d PXAT 1"), 5},
	}
	var whole string
	ends := map[int]int64{0: 0} // commands executed at each boundary
	for i, p := range parts {
		if i == 4 { // GETACK is a boundary of its own
			ends[len(whole)+len(cmds("REPLCONF GETACK *"))] = 3
		}
		whole += p.stream
		ends[len(whole)] = p.done
	}
	safe, done := 0, int64(0)
	for n := 0; n <= len(whole); n++ {
		got, err := newEngine(t).ReplayAOF(strings.NewReader(whole[:n]))
		if d, ok := ends[n]; ok {
			safe, done = n, d
		}
		if got != done {
			t.Fatalf("%d bytes: %d commands, want %d", n, got, done)
		}
		if n == safe {
			if err != nil {
				t.Fatalf("%d bytes: %v", n, err)
			}
			continue
		}
		var torn *TornError
		if !errors.As(err, &torn) || !errors.Is(err, ErrTorn) || torn.Offset != int64(safe) || torn.Size != int64(n-safe) {
			t.Fatalf("%d bytes: %v, want torn after %d", n, err, safe)
		}
	}
	// As on a replica, a key whose time is over stays until the master says DEL.
	e := newEngine(t)
	if _, err := e.ReplayAOF(strings.NewReader(whole)); err != nil {
		t.Fatal(err)
	}
	sameDump(t, Dump{2: {"a": {Type: "string", Items: []string{"2"}}}, 3: {"c": {Type: "string", Items: []string{"d"}, Expire: 1}}}, e.Dump())
}

func TestReplayLoadsAnRDBPreamble(t *testing.T) {
	b, want := snapshot(t, false)
	e := newEngine(t)
	if n, err := e.ReplayAOF(bytes.NewReader(append(b, cmds("SET new key")...))); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	want[0]["new"] = Value{Type: "string", Items: []string{"key"}}
	sameDump(t, want, e.Dump())
}

func TestReplaySaysWhichCommandFailed(t *testing.T) {
	for stream, want := range map[string]string{
		cmds("SET a x", "INCR a"):      "INCR",
		cmds("SELECT 99"):              "DB index",
		cmds("EVAL x 0"):               "refuses EVAL",
		cmds("SET a"):                  "wrong number",
		"SET a b\r\n":                  "belong",
		"*1\r\n$-1\r\n":                "belong",
		"*0\r\n":                       "without a name",
		"*1\r\n$4\r\nPINGxx":           "CR LF",
		"*99999999999\r\n$4\r\nPING":   "belong",
		"*1\r\n$9999999999\r\n" + "PI": "belong",
	} {
		_, err := newEngine(t).ReplayAOF(strings.NewReader(stream))
		if err == nil || errors.Is(err, ErrTorn) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", stream, err, want)
		}
	}
}

func FuzzReplayAOF(f *testing.F) {
	f.Add([]byte(cmds("SELECT 0", "SET a 1", "MULTI", "LPUSH l a b", "EXEC", "PING")))
	f.Add([]byte(cmds("SET a 1") + "*2\r\n$3\r\nSE"))
	f.Add([]byte(cmds("ZADD z 1 a", "XADD x 1-1 a b", "HSET h a b", "SETRANGE s 3 x")))
	f.Fuzz(func(t *testing.T, b []byte) {
		e := newEngine(t)
		n, err := e.ReplayAOF(bytes.NewReader(b))
		// Whatever it made of it, up to a torn end it makes the same again.
		var torn *TornError
		if errors.As(err, &torn) && !bytes.Contains(bytes.ToUpper(b), []byte("POP")) {
			e2 := newEngine(t)
			n2, err2 := e2.ReplayAOF(bytes.NewReader(b[:torn.Offset]))
			if err2 != nil || n2 != n {
				t.Fatalf("%d commands and %v, without the torn end %d and %v", n, err, n2, err2)
			}
		}
	})
}
