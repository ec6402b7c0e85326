package study

import (
	"bytes"
	"fmt"
	"replicad/replica/units"
	"strconv"
	"strings"
)

// Item is a unit of the protocol: a command, a reply, a keep-alive, the framing of
// a payload, the payload. The parts of one that came in several messages are in
// an Item of each.
type Item struct {
	Title string
	Text  string // what it means
	Key   Key    // of the places in the sources, and of the versions
	// First and Last are the replication offsets of its bytes; Last is 0
	// where they have none.
	First, Last int64
	Parts       []Part
	Continued   bool // its first bytes came in an earlier message
	Continues   bool // more of it comes in a later one
}

// Part is a piece of an item, explained. The parts of a message are all of its
// bytes, each in one part.
type Part struct {
	Name  string
	Text  string
	Bytes int64
	Data  []byte // the bytes; none of what was not kept
	// Offset is the replication offset of its first byte; 0 for none.
	Offset int64

	at int64 // in its flow
}

// cutter takes a flow apart, from pos on.
type cutter struct {
	f     *flow
	pos   int64
	items []Item
	// offset of the byte at position 0, where bytes have offsets.
	offset  int64
	offsets bool
}

// begin begins an item.
func (c *cutter) begin(title, text string, key Key) *Item {
	c.items = append(c.items, Item{Title: title, Text: text, Key: key})
	return &c.items[len(c.items)-1]
}

// part gives the next n bytes to the item that was begun last. Where a gap begins
// or ends among them they become several parts.
func (c *cutter) part(n int64, name, text string) {
	item := &c.items[len(c.items)-1]
	for end := min(c.pos+n, c.f.size); c.pos < end; {
		to := min(c.f.border(c.pos), end)
		p := Part{Name: name, Text: text, Bytes: to - c.pos, at: c.pos}
		if kept := c.f.from(c.pos); len(kept) > 0 {
			p.Data = kept[:p.Bytes:p.Bytes]
		} else {
			p.Name, p.Text = "left out", fmt.Sprintf("%d bytes that were counted and not kept (%s)", p.Bytes, name)
		}
		if c.offsets {
			p.Offset = c.offset + c.pos
			if item.First == 0 {
				item.First = p.Offset
			}
			item.Last = p.Offset + p.Bytes - 1
		}
		item.Parts = append(item.Parts, p)
		c.pos = to
	}
}

func (c *cutter) left() int64 { return c.f.size - c.pos }

// line gives the next line without its end, and how long the end is: CR LF, or
// a bare LF. whole is false where there is no end of it.
func (c *cutter) line() (text []byte, end int64, whole bool) {
	p := c.f.from(c.pos)
	i := bytes.IndexByte(p, '\n')
	if i < 0 {
		return p, 0, false
	}
	if i > 0 && p[i-1] == '\r' {
		return p[:i-1], 2, true
	}
	return p[:i], 1, true
}

// unknown gives n bytes to an item of their own.
func (c *cutter) unknown(n int64, text string) {
	c.begin("bytes that are no part of the protocol", text, keyNone)
	c.part(n, "unexplained", text)
}

// command is one that was found in a flow.
type command struct {
	at, end  int64
	inline   bool
	complete bool
	args     [][]byte // as far as they were kept
	pieces   []piece
}

// piece is a part of a command before it is known what it means. arg is its
// argument, from 0 on; -1 for none.
type piece struct {
	n          int64
	name, text string
	arg        int
}

// findCommand reads the command at pos, or its beginning where no more came. false
// where there is none.
func (c *cutter) findCommand() (command, bool) {
	p := c.f.from(c.pos)
	cmd := command{at: c.pos}
	switch {
	case len(p) == 0:
		return cmd, false
	case p[0] == '*':
		ok := c.findArray(&cmd)
		return cmd, ok
	case p[0] >= 'A' && p[0] <= 'Z' || p[0] >= 'a' && p[0] <= 'z':
		return c.findInline(cmd)
	}
	return cmd, false
}

