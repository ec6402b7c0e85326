// Package restore makes, of an archive, the files that redis-server starts on,
// with the master's dataset as it was at one moment. It only reads the archive,
// and works beside a daemon that writes.
//
// Everything is made in a folder of its own, the stage, below the one asked
// for. It is fsynced there, and published by one rename. A restore that is
// killed leaves the stage and nothing else, and the next restore to the same
// place removes it.
package restore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"replicad/replica/archive"
	"replicad/replica/archive/redisserver"
)

// Format is what the result is.
type Format string

// The formats.
const (
	Multipart Format = "multipart" // an appendonlydir: Redis 7.0 and later, Valkey
	AOF       Format = "aof"       // an appendonly.aof with RDB preamble: also Redis 4.0 to 6.2 that reads the master's RDB version
	RDB       Format = "rdb"       // a dump.rdb, written by a redis-server on the PATH
)

// ParseFormat reads a format's name.
func ParseFormat(s string) (Format, error) {
	if f := Format(s); f == Multipart || f == AOF || f == RDB {
		return f, nil
	}
	return "", fmt.Errorf("%q is no format: want %s, %s or %s", s, Multipart, AOF, RDB)
}

// entry is the name of the file or folder that a restore makes: redis.conf's
// default of appenddirname, appendfilename or dbfilename.
func (f Format) entry() string {
	switch f {
	case AOF:
		return "appendonly.aof"
	case RDB:
		return "dump.rdb"
	}
	return archive.AOFDir
}

// directives has redis-server load the format.
func (f Format) directives() []string {
	if f == RDB {
		return []string{"--appendonly", "no"}
	}
	return []string{"--appendonly", "yes"}
}

// Options say what to restore, and where.
type Options struct {
	Dir    string // the archive of one master
	Target archive.Target
	Out    string // a folder that does not exist, but its parent does, or that is empty
	Format Format // "" means Multipart
	// NoLink: no hard links to the archive's files. A link has the archive's
	// owner and mode, and a change of either is one of the archive's. So only
	// files of the caller's own are linked, and none with an Owner.
	NoLink bool
	Server redisserver.Choice // that loads the result, for the format rdb and for a check
	Owner  Owner              // who is given the result, and Out
	// Prove has the segments read, whatever the timeline says of them, so that
	// damage is named where it lies. A drill does so, and the format rdb.
	Prove bool
	// Loading is called when a drill has restored, before redis-server loads the
	// result; nil for nobody.
	Loading func()
	// Progress is told how many bytes of the result are there, of how many.
	// Linked bytes count. It must not wait. May be nil.
	Progress func(done, total int64)

	passing bool // the result goes again, and nobody changes its owner
}

// Result is what was restored.
type Result struct {
	Meaning
	Generation int `json:"generation"`
	// Short says why the generation ends before its timeline does; "" where it
	// does not.
	Short  string `json:"short,omitempty"`
	Offset int64  `json:"offset"` // where the result ends: the last boundary that is not behind the point
	// Point is what was asked for.
	Point    archive.Point `json:"point"`
	Out      string        `json:"out"`
	Format   Format        `json:"format"`
	Bytes    int64         `json:"bytes"`
	Segments int           `json:"segments"`
	Base     Way           `json:"base"` // how the base's bytes came to the result
	Seconds  float64       `json:"seconds"`
	// Start is the command that starts a server on the result, word by word.
	Start []string `json:"start,omitempty"`
}

// Errors of this package, for errors.Is.
var (
	ErrNotEmpty = errors.New("it is not empty")
	ErrBusy     = errors.New("another restore works there")
)

