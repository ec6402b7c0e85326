package minimaster

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/alicebob/miniredis/v2"

	"replicad/replica/rdb"
)

// Opcodes, value types and string encodings of RDB files (rdb.h).
const (
	opFunction2 = 0xF5
	opIdle      = 0xF8
	opFreq      = 0xF9
	opAux       = 0xFA
	opResizeDB  = 0xFB
	opExpireMS  = 0xFC
	opExpire    = 0xFD
	opSelectDB  = 0xFE
	opEOF       = 0xFF

	typeString          = 0
	typeList            = 1
	typeSet             = 2
	typeZSet            = 3 // scores as text
	typeHash            = 4
	typeZSet2           = 5 // scores as 8 bytes
	typeSetIntset       = 11
	typeStreamListpacks = 15
	typeHashListpack    = 16
	typeZSetListpack    = 17
	typeListQuicklist2  = 18
	typeStream2         = 19 // Redis 7.0
	typeSetListpack     = 20 // 7.2
	typeStream3         = 21 // 7.2

	encInt8, encInt16, encInt32, encLZF = 0, 1, 2, 3 // behind the bits 11
)

// rdbVersion is written into the header: what Redis 5.0 and everything after it read.
const rdbVersion = "0009"

// rdbWriter writes the pieces of the format. Errors stick and are told by flush.
type rdbWriter struct {
	w   *bufio.Writer
	sum *rdb.Checksum
	err error
}

func newRDBWriter(w io.Writer) *rdbWriter {
	sum := rdb.NewChecksum()
	return &rdbWriter{w: bufio.NewWriter(io.MultiWriter(w, sum)), sum: sum}
}

func (w *rdbWriter) bytes(b ...byte) { _, _ = w.w.Write(b) } // bufio keeps the error

// length writes a length in 1, 2, 5 or 9 bytes (rdb.c, rdbSaveLen).
func (w *rdbWriter) length(n uint64) {
	switch {
	case n < 1<<6:
		w.bytes(byte(n))
	case n < 1<<14:
		w.bytes(0x40|byte(n>>8), byte(n))
	case n <= math.MaxUint32:
		w.bytes(binary.BigEndian.AppendUint32([]byte{0x80}, uint32(n))...)
	default:
		w.bytes(binary.BigEndian.AppendUint64([]byte{0x81}, n)...)
	}
}

// string writes a string, a small integer in its short form (rdb.c, rdbSaveRawString, rdbEncodeInteger).
func (w *rdbWriter) string(s string) {
	if len(s) <= 11 {
		if n, ok := parseInt(s); ok {
			switch {
			case n == int64(int8(n)):
				w.bytes(0xC0|encInt8, byte(n))
				return
			case n == int64(int16(n)):
				w.bytes(binary.LittleEndian.AppendUint16([]byte{0xC0 | encInt16}, uint16(n))...)
				return
			case n == int64(int32(n)):
				w.bytes(binary.LittleEndian.AppendUint32([]byte{0xC0 | encInt32}, uint32(n))...)
				return
			}
		}
	}
	w.length(uint64(len(s)))
	_, _ = w.w.WriteString(s)
}

func (w *rdbWriter) aux(name, value string) {
	w.bytes(opAux)
	w.string(name)
	w.string(value)
}

// writeRDB writes the whole dataset (rdb.c, rdbSaveRio). offset is what the snapshot stands for in the stream of
// replid. The caller holds the lock for as long as it takes.
func (e *Engine) writeRDB(out io.Writer, replid string, offset int64) error {
	w := newRDBWriter(out)
	w.bytes([]byte("REDIS" + rdbVersion)...)
	w.aux("redis-ver", Version)
	w.aux("redis-bits", strconv.Itoa(strconv.IntSize))
	w.aux("ctime", strconv.FormatInt(time.Now().Unix(), 10))
	w.aux("used-mem", strconv.Itoa(e.size()))
	// The stream opens with SELECT after a full sync, so the database to begin with matters to nobody; a chained
	// replica is where it would.
	w.aux("repl-stream-db", "0")
	w.aux("repl-id", replid)
	w.aux("repl-offset", strconv.FormatInt(offset, 10))
	w.aux("aof-base", "0")
	for _, db := range e.databases() {
		keys := e.db(db).Keys()
		if len(keys) == 0 {
			continue
		}
		expires := 0
		for _, key := range keys {
			if e.expireAt(db, key) != 0 {
				expires++
			}
		}
		w.bytes(opSelectDB)
		w.length(uint64(db))
		w.bytes(opResizeDB)
		w.length(uint64(len(keys)))
		w.length(uint64(expires))
		for _, key := range keys {
			e.writeKey(w, db, key)
		}
	}
	w.bytes(opEOF)
	if err := w.w.Flush(); err != nil {
		return fmt.Errorf("minimaster: writing the snapshot: %w", err)
	}
	if w.err != nil {
		return w.err
	}
	if _, err := out.Write(binary.LittleEndian.AppendUint64(nil, w.sum.Sum64())); err != nil {
		return fmt.Errorf("minimaster: writing the snapshot: %w", err)
	}
	return nil
}

