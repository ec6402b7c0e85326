package remote

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
)

// header is what an object begins with.
type header struct {
	Format  int        `json:"replicad"` // formatVersion
	History string     `json:"history"`
	From    int64      `json:"from"` // of a part of a base: in the RDB
	To      int64      `json:"to"`
	DB      int        `json:"db"`
	Inside  bool       `json:"inside,omitempty"` // From lies within a command, and DB means nothing
	CRC     string     `json:"crc32c"`
	Writer  string     `json:"writer"`
	Frames  []int64    `json:"frames"` // sizes, as they are stored
	Marks   [][2]int64 `json:"marks,omitempty"`
}

const (
	formatVersion = 1

	// pieceSize bounds an object's plain bytes, but for a command at its end.
	pieceSize = 64 << 20
	// frameSize is how many plain bytes a frame of zstd has, or a little more.
	frameSize = 1 << 20
	// skippable is the magic number of a skippable frame of zstd.
	skippable = 0x184D2A50
	// prelude is as much of an object as holds most headers.
	prelude = 32 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func hex(crc uint32) string { return fmt.Sprintf("%08x", crc) }

// seal appends the checksum of a text of JSON.
func seal(text []byte) []byte {
	return fmt.Appendf(text, " #%08x\n", crc32.Checksum(text, castagnoli))
}

// unseal reads what seal has made.
func unseal(p []byte, to any) error {
	i := len(p) - len(" #01234567\n")
	if i < 0 || !bytes.Equal(seal(bytes.Clone(p[:i])), p) {
		return errors.New("its checksum is wrong")
	}
	return json.Unmarshal(p[:i], to)
}

// codec has what compresses and decompresses. One goroutine at a time may use it.
type codec struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
}

func newCodec() *codec {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(frameSize))
	dec, err2 := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(2*longest))
	if err = errors.Join(err, err2); err != nil {
		panic(err) // the options are wrong
	}
	return &codec{enc, dec}
}

// object is one in the making. What is written is kept in a file that has no
// name, so that a large one takes no memory.
type object struct {
	head  header
	codec *codec
	file  *os.File
	size  int64 // of the frames
	crc   uint32
	plain []byte // of the frame in the making
}

func newObject(c *codec, dir string, h header) (*object, error) {
	f, err := os.CreateTemp(dir, ".remote-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	h.Format, h.To = formatVersion, h.From
	return &object{head: h, codec: c, file: f}, nil
}

func (o *object) Write(p []byte) (int, error) {
	o.crc = crc32.Update(o.crc, castagnoli, p)
	o.head.To += int64(len(p))
	o.plain = append(o.plain, p...)
	if len(o.plain) < frameSize {
		return len(p), nil
	}
	return len(p), o.flush()
}

func (o *object) flush() error {
	if len(o.plain) == 0 {
		return nil
	}
	frame := o.codec.enc.EncodeAll(o.plain, nil)
	o.plain = o.plain[:0]
	o.head.Frames = append(o.head.Frames, int64(len(frame)))
	_, err := o.file.Write(frame)
	o.size += int64(len(frame))
	return err
}

// finish gives a function that makes readers of the whole object, and its size.
func (o *object) finish() (body func() io.Reader, size int64, err error) {
	if err := o.flush(); err != nil {
		return nil, 0, err
	}
	o.head.CRC = hex(o.crc)
	text, err := json.Marshal(o.head)
	if err != nil {
		return nil, 0, err
	}
	text = seal(text)
	head := binary.LittleEndian.AppendUint32(nil, skippable)
	head = binary.LittleEndian.AppendUint32(head, uint32(len(text)))
	head = append(head, text...)
	body = func() io.Reader {
		return io.MultiReader(bytes.NewReader(head), io.NewSectionReader(o.file, 0, o.size))
	}
	return body, int64(len(head)) + o.size, nil
}

func (o *object) close() { o.file.Close() }

// headerSize is how long the header of an object is, with its frame around it.
func headerSize(p []byte) (int64, error) {
	if len(p) < 8 || binary.LittleEndian.Uint32(p) != skippable {
		return 0, fmt.Errorf("%w: it does not begin with a header", ErrDamaged)
	}
	return 8 + int64(binary.LittleEndian.Uint32(p[4:])), nil
}

// readHeader reads the header of an object.
func readHeader(p []byte) (h header, rest []byte, err error) {
	n, err := headerSize(p)
	switch {
	case err != nil:
		return h, nil, err
	case n > int64(len(p)):
		return h, nil, fmt.Errorf("%w: its header ends early", ErrDamaged)
	}
	if err := unseal(p[8:n], &h); err != nil {
		return h, nil, fmt.Errorf("%w: its header: %w", ErrDamaged, err)
	}
	if h.Format != formatVersion {
		return h, nil, fmt.Errorf("%w: it has format %d, and this replicad reads format %d", ErrDamaged, h.Format, formatVersion)
	}
	return h, p[n:], nil
}

// decode calls each with the plain bytes of an object, frame by frame. They are
// proved to be what was written only when decode has returned nil.
func (c *codec) decode(p []byte, each func(h header, from int64, p []byte) error) error {
	h, rest, err := readHeader(p)
	if err != nil {
		return err
	}
	var crc uint32
	var plain []byte
	at := h.From
	for i, n := range h.Frames {
		if n <= 0 || n > int64(len(rest)) {
			return fmt.Errorf("%w: it ends in frame %d", ErrDamaged, i)
		}
		if plain, err = c.dec.DecodeAll(rest[:n], plain[:0]); err != nil {
			return fmt.Errorf("%w: frame %d: %w", ErrDamaged, i, err)
		}
		if at+int64(len(plain)) > h.To {
			return fmt.Errorf("%w: it has more bytes than it says", ErrDamaged)
		}
		crc = crc32.Update(crc, castagnoli, plain)
		if err := each(h, at, plain); err != nil {
			return err
		}
		at, rest = at+int64(len(plain)), rest[n:]
	}
	switch {
	case at != h.To || len(rest) > 0:
		return fmt.Errorf("%w: it does not have the bytes that it says", ErrDamaged)
	case hex(crc) != h.CRC:
		return fmt.Errorf("%w: its CRC-32C is %08x, not %s", ErrDamaged, crc, h.CRC)
	}
	return nil
}
