// Package poll waits in tests for what must come: it asks again and again until
// a deadline. No test sleeps for a fixed time.
package poll

import (
	"testing"
	"time"
)

// Patience is how long a test waits for what must come. It is long, for a
// machine under load: a test that passes does not wait for it.
const Patience = time.Minute

// Until asks cond until it is true, and fails the test after Patience. what
// says what was waited for.
func Until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	Seen(t, what, func() (bool, string) { return cond(), "" })
}

// Seen is [Until] for a condition that also says what it saw; the last of that
// is part of the failure.
func Seen(t testing.TB, what string, cond func() (ok bool, saw string)) {
	t.Helper()
	var saw string
	pause := time.Millisecond
	for deadline := time.Now().Add(Patience); time.Now().Before(deadline); time.Sleep(pause) {
		var ok bool
		if ok, saw = cond(); ok {
			return
		}
		pause = min(2*pause, 25*time.Millisecond)
	}
	if saw != "" {
		saw = "\nlast seen: " + saw
	}
	t.Fatalf("waited %v for: %s%s", Patience, what, saw)
}
