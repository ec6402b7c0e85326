package resp

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// DefaultMaxQuery is the longest query, in bytes, that a [QueryReader] takes
// when its MaxQuery is not set: client-query-buffer-limit of redis.conf.
const DefaultMaxQuery = 1 << 30

// Limits of Redis' own (server.h, and processMultibulkBuffer in networking.c),
// but for maxArgs: no command that replicad serves needs as many arguments.
const (
	maxArgs         = 64 << 10 // arguments of a query
	maxInline       = 64 << 10 // PROTO_INLINE_MAX_SIZE: bytes of a line
	maxArgsUnauthed = 10       // arguments of a query before AUTH
	maxBulkUnauthed = 16 << 10 // bytes of an argument before AUTH
	maxArgsKept     = 1 << 10  // arguments whose memory serves the next query, too
)

// QueryError says why bytes are no query. Its text is what Redis tells the
// client before it closes the connection. errors.Is finds [ErrProtocol] in it.
type QueryError string

// Error gives the text behind -ERR.
func (e QueryError) Error() string { return "Protocol error: " + string(e) }

// Unwrap returns [ErrProtocol].
func (e QueryError) Unwrap() error { return ErrProtocol }

// ErrQueryTooLong is what [QueryReader.Next] returns for a query that is, or
// says that it will be, longer than MaxQuery.
var ErrQueryTooLong = errors.New("resp: query too long")

// QueryReader finds the queries that a client sends, and their arguments: arrays
// of bulk strings, and lines as a person types them ("inline commands"). The
// zero value is ready for use.
//
// The caller owns the bytes. The reader looks at each byte once, however the
// bytes are cut, except that bulk strings are not looked at but skipped; and it
// keeps nothing but where the arguments lie. So a hostile header costs no more
// than the bytes that were really sent.
type QueryReader struct {
	// MaxQuery is the longest query in bytes; 0 means DefaultMaxQuery. A line is
	// at most 64 KiB long, whatever MaxQuery is.
	MaxQuery int
	// Unauthenticated says that the client has yet to give its password. Until
	// then Redis takes 10 arguments of 16 KiB. The field may change between two
	// queries.
	Unauthenticated bool

	at      int  // bytes of the query that are understood
	seen    int  // bytes that hold no end of the line that begins at at
	left    int  // arguments that are to come
	length  int  // of the argument at at, if inside
	inside  bool // the length of the argument at at is known
	spans   []span
	args    [][]byte
	failure error
}

// span is where an argument lies in the query.
type span struct{ from, to int }

// Next takes the query that b begins with. n is its length in bytes, or 0 when
// more bytes must come; then the next call must be given the same bytes, in the
// same or other memory, and more. A query without arguments (an empty line, *0)
// is no command: n is more than 0 and args is empty.
//
// The arguments lie in b, or in memory of their own if the query is a line. args
// itself is good until the next call.
//
// The error is nil, a [QueryError] or [ErrQueryTooLong], and is final.
func (r *QueryReader) Next(b []byte) (args [][]byte, n int, err error) {
	switch {
	case r.failure != nil:
	case len(b) == 0:
	case b[0] == '*':
		args, n, r.failure = r.array(b)
	default:
		args, n, r.failure = r.line(b)
	}
	return args, n, r.failure
}

// Held is how many bytes of memory the reader itself occupies.
func (r *QueryReader) Held() int64 {
	const perSpan, perArg = 16, 24
	return int64(perSpan*cap(r.spans) + perArg*cap(r.args))
}

func (r *QueryReader) maxQuery() int { return cmp.Or(r.MaxQuery, DefaultMaxQuery) }

// array reads an array of bulk strings.
func (r *QueryReader) array(b []byte) (args [][]byte, n int, err error) {
	if r.at == 0 {
		r.begin()
		if ok, err := r.count(b); !ok || err != nil {
			return nil, 0, err
		}
	}
	for ; r.left > 0; r.left-- {
		if ok, err := r.argument(b); !ok || err != nil {
			return nil, 0, err
		}
	}
	for _, s := range r.spans {
		r.args = append(r.args, b[s.from:s.to:s.to])
	}
	n, r.at, r.seen = r.at, 0, 0
	return r.args, n, nil
}

// begin forgets the arguments of the query before.
func (r *QueryReader) begin() {
	if cap(r.args) > maxArgsKept || cap(r.spans) > maxArgsKept {
		r.args, r.spans = nil, nil
	}
	r.args, r.spans = r.args[:0], r.spans[:0]
}

// count reads *<arguments>\r\n; ok when all of it is there.
func (r *QueryReader) count(b []byte) (ok bool, err error) {
	n, ok, err := r.number(b, '*', "mbulk count", "multibulk length")
	switch {
	case !ok || err != nil:
		return false, err
	case n > maxArgs:
		return false, QueryError("invalid multibulk length")
	case n > maxArgsUnauthed && r.Unauthenticated:
		return false, QueryError("unauthenticated multibulk length")
	}
	r.left = max(0, int(n))
	return true, nil
}

