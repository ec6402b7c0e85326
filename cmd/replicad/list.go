package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"replicad/replica/archive"
	"replicad/replica/config"
	"replicad/replica/tables"
)

func listCommand() *cobra.Command {
	var settings *config.Settings
	var name, at string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list --dir DIR",
		Short: "Show the archives below DIR, and what they can be restored to",
		Long: `Show each master's generations: one full sync and the stream that follows it,
the times that it can be restored to, and what of it was verified: its base, and
how many segments of how many.

With --at, show which generation and offset that moment means: latest, a time
(RFC 3339, "2006-01-02 15:04:05" in local time, unix seconds or milliseconds), a
duration ago (15m, 2d), or offset:N. Exit code 2, with what is available instead,
where no archive has it.

It reads only, and may run while the daemon does.`,
		Example: `  replicad list --dir data
  replicad list --dir data --json
  replicad list --dir data --at '2026-11-23 10:00:00'
  replicad list --dir data --at 15m`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir := settings.Dir
			masters, err := mastersBelow(cmd, dir, name)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if cmd.Flags().Changed("at") {
				return listAt(out, dir, masters, at, asJSON)
			}
			if asJSON {
				return printJSON(out, masters)
			}
			return tables.Archives(out, dir, masters)
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "only the archive of that name")
	cmd.Flags().StringVar(&at, "at", "", "show which generation and offset that moment means")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	settings = fromSettings(cmd, "dir")
	return cmd
}

// mastersBelow describes the archives below dir, or the one that is named.
func mastersBelow(cmd *cobra.Command, dir, name string) ([]archive.Master, error) {
	if dir == "" {
		return nil, usageError{errors.New("--dir is missing: where are the archives? For example: --dir data"), cmd.CommandPath()}
	}
	if st, err := os.Stat(dir); err != nil {
		return nil, usageError{err: err}
	} else if !st.IsDir() {
		return nil, usageError{err: fmt.Errorf("--dir %s is no folder", dir)}
	}
	masters, err := archive.List(dir)
	if err != nil || name == "" {
		return masters, err
	}
	for _, m := range masters {
		if m.Name == name {
			return []archive.Master{m}, nil
		}
	}
	return nil, usageError{err: fmt.Errorf("--name %s: there is no such archive below %s", name, dir)}
}

// listAt prints what a moment means in each archive.
func listAt(out io.Writer, dir string, masters []archive.Master, at string, asJSON bool) error {
	now := time.Now()
	target, err := archive.ParseTarget(at, now)
	if err != nil {
		return usageError{err: fmt.Errorf("--at: %w", err)}
	}
	places := []tables.Located{}
	missing := []error{fmt.Errorf("no archive below %s has %s", dir, target)}
	for _, m := range masters {
		l := tables.Located{Name: m.Name, Dir: m.Dir}
		r, p, err := archive.Locate(m.Dir, target, now)
		switch {
		case err == nil:
			r.Close()
			l.Point = &p
		case errors.Is(err, archive.ErrUnavailable):
			l.Unavailable = err.Error()
			missing = append(missing, fmt.Errorf("%s: %w", m.Name, err))
		default:
			return err
		}
		places = append(places, l)
	}
	nowhere := len(missing) > len(masters)
	switch {
	case asJSON:
		err = printJSON(out, places)
	case !nowhere:
		err = tables.Places(out, places)
	}
	if err == nil && nowhere {
		err = usageError{err: errors.Join(missing...)}
	}
	return err
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
