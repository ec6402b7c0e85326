package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"replicad/replica"
	"replicad/replica/config"
	"replicad/replica/study"
	"replicad/replica/study/live"
	"replicad/replica/units"
)

// studyFlags are the flags of study.
type studyFlags struct {
	format   string
	out      string
	from     string
	states   string
	duration time.Duration
	timeout  time.Duration
	resume   bool
	keep     string
	kept     int64 // bytes, of keep
}

func studyFormats() []string { return []string{"text", "json", "html", "transcript"} }

func studyCommand() *cobra.Command {
	var f studyFlags
	cmd := &cobra.Command{
		Use:   "study [ADDR]",
		Short: "Explain a live conversation with a master, byte by byte",
		Args:  cobra.ArbitraryArgs,
		RunE:  f.run,
	}
	fl := cmd.Flags()
	fl.DurationVar(&f.duration, "for", 3*time.Second, "follow the stream for this `DURATION`")
	fl.BoolVar(&f.resume, "resume", true, "cut the link once behind that, and resume")
	fl.StringVar(&f.format, "format", "text", "`FORMAT` of what is written: "+oneOf(studyFormats()))
	fl.StringVar(&f.out, "out", "", "write to this `FILE`; to the standard output when empty")
	fl.StringVar(&f.from, "from", "", "explain the transcript in `FILE` instead of a live conversation; - for the standard input")
	fl.StringVar(&f.states, "states", "", "print the link's table of transitions in this `FORMAT`, "+oneOf(study.StateFormats())+", and nothing else")
	fl.Lookup("states").NoOptDefVal = "text"
	fl.DurationVar(&f.timeout, "timeout", 30*time.Second, "limit, a `DURATION`: give up when the stream has not begun by then, or not gone on after the cut")
	fl.StringVar(&f.keep, "keep", units.FormatSize(study.DefaultKeep), "explain this `SIZE` of the stream of each connection, and of a payload (at least 64kb); the rest is counted")
	config.RegisterConnect(fl)
	return cmd
}

func oneOf(words []string) string {
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

func (f *studyFlags) run(cmd *cobra.Command, args []string) error {
	usage := func(format string, args ...any) error {
		return usageError{fmt.Errorf(format, args...), cmd.CommandPath()}
	}
	if cmd.Flags().Changed("states") && len(args) == 1 && f.states == "text" && slices.Contains(study.StateFormats(), args[0]) {
		f.states, args = args[0], nil // --states mermaid: pflag takes only --states=mermaid
	}
	switch {
	case len(args) > 1:
		return usage("unknown argument %q", args[1])
	case !slices.Contains(studyFormats(), f.format):
		return usage("--format %s: want %s%s", f.format, oneOf(studyFormats()), units.DidYouMean(f.format, studyFormats()))
	case f.states != "" && !slices.Contains(study.StateFormats(), f.states):
		return usage("--states %s: want %s%s", f.states, oneOf(study.StateFormats()), units.DidYouMean(f.states, study.StateFormats()))
	case f.states != "" && (len(args) > 0 || f.from != ""):
		return usage("--states studies no conversation: leave ADDR and --from out")
	case f.from != "" && len(args) > 0:
		return usage("--from and ADDR exclude each other")
	case f.duration < 0:
		return usage("--for %v: must not be below zero", f.duration)
	case f.timeout <= 0:
		return usage("--timeout %v: must be above zero", f.timeout)
	}
	keep, err := units.ParseSize(f.keep)
	if err != nil || keep < 1 {
		return usage("--keep %s: want a size above zero, such as 16kb", f.keep)
	}
	f.kept = keep
	out, err := openOutput(f.out, cmd.OutOrStdout())
	if err != nil {
		return usageError{err: fmt.Errorf("--out: %w", err)}
	}
	failure, err := f.write(cmd, args, out)
	if err != nil {
		return err
	}
	if err := out.finish(); err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	return failure
}

// write makes the study and writes it. failure is why the master could not be
// followed.
func (f *studyFlags) write(cmd *cobra.Command, args []string, out *output) (failure error, err error) {
	if f.states != "" {
		return nil, study.States(out, f.states)
	}
	s, records, err := f.study(cmd, args)
	if err != nil {
		return nil, err
	}
	if s.Failure != nil { // a nil *replica.LinkError is no nil error
		failure = s.Failure
	}
	switch f.format {
	case "json":
		err = study.JSON(out, s)
	case "html":
		err = study.HTML(out, s)
	case "transcript":
		var whole bool
		if whole, err = study.WriteTranscript(out, records); err == nil && !whole {
			fmt.Fprintln(cmd.ErrOrStderr(), "replicad: warning: not all bytes were kept, so the transcript can be read but not played; see its comments, and --keep")
		}
	default:
		err = study.Text(out, s, study.TextOptions{Color: out.color, Width: out.width})
	}
	return failure, err
}

// study has the conversation, or reads it.
func (f *studyFlags) study(cmd *cobra.Command, args []string) (*study.Study, []study.Record, error) {
	if f.from != "" {
		return f.recorded(cmd.InOrStdin())
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if len(args) == 0 {
		addr, stop, err := live.StartEmbedded()
		if err != nil {
			return nil, nil, err
		}
		defer stop()
		args = []string{addr}
	}
	link, err := connect(cmd, args[0])
	if err != nil {
		return nil, nil, usageError{err, cmd.CommandPath()}
	}
	opt := live.Options{Link: link, For: f.duration, Resume: f.resume, Timeout: f.timeout, Keep: f.kept}
	if w := terminal(cmd.ErrOrStderr()); w != nil {
		opt.Progress = func(place string) {
			if place == replica.Place(replica.Sync, replica.Stream) {
				place += ": write something now, to see it come"
			}
			fmt.Fprintf(w, "\r\x1b[K%s: %s", link.Master.Address(), place)
		}
		defer fmt.Fprint(w, "\r\x1b[K")
	}
	s, records, err := live.Run(ctx, opt)
	if errors.Is(err, context.Canceled) {
		err = errors.New("interrupted before the stream began")
	}
	return s, records, err
}

func (f *studyFlags) recorded(in io.Reader) (*study.Study, []study.Record, error) {
	name := "the standard input"
	if f.from != "-" {
		file, err := os.Open(f.from)
		if err != nil {
			return nil, nil, usageError{err: fmt.Errorf("--from: %w", err)}
		}
		defer file.Close()
		in, name = file, filepath.Base(f.from)
	}
	records, err := study.ReadTranscript(in)
	if err != nil {
		return nil, nil, usageError{err: fmt.Errorf("--from %s: %w", f.from, err)}
	}
	return study.Explain(name, records), records, nil
}

// output is where a study is written, once it is whole.
type output struct {
	bytes.Buffer
	to    io.Writer
	path  string // of the file to write to instead
	color bool
	width int
}

func openOutput(path string, stdout io.Writer) (*output, error) {
	o := &output{to: stdout, path: path}
	if path != "" {
		_, err := os.Stat(filepath.Dir(path)) // better told now than behind the study
		return o, err
	}
	if f, ok := terminal(stdout).(*os.File); ok {
		o.color = os.Getenv("NO_COLOR") == ""
		if w, _, err := term.GetSize(int(f.Fd())); err == nil {
			o.width = min(w, 120)
		}
	}
	return o, nil
}

// finish writes what was collected.
func (o *output) finish() error {
	if o.path != "" {
		return os.WriteFile(o.path, o.Bytes(), 0o644)
	}
	_, err := o.WriteTo(o.to)
	return err
}
