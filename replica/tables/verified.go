package tables

import (
	"fmt"
	"io"

	"github.com/schollz/progressbar/v3"

	"replicad/replica/archive/verify"
	"replicad/replica/logs"
)

// VerifyBar gives a function for verify.Options.Progress that shows a bar, and
// one that takes the bar away. Where w is nil there is none.
func VerifyBar(w io.Writer, name string) (tell func(done, total int64), end func()) {
	if w == nil {
		return nil, func() {}
	}
	bar := logs.ByteBar(w, 1, name+": verify", progressbar.OptionSetRenderBlankState(false), progressbar.OptionClearOnFinish())
	tell = func(done, total int64) {
		if bar.GetMax64() != total {
			bar.ChangeMax64(total)
		}
		_ = bar.Set64(min(done, total-1)) // it ends when end is called
	}
	return tell, func() { _ = bar.Clear() }
}

// Verified prints a few lines for each generation.
func Verified(w io.Writer, dir string, reports []verify.Report) error {
	if len(reports) == 0 {
		_, err := fmt.Fprintln(w, "no archive below", dir)
		return err
	}
	for _, r := range reports {
		for _, g := range r.Generations {
			if _, err := io.WriteString(w, proved(r.Name, g)); err != nil {
				return err
			}
		}
	}
	return nil
}

func proved(name string, g verify.Generation) string {
	var bytes, commands int64
	sealed := 0
	for _, s := range g.Segments {
		bytes, commands = bytes+s.Bytes, commands+s.Commands
		if s.Sealed {
			sealed++
		}
	}
	text := fmt.Sprintf("%s: generation %d: sound up to offset %d\n", name, g.Number, g.SoundOffset)
	if g.SoundOffset < 0 {
		text = fmt.Sprintf("%s: generation %d: nothing is proved to be sound\n", name, g.Number)
	}
	base := g.Base.Checksum
	if g.Base.CRC32C {
		base += ", CRC-32C verified"
	}
	text += fmt.Sprintf("  base: %d bytes, %s\n", g.Base.Bytes, base)
	text += fmt.Sprintf("  stream: %d bytes in %d segments (%d sealed), %d commands, %d marks\n", bytes, len(g.Segments), sealed, commands, g.Marks)
	for _, n := range g.Notes {
		text += "  note: " + n + "\n"
	}
	for _, p := range g.Warnings {
		text += "  warning: " + p.String() + "\n"
	}
	for _, p := range g.Problems {
		text += "  PROBLEM: " + p.String() + "\n"
	}
	return text
}
