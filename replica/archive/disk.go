package archive

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// disk is what the archive asks of the operating system. Tests replace it by
// one that fails.
type disk struct {
	pwrite    func(f *os.File, p []byte, off int64) (int, error)
	fdatasync func(f *os.File) error
	syncDir   func(path string) error
	link      func(from, to string) error
	rename    func(from, to string) error
	free      func(path string) (int64, error)
}

func realDisk() disk {
	return disk{
		pwrite:    func(f *os.File, p []byte, off int64) (int, error) { return f.WriteAt(p, off) },
		fdatasync: fdatasync,
		syncDir:   SyncPath,
		link:      os.Link,
		rename:    os.Rename,
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

// write writes a small file and fsyncs it.
func (d disk) write(path string, p []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	if _, err = d.pwrite(f, p, 0); err == nil {
		err = d.fdatasync(f)
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
	return fsyncedDir(d.syncDir(filepath.Dir(path)))
}

// detach gives a path a file of its own, where other paths name the file too: it
// may be changed then.
func (d disk) detach(path string) error {
	st, err := os.Stat(path)
	if err != nil || st.Sys().(*syscall.Stat_t).Nlink < 2 {
		return ignoreMissing(err)
	}
	return d.replace(path, func(f *os.File) error {
		in, err := os.Open(path)
		if err != nil {
			return err
		}
		defer in.Close()
		_, err = io.Copy(f, in)
		return err
	})
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

const (
	// mostAhead is how much of the disk is allocated ahead of a file, at
	// most.
	mostAhead = 64 << 20
	// margin is how far ahead of a file's end the next piece is allocated.
	margin = 1 << 20
	// plenty is what must be free for that: on a disk that is nearly full,
	// nothing is kept from others.
	plenty = 16 * mostAhead
	// writeback is how many written bytes make the kernel start to send
	// them to the disk, so that no fsync finds gigabytes to do.
	writeback = 8 << 20
)

// ahead prepares the disk for a file that grows.
//
// It allocates space ahead of the file's end, which makes the writes cheaper:
// where none is allocated, ext4 reserves space for each block that is written.
// The file's length stays what was written (FALLOC_FL_KEEP_SIZE), and a file
// never has more allocated ahead than it holds, up to mostAhead. A truncate
// gives back what is left in the end; after a crash, recovery or the end of the
// generation does so.
//
// It also has the kernel write back what was written, a piece at a time. Both
// are hints: where they are refused, writing goes on as without them.
type ahead struct {
	allocated int64 // file position up to which space was asked for
	kicked    int64 // file position up to which writeback was started
}

// grew tells that the file ends at end now, and will not grow beyond last.
func (a *ahead) grew(f *os.File, d disk, end, last int64) {
	a.allocate(f, d, end, last)
	if end-a.kicked >= writeback {
		_ = unix.SyncFileRange(int(f.Fd()), a.kicked, end-a.kicked, unix.SYNC_FILE_RANGE_WRITE)
		a.kicked = end
	}
}

func (a *ahead) allocate(f *os.File, d disk, end, last int64) {
	if end < margin || end+margin <= a.allocated || end >= last {
		return
	}
	step := min(end, mostAhead, last-end)
	a.allocated = end + step
	if free, err := d.free(f.Name()); err != nil || free < plenty {
		return
	}
	_ = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, end, step)
}
