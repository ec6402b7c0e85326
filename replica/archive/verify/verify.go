// Package verify reads an archive again, from its first byte to its last, and
// says what that proves: that the base is the RDB file that was received; that
// the segments hold a stream of well-formed commands without a gap; that their
// bytes have the CRC-32C of the timeline; and that manifest, timeline and
// fsynced agree with them. It writes nothing, and may run beside a daemon.
package verify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"replicad/replica/archive"
)

// Options of [Archive]; the zero value is fine.
type Options struct {
	Generation int // only that one; 0 for all
	// Progress is told how many bytes of how many were read. Beside a daemon
	// total may grow.
	Progress func(done, total int64)
}

// Report is what was found in the archive of one master.
type Report struct {
	Name        string       `json:"name"`
	Dir         string       `json:"dir"`
	Running     bool         `json:"running"` // a replicad holds the lock
	Sound       bool         `json:"sound"`   // there is a generation, and no problem
	Generations []Generation `json:"generations"`
}

// Generation is what was found in one base and the log behind it.
type Generation struct {
	Number     int    `json:"generation"`
	Dir        string `json:"dir"`
	Closed     bool   `json:"closed"` // nothing more will be written to it
	Sound      bool   `json:"sound"`
	BaseOffset int64  `json:"base_offset"`
	EndOffset  int64  `json:"end_offset"`
	// SoundOffset is the last boundary before the first damage; -1 where the
	// base is damaged or nothing could be read.
	SoundOffset int64     `json:"sound_offset"`
	Base        Base      `json:"base"`
	Segments    []Segment `json:"segments"`
	Marks       int64     `json:"marks"` // of the timeline; at each the CRC-32C was compared
	Problems    []Problem `json:"problems"`
	Warnings    []Problem `json:"warnings"`
	Notes       []string  `json:"notes"` // what is no problem, and worth knowing
}

// Base is what was proved of an RDB file.
type Base struct {
	Bytes    int64  `json:"bytes"`
	Checksum string `json:"checksum"` // its own CRC-64: verified, or "checksum disabled"
	CRC32C   bool   `json:"crc32c"`   // the timeline's CRC-32C was compared too, and is right
}

// Segment is what was proved of one INCR file.
type Segment struct {
	Seq      int   `json:"segment"`
	From     int64 `json:"from_offset"`
	To       int64 `json:"to_offset"`
	Bytes    int64 `json:"bytes"` // of the file
	Commands int64 `json:"commands"`
	Marks    int64 `json:"marks"`
	Sealed   bool  `json:"sealed"`
	// Uncovered is how many bytes no checksum covers, at the end of a segment
	// that is not complete.
	Uncovered int64 `json:"bytes_without_checksum"`
	// Unfinished is how many bytes at the end belong to a command or
	// transaction that is not complete.
	Unfinished int64 `json:"bytes_unfinished"`
}

// Problem is a place that is not as it must be. Numbers that do not apply are
// -1.
type Problem struct {
	File   string `json:"file"`
	Byte   int64  `json:"byte"`    // position in the file, from 0
	ToByte int64  `json:"to_byte"` // the damage is somewhere from Byte to before ToByte
	Offset int64  `json:"offset"`  // replication offset of the last byte before it
	Text   string `json:"text"`
}

// String gives the place and what is wrong.
func (p Problem) String() string {
	s := p.File
	switch {
	case p.Byte >= 0 && p.ToByte > p.Byte:
		s += fmt.Sprintf(": bytes %d to %d", p.Byte, p.ToByte-1)
	case p.Byte >= 0:
		s += fmt.Sprintf(": byte %d", p.Byte)
	}
	if p.Offset >= 0 {
		s += fmt.Sprintf(" (behind offset %d)", p.Offset)
	}
	return s + ": " + p.Text
}

// tries is how often a generation that a daemon may be changing is read before
// its problems count.
const tries = 3

// Archive verifies the archive of one master. The error is ctx's, or says that
// dir is no archive. Everything else is a [Problem].
func Archive(ctx context.Context, dir string, opt Options) (Report, error) {
	m, ok, err := archive.Describe(dir)
	if err != nil {
		return Report{}, err
	}
	if !ok {
		return Report{}, fmt.Errorf("%s is no archive: %w", dir, fs.ErrNotExist)
	}
	r := Report{Name: m.Name, Dir: m.Dir, Running: m.Running, Generations: []Generation{}}
	p := &progress{tell: opt.Progress}
	m.Generations = slices.DeleteFunc(m.Generations, func(g archive.Generation) bool {
		return filepath.Ext(g.Dir) == ".tmp" || // a full sync that is under way
			opt.Generation > 0 && g.Number != opt.Generation
	})
	if opt.Generation > 0 && len(m.Generations) == 0 {
		return Report{}, fmt.Errorf("%s has no generation %d: %w", dir, opt.Generation, fs.ErrNotExist)
	}
	for _, g := range m.Generations {
		p.total += g.Bytes
	}
	sound := true
	for _, g := range m.Generations {
		v, gone, err := settled(ctx, g, m.Running, opt, p)
		if err != nil {
			return r, err
		}
		if !gone {
			sound = sound && v.Sound
			r.Generations = append(r.Generations, v)
		}
	}
	r.Sound = sound && len(r.Generations) > 0
	return r, nil
}

// settled reads a generation again where its problems may come from a daemon's
// change under way. gone says that the generation was pruned meanwhile.
func settled(ctx context.Context, g archive.Generation, running bool, opt Options, p *progress) (v Generation, gone bool, err error) {
	began := p.done
	for try := 1; ; try++ {
		before := stamp(g.Dir)
		c := &checker{ctx: ctx, g: g, opt: opt, progress: p, result: Generation{
			Number: g.Number, Dir: g.Dir, SoundOffset: -1, Base: Base{Checksum: "not checked"},
			Segments: []Segment{}, Problems: []Problem{}, Warnings: []Problem{}, Notes: []string{},
		}}
		if err := c.run(); err != nil {
			return v, false, err
		}
		v = c.result
		v.Sound = len(v.Problems) == 0
		if _, err := os.Stat(g.Dir); errors.Is(err, fs.ErrNotExist) {
			return v, true, nil
		}
		if v.Sound || try == tries || !running && before == stamp(g.Dir) {
			return v, false, nil
		}
		p.done = began
		select {
		case <-ctx.Done():
			return v, false, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// stamp gives a text that changes when a daemon changes a generation: each
// write of data or of a mark changes fsynced or the timeline.
func stamp(dir string) (s string) {
	for _, name := range []string{archive.TimelineName, archive.FsyncedName, archive.AOFDir} {
		if st, err := os.Stat(filepath.Join(dir, name)); err == nil {
			s += fmt.Sprint(st.Size(), st.ModTime().UnixNano(), " ")
		}
	}
	return s
}

// progress counts the bytes that were read.
type progress struct {
	tell        func(done, total int64)
	done, total int64
}

func (p *progress) add(n int) {
	p.done += int64(n)
	if p.tell != nil {
		p.tell(p.done, max(p.total, p.done))
	}
}
