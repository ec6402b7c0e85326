// Package logs turns a link's events into what people read: log lines and, on a
// terminal, shorter ones and a line that says how far a full sync is. It is an observer like any other; no code of it
// sits in the state machine.
//
// A line is one event, as text or as JSON, with the same keys in both: master,
// state, and of what else is known the same key wherever it is told: offset,
// fsynced, bytes, total_bytes, bytes_per_second, took (a duration, as 1.5s),
// generation, segment, replid, address, cause (one word), error, why (a
// sentence), next_attempt_in. Passwords are in none.
//
// Observers must not wait, and a terminal or a pipe may stand still: events go
// through a bounded queue to a goroutine that writes. What does not fit is
// dropped, and the number of dropped lines is logged.
package logs

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/schollz/progressbar/v3"

	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/units"
)

// Levels are those of redis.conf's loglevel.
const (
	LevelDebug   = slog.LevelDebug
	LevelVerbose = slog.Level(-2)
	LevelNotice  = slog.LevelInfo
	LevelWarning = slog.LevelWarn
)

// levelNames are the levels as redis.conf names them, the highest first.
var levelNames = []struct {
	level slog.Level
	name  string
}{{LevelWarning, "warning"}, {LevelNotice, "notice"}, {LevelVerbose, "verbose"}, {LevelDebug, "debug"}}

// ParseLevel reads debug, verbose, notice or warning.
func ParseLevel(s string) (slog.Level, error) {
	for _, l := range levelNames {
		if strings.EqualFold(s, l.name) {
			return l.level, nil
		}
	}
	return 0, fmt.Errorf("loglevel %q: want debug, verbose, notice or warning", s)
}

// LevelName gives a level as ParseLevel reads it.
func LevelName(l slog.Level) string {
	for _, n := range levelNames {
		if l >= n.level {
			return n.name
		}
	}
	return "debug"
}

// NewLogger makes the logger of the daemon, which writes JSON or text. The level
// may be a *slog.LevelVar, which can change.
func NewLogger(w io.Writer, level slog.Leveler, json bool) *slog.Logger {
	opt := &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		switch v := a.Value.Any().(type) {
		case time.Duration: // JSON would have nanoseconds
			a.Value = slog.StringValue(v.String())
		case slog.Level:
			a.Value = slog.StringValue(LevelName(v))
		}
		return a
	}}
	if json {
		return slog.New(slog.NewJSONHandler(w, opt))
	}
	return slog.New(slog.NewTextHandler(w, opt))
}

const (
	queued    = 1024
	lineEvery = 3 * time.Second        // between progress lines
	drawEvery = 100 * time.Millisecond // between two states of the line on a screen
)

// Reporter is the observer. It may observe any number of links.
type Reporter struct {
	log     *slog.Logger
	screen  *Screen // nil: lines instead of progress
	queue   chan func()
	done    sync.WaitGroup
	dropped atomic.Int64

	// The goroutine's own; lines by the master's name.
	lines map[string]time.Time // when progress was logged last
	syncs map[string]syncing   // the full syncs under way, with a screen
	drawn time.Time            // when progress was drawn last
}

// syncing is how far a full sync is: what the screen says of it alone, and
// beside others.
type syncing struct{ alone, beside string }

// New starts a reporter. The progress of full syncs goes to the screen, to which
// log writes, too; to log where the screen is nil.
func New(log *slog.Logger, screen *Screen) *Reporter {
	r := &Reporter{
		log: log, screen: screen, queue: make(chan func(), queued),
		lines: map[string]time.Time{}, syncs: map[string]syncing{},
	}
	r.done.Go(r.run)
	return r
}

// Observe implements replica.Observer. It never waits, and wakes nobody for an
// event of which nothing will be written.
func (r *Reporter) Observe(e replica.Event) {
	f, logged := linkForms[e.Kind]
	level := f.given(e.Err).level
	if !logged || !r.enabled(level) && r.screen == nil {
		return
	}
	e.Data = nil // valid only now
	r.post(func() {
		if !r.progress(e) && r.enabled(level) {
			r.write(OfLink(e))
		}
	})
}

