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

// Report is what a probe found.
type Report struct {
	Master  string  `json:"master"`           // the address, without any secret
	Verdict Status  `json:"verdict"`          // the worst of the checks: Fail, Warn or Pass
	Server  string  `json:"server,omitempty"` // name and version; "" where they are not known
	Took    float64 `json:"took_seconds"`
	// Figures are what was measured, in bytes and seconds; what is not known
	// is not there. longest_cut_seconds is that of a cut that needs no full
	// sync; full_sync_seconds is an estimate.
	Figures map[string]float64 `json:"figures"`
	Checks  []Check            `json:"checks"`
}

// Count is the number of checks with that outcome.
func (r Report) Count(s Status) (n int) {
	for _, c := range r.Checks {
		if c.Status == s {
			n++
		}
	}
	return n
}
