package study

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"replicad/replica/units"
)

// cutter takes apart what one side said on one connection, however TCP cut that.
// Bytes that were not kept are a gap in it.
type cutter struct {
	*book
	records map[int][]Item // the items of each record
	data    []byte         // the bytes that are not yet in a part
	spans   []span         // from which records they are, and where the gaps are
	pos     int64          // of the next byte
	item    Item           // that was begun last
	in      int            // the record of its last part; fresh if it has none
	// offsets: the bytes have replication offsets, and that at position 0 is
	// offset.
	offsets bool
	offset  int64
}

// span is bytes of one record, kept or not.
type span struct {
	record int
	n      int64
	gap    bool
}

const (
	fresh  = -1
	before = -2 // the record of bytes that an earlier connection brought
)

// addRecord appends what a record has.
func (c *cutter) addRecord(i int, r Record) {
	c.add(i, r.Data)
	if r.Gap > 0 {
		c.spans = append(c.spans, span{i, r.Gap, true})
	}
	c.add(i, r.Tail)
}

func (c *cutter) add(record int, p []byte) {
	if len(p) > 0 {
		c.data = append(c.data, p...)
		c.spans = append(c.spans, span{record, int64(len(p)), false})
	}
}

// size is how many bytes are left.
func (c *cutter) size() (n int64) {
	for _, s := range c.spans {
		n += s.n
	}
	return n
}

// run is how many bytes come next that were all kept, or all not kept.
func (c *cutter) run() (n int64, gap bool) {
	for _, s := range c.spans {
		if s.gap != c.spans[0].gap {
			break
		}
		n += s.n
	}
	return n, n > 0 && c.spans[0].gap
}

// kept returns the bytes up to the next gap.
func (c *cutter) kept() []byte {
	n, gap := c.run()
	if gap {
		return nil
	}
	return c.data[:n]
}

// find returns how many bytes come before some others; -1 if those have not come.
func (c *cutter) find(p []byte) int64 {
	i, at := int64(bytes.Index(c.data, p)), int64(0)
	if i < 0 {
		return -1
	}
	for _, s := range c.spans {
		if !s.gap {
			if i < s.n {
				return at + i
			}
			i -= s.n
		}
		at += s.n
	}
	return -1
}

// begin begins an item.
func (c *cutter) begin(r *rule, title string, about any) {
	if r.Title != "" {
		title = c.fill(r.Title, about)
	}
	c.item = Item{Title: title, Text: c.fill(r.Text, about), Sources: c.Sources[r.Key], state: r.State}
	c.in = fresh
}

// part gives the next n bytes to the item that was begun last. If they lie in
// several records, or are partly a gap, that makes several parts.
func (c *cutter) part(n int64, name, text string) {
	for n > 0 && len(c.spans) > 0 {
		s := &c.spans[0]
		p := Part{Name: name, Text: text, Bytes: min(n, s.n)}
		if s.gap {
			p.Name, p.Text = "left out", fmt.Sprintf("%s (%s) that the study counted and did not keep", units.Count(p.Bytes, "byte"), name)
		} else {
			p.Data, c.data = Data(c.data[:p.Bytes:p.Bytes]), c.data[p.Bytes:]
		}
		if c.offsets {
			p.Offset = c.offset + c.pos
		}
		c.put(s.record, p)
		c.pos += p.Bytes
		n -= p.Bytes
		if s.n -= p.Bytes; s.n > 0 {
			continue
		}
		if c.spans = c.spans[1:]; n > 0 && len(c.spans) > 0 && c.spans[0].record != c.in {
			name = strings.TrimSuffix(name, continued) + continued
		}
	}
}

// put adds a part to what a record has of the item.
func (c *cutter) put(record int, p Part) {
	items := c.records[record]
	if c.in != record {
		i := c.item
		if c.in != fresh {
			i.Continued = true
			former := c.records[c.in]
			former[len(former)-1].Continues = true
		}
		i.First = p.Offset
		items = append(items, i)
		c.in = record
	}
	i := &items[len(items)-1]
	if i.Parts = append(i.Parts, p); p.Offset > 0 {
		i.Last = p.Offset + p.Bytes - 1
	}
	c.records[record] = items
}

// named gives the next n bytes to the part of a rule that has this name.
func (c *cutter) named(n int64, r *rule, name string, about any) {
	for _, p := range r.Parts {
		if p[0] == name {
			c.part(n, name, c.fill(p[1], about))
		}
	}
}

// thing makes an item of the next n bytes, which are one part.
func (c *cutter) thing(name string, n int64, about any) {
	r := c.Things[name]
	c.begin(r, "", about)
	c.part(n, r.Parts[0][0], c.fill(r.Parts[0][1], about))
}

// command is a command as it lies in a flow.
type command struct {
	args     [][]byte
	pieces   []piece
	inline   bool
	complete bool
}

