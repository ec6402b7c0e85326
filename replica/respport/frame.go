package respport

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// Limits of a request; the first ones are Redis' own (server.h, networking.c).
const (
	maxInline     = 64 << 10  // PROTO_INLINE_MAX_SIZE: of a line
	maxArgs       = 64 << 10  // of a command: no command that is served needs as many
	maxArgsNoAuth = 10        // before AUTH
	maxBulkNoAuth = 16 << 10  // before AUTH
	maxBulk       = 512 << 20 // proto-max-bulk-len
)

// errProtocol is a request that is none: what the client is told before it is
// cut.
type errProtocol string

func (e errProtocol) Error() string { return "Protocol error: " + string(e) }

var errTooLarge = errors.New("the command is longer than client-query-buffer-limit")

// framer finds where a command ends. It looks at each byte once, however they
// come, and keeps nothing of them.
type framer struct {
	limit  int
	at     int  // bytes of the command that are understood
	seen   int  // bytes in which no end of the line was found
	left   int  // arguments that are to come
	args   int  // of the command
	inline bool // it is a line, not an array
}

// next looks for the end of the command that b begins with. It gives its length
// when all of it is there, and 0 when more must come; b must then be the same
// bytes and more the next time.
func (f *framer) next(b []byte, authed bool) (int, error) {
	if f.at == 0 {
		f.args, f.left = 0, 0
		if f.inline = len(b) > 0 && b[0] != '*'; f.inline {
			return f.line(b)
		}
		n, ok, err := f.number(b, '*', "mbulk count", "multibulk length")
		if !ok || err != nil {
			return 0, err
		}
		switch {
		case n > maxArgs:
			return 0, errProtocol("invalid multibulk length")
		case n > maxArgsNoAuth && !authed:
			return 0, errProtocol("unauthenticated multibulk length")
		}
		f.left = max(0, int(n))
		f.args = f.left
	}
	for f.left > 0 {
		ok, err := f.argument(b, authed)
		if !ok || err != nil {
			return 0, err
		}
		f.left--
	}
	n := f.at
	f.at, f.seen = 0, 0
	return n, nil
}

// line is a command as a person types it.
func (f *framer) line(b []byte) (int, error) {
	i := bytes.IndexByte(b[f.seen:], '\n')
	if i < 0 {
		if f.seen = len(b); f.seen > min(maxInline, f.limit) {
			return 0, errProtocol("too big inline request")
		}
		return 0, nil
	}
	n := f.seen + i + 1
	f.seen = 0
	return n, nil
}

// argument passes $<length>\r\n and as many bytes; ok when all are there.
func (f *framer) argument(b []byte, authed bool) (ok bool, err error) {
	began, seen := f.at, f.seen
	n, ok, err := f.number(b, '$', "bulk count", "bulk length")
	if !ok || err != nil {
		return false, err
	}
	switch {
	case n < 0 || n > maxBulk:
		return false, errProtocol("invalid bulk length")
	case n > maxBulkNoAuth && !authed:
		return false, errProtocol("unauthenticated bulk length")
	}
	end := f.at + int(n)
	if end+2 > f.limit {
		return false, errTooLarge
	}
	if end+2 > len(b) {
		f.at, f.seen = began, seen
		return false, nil
	}
	if b[end] != '\r' || b[end+1] != '\n' {
		return false, errProtocol("invalid bulk length")
	}
	f.at = end + 2
	return true, nil
}

// number passes <mark><number>\r\n at f.at; ok when all of it is there.
func (f *framer) number(b []byte, mark byte, tooBig, invalid string) (n int64, ok bool, err error) {
	if f.at >= len(b) {
		return 0, false, nil
	}
	if b[f.at] != mark {
		return 0, false, errProtocol(fmt.Sprintf("expected '%c', got '%c'", mark, printable(b[f.at])))
	}
	from := max(f.at, f.seen)
	i := bytes.IndexByte(b[from:], '\n')
	if i < 0 {
		if f.seen = len(b); f.seen-f.at > maxInline {
			return 0, false, errProtocol("too big " + tooBig + " string")
		}
		if f.seen >= f.limit {
			return 0, false, errTooLarge
		}
		return 0, false, nil
	}
	line := b[f.at+1 : from+i]
	if len(line) == 0 || line[len(line)-1] != '\r' {
		return 0, false, errProtocol("invalid " + invalid)
	}
	if n, ok = integer(line[:len(line)-1]); !ok {
		return 0, false, errProtocol("invalid " + invalid)
	}
	f.at = from + i + 1
	f.seen = f.at
	return n, true, nil
}

// integer reads a number as Redis' string2ll does: no sign but -, no zero in
// front.
func integer(b []byte) (int64, bool) {
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil || len(b) > 20 || strconv.FormatInt(n, 10) != string(b) {
		return 0, false
	}
	return n, true
}

func printable(c byte) byte {
	if c < ' ' || c > '~' {
		return '?'
	}
	return c
}

// split cuts a line into arguments, as sdssplitargs does (sds.c): blanks
// between them, "..." with \n \r \t \b \a \xHH, and '...' with \'.
func split(line []byte) ([][]byte, error) {
	var args [][]byte
	for {
		line = bytes.TrimLeft(line, " \t\r\n\v\f\x00")
		if len(line) == 0 {
			return args, nil
		}
		if len(args) == maxArgs {
			return nil, errProtocol("invalid multibulk length")
		}
		arg, rest, ok := argument(line)
		if !ok {
			return nil, errProtocol("unbalanced quotes in request")
		}
		args, line = append(args, arg), rest
	}
}

// argument takes the first argument of a line, which does not begin with a
// blank.
func argument(line []byte) (arg, rest []byte, ok bool) {
	if n := bytes.IndexAny(line, " \t\r\n\v\f\x00\"'"); n < 0 {
		return line, nil, true
	} else if line[n] != '"' && line[n] != '\'' {
		return line[:n], line[n:], true
	}
	arg = []byte{}
	for i := 0; i < len(line); i++ {
		switch c := line[i]; c {
		case ' ', '\t', '\r', '\n', '\v', '\f', 0:
			return arg, line[i:], true
		case '"', '\'':
			n := 0
			if arg, n, ok = quoted(arg, line[i:]); !ok {
				return nil, nil, false
			}
			rest = line[i+n:]
			if len(rest) > 0 && bytes.IndexByte([]byte(" \t\r\n\v\f\x00"), rest[0]) < 0 {
				return nil, nil, false // a closing quote is followed by a blank
			}
			return arg, rest, true
		default:
			arg = append(arg, c)
		}
	}
	return arg, nil, true
}

// quoted appends what stands between quotes; n is the length with them.
func quoted(arg, line []byte) (_ []byte, n int, ok bool) {
	quote := line[0]
	for i := 1; i < len(line); i++ {
		c := line[i]
		switch {
		case c == quote:
			return arg, i + 1, true
		case c != '\\' || i+1 == len(line):
		case quote == '\'':
			if line[i+1] == '\'' {
				i, c = i+1, '\''
			}
		default:
			if b, err := hexByte(line[i+1:]); err == nil {
				i, c = i+3, b
				break
			}
			i++
			c = unescape(line[i])
		}
		arg = append(arg, c)
	}
	return nil, 0, false
}

func hexByte(b []byte) (byte, error) {
	if len(b) < 3 || b[0] != 'x' {
		return 0, strconv.ErrSyntax
	}
	n, err := strconv.ParseUint(string(b[1:3]), 16, 8)
	return byte(n), err
}

func unescape(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'b':
		return '\b'
	case 'a':
		return '\a'
	}
	return c
}
