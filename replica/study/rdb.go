package study

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"time"

	"replicad/replica/rdb"
	"replicad/replica/units"
)

// mostKeys is how many keys of an RDB are named.
const mostKeys = 32

// Opcodes and value types, as in Redis' rdb.h.
const (
	opFunction2  = 0xF5
	opModuleAux  = 0xF7
	opIdle       = 0xF8
	opFreq       = 0xF9
	opAux        = 0xFA
	opResizeDB   = 0xFB
	opExpireMS   = 0xFC
	opExpire     = 0xFD
	opSelectDB   = 0xFE
	opEOF        = 0xFF
	opSlotInfo   = 0xF4
	checksumFrom = 5 // the version of the format that brought the checksum
)

// walker reads the primitives of an RDB in place. Once something is not there,
// or not known, bad is set and stays.
type walker struct {
	p   []byte
	at  int
	bad bool
}

func (w *walker) take(n uint64) []byte {
	if w.bad || n > uint64(len(w.p)-w.at) {
		w.bad = true
		return nil
	}
	b := w.p[w.at : w.at+int(n)]
	w.at += int(n)
	return b
}

func (w *walker) byte() byte {
	if b := w.take(1); len(b) == 1 {
		return b[0]
	}
	return 0
}

// length reads a length, or an encoding (rdbLoadLenByRef).
func (w *walker) length() (n uint64, encoded bool) {
	c := w.byte()
	switch {
	case w.bad:
	case c>>6 == 0:
		return uint64(c), false
	case c>>6 == 1:
		return uint64(c&0x3f)<<8 | uint64(w.byte()), false
	case c == 0x80:
		if b := w.take(4); b != nil {
			return uint64(binary.BigEndian.Uint32(b)), false
		}
	case c == 0x81:
		if b := w.take(8); b != nil {
			return binary.BigEndian.Uint64(b), false
		}
	case c>>6 == 3:
		return uint64(c & 0x3f), true
	}
	w.bad = true
	return 0, false
}

func (w *walker) number() uint64 {
	n, encoded := w.length()
	w.bad = w.bad || encoded
	return n
}

// str reads a string and gives it as text; of a compressed one how long it is.
func (w *walker) str() string {
	n, encoded := w.length()
	switch {
	case w.bad:
		return ""
	case !encoded:
		return string(w.take(n))
	case n <= 2: // 8, 16 or 32 bits, little endian
		b := w.take(1 << n)
		if w.bad {
			return ""
		}
		var u [4]byte
		copy(u[:], b)
		v := int64(int32(binary.LittleEndian.Uint32(u[:])))
		switch n {
		case 0:
			v = int64(int8(b[0]))
		case 1:
			v = int64(int16(binary.LittleEndian.Uint16(b)))
		}
		return strconv.FormatInt(v, 10)
	case n == 3:
		packed, size := w.number(), w.number()
		w.take(packed)
		return fmt.Sprintf("(%d bytes, compressed by LZF to %d)", size, packed)
	}
	w.bad = true
	return ""
}

func (w *walker) strings(n uint64) {
	for ; n > 0 && !w.bad; n-- {
		w.str()
	}
}

// value passes over a value and says what it is; bad is set for a type that is
// not known here, as those of streams and modules.
func (w *walker) value(kind byte) string {
	switch kind {
	case 0:
		return "string " + short(w.str())
	case 1, 2, 14:
		n := w.number()
		w.strings(n)
		return map[byte]string{1: "list", 2: "set", 14: "list, quicklist"}[kind] + fmt.Sprintf(", %d elements or nodes", n)
	case 4:
		n := w.number()
		for i := uint64(0); i < n && !w.bad; i++ {
			w.strings(2)
		}
		return fmt.Sprintf("hash of %s", units.Count(int64(n), "field"))
	case 5:
		n := w.number()
		for i := uint64(0); i < n && !w.bad; i++ {
			w.str()
			w.take(8)
		}
		return fmt.Sprintf("sorted set of %s", units.Count(int64(n), "member"))
	case 9, 10, 11, 12, 13, 16, 17, 20:
		w.str()
		return map[byte]string{9: "hash, zipmap", 10: "list, ziplist", 11: "set, intset", 12: "sorted set, ziplist",
			13: "hash, ziplist", 16: "hash, listpack", 17: "sorted set, listpack", 20: "set, listpack"}[kind]
	case 18:
		n := w.number()
		for i := uint64(0); i < n && !w.bad; i++ {
			w.number() // plain or packed
			w.str()
		}
		return fmt.Sprintf("list, quicklist of %s", units.Count(int64(n), "node"))
	}
	w.bad = true
	return ""
}

// short cuts a text for a title.
func short(s string) string {
	const most = 40
	if len(s) > most {
		return strconv.QuoteToASCII(s[:most]) + "..."
	}
	return strconv.QuoteToASCII(s)
}

