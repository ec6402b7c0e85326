package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"replicad/replica/archive"
	"replicad/replica/archive/verify"
	"replicad/replica/config"
	"replicad/replica/remote"
	"replicad/replica/tables"
	"replicad/replica/units"
)

// archiveFlags are the flags of the commands that work on the archives below
// DIR. A flag that is not given has the value that run would have.
type archiveFlags struct {
	*config.Settings
	name       string
	generation int // of verify
	asJSON     bool
	remotely   bool         // the command reads remotes, too
	folder     string       // temporary, of copy; "" without one
	copy       *remote.Copy // of the remote that --dir names; nil without one
}

// register gives a command the flags, and those of more keys of run.
func (f *archiveFlags) register(cmd *cobra.Command, keys ...string) {
	f.Settings = config.Register(cmd.Flags(), append(keys, "dir")...)
	cmd.Flags().StringVar(&f.name, "name", "", "only the archive of that `NAME`")
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "print JSON")
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		return config.Fill(cmd.Flags(), os.Environ())
	}
}

// registerRemote is register for a command that reads remotes, too.
func (f *archiveFlags) registerRemote(cmd *cobra.Command) {
	f.remotely = true
	f.register(cmd, "remote-endpoint", "remote-region")
}

// masters describes the archives below DIR, or the one that is named.
func (f *archiveFlags) masters(cmd *cobra.Command) ([]archive.Master, error) {
	if f.Dir == "" {
		return nil, usageError{errors.New("--dir is missing: where are the archives? For example: --dir data"), cmd.CommandPath()}
	}
	if f.isRemote() && f.remotely {
		return f.copied(cmd, "")
	}
	if f.isRemote() {
		return nil, usageError{err: fmt.Errorf("--dir %s: %s works on a folder; list, restore and verify read a remote", f.Dir, cmd.Name())}
	}
	if st, err := os.Stat(f.Dir); errors.Is(err, fs.ErrNotExist) {
		return nil, usageError{err: fmt.Errorf("--dir %s: there is no such folder; it is the --dir of the run that keeps the archives", f.Dir)}
	} else if err != nil {
		return nil, usageError{err: err}
	} else if !st.IsDir() {
		return nil, usageError{err: fmt.Errorf("--dir %s is no folder", f.Dir)}
	}
	if inside, _ := fs.Glob(os.DirFS(f.Dir), "generation-[0-9]*"); len(inside) > 0 {
		whole, err := filepath.Abs(f.Dir)
		if err != nil {
			return nil, err
		}
		parent, name := filepath.Dir(whole), filepath.Base(whole)
		return nil, usageError{err: fmt.Errorf("--dir %s is one archive, not the folder that holds them: type --dir %s --name %s", f.Dir, units.ShellWord(parent), units.ShellWord(name))}
	}
	masters, err := archive.List(f.Dir)
	if err != nil || f.name == "" {
		return masters, err
	}
	named := func(m archive.Master) bool { return m.Name == f.name }
	if i := slices.IndexFunc(masters, named); i >= 0 {
		return masters[i : i+1], nil
	}
	return nil, usageError{err: fmt.Errorf("--name %s: there is no such archive below %s", f.name, f.Dir)}
}

// single gives the one archive that can be read; of several --name has to say
// which.
func (f *archiveFlags) single(cmd *cobra.Command, masters []archive.Master) (one archive.Master, err error) {
	var names []string
	for _, m := range masters {
		if m.Problem == "" {
			one, names = m, append(names, m.Name)
		}
	}
	switch {
	case len(names) > 1:
		return one, usageError{err: fmt.Errorf("--name is missing: below %s are the archives %s", f.Dir, strings.Join(names, ", "))}
	case len(names) == 1:
		for _, m := range masters {
			if m.Problem != "" {
				fmt.Fprintf(cmd.ErrOrStderr(), "%s is passed over: %s\n", m.Name, m.Problem)
			}
		}
		return one, nil
	case len(masters) > 0:
		return one, errors.New(masters[0].Problem)
	}
	return one, usageError{err: fmt.Errorf("no archive below %s", f.Dir)}
}

// on makes a command of what it does with the archives.
func (f *archiveFlags) on(do func(*cobra.Command, []archive.Master) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error {
		masters, err := f.masters(cmd)
		if err != nil {
			return err
		}
		return errors.Join(do(cmd, masters), f.remove())
	}
}

