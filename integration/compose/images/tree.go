package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// tree is the root of an image, as a folder.
type tree struct{ dir string }

// path is where a file of the image lies here. Its folder is made.
func (t tree) path(name string) string {
	path := filepath.Join(t.dir, name)
	_ = os.MkdirAll(filepath.Dir(path), 0o755) // the next write says why it can't
	return path
}

// program copies a program of the PATH to /usr/bin, and the libraries that it is
// linked with.
func (t tree) program(ctx context.Context, name string) error {
	path, err := exec.LookPath(name)
	if err != nil {
		return err
	}
	if err := t.copy(path, "/usr/bin/"+name); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "ldd", path).CombinedOutput()
	if strings.Contains(string(out), "not a dynamic executable") {
		return nil
	}
	if err != nil {
		return fmt.Errorf("ldd %s: %w: %s", path, err, out)
	}
	libs, err := libraries(string(out))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for from, to := range libs {
		if err := t.copy(from, to); err != nil {
			return err
		}
	}
	return nil
}

// libraries reads what ldd prints, and says which file goes where. Libraries
// that are found by their name go to /usr/lib, where the dynamic linker of every
// distribution looks; the linker itself has a fixed path.
func libraries(ldd string) (map[string]string, error) {
	libs := map[string]string{}
	for line := range strings.Lines(ldd) {
		line = strings.TrimSpace(line)
		name, found, named := strings.Cut(line, " => ")
		if !named {
			found = name
		}
		path, _, _ := strings.Cut(found, " (")
		switch {
		case found == "not found":
			return nil, fmt.Errorf("the library %s is not installed", name)
		case !filepath.IsAbs(path): // linux-vdso.so.1 is the kernel's
		case named:
			libs[path] = "/usr/lib/" + filepath.Base(name)
		default:
			libs[path] = path
		}
	}
	return libs, nil
}

// copy copies a file of this machine, or what a link points to.
func (t tree) copy(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(t.path(to), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
