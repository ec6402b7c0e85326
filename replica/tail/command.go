package tail

import (
	"bytes"
	"encoding/binary"
)

// Bounds of what is held of one command, so that memory stays constant. Of an
// argument the first bytes are held, and of a command the first arguments.
const (
	mostArgument = 64 << 10
	mostCommand  = 16 << 20
)

// command is one command of the stream.
type command struct {
	start, end int64    // offsets: of the last byte before it, and of its last
	args       [][]byte // that are held
	sizes      []int64  // of each of these, in bytes, in the stream
	argc       int
}

// cut says whether something of the command is not held.
func (c *command) cut() bool {
	if len(c.args) < c.argc {
		return true
	}
	for i, a := range c.args {
		if int64(len(a)) < c.sizes[i] {
			return true
		}
	}
	return false
}

// parse reads the command that p begins with, whose arguments lie in p then, and
// returns its length; 0 where p does not hold all of it. The bytes are
// well-formed as far as they go.
func (c *command) parse(p []byte) int {
	n, i := number(p, 1)
	if i == 0 {
		return 0
	}
	c.args, c.sizes, c.argc = c.args[:0], c.sizes[:0], n
	for range n {
		size, from := number(p, i+1)
		if from == 0 || size > len(p)-from-2 {
			return 0
		}
		c.args, c.sizes = append(c.args, p[from:from+min(size, mostArgument)]), append(c.sizes, int64(size))
		i = from + size + 2
	}
	return i
}

// number reads a number at p[i:] and the CR LF behind it, and returns the place
// behind that; 0 where they are not all there.
func number(p []byte, i int) (n, end int) {
	for ; i < len(p); i++ {
		if p[i] == '\r' {
			if i+1 == len(p) {
				return 0, 0
			}
			return n, i + 2
		}
		n = n*10 + int(p[i]-'0')
	}
	return 0, 0
}

// collector reads one command that comes in pieces, and holds a part of it.
type collector struct {
	line  []byte // of a number
	argc  int    // -1 before it is known
	done  int    // arguments that are complete
	size  int64  // of the argument that is read; -1 before it is known
	rest  int64  // of it, with the CR LF behind
	held  []byte
	ends  []int // of the arguments in held
	sizes []int64
}

// begin begins with a command.
func (c *collector) begin() {
	*c = collector{line: c.line[:0], argc: -1, size: -1, held: c.held[:0], ends: c.ends[:0], sizes: c.sizes[:0]}
	if cap(c.held) > mostCommand/8 {
		c.held, c.ends, c.sizes = nil, nil, nil
	}
}

// feed takes bytes up to the end of the command.
func (c *collector) feed(p []byte) (n int, whole bool) {
	for n < len(p) && !c.whole() {
		if c.size < 0 {
			i := bytes.IndexByte(p[n:], '\n')
			if i < 0 {
				c.line = append(c.line, p[n:]...)
				return len(p), false
			}
			c.line = append(c.line, p[n:n+i+1]...)
			n += i + 1
			value, _ := number(c.line, 1)
			c.line = c.line[:0]
			if c.argc < 0 {
				c.argc = value
			} else {
				c.size, c.rest = int64(value), int64(value)+2
			}
			continue
		}
		part := p[n:min(int64(len(p)), int64(n)+c.rest)]
		n += len(part)
		c.take(part)
		if c.rest -= int64(len(part)); c.rest == 0 {
			if len(c.ends) == c.done && len(c.held)+16*len(c.ends) < mostCommand {
				c.ends, c.sizes = append(c.ends, len(c.held)), append(c.sizes, c.size)
			}
			c.done++
			c.size = -1
		}
	}
	return n, c.whole()
}

// take holds what is to be held of a part of an argument.
func (c *collector) take(part []byte) {
	at := c.size + 2 - c.rest // in the argument
	room := min(c.size, mostArgument) - at
	if room > 0 && len(c.ends) == c.done && len(c.held)+16*len(c.ends) < mostCommand {
		c.held = append(c.held, part[:min(int64(len(part)), room)]...)
	}
}

func (c *collector) whole() bool { return c.argc >= 0 && c.done == c.argc }

// command gives what is held of the command.
func (c *collector) command(to *command) {
	to.args, to.sizes, to.argc = to.args[:0], append(to.sizes[:0], c.sizes...), c.argc
	from := 0
	for _, end := range c.ends {
		to.args = append(to.args, c.held[from:end:end])
		from = end
	}
}

// special says whether a command's name is one of those that touch keys which
// they do not name. It is asked of each command.
func special(name []byte, _ uint64) bool {
	switch len(name) {
	case 4, 5, 6, 7, 8, 10:
	default:
		return false
	}
	switch name[0] | 0x20 {
	case 'f', 's', 'e':
	default:
		return false
	}
	const lower = 0x20202020
	switch x := binary.LittleEndian.Uint32(name) | lower; x {
	case 'f' | 'l'<<8 | 'u'<<16 | 's'<<24, 's' | 'w'<<8 | 'a'<<16 | 'p'<<24, 'e' | 'v'<<8 | 'a'<<16 | 'l'<<24, 'f' | 'c'<<8 | 'a'<<16 | 'l'<<24:
		return true
	}
	return false
}
