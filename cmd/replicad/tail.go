package main

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"replicad/replica/archive"
	"replicad/replica/tail"
	"replicad/replica/units"
)

// tailFlags are the flags of tail.
type tailFlags struct {
	archiveFlags
	format string
	opt    tail.Options
}

func tailCommand() *cobra.Command {
	var f tailFlags
	cmd := &cobra.Command{
		Use:   "tail --dir DIR",
		Short: "Print the commands of the stream: all, or what touched a key",

		SuggestFor: []string{"follow", "watch", "monitor", "log", "logs", "cat"}, // as others call it

		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.register(cmd)
	_ = cmd.Flags().MarkHidden("json") // each line is JSON anyway
	fl := cmd.Flags()
	fl.StringVar(&f.opt.From, "from", "", "`PLACE` to begin at: a moment, ID:OFFSET, or base (default the oldest base, and with --follow the end)")
	fl.StringVar(&f.opt.To, "to", "", "the last `MOMENT` that is printed")
	fl.BoolVar(&f.opt.Follow, "follow", false, "wait for more at the end")
	fl.StringVar(&f.opt.Key, "key", "", "only what touches keys that match a `PATTERN`, or may")
	fl.IntVar(&f.opt.DB, "db", -1, "only commands in that database, by its `NUMBER`")
	fl.StringVar(&f.opt.Command, "command", "", "only commands of that `NAME`")
	fl.StringVar(&f.format, "format", tail.Formats()[0], "`FORMAT` of a line: json or text")
	return cmd
}

func (f *tailFlags) run(cmd *cobra.Command) error {
	usage := func(err error) error { return usageError{err, cmd.CommandPath()} }
	switch {
	case !slices.Contains(tail.Formats(), f.format):
		return usage(fmt.Errorf("--format %q: want %s%s", f.format, strings.Join(tail.Formats(), " or "), units.DidYouMean(f.format, tail.Formats())))
	case f.opt.Follow && f.opt.To != "":
		return usage(errors.New("--to and --follow: one of the two"))
	case f.opt.DB < -1:
		return usage(fmt.Errorf("--db %d is no database", f.opt.DB))
	}
	f.opt.Text, f.opt.Out = f.format == "text", cmd.OutOrStdout()
	masters, err := f.masters(cmd)
	if err != nil {
		return err
	}
	one, err := f.single(cmd, masters)
	if err != nil {
		return err
	}
	f.opt.Waiting = func(why error) { fmt.Fprintf(cmd.ErrOrStderr(), "tail: %v\n", why) }
	t, err := tail.New(one.Dir, f.opt)
	switch {
	case errors.Is(err, tail.ErrPlace):
		return usage(err)
	case errors.Is(err, archive.ErrNotKept):
		return usageError{err: fmt.Errorf("%w; 'replicad list --dir %s' says what it holds", err, f.Dir)}
	case err != nil:
		return err
	}
	defer t.Close()
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := t.Run(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
