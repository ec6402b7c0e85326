package config

import (
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"replicad/anet"
	"replicad/replica/daemon/sentinel"
	"replicad/replica/units"
)

// form says how people write the values of a type.
type form[T any] struct {
	kind    string // as --help shows it
	want    string // what an error says that the key takes
	parse   func(string) (T, error)
	valid   func(T) bool // nil where each value that parse takes is valid
	format  func(T) string
	choices []string // the words that shells complete; nil for other values
}

// plain is a form that takes everything.
func plain[T any](kind string, parse func(string) T, format func(T) string) form[T] {
	return form[T]{kind: kind, format: format, parse: func(s string) (T, error) { return parse(s), nil }}
}

// text is any string.
func text() form[string] {
	same := func(s string) string { return s }
	return plain("string", same, same)
}

// words are words with spaces between them.
func words() form[[]string] {
	return plain("string", strings.Fields, func(all []string) string { return strings.Join(all, " ") })
}

// list is one more value of a list.
func list() form[[]string] {
	one := func(s string) []string { return []string{s} }
	return plain("stringArray", one, func(all []string) string { return strings.Join(all, ",") })
}

// addresses are addresses of Sentinels.
func addresses() form[[]string] {
	f := list()
	f.want, f.parse = "host:port[,host:port...]", sentinel.ParseAddresses
	return f
}

// yesno is a switch. It takes redis.conf's words too.
func yesno() form[bool] {
	parse := func(s string) (bool, error) {
		switch strings.ToLower(s) {
		case "yes", "on":
			return true, nil
		case "no", "off":
			return false, nil
		}
		return strconv.ParseBool(s)
	}
	return form[bool]{kind: "bool", want: "true or false", parse: parse, format: strconv.FormatBool, choices: []string{"true", "false"}}
}

// number is an int from low to high. With math.MaxInt for high it has no upper
// bound.
func number(low, high int) form[int] {
	want := fmt.Sprintf("%d to %d", low, high)
	if high == math.MaxInt {
		want = fmt.Sprintf("a number, at least %d", low)
	}
	valid := func(n int) bool { return n >= low && n <= high }
	return form[int]{kind: "int", want: want, parse: strconv.Atoi, valid: valid, format: strconv.Itoa}
}

// size is a number of bytes as redis.conf writes it: 256mb.
func size[T int | int64](low int64) form[T] {
	return form[T]{
		kind: "size",
		want: "a size of at least " + units.FormatSize(low) + ", such as 64mb or 10gb",
		parse: func(s string) (T, error) {
			n, err := units.ParseSize(s)
			return T(n), err
		},
		valid:  func(n T) bool { return int64(n) >= low },
		format: func(n T) string { return units.FormatSize(int64(n)) },
	}
}

// age is a duration of at least low, with days: 7d. With zero set it takes 0s as
// well, for never.
func age(low time.Duration, zero bool) form[time.Duration] {
	want := "a duration of at least " + units.FormatAge(low) + ", such as 90s, 12h or 7d"
	switch {
	case low == positive:
		want = "a duration above zero, such as 90s, 12h or 7d"
	case zero:
		want += ", or 0s for never"
	}
	valid := func(d time.Duration) bool { return d >= low || zero && d == 0 }
	return form[time.Duration]{kind: "duration", want: want, parse: units.ParseAge, valid: valid, format: units.FormatAge}
}

// positive is the least duration there is.
const positive = time.Nanosecond

// choice is a value that one of a few words stands for.
func choice[T any](parse func(string) (T, error), format func(T) string, words ...string) form[T] {
	last := len(words) - 1
	want := strings.Join(words[:last], ", ") + " or " + words[last]
	return form[T]{kind: "string", want: want, parse: parse, format: format, choices: words}
}

// oneOf is one of a few words.
func oneOf(words ...string) form[string] {
	f := choice(text().parse, text().format, words...)
	f.valid = func(s string) bool { return slices.Contains(words, s) }
	return f
}

// source is an IP address to connect from, or nothing. Where the address can't
// be bound another one is used, as in Redis (anetTcpNonBlockBestEffortBindConnect
// in anet.c).
func source() form[anet.Source] {
	return form[anet.Source]{
		kind: "string",
		want: "an IP address",
		parse: func(s string) (from anet.Source, err error) {
			from.BestEffort = true
			err = from.Addr.UnmarshalText([]byte(s))
			return from, err
		},
		format: func(from anet.Source) string {
			b, _ := from.Addr.MarshalText() // which always succeeds
			return string(b)
		},
	}
}

// listen is an address to listen on, host:port, or nothing. No host means all
// addresses; port 0 means a free port.
func listen() form[string] {
	f := text()
	f.kind, f.want = "address", "host:port, as 127.0.0.1:9121"
	f.valid = func(s string) bool {
		_, port, err := net.SplitHostPort(s)
		_, bad := strconv.ParseUint(port, 10, 16)
		return s == "" || err == nil && bad == nil
	}
	return f
}

// value is a variable with the form of its values. It implements pflag.Value.
type value[T any] struct {
	to   *T
	form form[T]
	add  func(T) T // what Set makes of a new value; nil for the value itself
}

// Set implements pflag.Value.
func (v value[T]) Set(s string) error {
	got, err := v.form.parse(s)
	switch {
	case err != nil || v.form.valid != nil && !v.form.valid(got):
		return fmt.Errorf("%q: want %s", s, v.form.want)
	case v.add != nil:
		got = v.add(got)
	}
	*v.to = got
	return nil
}

// String implements pflag.Value.
func (v value[T]) String() string {
	if v.to == nil { // pflag asks a zero value
		return ""
	}
	return v.form.format(*v.to)
}

// Type implements pflag.Value.
func (v value[T]) Type() string { return v.form.kind }
