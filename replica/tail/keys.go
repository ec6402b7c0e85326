package tail

import (
	"bytes"
	_ "embed"
	"fmt"
	"strconv"
	"strings"
)

//go:embed commands.txt
var commandsText string

// Touches says which keys a command may touch beside those that it names.
type Touches string

// What a command may touch.
const (
	Named   Touches = ""                // the keys that it names
	AllKeys Touches = "all keys"        // FLUSHALL, FLUSHDB, SWAPDB
	Script  Touches = "script"          // keys that it does not name, too
	Unknown Touches = "unknown command" // nobody knows
)

// spec is one key spec: see commands.txt.
type spec struct {
	keyword string // "" where begin is the argument
	begin   int
	keynum  bool
	n       [3]int
}

// table is what commands.txt says, by the names in upper case.
type table map[string]entry

type entry struct {
	specs   []spec
	touches Touches
}

// newTable reads commands.txt.
func newTable(text string) (table, error) {
	t := table{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		parts := strings.Split(line, "; ")
		var e entry
		for _, p := range parts[1:] {
			switch p {
			case "all":
				e.touches = AllKeys
				continue
			case "script":
				e.touches = Script
				continue
			}
			s, err := parseSpec(p)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", line, err)
			}
			e.specs = append(e.specs, s)
		}
		t[parts[0]] = e
		if up, _, sub := strings.Cut(parts[0], "|"); sub {
			t[up] = entry{touches: Unknown} // where the subcommand is one that is not known
		}
	}
	return t, nil
}

func parseSpec(text string) (s spec, err error) {
	var find string
	if _, err = fmt.Sscanf(text, "index %d %s %d %d %d", &s.begin, &find, &s.n[0], &s.n[1], &s.n[2]); err != nil {
		_, err = fmt.Sscanf(text, "keyword %s %d %s %d %d %d", &s.keyword, &s.begin, &find, &s.n[0], &s.n[1], &s.n[2])
	}
	s.keynum = find == "keynum"
	if err == nil && (find != "range" && !s.keynum || s.n[1+btoi(s.keynum)] < 1) {
		err = fmt.Errorf("%q is no key spec", text)
	}
	return s, err
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// of finds a command's entry; a command that is not in the table is Unknown.
func (t table) of(args [][]byte) entry {
	var name [64]byte
	e, ok := t[string(upper(name[:0], args[0]))]
	if ok && e.touches == Unknown && len(args) > 1 {
		e, ok = t[string(upper(append(upper(name[:0], args[0]), '|'), args[1]))]
	}
	if !ok {
		return entry{touches: Unknown}
	}
	return e
}

// upper appends a word in upper case, up to 40 bytes of it.
func upper(dst, word []byte) []byte {
	for _, c := range word[:min(len(word), 40)] {
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}

// keys calls f with the numbers of the arguments that are keys, of a command of
// argc arguments of which args are there. It is getKeysUsingKeySpecs of Redis'
// db.c.
func (e entry) keys(args [][]byte, argc int, f func(i int)) {
	for _, s := range e.specs {
		s.keys(args, argc, f)
	}
}

func (s spec) keys(args [][]byte, argc int, f func(i int)) {
	first := s.begin
	if s.keyword != "" {
		if first = s.find(args, argc); first < 0 {
			return
		}
	}
	last, step := 0, s.n[1]
	switch {
	case s.keynum:
		if at := first + s.n[0]; at >= len(args) {
			return
		} else if n, err := strconv.Atoi(string(args[at])); err != nil || n < 1 || n > argc {
			return
		} else {
			step = s.n[2]
			first += s.n[1]
			last = first + (n-1)*step
		}
	case s.n[0] >= 0:
		last = first + s.n[0]
	case s.n[2] < 2:
		last = argc + s.n[0]
	default:
		last = first + (argc-first)/s.n[2] + s.n[0]
	}
	for i := first; i <= last && i < len(args); i += step {
		f(i)
	}
}

// find gives the argument behind the keyword; -1 where that is not there.
func (s spec) find(args [][]byte, argc int) int {
	from, to, step := s.begin, argc-1, 1
	if from < 0 {
		from, to, step = argc+from, 1, -1
	}
	for i := from; i >= 1 && i < argc && (to-i)*step >= 0; i += step {
		if i < len(args) && bytes.EqualFold(args[i], []byte(s.keyword)) {
			return i + 1
		}
	}
	return -1
}