// Run restores. The error wraps archive.ErrUnavailable where the archive has
// nothing for the target, archive.ErrDamaged where a file is damaged (a
// [*DamagedError]), ErrNotEmpty or ErrBusy where Out can't be used, or one of
// redisserver's errors. After an error, also ctx's, Out is as it was.
func Run(ctx context.Context, opt Options) (res Result, err error) {
	if opt.Format == "" {
		opt.Format = Multipart
	}
	began := time.Now()
	s, err := openStage(opt.Out)
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, s.close(err != nil)) }()
	if err := opt.Owner.try(s); err != nil {
		return Result{}, err
	}
	if res, err = opt.build(ctx, s); err != nil {
		return Result{}, err
	}
	if err := ctx.Err(); err != nil {
		return Result{}, err
	}
	if !opt.passing {
		if res.Start, err = opt.Server.Start(opt.Out, append(opt.Format.directives(), "--port", "7000"), res.Databases); err != nil {
			return Result{}, err
		}
	}
	if err := s.publish(opt.Format.entry(), opt.Owner); err != nil {
		return Result{}, err
	}
	res.Out, res.Format, res.Seconds = opt.Out, opt.Format, time.Since(began).Seconds()
	return res, nil
}

// build makes the result in the stage. A daemon that starts meanwhile may cut
// the end of what was located; then the target is located anew, once.
func (opt Options) build(ctx context.Context, s *stage) (Result, error) {
	for first := true; ; first = false {
		if err := s.clear(); err != nil {
			return Result{}, err
		}
		res, err := opt.attempt(ctx, s)
		if !first || !short(err) {
			return res, err
		}
	}
}

// attempt locates the target and makes the result.
func (opt Options) attempt(ctx context.Context, s *stage) (_ Result, err error) {
	r, p, err := archive.Locate(opt.Dir, opt.Target, time.Now())
	if err != nil {
		return Result{}, err
	}
	defer r.Close()
	defer func() { err = in(r, err) }()
	c, err := findCut(ctx, r, p.Offset)
	if err != nil {
		return Result{}, err
	}
	m, err := readMeaning(ctx, r, c, p.Time, time.Now(), opt.Prove || opt.Format == RDB)
	if err != nil {
		return Result{}, err
	}
	w := &writer{ctx: ctx, reader: r, meaning: m, cut: c, link: opt.link(), progress: opt.Progress, total: r.BaseSize}
	for _, s := range c {
		w.total += s.Size()
	}
	res := Result{Meaning: *m, Generation: r.Number, Short: r.Short, Offset: c[len(c)-1].To, Point: p, Segments: len(c)}
	switch opt.Format {
	case AOF:
		err = w.singleFile(s.path(opt.Format.entry()))
	case RDB:
		err = opt.dump(w, s)
	default:
		err = w.multipart(s.dir)
	}
	if err != nil {
		return Result{}, err
	}
	res.Base, res.Bytes = w.base, w.total
	return res, nil
}

// link says which of the archive's files may be linked.
func (opt Options) link() linking {
	switch {
	case opt.NoLink || opt.Owner.given:
		return none
	case opt.passing:
		return all
	}
	return own
}

// dump has a redis-server load a restored folder and save it. The result is as
// large as what was saved.
func (opt Options) dump(w *writer, s *stage) error {
	b, err := opt.Server.Find()
	if err != nil {
		return err
	}
	dir := s.path("load")
	if err := os.Mkdir(dir, 0o750); err != nil {
		return err
	}
	if !opt.NoLink {
		w.link = all // what is linked goes again
	}
	if err := w.multipart(dir); err != nil {
		return err
	}
	saved, err := b.Save(w.ctx, dir)
	if err != nil {
		return err
	}
	if err := os.Chmod(saved, 0o640); err != nil {
		return err
	}
	if err := archive.SyncPath(saved); err != nil {
		return err
	}
	st, err := os.Stat(saved)
	if err != nil {
		return err
	}
	w.total = st.Size()
	return os.Rename(saved, s.path(opt.Format.entry()))
}

// absParent is the folder that path is in.
func absParent(path string) (string, error) {
	abs, err := filepath.Abs(path)
	return filepath.Dir(abs), err
}
