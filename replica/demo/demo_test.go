package demo

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"replicad/replica/archive"
	"replicad/replica/archive/redisserver"
)

// runDemo runs the demo and returns what it printed and where it wrote.
func runDemo(t *testing.T) (printed, dir string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var out bytes.Buffer
	dir = t.TempDir()
	if err := Run(ctx, Options{Out: &out, Dir: dir}); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	return out.String(), dir
}

func TestTheDemoShowsEachStateAndProvesTheArchiveWithoutARedis(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	out, dir := runDemo(t)
	at := 0
	for _, want := range []string{
		"CONNECTING", "SO_ERROR = 0", "RECEIVE_PONG", "PORT", "CAPA", "VERSION", "PSYNC", "+FULLRESYNC", "TRANSFER", "STREAM",
		"WAIT 1 = 1", "cut on purpose", "+CONTINUE", "in the middle of a value", "+CONTINUE", "A rebase", "+FULLRESYNC",
		"generation 2 has taken over", "WAIT 1 = 1", "SIGTERM", "RESTORES FROM",
		"generation 1  base", "the RDB file of the full sync at offset 0", "generation 1  segment 1", "are bytes 1 to", "cuts in it",
		"generation 2  base", "generation 2  segment 1", "bytes are the same", "There is no redis-server 7.0 or later",
	} {
		i := strings.Index(out[at:], want)
		if i < 0 {
			t.Fatalf("%q does not come where it should in\n%s", want, out)
		}
		at += i + len(want)
	}
	masters, err := archive.List(dir)
	if err != nil || len(masters) != 1 || len(masters[0].Generations) != 2 {
		t.Fatalf("the demo left %+v, %v", masters, err)
	}
}

func TestTheDemoProvesTheArchiveByARealRedisWhereThereIsOne(t *testing.T) {
	if b, err := redisserver.Find(); err != nil {
		t.Skipf("skipped: %v", err)
	} else if out, _ := runDemo(t); !strings.Contains(out, "redis-server "+b.Version+" loads a restore") {
		t.Fatalf("no word of redis-server in\n%s", out)
	}
}

func TestAFileThatIsNotWhatWasSentIsToldWithTheFirstByteThatDiffers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "segment")
	if err := os.WriteFile(path, []byte("abcd"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := same(path, []byte("abcd")); err != nil {
		t.Error(err)
	}
	for sent, want := range map[string]string{"abxd": "byte 2 ", "abc": "byte 3 ", "abcde": "byte 4 ", "": "byte 0 "} {
		if err := same(path, []byte(sent)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", sent, err, want)
		}
	}
}
