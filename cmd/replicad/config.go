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
		RunE:  showHelp,
	}
	cmd.AddCommand(checkCommand(), showCommand())
	return cmd
}

func checkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check [--config FILE]",
		Short: "Say what is wrong with the settings, each with its line",
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
