package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/daemon"
	"replicad/replica/report"
	"replicad/replica/resp"
	"replicad/replica/sentinel"
)

const runPath = "replicad run"

type runFlags struct {
	replicaof   []string
	dir         string
	connect     connectFlags
	sentinel    sentinelFlags
	appendfsync string
	logLevel    string
	logFormat   string
	link        replica.Config
	archive     archiveFlags
}

// archiveFlags say how the archive is cut into files, begun anew, and kept.
type archiveFlags struct {
	segmentSize        sizeFlag
	timelineResolution time.Duration
	rebasePercentage   int
	rebaseMinSize      sizeFlag
	rebaseEvery        ageFlag
	retain             retainFlags
}

func (f *archiveFlags) register(fl *pflag.FlagSet) {
	*f = archiveFlags{segmentSize: archive.DefaultSegmentSize, rebaseMinSize: daemon.DefaultRebaseMinSize}
	fl.Var(&f.segmentSize, "segment-size", "start the next file of the stream at this size")
	fl.DurationVar(&f.timelineResolution, "timeline-resolution", archive.DefaultTimelineResolution, "how exact restore --to TIME is: write down which offset was reached when at most so often")
	fl.IntVar(&f.rebasePercentage, "auto-aof-rewrite-percentage", daemon.DefaultRebasePercentage, "rebase (take a new full sync beside the running link) when the stream has so many percent of the base; 0 for never")
	fl.Var(&f.rebaseMinSize, "auto-aof-rewrite-min-size", "but not while the stream is smaller")
	fl.Var(&f.rebaseEvery, "rebase-every", "rebase when the base is so old; 0s for never")
	f.retain.register(fl)
}

// config puts the flags where they belong.
func (f *archiveFlags) config(cfg *daemon.Config) error {
	cfg.Archive.SegmentSize, cfg.Archive.TimelineResolution = int64(f.segmentSize), f.timelineResolution
	cfg.Rebase = daemon.Rebase{Percentage: f.rebasePercentage, MinSize: int64(f.rebaseMinSize), Every: time.Duration(f.rebaseEvery)}
	var err error
	cfg.Retention, err = f.retain.retention()
	switch {
	case err != nil:
		return err
	case f.segmentSize < minSegmentSize:
		return fmt.Errorf("--segment-size %v: want at least %d bytes", &f.segmentSize, minSegmentSize)
	case f.timelineResolution < time.Millisecond:
		return fmt.Errorf("--timeline-resolution %v: want at least 1ms", f.timelineResolution)
	case f.rebasePercentage < 0:
		return fmt.Errorf("--auto-aof-rewrite-percentage %d: want 0 or more", f.rebasePercentage)
	case f.rebaseEvery != 0 && time.Duration(f.rebaseEvery) < time.Minute:
		return fmt.Errorf("--rebase-every %v: want at least 1m: each one is a full sync of the master", &f.rebaseEvery)
	}
	return nil
}

// minSegmentSize keeps the stream from falling into a file for each command.
const minSegmentSize = 64 << 10

func runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run --replicaof [NAME=]ADDR --dir DIR",
		Short: "Follow one or more masters",
		Long: `Follow masters: full sync, then the replication stream, written below DIR/NAME.
A link that is cut resumes by partial resync, also after a restart. SIGINT and
SIGTERM end the daemon when everything received is stored and fsynced; a second
one ends it at once. SIGUSR1 asks for a rebase.

A rebase is a second link that takes a full sync into the next generation while
the first one goes on; when it has caught up, the new generation takes over. So
what has to be loaded does not grow for ever, and no moment is missing. Whole
generations go, oldest first, when every moment of --keep-for can be restored
without them.

ADDR is host:port, "host port", [v6]:port, redis://[user[:password]@]host:port,
rediss:// (TLS) or unix:///path. --replicaof may repeat; all masters share one
event loop. TLS verifies the master's name (--tls-server-name); certificates are
read anew at each connect.

With --sentinel the address is what the Sentinels say, and the master is followed
when they fail over, also where they can't reach this replica.

The password is taken from --masterauth-file or from the variable ` + masterauthVariable + `.

Exit codes: 0 after a signal, 1 after a failure, 2 for wrong flags, a DIR that
can't be used, or one that another replicad uses.`,
		Example: `  replicad run --replicaof 127.0.0.1:6379 --dir data
  ` + masterauthVariable + `=secret replicad run --replicaof main=10.0.0.1:6379 --replicaof '10.0.0.2 6379' --dir data
  replicad run --replicaof unix:///run/redis/redis.sock --dir data --appendfsync always
  replicad run --replicaof rediss://db.example.org:6380 --tls-ca-cert-file ca.pem --dir data
  replicad run --sentinel 10.0.0.1:26379,10.0.0.2:26379 --master-name mymaster --dir data
  replicad run --replicaof 127.0.0.1:6379 --dir data --rebase-every 1d --keep-for 30d --max-bytes 200gb`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd.Context(), cmd.ErrOrStderr())
		},
	}
	fl := cmd.Flags()
	fl.StringArrayVar(&f.replicaof, "replicaof", nil, "the master to follow, as [NAME=]ADDR; may repeat")
	fl.StringVar(&f.dir, "dir", "", "where the archives are kept, a folder for each master")
	f.sentinel.register(fl)
	f.connect.register(fl)
	fl.StringVar(&f.appendfsync, "appendfsync", "everysec", "when to fsync: always, everysec or no; always makes ACK, and so WAIT, wait for the fsync")
	fl.DurationVar(&f.link.ReplTimeout, "repl-timeout", replica.DefaultReplTimeout, "give a link up after so long without a byte")
	fl.DurationVar(&f.link.ReplSyncioTimeout, "repl-syncio-timeout", replica.DefaultReplSyncioTimeout, "limit for the connect and for each step of the handshake")
	fl.DurationVar(&f.link.ReplBGSaveTimeout, "repl-bgsave-timeout", replica.DefaultReplBGSaveTimeout, "how long a master may prepare a full sync, sending only keep-alives")
	fl.Int64Var(&f.link.Limits.MaxBulk, "proto-max-bulk-len", resp.DefaultMaxBulk, "longest argument of a command in the stream, in bytes")
	fl.IntVar(&f.link.Limits.MaxArgs, "max-arguments", resp.DefaultMaxArgs, "most arguments of a command in the stream")
	fl.StringVar(&f.link.AnnounceIP, "replica-announce-ip", "", "address to tell the master")
	fl.IntVar(&f.link.AnnouncePort, "replica-announce-port", 0, "port to tell the master; 0 for none")
	f.archive.register(fl)
	fl.StringVar(&f.logLevel, "loglevel", "notice", "debug, verbose, notice or warning")
	fl.StringVar(&f.logFormat, "log-format", "text", "text or json")
	return cmd
}

