package restore

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"

	"replicad/replica/archive"
	"replicad/replica/resp"
)

// editor goes through segments and edits commands that mean something else in
// a file.
type editor struct {
	*Meaning
	ctx   context.Context
	clock *clock
	count bool // what is found is counted

	command
	put func(...part) error // takes what stands in the command's place
}

// part is a part of what stands in a command's place: a text, or else a part of
// the command, as it came.
type part struct {
	text string
	span
}

// segment calls put for each command of a segment's file that is not to stand as
// it is, up to seg.To, with what stands in its place.
func (e *editor) segment(f *os.File, seg archive.Segment, put func(...part) error) error {
	e.file, e.have, e.put = f, nil, put
	w := seg.Walk(f)
	w.Watch(asks, func(from, to int64) error {
		return e.edit(span{seg.Position(from), seg.Position(to)}, to)
	})
	s := &scan{Walk: w, ctx: e.ctx, path: f.Name(), seg: seg, proved: -1}
	if err := s.readTo(seg.To); err != nil {
		return err
	}
	e.database(w.HighestDB())
	return nil
}

// asks says which commands are looked at.
func asks(name []byte, args uint64) bool {
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
	case "setex", "psetex", "expire", "pexpire", "restore", "restore-asking", "expiremember", "pexpireat", "expireat",
		"eval", "evalsha", "cluster", "trimslots", "sflush", "move", "swapdb":
		return args > 1
	case "copy":
		return args > 4
	}
	return false
}

// edit looks at one command, which ends at an offset.
func (e *editor) edit(whole span, offset int64) error {
	if err := e.parse(whole); err != nil {
		return err
	}
	name := strings.ToLower(e.text(0))
	switch name {
	case "move":
		e.selects(2)
	case "swapdb":
		e.selects(1)
		e.selects(2)
	case "copy": // source destination DB number
		for i := 3; i < len(e.args); i++ {
			if strings.EqualFold(e.text(i), "db") {
				e.selects(i + 1)
			}
		}
	case "eval", "evalsha":
		e.counted(&e.Scripts)
	case "cluster":
		e.counted(&e.Cluster)
		return e.put()
	case "trimslots": // RANGES count first last ...
		return e.trim(3)
	case "sflush": // first last ... ASYNC
		return e.trim(1)
	default:
		return e.expiry(name, offset)
	}
	return nil
}

// selects takes an argument that is a database.
func (e *editor) selects(i int) {
	if n, ok := e.number(i); ok && n >= 0 && n < math.MaxInt32 {
		e.database(int(n))
	}
}

func (e *editor) counted(n *int64) {
	if e.count {
		*n++
	}
}

// ttl is a command's time to live.
type ttl struct {
	arg      int   // which argument says it; 0 where the command has none
	unit     int64 // of the argument, in milliseconds
	relative bool  // it begins when the command comes; else the argument is its end
}

// ttlOf finds the time to live of a command.
func (e *editor) ttlOf(name string) ttl {
	switch name {
	case "setex", "expire":
		return ttl{2, 1000, true}
	case "psetex", "pexpire":
		return ttl{2, 1, true}
	case "expireat":
		return ttl{2, 1000, false}
	case "pexpireat":
		return ttl{2, 1, false}
	case "expiremember": // KeyDB: key member time unit
		switch unit := strings.ToLower(e.text(4)); {
		case unit == "ms":
			return ttl{3, 1, true}
		case unit == "s", len(e.args) == 4:
			return ttl{3, 1000, true}
		}
	case "set":
		return e.option(3)
	case "getex":
		return e.option(2)
	case "restore", "restore-asking":
		if n, ok := e.number(2); !ok || n == 0 {
			break
		}
		for i := 4; i < len(e.args); i++ {
			if strings.EqualFold(e.text(i), "absttl") {
				return ttl{2, 1, false}
			}
		}
		return ttl{2, 1, true}
	}
	return ttl{}
}

// option finds a time to live among the options that begin at an argument.
func (e *editor) option(first int) (t ttl) {
	for i := first; i+1 < len(e.args); i++ {
		switch strings.ToLower(e.text(i)) {
		case "ex":
			t = ttl{i + 1, 1000, true}
		case "px":
			t = ttl{i + 1, 1, true}
		case "exat":
			t = ttl{i + 1, 1000, false}
		case "pxat":
			t = ttl{i + 1, 1, false}
		case "ifeq", "ifne", "ifdeq", "ifdne":
		default:
			continue
		}
		i++ // what follows may be any word
	}
	return t
}

// ends is when a time to live of n units ends, as Redis keeps it: in
// milliseconds since 1970, and above 0, for it takes what is below 0 for no end
// at all (keyIsExpired in Redis' db.c).
//
// A time that lies beyond the last that can be said becomes that one. Masters
// since 6.2 refuse such a time ("invalid expire time"). Earlier ones took it for
// one that is over, and sent a DEL: that stands in the stream, too.
func (t ttl) ends(n, received int64) int64 {
	switch {
	case n > math.MaxInt64/t.unit:
		n = math.MaxInt64
	case n < math.MinInt64/t.unit:
		n = math.MinInt64
	default:
		n *= t.unit
	}
	if t.relative {
		if n > math.MaxInt64-received {
			return math.MaxInt64
		}
		n += received
	}
	return max(n, 1)
}

