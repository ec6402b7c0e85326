package minimaster

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/tidwall/redcon"
)

// appendCommand appends a command in the form the stream has: a RESP array of bulk strings.
func appendCommand(b []byte, args ...string) []byte {
	b = redcon.AppendArray(b, len(args))
	for _, a := range args {
		b = redcon.AppendBulkString(b, a)
	}
	return b
}

var (
	replyOK     = []byte("+OK\r\n")
	replyNil    = []byte("$-1\r\n")
	replyQueued = []byte("+QUEUED\r\n")
)

const (
	msgSyntax   = "ERR syntax error"
	msgNotInt   = "ERR value is not an integer or out of range"
	msgNotFloat = "ERR value is not a valid float"
	msgDBRange  = "ERR DB index is out of range"
)

// errorReply makes an error reply of a text that begins with its code. Line ends cannot be in it.
func errorReply(format string, args ...any) []byte {
	msg := fmt.Sprintf(format, args...)
	msg = strings.NewReplacer("\r", " ", "\n", " ").Replace(msg)
	return []byte("-" + msg + "\r\n")
}

func intReply(n int64) []byte   { return redcon.AppendInt(nil, n) }
func bulkReply(s string) []byte { return redcon.AppendBulkString(nil, s) }

func wrongArity(name string) []byte {
	return errorReply("ERR wrong number of arguments for '%s' command", strings.ToLower(name))
}

func isError(reply []byte) bool { return len(reply) > 0 && reply[0] == '-' }

// isNil: the null bulk string and the null array.
func isNil(reply []byte) bool {
	return bytes.HasPrefix(reply, []byte("$-1")) || bytes.HasPrefix(reply, []byte("*-1"))
}

// replyInt is the number of an integer reply; anything else is 0.
func replyInt(reply []byte) int64 {
	if len(reply) < 4 || reply[0] != ':' {
		return 0
	}
	n, _ := strconv.ParseInt(string(reply[1:len(reply)-2]), 10, 64)
	return n
}

// replyStrings flattens a reply into its strings, in order; nils are left out.
func replyStrings(reply []byte) []string {
	v, err := parseReply(reply)
	if err != nil {
		return nil
	}
	var all []string
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case string:
			all = append(all, v)
		case int64:
			all = append(all, strconv.FormatInt(v, 10))
		case []any:
			for _, x := range v {
				walk(x)
			}
		}
	}
	walk(v)
	return all
}

// An Error is an error reply, with its code: "WRONGTYPE Operation against ...".
type Error string

func (e Error) Error() string { return string(e) }

var errBadReply = errors.New("minimaster: reply is not RESP2")

// parseReply turns a RESP2 reply into nil, string, int64 or []any; an error reply comes back as an Error, at the top
// as the second value, inside an array as an element.
func parseReply(reply []byte) (any, error) {
	n, r := redcon.ReadNextRESP(reply)
	if n == 0 || n != len(reply) {
		return nil, fmt.Errorf("%w: %.60q", errBadReply, reply)
	}
	v := replyValue(r)
	if err, ok := v.(Error); ok {
		return nil, err
	}
	return v, nil
}

func replyValue(r redcon.RESP) any {
	switch r.Type {
	case redcon.Error:
		return Error(r.String())
	case redcon.Integer:
		return r.Int()
	case redcon.Array:
		if bytes.HasPrefix(r.Raw, []byte("*-1")) {
			return nil
		}
		list := []any{}
		r.ForEach(func(x redcon.RESP) bool {
			list = append(list, replyValue(x))
			return true
		})
		return list
	case redcon.Bulk:
		if bytes.HasPrefix(r.Raw, []byte("$-1")) {
			return nil
		}
	}
	return r.String()
}

// parseInt reads an integer as strictly as Redis (util.c, string2ll): no plus sign, no leading zero, no
// space. miniredis is more lenient; what it let through would fail on a replica.
func parseInt(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && strconv.FormatInt(n, 10) == s
}

// parseScore reads a sorted set score or a float increment. NaN is none.
func parseScore(s string) (float64, bool) {
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil && !math.IsNaN(f) && !strings.ContainsAny(s, "_ ")
}

// formatScore writes a score so that strtod gives the same 64 bits back.
func formatScore(f float64) string {
	switch {
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	}
	return strconv.FormatFloat(f, 'g', 17, 64)
}
