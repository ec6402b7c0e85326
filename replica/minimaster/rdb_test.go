package minimaster

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"replicad/replica/rdb"
)

// snapshot is the RDB file of what a script leaves.
func snapshot(t *testing.T, lines ...string) []byte {
	t.Helper()
	m := startMaster(t, Config{})
	for _, l := range lines {
		mustDo(t, m, strings.Fields(l)...)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	b, err := m.engine.rdb(m.replid, 42)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := rdb.VerifyChecksum(t.Context(), bytes.NewReader(b), int64(len(b))); err != nil || v != rdb.Verified {
		t.Errorf("%v, %v", v, err)
	}
	return b
}

func TestTheHeaderSaysWhereInTheStreamTheSnapshotStands(t *testing.T) {
	h, err := rdb.ReadHeader(bytes.NewReader(snapshot(t, "SET a 1")))
	if err != nil {
		t.Fatal(err)
	}
	if h.Aux["repl-offset"] != "42" || len(h.Aux["repl-id"]) != 40 || h.Aux["redis-ver"] != Version || h.Version != 9 {
		t.Errorf("%+v", h)
	}
}

func TestEachTypeIsWrittenInItsPlainEncoding(t *testing.T) {
	long := strings.Repeat("x", 70)
	longer := strings.Repeat("y", 17000)
	for want, script := range map[string][]string{
		"\x00\x01k\x0212":                                    {"SET k 12"},
		"\x00\x01k\x40\x46" + long:                           {"SET k " + long},
		"\x00\x01k\x80\x00\x00\x42\x68" + longer:             {"SET k " + longer},
		"\xfc\x7b\x40\x94\x52\xa3\x03\x00\x00\x00\x01k\x01v": {"SET k v PXAT 4000000000123"},
		"\x01\x01k\x02\x01a\x01b":                            {"RPUSH k a b"},
		"\x02\x01k\x02\x01a\x01b":                            {"SADD k b a"},
		"\x04\x01k\x02\x01f\x01v\x01g\x01w":                  {"HSET k f v g w"},
		"\x05\x01k\x01\x01m\x00\x00\x00\x00\x00\x00\xf8\x3f": {"ZADD k 1.5 m"},
	} {
		b := snapshot(t, append([]string{"SELECT 3"}, script...)...)
		body := b[:len(b)-8] // without the checksum
		if !bytes.HasSuffix(body, []byte("\xfe\x03"+want+"\xff")) {
			t.Errorf("%.40q: %.200q", script, body)
		}
	}
	b := snapshot(t)
	if body := b[:len(b)-8]; body[len(body)-1] != opEOF || bytes.Contains(body, []byte{opSelectDB}) {
		t.Errorf("of nothing: %q", body)
	}
}

func TestATypeThatTheSnapshotCannotHoldIsAnErrorAndNoReplicaGetsAnything(t *testing.T) {
	m := startMaster(t, Config{})
	m.mu.Lock()
	m.engine.call(0, "XADD", "stream", "*", "f", "v") // past the table of commands
	m.mu.Unlock()
	r := dialRaw(t, m)
	r.send("PSYNC", "?", "-1")
	if got := r.ends(); len(got) != 0 {
		t.Errorf("%q", got)
	}
	if s := fmt.Sprintf("%+v", m.Stats()); m.Replicas() != 0 || s != "{SyncFull:0 SyncPartialOK:0 SyncPartialErr:0}" {
		t.Errorf("%d replicas, %s", m.Replicas(), s)
	}
}
