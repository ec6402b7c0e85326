package resp

import "encoding/binary"

const crlf = '\r' | '\n'<<8 // as two bytes are loaded, little endian

// fast walks commands and arguments that lie in p as a whole, from p[i] on, where
// one of either begins. It stops before the first one that does not, or that is
// not of the plain form, and leaves that to scan; so nothing is ever refused
// here. Nearly all of a stream passes through here: what counts is how few
// branches depend on its bytes.
func (s *Scanner) fast(p []byte, i int) (int, Kind) {
	for {
		if s.state == atCommand {
			var kind Kind
			if i, kind = s.commandsIn(p, i); s.state == atCommand {
				return i, kind
			}
		}
		// A second argument of SELECT or REPLCONF is looked at; what
		// follows it is not.
		for s.left > 0 {
			many := s.left
			if s.wantsNext() {
				many = 1
			}
			from := i
			var left uint64
			if i, left = s.argumentsIn(p, i, many); left == many {
				return i, More
			}
			if s.wantsNext() {
				for from += len("$0\r\n"); p[from-1] != '\n'; {
					from++
				}
				s.length = uint64(i - 2 - from)
				s.argument(p[from : i-2])
			}
			s.left -= many - left
		}
		s.state = atCommand
		if kind := s.complete(s.scanned + int64(i)); kind != More {
			return i, kind
		}
	}
}

// wantsNext tells whether the next argument must be looked at, whatever its
// length.
func (s *Scanner) wantsNext() bool {
	return s.left == s.args || s.verb != other && s.left == s.args-1
}

// commandsIn walks whole commands of which nothing but the end is of interest,
// and those which consist of a name. It returns in state atCommand before
// anything that is no plain begin of a command, or in state atBulk behind the
// name or behind one of the arguments of a command.
func (s *Scanner) commandsIn(p []byte, i int) (int, Kind) {
	for len(p)-i >= 16 {
		// Most commands begin with these eight bytes: *3 CR LF $3 CR LF.
		x := binary.LittleEndian.Uint64(p[i:])
		args, length := uint64(byte(x>>8)-'0'), uint64(byte(x>>40)-'0')
		const mask, plain = 0xffff00ff_ffff00ff, ('*' | crlf<<16) | ('$'|crlf<<16)<<32
		if x&mask != plain || args-1 > 8 || length > 9 || args > s.maxArgs || length > s.maxBulk {
			break
		}
		at := i + 8 + int(length)
		if len(p)-at < 2 || binary.LittleEndian.Uint16(p[at:]) != crlf {
			break
		}
		s.start = s.scanned + int64(i)
		v := other
		if length-4 <= 4 {
			v = verbOf(binary.LittleEndian.Uint64(p[i+8:]), length, args)
		}
		if s.Watch != nil && v == other && s.Watch(p[i+8:at], args) {
			v = watched
		}
		left := args - 1
		i = at + 2
		if v == other {
			i, left = s.argumentsIn(p, i, left)
		}
		if left > 0 {
			s.verb, s.args, s.left, s.state = v, args, left, atBulk
			return i, More
		}
		if v == other {
			s.commands++
			s.lastStart, s.lastEnd = s.start, s.scanned+int64(i)
			continue
		}
		s.verb = v
		if kind := s.complete(s.scanned + int64(i)); kind != More {
			return i, kind
		}
	}
	return i, More
}

// argumentsIn passes over at most left whole arguments from p[i] on, and returns
// where it stopped and how many are left.
//
// A branch for each number of digits looks clumsy beside arithmetic on all of
// them at once, and is a third faster: lengths of one command are much like
// those of the last, so the branches are foreseen, while the place of the next
// argument would have to wait for the arithmetic.
func (s *Scanner) argumentsIn(p []byte, i int, left uint64) (int, uint64) {
	most := s.maxBulk
	for left > 0 && len(p)-i >= 8 {
		x := binary.LittleEndian.Uint64(p[i:])
		length := uint64(byte(x>>8) - '0')
		if byte(x) != '$' || length > 9 {
			break
		}
		var from int
		if uint16(x>>16) == crlf {
			from = i + 4
		} else {
			d := uint64(byte(x>>16) - '0')
			if length == 0 || d > 9 {
				break
			}
			length = length*10 + d
			if uint16(x>>24) == crlf {
				from = i + 5
			} else {
				d := uint64(byte(x>>24) - '0')
				if d > 9 {
					break
				}
				length = length*10 + d
				if uint16(x>>32) == crlf {
					from = i + 6
				} else if length, from = longLength(x, length, i); from == 0 {
					break
				}
			}
		}
		if length > most || length > uint64(len(p)-from) {
			break
		}
		end := from + int(length)
		if len(p)-end < 2 || binary.LittleEndian.Uint16(p[end:]) != crlf {
			break
		}
		i = end + 2
		left--
	}
	return i, left
}

// longLength goes on with numbers of four and five digits, in x from its byte 4
// on; others, and anything wrong, give 0.
func longLength(x, length uint64, i int) (uint64, int) {
	d := uint64(byte(x>>32) - '0')
	if d > 9 {
		return 0, 0
	}
	length = length*10 + d
	if uint16(x>>40) == crlf {
		return length, i + 7
	}
	d = uint64(byte(x>>40) - '0')
	if d > 9 || uint16(x>>48) != crlf {
		return 0, 0
	}
	return length*10 + d, i + 8
}
