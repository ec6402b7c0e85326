package probe

// Status is the outcome of a check.
type Status string

// The four outcomes.
const (
	Pass Status = "pass"
	Warn Status = "warn" // replication would work, and something is not as it should be
	Fail Status = "fail" // replication would not work
	Skip Status = "skip" // not checked; Detail says why
)

// Check is one question, and what was found.
type Check struct {
	Name   string  `json:"name"`
	Status Status  `json:"status"`
	Detail string  `json:"detail"`                 // what was found, or why the check was skipped
	Remedy string  `json:"remedy,omitempty"`       // what helps; "" where there is nothing to advise
	Took   float64 `json:"took_seconds,omitempty"` // 0 where the master was not asked for this check
}

// Figures are what was measured; nil where it is not known. Bytes and seconds.
type Figures struct {
	WriteRate  *float64 `json:"write_bytes_per_second,omitempty"` // of the replication stream
	Backlog    *int64   `json:"repl_backlog_bytes,omitempty"`
	LongestCut *float64 `json:"longest_cut_seconds,omitempty"` // that needs no full sync; nil also where nothing is written
	UsedMemory *int64   `json:"used_memory_bytes,omitempty"`   // of the master
	FullSync   *float64 `json:"full_sync_seconds,omitempty"`   // an estimate
	Free       *int64   `json:"free_bytes,omitempty"`          // on the disk of Options.Dir
}

// Report is what a probe found.
type Report struct {
	Master  string  `json:"master"`           // the address, without any secret
	Verdict Status  `json:"verdict"`          // the worst of the checks: Fail, Warn or Pass
	Server  string  `json:"server,omitempty"` // name and version; "" where they are not known
	Took    float64 `json:"took_seconds"`
	Figures Figures `json:"figures"`
	Checks  []Check `json:"checks"`
}

// Count is the number of checks with that outcome.
func (r Report) Count(s Status) int {
	n := 0
	for _, c := range r.Checks {
		if c.Status == s {
			n++
		}
	}
	return n
}