func (c *cutter) findInline(cmd command) (command, bool) {
	text, end, whole := c.line()
	if !whole {
		return cmd, false
	}
	cmd.inline, cmd.complete = true, true
	cmd.end = c.pos + int64(len(text)) + end
	for len(text) > 0 {
		n := bytes.IndexByte(text, ' ')
		if n < 0 {
			n = len(text)
		}
		if n > 0 {
			cmd.pieces = append(cmd.pieces, piece{int64(n), "argument", "", len(cmd.args)})
			cmd.args = append(cmd.args, text[:n])
		}
		text = text[n:]
		if len(text) > 0 {
			cmd.pieces = append(cmd.pieces, piece{1, "space", "separates the words of an inline command", -1})
			text = text[1:]
		}
	}
	if len(cmd.args) == 0 {
		return cmd, false
	}
	cmd.pieces = append(cmd.pieces, piece{end, "line end", "ends the inline command, the form that replicas used up to Redis 4.0", -1})
	return cmd, true
}

// header reads *<n> or $<n>. state tells a broken one from one that is not whole.
func (c *cutter) header(at int64, mark byte) (n, size int64, state headerState) {
	p := c.f.from(at)
	switch {
	case at >= c.f.size:
		return 0, 0, headerCut
	case len(p) == 0 || p[0] != mark:
		return 0, 0, headerBroken
	}
	i := bytes.IndexByte(p, '\n')
	if i < 0 {
		if len(p) > 24 || at+int64(len(p)) < c.f.size {
			return 0, 0, headerBroken
		}
		return 0, int64(len(p)), headerCut
	}
	n, err := strconv.ParseInt(strings.TrimSuffix(string(p[1:i]), "\r"), 10, 64)
	if err != nil || n < 0 || n > 1<<40 || i < 2 || p[i-1] != '\r' {
		return 0, 0, headerBroken
	}
	return n, int64(i) + 1, headerWhole
}

type headerState uint8

const (
	headerWhole headerState = iota
	headerCut
	headerBroken
)

func (c *cutter) findArray(cmd *command) bool {
	count, size, state := c.header(c.pos, '*')
	if state == headerBroken || state == headerWhole && count < 1 {
		return false
	}
	if state == headerCut {
		cmd.pieces, cmd.end = []piece{{size, "array header", "the beginning of a command, the rest of which has not come", -1}}, c.f.size
		return true
	}
	cmd.pieces = append(cmd.pieces, piece{size, "array header", "a RESP array: a command of " + units.Count(count, "argument") + ", its name included", -1})
	at := c.pos + size
	for i := range count {
		n, size, state := c.header(at, '$')
		if state == headerBroken {
			return false
		}
		if state == headerCut {
			if size > 0 {
				cmd.pieces = append(cmd.pieces, piece{size, "bulk header", "the beginning of an argument's length", -1})
			}
			cmd.end = c.f.size
			return true
		}
		cmd.pieces = append(cmd.pieces, piece{size, "bulk header", "a bulk string of " + units.Count(n, "byte"), -1})
		at += size
		kept := c.f.from(at)
		cmd.args = append(cmd.args, kept[:min(int64(len(kept)), n)])
		if n > 0 {
			cmd.pieces = append(cmd.pieces, piece{min(n, c.f.size-at), "argument", "", int(i)})
		}
		at += n
		if at+2 > c.f.size {
			if at < c.f.size {
				cmd.pieces = append(cmd.pieces, piece{1, "CR LF", "ends the bulk string; its second byte has not come", -1})
			}
			cmd.end = c.f.size
			return true
		}
		if p := c.f.from(at); len(p) >= 2 && !bytes.HasPrefix(p, []byte("\r\n")) {
			return false
		}
		cmd.pieces = append(cmd.pieces, piece{2, "CR LF", "ends the bulk string", -1})
		at += 2
	}
	cmd.end, cmd.complete = at, true
	return true
}

