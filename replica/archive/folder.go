package archive

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// LockDir takes a lock of a folder, as flock(2) says how. The error is
// fs.ErrNotExist when the folder went meanwhile, and wraps unix.EWOULDBLOCK
// where how has LOCK_NB and somebody holds it.
func LockDir(dir string, how int) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), how); err != nil {
		f.Close()
		return nil, &os.PathError{Op: "flock", Path: dir, Err: err}
	}
	// It may have been renamed and removed before the lock was had.
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

// RemoveLeft removes a folder that somebody who was killed has left; one that
// is locked, or went meanwhile, is left to who works in it.
func RemoveLeft(dir string) error {
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

// Free says how much an unprivileged process may still write below path
// (statfs(2), f_bavail), in bytes.
func Free(path string) (int64, error) {
	free, _, err := Space(path)
	return free, err
}

// Space is Free, and how large the file system is (f_blocks), in bytes.
func Space(path string) (free, size int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, 0, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	return int64(st.Bavail) * st.Bsize, int64(st.Blocks) * st.Bsize, nil
}

// SyncPath makes a file durable, or the names in a folder (fsync(2)).
func SyncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
