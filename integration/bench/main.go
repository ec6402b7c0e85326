package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

type options struct {
	bulk, stream bytesFlag
	runs         int
	handshakes   int
	keys         int
	dir          string
	replicad     string
	against      string
	only         string
	eof          bool
}

// bytesFlag is a number of bytes: 1000, 1GB, 2GiB.
type bytesFlag int64

func (b *bytesFlag) String() string { return size(int64(*b)) }

func (b *bytesFlag) Set(s string) error {
	digits := strings.TrimRight(s, "KMGiB")
	unit, ok := map[string]int64{
		"": 1, "B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30,
	}[s[len(digits):]]
	n, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil || n <= 0 || n > 1<<50/unit {
		return fmt.Errorf("%q: want a number of bytes, as 500MB or 2GiB", s)
	}
	*b = bytesFlag(n * unit)
	return nil
}

func size(n int64) string {
	for _, u := range []struct {
		name string
		n    int64
	}{{"GiB", 1 << 30}, {"GB", 1e9}, {"MiB", 1 << 20}, {"MB", 1e6}, {"KiB", 1 << 10}} {
		if n >= u.n && n%u.n == 0 {
			return fmt.Sprintf("%d%s", n/u.n, u.name)
		}
	}
	return fmt.Sprintf("%dB", n)
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
	fl.Var(&o.bulk, "bulk", "size of the full sync")
	fl.Var(&o.stream, "stream", "size of the stream")
	fl.IntVar(&o.runs, "runs", 3, "how often each side takes full sync and stream; the table shows medians")
	fl.IntVar(&o.handshakes, "handshakes", 50, "how often each side connects")
	fl.IntVar(&o.keys, "keys", 1e6, "how many keys the stream sets, in random order")
	fl.StringVar(&o.dir, "dir", os.TempDir(), "where the archives are written: it decides which disk is measured")
	fl.StringVar(&o.replicad, "replicad", "", "the daemon to measure (default: built from this module)")
	fl.StringVar(&o.against, "against", "", "another replicad, as the peer in place of Redis")
	fl.StringVar(&o.only, "only", "bulk,checksum,stream,handshake", "what to measure")
	fl.BoolVar(&o.eof, "eof", false, "frame the full sync as $EOF, as a diskless master does, in place of $<len>")
	fl.Usage = func() {
		fmt.Fprint(stderr, `Measure replicad beside redis-cli --rdb and a redis-server replica, from PATH.

For example, what one gibibyte takes on the disk below /var/tmp, five times:

  go run ./integration/bench --only bulk --bulk 1GiB --runs 5 --dir /var/tmp

Flags:
`)
		fl.PrintDefaults()
	}
	if err := fl.Parse(args); err != nil {
		return err
	}
	if fl.NArg() > 0 || o.runs < 1 || o.handshakes < 1 || o.keys < 1 || o.keys > 1e7 {
		return errors.New("wrong flags: see --help")
	}
	return o.run(stdout, func(format string, args ...any) { fmt.Fprintf(stderr, format+"\n", args...) })
}

func (o *options) run(stdout io.Writer, say func(string, ...any)) (err error) {
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
	b := &bench{dir: work, eof: o.eof, chunk: streamChunk(o.keys), stream: int64(o.stream), tiny: newPayload(0, false)}
	if o.against == "" {
		b.redis, b.cli = inPath("redis-server", say), inPath("redis-cli", say)
	}
	t := &table{}
	for _, part := range strings.Split(o.only, ",") {
		switch part {
		case "bulk":
			err = o.bulks(b, t, say)
		case "checksum":
			err = o.checksums(b, t, say)
		case "stream":
			err = o.streams(b, t, say)
		case "handshake":
			err = o.handshake(b, t, say)
		default:
			err = fmt.Errorf("--only %s: want bulk, checksum, stream and handshake, or some of them", part)
		}
		if err != nil {
			return err
		}
	}
	return t.print(stdout)
}

// inPath finds a program, or says that it is missing and returns "".
func inPath(name string, say func(string, ...any)) string {
	path, err := exec.LookPath(name)
	if err != nil {
		say("%s is not in PATH: replicad is measured alone where it would be the peer", name)
		return ""
	}
	return path
}

