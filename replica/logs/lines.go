package logs

import (
	"errors"
	"log/slog"
	"reflect"
	"strings"
	"time"

	"replicad/replica"
	"replicad/replica/archive"
)

// Line is what is logged of an event.
type Line struct {
	Time   time.Time
	Master string
	Level  slog.Level
	Text   string // "" where nothing is said of such an event
	Args   []any  // keys and values by turns, without the master's name
}

// form says how a kind of event is logged.
type form struct {
	level slog.Level
	text  string
	keys  string // of the attributes; one with a ? only where its value is not zero
	wrong string // the text of a warning instead, for an event that has an error; "" for none
}

// linkForms are those of a link's events. A kind without one is not logged.
var linkForms = map[replica.EventKind]form{
	replica.StateEntered:     {LevelVerbose, "entered", "from took address?", ""},
	replica.PhaseEntered:     {LevelVerbose, "entered", "from took address?", ""},
	replica.Resolved:         {LevelDebug, "resolved", "addresses", ""},
	replica.ConnectCalled:    {LevelDebug, "connect", "address result", ""},
	replica.SocketError:      {LevelDebug, "SO_ERROR", "address result", ""},
	replica.FileEvent:        {LevelDebug, "epoll", "events registered", ""},
	replica.Registered:       {LevelDebug, "registered", "mask", ""},
	replica.ReplyNoted:       {LevelVerbose, "passed over", "reply error?", "a refusal is passed over"},
	replica.Waiting:          {LevelNotice, "waiting for the master", "for took", ""},
	replica.FullSyncBegun:    {LevelNotice, "full sync", "replid offset why? cause?", ""},
	replica.TransferBegun:    {LevelNotice, "transfer begins", "bytes? why?", ""},
	replica.TransferProgress: {LevelNotice, "transfer", "bytes bytes_per_second total_bytes? percent? left?", ""},
	replica.TransferReceived: {LevelNotice, "transfer received, making it durable", "bytes took bytes_per_second", ""},
	replica.FullSyncDone:     {LevelNotice, "full sync done", "replid offset bytes took", ""},
	replica.Resumed:          {LevelNotice, "partial resync", "replid offset former_replid?", ""},
	replica.Forked:           {LevelNotice, "the history went back to where the master's parts from it", "replid offset was_at new_replid?", ""},
	replica.Acknowledged:     {LevelDebug, "ack", "offset fsynced", ""},
	replica.Paused:           {LevelDebug, "paused: the disk is behind", "", ""},
	replica.Unpaused:         {LevelDebug, "unpaused", "", ""},
	replica.Stalled:          {LevelWarning, "the archive can't write: nothing is lost, waiting for the disk", "took error", ""},
	replica.Healed:           {LevelNotice, "the archive writes again", "took", ""},
	replica.StoreReset:       {LevelNotice, "the archive was opened anew", "offset error?", "the archive could not be opened anew"},
	replica.Failed:           {LevelWarning, "failed", "next_attempt_in cause?", ""},
	replica.Repointed:        {LevelNotice, "REPLICAOF: another master is followed", "replicaof?", ""},
	replica.Stopped:          {LevelNotice, "stopped", "", ""},
}

// archiveForms are those of an archive's events.
var archiveForms = map[archive.EventKind]form{
	archive.SegmentSealed:       {LevelVerbose, "segment sealed", "generation segment offset bytes", ""},
	archive.SegmentVerified:     {LevelVerbose, "segment verified", "generation segment bytes took error?", "a sealed segment is not what was written: a rebase makes a sound generation"},
	archive.BaseVerified:        {LevelNotice, "base verified", "generation bytes took", ""},
	archive.NotPlain:            {LevelNotice, "a server that loads the archive must have what a plain one lacks: see restore --redis-server and --redis-config", "generation offset what", ""},
	archive.RebaseBegun:         {LevelNotice, "rebase", "why", ""},
	archive.RebaseDone:          {LevelNotice, "rebase done: the new generation has taken over", "generation offset took", ""},
	archive.RebaseFailed:        {LevelWarning, "rebase failed: the generation before goes on", "error next_attempt_in", ""},
	archive.GenerationForked:    {LevelNotice, "a new generation goes on from the fork: the one before keeps what lies behind", "generation offset bytes", ""},
	archive.TailLost:            {LevelNotice, "what the failover lost is kept", "generation offset bytes lost", ""},
	archive.GenerationPruned:    {LevelNotice, "generation pruned", "generation? bytes? why? error?", "old generations could not be pruned"},
	archive.Overfull:            {LevelWarning, "the archive is larger than max-bytes, and holds nothing that may go", "bytes max_bytes", ""},
	archive.RemoteFailed:        {LevelWarning, "the remote can't be written to: the archive goes on, and the copy is made up for", "error next_attempt_in", ""},
	archive.RemoteMended:        {LevelNotice, "the remote is written to again", "", ""},
	archive.RemoteBase:          {LevelNotice, "the remote has the base, and can be restored from", "generation offset bytes took", ""},
	archive.RemoteContradiction: {LevelWarning, "the remote has other bytes of this history: ours go beside them", "offset bytes error", ""},
}

