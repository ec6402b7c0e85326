package study

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"replicad/replica"
)

// ErrTranscript is what every error of [ReadTranscript] about the text wraps.
var ErrTranscript = errors.New("not a transcript")

// longestLine bounds a line of a transcript; its payload is in one.
const longestLine = 64 << 20

// Handshake is a handshake up to PSYNC, without a password, with a master that
// knows everything.
const Handshake = `R>M "PING\r\n"
M>R "+PONG\r\n"
R>M "REPLCONF listening-port 0\r\n"
M>R "+OK\r\n"
R>M "REPLCONF capa eof capa psync2\r\n"
M>R "+OK\r\n"
R>M "REPLCONF version 255.255.255\r\n"
M>R "+OK\r\n"`

// ReadTranscript reads a recorded conversation. A line is: direction (R>M,
// replica to master, or M>R), seconds since the connect, bytes, and the bytes
// in double quotes with C escapes; the two numbers may be missing. "close" is
// the end of a connection, "handshake" stands for [Handshake], after # comes a
// comment.
func ReadTranscript(r io.Reader) ([]Record, error) {
	in := bufio.NewScanner(r)
	in.Buffer(nil, longestLine)
	var all []Record
	var err error
	for n := 1; in.Scan(); n++ {
		lines := strings.TrimSpace(in.Text())
		if lines == "handshake" {
			lines = Handshake
		}
		for line := range strings.SplitSeq(lines, "\n") {
			if all, err = readLine(all, line); err != nil {
				return nil, fmt.Errorf("%w: line %d: %w", ErrTranscript, n, err)
			}
		}
	}
	if err = in.Err(); err == nil && len(all) == 0 {
		err = errors.New("it holds no message")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTranscript, err)
	}
	return all, nil
}

// readLine appends the record of a line, where the line has one, to all before.
func readLine(all []Record, line string) ([]Record, error) {
	word, _, _ := strings.Cut(line, " ")
	switch word {
	case "expect", "config", "history", "fsync": // what the tests of package replica want of it
		return all, nil
	}
	if line == "" || line[0] == '#' {
		return all, nil
	}
	x, err := parseLine(word, line)
	if err != nil {
		return all, err
	}
	x.Conn = 1
	if k := len(all); k > 0 {
		last := all[k-1]
		if x.Conn = last.Conn; last.Event.Kind == replica.Failed {
			x.Conn++ // it was closed
		}
		if x.At == 0 {
			x.At = last.At
		}
	}
	return append(all, x), nil
}

// parseLine reads a line that begins with word.
func parseLine(word, line string) (x Record, err error) {
	switch word {
	case "close":
		x.Event.Kind, x.Event.Err = replica.Failed, replica.ErrClosed
		return x, nil
	case ToMaster:
		x.Event.Kind = replica.Sent
	case ToReplica:
		x.Event.Kind = replica.Received
	default:
		return x, fmt.Errorf("it begins with %.20q, want R>M, M>R, close or #", line)
	}
	head, rest, ok := strings.Cut(line, `"`)
	if !ok {
		return x, errors.New("the bytes in quotes are missing")
	}
	text, err := strconv.Unquote(`"` + rest)
	if err != nil {
		return x, fmt.Errorf("the bytes in quotes: %w", err)
	}
	x.Data = []byte(text)
	columns := strings.Fields(head)[1:]
	if len(columns) == 0 {
		return x, nil
	}
	if len(columns) != 2 {
		return x, errors.New("want direction, seconds, bytes and the bytes in quotes")
	}
	seconds, err := strconv.ParseFloat(columns[0], 64)
	if err != nil || !(seconds >= 0 && seconds <= 1e9) {
		return x, fmt.Errorf("%q is no number of seconds", columns[0])
	}
	x.At = time.Duration(seconds * float64(time.Second)).Round(time.Microsecond)
	if columns[1] != strconv.Itoa(len(text)) {
		return x, fmt.Errorf("there are %d bytes, but it says %q", len(text), columns[1])
	}
	return x, nil
}

// WriteTranscript writes records in the form that ReadTranscript reads and the
// tests of package replica play. Comments tell of bytes that were not kept; whole
// is false then, and the transcript can be read but not played.
func WriteTranscript(w io.Writer, records []Record) (whole bool, err error) {
	out := bufio.NewWriter(w)
	whole = true
	conn := 0
	var start time.Duration // of the connection
	for _, r := range records {
		direction := map[replica.EventKind]string{replica.Sent: ToMaster, replica.Received: ToReplica}[r.Event.Kind]
		if r.Event.Kind == replica.Resolved {
			start = r.At
		}
		if direction == "" || r.Bytes() == 0 {
			continue
		}
		if conn > 0 && r.Conn != conn {
			fmt.Fprintln(out, "close")
		}
		conn = r.Conn
		line := func(p []byte) {
			if len(p) > 0 {
				fmt.Fprintf(out, "%s %8.4f %5d \"%s\"\n", direction, (r.At - start).Seconds(), len(p), escape(p))
			}
		}
		line(r.Data)
		if r.Gap > 0 {
			whole = false
			fmt.Fprintf(out, "# %d bytes are left out here\n", r.Gap)
		}
		line(r.Tail)
	}
	return whole, out.Flush()
}

// escape writes bytes with C escapes, as strconv.Unquote reads them.
func escape(p []byte) string {
	var b strings.Builder
	for _, c := range p {
		if i := strings.IndexByte("\r\n\t\"\\", c); i >= 0 {
			b.WriteByte('\\')
			b.WriteByte("rnt\"\\"[i])
		} else if c >= ' ' && c <= '~' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String()
}
