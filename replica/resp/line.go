package resp

import (
	"bytes"
	"cmp"
	"errors"
)

// DefaultMaxLine is the longest line, in bytes without its CR LF, that a
// [LineReader] takes when its Max is not set.
const DefaultMaxLine = 64 << 10

// ErrLineTooLong is what [LineReader.Read] returns when more than Max bytes came
// without a newline.
var ErrLineTooLong = errors.New("resp: line too long")

// LineReader finds lines in bytes that arrive in pieces of any size, down to one
// byte at a time. The zero value is ready for use. It copies only lines that
// straddle two pieces, and holds at most Max+2 bytes.
type LineReader struct {
	// Max is the longest line in bytes, not counting CR LF; 0 means
	// DefaultMaxLine.
	Max int

	held   []byte // the part of a line that came with earlier pieces
	handed bool   // held was returned as a line, and is free again
	failed bool
}

// Read takes bytes from p up to and including the first newline, and returns how
// many it took. While the line is incomplete it takes all of p and line is nil.
// Once complete, line is not nil, though perhaps empty (a master's bare newline,
// which keeps the connection alive while it saves), and is without its newline
// and the carriage return before that, as syncReadLine in Redis' syncio.c has it.
// The line may lie in p or in the reader's own memory: it is valid until the
// next call, and only for as long as p is left alone.
//
// The error is nil or [ErrLineTooLong], and is final. It does not depend on how
// the bytes were cut, but n, in that case, does.
func (r *LineReader) Read(p []byte) (line []byte, n int, err error) {
	if r.handed {
		r.held, r.handed = r.held[:0], false
	}
	if r.failed {
		return nil, 0, ErrLineTooLong
	}
	max := cmp.Or(r.Max, DefaultMaxLine)
	// A line of max bytes may be followed by CR LF; what lies behind that
	// need not be searched.
	room := max - len(r.held)
	window := p
	if len(window)-2 > room {
		window = p[:room+2]
	}
	end := bytes.IndexByte(window, '\n')
	if end < 0 {
		over := len(window) - room
		if over > 1 || over == 1 && p[len(window)-1] != '\r' {
			r.failed = true
			return nil, len(window), ErrLineTooLong
		}
		r.held = append(r.held, window...)
		return nil, len(window), nil
	}
	line = p[:end]
	if len(r.held) > 0 {
		r.held = append(r.held, line...)
		r.handed = true
		line = r.held
	}
	if last := len(line) - 1; last >= 0 && line[last] == '\r' {
		line = line[:last]
	}
	if len(line) > max {
		r.failed = true
		return nil, end + 1, ErrLineTooLong
	}
	return line, end + 1, nil
}
