// Package logs turns a link's events into what people read: log lines, and a
// progress bar on a terminal. It is an observer like any other; no code of it
// sits in the state machine.
//
// A line is one event, as text or as JSON, with the same keys in both: master,
// state, and of what else is known the same key wherever it is told: offset,
// fsynced, bytes, total_bytes, bytes_per_second, took (a duration, as 1.5s),
// generation, segment, replid, address, cause (one word), error, why (a sentence),
// next_attempt_in. Passwords are in none.
//
// Observers must not wait, and a terminal or a pipe may stand still: events go
// through a bounded queue to a goroutine that writes. What does not fit is
// dropped, and the number of dropped lines is logged.
package logs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/schollz/progressbar/v3"

	"replicad/replica"
	"replicad/replica/archive"
)

// Levels are those of redis.conf's loglevel.
const (
	LevelDebug   = slog.LevelDebug
	LevelVerbose = slog.Level(-2)
	LevelNotice  = slog.LevelInfo
	LevelWarning = slog.LevelWarn
)

// ParseLevel reads debug, verbose, notice or warning.
func ParseLevel(s string) (slog.Level, error) {
	switch strings.ToLower(s) {
	case "debug":
		return LevelDebug, nil
	case "verbose":
		return LevelVerbose, nil
	case "notice", "info":
		return LevelNotice, nil
	case "warning", "warn":
		return LevelWarning, nil
	}
	return 0, fmt.Errorf("loglevel %q: want debug, verbose, notice or warning", s)
}

// NewLogger makes the logger of the daemon; format is text or json. The level
// may be a *slog.LevelVar, which can change.
func NewLogger(w io.Writer, level slog.Leveler, format string) (*slog.Logger, error) {
	opt := &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration { // JSON would have nanoseconds
			a.Value = slog.StringValue(a.Value.Duration().String())
		}
		if a.Key != slog.LevelKey {
			return a
		}
		if l, ok := a.Value.Any().(slog.Level); ok {
			a.Value = slog.StringValue(LevelName(l))
		}
		return a
	}}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, opt)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opt)), nil
	}
	return nil, fmt.Errorf("log-format %q: want text or json", format)
}

// LevelName gives a level as ParseLevel reads it.
func LevelName(l slog.Level) string {
	switch {
	case l < LevelVerbose:
		return "debug"
	case l < LevelNotice:
		return "verbose"
	case l < LevelWarning:
		return "notice"
	}
	return "warning"
}

const (
	queued    = 1024
	lineEvery = 3 * time.Second // between progress lines
)

// Reporter is the observer. It may observe any number of links.
type Reporter struct {
	log     *slog.Logger
	bar     io.Writer // nil: lines instead
	events  chan any  // replica.Event or archive.Event
	done    sync.WaitGroup
	dropped atomic.Int64

	// The goroutine's own.
	bars  map[string]*progressbar.ProgressBar
	lines map[string]time.Time
}

// New starts a reporter; bar is where progress bars go, nil for log lines.
func New(log *slog.Logger, bar io.Writer) *Reporter {
	r := &Reporter{
		log: log, bar: bar, events: make(chan any, queued),
		bars: map[string]*progressbar.ProgressBar{}, lines: map[string]time.Time{},
	}
	r.done.Go(r.run)
	return r
}

// Observe implements replica.Observer. It never waits, and wakes nobody for an
// event of which nothing will be written.
func (r *Reporter) Observe(e replica.Event) {
	if !r.wanted(e.Kind) {
		return
	}
	e.Data = nil // not ours to keep
	r.queue(e)
}

// ObserveArchive implements archive.Observer, as Observe does.
func (r *Reporter) ObserveArchive(e archive.Event) {
	if r.log.Enabled(context.Background(), ArchiveLevel(e.Kind)) {
		r.queue(e)
	}
}

func (r *Reporter) queue(e any) {
	select {
	case r.events <- e:
	default:
		r.dropped.Add(1)
	}
}

// wanted says whether an event of that kind leads to a line or moves a bar.
func (r *Reporter) wanted(kind replica.EventKind) bool {
	switch kind {
	case replica.TransferProgress, replica.TransferReceived, replica.Failed, replica.Repointed, replica.Stopped:
		return true // the end of a bar, whatever the level
	}
	level, logged := Level(kind)
	return logged && r.log.Enabled(context.Background(), level)
}

