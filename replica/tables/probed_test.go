package tables

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"replicad/replica/probe"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares with a file in testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what it was (-update writes it anew):\n%s", path, got)
	}
}

// probes are one that passes, one with warnings and one that fails.
func probes() map[string]probe.Report {
	begin := []probe.Check{
		{Name: "name resolution", Status: probe.Pass, Detail: "localhost is ::1, 127.0.0.1", Took: 680e-6},
		{Name: "connect", Status: probe.Pass, Detail: "127.0.0.1:6379", Took: 41e-6},
	}
	warned := append(begin[:2:2], probe.Check{Name: "repl-backlog-size", Status: probe.Warn, Detail: "1 MiB hold 4.1 s of writes at 248 KiB/s (measured over 3 s): a link that is cut for longer needs a full sync",
		Remedy: "on the master, CONFIG SET repl-backlog-size 128mb, for cuts of up to 5 min at this rate"},
		probe.Check{Name: "client-output-buffer-limit", Status: probe.Pass, Detail: "256 MiB for replicas"},
		probe.Check{Name: "disk", Status: probe.Skip, Detail: "without --dir there is nothing to look at"},
		probe.Check{Name: "PSYNC", Status: probe.Pass, Detail: "+CONTINUE", Took: 5700e-3})
	failed := append(warned[:3:3], probe.Check{Name: "ACL", Status: probe.Fail, Detail: "user me may not run psync (ACL DRYRUN)", Remedy: "on the master, ACL SETUSER me +psync", Took: 123e-3},
		probe.Check{Name: "PING", Status: probe.Skip, Detail: "ACL failed"}, probe.Check{Name: "AUTH", Status: probe.Skip, Detail: "ACL failed"},
		probe.Check{Name: "disk", Status: probe.Skip, Detail: "no --dir"})
	return map[string]probe.Report{
		"passed": {Master: "localhost:6379", Verdict: probe.Pass, Server: "Redis 7.0.15", Took: 3, Checks: begin, Figures: map[string]float64{}},
		"warned": {Master: "localhost:6379", Verdict: probe.Warn, Server: "Valkey 8.0.1", Took: 3004e-3, Checks: warned,
			Figures: map[string]float64{"write_bytes_per_second": 254000, "repl_backlog_bytes": 1 << 20, "longest_cut_seconds": 4.13, "used_memory_bytes": 1 << 30, "full_sync_seconds": 10.24, "free_bytes": 1 << 40}},
		"failed": {Master: "localhost:6379", Verdict: probe.Fail, Took: 1, Checks: failed, Figures: map[string]float64{}},
	}
}

func TestAProbeIsPrintedAsTextAndAsJSON(t *testing.T) {
	for name, r := range probes() {
		var out bytes.Buffer
		text := NewProbe(&out)
		for _, c := range r.Checks {
			text.Check(c)
		}
		if err := text.Verdict(r); err != nil {
			t.Fatal(err)
		}
		golden(t, "probe-"+name+".txt", out.Bytes())
		p, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		golden(t, "probe-"+name+".json", append(p, '\n'))
	}
}

// broken takes so many writes.
type broken int

func (b *broken) Write(p []byte) (int, error) {
	if *b--; *b < 0 {
		return 0, io.ErrClosedPipe
	}
	return len(p), nil
}

func TestAProbeTellsThatItsOutputIsBroken(t *testing.T) {
	for n := range 4 {
		b := broken(n)
		text := NewProbe(&b)
		for _, c := range probes()["warned"].Checks {
			text.Check(c)
		}
		if err := text.Verdict(probe.Report{}); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("after %d writes: %v", n, err)
		}
	}
}

func TestAProbeOnATerminalIsNoWiderThanItAndHasColours(t *testing.T) {
	long := strings.Repeat("a reason of some words ", 12)
	for _, width := range []int{60, 80, 132} {
		var out bytes.Buffer
		p := NewProbe(&out)
		p.Width, p.Color = width, true
		p.Check(probe.Check{Name: "psync", Status: probe.Warn, Detail: long, Remedy: long})
		p.Verdict(probe.Report{Verdict: probe.Warn, Master: "h:1"})
		if !strings.HasPrefix(out.String(), "\x1b[33mWARN\x1b[m  psync") {
			t.Errorf("%q", out.String())
		}
		plain := strings.NewReplacer("\x1b[33m", "", "\x1b[m", "").Replace(out.String())
		for line := range strings.Lines(plain) {
			if len(line) > width+1 {
				t.Errorf("width %d: %q", width, line)
			}
		}
		if n := strings.Count(plain, "reason"); n != 24 {
			t.Errorf("width %d: %d of 24 words", width, n)
		}
	}
}
