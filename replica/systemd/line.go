package systemd

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"replicad/replica"
	"replicad/replica/daemon/status"
)

// maxLine bounds what systemctl status shows, in bytes.
const maxLine = 1000

// Line is how the links stand, as one line for systemctl status. Without a
// control character, and of at most 1000 bytes.
func Line(all []status.Status) string {
	var parts []string
	up := 0
	for _, s := range all {
		if s.Up() {
			up++
		}
		parts = append(parts, s.Name+": "+link(s))
	}
	line := strings.Join(parts, "; ")
	if len(all) > 1 {
		line = fmt.Sprintf("%d of %d links stream; %s", up, len(all), line)
	}
	line = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, line)
	if len(line) > maxLine {
		line = strings.ToValidUTF8(line[:maxLine-3], "") + "..."
	}
	return line
}

func link(s status.Status) string {
	switch {
	case s.Stalled != "":
		return fmt.Sprintf("can't write since %s: %s", stamp(s.StalledSince), s.Stalled)
	case s.Up():
		return fmt.Sprintf("follows %s, offset %d, fsynced up to %d%s", s.Address, s.Received, s.Durable, rebase(s.Rebase))
	case s.Transfer.Running():
		return "full sync from " + s.Address + progress(s.Transfer)
	case !s.Wanted():
		return "follows nobody (REPLICAOF NO ONE)"
	case !s.Following():
		return "no Sentinel has named the master yet"
	case s.State == replica.Sync:
		return fmt.Sprintf("%s with %s", replica.Place(s.State, s.Phase), s.Address)
	case s.LastFailure != "":
		return fmt.Sprintf("no stream from %s since %s: %s", s.Address, stamp(s.DownSince), s.LastFailure)
	}
	return "connecting to " + s.Address
}

func rebase(r status.Rebase) string {
	if !r.Running {
		return ""
	}
	return ", rebase under way" + progress(r.Transfer)
}

func progress(t status.Transfer) string {
	switch {
	case t.Storing:
		return ", being made durable"
	case t.Running() && t.Total > 0:
		return fmt.Sprintf(", %d %%", 100*t.Bytes/t.Total)
	case t.Bytes > 0:
		return fmt.Sprintf(", %d bytes", t.Bytes)
	}
	return ""
}

// stamp is a time as the journal writes it: local, to the second.
func stamp(t time.Time) string { return t.Format("2006-01-02 15:04:05") }
