package rdb

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Content is what a whole RDB file holds, as far as a restore must know it.
type Content struct {
	Keys      int64
	Expires   int64    // keys, or hashes with fields, that have a time to live
	HighestDB int      // of the databases that are selected
	Modules   []string // whose data is in it: the names of their types, nine characters each
}

// ErrUnknown is returned, wrapped with the place, for a type of value that this
// package does not know. What was read up to there is right.
var ErrUnknown = errors.New("rdb: unknown type of value")

// What opcodes and types have behind them, in letters: s is a string, l a
// length, d a double as a text, m the parts of a module's value, and 1, 4, 8
// and U are so many bytes, U sixteen. What stands in parentheses comes as often
// as the length before says (rdbLoadRio and rdbLoadObject in Redis' rdb.c).
const (
	stream  = "(ss)lll"
	stream2 = stream + "lllll"
)

// forms are those of the types; "" for one that is unknown. Types 22 and
// below are Valkey's, too, but for the last: there it is a hash whose fields
// have times to live.
func forms(valkey bool) []string {
	f := []string{
		0: "s", 1: "(s)", 2: "(s)", 3: "(sd)", 4: "(ss)", 5: "(s8)", 7: "lm",
		9: "s", 10: "s", 11: "s", 12: "s", 13: "s", 14: "(s)",
		15: stream + "(sll(U8l)(s8(U)))", 16: "s", 17: "s", 18: "(ls)",
		19: stream2 + "(slll(U8l)(s8(U)))", 20: "s", 21: stream2 + "(slll(U8l)(s88(U)))",
		22: "(lss)", 23: "s", 24: "8(lss)", 25: "8s",
	}
	if valkey {
		f = append(f[:22], "(ss8)")
	}
	return f
}

// ReadContent reads an RDB file to its end. It calls ends for each key that has a
// time to live, with the time when that ends, in milliseconds since 1970. The
// error is ctx's, one of r, or wraps [ErrNotRDB], [ErrMalformed] or [ErrUnknown].
// The Content then has what was read up to there. ReadContent takes 1 MiB of
// memory, and looks at ctx at each key.
func ReadContent(ctx context.Context, r io.Reader, ends func(ms int64)) (Content, error) {
	in := &contentReader{Reader: NewReader(bufio.NewReaderSize(r, pieceSize)), ends: ends}
	var magic [MagicLen]byte
	n, _ := io.ReadFull(in, magic[:])
	if version, ok := ParseMagic(magic[:n]); !ok || version == 0 {
		return in.Content, fmt.Errorf("%w: it begins with %q", ErrNotRDB, magic[:n])
	}
	in.forms = forms(strings.HasPrefix(string(magic[:]), "VALKEY"))
	for ctx.Err() == nil {
		op, err := in.ReadByte()
		if err == nil && op == OpEOF {
			return in.Content, nil
		}
		if err == nil {
			err = in.record(op)
		}
		if errors.Is(err, ErrUnknown) {
			return in.Content, fmt.Errorf("byte %d: %w", in.at, err)
		}
		if err != nil {
			return in.Content, in.place(fmt.Sprintf("behind opcode 0x%02x", op), err)
		}
	}
	return in.Content, ctx.Err()
}

// contentReader reads records of which only a part is of interest.
type contentReader struct {
	*Reader
	Content
	forms   []string
	ends    func(ms int64)
	expires bool // the key that follows has a time to live
}

