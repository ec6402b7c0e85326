package restore

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"

	"replicad/replica/resp"
)

// span is a part of a file.
type span struct{ from, to int64 }

func (s span) size() int64 { return s.to - s.from }

// command is a well-formed command of a file, by its arguments.
type command struct {
	file  *os.File
	have  []byte // of the file, from place on
	place int64

	whole span
	argc  int64
	args  []span // the first mostArguments of them, with $length before and CR LF behind
}

// mostArguments are kept. No command that is edited has more, but for those with
// ranges of slots.
const mostArguments = 64

// parse finds where the arguments lie.
func (c *command) parse(whole span) error {
	c.whole, c.args = whole, c.args[:0]
	return c.arguments(func(_ int64, at span) bool {
		c.args = append(c.args, at)
		return len(c.args) < mostArguments
	})
}

// arguments calls each with the number and the place of the arguments, until it
// returns false.
func (c *command) arguments(each func(i int64, at span) bool) error {
	n, from, err := c.header(c.whole.from)
	if err != nil {
		return err
	}
	c.argc = n
	for i := range n {
		length, behind, err := c.header(from)
		if err != nil {
			return err
		}
		at := span{from, behind + length + 2}
		if at.to > c.whole.to {
			return io.ErrUnexpectedEOF
		}
		if !each(i, at) {
			break
		}
		from = at.to
	}
	return nil
}

// header reads the line of an array or of an argument: its number, and the
// place behind the line.
func (c *command) header(at int64) (n, behind int64, err error) {
	p, err := c.bytes(at, 32)
	i := bytes.IndexByte(p, '\n')
	if err != nil || i < 2 {
		return 0, 0, errors.Join(err, io.ErrUnexpectedEOF)
	}
	n, ok := resp.ParseInteger(p[1 : i-1])
	if !ok {
		return 0, 0, io.ErrUnexpectedEOF
	}
	return n, at + int64(i) + 1, nil
}

// bytes gives up to n bytes of the file, which are good until the next call.
func (c *command) bytes(at, n int64) ([]byte, error) {
	if at < c.place || at+n > c.place+int64(len(c.have)) {
		if cap(c.have) == 0 {
			c.have = make([]byte, 64<<10)
		}
		k, err := c.file.ReadAt(c.have[:cap(c.have)], at)
		if c.have, c.place = c.have[:k], at; err != nil && err != io.EOF {
			return nil, err
		}
	}
	p := c.have[at-c.place:]
	return p[:min(n, int64(len(p)))], nil
}

// behind is the part of the command from an argument on.
func (c *command) behind(i int) span {
	if i >= len(c.args) {
		return span{}
	}
	return span{c.args[i].from, c.whole.to}
}

// text is an argument of at most 64 bytes; "" where it is longer, or there is
// none.
func (c *command) text(i int) string {
	if i >= len(c.args) {
		return ""
	}
	return c.textAt(c.args[i])
}

// textAt is the argument at a place, as text gives it.
func (c *command) textAt(at span) string {
	if at.size() > 72 {
		return ""
	}
	p, err := c.bytes(at.from, at.size())
	_, s, ok := strings.Cut(string(p), "\r\n")
	if err != nil || !ok {
		return ""
	}
	return strings.TrimSuffix(s, "\r\n")
}

func (c *command) number(i int) (int64, bool) { return resp.ParseInteger([]byte(c.text(i))) }
