package minimaster

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"

	"replicad/replica/rdb"
)

// ErrRDB marks an RDB file that is broken, or has in it what the engine cannot hold. The text says what and where.
var ErrRDB = errors.New("minimaster: cannot load the RDB file")

// LoadRDB adds the content of an RDB file to the engine. It reads what the master here writes, and the compact
// encodings of Redis 7: listpacks, intsets, quicklists, LZF. Ziplists (before 7.0), modules, consumer groups
// and hash fields with expiry are errors that wrap ErrRDB, as is a wrong checksum. Keys whose time is over
// are kept, as a replica keeps them. On an error part of the content may be loaded.
func (e *Engine) LoadRDB(r io.Reader) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, err := e.loadRDB(bufio.NewReader(r))
	return err
}

// loadRDB reads exactly the file and nothing behind it, and says how many bytes that were.
func (e *Engine) loadRDB(r *bufio.Reader) (int64, error) {
	in := &rdbReader{r: r, sum: rdb.NewChecksum()}
	if err := in.load(e); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return in.at, fmt.Errorf("%w: at byte %d: %w", ErrRDB, in.at, err)
	}
	return in.at, nil
}

type rdbReader struct {
	r   *bufio.Reader
	sum *rdb.Checksum
	at  int64
}

// Read counts and sums what is read.
func (in *rdbReader) Read(p []byte) (int, error) {
	n, err := in.r.Read(p)
	in.at += int64(n)
	_, _ = in.sum.Write(p[:n])
	return n, err
}

func (in *rdbReader) byte() (byte, error) {
	var b [1]byte
	_, err := io.ReadFull(in, b[:])
	return b[0], err
}

// bytes reads n bytes. A length that lies costs no memory: it grows with what really comes.
func (in *rdbReader) bytes(n uint64) ([]byte, error) {
	if n > maxString {
		return nil, fmt.Errorf("a string of %d bytes", n)
	}
	const piece = 64 << 10
	b := make([]byte, 0, min(n, piece))
	for uint64(len(b)) < n {
		k := int(min(n-uint64(len(b)), piece))
		b = slices.Grow(b, k)
		if _, err := io.ReadFull(in, b[len(b):len(b)+k]); err != nil {
			return nil, err
		}
		b = b[:len(b)+k]
	}
	return b, nil
}

// length reads a length; special says that it is one of the encodings of string instead.
func (in *rdbReader) length() (n uint64, special bool, err error) {
	c, err := in.byte()
	if err != nil {
		return 0, false, err
	}
	switch c >> 6 {
	case 0:
		return uint64(c & 0x3F), false, nil
	case 1:
		d, err := in.byte()
		return uint64(c&0x3F)<<8 | uint64(d), false, err
	case 3:
		return uint64(c & 0x3F), true, nil
	}
	size := uint64(4)
	if c == 0x81 {
		size = 8
	} else if c != 0x80 {
		return 0, false, fmt.Errorf("a length that begins with 0x%02x", c)
	}
	b, err := in.bytes(size)
	for _, d := range b {
		n = n<<8 | uint64(d)
	}
	return n, false, err
}

func (in *rdbReader) plain() (uint64, error) {
	n, special, err := in.length()
	if err == nil && special {
		err = errors.New("an encoded string where a length belongs")
	}
	return n, err
}

func (in *rdbReader) string() (string, error) {
	n, special, err := in.length()
	if err != nil {
		return "", err
	}
	if !special {
		b, err := in.bytes(n)
		return string(b), err
	}
	switch n {
	case encInt8, encInt16, encInt32:
		b, err := in.bytes(1 << n)
		if err != nil {
			return "", err
		}
		switch len(b) {
		case 1:
			return strconv.Itoa(int(int8(b[0]))), nil
		case 2:
			return strconv.Itoa(int(int16(binary.LittleEndian.Uint16(b)))), nil
		}
		return strconv.Itoa(int(int32(binary.LittleEndian.Uint32(b)))), nil
	case encLZF:
		packed, err := in.plain()
		if err != nil {
			return "", err
		}
		size, err := in.plain()
		if err != nil {
			return "", err
		}
		b, err := in.bytes(packed)
		if err != nil {
			return "", err
		}
		return unpackLZF(b, size)
	}
	return "", fmt.Errorf("a string of the unknown encoding %d", n)
}