// record reads what is behind an opcode, or behind the type of a key.
func (r *contentReader) record(op byte) error {
	switch op {
	case 0xF4: // a cluster's slot
		return r.pass("lll")
	case 0xF5: // a library of functions
		return r.pass("s")
	case 0xF7:
		if err := r.module(); err != nil {
			return err
		}
		return r.pass("llm")
	case 0xF8: // idle time
		return r.pass("l")
	case 0xF9: // frequency of use
		return r.pass("1")
	case OpAux:
		return r.pass("ss")
	case 0xFB: // sizes of the database
		return r.pass("ll")
	case 0xFC:
		return r.ttl(8, 1)
	case 0xFD:
		return r.ttl(4, 1000)
	case 0xFE:
		db, err := r.ReadLength()
		r.HighestDB = max(r.HighestDB, int(min(db, 1<<31-1)))
		return err
	}
	if int(op) >= len(r.forms) || r.forms[op] == "" {
		return fmt.Errorf("%w: 0x%02x", ErrUnknown, op)
	}
	if err := r.pass("s"); err != nil { // the key
		return err
	}
	r.Keys++
	if r.expires || op >= 22 {
		r.Expires++
	}
	r.expires = false
	if op == 7 {
		if err := r.module(); err != nil {
			return err
		}
		return r.pass("m")
	}
	return r.pass(r.forms[op])
}

// ttl reads when the time to live of the key that follows ends: a number of so
// many bytes, in units of so many milliseconds.
func (r *contentReader) ttl(bytes int, unit int64) error {
	var p [8]byte
	_, err := io.ReadFull(r, p[:bytes])
	if r.expires = true; err == nil {
		r.ends(int64(binary.LittleEndian.Uint64(p[:])) * unit)
	}
	return err
}

// module reads the id of a module's type, which its name is packed in
// (moduleTypeNameByID in Redis' module.c).
func (r *contentReader) module() error {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	id, err := r.ReadLength()
	if err != nil {
		return err
	}
	var name [9]byte
	for i := range name {
		name[i] = letters[id>>(64-6*(i+1))&63]
	}
	if !slices.Contains(r.Modules, string(name[:])) && len(r.Modules) < 64 {
		r.Modules = append(r.Modules, string(name[:]))
	}
	return nil
}

// pass passes over what a form describes.
func (r *contentReader) pass(form string) error {
	for i := 0; i < len(form); i++ {
		var err error
		switch c := form[i]; c {
		case 's':
			err = r.skipString()
		case 'l':
			_, err = r.ReadLength()
		case 'd':
			var n byte
			// 253 to 255 stand for NaN and the infinities.
			if n, err = r.ReadByte(); err == nil && n < 253 {
				err = r.Skip(uint64(n))
			}
		case 'm':
			err = r.moduleParts()
		case 'U':
			err = r.Skip(16)
		case '(':
			end := i + 1
			for depth := 1; depth > 0; end++ {
				switch form[end] {
				case '(':
					depth++
				case ')':
					depth--
				}
			}
			var n uint64
			if n, err = r.ReadLength(); err != nil {
				return err
			}
			for ; n > 0 && err == nil; n-- {
				err = r.pass(form[i+1 : end-1])
			}
			i = end - 1
		default:
			err = r.Skip(uint64(c - '0'))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// moduleParts passes over the parts of a module's value, each of which has its
// own opcode (rdbLoadCheckModuleValue in Redis' rdb.c).
func (r *contentReader) moduleParts() error {
	for {
		op, err := r.ReadLength()
		if err != nil || op == 0 {
			return err
		}
		if op > 5 {
			return fmt.Errorf("%w: part %d of a module's value", ErrUnknown, op)
		}
		if err := r.pass([]string{1: "l", 2: "l", 3: "4", 4: "8", 5: "s"}[op]); err != nil {
			return err
		}
	}
}

// skipString passes over a string in any of its encodings.
func (r *contentReader) skipString() error {
	n, encoded, err := r.length()
	switch {
	case err != nil:
		return err
	case !encoded:
		return r.Skip(n)
	case n <= encInt32:
		return r.Skip(1 << n)
	case n != encLZF:
		return malformed(fmt.Sprintf("unknown string encoding 0x%02x", 0xC0|n))
	}
	if n, err = r.plainLength("the compressed length"); err != nil {
		return err
	}
	if _, err = r.plainLength("the length"); err != nil {
		return err
	}
	return r.Skip(n)
}