// config turns flags into what they mean. Warnings are told through warn.
func (f *runFlags) config(warn func(string)) (daemon.Config, error) {
	cfg := daemon.Config{Dir: f.dir, Link: f.link}
	switch {
	case f.sentinel.given() && len(f.replicaof) > 0:
		return cfg, errors.New("--sentinel and --replicaof exclude each other: either Sentinel says where the master is, or you do")
	case !f.sentinel.given() && len(f.replicaof) == 0:
		return cfg, errors.New("--replicaof is missing: which master to follow? For example: --replicaof 127.0.0.1:6379 (or --sentinel and --master-name)")
	}
	if f.dir == "" {
		return cfg, errors.New("--dir is missing: where to keep the archive? For example: --dir data")
	}
	var err error
	if f.sentinel.given() {
		err = f.watched(&cfg, warn)
	} else {
		cfg.Masters, err = f.connect.masters(f.replicaof, warn)
	}
	if err != nil {
		return cfg, err
	}
	if err := f.connect.config(&cfg.Link); err != nil {
		return cfg, err
	}
	if cfg.Archive.AppendFsync, err = archive.ParsePolicy(f.appendfsync); err != nil {
		return cfg, fmt.Errorf("--%w", err)
	}
	if err := f.archive.config(&cfg); err != nil {
		return cfg, err
	}
	switch {
	case f.link.AnnouncePort < 0 || f.link.AnnouncePort > 65535:
		err = fmt.Errorf("--replica-announce-port %d: want 0 to 65535", f.link.AnnouncePort)
	case f.link.ReplTimeout <= 0 || f.link.ReplSyncioTimeout <= 0 || f.link.ReplBGSaveTimeout <= 0:
		err = errors.New("--repl-timeout, --repl-syncio-timeout and --repl-bgsave-timeout must be above zero")
	case f.link.Limits.MaxBulk < 1<<20:
		err = errors.New("--proto-max-bulk-len must be at least 1048576, as in redis.conf")
	case f.link.Limits.MaxArgs < 1:
		err = errors.New("--max-arguments must be at least 1")
	}
	return cfg, err
}

// watched is the configuration of a master that Sentinels name.
func (f *runFlags) watched(cfg *daemon.Config, warn func(string)) error {
	m, c, err := f.sentinel.config(f.connect.files)
	if err != nil {
		return err
	}
	f.connect.filesServe = f.sentinel.tls
	cfg.Masters = []replica.Master{m}
	cfg.Sentinel = map[string]sentinel.Config{m.Name: c}
	return f.connect.complete(cfg.Masters, warn)
}

func (f *runFlags) run(ctx context.Context, stderr io.Writer) error {
	level, err := report.ParseLevel(f.logLevel)
	if err != nil {
		return usageError{fmt.Errorf("--%w", err), runPath}
	}
	log, err := report.NewLogger(stderr, level, f.logFormat)
	if err != nil {
		return usageError{fmt.Errorf("--%w", err), runPath}
	}
	cfg, err := f.config(func(s string) { log.Warn(s) })
	if err != nil {
		return usageError{err, runPath}
	}
	r := report.New(log, progressBar(stderr, len(cfg.Masters)))
	defer r.Close()
	cfg.Log, cfg.Link.Observer = log, r
	for name, c := range cfg.Sentinel {
		c.Log = log.With("master", name)
		cfg.Sentinel[name] = c
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends at once, should the disk stand still
	d, err := daemon.Open(cfg)
	if err != nil {
		return usageError{err: err}
	}
	log.Info("replicad is running", "dir", cfg.Dir, "masters", len(cfg.Masters), "appendfsync", cfg.Archive.AppendFsync.String())
	defer onSignal(syscall.SIGUSR1, func() { d.RebaseNow("SIGUSR1") })()
	return d.Run(ctx)
}

// onSignal calls do for each signal, until the function that it returns is
// called.
func onSignal(s os.Signal, do func()) (stop func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, s)
	quit := make(chan struct{})
	go func() {
		for {
			select {
			case <-c:
				do()
			case <-quit:
				return
			}
		}
	}()
	return func() {
		signal.Stop(c)
		close(quit)
	}
}

// progressBar is where bars go: a terminal, and one master; two would write
// over each other.
func progressBar(w io.Writer, masters int) io.Writer {
	if masters != 1 {
		return nil
	}
	return terminal(w)
}

// terminal is w where it is one, and nil otherwise.
func terminal(w io.Writer) io.Writer {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return w
	}
	return nil
}
