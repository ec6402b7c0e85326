package study

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"replicad/replica/units"
)

// flow is what one side said on one connection, however TCP cut it. A chunk is
// bytes that were kept, or a number of bytes that were not.
type flow []chunk

type chunk struct {
	data []byte
	gap  int64
}

func (c chunk) size() int64 { return int64(len(c.data)) + c.gap }

// add appends bytes that were kept.
func (f *flow) add(p []byte) {
	n := len(*f)
	switch {
	case len(p) == 0:
	case n > 0 && (*f)[n-1].gap == 0:
		(*f)[n-1].data = append((*f)[n-1].data, p...)
	default:
		*f = append(*f, chunk{data: bytes.Clone(p)})
	}
}

func (f *flow) addGap(n int64) {
	if n > 0 {
		*f = append(*f, chunk{gap: n})
	}
}

func (f *flow) addRecord(r Record) {
	f.add(r.Data)
	f.addGap(r.Gap)
	f.add(r.Tail)
}

// behind returns some bytes and then the flow.
func (f flow) behind(p []byte) (g flow) {
	g.add(p)
	for _, c := range f {
		g.add(c.data)
		g.addGap(c.gap)
	}
	return g
}

// size is how many bytes are left.
func (f flow) size() (n int64) {
	for _, c := range f {
		n += c.size()
	}
	return n
}

// from returns the bytes from a position on, up to the next gap.
func (f flow) from(at int64) []byte {
	for _, c := range f {
		switch {
		case at >= c.size():
			at -= c.size()
		case c.gap > 0:
			return nil
		default:
			return c.data[at:]
		}
	}
	return nil
}

// kept returns the bytes up to the next gap.
func (f flow) kept() []byte { return f.from(0) }

// find returns how many bytes come before some others; -1 if those have not come.
func (f flow) find(p []byte) int64 {
	at := int64(0)
	for _, c := range f {
		if i := bytes.Index(c.data, p); i >= 0 {
			return at + int64(i)
		}
		at += c.size()
	}
	return -1
}

// take removes at most n bytes of the first chunk.
func (f *flow) take(n int64) chunk {
	first := &(*f)[0]
	n = min(n, first.size())
	taken := chunk{gap: n}
	if first.gap == 0 {
		taken = chunk{data: first.data[:n:n]}
		first.data = first.data[n:]
	} else {
		first.gap -= n
	}
	if first.size() == 0 {
		*f = (*f)[1:]
	}
	return taken
}

// cutter takes a flow apart into items.
type cutter struct {
	flow
	*book
	pos   int64 // of the next byte in the flow
	items []Item
	// offsets: the bytes have replication offsets, and that at position 0 is
	// offset.
	offsets bool
	offset  int64
}

// begin begins an item.
func (c *cutter) begin(r *rule, title string, about any) {
	if r.Title != "" {
		title = fill(r.Title, about)
	}
	c.items = append(c.items, Item{Title: title, Text: fill(r.Text, about), Sources: c.Sources[r.Key], state: r.State})
}

// part gives the next n bytes to the item that was begun last. If they are partly
// kept and partly not, that makes several parts.
func (c *cutter) part(n int64, name, text string) {
	item := &c.items[len(c.items)-1]
	for n > 0 && len(c.flow) > 0 {
		taken := c.take(n)
		p := Part{Name: name, Text: text, Bytes: taken.size(), Data: taken.data, at: c.pos}
		if taken.gap > 0 {
			p.Name, p.Text = "left out", fmt.Sprintf("%s (%s) that the study counted and did not keep", units.Count(p.Bytes, "byte"), name)
		}
		if c.offsets {
			p.Offset = c.offset + c.pos
			if item.First == 0 {
				item.First = p.Offset
			}
			item.Last = p.Offset + p.Bytes - 1
		}
		item.Parts = append(item.Parts, p)
		c.pos += p.Bytes
		n -= p.Bytes
	}
}

// named gives the next n bytes to the part of a rule that has this name.
func (c *cutter) named(n int64, r *rule, name string, about any) {
	for _, p := range r.Parts {
		if p[0] == name {
			c.part(n, name, fill(p[1], about))
		}
	}
}

// thing makes an item of the next n bytes, which are one part.
func (c *cutter) thing(name string, n int64, about any) {
	r := c.Things[name]
	c.begin(r, "", about)
	c.part(n, r.Parts[0][0], fill(r.Parts[0][1], about))
}

