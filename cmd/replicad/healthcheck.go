package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"replicad/replica/httpport"
)

// httpVariable is what replicad run takes --http from, where it is not given.
const (
	httpVariable = "REPLICAD_HTTP"
	defaultHTTP  = "127.0.0.1:9121"
)

func healthcheckCommand() *cobra.Command {
	var addr string
	var timeout time.Duration
	var live bool
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask a running replicad how it does",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := httpport.CheckAddr(addr); err != nil {
				return usageError{fmt.Errorf("--http %w", err), cmd.CommandPath()}
			}
			if timeout <= 0 {
				return usageError{errors.New("--timeout must be above zero"), cmd.CommandPath()}
			}
			ctx, stop := context.WithTimeout(cmd.Context(), timeout)
			defer stop()
			path := httpport.Ready
			if live {
				path = httpport.Live
			}
			answer, err := httpport.Get(ctx, addr, path)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), answer)
			return err
		},
	}
	cmd.Flags().StringVar(&addr, "http", cmp.Or(os.Getenv(httpVariable), defaultHTTP), "`HOST:PORT` where the daemon's --http listens")
	cmd.Flags().DurationVar(&timeout, "timeout", 2*time.Second, "limit for the answer, a `DURATION`")
	cmd.Flags().BoolVar(&live, "live", false, "ask only whether it is alive (/healthz)")
	return cmd
}
