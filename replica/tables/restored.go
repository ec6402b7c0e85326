package tables

import (
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"

	"replicad/replica/archive/redisserver"
	"replicad/replica/archive/restore"
	"replicad/replica/logs"
	"replicad/replica/units"
)

// Restored prints what was restored, and how to start redis-server on it; of a
// drill, which left nothing, res.Out is "".
func Restored(w io.Writer, name string, res restore.Result) error {
	p := res.Point
	fmt.Fprintf(w, "%s: generation %d, offset %d, as of %s", name, res.Generation, res.Offset, moment(p.Time))
	if !p.Next.IsZero() {
		fmt.Fprintf(w, "; the next bytes came by %s", moment(p.Next))
	}
	fmt.Fprintln(w)
	if open := p.Offset - res.Offset; open > 0 {
		fmt.Fprintf(w, "  %d bytes up to offset %d are left out: an unfinished command or transaction\n", open, p.Offset)
	}
	if p.Twice != nil {
		fmt.Fprintf(w, "  the clock was stepped back, and the time came twice: the first time was --to offset:%d, as of %s\n", p.Twice.Offset, moment(p.Twice.Time))
	}
	if _, err := fmt.Fprintf(w, "  %s in %s, the base %s\n", units.Size(res.Bytes), seconds(res.Seconds), res.Base); err != nil || res.Out == "" {
		return err
	}
	server := "redis-server --dir " + units.ShellWord(res.Out)
	if res.Format == restore.RDB {
		server += " --appendonly no"
	} else {
		server += " --appendonly yes"
	}
	_, err := fmt.Fprintf(w, "  start it: %s\n", server)
	return err
}

// Checked prints what a redis-server found in what was restored.
func Checked(w io.Writer, r redisserver.Report) error {
	fmt.Fprintf(w, "  checked: redis-server %s loaded %d keys in %s", r.Version, r.Keys, seconds(r.Seconds))
	for _, d := range r.Databases {
		fmt.Fprintf(w, "\n    db%d: %d keys, %d of them expire", d.DB, d.Keys, d.Expires)
	}
	if r.Digest != "" {
		fmt.Fprintf(w, "\n    DEBUG DIGEST %s", r.Digest)
	}
	_, err := fmt.Fprintln(w)
	return err
}

// RestoreBar gives a function for restore.Options.Progress that shows a bar.
func RestoreBar(w io.Writer) func(done, total int64) {
	var bar *progressbar.ProgressBar
	return func(done, total int64) {
		if bar == nil {
			bar = logs.ByteBar(w, total, "restore")
		}
		_ = bar.Set64(done)
		if done == total {
			fmt.Fprintln(w)
		}
	}
}

func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(time.Millisecond).String()
}
