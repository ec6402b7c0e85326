package integration

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// mountTmpfs mounts a tmpfs of a size for the time of the test, and skips it,
// with a line that says so, where that is not permitted.
func mountTmpfs(t *testing.T, size, mode string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rdfs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(dir) })
	var flags uintptr
	if mode == "ro" {
		flags = unix.MS_RDONLY
	}
	if err := unix.Mount("replicad-test", dir, "tmpfs", flags, "size="+size); err != nil {
		t.Skipf("mounting a tmpfs is not permitted here (%v): nothing was tested on a small disk", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// ballast fills a file system with a file of n bytes.
func ballast(t *testing.T, dir string, n int64) (remove func()) {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, n); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}