func (o *options) bulks(b *bench, t *table, say func(string, ...any)) error {
	p := newPayload(int64(o.bulk), false)
	var ours, theirs []bulkResult
	var disk []time.Duration
	peer := b.bulkCLI
	if o.against != "" {
		peer = func(p *payload) (bulkResult, error) { return b.bulkReplicad(o.against, p, false) }
	}
	for i := range o.runs {
		r, err := b.bulkReplicad(o.replicad, p, false)
		if err != nil {
			return fmt.Errorf("bulk: %w", err)
		}
		ours = append(ours, r)
		say("bulk %d/%d: replicad %v, %v of CPU", i+1, o.runs, round(r.took), r.usage.cpu)
		if b.cli != "" || o.against != "" {
			if r, err = peer(p); err != nil {
				return fmt.Errorf("bulk: %w", err)
			}
			theirs = append(theirs, r)
			say("bulk %d/%d: %s %v, %v of CPU", i+1, o.runs, o.peer("redis-cli"), round(r.took), round(r.usage.cpu))
		}
		d, err := b.diskAlone(p)
		if err != nil {
			return fmt.Errorf("bulk: %w", err)
		}
		disk = append(disk, d)
		say("bulk %d/%d: the disk alone %v", i+1, o.runs, round(d))
	}
	name := fmt.Sprintf("bulk %s, beside %s: ", size(int64(o.bulk)), o.peer("redis-cli --rdb"))
	took := func(r bulkResult) float64 { return r.took.Seconds() }
	cpu := func(r bulkResult) float64 { return r.usage.cpu.Seconds() }
	rate := func(r bulkResult) float64 { return float64(p.size) / 1e6 / r.took.Seconds() }
	t.add(row{what: name + "until fsynced", unit: "s", ours: each(ours, took), peer: each(theirs, took)})
	t.add(row{what: name + "throughput", unit: "MB/s", ours: each(ours, rate), peer: each(theirs, rate), target: o.target(atLeast(2.5))})
	t.add(row{what: name + "CPU", unit: "s", ours: each(ours, cpu), peer: each(theirs, cpu), target: o.target(atMost(0.4))})
	memory := row{what: name + "peak memory", unit: "MiB", ours: each(ours, bulkPeak), bound: 64}
	if o.against != "" {
		memory.peer = each(theirs, bulkPeak)
	}
	t.add(memory)
	t.add(row{what: "the disk alone, until fsynced", unit: "s", ours: nil, peer: each(disk, time.Duration.Seconds)})
	return nil
}

func bulkPeak(r bulkResult) float64 { return float64(r.usage.peak) / (1 << 20) }

func (o *options) checksums(b *bench, t *table, say func(string, ...any)) error {
	p := newPayload(int64(o.bulk), true)
	var ours, theirs []bulkResult
	for i := range o.runs {
		r, err := b.bulkReplicad(o.replicad, p, true)
		if err != nil {
			return fmt.Errorf("checksum: %w", err)
		}
		ours = append(ours, r)
		say("checksum %d/%d: replicad %v, verified after %v, %v of CPU", i+1, o.runs, round(r.took), round(r.verified), r.verify.cpu)
		if o.against != "" {
			if r, err = b.bulkReplicad(o.against, p, true); err != nil {
				return fmt.Errorf("checksum: %w", err)
			}
			theirs = append(theirs, r)
			say("checksum %d/%d: the other %v, verified after %v, %v of CPU", i+1, o.runs, round(r.took), round(r.verified), r.verify.cpu)
		}
	}
	name := fmt.Sprintf("bulk %s with a checksum: ", size(int64(o.bulk)))
	for _, x := range []struct {
		what, unit string
		of         func(bulkResult) float64
	}{
		{"until fsynced", "s", func(r bulkResult) float64 { return r.took.Seconds() }},
		{"until verified", "s", func(r bulkResult) float64 { return r.verified.Seconds() }},
		{"CPU until verified", "s", func(r bulkResult) float64 { return r.verify.cpu.Seconds() }},
	} {
		t.add(row{what: name + x.what, unit: x.unit, ours: each(ours, x.of), peer: each(theirs, x.of)})
	}
	t.add(row{what: name + "peak memory", unit: "MiB", ours: each(ours, func(r bulkResult) float64 { return float64(r.verify.peak) / (1 << 20) }), bound: 64})
	return nil
}

