package archive

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// LockDir takes a lock of a folder; how is flock(2)'s operation. The error is
// fs.ErrNotExist where the folder went meanwhile, and wraps unix.EWOULDBLOCK
// where how has LOCK_NB and somebody else holds the lock.
func LockDir(dir string, how int) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), how); err != nil {
		f.Close()
		return nil, &os.PathError{Op: "flock", Path: dir, Err: err}
	}
	// The folder may have been renamed and removed before the lock was taken.
	mine, err := f.Stat()
	if err == nil {
		var now os.FileInfo
		if now, err = os.Stat(dir); err == nil && !os.SameFile(mine, now) {
			err = &os.PathError{Op: "open", Path: dir, Err: unix.ENOENT}
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// RemoveLeft removes the folders in dir that a killed process has left, whose
// names match a pattern of [filepath.Match]. A folder that is locked, or went
// meanwhile, is left to the process that works in it.
func RemoveLeft(dir, pattern string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if match, _ := filepath.Match(pattern, e.Name()); match && e.IsDir() {
			err = errors.Join(err, removeUnlocked(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

func removeUnlocked(dir string) error {
	f, err := LockDir(dir, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close() // after the files went
	return os.RemoveAll(dir)
}

// lockFile takes the flock(2) of a file. It waits only as long as locked needs
// to look, and not for another writer.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(lockPatience); ; time.Sleep(lockPatience / 20) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err != unix.EWOULDBLOCK || time.Now().After(deadline) {
			break
		}
	}
	if err == nil {
		return f, nil
	}
	f.Close()
	if err == unix.EWOULDBLOCK {
		return nil, ErrLocked
	}
	return nil, &os.PathError{Op: "flock", Path: path, Err: err}
}

const lockPatience = 200 * time.Millisecond
