package archive

import (
	"bytes"
	"errors"
	"math"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"replicad/replica"
	"replicad/replica/rdb/rdbtest"
)

// sizes gives a file's length, and what is allocated for it.
func sizes(t *testing.T, path string) (length, allocated int64) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Size, st.Blocks * 512 // st_blocks counts in 512 bytes: stat(2)
}

// needFallocate skips where the file system of temporary folders allocates
// nothing ahead.
func needFallocate(t *testing.T, d disk) {
	t.Helper()
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, 4096); errors.Is(err, syscall.EOPNOTSUPP) {
		t.Skipf("fallocate(2) below %s: %v", dir, err)
	}
	if free, err := d.free(dir); err != nil || free < plenty {
		t.Skipf("%d bytes are free below %s, %v: less than the %d from which space is allocated ahead", free, dir, err, int64(plenty))
	}
}

func TestSpaceIsAllocatedAheadOfAFileThatGrowsAndItsLengthStays(t *testing.T) {
	t.Parallel()
	needFallocate(t, realDisk())
	for _, c := range []struct {
		name      string
		free      int64 // that the disk tells
		end, last int64
		ahead     int64
	}{
		{"as much as it holds", 1 << 40, 4 << 20, math.MaxInt64, 4 << 20},
		{"no further than it will grow", 1 << 40, 4 << 20, 5 << 20, 1 << 20},
		{"nothing for a small file", 1 << 40, margin - 1, math.MaxInt64, 0},
		{"nothing for a finished file", 1 << 40, 4 << 20, 4 << 20, 0},
		{"nothing on a disk that is nearly full", plenty - 1, 4 << 20, math.MaxInt64, 0},
	} {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, bytes.Repeat([]byte{1}, int(c.end)), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		f.Sync() // only now its blocks are counted
		_, before := sizes(t, path)
		var a ahead
		a.grew(f, disk{free: func(string) (int64, error) { return c.free, nil }}, c.end, c.last)
		length, allocated := sizes(t, path)
		const slack = 64 << 10 // blocks, and what describes them
		if d := allocated - before - c.ahead; length != c.end || d < -slack || d > slack {
			t.Errorf("%s: %d bytes were allocated ahead of %d, wanted %d; the length is %d", c.name, allocated-before, c.end, c.ahead, length)
		}
	}
}

func TestWhatIsAllocatedAheadIsGivenBackInTheEnd(t *testing.T) {
	t.Parallel()
	needFallocate(t, realDisk())
	dir := t.TempDir()
	a := open(t, dir, Options{})
	full := replica.FullSync{ReplID: "0123456789012345678901234567890123456789", Size: -1}
	f := fullSync(t, a, full, rdbtest.Empty(0, false))
	command := []byte("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5000\r\n" + string(bytes.Repeat([]byte{'v'}, 5000)) + "\r\n")
	f.feed(bytes.Repeat(command, 800), 64<<10) // some 4 MB
	f.awaitDurable()
	gens, _, err := generations(dir)
	if err != nil || len(gens) != 1 {
		t.Fatal(gens, err)
	}
	segment := gens[0].segment(1)
	if length, allocated := sizes(t, segment); allocated < length+margin {
		t.Errorf("%d bytes are allocated for a file of %d that grows", allocated, length)
	}
	mustClose(t, a)
	if length, allocated := sizes(t, segment); allocated > length+margin/4 || length < 4e6 {
		t.Errorf("%d bytes are allocated for a closed file of %d", allocated, length)
	}
}
