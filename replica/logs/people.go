package logs

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"replicad/replica/units"
)

// NewPeople makes the logger for a terminal, which writes short lines: the time,
// the master, what happened. A failure that repeats is said once in full, and
// then counted: the 2nd, 4th, 8th time and so on, and once a minute. Below
// LevelNotice a line has all attributes.
func NewPeople(w io.Writer, level slog.Leveler) *slog.Logger {
	return slog.New(people{&said{w: w, last: map[string]*failure{}}, level, nil})
}

// people is a slog.Handler.
type people struct {
	*said
	level slog.Leveler
	attrs []slog.Attr
}

// said is what was said so far, by the master's name.
type said struct {
	w    io.Writer
	mu   sync.Mutex
	last map[string]*failure
}

// failure is a warning, and how often it came in a row.
type failure struct {
	text  string
	times int
	at    time.Time // when it was said last
}

// Enabled implements slog.Handler.
func (p people) Enabled(_ context.Context, l slog.Level) bool { return l >= p.level.Level() }

// WithAttrs implements slog.Handler.
func (p people) WithAttrs(more []slog.Attr) slog.Handler {
	p.attrs = append(slices.Clone(p.attrs), more...)
	return p
}

// WithGroup implements slog.Handler. Nothing in the daemon makes groups.
func (p people) WithGroup(string) slog.Handler { return p }

// Handle implements slog.Handler.
func (p people) Handle(_ context.Context, r slog.Record) error {
	var master, same string // same is equal in two records that say the same
	var details []string
	tell := func(a slog.Attr) bool {
		if a.Key == "master" {
			master = a.Value.String()
		} else if d := detail(a, p.level.Level() < LevelNotice); d != "" {
			details = append(details, d)
			if a.Value.Kind() != slog.KindDuration {
				same += d + ", "
			}
		}
		return true
	}
	for _, a := range p.attrs {
		tell(a)
	}
	r.Attrs(tell)
	p.mu.Lock()
	defer p.mu.Unlock()
	text := r.Message
	if rest, named := strings.CutPrefix(text, master+" ("); named { // as replica.LinkError begins
		if _, what, found := strings.Cut(rest, ") "); found {
			text = what
		}
	}
	same += text
	switch before := p.last[master]; {
	case r.Level < LevelNotice: // it ends no row of failures
	case r.Level < LevelWarning:
		delete(p.last, master)
	case before != nil && before.text == same:
		before.times++
		if before.times&(before.times-1) != 0 && r.Time.Sub(before.at) < time.Minute {
			return nil
		}
		before.at = r.Time
		text = fmt.Sprintf("the same again, for the %s time", ordinal(before.times))
	default:
		p.last[master] = &failure{same, 1, r.Time}
		text = "warning: " + text
	}
	line := r.Time.Format(time.TimeOnly) + "  "
	if master != "" {
		line += master + ": "
	}
	line += text
	if len(details) > 0 {
		line += " (" + strings.Join(details, ", ") + ")"
	}
	_, err := io.WriteString(p.w, line+"\n")
	return err
}

// detail is an attribute as people read it; "" for one that only a machine or,
// with all, somebody who looks for a fault asks for.
func detail(a slog.Attr, all bool) string {
	const forMachines = "state replid former_replid new_replid fsynced cause bytes_per_second appendfsync masters"
	if !all && slices.Contains(strings.Fields(forMachines), a.Key) {
		return ""
	}
	key, v := strings.ReplaceAll(a.Key, "_", " "), a.Value.Resolve()
	switch {
	case v.Any() == nil:
		return ""
	case key == "error" || key == "why":
		return v.String()
	case strings.HasSuffix(key, "bytes") && v.Kind() == slog.KindInt64:
		return strings.TrimPrefix(key+" ", "bytes ") + units.Size(v.Int64())
	case v.Kind() == slog.KindDuration:
		return key + " " + short(v.Duration()).String()
	}
	return key + " " + v.String()
}

// short leaves out of a duration what nobody reads.
func short(d time.Duration) time.Duration {
	switch {
	case d >= time.Minute:
		return d.Round(time.Second)
	case d >= time.Second:
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Millisecond)
}

// ordinal writes 2nd, 3rd, 11th.
func ordinal(n int) string {
	ending := "th"
	if n/10%10 != 1 && n%10 >= 1 && n%10 <= 3 {
		ending = []string{"st", "nd", "rd"}[n%10-1]
	}
	return fmt.Sprint(n) + ending
}

// Screen is a terminal that shows log lines and, below them, one line that says
// how far a full sync is. A log line takes that line away, and draws it again.
type Screen struct {
	w     io.Writer
	width func() int // in columns

	mu     sync.Mutex
	status string
}

// NewScreen makes a screen of a terminal.
func NewScreen(w io.Writer, width func() int) *Screen { return &Screen{w: w, width: width} }

// Write implements io.Writer, for whole lines.
func (s *Screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	n, err := s.w.Write(p)
	s.draw()
	return n, err
}

// Status shows line below the log; "" takes it away.
func (s *Screen) Status(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.erase()
	s.status = line
	s.draw()
}

func (s *Screen) erase() {
	if s.status != "" {
		fmt.Fprint(s.w, "\r\x1b[K")
	}
}

// draw writes no more than fits, for a line that wraps can't be taken away.
func (s *Screen) draw() {
	line := []rune(s.status)
	fmt.Fprint(s.w, string(line[:min(len(line), max(0, s.width()-1))]))
}
