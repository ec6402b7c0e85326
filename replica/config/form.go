package config

import (
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"replicad/replica/archive"
	"replicad/replica/logs"
	"replicad/replica/units"
)

// form says how a value of a type is written. An error of parse says what is
// wanted, and quotes the value where it is not a secret.
type form[T any] struct {
	kind    string // as --help shows it
	parse   func(string) (T, error)
	format  func(T) string
	choices []string // what shells complete; nil for anything
}

// text is any string.
func text() form[string] {
	same := func(s string) string { return s }
	return form[string]{kind: "string", format: same, parse: func(s string) (string, error) { return s, nil }}
}

// yesno is a switch. redis.conf's words are taken too.
func yesno() form[bool] {
	return form[bool]{kind: "bool", format: strconv.FormatBool, choices: []string{"true", "false"}, parse: func(s string) (bool, error) {
		switch strings.ToLower(s) {
		case "yes", "true", "on", "1":
			return true, nil
		case "no", "false", "off", "0":
			return false, nil
		}
		return false, fmt.Errorf("%q: want true or false", s)
	}}
}

// number is an int from low to high; high is math.MaxInt for no bound.
func number(low, high int) form[int] {
	want := fmt.Sprintf("want %d to %d", low, high)
	if high == math.MaxInt {
		want = fmt.Sprintf("want a number, at least %d", low)
	}
	return form[int]{kind: "int", format: strconv.Itoa, parse: func(s string) (int, error) {
		n, err := strconv.Atoi(s)
		if err != nil || n < low || n > high {
			return 0, fmt.Errorf("%q: %s", s, want)
		}
		return n, nil
	}}
}

// size is a number of bytes, as redis.conf writes them: 256mb.
func size(low int64) form[int64] {
	return form[int64]{kind: "size", format: units.FormatSize, parse: func(s string) (int64, error) {
		n, err := units.ParseSize(s)
		if err == nil && n < low {
			err = fmt.Errorf("%q: want at least %s", s, units.FormatSize(low))
		}
		return n, err
	}}
}

// age is a duration that knows days: 7d. Zero, where it means never, is taken
// though it is less than low.
func age(low time.Duration, zero bool) form[time.Duration] {
	return form[time.Duration]{kind: "duration", format: units.FormatAge, parse: func(s string) (time.Duration, error) {
		d, err := units.ParseAge(s)
		switch {
		case err != nil, zero && d == 0, d >= low:
			return d, err
		case low == positive:
			return d, fmt.Errorf("%q: must be above zero", s)
		case zero:
			return d, fmt.Errorf("%q: want at least %s, or 0s for never", s, units.FormatAge(low))
		}
		return d, fmt.Errorf("%q: want at least %s", s, units.FormatAge(low))
	}}
}

// positive is the least duration there is.
const positive = time.Nanosecond

// oneOf is a word of a few.
func oneOf(words ...string) form[string] {
	return choice(words, func(s string) (string, error) {
		if !slices.Contains(words, s) {
			return "", fmt.Errorf("unknown")
		}
		return s, nil
	}, func(s string) string { return s })
}

func choice[T any](words []string, parse func(string) (T, error), format func(T) string) form[T] {
	last := len(words) - 1
	want := strings.Join(words[:last], ", ") + " or " + words[last]
	return form[T]{kind: "string", choices: words, format: format, parse: func(s string) (T, error) {
		v, err := parse(s)
		if err != nil {
			err = fmt.Errorf("%q: want %s", s, want)
		}
		return v, err
	}}
}

// policy is when to fsync.
func policy() form[archive.Policy] {
	return choice([]string{"always", "everysec", "no"}, archive.ParsePolicy, archive.Policy.String)
}

// level is a log level.
func level() form[slog.Level] {
	return choice([]string{"debug", "verbose", "notice", "warning"}, logs.ParseLevel, logs.LevelName)
}

// address is an IP address, or nothing.
func address() form[string] {
	f := text()
	f.parse = func(s string) (string, error) {
		if _, err := netip.ParseAddr(s); err != nil && s != "" {
			return "", fmt.Errorf("%q is not an IP address", s)
		}
		return s, nil
	}
	return f
}

// listen is where to listen, host:port, or nothing. Without a host it is all
// addresses; port 0 is any that is free.
func listen() form[string] {
	f := text()
	f.kind = "address"
	f.parse = func(s string) (string, error) {
		if s == "" {
			return "", nil
		}
		_, port, err := net.SplitHostPort(s)
		if n, bad := strconv.Atoi(port); err != nil || bad != nil || n < 0 || n > 65535 {
			return "", fmt.Errorf("%q: want host:port, as 127.0.0.1:9121", s)
		}
		return s, nil
	}
	return f
}

// isLoopback says whether only this host can connect to what listens there.
func isLoopback(address string) bool {
	host, _, _ := net.SplitHostPort(address)
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// value is a form bound to its variable. It implements pflag.Value.
type value[T any] struct {
	to   *T
	form form[T]
}

// Set implements pflag.Value.
func (v value[T]) Set(s string) error {
	got, err := v.form.parse(s)
	if err == nil {
		*v.to = got
	}
	return err
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

// list is a value that may be given repeatedly: the first Set replaces the
// default. It implements pflag.Value and pflag.SliceValue.
type list struct {
	to  *[]string
	set bool
}

// Set implements pflag.Value.
func (l *list) Set(s string) error {
	if !l.set {
		*l.to, l.set = nil, true
	}
	return l.Append(s)
}

// String implements pflag.Value.
func (l *list) String() string {
	if l.to == nil {
		return ""
	}
	return strings.Join(*l.to, ",")
}

// Type implements pflag.Value.
func (l *list) Type() string { return "stringArray" }

// Append implements pflag.SliceValue.
func (l *list) Append(s string) error { *l.to = append(*l.to, s); return nil }

// Replace implements pflag.SliceValue.
func (l *list) Replace(all []string) error { *l.to, l.set = slices.Clone(all), true; return nil }

// GetSlice implements pflag.SliceValue.
func (l *list) GetSlice() []string { return slices.Clone(*l.to) }
