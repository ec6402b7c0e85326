// Package tables prints what commands find as people read it. The texts are
// templates, in tables.tmpl; what JSON has in full they shorten.
package tables

import (
	"cmp"
	_ "embed"
	"fmt"
	"io"
	"text/tabwriter"
	"text/template"
	"time"

	"github.com/schollz/progressbar/v3"

	"replicad/replica/archive"
	"replicad/replica/archive/redisserver"
	"replicad/replica/archive/restore"
	"replicad/replica/archive/verify"
	"replicad/replica/logs"
	"replicad/replica/units"
)

//go:embed tables.tmpl
var texts string

// The names of what [Print] prints.
const (
	Archives = "archives" // []archive.Master; the table fits in 120 columns
	Places   = "places"   // []Place
	Prunes   = "prunes"   // []Prune
	Restore  = "restore"  // Restored
	Reports  = "reports"  // []verify.Report
)

// Place is what a target means in one master's archive.
type Place struct {
	Name        string         `json:"name"`
	Dir         string         `json:"dir"`
	Point       *archive.Point `json:"point,omitempty"`
	Unavailable string         `json:"unavailable,omitempty"` // why it means nothing there, and what there is instead
}

// Prune is what went from an archive, or, in a dry run, would go.
type Prune struct {
	Name   string `json:"name"`
	DryRun bool   `json:"dry_run"`
	archive.Plan
}

// Restored is what was restored, and what a redis-server found in it. Of a drill,
// which left nothing, Out is "".
type Restored struct {
	Name string `json:"name"`
	restore.Result
	Check *redisserver.Report `json:"check,omitempty"`
}

// Print writes what was found below dir, which is of the type that belongs to the
// name.
func Print(w io.Writer, name, dir string, found any) error {
	t, err := template.New("").Funcs(template.FuncMap{
		"dir": func() string { return dir },
		"clock": func(t time.Time) string {
			if t.IsZero() {
				return "-"
			}
			return t.Local().Format(time.DateTime)
		},
		// moment prints a time so that --at and --to take it back.
		"moment": func(t time.Time) string { return t.Local().Format("2006-01-02T15:04:05.000Z07:00") },
		"seconds": func(s float64) time.Duration {
			return time.Duration(s * float64(time.Second)).Round(time.Millisecond)
		},
		"minus":  func(a, b int64) int64 { return a - b },
		"size":   units.Size,
		"word":   units.ShellWord,
		"id":     id,
		"until":  until,
		"stream": stream,
	}).Parse(texts)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(w, 2, 0, 2, ' ', 0)
	return cmp.Or(t.ExecuteTemplate(table, name, found), table.Flush())
}

// until is the last time that a generation can be restored to. A rebase takes over
// from a generation that was followed up to then: if no byte came for a while,
// the master had nothing to say.
func until(all []archive.Generation, i int) time.Time {
	to := all[i].To
	if i+1 < len(all) && all[i+1].Rebased && all[i+1].From.After(to) {
		return all[i+1].From
	}
	return to
}

// id prints the replication id that holds at the end, and how many came before.
func id(all []archive.History) string {
	if len(all) == 0 {
		return "-"
	}
	id := all[len(all)-1].ReplID
	id = cmp.Or(id[:min(len(id), 8)], "none (SYNC)")
	if n := len(all) - 1; n > 0 {
		id += fmt.Sprintf(" +%d", n)
	}
	return id
}

// stream prints what a generation has behind its base.
func stream(g verify.Generation) string {
	var bytes, commands int64
	sealed := 0
	for _, s := range g.Segments {
		bytes, commands = bytes+s.Bytes, commands+s.Commands
		if s.Sealed {
			sealed++
		}
	}
	return fmt.Sprintf("%s in %s (%d sealed), %s, %s",
		units.Count(bytes, "byte"), units.Count(int64(len(g.Segments)), "segment"), sealed, units.Count(commands, "command"), units.Count(int64(g.Marks), "mark"))
}

// Bar shows on w how far a command is; end takes the bar away. Where w is nil
// there is no bar, and tell is nil.
func Bar(w io.Writer, what string) (tell func(done, total int64), end func()) {
	if w == nil {
		return nil, func() {}
	}
	bar := logs.ByteBar(w, 1, what, progressbar.OptionSetRenderBlankState(false), progressbar.OptionClearOnFinish())
	tell = func(done, total int64) {
		if bar.GetMax64() != total {
			bar.ChangeMax64(total)
		}
		_ = bar.Set64(min(done, total-1)) // it ends when end is called
	}
	return tell, func() { _ = bar.Clear() }
}
