package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"replicad/replica/archive"
	"replicad/replica/archive/redisserver"
)

// Check has a redis-server on the PATH load what Run made. The server gets a
// folder of its own below res.Out, with links to the result's files, and with a
// copy of the one that it might append to: the result stays as it is. The error
// wraps redisserver.ErrLoad where the server refused the result, and holds what
// it said.
func Check(ctx context.Context, res Result, noLink bool) (report redisserver.Report, err error) {
	b, err := redisserver.Find()
	if err != nil {
		return report, err
	}
	s := &stage{out: res.Out}
	if err := s.open(false); err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, s.close(false)) }()
	w := &writer{ctx: ctx, link: !noLink}
	if err := w.view(res.Out, s.dir, res.Format); err != nil {
		return report, fmt.Errorf("preparing the check: %w", err)
	}
	return b.Check(ctx, s.dir, res.Format.kind())
}

// view makes in dir, for redis-server to load and write to, what out holds.
func (w *writer) view(out, dir string, format Format) error {
	if format != Multipart {
		// redis-server appends to neither: from 7.0 on it makes an
		// appendonly.aof the base of a multi-part one.
		return w.same(filepath.Join(out, format.entry()), filepath.Join(dir, format.entry()), w.link)
	}
	from, to := filepath.Join(out, archive.AOFDir), filepath.Join(dir, archive.AOFDir)
	if err := os.Mkdir(to, 0o750); err != nil {
		return err
	}
	manifest, err := os.ReadFile(filepath.Join(from, archive.ManifestName))
	if err != nil {
		return err
	}
	lines := bytes.Split(bytes.TrimSpace(manifest), []byte("\n"))
	for i, line := range lines {
		name := string(bytes.Fields(line)[1]) // "file NAME seq N type T", as multipart wrote it
		if err := w.same(filepath.Join(from, name), filepath.Join(to, name), w.link && i+1 < len(lines)); err != nil {
			return err
		}
	}
	return writeFile(filepath.Join(to, archive.ManifestName), manifest)
}

// same brings a whole file.
func (w *writer) same(src, dst string, link bool) error {
	st, err := os.Stat(src)
	if err != nil {
		return err
	}
	_, err = w.bring(src, dst, st.Size(), link)
	return err
}

// drillPrefix begins the names of the folders in which a drill restores.
const drillPrefix = ".replicad-check-"

// Drill restores to a folder beside the archive, on the same file system,
// checks the result there, and removes it; opt.Out is not used. It also removes
// the folders that killed drills left.
func Drill(ctx context.Context, opt Options) (res Result, report redisserver.Report, err error) {
	b, err := redisserver.Find()
	if err != nil {
		return res, report, err
	}
	parent, err := absParent(opt.Dir)
	if err != nil {
		return res, report, err
	}
	if err := sweep(parent); err != nil {
		return res, report, err
	}
	dir, err := os.MkdirTemp(parent, drillPrefix)
	if err != nil {
		return res, report, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	lock, err := lockDir(dir)
	if err != nil {
		return res, report, err
	}
	defer lock.Close()
	opt.Out = filepath.Join(dir, "restored")
	if res, err = Run(ctx, opt); err != nil {
		return res, report, err
	}
	report, err = b.Check(ctx, opt.Out, opt.Format.kind())
	res.Out = ""
	return res, report, err
}

// sweep removes the folders that killed drills left.
func sweep(parent string) error {
	left, err := filepath.Glob(filepath.Join(parent, drillPrefix+"*"))
	if err != nil {
		return err
	}
	for _, dir := range left {
		if err := archive.RemoveLeft(dir); err != nil {
			return err
		}
	}
	return nil
}
