package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"replicad/replica"
	"replicad/replica/config"
	"replicad/replica/daemon"
	"replicad/replica/logs"
	"replicad/replica/systemd"
	"replicad/replica/units"
)

func runCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run --replicaof [NAME=]ADDR --dir DIR",
		Short: "Follow one or more masters",
		Args:  noMaster,
		RunE:  func(cmd *cobra.Command, _ []string) error { return follow(cmd) },

		SuggestFor: []string{"replicate", "follow", "backup", "start"}, // as others call it
	}
	config.Register(cmd.Flags())
	return cmd
}

// noMaster refuses arguments. One that is a master's address, or the port of
// one, is what --replicaof takes, as redis.conf and redis-cli write it.
func noMaster(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	address := args[0]
	if given := cmd.Flags().Lookup("replicaof"); given.Changed {
		address = given.Value.String() + ":" + address
	} else if len(args) == 2 {
		address += ":" + args[1]
	}
	if _, err := replica.ParseMaster(address); err != nil {
		return noArguments(cmd, args)
	}
	return usageError{fmt.Errorf("unknown argument %q: did you mean --replicaof %s?", args[0], units.ShellWord(address)), cmd.CommandPath()}
}

// sources are where the settings of a command come from.
func sources(cmd *cobra.Command) config.Sources {
	return config.Sources{Flags: cmd.Flags(), Environ: os.Environ()}
}

// follow is the daemon.
func follow(cmd *cobra.Command) error {
	settings, err := config.Load(sources(cmd))
	if err != nil {
		return err
	}
	stderr := cmd.ErrOrStderr()
	level := new(slog.LevelVar)
	level.Set(settings.LogLevel)
	var screen *logs.Screen // for the progress of one master; two would draw over each other
	log := logs.NewLogger(stderr, level, settings.LogFormat == "json")
	if w := terminal(stderr); w != nil && settings.LogFormat == "auto" {
		lines := logs.NewScreen(w, func() int { return columns(w) })
		if log = logs.NewPeople(lines, level); len(settings.Masters) == 1 {
			screen = lines
		}
	}
	for _, w := range settings.Warnings {
		log.Warn(w)
	}
	free, err := daemon.FreeFiles(len(settings.Masters), settings.Listeners())
	if err != nil {
		return err
	}
	cfg := settings.Daemon(log)
	r := logs.New(log, screen)
	defer r.Close()
	cfg.Observer = r
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends at once, should the disk stand still
	ports, err := openPorts(settings, log, stop, free)
	if err != nil {
		return err
	}
	defer ports.close()
	shown, err := listen(settings.HTTP, &cfg)
	if err != nil {
		return err
	}
	defer shown.close()
	if shown != nil {
		cfg.Observer = daemon.Observers{r, shown}
	}
	cfg.Credentials = settings.Credentials
	d, err := daemon.Open(cfg)
	if err != nil {
		return err
	}
	ports.serve(d)
	shown.serve(d, log)
	onSignal(ctx, syscall.SIGUSR1, func() { d.RebaseNow("SIGUSR1") })
	manager := systemd.Start(ctx, systemd.Service{Post: d.Post, Status: d.Statuses, Log: log})
	defer manager.Stop()
	onSignal(ctx, syscall.SIGHUP, func() { manager.Reload(func() { reload(settings, d, ports, shown, level, log) }) })
	announce(log, settings, shown) // from now on no signal but those that end it does so
	return d.Run(ctx)
}

// announce says what runs, and what it waits for.
func announce(log *slog.Logger, settings *config.Config, shown *site) {
	about := []any{"version", thisBuild().Version, "dir", settings.Dir, "masters", len(settings.Masters), "appendfsync", settings.Archive.AppendFsync.String()}
	if shown != nil {
		about = append(about, "page", "http://"+shown.listener.Addr().String()+"/")
	}
	log.Info("replicad is running", about...)
	for _, m := range settings.Masters {
		where := []any{"master", m.Target.Name}
		if m.Target.Host+m.Target.Path != "" {
			where = append(where, "address", m.Target.Address())
		} else {
			where = append(where, "sentinel", strings.Join(m.Sentinel.Addresses, ","))
		}
		if m.RESP.Port != 0 {
			where = append(where, "port", m.RESP.Port)
		}
		if m.RESP.TLSPort != 0 {
			where = append(where, "tls_port", m.RESP.TLSPort)
		}
		log.Info("connects, and waits for the master's answer", where...)
	}
	if len(settings.Portless) > 0 {
		log.Info("no port is open for these masters: of several masters each has its own port, in the file", "names", units.Names(settings.Portless, 20))
	}
}

// reload takes what may change while the daemon runs: the masters, log level and
// secrets. (TLS files are read at each connect anyway.) What is wrong changes
// nothing.
func reload(settings *config.Config, d *daemon.Daemon, p *ports, shown *site, level *slog.LevelVar, log *slog.Logger) {
	refuse := func(err error) {
		for line := range strings.Lines(complaint(err)) {
			log.Warn("SIGHUP: the settings are wrong, and all stays as it was", "why", strings.TrimSpace(line))
		}
	}
	now, restart, err := settings.Reload()
	if err != nil {
		refuse(err)
		return
	}
	free, err := daemon.FreeFiles(len(now.Masters), now.Listeners())
	if err != nil {
		refuse(err)
		return
	}
	opened, err := p.open(now.Masters, log, free)
	if err != nil {
		refuse(err)
		return
	}
	is, err := d.Change(now.Daemon(log))
	if errors.Is(err, daemon.ErrSetup) {
		opened.close()
		refuse(err)
		return
	}
	if err != nil { // the daemon stops, or an archive that is left could not be closed
		log.Warn("SIGHUP: " + err.Error())
	}
	settings.Follows(now)
	p.change(d, opened)
	shown.follow(d)
	level.Set(now.LogLevel)
	for _, w := range now.Warnings {
		log.Warn(w)
	}
	p.setPassword(now.RESP.RequirePass)
	for _, key := range restart {
		log.Warn("SIGHUP: a changed setting needs a restart", "key", key)
	}
	told := []any{"masters", len(now.Masters), "loglevel", logs.LevelName(level.Level())}
	for _, changed := range []struct {
		what  string
		names []string
	}{{"followed", is.Followed}, {"repointed", is.Repointed}, {"left", is.Left}} {
		if len(changed.names) > 0 {
			told = append(told, changed.what, units.Names(changed.names, 20))
		}
	}
	log.Info("SIGHUP: masters, log level and secrets are read again", told...)
}

// onSignal calls do for each signal until ctx is done; later signals of that kind
// are ignored.
func onSignal(ctx context.Context, s os.Signal, do func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, s)
	go func() {
		for {
			select {
			case <-c:
				do()
			case <-ctx.Done():
				return
			}
		}
	}()
}

// terminal is w where w is a terminal, and nil otherwise.
func terminal(w io.Writer) io.Writer {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return w
	}
	return nil
}

// columns is the width of a terminal.
func columns(w io.Writer) int {
	if f, ok := w.(*os.File); ok {
		if n, _, err := term.GetSize(int(f.Fd())); err == nil && n > 0 {
			return n
		}
	}
	return 80
}
