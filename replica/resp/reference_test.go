package resp

import (
	"math"
	"math/big"
	"regexp"
	"strconv"
	"strings"
)

// found is all that can be asked of a scanner.
type found struct {
	Scanned         int64
	Boundary        Boundary
	CommandBoundary Boundary
	CommandStart    int64
	InMulti         bool
	Commands        int64
}

func (s *Scanner) found() found {
	return found{s.Scanned(), s.Boundary(), Boundary{s.lastEnd, s.db}, s.CommandStart(), s.inMulti, s.Commands()}
}

// ack is one GETACK that was passed: where it began, and where it ended.
type ack struct{ Start, End int64 }

// outcome is what a scan of a whole stream comes to.
type outcome struct {
	found
	Failed bool
	Acks   []ack
}

// reference scans p, which is there as a whole, in the slowest and most obvious
// way that its author could think of.
func reference(p []byte, db int, limits Limits) outcome {
	if limits.MaxBulk == 0 {
		limits.MaxBulk = math.MaxInt64
	}
	if limits.MaxArgs == 0 {
		limits.MaxArgs = math.MaxInt64
	}
	r := outcome{}
	r.Boundary.DB, r.CommandBoundary.DB = db, db
	at := 0
	for {
		start := at
		args, end, ok := referenceCommand(p, at, limits)
		if !ok || end < 0 {
			r.Scanned, r.Failed = int64(len(p)), !ok
			if !ok {
				r.Scanned = int64(end)
			}
			return r
		}
		at = end
		r.Commands++
		r.CommandStart = int64(start)
		r.CommandBoundary.Offset = int64(end)
		switch name := asciiLower(args[0]); {
		case name == "select" && len(args) == 2:
			if n, err := strconv.ParseInt(args[1], 10, 32); err == nil && n >= 0 && strconv.FormatInt(n, 10) == args[1] {
				r.CommandBoundary.DB = int(n)
			}
		case name == "multi" && len(args) == 1:
			r.InMulti = true
		case name == "exec" && len(args) == 1:
			r.InMulti = false
		case name == "discard" && len(args) == 1 && r.InMulti:
			r.InMulti = false
			r.CommandBoundary.DB = r.Boundary.DB
		case name == "replconf" && len(args) == 3 && asciiLower(args[1]) == "getack":
			r.Acks = append(r.Acks, ack{int64(start), int64(end)})
		}
		if !r.InMulti {
			r.Boundary = r.CommandBoundary
		}
	}
}

// referenceCommand reads one array at p[at:] and returns where it ends, -1 if it
// is incomplete; if it is not ok, end is the index of the offending byte.
func referenceCommand(p []byte, at int, limits Limits) (args []string, end int, ok bool) {
	count, at, ok := referenceNumber(p, at, '*', int64(limits.MaxArgs), 1)
	if !ok || at < 0 {
		return nil, at, ok
	}
	for ; count > 0; count-- {
		var length int64
		length, at, ok = referenceNumber(p, at, '$', limits.MaxBulk, 0)
		if !ok || at < 0 {
			return nil, at, ok
		}
		if int64(len(p)-at) < length {
			return nil, -1, true
		}
		args = append(args, string(p[at:at+int(length)]))
		at += int(length)
		for _, want := range []byte("\r\n") {
			if at == len(p) {
				return nil, -1, true
			}
			if p[at] != want {
				return nil, at, false
			}
			at++
		}
	}
	return args, at, true
}

var (
	number       = regexp.MustCompile(`^(0|[1-9][0-9]*)$`)
	numberPrefix = regexp.MustCompile(`^(0|([1-9][0-9]*)?)$`)
)

func referenceNumber(p []byte, at int, mark byte, most, least int64) (n int64, end int, ok bool) {
	if at == len(p) {
		return 0, -1, true
	}
	if p[at] != mark {
		return 0, at, false
	}
	first := at + 1
	for at = first; at < len(p); at++ {
		text := string(p[first:at])
		if p[at] == '\r' && number.MatchString(text) {
			n, _ = strconv.ParseInt(text, 10, 64)
			if n < least {
				return 0, at, false
			}
			if at+1 == len(p) {
				return 0, -1, true
			}
			if p[at+1] != '\n' {
				return 0, at + 1, false
			}
			return n, at + 2, true
		}
		text += string(rune(p[at]))
		if !numberPrefix.MatchString(text) {
			return 0, at, false
		}
		if v, isNumber := new(big.Int).SetString(text, 10); isNumber && (!v.IsInt64() || v.Int64() > most) {
			return 0, at, false
		}
	}
	return 0, -1, true
}

func asciiLower(s string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'A' && c <= 'Z' {
			return c - 'A' + 'a'
		}
		return c
	}, s)
}