// Level gives the level at which a kind of event is logged; false where none is.
func Level(kind replica.EventKind) (level slog.Level, logged bool) {
	switch kind {
	case replica.Sent, replica.Received, replica.Advanced:
		return 0, false
	case replica.Resolved, replica.ConnectCalled, replica.FileEvent, replica.SocketError, replica.Registered,
		replica.Acknowledged, replica.Paused, replica.Unpaused:
		return LevelDebug, true
	case replica.StateEntered, replica.PhaseEntered, replica.ReplyNoted:
		return LevelVerbose, true
	case replica.Stalled, replica.Failed:
		return LevelWarning, true
	}
	return LevelNotice, true
}

// ArchiveLevel gives the level at which a kind of event is logged.
func ArchiveLevel(kind archive.EventKind) slog.Level {
	switch kind {
	case archive.SegmentSealed, archive.SegmentVerified:
		return LevelVerbose
	case archive.RebaseFailed, archive.Overfull:
		return LevelWarning
	}
	return LevelNotice
}

// Close writes what is queued and ends the goroutine. No event may come after.
func (r *Reporter) Close() {
	close(r.events)
	r.done.Wait()
}

func (r *Reporter) run() {
	for e := range r.events {
		if n := r.dropped.Swap(0); n > 0 {
			r.log.Warn("log lines were dropped: whatever reads them is too slow", "lines", n)
		}
		switch e := e.(type) {
		case replica.Event:
			if !r.progress(e) {
				r.line(OfLink(e))
			}
		case archive.Event:
			r.line(OfArchive(e))
		}
	}
}

// progress shows a transfer's progress; true when nothing else is to be said.
func (r *Reporter) progress(e replica.Event) bool {
	switch e.Kind {
	case replica.TransferProgress:
		if r.bar == nil {
			if time.Since(r.lines[e.Master]) < lineEvery {
				return true
			}
			_, before := r.lines[e.Master]
			r.lines[e.Master] = time.Now()
			return !before // the first one only starts the clock
		}
		b := r.bars[e.Master]
		if b == nil {
			b = newBar(r.bar, e)
			r.bars[e.Master] = b
		}
		_ = b.Set64(e.Bytes)
		return true
	case replica.TransferReceived, replica.Failed, replica.Repointed, replica.Stopped:
		delete(r.lines, e.Master)
		if b := r.bars[e.Master]; b != nil {
			if e.Kind == replica.TransferReceived {
				_ = b.Set64(e.Bytes)
			}
			_ = b.Exit()
			fmt.Fprintln(r.bar)
			delete(r.bars, e.Master)
		}
	}
	return false
}

