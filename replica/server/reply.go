package server

import (
	"strconv"
	"strings"

	"github.com/tidwall/redcon"
)

// reply collects what a client is answered, in RESP2 or RESP3.
type reply struct {
	b     []byte
	proto int // 2 or 3
}

func (r *reply) simple(s string) { r.b = redcon.AppendString(r.b, oneLine(s)) }
func (r *reply) ok()             { r.b = redcon.AppendOK(r.b) }
func (r *reply) int(n int64)     { r.b = redcon.AppendInt(r.b, n) }
func (r *reply) bulk(s string)   { r.b = redcon.AppendBulkString(r.b, s) }
func (r *reply) bytes(p []byte)  { r.b = redcon.AppendBulk(r.b, p) }
func (r *reply) array(n int)     { r.b = redcon.AppendArray(r.b, n) }
func (r *reply) err(text string) { r.b = redcon.AppendError(r.b, oneLine(text)) }
func (r *reply) raw(p []byte)    { r.b = append(r.b, p...) }
func (r *reply) header(c byte, n int) {
	r.b = append(strconv.AppendInt(append(r.b, c), int64(n), 10), '\r', '\n')
}

// oneLine keeps a text from ending before its end.
func oneLine(s string) string {
	return strings.Map(func(c rune) rune {
		if c == '\r' || c == '\n' {
			return ' '
		}
		return c
	}, s)
}

// table begins n pairs.
func (r *reply) table(n int) {
	if r.proto == 3 {
		r.header('%', n)
		return
	}
	r.array(2 * n)
}

// set begins n members.
func (r *reply) set(n int) {
	if r.proto == 3 {
		r.header('~', n)
		return
	}
	r.array(n)
}

// push begins a message of n parts that answers no command.
func (r *reply) push(n int) {
	if r.proto == 3 {
		r.header('>', n)
		return
	}
	r.array(n)
}

func (r *reply) null() {
	if r.proto == 3 {
		r.b = append(r.b, "_\r\n"...)
		return
	}
	r.b = redcon.AppendNull(r.b)
}

// text is a bulk string that is meant for people (addReplyVerbatim).
func (r *reply) text(s string) {
	if r.proto == 3 {
		r.header('=', len(s)+4)
		r.b = append(append(append(r.b, "txt:"...), s...), '\r', '\n')
		return
	}
	r.bulk(s)
}

// pairs is a table of strings.
func (r *reply) pairs(kv ...string) {
	r.table(len(kv) / 2)
	for _, s := range kv {
		r.bulk(s)
	}
}