// take makes an item of a command, with what each argument means.
func (c *cutter) take(cmd command, m meaning) {
	title := m.title
	if !cmd.complete {
		title += " (its end has not come)"
	}
	c.begin(title, m.text, m.key)
	for _, p := range cmd.pieces {
		if p.arg >= 0 {
			p.name, p.text = m.argument(p.arg)
		}
		c.part(p.n, p.name, p.text)
	}
}

// cutSent takes apart what the replica sent.
func cutSent(f *flow) (items []Item, commands []command) {
	c := &cutter{f: f}
	for c.left() > 0 {
		cmd, ok := c.findCommand()
		if !ok {
			c.unknown(c.left(), "no command begins here")
			break
		}
		c.take(cmd, meaningOfSent(cmd.args))
		commands = append(commands, cmd)
	}
	return c.items, commands
}

// history is what is known of the stream from one connection to the next.
type history struct {
	next  int64  // the offset of the byte that comes next; 0 when unknown
	carry []byte // the beginning of the command that the stream has not ended
	multi bool
}

// cutReceived takes apart what the master sent in answer to commands.
func cutReceived(f *flow, commands []command, h *history) []Item {
	c := &receivedCutter{cutter: cutter{f: f}, history: h}
	for _, cmd := range commands {
		if !isAck(cmd.args) {
			c.asked = append(c.asked, cmd.args)
		}
	}
	for c.left() > 0 && !c.stream {
		c.reply()
	}
	if c.stream && c.left() > 0 {
		c.cutStream()
	}
	return c.items
}

type receivedCutter struct {
	cutter
	*history
	asked   [][][]byte // commands whose replies have not come
	payload bool       // FULLRESYNC was answered
	stream  bool
}

// reply takes the next line: a reply, a keep-alive, or what comes before a payload.
func (c *receivedCutter) reply() {
	text, end, whole := c.line()
	if !whole {
		n := int64(len(text))
		if n == 0 {
			n = c.f.border(c.pos) - c.pos
		}
		c.unknown(n, "a line that has no end")
		return
	}
	if len(text) == 0 {
		c.begin("keep-alive", "The master has no answer yet, or still saves its dataset: a bare newline tells the replica that it lives, so that repl-timeout does not pass.", keyNewline)
		c.part(end, "newline", "a keep-alive; it counts for nothing else, and has no offset")
		return
	}
	var asked [][]byte
	if len(c.asked) > 0 {
		asked = c.asked[0]
	}
	verb := upper(asked, 0)
	if c.payload || verb == "SYNC" && text[0] == '$' {
		c.preamble(string(text), end)
		return
	}
	if len(c.asked) > 0 {
		c.asked = c.asked[1:]
	}
	word, rest, _ := strings.Cut(string(text), " ")
	switch {
	case word == "+FULLRESYNC" && rest != "" && verb == "PSYNC":
		c.fullResync(rest, end)
	case word == "+CONTINUE" && verb == "PSYNC":
		c.continues(rest, end, asked)
	default:
		c.simple(string(text), end, asked)
	}
}

// simple takes a reply of one line that leads to nothing but the next step.
func (c *receivedCutter) simple(text string, end int64, asked [][]byte) {
	m := meaningOfReply(text, asked)
	c.begin(m.title, m.text, m.key)
	word, rest, spaced := strings.Cut(text[1:], " ")
	switch text[0] {
	case '+':
		c.part(1, "type", "a simple string follows: the command was accepted")
		c.part(int64(len(text)-1), "text", m.detail)
	case '-':
		c.part(1, "type", "an error follows")
		c.part(int64(len(word)), "error code", m.detail)
		if spaced {
			c.part(1, "space", "between the code and its text")
			c.part(int64(len(rest)), "error text", "for people; it differs from version to version")
		}
	default:
		c.part(int64(len(text)), "text", m.detail)
	}
	c.part(end, "line end", "ends the reply")
}

