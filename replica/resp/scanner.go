package resp

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// What a master may send unless it is configured otherwise.
const (
	DefaultMaxBulk = 512 << 20 // bytes; proto-max-bulk-len of redis.conf
	// DefaultMaxArgs is in arguments, the command's name included:
	// processMultibulkBuffer in Redis' networking.c takes as many since 7.0.
	DefaultMaxArgs = math.MaxInt32
)

// maxDB is the largest database number that SELECT follows: selectCommand in
// Redis' db.c reads it as an int.
const maxDB = 1<<31 - 1

// What errors.Is finds in a [ProtocolError].
var (
	// ErrProtocol is in every one.
	ErrProtocol = errors.New("resp: protocol error")
	// ErrLongArgument: an argument is longer than Limits.MaxBulk.
	ErrLongArgument = errors.New("longer than allowed")
	// ErrManyArguments: a command has more arguments than Limits.MaxArgs.
	ErrManyArguments = errors.New("more arguments than allowed")
)

// ProtocolError says where and why a stream is not one of RESP arrays of bulk
// strings. Such a stream can be neither stored nor followed any further.
type ProtocolError struct {
	Offset int64  // bytes scanned before the offending byte
	Reason string // what is wrong, without the place
	Limit  error  // ErrLongArgument or ErrManyArguments; nil where no limit was passed
}

// Error gives the reason and the place.
func (e *ProtocolError) Error() string {
	return fmt.Sprintf("resp: protocol error at stream byte %d: %s", e.Offset, e.Reason)
}

// Is makes errors.Is true for [ErrProtocol], and for the limit that was passed.
func (e *ProtocolError) Is(target error) bool { return target == ErrProtocol || target == e.Limit }

// Limits bound a command. A [Scanner] buffers nothing: limits tell a master that
// sends a command without an end from one that sends a large command. A reader
// of what was stored has none.
type Limits struct {
	MaxBulk int64 // bytes of one argument; 0 for no limit
	MaxArgs int   // arguments of one command; 0 for no limit
}

// Kind tells why [Scanner.Scan] returned.
type Kind uint8

const (
	// More: all bytes were walked; the scanner waits for more of them.
	More Kind = iota
	// GetAck: a complete REPLCONF GETACK was just passed.
	GetAck
	// Watched: a complete command that Scanner.Watch asked for was just
	// passed.
	Watched
)

// Boundary is a place between two commands.
type Boundary struct {
	Offset int64 // bytes since the scanner's start
	DB     int   // the database that the next command acts on
}

// What the next byte is part of.
type state uint8

const (
	atCommand state = iota // the '*' of an array
	inCount                // its length
	countLF                // the newline behind it
	atBulk                 // the '$' of a bulk string
	inLength               // its length
	lengthLF               // the newline behind it
	inBulk                 // the bytes of the string
	bulkCR                 // the carriage return behind it
	bulkLF                 // the newline behind that
)

// What kind of command is being walked, as far as the scanner cares.
type verb uint8

const (
	other verb = iota
	selectDB
	multi
	exec
	discard
	replconf
	getAck
	watched
)

