package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"replicad/replica/archive"
	"replicad/replica/archive/redisserver"
)

// Check has a redis-server load what Run made. The server gets a
// folder of its own below res.Out, with links to the result's files, and with a
// copy of the one that it might append to: the result stays as it is. The error
// wraps redisserver.ErrLoad where the server refused the result, and holds what
// it said.
func Check(ctx context.Context, res Result, server redisserver.Choice) (report redisserver.Report, err error) {
	err = checked(res.Out, server, func(b redisserver.Binary, dir string) error {
		w := &writer{ctx: ctx}
		if err := w.view(res, dir); err != nil {
			return fmt.Errorf("preparing the check: %w", err)
		}
		report, err = b.Check(ctx, dir, append(res.Format.directives(), "--databases", strconv.Itoa(res.Databases))...)
		return err
	})
	return report, err
}

// view makes in dir, for redis-server to load and write to, what res.Out holds.
func (w *writer) view(res Result, dir string) error {
	if res.Format != Multipart {
		// redis-server appends to neither: from 7.0 on it makes an
		// appendonly.aof the base of a multi-part one.
		return w.same(filepath.Join(res.Out, res.Format.entry()), filepath.Join(dir, res.Format.entry()), all)
	}
	from, to := filepath.Join(res.Out, archive.AOFDir), filepath.Join(dir, archive.AOFDir)
	if err := os.Mkdir(to, 0o750); err != nil {
		return err
	}
	manifest := archive.Manifest(res.Segments)
	lines := bytes.Split(bytes.TrimSpace(manifest), []byte("\n"))
	for i, line := range lines {
		name := string(bytes.Fields(line)[1]) // "file NAME seq N type T"
		link := all
		if i+1 == len(lines) {
			link = none
		}
		if err := w.same(filepath.Join(from, name), filepath.Join(to, name), link); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(to, archive.ManifestName), manifest, 0o640)
}

// same brings a whole file.
func (w *writer) same(src, dst string, link linking) error {
	st, err := os.Stat(src)
	if err != nil {
		return err
	}
	_, err = w.bring(src, dst, st.Size(), link)
	return err
}

// drillPrefix begins the names of the folders in which a redis-server checks.
const drillPrefix = ".replicad-check-"

// Drill restores to a folder beside the archive, on the same file system,
// checks the result there, and removes it; opt.Out is not used. It also removes
// the folders that killed drills left.
func Drill(ctx context.Context, opt Options) (res Result, report redisserver.Report, err error) {
	parent, err := absParent(opt.Dir)
	if err != nil {
		return res, report, err
	}
	err = checked(parent, opt.Server, func(b redisserver.Binary, dir string) error {
		opt.Out, opt.passing, opt.Prove, opt.Owner = filepath.Join(dir, "restored"), true, true, Owner{}
		if res, err = Run(ctx, opt); err != nil {
			return err
		}
		if opt.Loading != nil {
			opt.Loading()
		}
		report, err = b.Check(ctx, opt.Out, append(opt.Format.directives(), "--databases", strconv.Itoa(res.Databases))...)
		res.Out = ""
		return err
	})
	return res, report, err
}

// checked calls do with a redis-server and a temporary folder below parent. It
// removes the folders that killed processes left there.
func checked(parent string, server redisserver.Choice, do func(b redisserver.Binary, dir string) error) (err error) {
	b, err := server.Find()
	if err != nil {
		return err
	}
	if err := archive.RemoveLeft(parent, drillPrefix+"*"); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(parent, drillPrefix)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	lock, err := lockDir(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	return do(b, dir)
}
