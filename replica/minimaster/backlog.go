package minimaster

import "bytes"

// backlog holds the last bytes of the stream, so that a replica whose link was
// cut can go on where it was (repl-backlog-size; replication.c,
// feedReplicationBacklog). Offsets are those of the stream: the first byte
// after offset 0 has offset 1.
type backlog struct {
	buf  []byte // its last size bytes count
	size int
	end  int64 // offset of the last byte
}

func newBacklog(size int, masterOffset int64) *backlog {
	return &backlog{size: size, end: masterOffset}
}

func (b *backlog) write(p []byte) {
	b.end += int64(len(p))
	b.buf = append(b.buf, p...)
	if len(b.buf) > 2*b.size { // bytes are moved once in size bytes
		b.buf = append(b.buf[:0], b.buf[len(b.buf)-b.size:]...)
	}
}

// len is how many bytes are valid.
func (b *backlog) len() int { return min(len(b.buf), b.size) }

// first is the offset of the oldest valid byte, or of the next byte when there is
// none.
func (b *backlog) first() int64 { return b.end + 1 - int64(b.len()) }

// has says whether the stream can go on with the byte at offset: it is in the
// buffer, or it is the next byte to come.
func (b *backlog) has(offset int64) bool { return offset >= b.first() && offset <= b.end+1 }

// from copies everything from the byte at offset on. The offset must satisfy has.
func (b *backlog) from(offset int64) []byte {
	return bytes.Clone(b.buf[int64(len(b.buf))-(b.end+1-offset):])
}
