package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"replicad/replica/archive"
	"replicad/replica/remote"
	"replicad/replica/tables"
)

// isRemote says whether --dir names a remote.
func (f *archiveFlags) isRemote() bool { return strings.HasPrefix(f.Dir, remote.Scheme) }

// copied makes, in a temporary folder below parent, what the remote holds but for
// the bytes; "" means the system's.
func (f *archiveFlags) copied(cmd *cobra.Command, parent string) ([]archive.Master, error) {
	cfg := f.Remote
	cfg.URL = strings.TrimRight(f.Dir, "/")
	if _, _, err := remote.ParseURL(cfg.URL); err != nil {
		return nil, usageError{fmt.Errorf("--dir: %w", err), cmd.CommandPath()}
	}
	r, err := remote.Open(cfg)
	if err != nil {
		return nil, usageError{err, cmd.CommandPath()}
	}
	if f.folder, err = os.MkdirTemp(parent, ".replicad-remote-"); err != nil {
		return nil, err
	}
	if f.copy, err = r.Copy(cmd.Context(), f.folder, f.name); err != nil {
		return nil, errors.Join(err, f.remove())
	}
	return archive.List(f.folder)
}

// remove removes the temporary folder, where there is one.
func (f *archiveFlags) remove() error {
	if f.folder == "" {
		return nil
	}
	return os.RemoveAll(f.folder)
}

// shown says of a copy's archives where they are.
func (f *archiveFlags) shown(masters []archive.Master) []archive.Master {
	for i := range masters {
		m := &masters[i]
		m.Dir = f.shownDir(m.Dir)
		for k := range m.Generations {
			m.Generations[k].Dir = f.shownDir(m.Generations[k].Dir)
		}
	}
	return masters
}

// shownDir says of a folder of a copy where in the remote it is.
func (f *archiveFlags) shownDir(dir string) string {
	if f.folder == "" {
		return dir
	}
	return strings.TrimRight(f.Dir, "/") + strings.TrimPrefix(dir, f.folder)
}

// fetch fetches the bytes that a target needs of an archive.
func (f *archiveFlags) fetch(ctx context.Context, name string, to archive.Target, progress func(done, total int64)) error {
	r, p, err := archive.Locate(filepath.Join(f.folder, name), to, time.Now())
	if err != nil {
		return err
	}
	r.Close()
	return f.copy.Fill(ctx, name, p.Generation, p.Offset, progress)
}

// fetchAll fetches all generations of an archive, to verify them.
func (f *archiveFlags) fetchAll(cmd *cobra.Command, m archive.Master) error {
	for _, g := range m.Generations {
		if f.generation != 0 && f.generation != g.Number {
			continue
		}
		tell, end := tables.Bar(terminal(cmd.ErrOrStderr()), m.Name+": fetch")
		err := f.copy.Fill(cmd.Context(), m.Name, g.Number, g.EndOffset, tell)
		end()
		if err != nil {
			return fmt.Errorf("generation %d: %w", g.Number, err)
		}
	}
	return nil
}
