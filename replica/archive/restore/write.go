package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"replicad/replica/archive"
)

// Way is how a file's bytes came to the result.
type Way string

// The ways. A linked file is the archive's. Where the file system can, a copied
// file shares blocks with the archive's until one of the two is written to.
const (
	Linked Way = "linked"
	Copied Way = "copied"
)

// writer makes a result from the files of a generation.
type writer struct {
	ctx     context.Context
	reader  *archive.Reader
	cut     []archive.Segment // the last one ends at the cut, and redis-server will append to it
	link    linking
	meaning *Meaning
	base    Way // how the base came

	progress func(done, total int64)
	done     int64
	total    int64
}

// linking says of which files hard links may be made.
type linking uint8

const (
	none linking = iota
	own          // those that the caller owns
	all
)

// multipart makes dir/appendonlydir, durably but for its name.
func (w *writer) multipart(dir string) (err error) {
	dir = filepath.Join(dir, archive.AOFDir)
	if err := os.Mkdir(dir, 0o750); err != nil {
		return err
	}
	name := filepath.Base(w.reader.BasePath())
	if w.base, err = w.bring(w.reader.BasePath(), filepath.Join(dir, name), w.reader.BaseSize, w.link); err != nil {
		return err
	}
	last := w.cut[len(w.cut)-1].Seq
	for _, s := range w.cut {
		name := filepath.Base(w.reader.SegmentPath(s))
		if w.meaning.edited[s.Seq] {
			if err := w.edit(filepath.Join(dir, name), s); err != nil {
				return err
			}
			continue
		}
		link := w.link
		if s.Seq == last || !w.final(s) {
			link = none
		}
		if _, err := w.bring(w.reader.SegmentPath(s), filepath.Join(dir, name), s.Size(), link); err != nil {
			return err
		}
	}
	manifest := filepath.Join(dir, archive.ManifestName)
	if err := os.WriteFile(manifest, archive.Manifest(last), 0o640); err != nil {
		return err
	}
	return errors.Join(archive.SyncPath(manifest), archive.SyncPath(dir))
}

// final says whether a segment is never written to again. A complete one may
// be: where a power cut took the next segment, recovery goes on with this one.
// A segment is verified only after the rotation behind it is durable.
func (w *writer) final(s archive.Segment) bool { return s.Verified || w.reader.Timeline.Closed }

// singleFile makes an AOF with RDB preamble at path, durably but for its name.
func (w *writer) singleFile(path string) (err error) {
	dst, err := create(path)
	if err != nil {
		return err
	}
	defer dst.Close()
	w.base = Copied
	if err := w.appendFrom(dst, w.reader.BasePath(), w.reader.BaseSize); err != nil {
		return err
	}
	for _, s := range w.cut {
		if w.meaning.edited[s.Seq] {
			err = w.edited(dst, s)
		} else {
			err = w.appendFrom(dst, w.reader.SegmentPath(s), s.Size())
		}
		if err != nil {
			return err
		}
	}
	return dst.Sync()
}

// edit writes a segment in other words to a file of its own, durably but for
// its name.
func (w *writer) edit(path string, s archive.Segment) error {
	f, err := create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := w.edited(f, s); err != nil {
		return err
	}
	return f.Sync()
}

// bring makes dst of the first n bytes of src, durably but for its name: by a
// hard link where that is allowed and src has no more, or by copying.
func (w *writer) bring(src, dst string, n int64, link linking) (Way, error) {
	if link != none && linked(src, dst, n, link) {
		w.told(n)
		return Linked, nil
	}
	f, err := create(dst)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if err := w.appendFrom(f, src, n); err != nil {
		return "", err
	}
	return Copied, f.Sync()
}

// linked makes dst a hard link to src, if src is a file of n bytes that may be
// linked.
func linked(src, dst string, n int64, link linking) bool {
	if os.Link(src, dst) != nil {
		return false // another file system, or refused: it is copied
	}
	var st unix.Stat_t
	if unix.Lstat(dst, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == n && (link == all || st.Uid == uint32(os.Geteuid())) {
		return true
	}
	_ = os.Remove(dst)
	return false
}

const piece = 8 << 20 // bytes copied at a time: so often ctx is asked

// appendFrom copies the first n bytes of src behind dst's position, in the
// kernel where it can (copy_file_range(2)).
func (w *writer) appendFrom(dst *os.File, src string, n int64) error {
	from, err := os.Open(src)
	if err != nil {
		return err
	}
	defer from.Close()
	for at := int64(0); at < n; {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		k, err := io.CopyN(dst, from, min(piece, n-at))
		at += k
		w.told(k)
		if err == io.EOF {
			return endsEarly(src, at, n)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// told counts bytes of the result that are there now.
func (w *writer) told(n int64) {
	w.done += n
	if w.progress != nil {
		w.progress(w.done, w.total)
	}
}

// endsEarly says that a file is shorter now than when it was checked.
func endsEarly(path string, has, want int64) error {
	return &DamagedError{
		File: path, Byte: has, Offset: -1, Sound: -1,
		Err: fmt.Errorf("the file ends there, before byte %d: %w", want, io.ErrUnexpectedEOF),
	}
}

func create(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640)
}