func (c *receivedCutter) fullResync(rest string, end int64) {
	id, offset, _ := strings.Cut(rest, " ")
	n, err := strconv.ParseInt(strings.TrimSpace(offset), 10, 64)
	text := "The master begins a full sync: it saves its dataset as it is at this offset."
	known := err == nil && n >= 0
	if known {
		c.next, c.carry, c.multi = n+1, nil, false
		text = fmt.Sprintf("The master begins a full sync. The RDB will hold everything up to offset %d; the first byte of the stream behind it has offset %d.", n, n+1)
	}
	c.begin("full sync at offset "+offset, text, keyFullResync)
	c.part(1, "type", "a simple string follows")
	c.part(int64(len("FULLRESYNC")), "answer", "no partial resync: the whole dataset comes first")
	c.part(1, "space", "separates the words")
	c.part(int64(len(id)), "replication id", "names the master's history; PSYNC asks for it after a cut")
	if strings.Contains(rest, " ") {
		c.part(1, "space", "separates the words")
		c.part(int64(len(offset)), "offset", "the replication offset that the RDB stands for")
	}
	c.part(end, "line end", "ends the reply")
	c.payload = true
}

func (c *receivedCutter) continues(rest string, end int64, asked [][]byte) {
	text := "The master has the asked offset in its backlog: the next byte is exactly the one that was asked for, in the middle of a command or not."
	if len(asked) > 2 {
		if n, err := strconv.ParseInt(string(asked[2]), 10, 64); err == nil && n > 0 {
			c.resumeAt(n)
			text = fmt.Sprintf("The master has offset %d in its backlog: the next byte is exactly that one, in the middle of a command or not.", n)
		}
	}
	c.begin("partial resync", text, keyContinue)
	c.part(1, "type", "a simple string follows")
	c.part(int64(len("CONTINUE")), "answer", "a partial resync: only what was missed comes")
	if c.f.from(c.pos)[0] == ' ' {
		c.part(1, "space", "separates the words")
		if rest != "" {
			c.part(int64(len(rest)), "replication id", "the history goes on under this id (PSYNC2, Redis 4.0 and later); after a failover it is a new one")
		}
	}
	c.part(end, "line end", "ends the reply")
	c.stream = true
}

// resumeAt goes on at an offset: what the stream before had beyond it comes again.
func (c *receivedCutter) resumeAt(offset int64) {
	again := c.next - offset
	switch {
	case c.next == 0 || again < 0 || again > int64(len(c.carry)):
		c.carry = nil
	default:
		c.carry = c.carry[:int64(len(c.carry))-again]
	}
	c.next = offset
}

// preamble takes the line before a payload, and the payload.
func (c *receivedCutter) preamble(text string, end int64) {
	mark, marked := strings.CutPrefix(text, "$EOF:")
	n, err := strconv.ParseInt(strings.TrimPrefix(text, "$"), 10, 64)
	switch {
	case marked && len(mark) > 0:
		c.begin("a payload that a mark ends", "A diskless master doesn't know how long the RDB will be. It names 40 random bytes; where they come again the payload ends. (repl-diskless-sync, capa eof)", keyEOF)
		c.part(int64(len("$EOF:")), "framing", "no length: the payload ends with the mark")
		c.part(int64(len(mark)), "mark", "random, so that no dataset holds it")
		c.part(end, "line end", "the RDB begins with the next byte")
		c.takePayload(-1, mark)
	case text[0] == '$' && err == nil && n >= 0:
		c.begin("a payload of "+units.Count(n, "byte"), "The master has saved its dataset to a file and sends that: so many bytes follow.", keyLength)
		c.part(1, "type", "a bulk string follows, but without CR LF behind it")
		c.part(int64(len(text)-1), "length", "the bytes of the RDB")
		c.part(end, "line end", "the RDB begins with the next byte")
		c.takePayload(n, "")
	default:
		c.simple(text, end, [][]byte{[]byte("PSYNC")})
		c.payload = false
	}
}

