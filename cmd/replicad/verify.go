package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"replicad/replica/archive/verify"
	"replicad/replica/config"
	"replicad/replica/tables"
)

func verifyCommand() *cobra.Command {
	var settings *config.Settings
	var name string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify --dir DIR",
		Short: "Read the archives again, and say what is proved to be sound",
		Long: `Read every generation from the first byte to the last: the base's structure and
checksum, the manifest against the files, the segments without a gap and made of
well-formed commands, their CRC-32C wherever the timeline has one, the timeline
and the record of what is durable. Print what was proved, and the offset up to
which all is sound.

Exit code 0 where all is sound, 1 with problems, each with its file and byte, 2
for wrong flags. It reads only, and may run while the daemon does. An unfinished
command at the end of what is being received is no problem.

With --json: a list of archives, each with name, dir, running, sound and
generations; of these generation, sound, sound_offset (-1: nothing), base, segments,
marks, notes, and problems and warnings, each with file, byte, to_byte, offset (-1
where they do not apply) and text.`,
		Example: `  replicad verify --dir data
  replicad verify --dir data --name main --json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir := settings.Dir
			masters, err := mastersBelow(cmd, dir, name)
			if err != nil {
				return err
			}
			reports, problems := []verify.Report{}, 0
			for _, m := range masters {
				tell, end := tables.VerifyBar(terminal(cmd.ErrOrStderr()), m.Name)
				r, err := verify.Archive(cmd.Context(), m.Dir, verify.Options{Progress: tell})
				end()
				if err != nil {
					return err
				}
				reports = append(reports, r)
				for _, g := range r.Generations {
					problems += len(g.Problems)
				}
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), reports)
			} else {
				err = tables.Verified(cmd.OutOrStdout(), dir, reports)
			}
			if err == nil && problems > 0 {
				err = fmt.Errorf("%w: %d below %s", errProblems, problems, dir)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "only the archive of that name")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	settings = fromSettings(cmd, "dir")
	return cmd
}

var errProblems = errors.New("problems were found")
