package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// serverID is the user and group of redis (or valkey) in the images of the
// registry, and in ours.
const serverID = 999

// kind is a server that a master can be made of.
type kind struct {
	server string // the program
	cli    string
	image  string // as the registry names it
}

func kindOf(server string) (kind, error) {
	for _, k := range []kind{
		{"redis-server", "redis-cli", "redis"},
		{"valkey-server", "valkey-cli", "valkey/valkey"},
	} {
		if k.server == server {
			return k, nil
		}
	}
	return kind{}, fmt.Errorf("--server %q: want redis-server or valkey-server", server)
}

// major finds 7.0 in "Redis server v=7.0.15 sha=00000000:0 ...".
var major = regexp.MustCompile(`\bv=(\d+\.\d+)`)

// version is the tag by which the registry knows the server.
func (k kind) version(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, k.server, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", k.server, err)
	}
	m := major.FindSubmatch(out)
	if m == nil {
		return "", fmt.Errorf("%s --version says %q: no version found there", k.server, out)
	}
	return string(m[1]), nil
}

// fill puts the server into a tree: the names by which the images of the
// registry have it, a shell, and what resolving names needs.
func (k kind) fill(ctx context.Context, t tree) error {
	for _, p := range []struct{ program, as string }{
		{k.server, k.server}, {k.cli, k.cli}, {"sh", "sh"},
	} {
		if err := t.program(ctx, p.program, "/usr/bin/"+p.as); err != nil {
			return err
		}
	}
	links := map[string]string{"/bin": "usr/bin"}
	// One binary: its name says what it is to be.
	for name, to := range map[string]string{
		"redis-server": k.server, "redis-sentinel": k.server, "redis-check-aof": k.server, "redis-check-rdb": k.server, "redis-cli": k.cli,
	} {
		if name != to {
			links["/usr/bin/"+name] = to
		}
	}
	for name, to := range links {
		if err := os.Symlink(to, t.path(name)); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{
		"/etc/passwd":        fmt.Sprintf("root:x:0:0::/:/bin/sh\nredis:x:%d:%d::/data:/bin/sh\nreplicad:x:65532:65532::/:/bin/sh\n", serverID, serverID),
		"/etc/group":         fmt.Sprintf("root:x:0:\nredis:x:%d:\nreplicad:x:65532:\n", serverID),
		"/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
	} {
		if err := os.WriteFile(t.path(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(t.path("/data"), 0o755); err != nil {
		return err
	}
	if err := os.MkdirAll(t.path("/tmp"), 0o755); err != nil {
		return err
	}
	return os.Chmod(t.path("/tmp"), 0o777|fs.ModeSticky)
}

// tree is the root of an image, as a folder.
type tree struct{ dir string }

func newTree(dir string) tree { return tree{dir} }

// path is where a file of the image lies here. Its folder is made.
func (t tree) path(name string) string {
	path := filepath.Join(t.dir, name)
	_ = os.MkdirAll(filepath.Dir(path), 0o755) // what is written next says why it can't
	return path
}

// program copies a program of the PATH, and the libraries that it is linked
// with.
func (t tree) program(ctx context.Context, name, as string) error {
	path, err := exec.LookPath(name)
	if err != nil {
		return err
	}
	if err := t.copy(path, as); err != nil {
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

// libraries reads what ldd prints, and says which file goes where. Those that are
// found by their name go to /usr/lib, where the dynamic linker of every
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

func (t tree) copyIfThere(name string) error {
	err := t.copy(name, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
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
