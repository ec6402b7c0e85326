package restore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"replicad/replica/archive"
)

// DamagedError says which file of an archive is damaged, and what can be
// restored instead.
type DamagedError struct {
	File   string
	Byte   int64 // of the file, from 0
	Offset int64 // the replication offset there; -1 in a base
	Reason string
	Sound  int64           // the last offset before it that can be restored; -1 for none in this generation
	Others []archive.Range // what other generations have, where Sound is -1
	Err    error           // the cause; may be nil
}

// Error says what to restore instead.
func (e *DamagedError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %v at byte %d", e.File, archive.ErrDamaged, e.Byte)
	if e.Offset >= 0 {
		fmt.Fprintf(&b, " (offset %d)", e.Offset)
	}
	fmt.Fprintf(&b, ": %s", e.Reason)
	switch {
	case e.Sound >= 0:
		fmt.Fprintf(&b, "; it can be restored up to there with --to offset:%d", e.Sound)
	case len(e.Others) > 0:
		b.WriteString("; other generations have:")
	default:
		b.WriteString("; there is no other generation")
	}
	for _, r := range e.Others {
		fmt.Fprintf(&b, "\n  generation %d: %s to %s, offsets %d to %d", r.Generation,
			r.From.Local().Format(time.RFC3339), r.To.Local().Format(time.RFC3339), r.FromOffset, r.ToOffset)
	}
	return b.String()
}

// Unwrap returns archive.ErrDamaged and the cause.
func (e *DamagedError) Unwrap() []error {
	if e.Err == nil {
		return []error{archive.ErrDamaged}
	}
	return []error{archive.ErrDamaged, e.Err}
}

// short says whether a file was missing or ended too early. A daemon that has
// just started may have cut it.
func short(err error) bool {
	return errors.Is(err, archive.ErrDamaged) && (errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, fs.ErrNotExist))
}

// withOthers adds to the error of a generation that has nothing what other
// generations have.
func withOthers(err error, dir string, r *archive.Reader) error {
	var e *DamagedError
	if !errors.As(err, &e) || e.Sound >= 0 || e.Others != nil {
		return err
	}
	m, _, describe := archive.Describe(dir)
	if describe != nil {
		return errors.Join(err, describe)
	}
	for _, g := range m.Generations {
		if g.Number != r.Number && g.Complete && g.Problem == "" {
			e.Others = append(e.Others, archive.Range{Generation: g.Number, From: g.From, To: g.To, FromOffset: g.BaseOffset, ToOffset: g.EndOffset})
		}
	}
	return err
}