// unpackLZF is lzf_decompress (lzf_d.c): runs of literals, and references to what has been written before.
func unpackLZF(in []byte, size uint64) (string, error) {
	bad := errors.New("malformed compressed string")
	if size > maxString {
		return "", bad
	}
	var out []byte
	for i := 0; i < len(in); {
		c := int(in[i])
		i++
		if c < 32 {
			if c+1 > len(in)-i {
				return "", bad
			}
			out = append(out, in[i:i+c+1]...)
			i += c + 1
			continue
		}
		n := c >> 5
		if n == 7 {
			if i == len(in) {
				return "", bad
			}
			n += int(in[i])
			i++
		}
		if i == len(in) {
			return "", bad
		}
		from := len(out) - (c&0x1F)<<8 - int(in[i]) - 1
		i++
		if from < 0 || uint64(len(out)+n+2) > size {
			return "", bad
		}
		for k := range n + 2 { // byte by byte: the two may overlap
			out = append(out, out[from+k])
		}
	}
	if uint64(len(out)) != size {
		return "", bad
	}
	return string(out), nil
}

func (in *rdbReader) load(e *Engine) error {
	magic, err := in.bytes(9)
	if err != nil {
		return err
	}
	version, err := strconv.Atoi(string(magic[5:]))
	if string(magic[:5]) != "REDIS" || err != nil || version < 1 {
		return fmt.Errorf("it begins with %q", magic)
	}
	db := 0
	var expire int64
	for {
		op, err := in.byte()
		if err != nil {
			return err
		}
		switch op {
		case opEOF:
			return in.checksum(version)
		case opSelectDB:
			n, err := in.plain()
			if err != nil {
				return err
			}
			if n >= Databases {
				return fmt.Errorf("database %d, of %d", n, Databases)
			}
			db = int(n)
		case opResizeDB:
			for range 2 {
				if _, err := in.plain(); err != nil {
					return err
				}
			}
		case opAux:
			for range 2 {
				if _, err := in.string(); err != nil {
					return err
				}
			}
		case opFunction2:
			if _, err := in.string(); err != nil { // a library of functions: no data
				return err
			}
		case opIdle:
			if _, err := in.plain(); err != nil {
				return err
			}
		case opFreq:
			if _, err := in.byte(); err != nil {
				return err
			}
		case opExpire, opExpireMS:
			b, err := in.bytes(map[byte]uint64{opExpire: 4, opExpireMS: 8}[op])
			if err != nil {
				return err
			}
			if op == opExpire {
				expire = int64(int32(binary.LittleEndian.Uint32(b))) * 1000
			} else {
				expire = int64(binary.LittleEndian.Uint64(b))
			}
			if expire <= 0 || expire > maxExpiry {
				return fmt.Errorf("an expiry of %d ms, which the engine cannot hold", expire)
			}
		default:
			key, err := in.string()
			if err != nil {
				return err
			}
			if e.exists(db, key) {
				return fmt.Errorf("key %q twice", key)
			}
			if err := in.value(e, db, key, op); err != nil {
				return fmt.Errorf("key %q: %w", key, err)
			}
			if expire != 0 {
				e.setExpire(db, key, expire)
				expire = 0
			}
		}
	}
}

// checksum compares the 8 bytes behind the end, which are 0 where checksums are off; before version 5 there are none.
func (in *rdbReader) checksum(version int) error {
	if version < 5 {
		return nil
	}
	got := in.sum.Sum64()
	b, err := in.bytes(8)
	if err != nil {
		return err
	}
	if want := binary.LittleEndian.Uint64(b); want != 0 && want != got {
		return fmt.Errorf("its checksum is %016x, not %016x as it says: %w", got, want, rdb.ErrChecksum)
	}
	return nil
}

