package main

import (
	"errors"
	"fmt"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"replicad/replica/archive"
	"replicad/replica/archive/redisserver"
	"replicad/replica/archive/restore"
	"replicad/replica/tables"
	"replicad/replica/units"
)

// restoreFlags are the flags of restore.
type restoreFlags struct {
	archiveFlags
	to, format       string
	owner            string
	check, checkOnly bool
	generation       int
	stale            string
	opt              restore.Options
}

func restoreCommand() *cobra.Command {
	var f restoreFlags
	cmd := &cobra.Command{
		Use:   "restore --dir DIR --out OUT",
		Short: "Make of an archive what redis-server starts on, as of any moment",
		RunE:  func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.registerRemote(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.to, "to", "latest", "the `MOMENT`: latest, a time, 15m or offset:N")
	fl.IntVar(&f.generation, "generation", 0, "only what that generation holds, by its `NUMBER`")
	fl.StringVar(&f.stale, "at-most-stale", "", "how old the state may be: a `DURATION` (60s for a time, any for latest)")
	fl.StringVar(&f.opt.Out, "out", "", "the `FOLDER` to restore to")
	fl.StringVar(&f.format, "format", string(restore.Multipart), "`FORMAT` of the result: multipart, aof or rdb")
	fl.BoolVar(&f.check, "check", false, "load the result in a redis-server from the PATH")
	fl.BoolVar(&f.checkOnly, "check-only", false, "restore to a temporary folder, check and remove it")
	fl.StringVar(&f.opt.Server.Path, "redis-server", "", "the `PATH` of the redis-server that loads the result")
	fl.StringVar(&f.opt.Server.Config, "redis-config", "", "a `FILE` of its configuration")
	fl.BoolVar(&f.opt.NoLink, "no-link", false, "make no hard links to the archive's files")
	fl.StringVar(&f.owner, "chown", "", "give the result to `USER:GROUP`")
	return cmd
}

func (f *restoreFlags) run(cmd *cobra.Command) (err error) {
	defer func() { err = errors.Join(err, f.remove()) }()
	done, err := f.options(cmd)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if f.copy != nil {
		tell, end := tables.Bar(terminal(cmd.ErrOrStderr()), "fetch")
		err := f.fetch(ctx, done.Name, f.opt.Target, tell)
		end()
		if err != nil {
			return err
		}
	}
	tell, end := tables.Bar(terminal(cmd.ErrOrStderr()), "restore")
	f.opt.Progress = tell
	f.opt.Loading = func() {
		end()
		if w := terminal(cmd.ErrOrStderr()); w != nil {
			fmt.Fprintln(w, "restore: redis-server loads the result, to check it")
		}
	}
	var found redisserver.Report
	if f.checkOnly {
		done.Result, found, err = restore.Drill(ctx, f.opt)
	} else {
		done.Result, err = restore.Run(ctx, f.opt)
	}
	end()
	if err == nil && f.check && !f.checkOnly {
		f.opt.Loading()
		found, err = restore.Check(ctx, done.Result, f.opt.Server)
		if err != nil {
			err = fmt.Errorf("%s was restored, and did not pass the check: %w", f.opt.Out, err)
		}
	}
	if err != nil {
		return err
	}
	if f.check || f.checkOnly {
		done.Check = &found
	}
	return f.print(cmd, tables.Restore, done)
}

// options checks the flags, and finds the archive.
func (f *restoreFlags) options(cmd *cobra.Command) (done tables.Restored, err error) {
	usage := func(err error) error { return usageError{err, cmd.CommandPath()} }
	if f.opt.Format, err = restore.ParseFormat(f.format); err != nil {
		return done, usage(fmt.Errorf("--format: %w%s", err, units.DidYouMean(f.format, []string{string(restore.Multipart), string(restore.AOF), string(restore.RDB)})))
	}
	if f.opt.Target, err = archive.ParseTarget(f.to, time.Now()); err != nil {
		return done, usage(fmt.Errorf("--to: %w", err))
	}
	if f.generation < 0 {
		return done, usage(fmt.Errorf("--generation %d: the first is 1", f.generation))
	}
	f.opt.Target = f.opt.Target.In(f.generation)
	if f.stale != "" {
		stale, err := units.ParseAge(f.stale)
		if err != nil || stale <= 0 {
			return done, usage(fmt.Errorf("--at-most-stale %q: want a duration, as 90s or 2h", f.stale))
		}
		f.opt.Target = f.opt.Target.AtMost(stale)
	}
	if f.opt.Owner, err = restore.ParseOwner(f.owner); err != nil {
		return done, usage(fmt.Errorf("--chown: %w", err))
	}
	f.opt.Prove = f.check
	switch {
	case f.checkOnly && f.opt.Out != "":
		return done, usage(errors.New("--check-only leaves nothing behind: without --out"))
	case !f.checkOnly && f.opt.Out == "":
		return done, usage(errors.New("--out is missing: where to? For example: --out restored"))
	}
	var masters []archive.Master
	if f.isRemote() {
		// Beside OUT, so that the files that were fetched become the result.
		masters, err = f.copied(cmd, filepath.Dir(filepath.Clean(f.opt.Out)))
	} else {
		masters, err = f.masters(cmd)
	}
	if err != nil {
		return done, err
	}
	one, err := f.single(cmd, masters)
	if err != nil {
		return done, err
	}
	if f.check || f.checkOnly || f.opt.Format == restore.RDB {
		if _, err := f.opt.Server.Find(); err != nil {
			return done, err
		}
	}
	f.opt.Dir = one.Dir
	return tables.Restored{Name: one.Name}, nil
}
