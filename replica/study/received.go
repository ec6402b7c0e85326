package study

import (
	"bytes"
	"strings"
)

// history is what is known of the stream from one connection to the next.
type history struct {
	next  int64  // the offset of the byte that comes next; 0 if it is not known
	carry []byte // the beginning of a command whose end has not come
	multi bool
}

// received takes apart what the master sent on one connection.
type received struct {
	cutter
	*history
	asked   []words // commands whose replies have not come
	payload bool    // FULLRESYNC was answered
	stream  bool    // the stream has begun
	refused bool    // AUTH was answered by an error
}

// cut takes apart what the master sent in answer to commands.
func (c *received) cut(commands []words) {
	for _, w := range commands {
		if commandName(w) != "REPLCONF ACK" {
			c.asked = append(c.asked, w)
		}
	}
	for len(c.spans) > 0 && !c.stream {
		c.reply()
	}
	if c.stream {
		c.cutStream()
	}
}

// reply takes the next line: a reply, a keep-alive, or what comes before a
// payload.
func (c *received) reply() {
	line, end, whole := cutLine(c.kept())
	if !whole {
		n, _ := c.run()
		c.thing("unknown", n, "a line that has no end")
		return
	}
	var asked words
	if len(c.asked) > 0 {
		asked = c.asked[0]
	}
	to := commandName(asked)
	if c.payload || to == "SYNC" && bytes.HasPrefix(line, []byte("$")) {
		to = "payload"
	} else if len(line) > 0 && len(c.asked) > 0 {
		c.asked = c.asked[1:]
	}
	r, groups := find(c.Replies, to, string(line))
	f := facts{words: groups, To: to, Asked: asked, Error: c.errorMeaning(string(line))}
	if to == "payload" {
		f.To = "PSYNC"
	}
	failed := bytes.HasPrefix(line, []byte("-"))
	if c.refused && failed {
		behind := *r
		behind.Text = c.Things["behind-refusal"].Text
		r = &behind
	}
	c.refused = c.refused || failed && to == "AUTH"
	c.begin(r, shownWords([][]byte{line}).line(), f)
	n := 0
	for _, group := range groups[1:] {
		c.part(int64(len(group)), r.Parts[n][0], c.fill(r.Parts[n][1], f))
		n++
	}
	c.part(int64(end), r.Parts[n][0], r.Parts[n][1])
	c.follow(r.Key, to, f)
}

// commandName names a command as the texts about its reply do: REPLCONF with its
// option.
func commandName(asked words) string {
	name := strings.ToUpper(asked.Word(0))
	switch name {
	case "":
		return "an unknown command"
	case "REPLCONF":
		return name + " " + asked.Word(1)
	}
	return name
}

// follow does what a reply leads to.
func (c *received) follow(key, to string, f facts) {
	switch key {
	case "full-resync":
		if offset := f.Word(6); offset != "" {
			c.next, c.carry, c.multi = number(offset)+1, nil, false
		}
		c.payload = true
	case "continue":
		if n := number(f.Asked.Word(2)); n > 0 {
			c.resumeAt(n)
		}
		c.stream = true
	case "length":
		c.takePayload(number(f.Word(2)), nil)
	case "eof":
		c.takePayload(-1, []byte(f.Word(2)))
	case "rdb-channel-sync":
		c.next, c.carry, c.multi, c.stream = 0, nil, false, true
	case "info-length":
		if n := min(number(f.Word(2))+2, c.size()); n > 0 {
			c.thing("info", n, n)
		}
	case "newline":
	default:
		if to == "payload" {
			c.payload = false
		}
	}
}

// resumeAt continues the history at an offset. What the stream before had beyond
// that offset comes again.
func (c *received) resumeAt(offset int64) {
	old := int64(len(c.carry)) - (c.next - offset)
	if c.next == 0 || old < 0 || old > int64(len(c.carry)) {
		old = 0
	}
	c.carry = c.carry[:old]
	c.next = offset
}

// takePayload takes the RDB, and its mark if there is one.
func (c *received) takePayload(size int64, mark []byte) {
	whole := size <= c.size()
	if mark != nil {
		size = c.find(mark)
		whole = size >= 0
	}
	if !whole {
		size = c.size()
	}
	if size > 0 {
		c.takeRDB(size, whole)
	}
	c.asked = nil
	if !whole {
		c.next, c.carry = 0, nil
		return
	}
	if mark != nil {
		c.thing("mark", int64(len(mark)), nil)
	}
	c.payload, c.stream = false, true
}

// cutStream takes the rest apart, which is the stream. A command that an earlier
// connection began is read from its beginning on.
func (c *received) cutStream() {
	if len(c.spans) == 0 {
		return
	}
	c.offsets, c.offset = c.next > 0, c.next-c.pos
	if n := int64(len(c.carry)); n > 0 {
		c.pos -= n
		c.data = append(c.carry, c.data...)
		c.spans = append([]span{{before, n, false}}, c.spans...)
		c.carry = nil
	}
	for len(c.spans) > 0 {
		kept := c.kept()
		cmd, ok := cutCommand(kept)
		if !ok || cmd.inline {
			c.skip()
			continue
		}
		if !cmd.complete && int64(len(kept)) == c.size() {
			c.carry = bytes.Clone(kept)
		}
		switch commandName(c.takeCommand(cmd, c.Stream, c.multi)) {
		case "MULTI":
			c.multi = true
		case "EXEC":
			c.multi = false
		}
	}
	if c.offsets {
		c.next = c.offset + c.pos
	}
}

// skip passes over a gap, or over bytes until a command begins again.
func (c *received) skip() {
	n, _ := c.run()
	p := c.kept()
	if i := bytes.Index(p[min(len(p), 1):], []byte("\n*")); i >= 0 {
		n = int64(i) + 2
	}
	c.thing("not-cut", n, nil)
}
