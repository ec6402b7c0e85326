package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"replicad/replica/archive"
	"replicad/replica/rdb"
)

const manifestName = archive.AOFDir + "/" + archive.ManifestName

// checker reads one generation once.
type checker struct {
	ctx      context.Context
	g        archive.Generation
	opt      Options
	progress *progress
	result   Generation

	r        *archive.Reader
	fsynced  archive.Fsynced
	manifest []byte
	damaged  bool // the timeline is damaged, and may lack facts
}

func (c *checker) problem(file string, at, to, offset int64, format string, args ...any) {
	c.result.Problems = append(c.result.Problems, Problem{file, at, to, offset, fmt.Sprintf(format, args...)})
}

// place adds a problem of a file as a whole.
func (c *checker) place(file, format string, args ...any) {
	c.problem(file, -1, -1, -1, format, args...)
}

func (c *checker) warn(file, format string, args ...any) {
	c.result.Warnings = append(c.result.Warnings, Problem{file, -1, -1, -1, fmt.Sprintf(format, args...)})
}

func (c *checker) note(format string, args ...any) {
	c.result.Notes = append(c.result.Notes, fmt.Sprintf(format, args...))
}

// path is where a file of the generation is.
func (c *checker) path(name string) string { return filepath.Join(c.g.Dir, name) }

// unreadable adds an error of the file system, or of the timeline, with the
// file that it names.
func (c *checker) unreadable(file string, err error) {
	var path *fs.PathError
	if errors.As(err, &path) {
		file = path.Path
	}
	c.place(file, "%v", err)
}

// run checks everything. The error is ctx's; all else is a problem.
func (c *checker) run() (err error) {
	// A daemon writes the timeline first. Read after fsynced and manifest, the
	// timeline has all that they speak of.
	c.readFsynced()
	if c.manifest, err = os.ReadFile(c.path(manifestName)); err != nil {
		c.unreadable(c.path(manifestName), err)
	}
	if c.r, err = c.g.OpenReader(); err != nil {
		c.unreadable(c.path(archive.TimelineName), err)
		return c.ctx.Err()
	}
	defer c.r.Close()
	c.result.Closed, c.result.BaseOffset, c.result.EndOffset = c.r.Timeline.Closed, c.r.Timeline.BaseOffset, c.r.End()
	c.timeline()
	c.files()
	baseSound, err := c.base()
	if err != nil {
		return err
	}
	sound, err := c.segments()
	if baseSound {
		c.result.SoundOffset = sound
	}
	return err
}

