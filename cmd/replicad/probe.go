package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9/logging"
	"github.com/spf13/cobra"

	"replicad/replica"
	"replicad/replica/config"
	"replicad/replica/probe"
	"replicad/replica/tables"
)

const probePath = "replicad probe"

type probeFlags struct {
	opt    probe.Options
	asJSON bool
}

func probeCommand() *cobra.Command {
	var f probeFlags
	cmd := &cobra.Command{
		Use:   "probe ADDR",
		Short: "Find out whether a master can be followed, and what would stand in the way",
		Args: func(cmd *cobra.Command, args []string) error {
			switch len(args) {
			case 0:
				return usageError{errors.New("ADDR is missing: which master to probe? For example: replicad probe 127.0.0.1:6379"), probePath}
			case 1:
				return nil
			}
			if address := args[0] + ":" + args[1]; len(args) == 2 {
				if _, err := replica.ParseMaster(address); err == nil {
					return usageError{fmt.Errorf("unknown argument %q: did you mean %s?", args[1], address), probePath}
				}
			}
			return usageError{fmt.Errorf("unknown argument %q: one master is probed at a time", args[1]), probePath}
		},
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	fl := cmd.Flags()
	config.RegisterConnect(fl)
	fl.BoolVar(&f.opt.Psync, "psync", false, "send a real PSYNC and cut it after the reply; a BGSAVE may begin on a master that has no backlog yet")
	fl.StringVar(&f.opt.Dir, "dir", "", "`DIR` where an archive would be kept: is there room?")
	fl.DurationVar(&f.opt.For, "for", probe.DefaultFor, "measure the write rate for this `DURATION`")
	fl.DurationVar(&f.opt.Timeout, "timeout", probe.DefaultTimeout, "limit for the whole probe, a `DURATION`; each answer has 5s of it")
	fl.StringVar(&f.opt.AnnounceIP, "replica-announce-ip", "", "`IP` to tell the master")
	fl.IntVar(&f.opt.AnnouncePort, "replica-announce-port", 0, "`PORT` to tell the master; 0 for none")
	fl.BoolVar(&f.asJSON, "json", false, "print JSON")
	return cmd
}

// options turns flags into what they mean.
func (f *probeFlags) options(cmd *cobra.Command, addr string) error {
	link, err := connect(cmd, addr)
	if err != nil {
		return err
	}
	f.opt.Master, f.opt.Source, f.opt.TLS = link.Master, link.Source, link.TLS
	switch {
	case f.opt.Timeout <= 0 || f.opt.For <= 0:
		return errors.New("--timeout and --for must be above zero")
	case f.opt.For >= f.opt.Timeout && cmd.Flags().Changed("for"):
		return fmt.Errorf("--for %v leaves no time within --timeout %v", f.opt.For, f.opt.Timeout)
	case f.opt.AnnouncePort < 0 || f.opt.AnnouncePort > 65535:
		return fmt.Errorf("--replica-announce-port %d: want 0 to 65535", f.opt.AnnouncePort)
	}
	return nil
}

func (f *probeFlags) run(cmd *cobra.Command, addr string) error {
	err := f.options(cmd, addr)
	if err != nil {
		return usageError{err, probePath}
	}
	out := cmd.OutOrStdout()
	text := tables.NewProbe(out)
	if w := terminal(out); w != nil {
		text.Width, text.Color = columns(w), os.Getenv("NO_COLOR") == ""
	}
	if !f.asJSON {
		f.opt.Tell = text.Check
		if w := terminal(cmd.ErrOrStderr()); w != nil {
			f.opt.Measuring = func(d time.Duration) {
				fmt.Fprintf(w, "      measuring the write rate for %v\n", d.Round(100*time.Millisecond))
			}
		}
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	logging.Disable() // the probe's client writes to stderr otherwise
	r := probe.Run(ctx, f.opt)
	if f.asJSON {
		err = printJSON(out, r)
	} else {
		err = text.Verdict(r)
	}
	if err != nil {
		return usageError{err: err} // 1 would mean warnings
	}
	if ctx.Err() != nil {
		return usageError{err: errors.New("interrupted")}
	}
	return map[probe.Status]exitCode{probe.Warn: 1, probe.Fail: 2}[r.Verdict]
}

// connect is the link that the flags and ADDR name. It prints warnings.
func connect(cmd *cobra.Command, addr string) (replica.Config, error) {
	return config.Connect(sources(cmd), addr, func(s string) { fmt.Fprintln(cmd.ErrOrStderr(), "replicad: warning: "+s) })
}
