package study

import (
	"bytes"
	"context"
	"fmt"
	"strconv"

	"replicad/replica/rdb"
)

// mostKeys is how many keys of an RDB are named.
const mostKeys = 32

// takeRDB takes apart a payload: the magic, the aux fields, keys and values as
// far as texts.yaml knows them, and the trailer. whole is false if it is a part
// of size bytes of a payload that has not come whole.
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
// values, up to the first that is not known, or has a string of more than
// [rdb.MaxString] bytes.
func (c *cutter) takeRecords(p []byte) {
	in := rdb.NewReader(bytes.NewReader(p))
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
		all, err := operands(in, reads)
		if !known || err != nil {
			return
		}
		c.part(in.Offset()-from, name, c.fill(text, facts{words: all, Aux: c.Aux[all.Word(0)]}))
	}
}

// operands reads what texts.yaml says under "reads". What follows a * comes as
// often as a length says; each time that has a byte at the least, so that a
// length that lies ends with the bytes.
func operands(in *rdb.Reader, reads string) (all words, err error) {
	for i, kind := range reads {
		var word []byte
		var n uint64
		switch kind {
		case 's':
			word, err = in.ReadString()
		case 'n', '*':
			n, err = in.ReadLength()
			word = strconv.AppendUint(nil, n, 10)
		case 'b':
			var b byte
			b, err = in.ReadByte()
			word = strconv.AppendUint(nil, uint64(b), 10)
		default:
			err = in.Skip(uint64(kind - '0'))
		}
		all = append(all, string(word))
		for ; kind == '*' && n > 0 && err == nil; n-- {
			_, err = operands(in, reads[i+1:])
		}
		if err != nil || kind == '*' {
			return all, err
		}
	}
	return all, nil
}