// strings reads a count and so many strings, or pairs of them.
func (in *rdbReader) strings(each uint64) ([]string, error) {
	n, err := in.plain()
	if err != nil {
		return nil, err
	}
	if n > math.MaxInt32 {
		return nil, fmt.Errorf("%d elements", n)
	}
	var list []string
	for range n * each {
		s, err := in.string()
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

// packed reads a string and unpacks it.
func (in *rdbReader) packed(unpack func([]byte) ([]string, error)) ([]string, error) {
	s, err := in.string()
	if err != nil {
		return nil, err
	}
	return unpack([]byte(s))
}

// value reads one value and puts it into the engine.
func (in *rdbReader) value(e *Engine, db int, key string, kind byte) error {
	d := e.db(db)
	var list []string
	var err error
	switch kind {
	case typeString:
		s, err := in.string()
		if err != nil {
			return err
		}
		return d.Set(key, s)
	case typeList, typeSet:
		list, err = in.strings(1)
	case typeHash:
		list, err = in.strings(2)
	case typeZSet, typeZSet2:
		list, err = in.scores(kind)
	case typeSetIntset:
		list, err = in.packed(readIntset)
	case typeSetListpack, typeHashListpack, typeZSetListpack:
		list, err = in.packed(readListpack)
	case typeListQuicklist2:
		list, err = in.quicklist()
	case typeStreamListpacks, typeStream2, typeStream3:
		return in.stream(e, db, key, kind)
	default:
		return fmt.Errorf("values of type %d are not known here", kind)
	}
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return errors.New("an empty collection")
	}
	switch kind {
	case typeList, typeListQuicklist2:
		_, err = d.Push(key, list...)
	case typeSet, typeSetIntset, typeSetListpack:
		_, err = d.SetAdd(key, list...)
	default:
		if len(list)%2 != 0 {
			return errors.New("an odd number of strings where pairs belong")
		}
		if kind == typeHash || kind == typeHashListpack {
			d.HSet(key, list...)
			return nil
		}
		for pair := range slices.Chunk(list, 2) {
			score, ok := parseScore(pair[1])
			if !ok {
				return fmt.Errorf("score %q", pair[1])
			}
			if _, err = d.ZAdd(key, score, pair[0]); err != nil {
				return err
			}
		}
	}
	return err
}

// scores reads a sorted set as members and scores in text.
func (in *rdbReader) scores(kind byte) ([]string, error) {
	n, err := in.plain()
	if err != nil {
		return nil, err
	}
	var list []string
	for ; n > 0; n-- {
		member, err := in.string()
		if err != nil {
			return nil, err
		}
		var score string
		if kind == typeZSet2 {
			b, err := in.bytes(8)
			if err != nil {
				return nil, err
			}
			score = formatScore(math.Float64frombits(binary.LittleEndian.Uint64(b)))
		} else {
			size, err := in.byte() // rdb.c, rdbLoadDoubleValue
			if err != nil {
				return nil, err
			}
			switch size {
			case 253:
				score = "nan"
			case 254:
				score = "inf"
			case 255:
				score = "-inf"
			default:
				b, err := in.bytes(uint64(size))
				if err != nil {
					return nil, err
				}
				score = string(b)
			}
		}
		list = append(list, member, score)
	}
	return list, nil
}

// quicklist reads nodes that are either one plain element or a listpack of them (Redis 7.0).
func (in *rdbReader) quicklist() ([]string, error) {
	n, err := in.plain()
	if err != nil {
		return nil, err
	}
	var list []string
	for ; n > 0; n-- {
		container, err := in.plain()
		if err != nil {
			return nil, err
		}
		s, err := in.string()
		if err != nil {
			return nil, err
		}
		switch container {
		case 1:
			list = append(list, s)
		case 2:
			more, err := readListpack([]byte(s))
			if err != nil {
				return nil, err
			}
			list = append(list, more...)
		default:
			return nil, fmt.Errorf("a quicklist node of kind %d", container)
		}
	}
	return list, nil
}

// stream reads a stream without consumer groups.
func (in *rdbReader) stream(e *Engine, db int, key string, kind byte) error {
	nodes, err := in.plain()
	if err != nil {
		return err
	}
	d := e.db(db)
	added := uint64(0)
	var last streamID
	for ; nodes > 0; nodes-- {
		id, err := in.string()
		if err != nil {
			return err
		}
		if len(id) != 16 {
			return fmt.Errorf("a stream node with an id of %d bytes", len(id))
		}
		list, err := in.packed(readListpack)
		if err != nil {
			return err
		}
		first := streamID{binary.BigEndian.Uint64([]byte(id)), binary.BigEndian.Uint64([]byte(id[8:]))}
		err = eachEntry(list, func(ms, seq uint64, values []string) error {
			last = streamID{first.ms + ms, first.seq + seq}
			added++
			_, err := d.XAdd(key, last.String(), values)
			return err
		})
		if err != nil {
			return err
		}
	}
	// length, last id; since 7.0 first id, highest id deleted, entries ever added
	numbers := 3
	if kind != typeStreamListpacks {
		numbers = 8
	}
	var meta [8]uint64
	for i := range numbers {
		if meta[i], err = in.plain(); err != nil {
			return err
		}
	}
	groups, err := in.plain()
	switch {
	case err != nil:
		return err
	case groups != 0:
		return errors.New("consumer groups are not replicated")
	case meta[0] != added:
		return fmt.Errorf("a stream of %d entries says it has %d", added, meta[0])
	case added == 0:
		return errors.New("an empty stream, which the engine cannot hold")
	case last != streamID{meta[1], meta[2]}:
		return fmt.Errorf("the stream's last id is %d-%d, and its last entry %s: the engine cannot hold that", meta[1], meta[2], last)
	}
	return nil
}

var errStreamNode = errors.New("malformed stream node")

// eachEntry walks the listpack of a stream node: see (*rdbWriter).stream.
func eachEntry(list []string, do func(ms, seq uint64, values []string) error) error {
	next := func() (string, error) {
		if len(list) == 0 {
			return "", errStreamNode
		}
		s := list[0]
		list = list[1:]
		return s, nil
	}
	number := func() (int64, error) {
		s, err := next()
		if err != nil {
			return 0, err
		}
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return 0, errStreamNode
		}
		return n, nil
	}
	some := func(n int64) ([]string, error) {
		if n < 0 || n > int64(len(list)) {
			return nil, errStreamNode
		}
		s := list[:n]
		list = list[n:]
		return s, nil
	}
	numbers := func(n int) ([]int64, error) {
		var all []int64
		for range n {
			x, err := number()
			if err != nil {
				return nil, err
			}
			all = append(all, x)
		}
		return all, nil
	}
	head, err := numbers(3) // valid, deleted, number of fields
	if err != nil {
		return err
	}
	fields, err := some(head[2])
	if err != nil {
		return err
	}
	if _, err := number(); err != nil { // the end of the master entry
		return err
	}
	for len(list) > 0 {
		x, err := numbers(3) // flags, ms, seq
		if err != nil {
			return err
		}
		var values []string
		if x[0]&streamSameFields != 0 {
			v, err := some(int64(len(fields)))
			if err != nil {
				return err
			}
			for i := range v {
				values = append(values, fields[i], v[i])
			}
		} else {
			n, err := number()
			if err != nil {
				return err
			}
			if n > int64(len(list)) {
				return errStreamNode
			}
			if values, err = some(2 * n); err != nil {
				return err
			}
		}
		if _, err := number(); err != nil { // the count for those who walk backwards
			return err
		}
		if x[0]&streamDeleted != 0 {
			continue
		}
		if len(values) == 0 {
			return errStreamNode
		}
		if err := do(uint64(x[1]), uint64(x[2]), slices.Clone(values)); err != nil {
			return err
		}
	}
	return nil
}
