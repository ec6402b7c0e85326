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

// appendCommand appends a command in the form that the stream has: a RESP array
// of bulk strings.
func appendCommand(b []byte, args ...string) []byte {
	b = redcon.AppendArray(b, len(args))
	for _, a := range args {
		b = redcon.AppendBulkString(b, a)
	}
	return b
}

// stringArgs are the arguments of a query, the name of the command first.
func stringArgs(cmd redcon.Command) []string {
	args := make([]string, len(cmd.Args))
	for i, a := range cmd.Args {
		args[i] = string(a)
	}
	return args
}

var (
	replyOK     = []byte("+OK\r\n")
	replyQueued = []byte("+QUEUED\r\n")
)

const (
	msgSyntax   = "ERR syntax error"
	msgNotInt   = "ERR value is not an integer or out of range"
	msgNotFloat = "ERR value is not a valid float"
	msgNoAuth   = "NOAUTH Authentication required."
	msgExpiry   = "ERR invalid expire time in '%s' command"
)

// errorReply makes an error reply of a text that begins with its code. Line ends
// cannot be in it.
func errorReply(format string, args ...any) []byte {
	msg := strings.NewReplacer("\r", " ", "\n", " ").Replace(fmt.Sprintf(format, args...))
	return []byte("-" + msg + "\r\n")
}

func wrongArity(name string) []byte {
	return errorReply("ERR wrong number of arguments for '%.128s' command", strings.ToLower(name))
}

func isError(reply []byte) bool { return len(reply) > 0 && reply[0] == '-' }

// parseReply turns a RESP2 reply into nil, string, int64 or []any. An error reply
// is the error returned; inside an array it is an element.
func parseReply(reply []byte) (any, error) {
	n, r := redcon.ReadNextRESP(reply)
	if n == 0 || n != len(reply) {
		return nil, fmt.Errorf("minimaster: reply is not RESP2: %.60q", reply)
	}
	v := replyValue(r)
	if err, ok := v.(error); ok {
		return nil, err
	}
	return v, nil
}

func replyValue(r redcon.RESP) any {
	switch {
	case bytes.HasPrefix(r.Raw, []byte("$-1")), bytes.HasPrefix(r.Raw, []byte("*-1")):
		return nil
	case r.Type == redcon.Error:
		return errors.New(r.String())
	case r.Type == redcon.Integer:
		return r.Int()
	case r.Type == redcon.Array:
		list := []any{}
		r.ForEach(func(x redcon.RESP) bool {
			list = append(list, replyValue(x))
			return true
		})
		return list
	}
	return r.String()
}

// parseInt reads an integer as strictly as Redis (util.c, string2ll): no plus
// sign, no leading zero, no space. miniredis is more lenient; what it let through
// would fail on a replica.
func parseInt(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && strconv.FormatInt(n, 10) == s
}

func isInteger(s string) bool {
	_, ok := parseInt(s)
	return ok
}

// parseScore reads a score of a sorted set. NaN is none.
func parseScore(s string) (float64, bool) {
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil && !math.IsNaN(f) && !strings.ContainsAny(s, "_ ")
}
