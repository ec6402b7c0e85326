package redisserver

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// find gives the redis-server of this machine, or skips.
func find(t *testing.T) Binary {
	t.Helper()
	b, err := Find()
	if err == nil {
		return b
	}
	if os.Getenv("REPLICAD_REQUIRE_REDIS") == "1" {
		t.Fatal(err)
	}
	t.Skipf("skipped: %v", err)
	return b
}

// folder makes what redis-server loads: a base of AOF commands and nothing
// else.
func folder(t *testing.T, incr string) string {
	t.Helper()
	dir := t.TempDir()
	aof := filepath.Join(dir, "appendonlydir")
	if err := os.Mkdir(aof, 0o750); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"appendonly.aof.manifest":   "file appendonly.aof.1.incr.aof seq 1 type i\n",
		"appendonly.aof.1.incr.aof": incr,
	} {
		if err := os.WriteFile(filepath.Join(aof, name), []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestAFolderIsLoadedAndNothingOfTheServerStays(t *testing.T) {
	b := find(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s, err := b.Load(ctx, folder(t, "*2\r\n$6\r\nSELECT\r\n$3\r\n300\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	c := s.DB(300)
	defer c.Close()
	if v, err := c.Get(ctx, "k").Result(); v != "v" {
		t.Errorf("GET k: %q, %v", v, err)
	}
	if d, err := s.Digest(ctx); len(d) != 40 {
		t.Errorf("DEBUG DIGEST: %q, %v", d, err)
	}
	s.Stop()
	if _, err := os.Stat(s.folder.Name()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the private folder is still there: %v", err)
	}
	select {
	case <-s.exited:
	default:
		t.Error("the server still runs")
	}
}

func TestTheTemporaryFolderMayHaveALongName(t *testing.T) {
	b := find(t)
	long := filepath.Join(t.TempDir(), strings.Repeat("x", 120))
	if err := os.Mkdir(long, 0o750); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", long)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := b.Check(ctx, folder(t, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n"))
	if err != nil || r.Keys != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	if left, err := os.ReadDir(long); len(left) > 0 || err != nil {
		t.Errorf("%v, %v is left", left, err)
	}
}

func TestADamagedFolderIsAnErrorThatHoldsTheServersWords(t *testing.T) {
	b := find(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err := b.Load(ctx, folder(t, "this is no AOF\r\n"))
	if !errors.Is(err, ErrLoad) {
		t.Fatalf("Load said %v", err)
	}
}

func TestAMissingOrOldServerIsSaid(t *testing.T) {
	bin := t.TempDir()
	t.Setenv("PATH", bin)
	if _, err := Find(); !errors.Is(err, ErrNotFound) {
		t.Errorf("with an empty PATH Find said %v", err)
	}
	script := "#!/bin/sh\necho 'Redis server v=6.0.16 sha=00000000:0 malloc=libc bits=64 build=1'\n"
	if err := os.WriteFile(filepath.Join(bin, "redis-server"), []byte(script), 0o750); err != nil {
		t.Fatal(err)
	}
	if _, err := Find(); !errors.Is(err, ErrTooOld) {
		t.Errorf("with Redis 6 Find said %v", err)
	}
}