// piece is some bytes of a command: an argument, or what frames the arguments.
type piece struct {
	n          int
	name, text string
	arg        int // which argument it is, -1 for none
}

func (c *command) frame(n int, name, text string) {
	if n > 0 {
		c.pieces = append(c.pieces, piece{n, name, text, -1})
	}
}

func (c *command) argument(p []byte) {
	if len(p) > 0 {
		c.pieces = append(c.pieces, piece{n: len(p), arg: len(c.args)})
	}
	c.args = append(c.args, p)
}

// cutCommand takes apart the command at the beginning of p, or as much of it as
// there is. ok is false if no command begins there.
func cutCommand(p []byte) (c command, ok bool) {
	if len(p) == 0 || p[0] != '*' {
		return cutInline(p)
	}
	count, size := header(p, '*')
	if size <= 0 || count < 1 {
		return c.cutOff(p, size == 0)
	}
	c.frame(size, "array header", "a RESP array: a command of "+units.Count(count, "argument")+", its name included")
	for p = p[size:]; count > 0; count-- {
		n, size := header(p, '$')
		if size <= 0 {
			return c.cutOff(p, size == 0)
		}
		c.frame(size, "bulk header", "a bulk string of "+units.Count(n, "byte"))
		p = p[size:]
		n = min(n, int64(len(p)))
		c.argument(p[:n])
		if p = p[n:]; !bytes.HasPrefix(p, []byte("\r\n")) {
			return c.cutOff(p, bytes.HasPrefix([]byte("\r\n"), p))
		}
		c.frame(2, "CR LF", "ends the bulk string")
		p = p[2:]
	}
	c.complete = true
	return c, true
}

// cutOff ends a command with p, of which the rest has not come.
func (c command) cutOff(p []byte, ok bool) (command, bool) {
	c.frame(len(p), "beginning", "the beginning of what has not come whole")
	return c, ok
}

// header reads the line that begins an array or a bulk string: *3 or $11. size is
// the length of the line; 0 if its end has not come, -1 if p begins otherwise.
func header(p []byte, mark byte) (n int64, size int) {
	const longest = 24
	line, _, whole := bytes.Cut(p[:min(len(p), longest)], []byte("\r\n"))
	switch {
	case len(p) > 0 && p[0] != mark, !whole && len(p) >= longest:
		return 0, -1
	case !whole:
		return 0, 0
	}
	n, err := strconv.ParseInt(string(line[1:]), 10, 64)
	if err != nil || n < 0 || n > 1<<40 {
		return 0, -1
	}
	return n, len(line) + 2
}

// cutInline takes apart a command that is a line of words.
func cutInline(p []byte) (c command, ok bool) {
	text, end, whole := cutLine(p)
	if !whole || p[0]|0x20 < 'a' || p[0]|0x20 > 'z' {
		return c, false
	}
	c.inline, c.complete = true, true
	for len(text) > 0 {
		word, _, _ := bytes.Cut(text, []byte(" "))
		if text = text[len(word):]; len(word) > 0 {
			c.argument(word)
			continue
		}
		c.frame(1, "space", "separates the words of an inline command")
		text = text[1:]
	}
	c.frame(end, "line end", "ends the inline command, the form that replicas used up to Redis 4.0")
	return c, true
}

// cutLine gives the first line of p without its end, and how long the end is: CR
// LF, or a bare LF. whole is false if the end has not come.
func cutLine(p []byte) (text []byte, end int, whole bool) {
	line, _, whole := bytes.Cut(p, []byte("\n"))
	if !whole {
		return p, 0, false
	}
	text = bytes.TrimSuffix(line, []byte("\r"))
	return text, len(line) + 1 - len(text), true
}

// takeCommand makes an item of a command, and returns its words.
func (c *cutter) takeCommand(cmd command, rules []*rule, multi bool) words {
	f := facts{words: shownWords(cmd.args), Multi: multi}
	if c.offsets {
		f.At = c.offset + c.pos
	}
	r, _ := find(rules, "", f.line())
	c.begin(r, f.line(), f)
	if !cmd.complete {
		c.item.Title += " (its end has not come)"
	}
	for _, p := range cmd.pieces {
		if p.arg >= 0 {
			said := c.argument(r, p.arg)
			f.Index = p.arg
			p.name, p.text = said[0], c.fill(said[1], f)
		}
		c.part(int64(p.n), p.name, p.text)
	}
	return f.words
}

// cutSent takes apart what the replica sent, and returns the commands.
func (c *cutter) cutSent() (commands []words) {
	for len(c.spans) > 0 {
		cmd, ok := cutCommand(c.kept())
		if !ok {
			c.thing("unknown", c.size(), "no command begins here")
			break
		}
		commands = append(commands, c.takeCommand(cmd, c.Sent, false))
	}
	return commands
}