// Scanner walks a replication stream in place, in pieces cut anywhere, and tells
// where commands end, which database is selected, and whether a transaction is
// open. It does not allocate: of an argument it keeps 64 bytes at most.
//
// It takes RESP arrays of bulk strings and nothing else, as a master sends
// nothing else. Numbers must be what string2ll in Redis' util.c takes: digits
// without a plus sign or leading zeros. An array without elements is refused,
// as the loader of AOF files does (loadSingleAppendOnlyFile in aof.c, argc <
// 1). The CR LF behind a bulk string is verified, as redis-check-aof does;
// redis-server skips two bytes.
//
// SELECT, MULTI, EXEC and DISCARD are followed as redis-server does: in any
// letter case, and only with the right number of arguments. A SELECT inside a
// transaction takes effect with EXEC and not with DISCARD. A MULTI inside a
// MULTI, an EXEC or DISCARD without one, and a SELECT of no database number
// change nothing.
type Scanner struct {
	// Watch, unless nil, is asked about each command by its name, as it was
	// sent, and its number of arguments, the name included; not about those
	// that the scanner follows itself (SELECT, MULTI, EXEC, DISCARD, REPLCONF).
	// Of a longer name, as some are renamed to, Watch gets 64 bytes. Where Watch
	// says true, Scan returns Watched behind the command. name is valid during
	// the call.
	Watch func(name []byte, args uint64) bool

	scanned int64 // bytes walked by earlier calls of Scan
	maxBulk uint64
	maxArgs uint64
	err     *ProtocolError

	// The command being walked.
	state  state
	verb   verb
	digits uint8  // how many digits of it were read
	number uint64 // its value so far
	args   uint64 // arguments of the command
	left   uint64 // of these, not yet complete
	length uint64 // bytes of the bulk string
	rest   uint64 // of these, not yet walked
	start  int64  // offset of the command
	target int64  // argument of SELECT, -1 if it is no database
	kept   uint8  // bytes used of keep
	keep   [64]byte

	// What was found.
	commands  int64
	lastStart int64 // of the last complete command
	lastEnd   int64 // likewise
	db        int   // the next command's
	highest   int   // of the databases that were selected
	inMulti   bool
	outside   Boundary // where the open MULTI began; its database is restored by DISCARD

	limit error // that err passed
}

// NewScanner returns a scanner for a stream which begins at a command boundary
// while database db is selected: after a full sync that is the RDB's
// repl-stream-db, or 0.
func NewScanner(db int, limits Limits) *Scanner {
	return &Scanner{
		db:      max(db, 0),
		highest: max(db, 0),
		maxBulk: uint64(cmp.Or(limits.MaxBulk, math.MaxInt64)),
		maxArgs: uint64(cmp.Or(limits.MaxArgs, math.MaxInt64)),
	}
}

// Scanned returns how many bytes were walked in all.
func (s *Scanner) Scanned() int64 { return s.scanned }

// Boundary returns the place behind the last complete command that is outside
// MULTI ... EXEC: there, and only there, the stream may be cut into files.
// EXEC itself, or DISCARD, ends a transaction and is outside again.
func (s *Scanner) Boundary() Boundary {
	if s.inMulti {
		return s.outside
	}
	return Boundary{s.lastEnd, s.db}
}

// CommandStart returns the offset at which the last complete command began, 0
// while there is none. After [GetAck] it is what a replica acknowledges, as the
// bytes of the question itself do not count yet (replconfCommand in Redis'
// replication.c).
func (s *Scanner) CommandStart() int64 { return s.lastStart }

// Commands returns the number of complete commands.
func (s *Scanner) Commands() int64 { return s.commands }

// CommandEnd returns the offset behind the last complete command.
func (s *Scanner) CommandEnd() int64 { return s.lastEnd }

// HighestDB returns the highest database that was selected, in a transaction
// that was discarded, too.
func (s *Scanner) HighestDB() int { return s.highest }

// Scan walks p, the bytes that follow those of earlier calls, and returns how
// many it walked. With [More] that is all of p. With [GetAck] it is as many as
// end with the REPLCONF GETACK command, inside a transaction too; the caller
// answers it and calls again with the rest. Likewise with [Watched]. The error
// is nil or a [*ProtocolError]; then n counts the bytes before the offending
// one, and the scanner takes no more: it returns that error again. What it
// found up to there stays readable.
//
// p is neither kept nor changed.
func (s *Scanner) Scan(p []byte) (n int, kind Kind, err error) {
	if s.err != nil {
		return 0, More, s.err
	}
	n, kind = s.scan(p)
	s.scanned += int64(n)
	if s.err != nil {
		return n, More, s.err
	}
	return n, kind, nil
}