// takePayload takes the RDB, and its mark.
func (c *receivedCutter) takePayload(size int64, mark string) {
	at := c.pos
	end, whole := c.f.size, false
	if mark == "" {
		if at+size <= c.f.size {
			end, whole = at+size, true
		}
	} else if i := c.findMark(mark); i >= 0 {
		end, whole = i, true
	}
	if end > at {
		cutRDB(&c.cutter, end, whole)
	}
	c.asked = nil
	if !whole {
		c.next, c.carry = 0, nil
		return
	}
	if mark != "" {
		c.begin("the mark", "The payload is complete. The replica acknowledges at once: a diskless master begins its stream only then.", keyMark)
		c.part(int64(len(mark)), "mark", "the 40 bytes that were named before the payload; no part of the RDB")
	}
	c.payload, c.stream = false, true
}

// findMark gives where the payload's mark is; -1 where it has not come.
func (c *cutter) findMark(mark string) int64 {
	for at := c.pos; at < c.f.size; at = c.f.border(at) {
		if i := bytes.Index(c.f.from(at), []byte(mark)); i >= 0 {
			return at + int64(i)
		}
	}
	return -1
}

// cutStream takes the stream apart, up to the end of what was received. A command
// that an earlier connection began is read from its beginning on.
func (c *receivedCutter) cutStream() {
	begun := int64(len(c.carry))
	s := cutter{f: c.f.rest(c.carry, c.pos)}
	if c.next > 0 {
		s.offsets, s.offset = true, c.next-begun
	}
	c.carry = nil
	for s.left() > 0 {
		cmd, ok := s.findCommand()
		if !ok || cmd.inline {
			s.resync()
			continue
		}
		s.take(cmd, meaningOfStream(cmd.args, s.offset+s.pos, s.offsets, &c.multi))
		if !cmd.complete {
			if p := s.f.from(cmd.at); cmd.at+int64(len(p)) == s.f.size {
				c.carry = bytes.Clone(p)
			}
		}
	}
	if c.next > 0 {
		c.next += s.f.size - begun
	}
	for _, item := range s.items {
		item.shift(begun, c.pos-begun)
		if len(item.Parts) > 0 {
			c.items = append(c.items, item)
		}
	}
	c.pos = c.f.size
}

// shift drops the parts before a position and moves the others.
func (i *Item) shift(from, by int64) {
	var parts []Part
	for _, p := range i.Parts {
		if end := p.at + p.Bytes; end <= from {
			i.Continued = true
			continue
		}
		if p.at < from {
			p = p.after(from - p.at)
			i.Continued = true
		}
		p.at += by
		parts = append(parts, p)
	}
	i.Parts = parts
}

// after is a part without its first n bytes.
func (p Part) after(n int64) Part {
	p.at += n
	p.Bytes -= n
	p.Data = p.Data[min(n, int64(len(p.Data))):]
	if p.Offset > 0 {
		p.Offset += n
	}
	if !strings.HasSuffix(p.Name, continued) {
		p.Name += continued
	}
	return p
}

const continued = " (continued)"

// resync passes over bytes until a command begins again.
func (c *cutter) resync() {
	at := c.pos
	for at < c.f.size {
		p := c.f.from(at)
		if len(p) == 0 {
			at = c.f.border(at)
			continue
		}
		from := 0
		if at == c.pos {
			from = 1
		}
		i := bytes.Index(p[min(from, len(p)):], []byte("\n*"))
		if i < 0 {
			at += int64(len(p))
			continue
		}
		at += int64(i + from + 1)
		break
	}
	n := min(at, c.f.size) - c.pos
	text := "part of a command whose beginning is not known"
	if len(c.f.from(c.pos)) == 0 {
		text = "more of the stream"
	}
	c.begin("stream, not taken apart", "More of the stream than is kept: it was counted, stored and acknowledged like the rest.", keyStream)
	c.part(n, "stream", text)
}
