package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"replicad/replica/archive"
	"replicad/replica/logs"
	"replicad/replica/serve"
)

// serveFlags are the flags of serve.
type serveFlags struct {
	archiveFlags
	to         string
	generation int
	loaded     int
}

func serveCommand() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve --dir DIR --port PORT",
		Short: "Be a read-only master, frozen at a moment: REPLICAOF restores from it",
		RunE:  func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.register(cmd, "port", "bind", "protected-mode", "requirepass", "requirepass-file", "maxclients")
	_ = cmd.Flags().MarkHidden("json") // what is printed is for a shell
	fl := cmd.Flags()
	fl.StringVar(&f.to, "to", "latest", "the `MOMENT`, as restore has it")
	fl.IntVar(&f.generation, "generation", 0, "only what that generation holds, by its `NUMBER`")
	fl.IntVar(&f.loaded, "until-loaded", 0, "end when so many replicas have the moment: a `NUMBER`")
	return cmd
}

func (f *serveFlags) run(cmd *cobra.Command) error {
	usage := func(err error) error { return usageError{err, cmd.CommandPath()} }
	target, err := archive.ParseTarget(f.to, time.Now())
	switch {
	case err != nil:
		return usage(fmt.Errorf("--to: %w", err))
	case f.RESP.Port == 0:
		return usage(errors.New("--port 0: a master has a port"))
	case f.loaded < 0 || f.generation < 0:
		return usage(errors.New("--until-loaded and --generation are not below zero"))
	}
	masters, err := f.masters(cmd)
	if err != nil {
		return err
	}
	one, err := f.single(cmd, masters)
	if err != nil {
		return err
	}
	cfg := serve.Config{Dir: one.Dir, Target: target.In(f.generation), RESP: f.RESP, UntilLoaded: f.loaded}
	cfg.RESP.Version = thisBuild().Version
	cfg.RESP.Log = logs.NewLogger(cmd.ErrOrStderr(), slog.LevelInfo, false)
	s, err := serve.Open(cfg)
	if err != nil {
		return err
	}
	defer s.Close()
	f.announce(cmd.OutOrStdout(), one.Name, s.Point)
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	s.Run(ctx)
	fmt.Fprintf(cmd.OutOrStdout(), "%s: replicas that have loaded it: %d\n", one.Name, s.Loaded())
	return nil
}

// announce says what is served, and the lines that load it.
func (f *serveFlags) announce(w io.Writer, name string, p archive.Point) {
	host := "127.0.0.1"
	for _, one := range f.RESP.Bind {
		if ip := net.ParseIP(strings.TrimPrefix(one, "-")); ip != nil && !ip.IsUnspecified() {
			host = ip.String()
			break
		}
	}
	port := strconv.Itoa(f.RESP.Port)
	fmt.Fprintf(w, "%s: generation %d, offset %d, as of %s, is served at %s\n", name, p.Generation, p.Offset,
		p.Time.UTC().Format("2006-01-02T15:04:05.000Z"), net.JoinHostPort(host, port))
	fmt.Fprintf(w, "  load it: redis-cli -h HOST -p PORT REPLICAOF %s %s\n", host, port)
	fmt.Fprintf(w, "     wait: until redis-cli -h HOST -p PORT INFO replication | grep -qw slave_repl_offset:%d; do sleep 1; done\n", p.Offset)
	fmt.Fprintf(w, "  keep it: redis-cli -h HOST -p PORT REPLICAOF NO ONE\n")
}
