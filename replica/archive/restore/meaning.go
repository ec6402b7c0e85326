package restore

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"replicad/replica/archive"
	"replicad/replica/rdb"
	"replicad/replica/resp"
)

// Meaning is what base and stream hold that a server which loads them must
// know, and what a restore wrote in other words so that it means to a file's
// loader what it meant to the master's replicas.
type Meaning struct {
	// Databases is how many the server must have: the highest one of base and
	// stream counts.
	Databases int `json:"databases"`
	// Relative counts times to live that began when they came, as masters
	// before 7.0 send them. They were written as the times at which they end,
	// by the timeline (feedAppendOnlyFile in Redis' aof.c does the same).
	Relative int64 `json:"relative_expiries"`
	// Cluster counts the commands for a node of a cluster: CLUSTER ... was left
	// out, and TRIMSLOTS and SFLUSH became a script that removes the keys.
	Cluster int64 `json:"cluster_commands"`
	// Scripts counts EVAL and EVALSHA, which stand as they came: masters before
	// 5.0 send them. A time to live that a script sets begins anew at the load.
	Scripts int64    `json:"scripts"`
	Expires bool     `json:"expires"`           // base or stream give some key a time to live
	Modules []string `json:"modules,omitempty"` // whose data the base holds
	// Unread says why the base could not be read to its end: it may have a
	// higher database than is known.
	Unread string `json:"unread,omitempty"`

	edited map[int]bool // the segments that are written in other words, by number
}

// leastDatabases is redis.conf's default.
const leastDatabases = 16

func (m *Meaning) database(n int) { m.Databases = max(m.Databases, n+1) }

