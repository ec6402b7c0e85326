package restore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"replicad/replica/archive"
)

// DamagedError says which file of an archive is damaged, and what can be
// restored instead.
type DamagedError struct {
	File   string
	Byte   int64 // of the file, from 0
	Offset int64 // the replication offset there; -1 in a base
	Sound  int64 // the last offset before it that can be restored; -1 for none in this generation
	Err    error // what is wrong there
}

// Error says what to restore instead.
func (e *DamagedError) Error() string {
	text := fmt.Sprintf("%s: %v at byte %d", e.File, archive.ErrDamaged, e.Byte)
	if e.Offset >= 0 {
		text += fmt.Sprintf(" (offset %d)", e.Offset)
	}
	if e.Sound < 0 {
		return fmt.Sprintf("%s: %v; nothing of this generation can be restored", text, e.Err)
	}
	return fmt.Sprintf("%s: %v; it can be restored up to there with --to offset:%d", text, e.Err, e.Sound)
}

// Unwrap returns archive.ErrDamaged and the cause.
func (e *DamagedError) Unwrap() []error { return []error{archive.ErrDamaged, e.Err} }

// short says whether a file was missing or ended too early. A daemon that has
// just started may have cut it.
func short(err error) bool {
	return errors.Is(err, archive.ErrDamaged) && (errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, fs.ErrNotExist))
}
