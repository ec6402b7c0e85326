package study

import (
	"bytes"
	"context"
	"fmt"
	"strconv"

	"replicad/replica/rdb"
	"replicad/replica/units"
)

// mostKeys is how many keys of an RDB are named.
const mostKeys = 32

// takeRDB takes apart a payload: the magic, the aux fields, keys and values as far
// as texts.yaml knows them, and the trailer. whole is false if it is a part of
// size bytes of a payload that has not come whole.
func (c *cutter) takeRDB(size int64, whole bool) {
	r := c.Things["payload"]
	c.begin(r, "", map[string]any{"Size": size, "Whole": whole})
	c.item.Continues = !whole
	head := c.kept()
	head = head[:min(int64(len(head)), size)]
	version, ok := rdb.ParseMagic(head[:min(len(head), rdb.MagicLen)])
	if !ok || version == 0 {
		c.named(size, r, "payload", nil)
		return
	}
	checksum := checksumOf(head, size)
	trailer := rdb.TrailerLen(version)
	if !whole || size < rdb.MagicLen+trailer {
		trailer = 0
	}
	end := c.pos + size - trailer
	c.named(rdb.MagicLen, r, "magic", version)
	c.takeRecords(head[rdb.MagicLen:min(int64(len(head)), size-trailer)])
	c.named(end-c.pos, r, "keys and values", end-c.pos)
	switch p := c.kept(); {
	case trailer == 0:
	case int64(len(p)) >= trailer && p[0] == rdb.OpEOF:
		c.named(1, r, "opcode 0xFF", nil)
		c.named(trailer-1, r, "checksum", c.Checksum[checksum])
	default:
		c.named(trailer, r, "keys and values", trailer)
	}
}

// checksumOf says what the checksum of a payload of size bytes is, of which p are
// known.
func checksumOf(p []byte, size int64) string {
	if int64(len(p)) < size {
		return "unknown"
	}
	v, err := rdb.VerifyChecksum(context.Background(), bytes.NewReader(p), size)
	switch {
	case err != nil:
		return "wrong"
	case v == rdb.Verified:
		return "right"
	}
	return "off"
}

// takeRecords makes parts of opcodes with their operands, and of keys with their
// values, up to the first that is not known.
func (c *cutter) takeRecords(p []byte) {
	in := recordReader{Reader: rdb.NewReader(bytes.NewReader(p)), p: p}
	for keys, from := 0, int64(0); keys < mostKeys; from = in.Offset() {
		op, err := in.ReadByte()
		if err != nil {
			return
		}
		r, known := c.Opcodes[op]
		reads, name, text := "", "", ""
		if known {
			reads, name, text = r.Reads, r.Title, r.Text
		} else if r, known = c.Values[op]; known {
			reads, name, text = "s"+r.Reads, "key", fmt.Sprintf("{{quote (.Word 0)}}: %s (type %d)", r.Text, op)
			keys++
		}
		all, err := in.operands(reads)
		if !known || err != nil {
			return
		}
		c.part(in.Offset()-from, name, c.fill(text, facts{words: all, Aux: c.Aux[all.Word(0)]}))
	}
}

// recordReader reads p, which is in memory as a whole.
type recordReader struct {
	*rdb.Reader
	p     []byte
	quick bool // the strings themselves are not wanted
}

// operands reads what texts.yaml says under "reads".
func (in recordReader) operands(reads string) (all words, err error) {
	for i, kind := range reads {
		word := ""
		var n uint64
		switch kind {
		case 's':
			word, err = in.string()
		case 'n', '*':
			n, err = in.ReadLength()
			word = strconv.FormatUint(n, 10)
		case 'b':
			var b byte
			b, err = in.ReadByte()
			word = strconv.Itoa(int(b))
		default:
			err = in.Skip(uint64(kind - '0'))
		}
		if err != nil {
			return nil, err
		}
		all = append(all, word)
		if kind == '*' {
			return all, in.repeated(n, reads[i+1:])
		}
	}
	return all, nil
}

// repeated passes over the operands n times. Each has a byte at the least, so that
// a number that lies ends at the end of p.
func (in recordReader) repeated(n uint64, reads string) error {
	in.quick = true
	for ; n > 0; n-- {
		if _, err := in.operands(reads); err != nil {
			return err
		}
	}
	return nil
}

// string reads a string; of a very long one it tells only how long it is.
func (in recordReader) string() (string, error) {
	from := in.Offset()
	if err := in.SkipString(); err != nil || in.quick {
		return "", err
	}
	encoded := in.p[from:in.Offset()]
	s, err := rdb.NewReader(bytes.NewReader(encoded)).ReadString()
	if err != nil {
		return units.Count(int64(len(encoded)), "byte"), nil
	}
	return string(s), nil
}
