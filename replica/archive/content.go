package archive

import (
	"context"
	"io"
	"os"
	"strings"
	"time"
)

// ContentReader reads in files, while nobody waits, what a restore must know of
// them. The timeline keeps what it gives as it is.
type ContentReader interface {
	// Base reads a base, which came at a time, to the end of r. It calls module
	// with the name of each module whose data the base holds. It returns ""
	// where it does not understand the base.
	Base(ctx context.Context, r io.Reader, at time.Time, module func(name string)) string
	// Segment begins with a segment's file, which it does not close. It calls
	// command with the name of a command that no plain server has, and the
	// offset behind it.
	Segment(f *os.File, seg Segment, command func(name string, offset int64)) SegmentReader
}

// SegmentReader reads one segment.
type SegmentReader interface {
	// To reads on, up to an offset.
	To(ctx context.Context, offset int64) error
	// Content is what was found; "" where a restore must read the segment
	// itself.
	Content() string
}

// Need is what a server must have beside what every one has, so that it loads a
// generation.
type Need struct {
	What   string `json:"what"` // NeedModule or NeedCommand
	Name   string `json:"name"`
	Offset int64  `json:"offset"` // of the base, or behind the first such command
}

// The kinds of needs.
const (
	NeedModule  = "module"
	NeedCommand = "command"
)

// mostNeeds of a generation are noted.
const mostNeeds = 32

// lookAgain is how often the checker reads on in the segment that is written.
const lookAgain = 2 * time.Second

// needed notes, once, what a generation needs. Only the checker calls it.
func (g *log) needed(r *reading, what, name string, offset int64) {
	n := Need{What: what, Name: plainWord(name)}
	if r.known[n] || len(r.known) >= mostNeeds {
		return
	}
	r.known[n] = true
	n.Offset = offset
	g.note(needFact(n))
	g.opt.observed(Event{Kind: NotPlain, Generation: g.generation().number, Offset: offset, Text: "the " + what + " " + n.Name})
}

// plainWord makes a word of a name that anybody chose.
func plainWord(name string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '?'
		}
		return r
	}, name)
}

// newReading begins to read a generation, whose timeline may have needs already.
func (g *log) newReading() *reading {
	r := &reading{known: map[Need]bool{}}
	if tl, _, err := g.generation().readTimeline(visitor{}); err == nil {
		r.base = tl.BaseOffset
		for _, n := range tl.Needs {
			n.Offset = 0
			r.known[n] = true
		}
	}
	return r
}

// reading is what was read of a generation's content, and a segment that is
// being read.
type reading struct {
	known  map[Need]bool // without their offsets
	base   int64         // the base's offset
	file   *os.File
	seg    Segment
	reader SegmentReader
	err    error
}

func (r *reading) close() {
	if r.file != nil {
		r.file.Close()
	}
	r.file, r.reader, r.err = nil, nil, nil
}

// readOn reads a segment up to an offset, on from where it was read to before.
// It returns what was found.
func (g *log) readOn(ctx context.Context, r *reading, seg Segment, to int64) string {
	if g.opt.Content == nil {
		return ""
	}
	if r.file == nil || r.seg.Seq != seg.Seq {
		r.close()
		f, err := g.openFile(func(at generation) string { return at.segment(seg.Seq) })
		if err != nil {
			return ""
		}
		r.file, r.seg = f, seg
		r.reader = g.opt.Content.Segment(f, seg, func(name string, offset int64) { g.needed(r, NeedCommand, strings.ToLower(name), offset) })
	}
	if r.err == nil {
		r.err = r.reader.To(ctx, to)
	}
	if r.err != nil {
		return ""
	}
	return r.reader.Content()
}

// baseContent is CheckBase, and has the content read in the same pass.
func (o Options) baseContent(ctx context.Context, f *os.File, size int64, module func(string)) (crc uint32, content string, err error) {
	st, err := f.Stat()
	if err != nil {
		return 0, "", err
	}
	t := &tee{file: f}
	if o.Content != nil {
		from, to := io.Pipe()
		t.more = to
		found := make(chan string)
		go func() {
			text := o.Content.Base(ctx, from, st.ModTime(), module)
			_, _ = io.Copy(io.Discard, from)
			found <- text
		}()
		defer func() {
			to.Close()
			content = <-found
		}()
	}
	_, crc, err = checkBase(ctx, t, size)
	return crc, content, err
}
