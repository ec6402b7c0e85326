package restore

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"replicad/replica/archive"
	"replicad/replica/rdb"
	"replicad/replica/resp"
)

// Content finds, for an archive that is written, what a restore must know of
// its files. It implements archive.ContentReader.
type Content struct{}

// contentForm is how the timeline has it. Another number in front is another
// form, or says that other commands are looked at.
const contentForm = "1 databases %d scripts %d expires %t ends %s"

func contentOf(at time.Time) *Meaning {
	return &Meaning{Databases: leastDatabases, ends: ends{moment: at.UnixMilli()}, edited: map[int]bool{}}
}

func (m *Meaning) content() string {
	return fmt.Sprintf(contentForm, m.Databases, m.Scripts, m.Expires, m.ends)
}

// add takes what contents says, and the times to live that end from one time to
// before another. It returns how many these are; false where contents says
// nothing that is understood.
func (m *Meaning) add(contents string, from, to int64) (expired int64, ok bool) {
	var c Meaning
	var all string
	if _, err := fmt.Sscanf(contents, contentForm, &c.Databases, &c.Scripts, &c.Expires, &all); err != nil || !c.ends.parse(all) {
		return 0, false
	}
	m.database(c.Databases - 1)
	m.Scripts += c.Scripts
	m.Expires = m.Expires || c.Expires
	return c.ends.before(from, to), true
}

// Base implements archive.ContentReader.
func (Content) Base(ctx context.Context, r io.Reader, at time.Time, module func(name string)) string {
	m := contentOf(at)
	c, err := rdb.ReadContent(ctx, r, m.ends.add)
	for _, name := range c.Modules {
		module(name)
	}
	if err != nil {
		return ""
	}
	m.database(c.HighestDB)
	m.Expires = c.Expires > 0
	return m.content()
}

// Segment implements archive.ContentReader.
func (Content) Segment(f *os.File, seg archive.Segment, command func(name string, offset int64)) archive.SegmentReader {
	at := time.Now()
	if st, err := f.Stat(); err == nil {
		at = st.ModTime()
	}
	s := &segmentContent{tell: command, told: map[string]bool{}}
	s.editor = &editor{Meaning: contentOf(at), count: true, clock: &clock{last: archive.Mark{Time: at, Offset: math.MaxInt64}}}
	s.file = f
	s.put = func(...part) error {
		s.edits = true
		return nil
	}
	s.walk = seg.Walk(f)
	s.walk.Watch(s.asks, func(from, to int64) error {
		if s.unknown != "" {
			s.tell(s.unknown, to)
			s.unknown = ""
			return nil
		}
		if s.edits {
			return nil // a restore reads all of it
		}
		return s.edit(span{seg.Position(from), seg.Position(to)}, to)
	})
	return s
}

// segmentContent implements archive.SegmentReader.
type segmentContent struct {
	*editor
	walk    *archive.Walk
	edits   bool // there are commands that do not stand as they came
	tell    func(name string, offset int64)
	told    map[string]bool // the names
	unknown string          // the name of the command that is read, if it is to be told

	last  []byte // the name that was asked about before
	plain bool   // and that it is known
}

// mostTold bounds the memory for names.
const mostTold = 1000

// asks says which commands are looked at.
func (s *segmentContent) asks(name []byte, args uint64) bool {
	if string(name) != string(s.last) {
		s.last = append(s.last[:0], name...)
		s.plain = resp.Known(name) || s.told[string(name)]
	}
	if !s.plain && len(s.told) < mostTold {
		s.unknown = string(name)
		s.told[s.unknown], s.plain = true, true
		return true
	}
	return asks(name, args)
}

// To implements archive.SegmentReader.
func (s *segmentContent) To(ctx context.Context, offset int64) error {
	defer func() { // of the segment that is written little comes at a time
		s.walk.Rest()
		s.have = nil
	}()
	return s.walk.To(ctx, offset)
}

// Content implements archive.SegmentReader.
func (s *segmentContent) Content() string {
	if s.edits {
		return ""
	}
	s.database(s.walk.HighestDB())
	return s.content()
}

// String gives the counts with their places.
func (e ends) String() string {
	p := strconv.AppendInt(nil, e.moment, 10)
	for i, n := range e.counts {
		if n > 0 {
			p = fmt.Appendf(p, ",%d=%d", i, n)
		}
	}
	return string(p)
}

// parse reads what String gives.
func (e *ends) parse(s string) bool {
	moment, rest, _ := strings.Cut(s, ",")
	var err error
	if e.moment, err = strconv.ParseInt(moment, 10, 64); err != nil {
		return false
	}
	for rest != "" {
		var at, n int
		var one string
		one, rest, _ = strings.Cut(rest, ",")
		if _, err := fmt.Sscanf(one, "%d=%d", &at, &n); err != nil || at < 0 || at >= len(e.counts) || n < 0 {
			return false
		}
		e.counts[at] = int64(n)
	}
	return true
}