// expiry edits a command with a time to live that begins when the command
// comes. In its place stand the same without that, and PEXPIREAT, which every
// version loads. A command that every server refuses stands as it came.
func (e *editor) expiry(name string, offset int64) error {
	t := e.ttlOf(name)
	n, ok := e.number(t.arg)
	if t.arg == 0 || !ok || n <= 0 && name != "expire" && name != "pexpire" && t.relative {
		return nil
	}
	e.Expires = true
	received := int64(0)
	if t.relative {
		e.counted(&e.Relative)
		at, err := e.clock.received(offset, e.file)
		if err != nil {
			return err
		}
		received = at.UnixMilli()
	}
	ends := t.ends(n, received)
	if e.count && name != "expiremember" {
		e.ends.add(ends)
	}
	if !t.relative {
		return nil
	}
	stamp := bulk(strconv.FormatInt(ends, 10))
	key := part{span: e.args[1]}
	const expireAt = "$9\r\nPEXPIREAT\r\n"
	switch name {
	case "restore", "restore-asking":
		return e.put(array(e.argc), part{span: e.args[0]}, key, bulk("0"), part{span: e.behind(3)},
			array(3), part{text: expireAt}, key, stamp)
	case "expire", "pexpire": // with NX, XX, GT or LT
		return e.put(array(e.argc), part{text: expireAt}, key, stamp, part{span: e.behind(3)})
	case "expiremember":
		return e.put(array(4), bulk("PEXPIREMEMBERAT"), key, part{span: e.args[2]}, stamp)
	case "set", "setex", "psetex":
		value := 2
		if name != "set" {
			value = 3
		}
		if value >= len(e.args) {
			return nil
		}
		return e.put(array(3), bulk("SET"), key, part{span: e.args[value]}, array(3), part{text: expireAt}, key, stamp)
	}
	return e.put(array(3), part{text: expireAt}, key, stamp)
}

// array is what a command of n arguments begins with.
func array(n int64) part { return part{text: fmt.Sprintf("*%d\r\n", n)} }

// bulk is an argument.
func bulk(s string) part { return part{text: fmt.Sprintf("$%d\r\n%s\r\n", len(s), s)} }

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
// whose ranges begin at an argument: a server without a cluster refuses it. A
// command that a node of the cluster refuses is left out.
func (e *editor) trim(first int64) error {
	e.counted(&e.Cluster)
	const slots = 16384
	ranges, n, low := span{}, int64(0), int64(0)
	err := e.arguments(func(i int64, at span) bool {
		if i < first {
			return true
		}
		slot, ok := resp.ParseInteger([]byte(e.textAt(at)))
		if !ok || slot < 0 || slot >= slots || n%2 == 1 && slot < low {
			return false
		}
		if n == 0 {
			ranges.from = at.from
		}
		ranges.to, low = at.to, slot
		n++
		return true
	})
	if err != nil {
		return err
	}
	rest := e.argc - first - n
	if count, _ := e.number(2); n == 0 || n%2 == 1 || first > 1 && (rest > 0 || count != n/2) || rest > 1 {
		return e.put()
	}
	return e.put(array(3+n), bulk("EVAL"), bulk(trimScript), bulk("0"), part{span: ranges})
}

// edited writes a segment in other words.
func (w *writer) edited(dst *os.File, seg archive.Segment) error {
	f, err := os.Open(w.reader.SegmentPath(seg))
	if err != nil {
		return err
	}
	defer f.Close()
	c := newClock(w.reader)
	defer c.stop()
	return w.rewrite(dst, f, seg, c)
}

func (w *writer) rewrite(dst io.Writer, f *os.File, seg archive.Segment, c *clock) error {
	out := bufio.NewWriterSize(dst, 256<<10)
	raw := func(s span) error {
		for s.from < s.to {
			if err := w.ctx.Err(); err != nil {
				return err
			}
			n := min(piece, s.size())
			if _, err := io.Copy(out, io.NewSectionReader(f, s.from, n)); err != nil {
				return err
			}
			s.from += n
			w.told(n)
		}
		return nil
	}
	e := &editor{Meaning: w.meaning, ctx: w.ctx, clock: c}
	done := int64(0)
	err := e.segment(f, seg, func(parts ...part) error {
		w.total -= e.whole.size()
		for _, p := range parts {
			w.total += int64(len(p.text)) + p.size()
		}
		if err := raw(span{done, e.whole.from}); err != nil {
			return err
		}
		done = e.whole.to
		for _, p := range parts {
			if _, err := out.WriteString(p.text); err != nil {
				return err
			}
			w.done += int64(len(p.text))
			if err := raw(p.span); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := raw(span{done, seg.Size()}); err != nil {
		return err
	}
	w.told(0)
	return out.Flush()
}