// size is a rough count of the bytes in use, for used-mem.
func (e *Engine) size() int {
	n := 0
	for _, db := range e.databases() {
		n += 64 * len(e.db(db).Keys())
	}
	return n
}

func (e *Engine) writeKey(w *rdbWriter, db int, key string) {
	if at := e.expireAt(db, key); at != 0 {
		w.bytes(binary.LittleEndian.AppendUint64([]byte{opExpireMS}, uint64(at))...)
	}
	d := e.db(db)
	begin := func(kind byte) {
		w.bytes(kind)
		w.string(key)
	}
	strings := func(list []string) {
		for _, s := range list {
			w.string(s)
		}
	}
	switch t := e.typeOf(db, key); t {
	case "string":
		begin(typeString)
		s, _ := d.Get(key)
		w.string(s)
	case "list":
		begin(typeList)
		list, _ := d.List(key)
		w.length(uint64(len(list)))
		strings(list)
	case "set":
		begin(typeSet)
		members, _ := d.Members(key)
		w.length(uint64(len(members)))
		strings(members)
	case "zset":
		begin(typeZSet2)
		scores, _ := d.SortedSet(key)
		w.length(uint64(len(scores)))
		for _, member := range slices.Sorted(maps.Keys(scores)) {
			w.string(member)
			w.bytes(binary.LittleEndian.AppendUint64(nil, math.Float64bits(scores[member]))...)
		}
	case "hash":
		begin(typeHash)
		fields, _ := d.HKeys(key)
		w.length(uint64(len(fields)))
		for _, f := range fields {
			w.string(f)
			w.string(d.HGet(key, f))
		}
	case "stream":
		begin(typeStreamListpacks)
		entries, _ := d.Stream(key)
		w.stream(entries)
	default:
		w.err = fmt.Errorf("minimaster: key %q has type %q, for which there is no snapshot", key, t)
	}
}

// entriesPerNode is stream-node-max-entries: how many entries share a listpack.
const entriesPerNode = 100

// stream writes entries in listpacks. The first entry of each is also its master entry: those that have the
// same fields do not repeat them (t_stream.c, streamAppendItem, has the layout).
func (w *rdbWriter) stream(entries []miniredis.StreamEntry) {
	w.length(uint64((len(entries) + entriesPerNode - 1) / entriesPerNode))
	for node := range slices.Chunk(entries, entriesPerNode) {
		first, _ := parseStreamID(node[0].ID, 0)
		fields := everySecond(node[0].Values)
		var lp listpack
		lp.int(int64(len(node))) // entries valid
		lp.int(0)                // entries deleted
		lp.int(int64(len(fields)))
		for _, f := range fields {
			lp.string(f)
		}
		lp.int(0) // end of the master entry
		for _, x := range node {
			id, _ := parseStreamID(x.ID, 0)
			same := slices.Equal(everySecond(x.Values), fields)
			flags := int64(0)
			if same {
				flags = streamSameFields
			}
			before := lp.count
			lp.int(flags)
			lp.int(int64(id.ms - first.ms))
			lp.int(int64(id.seq - first.seq)) // wraps below zero, and back when read
			if same {
				for i := 1; i < len(x.Values); i += 2 {
					lp.string(x.Values[i])
				}
			} else {
				lp.int(int64(len(x.Values) / 2))
				for _, s := range x.Values {
					lp.string(s)
				}
			}
			lp.int(int64(lp.count - before)) // so that it can be walked backwards
		}
		key := binary.BigEndian.AppendUint64(nil, first.ms)
		key = binary.BigEndian.AppendUint64(key, first.seq)
		w.string(string(key))
		w.string(string(lp.bytes()))
	}
	last := lastID(entries)
	w.length(uint64(len(entries)))
	w.length(last.ms)
	w.length(last.seq)
	w.length(0) // consumer groups: there can be none
}

func everySecond(pairs []string) []string {
	var out []string
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, pairs[i])
	}
	return out
}
