package archive_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"replicad/replica/archive"
)

const now = unix.LOCK_EX | unix.LOCK_NB

func TestWhatIsLockedIsNotRemovedAndWhatWasLeftIs(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "work")
	if err := os.MkdirAll(filepath.Join(dir, "inner"), 0o750); err != nil {
		t.Fatal(err)
	}
	lock, err := archive.LockDir(dir, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := archive.LockDir(dir, now); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("the second lock: %v", err)
	}
	if err := archive.RemoveLeft(filepath.Dir(dir), "w*"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "inner")); err != nil {
		t.Errorf("it was removed from under its lock: %v", err)
	}
	lock.Close()
	if err := archive.RemoveLeft(filepath.Dir(dir), "w*"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what nobody holds is still there: %v", err)
	}
	if err := archive.RemoveLeft(filepath.Dir(dir), "w*"); err != nil {
		t.Errorf("gone already: %v", err)
	}
	if _, err := archive.LockDir(dir, now); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the lock of what is gone: %v", err)
	}
}
