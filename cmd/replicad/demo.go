package main

import (
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"replicad/replica/demo"
)

func demoCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show the main job on an embedded master",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return demo.Run(ctx, demo.Options{Out: cmd.OutOrStdout(), Dir: dir})
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "keep the archive in `DIR`; a temporary folder when empty")
	return cmd
}