// scan is the careful way, a byte at a time except for the strings themselves.
// It hands over to fast wherever a command or a bulk string begins.
func (s *Scanner) scan(p []byte) (int, Kind) {
	for i := 0; i < len(p); {
		if s.state == atCommand || s.state == atBulk {
			var kind Kind
			if i, kind = s.fast(p, i); kind != More || i == len(p) {
				return i, kind
			}
		}
		c := p[i]
		switch s.state {
		case atCommand:
			if c != '*' {
				return s.fail(i, "expected '*', the begin of a command, got %q", c)
			}
			s.start = s.scanned + int64(i)
			s.verb = other
			s.beginNumber(inCount)

		case inCount:
			if c == '\r' && s.digits > 0 {
				if s.number == 0 {
					return s.fail(i, "a command without arguments, which no server loads, ends with %q", c)
				}
				s.state = countLF
			} else if reason := s.digit(c, s.maxArgs, ErrManyArguments); reason != "" {
				return s.fail(i, "invalid number of arguments: "+reason, c)
			}

		case countLF:
			if c != '\n' {
				return s.fail(i, "expected the newline behind the number of arguments, got %q", c)
			}
			s.args, s.left, s.state = s.number, s.number, atBulk

		case atBulk:
			if c != '$' {
				return s.fail(i, "expected '$', the begin of an argument, got %q", c)
			}
			s.beginNumber(inLength)

		case inLength:
			if c == '\r' && s.digits > 0 {
				s.state = lengthLF
			} else if reason := s.digit(c, s.maxBulk, ErrLongArgument); reason != "" {
				return s.fail(i, "invalid argument length: "+reason, c)
			}

		case lengthLF:
			if c != '\n' {
				return s.fail(i, "expected the newline behind an argument's length, got %q", c)
			}
			s.length, s.rest, s.kept, s.state = s.number, s.number, 0, inBulk
			if s.rest == 0 {
				s.argument(nil)
				s.state = bulkCR
			}

		case inBulk:
			part := p[i:]
			if uint64(len(part)) > s.rest {
				part = part[:s.rest]
			}
			if s.wanted() {
				s.kept += uint8(copy(s.keep[s.kept:], part))
			}
			if s.rest -= uint64(len(part)); s.rest == 0 {
				s.argument(s.keep[:s.kept])
				s.state = bulkCR
			}
			i += len(part)
			continue

		case bulkCR:
			if c != '\r' {
				return s.fail(i, "expected CR LF behind an argument, got %q", c)
			}
			s.state = bulkLF

		case bulkLF:
			if c != '\n' {
				return s.fail(i, "expected CR LF behind an argument, got CR and %q", c)
			}
			s.state = atBulk
			if s.left--; s.left == 0 {
				s.state = atCommand
				if kind := s.complete(s.scanned + int64(i) + 1); kind != More {
					return i + 1, kind
				}
			}
		}
		i++
	}
	return len(p), More
}

// fail marks the scanner as failed at p[i].
func (s *Scanner) fail(i int, format string, c byte) (int, Kind) {
	s.err = &ProtocolError{Offset: s.scanned + int64(i), Reason: fmt.Sprintf(format, c), Limit: s.limit}
	return i, More
}

func (s *Scanner) beginNumber(next state) { s.number, s.digits, s.state = 0, 0, next }

// digit adds c to the number being read, or says why it cannot; the reason has a
// %q for c. A number beyond limit is refused with the digit that makes it so,
// so that no more than 19 of them are ever read.
func (s *Scanner) digit(c byte, limit uint64, beyond error) string {
	d := uint64(c - '0')
	if d > 9 {
		return "got %q"
	}
	if s.digits > 0 && s.number == 0 {
		return "leading zero before %q"
	}
	if s.number > limit/10 || s.number*10+d > limit {
		s.limit = beyond
		return beyond.Error() + " with digit %q"
	}
	s.number = s.number*10 + d
	s.digits++
	return ""
}

// wanted tells whether the argument being walked must be looked at, once its
// length is known.
func (s *Scanner) wanted() bool {
	switch s.args - s.left {
	case 0:
		return s.length-4 <= 4 || s.Watch != nil
	case 1:
		return s.verb == selectDB && s.length <= 10 || s.verb == replconf && s.length == 6
	}
	return false
}