func (c *cutter) unknown(n int64, why string) {
	c.thing("unknown", n, struct{ Why string }{why})
}

// split cuts items in two at a position.
func split(items []Item, at int64) (before, after []Item) {
	for n, i := range items {
		last := i.Parts[len(i.Parts)-1]
		if i.Parts[0].at >= at {
			return before, items[n:]
		}
		if last.at+last.Bytes > at {
			first, rest := i.split(at)
			return append(before, first), append([]Item{rest}, items[n+1:]...)
		}
		before = append(before, i)
	}
	return before, nil
}

func (i Item) split(at int64) (before, after Item) {
	before, after = i, i
	before.Parts, after.Parts = nil, nil
	before.Continues, after.Continued = true, true
	for _, p := range i.Parts {
		switch n := at - p.at; {
		case n >= p.Bytes:
			before.Parts = append(before.Parts, p)
		case n <= 0:
			after.Parts = append(after.Parts, p)
		default:
			first, rest := p.split(n)
			before.Parts = append(before.Parts, first)
			after.Parts = append(after.Parts, rest)
		}
	}
	return before, after
}

// split cuts a part in two behind its first n bytes.
func (p Part) split(n int64) (before, after Part) {
	before, after = p, p
	before.Bytes, after.Bytes, after.at = n, p.Bytes-n, p.at+n
	if len(p.Data) > 0 {
		before.Data, after.Data = p.Data[:n], p.Data[n:]
	}
	if p.Offset > 0 {
		after.Offset += n
	}
	if !strings.HasSuffix(p.Name, continued) {
		after.Name += continued
	}
	return before, after
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
	if len(p) > 0 && p[0] != '*' {
		return cutInline(p)
	}
	count, size := header(p, '*')
	if size == 0 {
		c.frame(len(p), "array header", "the beginning of a command, the rest of which has not come")
		return c, len(p) > 0
	}
	if size < 0 || count < 1 {
		return c, false
	}
	c.frame(size, "array header", "a RESP array: a command of "+units.Count(count, "argument")+", its name included")
	for p = p[size:]; count > 0; count-- {
		n, size := header(p, '$')
		switch {
		case size < 0:
			return c, false
		case size == 0:
			c.frame(len(p), "bulk header", "the beginning of an argument's length")
			return c, true
		}
		c.frame(size, "bulk header", "a bulk string of "+units.Count(n, "byte"))
		p = p[size:]
		n = min(n, int64(len(p)))
		c.argument(p[:n])
		if p = p[n:]; !bytes.HasPrefix(p, []byte("\r\n")) {
			c.frame(len(p), "CR LF", "ends the bulk string; its second byte has not come")
			return c, bytes.HasPrefix([]byte("\r\n"), p)
		}
		c.frame(2, "CR LF", "ends the bulk string")
		p = p[2:]
	}
	c.complete = true
	return c, true
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
	if letter := p[0] | 0x20; !whole || letter < 'a' || letter > 'z' {
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

// takeCommand makes an item of a command, and returns its name.
func (c *cutter) takeCommand(cmd command, rules []*rule, multi bool) (name string) {
	f := facts{words: shownWords(cmd.args), Multi: multi}
	if c.offsets {
		f.At = c.offset + c.pos
	}
	r, _ := find(rules, "", f.line())
	c.begin(r, f.line(), f)
	if !cmd.complete {
		c.items[len(c.items)-1].Title += " (its end has not come)"
	}
	for _, p := range cmd.pieces {
		if p.arg >= 0 {
			said, ok := r.part(p.arg)
			switch {
			case ok:
			case p.arg == 0:
				said = c.Command
			default:
				said = c.Argument
			}
			f.Index = p.arg
			p.name, p.text = said[0], fill(said[1], f)
		}
		c.part(int64(p.n), p.name, p.text)
	}
	return commandName(f.words)
}

// cutSent takes apart what the replica sent, and gives the commands too.
func cutSent(f flow, b *book) (items []Item, commands []command) {
	c := cutter{flow: f, book: b}
	for len(c.flow) > 0 {
		cmd, ok := cutCommand(c.kept())
		if !ok {
			c.unknown(c.size(), "no command begins here")
			break
		}
		c.takeCommand(cmd, b.Sent, false)
		commands = append(commands, cmd)
	}
	return c.items, commands
}
