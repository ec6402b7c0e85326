package main

import (
	"cmp"
	"fmt"

	"github.com/spf13/cobra"

	"replicad/replica/config"
)

func configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check settings, or show what they come to",
		Long: `Look at the settings of 'replicad run', from flags, from variables REPLICAD_* and
from the file that --config names, without running anything.

Each flag of run is a key of the file and a variable: --repl-timeout is repl-timeout
and REPLICAD_REPL_TIMEOUT. A flag goes before a variable, this before the file, and
the file before the default. In the file, what is followed may also be a list,
each master with a name, a replicaof (or sentinel and master-name), and its own
passwords, TLS and announced address where they differ:

  dir: /var/lib/replicad
  masterauth-file: /etc/replicad/masterauth
  masters:
    - name: main
      replicaof: 10.0.0.1:6379
    - name: cache
      replicaof: rediss://10.0.0.2:6380
      masterauth-file: /etc/replicad/cache-auth

An own value goes before the one for all, also where that is a flag's.`,
		Example: `  replicad config check --config replicad.yml
  replicad config show --config replicad.yml`,
		Args: noArguments,
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
they name, and say everything that is wrong: unknown keys, wrong values, each with
its line. It takes the flags of run, for what is not in the file.

Exit code 0 where all is fine, 2 where run would not start, or where a variable
REPLICAD_* belongs to no key.`,
		Example: `  replicad config check --config /etc/replicad/replicad.yml`,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			from := sources(cmd)
			from.Strict = true
			c, err := config.Load(from)
			if err != nil {
				return usageError{err: err}
			}
			for _, w := range c.Warnings {
				fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s\n", w)
			}
			masters := "1 master"
			if n := len(c.Masters); n != 1 {
				masters = fmt.Sprintf("%d masters", n)
			}
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
		Long: `Show what each setting of run comes to, and whether it is a flag's, a variable's,
one of the file (with the line) or the default. Passwords are hidden. What is
printed is a file that --config takes. It takes the flags of run.`,
		Example: `  replicad config show --config replicad.yml
  REPLICAD_APPENDFSYNC=always replicad config show --replicaof 127.0.0.1:6379 --dir data`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(sources(cmd))
			if err != nil {
				return wrongSettings(cmd, err)
			}
			return c.Show(cmd.OutOrStdout())
		},
	}
	config.Register(cmd.Flags())
	return cmd
}
