package config

import (
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"replicad/anet"
	"replicad/replica/daemon/sentinel"
	"replicad/replica/units"
)

// setting is a value of any type.
type setting interface {
	pflag.Value
	get() any
}

// value is a variable, and how people write what it holds. It implements
// setting.
type value[T any] struct {
	to      *T
	kind    string // as --help shows it
	want    string // what an error says that the key takes
	parse   func(string) (T, error)
	valid   func(T) bool // nil where each value that parse takes is valid
	format  func(T) string
	add     func(all, more T) T // what Set makes of one more value; nil: that value
	choices []string            // the words that shells complete; nil for other values
}

// Set implements pflag.Value.
func (v value[T]) Set(s string) error {
	got, err := v.parse(s)
	switch {
	case err != nil || v.valid != nil && !v.valid(got):
		return fmt.Errorf("%q: want %s%s", s, v.want, units.DidYouMean(s, v.choices))
	case v.add != nil:
		got = v.add(*v.to, got)
	}
	*v.to = got
	return nil
}

// String implements pflag.Value.
func (v value[T]) String() string {
	if v.to == nil { // pflag asks a zero value
		return ""
	}
	return v.format(*v.to)
}

// Type implements pflag.Value.
func (v value[T]) Type() string { return v.kind }

func (v value[T]) get() any { return *v.to }

// text is any string; --help shows its kind as a word in capitals.
func text(kind string) value[string] {
	return value[string]{
		kind:   kind,
		parse:  func(s string) (string, error) { return s, nil },
		format: func(s string) string { return s },
	}
}

// words are words with spaces between them.
func words() value[[]string] {
	return value[[]string]{
		kind:   "ADDRESSES",
		parse:  func(s string) ([]string, error) { return strings.Fields(s), nil },
		format: func(all []string) string { return strings.Join(all, " ") },
	}
}

// list is a list that may be given value by value, is a list in the file, and is
// separated by commas in a variable. parse reads one or more values.
func list(kind, want string, parse func(string) ([]string, error)) value[[]string] {
	return value[[]string]{
		kind: kind, want: want, parse: parse,
		format: func(all []string) string { return strings.Join(all, ",") },
		add:    func(all, more []string) []string { return append(all, more...) },
	}
}

// masters are addresses of masters, which are read later.
func masters() value[[]string] {
	return list("[NAME=]ADDR", "", func(s string) ([]string, error) { return []string{s}, nil })
}

// sentinels are addresses of Sentinels.
func sentinels() value[[]string] {
	return list("HOST:PORT", "host:port[,host:port...]", sentinel.ParseAddresses)
}

// yesno is a switch. It takes redis.conf's words too.
func yesno() value[bool] {
	parse := func(s string) (bool, error) {
		b, known := map[string]bool{"yes": true, "on": true, "no": false, "off": false}[strings.ToLower(s)]
		if known {
			return b, nil
		}
		return strconv.ParseBool(s)
	}
	return value[bool]{kind: "bool", want: "true or false", parse: parse, format: strconv.FormatBool, choices: []string{"true", "false"}}
}

// number is an int from low to high. With math.MaxInt for high it has no upper
// bound.
func number(low, high int) value[int] {
	want := fmt.Sprintf("%d to %d", low, high)
	if high == math.MaxInt {
		want = fmt.Sprintf("a number, at least %d", low)
	}
	valid := func(n int) bool { return n >= low && n <= high }
	return value[int]{kind: "NUMBER", want: want, parse: strconv.Atoi, valid: valid, format: strconv.Itoa}
}

// size is a number of bytes as redis.conf writes it: 256mb.
func size[T int | int64](low T) value[T] {
	parse := func(s string) (T, error) {
		n, err := units.ParseSize(s)
		return T(n), err
	}
	format := func(n T) string { return units.FormatSize(int64(n)) }
	want := "a size of at least " + format(low) + ", such as 64mb or 10gb"
	return value[T]{kind: "SIZE", want: want, parse: parse, valid: func(n T) bool { return n >= low }, format: format}
}

// positive is the least duration there is.
const positive = time.Nanosecond

// age is a duration of at least low, with days: 7d. With zero set it takes 0s as
// well, for never.
func age(low time.Duration, zero bool) value[time.Duration] {
	want := "a duration of at least " + units.FormatAge(low) + ", such as 90s, 12h or 7d"
	switch {
	case low == positive:
		want = "a duration above zero, such as 90s, 12h or 7d"
	case zero:
		want += ", or 0s for never"
	}
	valid := func(d time.Duration) bool { return d >= low || zero && d == 0 }
	return value[time.Duration]{kind: "DURATION", want: want, parse: units.ParseAge, valid: valid, format: units.FormatAge}
}

// choice is a value that one of a few words stands for.
func choice[T any](parse func(string) (T, error), format func(T) string, words ...string) value[T] {
	last := len(words) - 1
	want := strings.Join(words[:last], ", ") + " or " + words[last]
	return value[T]{kind: strings.Join(words, "|"), want: want, parse: parse, format: format, choices: words}
}

// oneOf is one of a few words.
func oneOf(words ...string) value[string] {
	v := choice(text("").parse, text("").format, words...)
	v.valid = func(s string) bool { return slices.Contains(words, s) }
	return v
}

// source is an IP address to connect from, or nothing. Where the address can't
// be bound another one is used, as in Redis (anetTcpNonBlockBestEffortBindConnect
// in anet.c).
func source() value[anet.Source] {
	parse := func(s string) (from anet.Source, err error) {
		from.BestEffort = true
		err = from.Addr.UnmarshalText([]byte(s))
		return from, err
	}
	format := func(from anet.Source) string {
		b, _ := from.Addr.MarshalText() // which always succeeds
		return string(b)
	}
	return value[anet.Source]{kind: "IP", want: "an IP address", parse: parse, format: format}
}

// listen is an address to listen on, host:port, or nothing. No host means all
// addresses; port 0 means a free port.
func listen() value[string] {
	v := text("HOST:PORT")
	v.want = "host:port, as 127.0.0.1:9121"
	v.valid = func(s string) bool {
		_, port, err := net.SplitHostPort(s)
		_, bad := strconv.ParseUint(port, 10, 16)
		return s == "" || err == nil && bad == nil
	}
	return v
}
