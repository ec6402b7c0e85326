package archive

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"time"
)

// The timeline is a text file, one fact a line, in the order in which the
// facts came to be. The first line is timelineVersion, and the forms of the
// others, which are written by fmt.Sprintf and read by parse, follow.
//
// Offsets are those of the last byte before the place. Times are unix
// milliseconds, and a CRC is the CRC-32C of a file, or of a segment's file up
// to the offset.
//
// Each line ends with " #" and the CRC-32C of what stands before it, eight hex
// digits. A line that does not check is passed over, and counted.
const (
	timelineVersion = "timeline 1"

	// baseForm: offset, size in bytes, when the log behind it began. Where
	// that was before the base was whole, the line comes again with the size.
	baseForm = "base %d size %d at %d"
	// replidForm: the id names the history behind the offset; noID where the
	// master has no ids.
	replidForm  = "replid %s from %d"
	segmentForm = "segment %d from %d db %d header %d"
	// sealedForm: the segment is complete, and the next one begins where it
	// ends.
	sealedForm = "sealed %d to %d crc %08x"
	markForm   = "mark %d offset %d crc %08x"
	// clockForm: at that time the wall clock was stepped back by so much.
	clockForm = "clock %d back %d"
	// sinceForm: the generation took over at that time from the one before,
	// which was followed until then: a rebase.
	sinceForm = "since %d offset %d"
	// forkForm: the history went back there, from what that generation holds,
	// and goes on as another master has it. That generation keeps what lies
	// behind.
	forkForm = "fork %d from %d"
	// cutForm: what earlier lines say of places beyond the offset no longer
	// holds.
	cutForm = "cut %d"
	// verifiedForm and the like: what reading a file again has shown.
	verifiedBaseForm = "verified base crc %08x"
	verifiedForm     = "verified segment %d"
	damagedForm      = "damaged segment %d" // as verifiedForm but for its first word
	// contentForm and contentBaseForm: what a [ContentReader] gave follows.
	contentForm     = "content segment %d"
	contentBaseForm = "content base"
	// needForm: what a server must have to load the generation; a module or a
	// command, its name, and the offset behind the first.
	needForm = "needs %s %s at %d"
	// endForm: the generation was closed there.
	endForm = "end %d"

	noID = "-"
)

// The forms of the slots of the file fsynced.
const (
	durableForm = "fsynced %d segment %d crc %08x boundary %d db %d crc %08x serial %d"
	storedForm  = "written %d segment %d crc %08x"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sealed appends a line with its checksum.
func sealed(dst []byte, line string) []byte {
	return append(dst, append(seal([]byte(line)), '\n')...)
}

// seal appends its checksum to a line.
func seal(line []byte) []byte {
	return appendCRC(append(line, " #"...), crc32.Checksum(line, castagnoli))
}

// appendCRC appends a CRC-32C as eight hex digits.
func appendCRC(dst []byte, crc uint32) []byte {
	var p [4]byte
	binary.BigEndian.PutUint32(p[:], crc)
	return hex.AppendEncode(dst, p[:])
}

// unseal checks a line without its newline and takes the checksum off.
func unseal(line string) (string, bool) {
	i := len(line) - len(" #01234567")
	if i < 0 || line[i:i+2] != " #" {
		return "", false
	}
	// The text, not the number: a digit in upper case is a flipped bit.
	var digits [8]byte
	if line[i+2:] != string(appendCRC(digits[:0], crc32.Checksum([]byte(line[:i]), castagnoli))) {
		return "", false
	}
	return line[:i], true
}

// values are the numbers of a line, in order.
type values [7]int64

// parse takes the numbers out of a line of a form: each %d is one that is not
// below zero, %08x a CRC, and %s any word. Words behind the form are those of a
// later version, and are left.
func parse(form, line string) (n values, ok bool) {
	k := 0
	for form != "" {
		var want, word string
		want, form, _ = strings.Cut(form, " ")
		word, line, _ = strings.Cut(line, " ")
		var err error
		switch want {
		case "%d":
			n[k], err = strconv.ParseInt(word, 10, 64)
			ok = err == nil && n[k] >= 0
			k++
		case "%08x":
			var crc uint64
			crc, err = strconv.ParseUint(word, 16, 32)
			n[k], ok = int64(crc), err == nil
			k++
		case "%s":
			ok = len(strings.Fields(word)) == 1
		default:
			ok = word == want
		}
		if !ok {
			return n, false
		}
	}
	return n, true
}

// The facts as lines.

func baseFact(offset, size int64, at time.Time) string {
	return fmt.Sprintf(baseForm, offset, size, at.UnixMilli())
}

func replidFact(id string, from int64) string {
	if id == "" {
		id = noID
	}
	return fmt.Sprintf(replidForm, id, from)
}

func segmentFact(s Segment) string {
	return fmt.Sprintf(segmentForm, s.Seq, s.From, s.DB, s.Header)
}

func sealedFact(s Segment) string { return fmt.Sprintf(sealedForm, s.Seq, s.To, s.CRC) }

func markFact(m Mark) string {
	return fmt.Sprintf(markForm, m.Time.UnixMilli(), m.Offset, m.CRC)
}

func clockFact(at, before time.Time) string {
	return fmt.Sprintf(clockForm, at.UnixMilli(), before.Sub(at).Milliseconds())
}

func sinceFact(at time.Time, offset int64) string {
	return fmt.Sprintf(sinceForm, at.UnixMilli(), offset)
}

func forkFact(offset int64, generation int) string {
	return fmt.Sprintf(forkForm, offset, generation)
}

func cutFact(offset int64) string { return fmt.Sprintf(cutForm, offset) }

func endFact(offset int64) string { return fmt.Sprintf(endForm, offset) }

func contentFact(seq int, content string) string {
	return fmt.Sprintf(contentForm, seq) + " " + content
}

func contentBaseFact(content string) string { return contentBaseForm + " " + content }

func needFact(n Need) string { return fmt.Sprintf(needForm, n.What, n.Name, n.Offset) }

func verifiedBaseFact(crc uint32) string { return fmt.Sprintf(verifiedBaseForm, crc) }

func examinedSegmentFact(seq int, good bool) string {
	if good {
		return fmt.Sprintf(verifiedForm, seq)
	}
	return fmt.Sprintf(damagedForm, seq)
}