// print writes what a command found: as JSON, or as tables has it by that name.
func (f *archiveFlags) print(cmd *cobra.Command, name string, found any) error {
	if f.asJSON {
		return printJSON(cmd.OutOrStdout(), found)
	}
	return tables.Print(cmd.OutOrStdout(), name, f.Dir, found)
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func listCommand() *cobra.Command {
	var f archiveFlags
	var at string
	cmd := &cobra.Command{
		Use:   "list --dir DIR",
		Short: "Show the archives below DIR, and what they can be restored to",

		SuggestFor: []string{"ls", "databases", "generations", "snapshots", "wal", "ltx"}, // as others call it

		RunE: f.on(func(cmd *cobra.Command, masters []archive.Master) error {
			if cmd.Flags().Changed("at") {
				return f.listAt(cmd, masters, at)
			}
			return f.print(cmd, tables.Archives, f.shown(masters))
		}),
	}
	f.registerRemote(cmd)
	cmd.Flags().StringVar(&at, "at", "", "show which generation and offset that `MOMENT` means")
	return cmd
}

// listAt prints what a moment means in each archive.
func (f *archiveFlags) listAt(cmd *cobra.Command, masters []archive.Master, at string) error {
	now := time.Now()
	target, err := archive.ParseTarget(at, now)
	if err != nil {
		return usageError{err: fmt.Errorf("--at: %w", err)}
	}
	places := []tables.Place{}
	missing := []error{fmt.Errorf("no archive below %s has %s", f.Dir, target)}
	for _, m := range masters {
		l := tables.Place{Name: m.Name, Dir: f.shownDir(m.Dir)}
		r, p, err := archive.Locate(m.Dir, target, now)
		if err == nil {
			r.Close()
			l.Point = &p
		} else {
			l.Unavailable = err.Error()
			missing = append(missing, fmt.Errorf("%s: %w", m.Name, err))
		}
		places = append(places, l)
	}
	nowhere := len(missing) > len(masters)
	if f.asJSON || !nowhere {
		err = f.print(cmd, tables.Places, places)
	}
	if err == nil && nowhere {
		err = usageError{err: errors.Join(missing...)}
	}
	return err
}

func pruneCommand() *cobra.Command {
	var f archiveFlags
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "prune --dir DIR",
		Short: "Remove generations that are no longer needed",
		RunE: f.on(func(cmd *cobra.Command, masters []archive.Master) error {
			return f.prune(cmd, masters, dryRun)
		}),
	}
	f.register(cmd, "keep-for", "keep-generations", "max-bytes")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "show what would go, and remove nothing")
	return cmd
}

// prune prunes archives, and prints what went.
func (f *archiveFlags) prune(cmd *cobra.Command, masters []archive.Master, dryRun bool) error {
	done := []tables.Prune{}
	var failed error
	for _, m := range masters {
		p, err := archive.Prune(m.Dir, f.Retention, time.Now(), dryRun)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", m.Name, err))
		}
		if err == nil || len(p.Removals) > 0 {
			done = append(done, tables.Prune{Name: m.Name, DryRun: dryRun, Plan: p})
		}
	}
	return errors.Join(f.print(cmd, tables.Prunes, done), failed)
}

var errProblems = errors.New("problems were found")

func verifyCommand() *cobra.Command {
	var f archiveFlags
	cmd := &cobra.Command{
		Use:   "verify --dir DIR",
		Short: "Read the archives again, and say what is proved to be sound",
		RunE:  f.on(f.verify),
	}
	f.registerRemote(cmd)
	cmd.Flags().IntVar(&f.generation, "generation", 0, "only that generation, by its `NUMBER`")
	return cmd
}

// verify verifies archives, and prints what was proved.
func (f *archiveFlags) verify(cmd *cobra.Command, masters []archive.Master) error {
	if len(masters) == 0 {
		return usageError{err: fmt.Errorf("no archive below %s: nothing was verified", f.Dir)}
	}
	reports, problems := []verify.Report{}, 0
	var failed error
	for _, m := range masters {
		if f.copy != nil {
			if err := f.fetchAll(cmd, m); err != nil {
				failed = errors.Join(failed, fmt.Errorf("%s: %w", m.Name, err))
				continue
			}
		}
		tell, end := tables.Bar(terminal(cmd.ErrOrStderr()), m.Name+": verify")
		r, err := verify.Archive(cmd.Context(), m.Dir, verify.Options{Progress: tell, Generation: f.generation})
		end()
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", m.Name, err))
			continue
		}
		reports = append(reports, r)
		if len(r.Generations) == 0 {
			problems++
		}
		for _, g := range r.Generations {
			problems += len(g.Problems)
		}
	}
	if problems > 0 {
		failed = errors.Join(failed, fmt.Errorf("%w: %d below %s", errProblems, problems, f.Dir))
	}
	return errors.Join(f.print(cmd, tables.Reports, reports), failed)
}
