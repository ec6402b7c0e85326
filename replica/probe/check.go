package probe

import (
	"encoding/json"
	"strings"
	"time"
	"unicode"
)

// Status is what a check came to.
type Status string

// The four.
const (
	Pass Status = "pass"
	Warn Status = "warn" // replication would work, and something is not as it should be
	Fail Status = "fail" // replication would not work
	Skip Status = "skip" // not checked; Detail says why
)

// Check is one question, and what was found.
type Check struct {
	Name   string
	Status Status
	Detail string        // what was found, or why the check was skipped
	Remedy string        // what helps; "" where there is nothing to advise
	Took   time.Duration // 0 where nothing was asked for it
}

// MarshalJSON implements json.Marshaler; see the package's comment.
func (c Check) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Name   string  `json:"name"`
		Status Status  `json:"status"`
		Detail string  `json:"detail"`
		Remedy string  `json:"remedy,omitempty"`
		Took   float64 `json:"took_seconds,omitempty"`
	}{c.Name, c.Status, c.Detail, c.Remedy, c.Took.Seconds()})
}

// Figures are what was measured; nil where it is not known. Bytes and seconds.
type Figures struct {
	WriteRate  *float64 `json:"write_bytes_per_second,omitempty"`
	Backlog    *int64   `json:"repl_backlog_bytes,omitempty"`
	LongestCut *float64 `json:"longest_cut_seconds,omitempty"`
	UsedMemory *int64   `json:"used_memory_bytes,omitempty"`
	FullSync   *float64 `json:"full_sync_seconds,omitempty"`
	Free       *int64   `json:"free_bytes,omitempty"`
}

// Report is what a probe found.
type Report struct {
	Master  string // the address, without any secret
	Server  string // name and version; "" where they are not known
	Took    time.Duration
	Figures Figures
	Checks  []Check
}

// Verdict is the worst of the checks: Fail, Warn or Pass.
func (r Report) Verdict() Status {
	switch {
	case r.Count(Fail) > 0:
		return Fail
	case r.Count(Warn) > 0:
		return Warn
	}
	return Pass
}

// Count is how many checks came to that.
func (r Report) Count(s Status) int {
	n := 0
	for _, c := range r.Checks {
		if c.Status == s {
			n++
		}
	}
	return n
}

// MarshalJSON implements json.Marshaler; see the package's comment.
func (r Report) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Master  string  `json:"master"`
		Verdict Status  `json:"verdict"`
		Server  string  `json:"server,omitempty"`
		Took    float64 `json:"took_seconds"`
		Figures Figures `json:"figures"`
		Checks  []Check `json:"checks"`
	}{r.Master, r.Verdict(), r.Server, r.Took.Seconds(), r.Figures, r.Checks})
}

// printable is a text without what would steer a terminal: a server may say
// anything.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, s)
}
