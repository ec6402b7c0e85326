package respport

import (
	"strconv"

	"github.com/tidwall/redcon"
)

// reply builds what a command is answered with, in the protocol of its client.
// The types that RESP3 added become in RESP2 what Redis makes of them
// (networking.c, addReply...).
type reply struct {
	b     []byte
	resp3 bool
}

func (r *reply) status(s string) { r.b = redcon.AppendString(r.b, s) }
func (r *reply) ok()             { r.b = redcon.AppendOK(r.b) }
func (r *reply) error(s string)  { r.b = redcon.AppendError(r.b, s) }
func (r *reply) int(n int64)     { r.b = redcon.AppendInt(r.b, n) }
func (r *reply) bulk(s string)   { r.b = redcon.AppendBulkString(r.b, s) }
func (r *reply) bytes(b []byte)  { r.b = redcon.AppendBulk(r.b, b) }
func (r *reply) array(n int)     { r.b = redcon.AppendArray(r.b, n) }
func (r *reply) raw(b []byte)    { r.b = append(r.b, b...) }
func (r *reply) header(c byte, n int) {
	r.b = append(r.b, c)
	r.b = strconv.AppendInt(r.b, int64(n), 10)
	r.b = append(r.b, '\r', '\n')
}

// dict opens a map of n pairs.
func (r *reply) dict(n int) {
	if r.resp3 {
		r.header('%', n)
		return
	}
	r.array(2 * n)
}

// set opens a set of n.
func (r *reply) set(n int) {
	if r.resp3 {
		r.header('~', n)
		return
	}
	r.array(n)
}

// push opens what comes without having been asked for.
func (r *reply) push(n int) {
	if r.resp3 {
		r.header('>', n)
		return
	}
	r.array(n)
}

func (r *reply) null() {
	if r.resp3 {
		r.b = append(r.b, "_\r\n"...)
		return
	}
	r.b = redcon.AppendNull(r.b)
}

// text is a verbatim string, which redis-cli shows as it stands.
func (r *reply) text(s string) {
	if !r.resp3 {
		r.bulk(s)
		return
	}
	r.header('=', len(s)+4)
	r.b = append(r.b, "txt:"...)
	r.b = append(r.b, s...)
	r.b = append(r.b, '\r', '\n')
}

// strings is an array of bulk strings.
func (r *reply) strings(all []string) {
	r.array(len(all))
	for _, s := range all {
		r.bulk(s)
	}
}
