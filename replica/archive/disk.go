package archive

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// disk is what the archive asks of the operating system. Tests replace it by
// one that fails.
type disk struct {
	pwrite    func(f *os.File, p []byte, off int64) (int, error)
	fdatasync func(f *os.File) error
	syncDir   func(path string) error
	free      func(path string) (int64, error)
}

func realDisk() disk {
	return disk{
		pwrite:    func(f *os.File, p []byte, off int64) (int, error) { return f.WriteAt(p, off) },
		fdatasync: fdatasync,
		syncDir:   SyncPath,
		free:      Free,
	}
}

// observed tells how long each fsync takes.
func (d disk) observed(tell func(took time.Duration)) disk {
	if tell == nil {
		return d
	}
	sync := d.fdatasync
	d.fdatasync = func(f *os.File) error {
		began := time.Now()
		err := sync(f)
		tell(time.Since(began))
		return err
	}
	return d
}

func fdatasync(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err != unix.EINTR {
			return os.NewSyscallError("fdatasync "+f.Name(), err)
		}
	}
}

// makeDir makes a folder and those above it, durably.
func makeDir(dir string) error {
	if st, err := os.Stat(dir); err == nil && st.IsDir() {
		return nil
	}
	up := filepath.Dir(dir)
	if up != dir {
		if err := makeDir(up); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return SyncPath(up)
}

// writeSynced writes a small file and fsyncs it.
func writeSynced(path string, p []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	if _, err = f.Write(p); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// truncate cuts a file, durably. It gives back what was allocated ahead of the
// file.
func (d disk) truncate(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return err
	}
	return d.fdatasync(f)
}

// replace gives a file new content in one step, durably: a crash leaves the old
// content or the new one.
func (d disk) replace(path string, write func(*os.File) error) error {
	f, err := os.OpenFile(path+tmpSuffix, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := write(f); err != nil {
		return err
	}
	if err := d.fdatasync(f); err != nil {
		return err
	}
	if err := os.Rename(path+tmpSuffix, path); err != nil {
		return err
	}
	return d.syncDir(filepath.Dir(path))
}

// Free says how much an unprivileged process may still write below path
// (statfs(2), f_bavail), in bytes.
func Free(path string) (int64, error) {
	free, _, err := Space(path)
	return free, err
}

// Space is what Free returns, and how large the file system is (f_blocks), in
// bytes.
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
