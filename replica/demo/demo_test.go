package demo

import (
	"bytes"
	"context"
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
		"WAIT 1 = 1", "cut on purpose", "+CONTINUE", "in the middle of a value", "+CONTINUE", "SIGTERM", "RESTORES FROM",
		"a fresh engine replayed the archive", "keys in 3 databases is the master's",
	} {
		i := strings.Index(out[at:], want)
		if i < 0 {
			t.Fatalf("%q does not come where it should in\n%s", want, out)
		}
		at += i + len(want)
	}
	masters, err := archive.List(dir)
	if err != nil || len(masters) != 1 || len(masters[0].Generations) != 1 {
		t.Fatalf("the demo left %+v, %v", masters, err)
	}
}

func TestTheDemoProvesTheArchiveByARealRedisWhereThereIsOne(t *testing.T) {
	if b, err := redisserver.Find(); err != nil {
		t.Skipf("skipped: %v", err)
	} else if out, _ := runDemo(t); !strings.Contains(out, "redis-server "+b.Version+" loaded a copy of the archive") {
		t.Fatalf("no word of redis-server in\n%s", out)
	}
}