// ObserveArchive implements archive.Observer. It never waits.
func (r *Reporter) ObserveArchive(e archive.Event) {
	if r.enabled(archiveForms[e.Kind].given(e.Err).level) {
		r.post(func() { r.write(OfArchive(e)) })
	}
}

func (r *Reporter) enabled(level slog.Level) bool {
	return r.log.Enabled(context.Background(), level)
}

func (r *Reporter) post(report func()) {
	select {
	case r.queue <- report:
	default:
		r.dropped.Add(1)
	}
}

// Close writes what is queued and ends the goroutine. No event may come after.
func (r *Reporter) Close() {
	close(r.queue)
	r.done.Wait()
	if r.screen != nil {
		r.screen.Status("")
	}
}

func (r *Reporter) run() {
	for report := range r.queue {
		if n := r.dropped.Swap(0); n > 0 {
			r.log.Warn("log lines were dropped: whatever reads them is too slow", "lines", n)
		}
		report()
	}
}

func (r *Reporter) write(l Line) {
	r.log.Log(context.Background(), l.Level, l.Text, append([]any{"master", l.Master}, l.Args...)...)
}

// progress shows the progress of a transfer; true when nothing else is to be
// said of the event.
func (r *Reporter) progress(e replica.Event) bool {
	switch e.Kind {
	case replica.FullSyncBegun:
		r.draw(e.Master, syncing{activity(e) + "waiting for the master's snapshot", "waiting"})
	case replica.TransferProgress:
		if r.screen == nil {
			return !r.due(e.Master)
		}
		if time.Since(r.drawn) >= drawEvery {
			r.drawn = time.Now()
			r.draw(e.Master, progressOf(e))
		}
		return true
	case replica.TransferReceived, replica.Failed, replica.Repointed, replica.Stopped:
		delete(r.lines, e.Master)
		r.draw(e.Master, syncing{})
	}
	return false
}

// draw shows the full syncs under way, of which the master's is now as far as s
// says; it is over where s is zero.
func (r *Reporter) draw(master string, s syncing) {
	if r.screen == nil {
		return
	}
	r.syncs[master] = s
	if s == (syncing{}) {
		delete(r.syncs, master)
	}
	line, each := "", []string{}
	for _, name := range slices.Sorted(maps.Keys(r.syncs)) {
		line = r.syncs[name].alone
		each = append(each, name+" "+r.syncs[name].beside)
	}
	if len(each) > 1 {
		line = fmt.Sprintf("%d full syncs: %s", len(each), strings.Join(each, ", "))
	}
	r.screen.Status(line)
}

// activity is how the line on the screen begins.
func activity(e replica.Event) string {
	if e.Rebase {
		return e.Master + ": rebase: "
	}
	return e.Master + ": full sync: "
}

// progressOf is how far a transfer is.
func progressOf(e replica.Event) syncing {
	rate, percent, left := speed(e)
	if e.Total <= 0 {
		return syncing{beside: units.Size(e.Bytes), alone: fmt.Sprintf("%s%s, %s/s; the master is diskless, and tells no size yet", activity(e), units.Size(e.Bytes), units.Size(rate))}
	}
	return syncing{beside: fmt.Sprintf("%d%%", percent), alone: fmt.Sprintf("%s%s of %s, %d%%, %s/s, %s left", activity(e), units.Size(e.Bytes), units.Size(e.Total), percent, units.Size(rate), units.Span(left))}
}

// due says whether a line about progress is due. The first event of a transfer
// only starts the clock.
func (r *Reporter) due(master string) bool {
	last, before := r.lines[master]
	if before && time.Since(last) < lineEvery {
		return false
	}
	r.lines[master] = time.Now()
	return before
}

// ByteBar is a bar that counts bytes; more options override its own.
func ByteBar(w io.Writer, total int64, what string, more ...progressbar.Option) *progressbar.ProgressBar {
	return progressbar.NewOptions64(total, append([]progressbar.Option{
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription(what),
		progressbar.OptionShowBytes(true),
		progressbar.OptionShowTotalBytes(true),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionSetWidth(30),
		progressbar.OptionThrottle(100 * time.Millisecond),
		progressbar.OptionSetRenderBlankState(true),
	}, more...)...)
}
