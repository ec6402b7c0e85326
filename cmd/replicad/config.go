package main

import (
	"cmp"
	"fmt"

	"github.com/spf13/cobra"

	"replicad/replica/config"
	"replicad/replica/units"
)

func configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check settings, or show what they come to",
		Long: `Look at the settings of 'replicad run' without running anything.

Every setting is a flag of run (--repl-timeout), a key of the file that --config
names (repl-timeout) and a variable (REPLICAD_REPL_TIMEOUT). A flag goes before a
variable, a variable before the file, and the file before the default.

In the file, the masters to follow may also be a list. Each has a name, a replicaof
(or sentinel and master-name), and passwords, TLS, ports and announced address of
its own where they differ. A master's own value goes before all others, also
before a flag:

  dir: /var/lib/replicad
  masterauth-file: /etc/replicad/masterauth
  masters:
    - name: main
      replicaof: 10.0.0.1:6379
    - name: cache
      replicaof: rediss://10.0.0.2:6380
      masterauth-file: /etc/replicad/cache-auth`,
		Example: `  replicad config check --config replicad.yml
  replicad config show --config replicad.yml`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(checkCommand(), showCommand())
	return cmd
}

func checkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check [--config FILE]",
		Short: "Say what is wrong with the settings, each with its line",
		Long: `Read the settings as run does, with the files of passwords and certificates that
they name, and report every unknown key and every wrong value, each with its line.
The command takes the flags of run.

Exit codes: 0 when all is fine, 2 where run would not start, or where a variable
REPLICAD_* belongs to no key.`,
		Example: `  replicad config check --config /etc/replicad/replicad.yml`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			from := sources(cmd)
			from.Strict = true
			c, err := config.Load(from)
			if err != nil {
				return err
			}
			for _, w := range c.Warnings {
				fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s\n", w)
			}
			masters := units.Count(int64(len(c.Masters)), "master")
			what := cmp.Or(c.File, "what the flags and the environment say")
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is fine: %s, kept in %s\n", what, masters, c.Dir)
			return err
		},
	}
	config.Register(cmd.Flags())
	return cmd
}

func showCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show [--config FILE]",
		Short: "Show all settings, and where each comes from",
		Long: `Show the value of each setting of run, and whether it comes from a flag, a
variable, the file (with the line) or is the default. Passwords are hidden. The
output is a file that --config takes. The command takes the flags of run.`,
		Example: `  replicad config show --config replicad.yml
  REPLICAD_APPENDFSYNC=always replicad config show --replicaof 127.0.0.1:6379 --dir data`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(sources(cmd))
			if err != nil {
				return err
			}
			return c.Show(cmd.OutOrStdout())
		},
	}
	config.Register(cmd.Flags())
	return cmd
}
