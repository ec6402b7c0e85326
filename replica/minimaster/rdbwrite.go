package minimaster

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"replicad/replica/rdb"
)

// Opcodes and value types of RDB files (rdb.h). Of each type the writer has the
// plain encoding alone, which every Redis since 4.0 reads.
const (
	opAux      = 0xFA
	opExpireMS = 0xFC
	opSelectDB = 0xFE
	opEOF      = 0xFF

	typeString = 0
	typeList   = 1
	typeSet    = 2
	typeHash   = 4
	typeZSet2  = 5 // scores as 8 bytes
)

// rdbMagic has the version of the format that Redis 5.0 wrote.
const rdbMagic = "REDIS0009"

// appendLength writes a length in 1, 2 or 5 bytes (rdb.c, rdbSaveLen).
func appendLength(b []byte, n int) []byte {
	switch {
	case n < 1<<6:
		return append(b, byte(n))
	case n < 1<<14:
		return append(b, 0x40|byte(n>>8), byte(n))
	default:
		return binary.BigEndian.AppendUint32(append(b, 0x80), uint32(n))
	}
}

func appendStrings(b []byte, list ...string) []byte {
	for _, s := range list {
		b = append(appendLength(b, len(s)), s...)
	}
	return b
}

// rdb is the whole dataset as an RDB file (rdb.c, rdbSaveRio). offset is what the
// file stands for in the stream of replid.
func (e *engine) rdb(replid string, offset int64) ([]byte, error) {
	b := []byte(rdbMagic)
	for _, aux := range [][2]string{
		{"redis-ver", Version},
		{"ctime", strconv.FormatInt(time.Now().Unix(), 10)},
		// The stream behind the file opens with SELECT, so this one matters to
		// nobody.
		{"repl-stream-db", "0"},
		{"repl-id", replid},
		{"repl-offset", strconv.FormatInt(offset, 10)},
	} {
		b = appendStrings(append(b, opAux), aux[0], aux[1])
	}
	var err error
	for db := range databases {
		keys := e.mini.DB(db).Keys()
		if len(keys) > 0 {
			b = appendLength(append(b, opSelectDB), db)
		}
		for _, key := range keys {
			if b, err = e.appendKey(b, db, key); err != nil {
				return nil, err
			}
		}
	}
	b = append(b, opEOF)
	sum := rdb.NewChecksum()
	_, _ = sum.Write(b) // it never fails
	return binary.LittleEndian.AppendUint64(b, sum.Sum64()), nil
}

// appendKey writes one key with its expiry and value (rdb.c,
// rdbSaveKeyValuePair).
func (e *engine) appendKey(b []byte, db int, key string) ([]byte, error) {
	if at := e.expireAt(db, key); at != 0 {
		b = binary.LittleEndian.AppendUint64(append(b, opExpireMS), uint64(at))
	}
	d := e.mini.DB(db)
	begin := func(kind byte) []byte { return appendStrings(append(b, kind), key) }
	var list []string
	switch t := d.Type(key); t {
	case "string":
		s, _ := d.Get(key)
		return appendStrings(begin(typeString), s), nil
	case "list":
		b = begin(typeList)
		list, _ = d.List(key)
	case "set":
		b = begin(typeSet)
		list, _ = d.Members(key)
	case "hash":
		fields, _ := d.HKeys(key)
		b = appendLength(begin(typeHash), len(fields))
		for _, f := range fields {
			b = appendStrings(b, f, d.HGet(key, f))
		}
		return b, nil
	case "zset":
		scores, _ := d.SortedSet(key)
		b = appendLength(begin(typeZSet2), len(scores))
		for _, member := range slices.Sorted(maps.Keys(scores)) {
			b = binary.LittleEndian.AppendUint64(appendStrings(b, member), math.Float64bits(scores[member]))
		}
		return b, nil
	default:
		return nil, fmt.Errorf("minimaster: key %q has type %q, for which there is no snapshot", key, t)
	}
	return appendStrings(appendLength(b, len(list)), list...), nil
}
