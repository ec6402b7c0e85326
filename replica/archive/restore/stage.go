package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"replicad/replica/archive"
)

// stageName is the folder below Out in which everything is made.
const stageName = ".replicad-restore"

// stage is that folder. A restore that works in it holds its flock. A stage
// without one was left by a restore that was killed.
type stage struct {
	out  string
	made bool // openStage made out
	dir  string
	lock *os.File
}

// openStage makes out, if it does not exist, and the stage in it, or takes one
// that was left. The error wraps ErrNotEmpty or ErrBusy where out can't be used.
func openStage(out string) (*stage, error) {
	s := &stage{out: out, dir: filepath.Join(out, stageName)}
	err := os.Mkdir(out, 0o750)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	s.made = err == nil
	if err := s.open(); err != nil {
		s.undo()
		return nil, err
	}
	return s, nil
}

func (s *stage) open() (err error) {
	if err := s.alone(); err != nil {
		return err
	}
	if err := os.Mkdir(s.dir, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if s.lock, err = lockDir(s.dir); err != nil {
		return err
	}
	if err := s.alone(); err != nil { // another restore was faster
		return errors.Join(err, s.close(false))
	}
	return nil
}

// lockDir takes a folder's lock. The error wraps ErrBusy where another restore
// holds the lock, or has just removed the folder.
func lockDir(dir string) (*os.File, error) {
	f, err := archive.LockDir(dir, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", dir, ErrBusy)
	}
	return f, err
}

// alone says whether out holds nothing but a stage.
func (s *stage) alone() error {
	entries, err := os.ReadDir(s.out)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != stageName {
			return fmt.Errorf("%s: %w: it holds %s, and a restore needs a new or empty folder", s.out, ErrNotEmpty, e.Name())
		}
	}
	return nil
}

func (s *stage) path(name string) string { return filepath.Join(s.dir, name) }

// clear removes what is in the stage.
func (s *stage) clear() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(s.path(e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// publish gives the result to its owner, and its place, durably.
func (s *stage) publish(entry string, owner Owner) error {
	if err := owner.give(s.path(entry)); err != nil {
		return err
	}
	if err := archive.SyncPath(s.dir); err != nil {
		return err
	}
	to := filepath.Join(s.out, entry)
	if err := os.Rename(s.path(entry), to); err != nil {
		return err
	}
	var err error
	if owner.given {
		err = os.Chown(s.out, owner.user, owner.group)
	}
	if err == nil {
		err = archive.SyncPath(s.out)
	}
	if err == nil && s.made {
		var parent string
		if parent, err = absParent(s.out); err == nil {
			err = archive.SyncPath(parent)
		}
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(to))
	}
	return nil
}

// close removes the stage, and after a failure also an out that openStage made.
func (s *stage) close(failed bool) error {
	err := os.RemoveAll(s.dir) // while it is locked
	s.lock.Close()
	if failed {
		s.undo()
	}
	return err
}

// undo removes an out that openStage made, unless it holds something.
func (s *stage) undo() {
	if s.made {
		_ = os.Remove(s.out)
	}
}