// argument reads $<length>\r\n and as many bytes; ok when all of them are there.
func (r *QueryReader) argument(b []byte) (ok bool, err error) {
	if !r.inside {
		n, ok, err := r.number(b, '$', "bulk count", "bulk length")
		switch {
		case !ok || err != nil:
			return false, err
		case n < 0 || n > DefaultMaxBulk:
			return false, QueryError("invalid bulk length")
		case n > maxBulkUnauthed && r.Unauthenticated:
			return false, QueryError("unauthenticated bulk length")
		}
		r.length, r.inside = int(n), true
	}
	end := r.at + r.length
	switch {
	case end+2 > r.maxQuery():
		return false, ErrQueryTooLong
	case end+2 > len(b):
		return false, nil
	case b[end] != '\r' || b[end+1] != '\n':
		return false, QueryError("invalid bulk length")
	}
	r.spans = append(r.spans, span{r.at, end})
	r.at, r.seen, r.inside = end+2, end+2, false
	return true, nil
}

// number reads <mark><number>\r\n; ok when all of it is there.
func (r *QueryReader) number(b []byte, mark byte, name, invalid string) (n int64, ok bool, err error) {
	if r.at >= len(b) {
		return 0, false, nil
	}
	if got := b[r.at]; got != mark {
		if got < ' ' || got > '~' {
			got = '?'
		}
		return 0, false, QueryError(fmt.Sprintf("expected '%c', got '%c'", mark, got))
	}
	from := max(r.at, r.seen)
	i := bytes.IndexByte(b[from:], '\n')
	if i < 0 {
		r.seen = len(b)
		switch {
		case r.seen-r.at > maxInline:
			return 0, false, QueryError("too big " + name + " string")
		case r.seen >= r.maxQuery():
			return 0, false, ErrQueryTooLong
		}
		return 0, false, nil
	}
	digits, ended := bytes.CutSuffix(b[r.at+1:from+i], []byte{'\r'})
	if n, ok = ParseInteger(digits); !ok || !ended {
		return 0, false, QueryError("invalid " + invalid)
	}
	r.at = from + i + 1
	r.seen = r.at
	return n, true, nil
}

// ParseInteger reads a number as string2ll in Redis' util.c does: 64 bits, no
// sign but -, and no zero in front.
func ParseInteger(b []byte) (int64, bool) {
	if len(b) > len("-9223372036854775808") {
		return 0, false
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	var again [20]byte
	return n, err == nil && bytes.Equal(strconv.AppendInt(again[:0], n, 10), b)
}

// line reads a query as a person types it (processInlineBuffer in networking.c).
func (r *QueryReader) line(b []byte) (args [][]byte, n int, err error) {
	i := bytes.IndexByte(b[r.seen:], '\n')
	if i < 0 {
		if r.seen = len(b); r.seen > min(maxInline, r.maxQuery()) {
			return nil, 0, QueryError("too big inline request")
		}
		return nil, 0, nil
	}
	n, r.seen = r.seen+i+1, 0
	r.begin()
	if err := r.split(b[:n]); err != nil {
		return nil, 0, err
	}
	return r.args, n, nil
}

// split cuts a line into arguments, as sdssplitargs does (sds.c): blanks between
// them, "..." with \n \r \t \b \a \xHH, and '...' with \'.
func (r *QueryReader) split(line []byte) error {
	// No argument is longer than what stands for it in the line.
	out := make([]byte, 0, len(line))
	for i := 0; ; {
		for i < len(line) && blank(line[i]) {
			i++
		}
		if i == len(line) {
			return nil
		}
		if len(r.args) == maxArgs {
			return QueryError("invalid multibulk length")
		}
		from, ok := len(out), false
		if out, i, ok = appendWord(out, line, i); !ok {
			return QueryError("unbalanced quotes in request")
		}
		r.args = append(r.args, out[from:len(out):len(out)])
	}
}

func blank(c byte) bool { return strings.IndexByte(" \t\r\n\v\f\x00", c) >= 0 }

// appendWord appends the argument that begins at line[i]; next is the place
// behind it.
func appendWord(out, line []byte, i int) (_ []byte, next int, ok bool) {
	for ; i < len(line) && !blank(line[i]); i++ {
		if line[i] == '"' || line[i] == '\'' {
			out, i, ok = appendQuoted(out, line, i)
			// A closing quote is followed by a blank.
			return out, i, ok && (i == len(line) || blank(line[i]))
		}
		out = append(out, line[i])
	}
	return out, i, true
}

// appendQuoted appends what stands between the quote at line[i] and the closing
// one; next is the place behind that.
func appendQuoted(out, line []byte, i int) (_ []byte, next int, ok bool) {
	quote := line[i]
	for i++; i < len(line) && line[i] != quote; i++ {
		c, rest := line[i], line[i+1:]
		switch {
		case c != '\\' || len(rest) == 0:
		case quote == '\'':
			if rest[0] == '\'' {
				i, c = i+1, '\''
			}
		default:
			var size int
			c, size = unescape(rest)
			i += size
		}
		out = append(out, c)
	}
	return out, i + 1, i < len(line)
}

// unescape gives the character that stands behind a backslash, and how many bytes
// of the line it takes there.
func unescape(b []byte) (c byte, size int) {
	var one [1]byte
	if len(b) >= 3 && b[0] == 'x' {
		if _, err := hex.Decode(one[:], b[1:3]); err == nil {
			return one[0], 3
		}
	}
	if i := strings.IndexByte("nrtba", b[0]); i >= 0 {
		return "\n\r\t\b\a"[i], 1
	}
	return b[0], 1
}
