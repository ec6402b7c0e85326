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
		Long: `Start an embedded master, follow it, cut the link, cut it inside a command, take
a new generation beside the running link, and prove that the archive is what the
master sent: its files are compared with that, byte for byte. A redis-server, where
one is on the PATH, loads a restore besides. The demo needs no Redis and takes a few
seconds.`,
		Example: `  replicad demo
  replicad demo --dir /tmp/demo    # keeps the archive`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			return demo.Run(ctx, demo.Options{Out: cmd.OutOrStdout(), Dir: dir})
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "keep the archive there; a temporary folder when empty")
	return cmd
}