// auxFields says what the aux fields that matter mean.
func auxFields() map[string]string {
	return map[string]string{
		"redis-ver":      "the version of the Redis that wrote it",
		"valkey-ver":     "the version of the Valkey that wrote it",
		"redis-bits":     "32 or 64: the architecture of the server that wrote it",
		"ctime":          "when the snapshot was begun",
		"used-mem":       "bytes of memory that the server used",
		"repl-stream-db": "the database that is selected where the stream behind it begins: that of a chained replica opens with no SELECT",
		"repl-id":        "the replication id of the history that it belongs to",
		"repl-offset":    "the replication offset that it stands for",
		"aof-base":       "1 where it is the base of an AOF, 0 for a snapshot",
		"aof-preamble":   "1 where it is the preamble of an AOF, 0 for a snapshot",
	}
}

// cutRDB takes the payload up to end apart: magic, aux fields, and keys as far as
// they are plain, then the trailer.
func cutRDB(c *cutter, end int64, whole bool) {
	size := end - c.pos
	kept := c.f.from(c.pos)
	kept = kept[:min(int64(len(kept)), size)]
	c.begin("RDB of "+units.Count(size, "byte"), "The dataset as the master had it at the offset of the full sync.", keyRDB)
	if !whole {
		item := &c.items[len(c.items)-1]
		item.Title, item.Continues = item.Title+" so far", true
	}
	begun := c.pos
	version := 0
	w := walker{p: kept}
	if m := w.take(9); m != nil && (bytes.HasPrefix(m, []byte("REDIS")) || bytes.HasPrefix(m, []byte("VALKEY"))) {
		version, _ = strconv.Atoi(string(bytes.TrimLeft(m, "REDISVALKY")))
		c.part(9, "magic", fmt.Sprintf("an RDB file, version %d of the format", version))
	} else {
		c.part(size, "payload", "bytes that do not begin as an RDB does")
		return
	}
	trailer := int64(1)
	if version >= checksumFrom {
		trailer = 9
	}
	body := end
	if whole && end-trailer >= c.pos && len(c.f.from(end-trailer)) >= int(trailer) && c.f.from(end - trailer)[0] == opEOF {
		body = end - trailer
	}
	w.p = kept[:min(int64(len(kept)), body-begun)]
	walkRDB(c, &w)
	if rest := body - c.pos; rest > 0 {
		c.part(rest, "keys and values", units.Count(rest, "byte")+" of dataset that are not taken apart here")
	}
	if body == end {
		return
	}
	c.part(1, "opcode 0xFF", "the end of the dataset")
	if trailer > 1 {
		c.part(trailer-1, "checksum", checksumText(c.f.from(begun), size))
	}
}

// checksumText says what the trailer is, and whether it is right.
func checksumText(p []byte, size int64) string {
	const what = "CRC-64 (Jones) of everything before, little endian"
	if int64(len(p)) < size {
		return what
	}
	v, err := rdb.VerifyChecksum(context.Background(), bytes.NewReader(p), size)
	switch {
	case err != nil:
		return what + "; it does not match"
	case v == rdb.Verified:
		return what + "; it matches"
	}
	return "zero: rdbchecksum is off on the master"
}

// walkRDB makes parts of opcodes with their operands, as long as they are known.
func walkRDB(c *cutter, w *walker) {
	known := auxFields()
	for keys, from := 0, w.at; w.at < len(w.p) && keys < mostKeys; from = w.at {
		name, text := "", ""
		switch op := w.byte(); op {
		case opAux:
			field, value := w.str(), w.str()
			name, text = "aux field", fmt.Sprintf("%s = %s", field, value)
			if n, err := strconv.ParseInt(value, 10, 64); err == nil && field == "ctime" {
				text += ", " + time.Unix(n, 0).UTC().Format(time.RFC3339)
			}
			if what := known[field]; what != "" {
				text += ": " + what
			}
		case opSelectDB:
			name, text = "opcode 0xFE", fmt.Sprintf("SELECTDB: what follows is in database %d", w.number())
		case opResizeDB:
			a, b := w.number(), w.number()
			name, text = "opcode 0xFB", fmt.Sprintf("RESIZEDB: room for %s, %d of them with an expiry", units.Count(int64(a), "key"), b)
		case opSlotInfo:
			a, b, d := w.number(), w.number(), w.number()
			name, text = "opcode 0xF4", fmt.Sprintf("SLOT_INFO: slot %d of the cluster, %d keys, %d with an expiry", a, b, d)
		case opFunction2:
			name, text = "opcode 0xF5", "FUNCTION2: a library of functions, "+short(w.str())
		case opExpireMS, opExpire:
			n := uint64(8)
			if op == opExpire {
				n = 4
			}
			w.take(n)
			name, text = fmt.Sprintf("opcode 0x%X", op), "EXPIRETIME: the next key expires at that time"
		case opIdle:
			name, text = "opcode 0xF8", fmt.Sprintf("IDLE: the next key was not used for %d s", w.number())
		case opFreq:
			name, text = "opcode 0xF9", fmt.Sprintf("FREQ: the LFU counter of the next key, %d", w.byte())
		case opModuleAux, opEOF:
			return
		default:
			key := w.str()
			what := w.value(op)
			name, text = "key", fmt.Sprintf("%s: %s (type %d)", short(key), what, op)
			keys++
		}
		if w.bad {
			return
		}
		c.part(int64(w.at-from), name, text)
	}
}