// argument takes the bytes of the argument that was just walked; only if it is
// wanted are they all there.
func (s *Scanner) argument(b []byte) {
	switch s.args - s.left {
	case 0:
		if s.length-4 <= 4 {
			var name [8]byte
			copy(name[:], b)
			s.verb = verbOf(binary.LittleEndian.Uint64(name[:]), s.length, s.args)
		}
		if s.verb == other && s.Watch != nil && s.Watch(b[:min(len(b), len(s.keep))], s.args) {
			s.verb = watched
		}
	case 1:
		switch s.verb {
		case selectDB:
			if s.target = -1; s.length <= 10 {
				s.target = database(b)
			}
		case replconf:
			if s.length == 6 && bytes.EqualFold(b, []byte("getack")) {
				s.verb = getAck
			}
		}
	}
}

// Command names as they are loaded, little endian, in lower case.
const (
	nameExec     = 'e' | 'x'<<8 | 'e'<<16 | 'c'<<24
	nameMulti    = 'm' | 'u'<<8 | 'l'<<16 | 't'<<24 | 'i'<<32
	nameSelect   = 's' | 'e'<<8 | 'l'<<16 | 'e'<<24 | 'c'<<32 | 't'<<40
	nameDiscard  = 'd' | 'i'<<8 | 's'<<16 | 'c'<<24 | 'a'<<32 | 'r'<<40 | 'd'<<48
	nameReplconf = 'r' | 'e'<<8 | 'p'<<16 | 'l'<<24 | 'c'<<32 | 'o'<<40 | 'n'<<48 | 'f'<<56

	// lower is the bit that turns a letter into its lower case. No byte but
	// the two cases of a letter becomes that letter by it.
	lower = 0x2020202020202020
)

// verbOf classifies a command by its name of 4 to 8 bytes, the first of which is
// in name's lowest byte (what lies above the name's length is ignored), and by
// its number of arguments, the name included.
func verbOf(name, length, args uint64) verb {
	name = (name | lower) & (^uint64(0) >> (64 - 8*length))
	switch {
	case length == 4 && name == nameExec && args == 1:
		return exec
	case length == 5 && name == nameMulti && args == 1:
		return multi
	case length == 6 && name == nameSelect && args == 2:
		return selectDB
	case length == 7 && name == nameDiscard && args == 1:
		return discard
	case length == 8 && name == nameReplconf && args == 3:
		return replconf
	}
	return other
}

// database reads the argument of SELECT, or returns -1 if it is none.
func database(b []byte) int64 {
	if len(b) == 0 || len(b) > 1 && b[0] == '0' {
		return -1
	}
	n := int64(0)
	for _, c := range b {
		if c < '0' || c > '9' {
			return -1
		}
		n = n*10 + int64(c-'0')
	}
	if n > maxDB {
		return -1
	}
	return n
}

// complete accounts for the command that ends at offset end, and tells whether
// Scan is to return behind it.
func (s *Scanner) complete(end int64) Kind {
	switch s.verb {
	case selectDB:
		if s.target >= 0 {
			s.db = int(s.target)
			s.highest = max(s.highest, s.db)
		}
	case multi:
		if !s.inMulti {
			s.inMulti, s.outside = true, Boundary{s.lastEnd, s.db}
		}
	case exec:
		s.inMulti = false
	case discard:
		if s.inMulti {
			s.inMulti, s.db = false, s.outside.DB
		}
	}
	s.commands++
	s.lastStart, s.lastEnd = s.start, end
	switch s.verb {
	case getAck:
		return GetAck
	case watched:
		return Watched
	}
	return More
}

// Selected is the database that the next command acts on, also inside a
// transaction, and Transaction the offset at which the MULTI of the open
// transaction begins; -1 where none is open.
func (s *Scanner) Selected() int { return s.db }

// Transaction is told of at Selected.
func (s *Scanner) Transaction() int64 {
	if s.inMulti {
		return s.outside.Offset
	}
	return -1
}