// Level gives the level at which a kind of event is logged; false where none is.
func Level(kind replica.EventKind) (level slog.Level, logged bool) {
	f, logged := linkForms[kind]
	return f.level, logged
}

// given is the form of an event with an error, or without one.
func (f form) given(err error) form {
	if err != nil && f.wrong != "" {
		f.level, f.text = LevelWarning, f.wrong
	}
	return f
}

// OfLink gives what is logged of an event of a link.
func OfLink(e replica.Event) Line {
	f := linkForms[e.Kind].given(e.Err)
	var failed *replica.LinkError
	switch {
	case errors.As(e.Err, &failed): // the state that failed, not the one after it
		e.State, e.Phase = failed.State, failed.Phase
	case e.Kind == replica.Repointed && e.Endpoint == "":
		f.text = "REPLICAOF NO ONE: nobody is followed"
	case e.Kind == replica.TransferBegun:
		if e.Bytes = max(0, e.Total); e.Total < 0 {
			e.Text = "the master is diskless: it tells no size"
		}
	case e.Kind == replica.FullSyncBegun && e.Rebase:
		e.Cause = "" // the rebase says why
	case e.Kind == replica.Stopped && e.Rebase:
		f.level, f.text = LevelDebug, "the rebase's link is closed"
	}
	if e.Kind == replica.Failed {
		f.text = e.Err.Error()
	}
	return Line{e.Time, e.Master, f.level, f.text, pick("state link? "+f.keys, linkValues(e))}
}

// OfArchive gives what is logged of an event of an archive.
func OfArchive(e archive.Event) Line {
	f := archiveForms[e.Kind].given(e.Err)
	return Line{e.Time, e.Master, f.level, f.text, pick(f.keys, archiveValues(e))}
}

// pick gives keys and their values by turns.
func pick(keys string, values map[string]any) (args []any) {
	for _, key := range strings.Fields(keys) {
		key, optional := strings.CutSuffix(key, "?")
		v := values[key]
		if optional && (v == nil || reflect.ValueOf(v).IsZero()) {
			continue
		}
		args = append(args, key, v)
	}
	return args
}

// linkValues has the values of all keys.
func linkValues(e replica.Event) map[string]any {
	result, link := "0", ""
	if e.Err != nil {
		result = e.Err.Error()
	}
	if e.Rebase {
		link = "rebase"
	}
	rate, percent, left := speed(e)
	return map[string]any{
		"state": replica.Place(e.State, e.Phase), "link": link,
		"from": replica.Place(e.From, e.FromPhase), "took": e.Took.Round(time.Microsecond), "next_attempt_in": e.Delay.Round(time.Millisecond),
		"address": e.Endpoint, "replicaof": e.Endpoint,
		"addresses": e.Text, "reply": e.Text, "why": e.Text, "former_replid": e.Text, "new_replid": e.Text, "was_at": e.Received, "for": e.Text,
		"replid": e.ReplID, "offset": e.Offset, "fsynced": e.Durable, "cause": e.Cause,
		"events": e.Mask.EpollNames(), "registered": e.Registered.String(), "mask": e.Registered.String(),
		"bytes": e.Bytes, "total_bytes": max(0, e.Total), "bytes_per_second": rate, "percent": percent, "left": left,
		"error": e.Err, "result": result,
	}
}

func archiveValues(e archive.Event) map[string]any {
	return map[string]any{
		"generation": e.Generation, "segment": e.Segment, "offset": e.Offset, "bytes": e.Bytes, "max_bytes": e.Total,
		"took": e.Took.Round(time.Microsecond), "next_attempt_in": e.Delay.Round(time.Millisecond), "why": e.Text, "lost": e.Text, "what": e.Text, "error": e.Err,
	}
}

// speed is that of a transfer: bytes a second, and where its size is known how
// much of it is here and how long the rest may take.
func speed(e replica.Event) (rate, percent int64, left time.Duration) {
	if e.Took > 0 {
		rate = int64(float64(e.Bytes) / e.Took.Seconds())
	}
	if e.Total > 0 {
		percent = 100 * e.Bytes / e.Total
		left = time.Duration(float64(e.Took) * float64(e.Total-e.Bytes) / float64(max(e.Bytes, 1))).Round(time.Second)
	}
	return rate, percent, left
}