// readMeaning reads base and segments to their ends, in constant memory.
func readMeaning(ctx context.Context, r *archive.Reader, cut []archive.Segment) (*Meaning, error) {
	m := &Meaning{Databases: leastDatabases, edited: map[int]bool{}}
	f, err := os.Open(r.BasePath())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	base, err := rdb.ReadContent(ctx, io.LimitReader(f, r.BaseSize))
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, rdb.ErrUnknown), errors.Is(err, rdb.ErrMalformed):
		m.Unread = err.Error()
	case err != nil:
		return nil, err
	}
	m.database(base.HighestDB)
	m.Expires, m.Modules = base.Expires > 0, base.Modules
	for _, s := range cut {
		e := &editor{Meaning: m, ctx: ctx, count: true}
		err := e.segment(r, s, func(string, ...span) error {
			m.edited[s.Seq] = true
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return m, nil
}

// editor goes through segments and edits commands that mean something else in
// a file.
type editor struct {
	*Meaning
	ctx   context.Context
	count bool                         // what is found is counted
	at    func(offset int64) time.Time // when an offset was received; nil while commands are only found

	command
	put  func(text string, verbatim ...span) error // takes what stands in a command's place
	from int64                                     // the command's place in the file
}

// span is a part of a file.
type span struct{ from, to int64 }

// segment calls put for each command that is not to stand as it is, up to
// seg.To: it stands between e.from and the end of e.args. What is put in its
// place is a text in which each % stands for a part of the file.
func (e *editor) segment(r *archive.Reader, seg archive.Segment, put func(text string, verbatim ...span) error) error {
	f, err := os.Open(r.SegmentPath(seg))
	if err != nil {
		return err
	}
	defer f.Close()
	e.file, e.have, e.put = f, nil, put
	w := seg.Walk(f)
	w.Watch(e.asks, func(from, to int64) error {
		return e.edit(seg.Position(from), seg.Position(to), to)
	})
	s := &scan{Walk: w, ctx: e.ctx, path: f.Name(), seg: seg, proved: -1}
	if err := s.readTo(seg.To); err != nil {
		return err
	}
	e.database(w.HighestDB())
	return nil
}

// asks says which commands are looked at.
func (e *editor) asks(name []byte, args uint64) bool {
	var lower [16]byte
	if len(name) > len(lower) || len(name) < 3 {
		return false
	}
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	switch string(lower[:len(name)]) {
	case "set", "getex":
		return args > 3
	case "setex", "psetex", "expire", "pexpire", "restore", "restore-asking", "pexpireat", "expireat",
		"eval", "evalsha", "cluster", "trimslots", "sflush", "move", "swapdb":
		return args > 1
	case "copy":
		return args > 4
	}
	return false
}

// edit looks at one command, which lies between two places of the file and ends
// at an offset.
func (e *editor) edit(from, to, offset int64) error {
	e.from = from
	if err := e.parse(from, to); err != nil {
		return err
	}
	name := strings.ToLower(e.text(0))
	switch name {
	case "move", "swapdb", "copy":
		for i := 1; i < len(e.args); i++ {
			named := name == "swapdb" || name == "move" && i == 2 || name == "copy" && strings.EqualFold(e.text(i-1), "db")
			if n, ok := e.number(i); named && ok && n >= 0 && n < math.MaxInt32 {
				e.database(int(n))
			}
		}
	case "eval", "evalsha":
		e.counted(&e.Scripts)
	case "expireat", "pexpireat":
		e.Expires = true
	case "cluster":
		e.counted(&e.Cluster)
		return e.put("")
	case "trimslots":
		e.counted(&e.Cluster)
		return e.trim(3)
	case "sflush":
		e.counted(&e.Cluster)
		return e.trim(1)
	default:
		return e.expiry(name, offset)
	}
	return nil
}

func (e *editor) counted(n *int64) {
	if e.count {
		*n++
	}
}

// expiry edits a command with a time to live that begins when the command
// comes. In its place stand the same without that, and PEXPIREAT, which every
// version loads.
func (e *editor) expiry(name string, offset int64) error {
	unit, at, keep := time.Second, 2, []int{} // the time to live is argument at; those of keep stay
	switch name {
	case "pexpire":
		unit = time.Millisecond
	case "setex", "psetex":
		keep = []int{1, 3}
		if name == "psetex" {
			unit = time.Millisecond
		}
	case "set", "getex":
		first := map[string]int{"set": 3, "getex": 2}[name]
		at = 0
		for i := first; i+1 < len(e.args); i++ {
			switch strings.ToLower(e.text(i)) {
			case "ex":
				at, unit = i+1, time.Second
			case "px":
				at, unit = i+1, time.Millisecond
			case "pxat", "exat":
				e.Expires = true
			}
		}
		if name == "set" {
			keep = []int{1, 2}
		}
	case "restore", "restore-asking":
		unit = time.Millisecond
		for i := 4; i < len(e.args); i++ {
			if strings.EqualFold(e.text(i), "absttl") {
				at = 0
				e.Expires = true
			}
		}
	}
	ttl, ok := e.number(at)
	if at == 0 || !ok || at >= len(e.args) || strings.HasPrefix(name, "restore") && ttl == 0 {
		return nil
	}
	e.Expires = true
	e.counted(&e.Relative)
	if e.at == nil {
		return e.put("")
	}
	ends := e.at(offset).UnixMilli()
	if ttl < (math.MaxInt64-ends)/1000 {
		ends += ttl * unit.Milliseconds()
	}
	var text strings.Builder
	var verbatim []span
	switch {
	case name == "restore" || name == "restore-asking":
		fmt.Fprintf(&text, "*%d\r\n%%%%$1\r\n0\r\n", len(e.args))
		verbatim = append(verbatim, e.args[0], e.args[1])
		for _, a := range e.args[3:] {
			text.WriteByte('%')
			verbatim = append(verbatim, a)
		}
	case len(keep) > 0:
		text.WriteString("*3\r\n$3\r\nSET\r\n%%")
		verbatim = append(verbatim, e.args[keep[0]], e.args[keep[1]])
	}
	stamp := strconv.FormatInt(ends, 10)
	fmt.Fprintf(&text, "*3\r\n$9\r\nPEXPIREAT\r\n%%$%d\r\n%s\r\n", len(stamp), stamp)
	return e.put(text.String(), append(verbatim, e.args[1])...)
}

// trimScript removes the keys of the slots from ARGV[1] to ARGV[2], and so on.
// The slot is that of keyHashSlot in Redis' cluster.c.
const trimScript = `local function slot(k)
  local s = string.find(k, '{', 1, true)
  if s then
    local e = string.find(k, '}', s + 1, true)
    if e and e > s + 1 then k = string.sub(k, s + 1, e - 1) end
  end
  local crc = 0
  for i = 1, #k do
    crc = bit.bxor(crc, bit.lshift(string.byte(k, i), 8))
    for _ = 1, 8 do
      if bit.band(crc, 32768) ~= 0 then crc = bit.bxor(bit.lshift(crc, 1), 4129) else crc = bit.lshift(crc, 1) end
      crc = bit.band(crc, 65535)
    end
  end
  return bit.band(crc, 16383)
end
local cursor = '0'
repeat
  local found = redis.call('SCAN', cursor, 'COUNT', 1000)
  cursor = found[1]
  for _, k in ipairs(found[2]) do
    local n = slot(k)
    for i = 1, #ARGV - 1, 2 do
      if n >= tonumber(ARGV[i]) and n <= tonumber(ARGV[i + 1]) then redis.call('DEL', k) break end
    end
  end
until cursor == '0'`

// trim puts a script in the place of a command that removes the keys of slots,
// whose ranges begin at an argument: a server without a cluster refuses it.
func (e *editor) trim(first int) error {
	args := []string{"EVAL", trimScript, "0"}
	for i := first; i+1 < len(e.args); i += 2 {
		if _, ok := e.number(i); ok {
			args = append(args, e.text(i), e.text(i+1))
		}
	}
	p := resp.AppendCommand(nil, args...)
	return e.put(string(p))
}

// command is a command of a file, by its arguments.
type command struct {
	file *os.File
	have []byte // of the file, from position at on
	at0  int64
	args []span // whole, with $length before and CR LF behind
}

// mostArguments are looked at: no command that is edited has more, but for
// TRIMSLOTS with more than 500 ranges.
const mostArguments = 1 << 15

// parse finds where the arguments lie.
func (c *command) parse(from, to int64) error {
	c.args = c.args[:0]
	line, err := c.line(from)
	if err != nil {
		return err
	}
	for at := from + int64(len(line)); at < to && len(c.args) < mostArguments; {
		if line, err = c.line(at); err != nil {
			return err
		}
		n, err := strconv.ParseInt(string(bytes.TrimSpace(line[1:])), 10, 64)
		if err != nil {
			return err
		}
		end := at + int64(len(line)) + n + 2
		c.args = append(c.args, span{at, end})
		at = end
	}
	return nil
}

// line is the short line at a place of the file.
func (c *command) line(at int64) ([]byte, error) {
	p, err := c.bytes(at, 32)
	if i := bytes.IndexByte(p, '\n'); i >= 0 {
		return p[:i+1], nil
	}
	return nil, errors.Join(err, io.ErrUnexpectedEOF)
}

// bytes gives up to n bytes of the file, which are good until the next call.
func (c *command) bytes(at, n int64) ([]byte, error) {
	if at < c.at0 || at+n > c.at0+int64(len(c.have)) {
		if cap(c.have) == 0 {
			c.have = make([]byte, 64<<10)
		}
		k, err := c.file.ReadAt(c.have[:cap(c.have)], at)
		if c.have, c.at0 = c.have[:k], at; err != nil && err != io.EOF {
			return nil, err
		}
	}
	p := c.have[at-c.at0:]
	return p[:min(n, int64(len(p)))], nil
}

// text is an argument of at most 64 bytes; "" where it is longer.
func (c *command) text(i int) string {
	if i >= len(c.args) || c.args[i].to-c.args[i].from > 72 {
		return ""
	}
	p, err := c.bytes(c.args[i].from, c.args[i].to-c.args[i].from)
	_, s, ok := strings.Cut(string(p), "\r\n")
	if err != nil || !ok {
		return ""
	}
	return strings.TrimSuffix(s, "\r\n")
}

func (c *command) number(i int) (int64, bool) { return resp.ParseInteger([]byte(c.text(i))) }

// edited writes a segment in other words.
func (w *writer) edited(dst *os.File, seg archive.Segment) error {
	out := bufio.NewWriterSize(dst, 256<<10)
	e := &editor{Meaning: w.meaning, ctx: w.ctx, at: w.received}
	done := int64(0)
	raw := func(from, to int64) error {
		_, err := io.Copy(out, io.NewSectionReader(e.file, from, to-from))
		return err
	}
	err := e.segment(w.reader, seg, func(text string, verbatim ...span) error {
		if err := raw(done, e.from); err != nil {
			return err
		}
		done = e.args[len(e.args)-1].to
		for part := range strings.SplitAfterSeq(text, "%") {
			out.WriteString(strings.TrimSuffix(part, "%"))
			if strings.HasSuffix(part, "%") && len(verbatim) > 0 {
				if err := raw(verbatim[0].from, verbatim[0].to); err != nil {
					return err
				}
				verbatim = verbatim[1:]
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	f, err := os.Open(w.reader.SegmentPath(seg))
	if err != nil {
		return err
	}
	defer f.Close()
	e.file = f
	if err := raw(done, seg.Size()); err != nil {
		return err
	}
	w.told(seg.Size())
	return out.Flush()
}

// clock gives, for offsets that do not fall, when each was received: the time
// of the first mark at or behind it, or of the last mark.
func clock(r *archive.Reader) (at func(offset int64) time.Time, stop func()) {
	next, stop := iter.Pull(func(yield func(archive.Mark) bool) { _ = r.Marks(yield) })
	last := archive.Mark{Time: r.Timeline.BaseTime, Offset: r.Timeline.BaseOffset}
	return func(offset int64) time.Time {
		for last.Offset < offset {
			m, ok := next()
			if !ok {
				break
			}
			last = m
		}
		return last.Time
	}, stop
}
