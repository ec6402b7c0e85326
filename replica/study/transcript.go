package study

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"replicad/replica"
)

// ErrTranscript is what every error of [ReadTranscript] about the text wraps.
var ErrTranscript = errors.New("not a transcript")

// longestLine bounds a line of a transcript; its payload is in one.
const longestLine = 64 << 20

// directives of the conversations that tests play: they say what must come of
// one, and are no part of it.
func directives() []string { return []string{"expect", "config", "history", "fsync"} }

// Handshake is a handshake up to PSYNC, without a password, with a master that
// knows everything.
const Handshake = `R>M "PING\r\n"
M>R "+PONG\r\n"
R>M "REPLCONF listening-port 0\r\n"
M>R "+OK\r\n"
R>M "REPLCONF capa eof capa psync2\r\n"
M>R "+OK\r\n"
R>M "REPLCONF version 255.255.255\r\n"
M>R "+OK\r\n"
`

// ReadTranscript reads a recorded conversation. A line is: direction (R>M, replica
// to master, or M>R), seconds since the connect, bytes, and the bytes in double
// quotes with C escapes; the two numbers may be missing. "close" is the end of a
// connection, "handshake" stands for [Handshake], after # comes a comment.
func ReadTranscript(r io.Reader) ([]Record, error) {
	in := bufio.NewScanner(r)
	in.Buffer(nil, longestLine)
	var all []Record
	var at time.Duration
	conn := 1
	for n := 1; in.Scan(); n++ {
		line := strings.TrimSpace(in.Text())
		word, _, _ := strings.Cut(line, " ")
		switch {
		case line == "" || line[0] == '#' || slices.Contains(directives(), word):
		case line == "handshake":
			for l := range strings.Lines(Handshake) {
				x, _ := parseLine(strings.TrimSpace(l)) // it has no error
				x.At, x.Conn = at, conn
				all = append(all, x)
			}
		case line == "close":
			all = append(all, Record{At: at, Conn: conn, Event: replica.Event{Kind: replica.Failed, Err: replica.ErrClosed}})
			conn++
		case word == ToMaster || word == ToReplica:
			x, err := parseLine(line)
			if err != nil {
				return nil, fmt.Errorf("%w: line %d: %w", ErrTranscript, n, err)
			}
			if x.At == 0 {
				x.At = at
			}
			at, x.Conn = x.At, conn
			all = append(all, x)
		default:
			return nil, fmt.Errorf("%w: line %d begins with %.20q, want R>M, M>R, close or #", ErrTranscript, n, line)
		}
	}
	if err := in.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrTranscript, err)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: it holds no message", ErrTranscript)
	}
	return all, nil
}

func parseLine(line string) (Record, error) {
	var x Record
	x.Event.Kind = replica.Received
	if strings.HasPrefix(line, ToMaster) {
		x.Event.Kind = replica.Sent
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
	switch len(columns) {
	case 0:
		return x, nil
	case 2:
	default:
		return x, errors.New("want direction, seconds, bytes and the bytes in quotes")
	}
	seconds, err := strconv.ParseFloat(columns[0], 64)
	if err != nil || !(seconds >= 0 && seconds <= 1e9) {
		return x, fmt.Errorf("%q is no number of seconds", columns[0])
	}
	x.At = time.Duration(seconds * float64(time.Second)).Round(time.Microsecond)
	if n, err := strconv.Atoi(columns[1]); err != nil || n != len(x.Data) {
		return x, fmt.Errorf("there are %d bytes, but it says %q", len(x.Data), columns[1])
	}
	return x, nil
}

// WriteTranscript writes records in the form that ReadTranscript reads and the
// tests of package replica play. Bytes that were not kept are named in a comment;
// whole is false then, and the transcript can be read but not played.
func WriteTranscript(w io.Writer, records []Record) (whole bool, err error) {
	out := bufio.NewWriter(w)
	whole = true
	conn := 0
	var start time.Duration // of the connection
	for _, r := range records {
		if r.Conn != conn && r.Event.Kind != replica.Failed && r.Bytes() > 0 {
			if conn > 0 {
				fmt.Fprintln(out, "close")
			}
			conn = r.Conn
		}
		if r.Event.Kind == replica.Resolved {
			start = r.At
		}
		direction := ToReplica
		switch r.Event.Kind {
		case replica.Sent:
			direction = ToMaster
		case replica.Received:
		default:
			continue
		}
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
		switch {
		case c == '\r':
			b.WriteString(`\r`)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\t':
			b.WriteString(`\t`)
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c >= ' ' && c <= '~':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String()
}
