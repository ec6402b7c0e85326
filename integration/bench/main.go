package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"replicad/replica/units"
)

type options struct {
	bulk, stream int64 // bytes
	runs         int
	handshakes   int
	keys         int
	dir          string
	replicad     string
	against      string
	masters      int
	idle         time.Duration
	patience     time.Duration
	only         string
}

func main() {
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

func run(args []string, stdout, stderr io.Writer) error {
	o := options{bulk: 2 << 30, stream: 1e9}
	fl := flag.NewFlagSet("bench", flag.ContinueOnError)
	fl.SetOutput(stderr)
	size := func(n *int64, name, usage string) {
		fl.Func(name, fmt.Sprintf("%s (default %s)", usage, units.FormatSize(*n)), func(s string) (err error) {
			*n, err = units.ParseSize(s)
			return err
		})
	}
	size(&o.bulk, "bulk", "size of the full sync")
	size(&o.stream, "stream", "size of the stream")
	fl.IntVar(&o.runs, "runs", 3, "how often each side takes full sync and stream; the table shows medians")
	fl.IntVar(&o.handshakes, "handshakes", 50, "how often each side connects")
	fl.IntVar(&o.keys, "keys", 1e6, "how many keys the stream sets, in random order")
	fl.StringVar(&o.dir, "dir", os.TempDir(), "where the archives are written: it decides which disk is measured")
	fl.StringVar(&o.replicad, "replicad", "", "the daemon to measure (default: built from this module)")
	fl.StringVar(&o.against, "against", "", "another replicad, as the peer in place of Redis")
	fl.StringVar(&o.only, "only", "bulk,stream,handshake", "what to measure; fleet, too")
	fl.IntVar(&o.masters, "masters", 1000, "how many masters a fleet has")
	fl.DurationVar(&o.idle, "idle", 20*time.Second, "for how long an idle fleet is watched")
	fl.DurationVar(&o.patience, "patience", patience, "how long a fleet may take until all stream")
	fl.Usage = func() {
		fmt.Fprint(stderr, `Measure replicad beside redis-cli --rdb and a redis-server replica, from PATH.

For example, what one gibibyte takes on the disk below /var/tmp, five times:

  go run ./integration/bench --only bulk --bulk 1gb --runs 5 --dir /var/tmp

One daemon that follows five thousand masters, which the program plays itself:

  go run ./integration/bench --only fleet --masters 5000 --dir /var/tmp

Flags:
`)
		fl.PrintDefaults()
	}
	if err := fl.Parse(args); err != nil {
		return err
	}
	if fl.NArg() > 0 || min(o.bulk, o.stream) < 1 || min(o.runs, o.handshakes, o.keys, o.masters) < 1 || o.masters > 1<<20 || min(o.idle, o.patience) < 1 || o.keys > 1e7 {
		return errors.New("wrong flags: see --help")
	}
	return o.run(stdout, func(format string, args ...any) { fmt.Fprintf(stderr, format+"\n", args...) })
}

func (o options) run(stdout io.Writer, say func(string, ...any)) (err error) {
	work, err := os.MkdirTemp(o.dir, "replicad-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	if o.replicad == "" {
		o.replicad = filepath.Join(work, "replicad")
		say("building replicad")
		if out, err := exec.Command("go", "build", "-o", o.replicad, "replicad/cmd/replicad").CombinedOutput(); err != nil {
			return fmt.Errorf("go build: %w: %s", err, out)
		}
	}
	b := &bench{options: o, work: work, say: say, chunk: streamChunk(o.keys), tiny: newPayload(0)}
	parts := map[string]func() error{"bulk": b.bulks, "stream": b.streams, "handshake": b.handshake, "fleet": b.fleets}
	for name := range strings.SplitSeq(o.only, ",") {
		part, known := parts[name]
		if !known {
			return fmt.Errorf("--only %s: want bulk, stream, handshake and fleet, or some of them", name)
		}
		if err := part(); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return b.table.print(stdout)
}