func (o *options) streams(b *bench, t *table, say func(string, ...any)) error {
	daemon := func(binary string) func(string, *master) (*process, error) {
		return func(dir string, m *master) (*process, error) { return startReplicad(binary, dir, m.addr()) }
	}
	peer := func(dir string, m *master) (*process, error) { return startRedis(b.redis, dir, m.port()) }
	if o.against != "" {
		peer = daemon(o.against)
	}
	var ours, theirs []streamResult
	for i := range o.runs {
		r, err := b.streamTo(daemon(o.replicad), true)
		if err != nil {
			return fmt.Errorf("stream: %w", err)
		}
		ours = append(ours, r)
		say("stream %d/%d: replicad %v, fsynced after %v, %v of CPU", i+1, o.runs, round(r.took), round(r.durable), r.usage.cpu)
		if b.redis != "" || o.against != "" {
			if r, err = b.streamTo(peer, o.against != ""); err != nil {
				return fmt.Errorf("stream: %w", err)
			}
			theirs = append(theirs, r)
			say("stream %d/%d: %s %v, %v of CPU", i+1, o.runs, o.peer("redis-server"), round(r.took), r.usage.cpu)
		}
	}
	name := fmt.Sprintf("stream %s, %d keys, beside %s: ", size(int64(o.stream)), o.keys, o.peer("redis-server"))
	rate := func(r streamResult) float64 { return float64(o.stream) / 1e6 / r.took.Seconds() }
	cpu := func(r streamResult) float64 { return r.usage.cpu.Seconds() * 1e9 / float64(o.stream) }
	peak := func(r streamResult) float64 { return float64(r.usage.peak) / (1 << 20) }
	durable := func(r streamResult) float64 { return r.durable.Seconds() }
	t.add(row{what: name + "throughput", unit: "MB/s", ours: each(ours, rate), peer: each(theirs, rate), target: o.target(atLeast(8))})
	t.add(row{what: name + "CPU per GB", unit: "s", ours: each(ours, cpu), peer: each(theirs, cpu)})
	fsynced := row{what: name + "until fsynced", unit: "s", ours: each(ours, durable)}
	if o.against != "" {
		fsynced.peer = each(theirs, durable)
	}
	t.add(fsynced)
	t.add(row{what: name + "peak memory", unit: "MiB", ours: each(ours, peak), peer: each(theirs, peak), bound: 64})
	return nil
}

func (o *options) handshake(b *bench, t *table, say func(string, ...any)) error {
	// The master and the replica have a core each: which of the two waits for
	// the other's core is the scheduler's whim, and longer than a handshake.
	c := useCores()
	defer c.release()
	return b.inFolder(func(dir string) error {
		var sides []*handshaker
		defer func() {
			for _, h := range sides {
				h.close()
			}
		}()
		side := func(name string, run func(dir string, m *master) (*process, error)) error {
			dir := filepath.Join(dir, name)
			if err := os.Mkdir(dir, 0o755); err != nil {
				return err
			}
			h, err := newHandshaker(func(m *master) (*process, error) {
				c.pin(1)
				defer c.pin(0)
				return run(dir, m)
			}, b.tiny)
			if err != nil {
				return fmt.Errorf("handshake: %w", err)
			}
			sides = append(sides, h)
			return nil
		}
		err := side("ours", func(dir string, m *master) (*process, error) { return startReplicad(o.replicad, dir, m.addr()) })
		switch {
		case err != nil:
		case o.against != "":
			err = side("peer", func(dir string, m *master) (*process, error) { return startReplicad(o.against, dir, m.addr()) })
		case b.redis != "":
			err = side("peer", func(dir string, m *master) (*process, error) { return startRedis(b.redis, dir, m.port()) })
		}
		if err != nil {
			return err
		}
		took := make([][]float64, 2)
		for i := range o.handshakes {
			// Each round of settle adds these bytes to the stream.
			offset := int64(i+1) * int64(len(ping)+len(getAck))
			time.Sleep(pace)
			for k, h := range sides {
				d, err := h.again(offset)
				if err != nil {
					return fmt.Errorf("handshake: %w", err)
				}
				took[k] = append(took[k], float64(d.Nanoseconds())/1e3)
			}
		}
		say("handshake: %d for each side", o.handshakes)
		t.add(row{what: "handshake, beside " + o.peer("redis-server") + ": accept to PSYNC reply", unit: "us", ours: took[0], peer: took[1], target: o.target(atMost(0.5))})
		return nil
	})
}

// peer names the peer.
func (o *options) peer(redis string) string {
	if o.against != "" {
		return "the other"
	}
	return redis
}

// target holds beside Redis only.
func (o *options) target(t target) target {
	if o.against != "" {
		return target{}
	}
	return t
}

func round(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