func newBar(w io.Writer, e replica.Event) *progressbar.ProgressBar {
	return ByteBar(w, e.Total, e.Master+": full sync")
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

func (r *Reporter) line(l Line) {
	r.log.Log(context.Background(), l.Level, l.Text, append([]any{"master", l.Master}, l.Args...)...)
}

// Line is what is logged of an event.
type Line struct {
	Time   time.Time
	Master string
	Level  slog.Level
	Text   string // "" where nothing is said of such an event
	Args   []any  // keys and values by turns, without the master's name
}

// OfLink gives what is logged of an event of a link.
func OfLink(e replica.Event) Line {
	level, _ := Level(e.Kind)
	text, more := describe(e)
	if e.Err != nil && e.Kind == replica.StoreReset {
		level = LevelWarning
	}
	args := []any{"state", place(e)}
	if e.Rebase {
		args = append(args, "link", "rebase")
	}
	return Line{e.Time, e.Master, level, text, append(args, more...)}
}

// OfArchive gives what is logged of an event of an archive.
func OfArchive(e archive.Event) Line {
	text, args := describeArchive(e)
	level := ArchiveLevel(e.Kind)
	if e.Err != nil {
		level = LevelWarning
	}
	return Line{e.Time, e.Master, level, text, args}
}

// place is the state, and in SYNC the phase, that an event speaks of: for a
// failure the one that failed.
func place(e replica.Event) string {
	state, phase := e.State, e.Phase
	var le *replica.LinkError
	if errors.As(e.Err, &le) {
		state, phase = le.State, le.Phase
	}
	return replica.Place(state, phase)
}

// describe gives the text and attributes of an event's line.
func describe(e replica.Event) (string, []any) {
	switch e.Kind {
	case replica.StateEntered, replica.PhaseEntered:
		args := []any{"from", replica.Place(e.From, e.FromPhase), "took", e.Took}
		if e.Endpoint != "" {
			args = append(args, "address", e.Endpoint)
		}
		return "entered", args
	case replica.Resolved:
		return "resolved", []any{"addresses", e.Text}
	case replica.ConnectCalled:
		return "connect", []any{"address", e.Endpoint, "result", result(e.Err)}
	case replica.FileEvent:
		return "epoll", []any{"events", e.Mask.EpollNames(), "registered", e.Registered.String()}
	case replica.SocketError:
		return "SO_ERROR", []any{"address", e.Endpoint, "result", result(e.Err)}
	case replica.Registered:
		return "registered", []any{"mask", e.Registered.String()}
	case replica.ReplyNoted:
		return "passed over", []any{"reply", e.Text}
	case replica.FullSyncBegun:
		args := []any{"replid", e.ReplID, "offset", e.Offset}
		if e.Text != "" {
			args = append(args, "why", e.Text)
		}
		if e.Cause != "" {
			args = append(args, "cause", e.Cause)
		}
		return "full sync", args
	case replica.TransferBegun:
		return "transfer begins", []any{"bytes", e.Total}
	case replica.TransferProgress:
		args := []any{"bytes", e.Bytes, "bytes_per_second", rate(e.Bytes, e.Took)}
		if e.Total > 0 {
			left := time.Duration(float64(e.Took) * float64(e.Total-e.Bytes) / float64(max(e.Bytes, 1)))
			args = append(args, "total_bytes", e.Total, "percent", 100*e.Bytes/e.Total, "left", left.Round(time.Second))
		}
		return "transfer", args
	case replica.TransferReceived:
		return "transfer received, making it durable", []any{"bytes", e.Bytes, "took", e.Took, "bytes_per_second", rate(e.Bytes, e.Took)}
	case replica.FullSyncDone:
		return "full sync done", []any{"replid", e.ReplID, "offset", e.Offset, "bytes", e.Bytes, "took", e.Took}
	case replica.Resumed:
		args := []any{"replid", e.ReplID, "offset", e.Offset}
		if e.Text != "" {
			args = append(args, "former_replid", e.Text)
		}
		return "partial resync", args
	case replica.Acknowledged:
		return "ack", []any{"offset", e.Offset, "fsynced", e.Durable}
	case replica.Paused:
		return "paused: the disk is behind", nil
	case replica.Unpaused:
		return "unpaused", nil
	case replica.Stalled:
		return "the archive can't write: nothing is lost, waiting for the disk", []any{"took", e.Took.Round(time.Second), "error", e.Err}
	case replica.Healed:
		return "the archive writes again", []any{"took", e.Took.Round(time.Millisecond)}
	case replica.StoreReset:
		if e.Err != nil {
			return "the archive could not be opened anew", []any{"error", e.Err}
		}
		return "the archive was opened anew", []any{"offset", e.Offset}
	case replica.Failed:
		args := []any{"next_attempt_in", e.Delay.Round(time.Millisecond)}
		if e.Cause != "" {
			args = append(args, "cause", e.Cause)
		}
		return e.Err.Error(), args
	case replica.Repointed:
		if e.Endpoint == "" {
			return "REPLICAOF NO ONE: nobody is followed", nil
		}
		return "REPLICAOF: another master is followed", []any{"replicaof", e.Endpoint}
	case replica.Stopped:
		return "stopped", nil
	}
	return "", nil
}

// describeArchive does so for an event of an archive.
func describeArchive(e archive.Event) (string, []any) {
	switch e.Kind {
	case archive.SegmentSealed:
		return "segment sealed", []any{"generation", e.Generation, "segment", e.Segment, "offset", e.Offset, "bytes", e.Bytes}
	case archive.BaseVerified:
		return "base verified", []any{"generation", e.Generation, "bytes", e.Bytes, "took", e.Took}
	case archive.SegmentVerified:
		args := []any{"generation", e.Generation, "segment", e.Segment, "bytes", e.Bytes}
		if e.Err != nil {
			return "a sealed segment is not what was written: a rebase makes a sound generation", append(args, "error", e.Err)
		}
		return "segment verified", append(args, "took", e.Took)
	case archive.RebaseBegun:
		return "rebase", []any{"why", e.Text}
	case archive.RebaseDone:
		return "rebase done: the new generation has taken over", []any{"generation", e.Generation, "offset", e.Offset, "took", e.Took}
	case archive.RebaseFailed:
		return "rebase failed: the generation before goes on", []any{"error", e.Err, "next_attempt_in", e.Delay.Round(time.Millisecond)}
	case archive.GenerationPruned:
		if e.Err != nil {
			return "old generations could not be pruned", []any{"error", e.Err}
		}
		return "generation pruned", []any{"generation", e.Generation, "bytes", e.Bytes, "why", e.Text}
	case archive.Overfull:
		return "the archive is larger than max-bytes, and holds nothing that may go", []any{"bytes", e.Bytes, "max_bytes", e.Total}
	}
	return "", nil
}

func result(err error) string {
	if err == nil {
		return "0"
	}
	return err.Error()
}

func rate(n int64, d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	return int64(float64(n) / d.Seconds())
}
