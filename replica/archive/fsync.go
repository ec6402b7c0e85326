package archive

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Policy is redis.conf's appendfsync.
type Policy uint8

// The policies. Everysec is the default.
const (
	Everysec Policy = iota // fsync each second
	Always                 // fsync as soon as there is something to
	No                     // leave it to the kernel; fsync on close, and seldom, so that recovery need not read all
)

// ParsePolicy reads always, everysec or no.
func ParsePolicy(s string) (Policy, error) {
	for _, p := range []Policy{Everysec, Always, No} {
		if s == p.String() {
			return p, nil
		}
	}
	return 0, fmt.Errorf("appendfsync %q: want always, everysec or no", s)
}

// String gives the policy as redis.conf writes it.
func (p Policy) String() string {
	switch p {
	case Always:
		return "always"
	case No:
		return "no"
	}
	return "everysec"
}

// disk is what the archive asks of the operating system; tests put faults in
// its place.
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

// makeDir makes a folder and those above it, and their names durable.
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
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// lockFile takes the flock(2) of a file. It does not wait for another writer,
// only for the moment that List needs to look.
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
