package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"replicad/replica/archive"
	"replicad/replica/config"
	"replicad/replica/tables"
)

func pruneCommand() *cobra.Command {
	var name string
	var dryRun, asJSON bool
	var keep *config.Settings
	cmd := &cobra.Command{
		Use:   "prune --dir DIR",
		Short: "Remove generations that are no longer needed",
		Long: `Remove whole generations, oldest first: those that no time of the window
--keep-for needs. The newest --keep-generations stay. With --max-bytes the oldest go
also from the window, for as long as an archive is larger, down to the newest, which
never goes. A generation that somebody restores from or verifies stays for now.

--dry-run shows what would go, and which times would no longer be restorable. It may
run while the daemon does. Exit code 0 also where there is nothing to prune.`,
		Example: `  replicad prune --dir data --dry-run
  replicad prune --dir data --name main --keep-for 30d --max-bytes 100gb`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			masters, err := mastersBelow(cmd, keep.Dir, name)
			if err != nil {
				return err
			}
			return prune(cmd, masters, keep.Retention, dryRun, asJSON)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&name, "name", "", "only the archive of that name")
	fl.BoolVar(&dryRun, "dry-run", false, "show what would go, and remove nothing")
	fl.BoolVar(&asJSON, "json", false, "print JSON")
	keep = fromSettings(cmd, "dir", "keep-for", "keep-generations", "max-bytes")
	return cmd
}

// pruned is the plan for one archive, as JSON has it.
type pruned struct {
	Name   string `json:"name"`
	DryRun bool   `json:"dry_run"`
	archive.Plan
}

// prune prunes archives until one fails, and prints what went.
func prune(cmd *cobra.Command, masters []archive.Master, keep archive.Retention, dryRun, asJSON bool) error {
	out := cmd.OutOrStdout()
	done := []pruned{}
	var failed error
	for _, m := range masters {
		p, err := archive.Prune(m.Dir, keep, time.Now(), dryRun)
		done = append(done, pruned{m.Name, dryRun, p})
		if err != nil {
			failed = fmt.Errorf("%s: %w", m.Name, err)
			break
		}
	}
	if asJSON {
		if err := printJSON(out, done); err != nil {
			return err
		}
		return failed
	}
	if len(done) == 0 {
		fmt.Fprintln(out, "nothing to prune")
	}
	for _, d := range done {
		if err := tables.Pruned(out, d.Name, d.Plan, dryRun); err != nil {
			return err
		}
	}
	return failed
}
