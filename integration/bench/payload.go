package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
)

// payload is an RDB of string keys. The values share one buffer, so that a
// payload of any size costs little memory.
type payload struct {
	pieces net.Buffers
	size   int64
}

const valueSize = 1 << 20

// newPayload makes an RDB of about size bytes, with keys of 1 MiB. In place of
// a checksum it ends in eight zeros, as a master with rdbchecksum no writes it.
func newPayload(size int64) *payload {
	value := make([]byte, valueSize)
	random := rand.NewChaCha8([32]byte{})
	random.Read(value)

	p := &payload{}
	// No aux fields; database 0.
	p.add([]byte("REDIS0010\xfe\x00"))
	for i := 0; p.size < size; i++ {
		p.add(stringRecord(i))
		p.add(value)
	}
	p.add([]byte("\xff\x00\x00\x00\x00\x00\x00\x00\x00"))
	return p
}

// stringRecord is what stands before a value of valueSize bytes: the type, the
// key, and the length in its 32-bit encoding (rdbSaveLen, rdb.c).
func stringRecord(i int) []byte {
	key := fmt.Sprintf("key:%08d", i)
	b := append([]byte{0, byte(len(key))}, key...)
	b = append(b, 0x80)
	return binary.BigEndian.AppendUint32(b, valueSize)
}

func (p *payload) add(b []byte) {
	p.pieces = append(p.pieces, b)
	p.size += int64(len(b))
}

// buffers are the pieces for one net.Buffers.WriteTo, which uses them up.
func (p *payload) buffers() net.Buffers { return append(net.Buffers(nil), p.pieces...) }

// streamChunk is a piece of a replication stream, whole commands, that is sent
// over and over: a SET of each key, in random order, with a value of 100 bytes.
// Few keys flatter a replica that applies them: its dataset stays in the CPU's
// cache.
func streamChunk(keys int) []byte {
	var b bytes.Buffer
	value := strings.Repeat("0123456789", 10)
	for _, i := range rand.New(rand.NewPCG(1, 2)).Perm(keys) {
		fmt.Fprintf(&b, "*3\r\n$3\r\nSET\r\n$11\r\nkey:%07d\r\n$%d\r\n%s\r\n", i, len(value), value)
	}
	return b.Bytes()
}
