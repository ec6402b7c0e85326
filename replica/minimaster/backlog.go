package minimaster

// backlog is the circular buffer that holds the last bytes of the stream, so that
// a replica whose link was cut can go on where it was (repl-backlog-size;
// replication.c, feedReplicationBacklog). Offsets are those of the stream: the
// first byte after offset 0 has offset 1.
type backlog struct {
	buf  []byte
	next int   // where in buf the next byte goes
	len  int   // bytes valid
	off  int64 // offset of the oldest valid byte, or of the next byte when there is none
}

func newBacklog(size int, masterOffset int64) *backlog {
	return &backlog{buf: make([]byte, size), off: masterOffset + 1}
}

func (b *backlog) write(p []byte) {
	n := len(p)
	// Of more bytes than fit only the last survive.
	if skip := n - len(b.buf); skip > 0 {
		p = p[skip:]
	}
	b.next = (b.next + n - len(p)) % len(b.buf)
	for len(p) > 0 {
		c := copy(b.buf[b.next:], p)
		p = p[c:]
		b.next = (b.next + c) % len(b.buf)
	}
	b.len += n
	if over := b.len - len(b.buf); over > 0 {
		b.off += int64(over)
		b.len = len(b.buf)
	}
}

// has says whether the stream can go on with the byte at offset: it is in the
// buffer, or it is the next byte to come.
func (b *backlog) has(offset int64) bool {
	return offset >= b.off && offset <= b.off+int64(b.len)
}

// from copies everything from the byte at offset on. The offset must satisfy has.
func (b *backlog) from(offset int64) []byte {
	n := int(b.off + int64(b.len) - offset)
	out := make([]byte, 0, n)
	at := (b.next - n + len(b.buf)) % len(b.buf)
	for len(out) < n {
		end := min(len(b.buf), at+n-len(out))
		out = append(out, b.buf[at:end]...)
		at = 0
	}
	return out
}