// readFsynced reads the slots, again where one was being written.
func (c *checker) readFsynced() {
	path := c.path(archive.FsyncedName)
	var err error
	for range 5 {
		if c.fsynced, err = c.g.ReadFsynced(); err != nil {
			c.unreadable(path, err)
			return
		}
		if len(c.fsynced.Damaged) == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	for _, at := range c.fsynced.Damaged {
		c.problem(path, at, -1, -1, "the slot does not check")
	}
	if !c.fsynced.Found && len(c.fsynced.Damaged) == 0 {
		c.place(path, "it says nothing")
	}
}

// timeline checks the lines of the timeline, and that they agree.
func (c *checker) timeline() {
	path := c.path(archive.TimelineName)
	var older []Problem
	err := c.r.CheckTimeline(func(at int64, why string) {
		c.damaged = true
		c.problem(path, at, -1, -1, "%s", why)
	}, func(m archive.Mark, before time.Time) {
		older = append(older, Problem{path, -1, -1, m.Offset, fmt.Sprintf(
			"the mark of %d is older than that of %d before it, and nothing says that the clock was stepped back", m.Time.UnixMilli(), before.UnixMilli())})
	})
	if err != nil {
		c.unreadable(path, err)
	}
	for _, n := range c.r.Timeline.Needs {
		c.note("a server that loads it needs the %s %s (offset %d): see restore --redis-server and --redis-config", n.What, n.Name, n.Offset)
	}
	if err != nil || c.damaged {
		return // the rest may only look wrong without the facts that are missing
	}
	c.result.Problems = append(c.result.Problems, older...)
	from := c.r.Timeline.BaseOffset
	for i, s := range c.r.Segments {
		if s.Seq != i+1 || s.From != from {
			c.problem(path, -1, -1, s.From, "segment %d begins at offset %d, where segment %d at %d is due", s.Seq, s.From, i+1, from)
		}
		from = s.To
	}
}

// files checks the manifest, and that there are no other files.
func (c *checker) files() {
	if c.manifest != nil {
		c.checkManifest()
	}
	known := map[string]bool{c.r.BasePath(): true, c.path(manifestName): true}
	for _, s := range c.r.Segments {
		known[c.r.SegmentPath(s)] = true
	}
	dir := c.path(archive.AOFDir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		c.unreadable(dir, err)
	}
	for _, e := range entries {
		if path := filepath.Join(dir, e.Name()); !known[path] && !strings.HasSuffix(path, ".manifest.tmp") {
			c.warn(path, "nothing tells of this file")
		}
	}
}

func (c *checker) checkManifest() {
	last := c.r.Segments[len(c.r.Segments)-1].Seq
	want := archive.Manifest(min(last, len(c.r.Segments)))
	if bytes.Equal(c.manifest, want) {
		return
	}
	named := bytes.Count(c.manifest, []byte{'\n'}) - 1
	if named >= 1 && named < 1<<20 && bytes.Equal(c.manifest, archive.Manifest(named)) {
		_, err := os.Stat(c.r.SegmentPath(archive.Segment{Seq: named}))
		switch {
		case c.damaged && err == nil:
			return
		case named < last && !c.result.Closed && named >= c.fsynced.Durable().Seq:
			c.note("the manifest does not name segments %d to %d yet: they are not durable", named+1, last)
			return
		}
	}
	c.problem(c.path(manifestName), firstDifference(c.manifest, want), -1, -1, "it is not the manifest of %d segments", last)
}

// firstDifference is how many bytes got and want begin with in common.
func firstDifference(got, want []byte) int64 {
	n := 0
	for n < min(len(got), len(want)) && got[n] == want[n] {
		n++
	}
	return int64(n)
}

// base checks the RDB file. The error is ctx's.
func (c *checker) base() (sound bool, err error) {
	path, t := c.r.BasePath(), c.r.Timeline
	c.result.Base.Bytes = c.r.BaseSize
	if c.r.BaseSize != t.BaseSize {
		c.problem(path, min(c.r.BaseSize, t.BaseSize), -1, -1, "it has %d bytes, and the timeline says %d", c.r.BaseSize, t.BaseSize)
		return false, nil
	}
	f, err := os.Open(path)
	if err != nil {
		c.unreadable(path, err)
		return false, nil
	}
	defer f.Close()
	own, crc, err := archive.CheckBase(c.ctx, &counted{f, c.progress}, t.BaseSize)
	switch {
	case c.ctx.Err() != nil:
		return false, c.ctx.Err()
	case err != nil:
		c.problem(path, 0, t.BaseSize, -1, "%v", err)
		return false, nil
	}
	c.result.Base.Checksum = own.String()
	switch {
	case t.HasBaseCRC && crc != t.BaseCRC:
		c.problem(path, 0, t.BaseSize, -1, "its CRC-32C is %08x, and the timeline says %08x", crc, t.BaseCRC)
		return false, nil
	case !t.HasBaseCRC && own == rdb.Disabled:
		c.warn(path, "no checksum covers it: the master runs with rdbchecksum no")
	}
	c.result.Base.CRC32C = t.HasBaseCRC
	return true, nil
}

// counted tells how far a file was read.
type counted struct {
	f        *os.File
	progress *progress
}

// ReadAt implements io.ReaderAt.
func (r *counted) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.f.ReadAt(p, off)
	r.progress.add(n)
	return n, err
}
