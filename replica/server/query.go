package server

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Limits of what a client may send, as networking.c has them.
const (
	maxInline          = 64 << 10   // PROTO_INLINE_MAX_SIZE
	maxArgs            = 1024 << 10 // of a multibulk
	maxArgsBeforeAuth  = 10
	maxBytesBeforeAuth = 16 << 10
	argCost            = 64 // bytes that an argument is counted as, beside its own
)

// errProtocol is what errors wrap that are told to the client before it is cut.
var errProtocol = errors.New("Protocol error")

func protocolError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errProtocol, fmt.Sprintf(format, args...))
}

// queries reads commands from a client.
type queries struct {
	r     *bufio.Reader
	limit int // client-query-buffer-limit: bytes of one command
}

func newQueries(r io.Reader, limit int) *queries {
	return &queries{r: bufio.NewReaderSize(r, 16<<10), limit: limit}
}

// next reads one command, inline or multibulk. Empty ones are passed over. An
// error that wraps errProtocol is the client's fault.
func (q *queries) next(authenticated bool) ([][]byte, error) {
	for {
		first, err := q.r.ReadByte()
		if err != nil {
			return nil, err
		}
		var args [][]byte
		if first == '*' {
			args, err = q.multibulk(authenticated)
		} else {
			_ = q.r.UnreadByte()
			args, err = q.inline()
		}
		if err != nil || len(args) > 0 {
			return args, err
		}
	}
}

// buffered says whether more of what the client sent is here already.
func (q *queries) buffered() bool { return q.r.Buffered() > 0 }

// line reads up to a newline; what is in place of it where there is none.
func (q *queries) line(most int, tooLong string) ([]byte, error) {
	var long []byte
	for {
		p, err := q.r.ReadSlice('\n')
		if len(long)+len(p) > most {
			return nil, protocolError("%s", tooLong)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			long = append(long, p...)
			continue
		}
		if err != nil {
			return nil, err
		}
		if long != nil {
			p = append(long, p...)
		}
		p = p[:len(p)-1]
		if n := len(p); n > 0 && p[n-1] == '\r' {
			p = p[:n-1]
		}
		return p, nil
	}
}

func (q *queries) multibulk(authenticated bool) ([][]byte, error) {
	head, err := q.line(maxInline, "too big mbulk count string")
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(string(head))
	switch {
	case err != nil || n > maxArgs:
		return nil, protocolError("invalid multibulk length")
	case n > maxArgsBeforeAuth && !authenticated:
		return nil, protocolError("unauthenticated multibulk length")
	case n <= 0:
		return nil, nil
	}
	left := q.limit
	args := make([][]byte, 0, min(n, 16))
	for range n {
		arg, err := q.bulk(left, authenticated)
		if err != nil {
			return nil, err
		}
		args = append(args, arg)
		left -= len(arg) + argCost
	}
	return args, nil
}

func (q *queries) bulk(left int, authenticated bool) ([]byte, error) {
	head, err := q.line(maxInline, "too big bulk count string")
	if err != nil {
		return nil, err
	}
	if len(head) == 0 || head[0] != '$' {
		got := " "
		if len(head) > 0 {
			got = string(head[:1])
		}
		return nil, protocolError("expected '$', got '%s'", got)
	}
	n, err := strconv.Atoi(string(head[1:]))
	switch {
	case err != nil || n < 0:
		return nil, protocolError("invalid bulk length")
	case n > maxBytesBeforeAuth && !authenticated:
		return nil, protocolError("unauthenticated bulk length")
	case n+argCost > left:
		return nil, protocolError("the query is larger than client-query-buffer-limit")
	}
	arg := make([]byte, n)
	if _, err := io.ReadFull(q.r, arg); err != nil {
		return nil, err
	}
	_, err = q.r.Discard(2) // CR LF, which Redis does not look at either
	return arg, err
}

func (q *queries) inline() ([][]byte, error) {
	line, err := q.line(maxInline, "too big inline request")
	if err != nil {
		return nil, err
	}
	return splitInline(line)
}

// splitInline cuts a line into arguments, as sdssplitargs of Redis' sds.c does:
// double quotes with escapes, single quotes without.
func splitInline(line []byte) ([][]byte, error) {
	var args [][]byte
	for i := 0; ; {
		for i < len(line) && isSpace(line[i]) {
			i++
		}
		if i == len(line) {
			return args, nil
		}
		arg, n, ok := oneInline(line[i:])
		if !ok {
			return nil, protocolError("unbalanced quotes in request")
		}
		args = append(args, arg)
		i += n
	}
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' || c == 0 }

// oneInline reads an argument and returns how long it stands in the line.
func oneInline(p []byte) (arg []byte, n int, ok bool) {
	arg = []byte{}
	quote := byte(0)
	for i := 0; i < len(p); i++ {
		c := p[i]
		switch {
		case quote == 0 && isSpace(c):
			return arg, i, true
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote == 0:
			arg = append(arg, c)
		case c == quote:
			return arg, i + 1, i+1 == len(p) || isSpace(p[i+1])
		case c == '\\' && quote == '\'' && i+1 < len(p) && p[i+1] == '\'':
			i++
			arg = append(arg, '\'')
		case c == '\\' && quote == '"' && i+1 < len(p):
			i++
			if p[i] == 'x' && i+2 < len(p) {
				if b, err := strconv.ParseUint(string(p[i+1:i+3]), 16, 8); err == nil {
					arg = append(arg, byte(b))
					i += 2
					continue
				}
			}
			arg = append(arg, unescape(p[i]))
		default:
			arg = append(arg, c)
		}
	}
	return arg, len(p), quote == 0
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
