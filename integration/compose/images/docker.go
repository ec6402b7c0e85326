package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ours is the label of images that this program made: those it may replace.
const ours = "replicad.made-from-this-machine"

// docker runs the docker command.
type docker struct{}

// mayTag says whether a name is free, or that of an image of ours.
func (docker) mayTag(ctx context.Context, image string) error {
	format := `{{index .Config.Labels "` + ours + `"}}`
	out, err := exec.CommandContext(ctx, "docker", "image", "inspect", "--format", format, image).CombinedOutput()
	text := strings.TrimSpace(string(out))
	switch {
	case err != nil && strings.Contains(text, "No such image"):
		return nil
	case err != nil:
		return fmt.Errorf("docker image inspect: %w: %s", err, text)
	case text != "yes":
		return fmt.Errorf("there is an image %s that was not made here: it is left alone; use --prefix", image)
	}
	return nil
}

// load makes an image of a folder. What the folder says of owners counts only
// for data, which is the server's.
func (d docker) load(ctx context.Context, image, dir string, changes []string) error {
	if err := d.mayTag(ctx, image); err != nil {
		return err
	}
	args := []string{"import", "--change", "LABEL " + ours + "=yes"}
	for _, c := range changes {
		args = append(args, "--change", c)
	}
	cmd := exec.CommandContext(ctx, "docker", append(args, "-", image)...)
	r, w := io.Pipe()
	cmd.Stdin = r
	packed := make(chan error, 1)
	go func() {
		err := pack(dir, w)
		w.CloseWithError(err)
		packed <- err
	}()
	err := quietly(cmd)
	r.CloseWithError(io.ErrClosedPipe) // docker may have ended before
	return errors.Join(err, <-packed)
}

// build runs docker build up to the stage that needs no registry.
func (d docker) build(ctx context.Context, image, dir, file string, more ...string) error {
	if err := d.mayTag(ctx, image); err != nil {
		return err
	}
	args := append([]string{"build", "--quiet", "--label", ours + "=yes", "--target", "prebuilt", "--file", file, "--tag", image}, more...)
	return quietly(exec.CommandContext(ctx, "docker", append(args, dir)...))
}

// pack writes a folder as tar. All is root's, but for /data.
func pack(dir string, w io.Writer) error {
	out := tar.NewWriter(w)
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		link := ""
		if info.Mode()&fs.ModeSymlink != 0 {
			if link, err = os.Readlink(path); err != nil {
				return err
			}
		}
		h, err := tar.FileInfoHeader(info, link)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		h.Name = filepath.ToSlash(name)
		h.Uid, h.Gid, h.Uname, h.Gname = 0, 0, "", ""
		if h.Name == "data" {
			h.Uid, h.Gid = serverID, serverID
		}
		if err := out.WriteHeader(h); err != nil || !info.Mode().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(out, f)
		return err
	})
	return errors.Join(err, out.Close())
}
