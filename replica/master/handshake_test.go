package master

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func args(line string) (all [][]byte) {
	for _, f := range strings.Fields(line) {
		all = append(all, []byte(f))
	}
	return all
}

func TestREPLCONFIsAnsweredAsRedisAnswersIt(t *testing.T) {
	for line, want := range map[string]string{
		"REPLCONF":                            "+OK",
		"REPLCONF listening-port 7401":        "+OK",
		"REPLCONF LISTENING-PORT x":           "-ERR value is not an integer or out of range",
		"REPLCONF listening-port 65536":       "-ERR value is not an integer or out of range",
		"REPLCONF capa eof capa psync2":       "+OK",
		"REPLCONF capa of-a-later-version":    "+OK",
		"REPLCONF version 8.1.0":              "+OK",
		"REPLCONF capa eof capa":              "-ERR syntax error",
		"REPLCONF nonsense 1":                 "-ERR Unrecognized REPLCONF option: nonsense",
		"REPLCONF ack 5":                      "",
		"REPLCONF getack *":                   "",
		"REPLCONF rdb-filter-only functions":  "-ERR Unrecognized REPLCONF option: rdb-filter-only",
		"REPLCONF ip-address 2001:db8::1":     "+OK",
		"REPLCONF rdb-only 1 rdb-channel 1":   "+OK",
		"REPLCONF main-ch-client-id nonsense": "+OK",
	} {
		if got := strings.TrimSuffix(string(new(Handshake).Replconf(args(line))), "\r\n"); got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}

func TestEndlessREPLCONFsTakeNoMemory(t *testing.T) {
	var h Handshake
	for i := range 100_000 {
		h.Replconf([][]byte{[]byte("REPLCONF"), []byte("capa"), fmt.Append(nil, "capa", i)})
		h.Replconf(args("REPLCONF capa eof capa psync2"))
	}
	if len(h.capa) != 2 {
		t.Errorf("%d capabilities are kept", len(h.capa))
	}
	h.Replconf([][]byte{[]byte("REPLCONF"), []byte("ip-address"), bytes.Repeat([]byte("x"), 1<<20)})
	if h.IP != "" {
		t.Errorf("an address of %d bytes is kept", len(h.IP))
	}
}

func TestPSYNCIsReadAsRedisReadsIt(t *testing.T) {
	id := strings.Repeat("aB", 20)
	for line, want := range map[string]string{
		"SYNC":                           "",
		"SYNC now":                       "-ERR wrong number of arguments for 'sync' command",
		"PSYNC ?":                        "-ERR wrong number of arguments for 'psync' command",
		"PSYNC ? -1":                     "",
		"PSYNC ? x":                      "-ERR value is not an integer or out of range",
		"PSYNC ? 9223372036854775808":    "-ERR value is not an integer or out of range",
		"PSYNC ? 007":                    "-ERR value is not an integer or out of range",
		"PSYNC " + id + " 5":             "",
		"PSYNC " + id + " 5 FAILOVER":    "-ERR PSYNC FAILOVER can't be obeyed here: this master gives its place to nobody",
		"PSYNC " + id + " 5 of-a-future": "-ERR wrong number of arguments for 'psync' command",
	} {
		q, refusal := new(Handshake).Request(args(line))
		if got := strings.TrimSuffix(string(refusal), "\r\n"); got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
		if strings.Contains(line, id) && refusal == nil && (q.ReplID != strings.ToLower(id) || q.Offset != 5 || !q.Partial()) {
			t.Errorf("%s: %+v", line, q)
		}
	}
}

// FuzzHandshake holds that no handshake makes a reply that breaks the protocol,
// or keeps more than its bound.
func FuzzHandshake(f *testing.F) {
	f.Add("REPLCONF listening-port 7401\nREPLCONF capa eof capa psync2\nPSYNC ? -1")
	f.Add("REPLCONF ip-address 10.0.0.7 capa eof version 8.1.0\nPSYNC aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 9223372036854775807")
	f.Add("REPLCONF rdb-only 1\nSYNC")
	f.Add("REPLCONF \x00\r 1\nPSYNC x -9223372036854775808 FAILOVER")
	f.Fuzz(func(t *testing.T, script string) {
		var h Handshake
		for line := range strings.SplitSeq(script, "\n") {
			words := bytes.Split([]byte(line), []byte(" "))
			reply := h.Replconf(words)
			q, refusal := h.Request(words)
			for _, r := range [][]byte{reply, refusal} {
				if len(r) > 0 && (bytes.IndexByte(r, '\n') != len(r)-1 || bytes.IndexByte(r, '\r') != len(r)-2 || len(r) > 1<<10) {
					t.Fatalf("%q: reply %q", line, r)
				}
			}
			if n := len(h.IP) + len(q.ReplID) + len(strings.Join(h.capa, "")); n > 1<<10 {
				t.Fatalf("%q: %d bytes are kept", line, n)
			}
			if refusal == nil && strings.ContainsAny(strings.TrimSuffix(q.FullResync("id", 1)+q.Continue("id"), "\r\n"), "\x00") {
				t.Fatalf("%q: %q", line, q.Continue("id"))
			}
		}
	})
}
