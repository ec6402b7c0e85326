package integration

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"replicad/integration/redistest"
	"replicad/replica/archive/verify"
)

// soundBelow runs verify, which has to find no problem.
func soundBelow(t *testing.T, dir, when string) []verify.Report {
	t.Helper()
	stdout, stderr, code := once(t, nil, "verify", "--dir", dir, "--json")
	if code != 0 {
		t.Fatalf("%s: exit code %d\n%s%s", when, code, stdout, stderr)
	}
	var reports []verify.Report
	if err := json.Unmarshal([]byte(stdout), &reports); err != nil {
		t.Fatalf("%s: %v in %s", when, err, stdout)
	}
	if len(reports) != 1 || len(reports[0].Generations) != 1 {
		t.Fatalf("%s: nothing was verified: %s", when, stdout)
	}
	return reports
}

func TestVerifyBesideARunningDaemonFindsNothing(t *testing.T) {
	t.Parallel()
	rounds := count(t, "runs of verify beside a daemon", 10, 100)
	master := redistest.Start(t, largeBacklog)
	everyType(master, 0)
	dir := t.TempDir()
	args := append(byAddress(t, master), "--segment-size", "100kb")
	d := run(t, dir, args...)
	caughtUp(t, master, dir, "main")
	load := startLoad(t, master, loadRate)
	last := int64(0)
	for range rounds {
		g := soundBelow(t, dir, "beside the daemon")[0].Generations[0]
		if g.SoundOffset < last {
			t.Fatalf("sound up to offset %d, and up to %d before", g.SoundOffset, last)
		}
		last = g.SoundOffset
	}
	d.kill()
	soundBelow(t, dir, "after kill -9")
	d = run(t, dir, args...)
	soundBelow(t, dir, "while it starts again")
	load.stop(t)
	g := caughtUp(t, master, dir, "main")
	soundBelow(t, dir, "after a restart")
	d.stop()
	soundBelow(t, dir, "after its end")

	path := filepath.Join(g.Dir, "appendonlydir", "appendonly.aof.1.incr.aof")
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p[len(p)-3] ^= 1 // the last byte of a value
	if err := os.WriteFile(path, p, 0o640); err != nil {
		t.Fatal(err)
	}
	stdout, _, code := once(t, nil, "verify", "--dir", dir, "--json")
	var reports []verify.Report
	if err := json.Unmarshal([]byte(stdout), &reports); err != nil || code != 1 {
		t.Fatalf("exit code %d, %v: %s", code, err, stdout)
	}
	problems := reports[0].Generations[0].Problems
	at := int64(len(p) - 3)
	if len(problems) != 1 || problems[0].File != path || problems[0].Byte > at || problems[0].ToByte <= at {
		t.Fatalf("byte %d of %s is wrong, and verify finds %+v", at, path, problems)
	}
}
