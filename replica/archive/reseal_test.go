package archive

import (
	"bytes"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"replicad/replica"
	"replicad/replica/rdb/rdbtest"
)

func TestASealedLineThatAPowerCutTookComesBackWhereverRecoveryIsInterrupted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := open(t, dir, Options{AppendFsync: No, SegmentSize: small})
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Offset: 50, Size: -1}, rdbtest.Empty(0, true))
	r := rand.New(rand.NewPCG(62, 62))
	f.feedSlowly(r, commands(r, 30))
	f.awaitStored()
	killed := t.TempDir()
	mustClose(t, a)
	if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	g := generationIn(killed, 1)
	// The last rotation: a power cut left "segment", and of "sealed", which
	// stood before it, nothing. No slot checks.
	p, _ := os.ReadFile(g.timeline())
	at := bytes.LastIndex(p, []byte("sealed "))
	end := at + bytes.IndexByte(p[at:], '\n')
	copy(p[at:end], strings.Repeat("x", end-at))
	for line := range bytes.Lines(p) {
		if bytes.HasPrefix(line, []byte("verified segment")) {
			copy(line, "x")
		}
	}
	if err := os.WriteFile(g.timeline(), p, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(g.fsynced(), nil, 0o640); err != nil {
		t.Fatal(err)
	}
	var interrupted []string
	d := realDisk()
	copyNow := func() {
		again := t.TempDir()
		if err := os.CopyFS(again, os.DirFS(killed)); err != nil {
			t.Error(err)
		}
		interrupted = append(interrupted, again)
	}
	d.fdatasync = func(f *os.File) error { copyNow(); defer copyNow(); return fdatasync(f) }
	if _, err := recoverGeneration(g, Options{disk: d}, false); err != nil {
		t.Fatal(err)
	}
	for _, again := range interrupted {
		checkRecovered(t, again, f.sent.Bytes(), 50, f.end())
	}
}
