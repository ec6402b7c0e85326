// Package rdbtest makes RDB files for tests.
package rdbtest

import (
	"encoding/binary"

	"replicad/replica/rdb"
)

// Empty is an RDB without keys, whose stream goes on in database db; checked
// says whether it carries its checksum, or zeros in its place, as with
// rdbchecksum no.
func Empty(db uint8, checked bool) []byte {
	p := append([]byte("REDIS0010\xfa\x09redis-ver\x067.0.15\xfa\x0erepl-stream-db\xc0"), db, 0xff)
	var sum uint64
	if checked {
		c := rdb.NewChecksum()
		c.Write(p)
		sum = c.Sum64()
	}
	return binary.LittleEndian.AppendUint64(p, sum)
}
