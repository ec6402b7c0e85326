package respport

import (
	"strconv"

	"github.com/tidwall/redcon"
)

// reply is the answer to a command, in the protocol of its client. A type that
// RESP3 added becomes in RESP2 what Redis makes of it (networking.c,
// addReply...).
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

// dict opens a map of n pairs.
func (r *reply) dict(n int) { r.open('%', n, 2*n) }

// push opens a message of n elements that no command asked for.
func (r *reply) push(n int) { r.open('>', n, n) }

// open opens a type of RESP3, or an array of n2 elements in RESP2.
func (r *reply) open(mark byte, n, n2 int) {
	if !r.resp3 {
		r.array(n2)
		return
	}
	r.b = append(r.b, mark)
	r.b = strconv.AppendInt(r.b, int64(n), 10)
	r.b = append(r.b, '\r', '\n')
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
	r.open('=', len(s)+len("txt:"), 0)
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
