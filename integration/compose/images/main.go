// Images makes the images that docker-compose.yml names from what is on this
// machine, for a machine without a registry: the master's image from a
// redis-server (or valkey-server) of the PATH and the libraries that the server
// is linked with, and the images of replicad and of the integration tests from
// the sources. The images have the names that the compose file gives them:
//
//	go run ./integration/compose/images
//	docker-compose up
//
// An image of that name that this program did not make is left alone; --prefix
// gives other names. The program prints the compose file's variables:
//
//	go run ./integration/compose/images --server valkey-server --prefix my/ > images.env
//	docker-compose --env-file images.env up
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, errUsage):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("wrong use")

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	fl := flag.NewFlagSet("images", flag.ContinueOnError)
	fl.SetOutput(stderr)
	server := fl.String("server", "redis-server", "the master's program: redis-server or valkey-server, from the PATH")
	prefix := fl.String("prefix", "", "what the images' names begin with, such as my/")
	if err := fl.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil || fl.NArg() > 0 {
		fmt.Fprintln(stderr, "usage: go run ./integration/compose/images [--server redis-server|valkey-server] [--prefix PREFIX]")
		return errUsage
	}
	top, err := topOfTheRepository(ctx)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "replicad-images-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	return maker{log: stderr, top: top, dir: dir, prefix: *prefix}.all(ctx, *server, stdout)
}

// maker makes images.
type maker struct {
	log    io.Writer
	top    string // of the repository
	dir    string // a temporary folder
	prefix string
}

// all makes the three images, and prints what the compose file calls them.
func (m maker) all(ctx context.Context, server string, stdout io.Writer) error {
	image, ok := map[string]string{"redis-server": "redis", "valkey-server": "valkey/valkey"}[server]
	if !ok {
		return fmt.Errorf("--server %q: want redis-server or valkey-server", server)
	}
	image = m.prefix + image
	tag, err := version(ctx, server)
	if err != nil {
		return err
	}
	for _, step := range []struct {
		image string
		build func(ctx context.Context, image string) error
	}{
		{image + ":" + tag, func(ctx context.Context, image string) error { return m.server(ctx, server, image) }},
		{m.prefix + "replicad:dev", m.replicad},
		{"replicad-integration/" + image + ":" + tag, func(ctx context.Context, as string) error { return m.integration(ctx, as, image, tag) }},
	} {
		fmt.Fprintln(m.log, "images:", step.image)
		if err := step.build(ctx, step.image); err != nil {
			return fmt.Errorf("%s: %w", step.image, err)
		}
	}
	_, err = fmt.Fprintf(stdout, "REDIS_IMAGE=%s\nREDIS_TAG=%s\nREPLICAD_IMAGE=%sreplicad\nREPLICAD_TAG=dev\n", image, tag, m.prefix)
	return err
}

// major finds 7.0 in "Redis server v=7.0.15 sha=00000000:0 ...".
var major = regexp.MustCompile(`\bv=(\d+\.\d+)`)

// version is the tag by which a registry knows the server.
func version(ctx context.Context, server string) (string, error) {
	out, err := exec.CommandContext(ctx, server, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", server, err)
	}
	found := major.FindSubmatch(out)
	if found == nil {
		return "", fmt.Errorf("%s --version says %q: no version found there", server, out)
	}
	return string(found[1]), nil
}

// serverFile makes the master's image of its root file system. The user and
// group 999 are those of redis (or valkey) in a registry's images.
const serverFile = `FROM scratch
COPY rootfs /
COPY --chown=999:999 data /data
USER 999
WORKDIR /data
VOLUME /data
EXPOSE 6379
CMD ["redis-server"]
`

// accounts are the users and groups that the server's image knows.
var accounts = map[string]string{
	"/etc/passwd":        "root:x:0:0::/:/bin/sh\nredis:x:999:999::/data:/bin/sh\nreplicad:x:65532:65532::/:/bin/sh\n",
	"/etc/group":         "root:x:0:\nredis:x:999:\nreplicad:x:65532:\n",
	"/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}

// server makes the master's image: the server by the names that the images of a
// registry have, a shell, and what resolving names needs.
func (m maker) server(ctx context.Context, server, image string) error {
	dir := filepath.Join(m.dir, "server")
	t := tree{filepath.Join(dir, "rootfs")}
	cli := strings.Replace(server, "-server", "-cli", 1)
	for _, program := range []string{server, cli, "sh"} {
		if err := t.program(ctx, program); err != nil {
			return err
		}
	}
	links := map[string]string{"/bin": "usr/bin", "/usr/bin/redis-cli": cli}
	for _, name := range []string{"server", "sentinel", "check-aof", "check-rdb"} {
		links["/usr/bin/redis-"+name] = server // one binary: its name says what it does
	}
	delete(links, "/usr/bin/"+server)
	delete(links, "/usr/bin/"+cli)
	for name, to := range links {
		if err := os.Symlink(to, t.path(name)); err != nil {
			return err
		}
	}
	for name, text := range accounts {
		if err := os.WriteFile(t.path(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	file := filepath.Join(m.dir, "server.Dockerfile")
	err := errors.Join(
		os.MkdirAll(t.path("/tmp"), 0o755), os.Chmod(t.path("/tmp"), 0o777|os.ModeSticky),
		os.MkdirAll(filepath.Join(dir, "data"), 0o755),
		os.WriteFile(file, []byte(serverFile), 0o644))
	if err != nil {
		return err
	}
	return build(ctx, image, dir, file)
}

// replicad makes the image of cmd/replicad/Dockerfile, from the stage that takes
// a binary as it is.
func (m maker) replicad(ctx context.Context, image string) error {
	dir := filepath.Join(m.dir, "replicad")
	t := tree{filepath.Join(dir, "rootfs")}
	const authorities = "/etc/ssl/certs/ca-certificates.crt"
	if err := t.copy(authorities, authorities); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	owned := tree{filepath.Join(dir, "owned")}
	err := errors.Join(
		m.goBuild(ctx, t.path("/usr/bin/replicad"), "build", "./cmd/replicad"),
		os.MkdirAll(owned.path("/data"), 0o755), os.MkdirAll(owned.path("/tmp"), 0o755),
		m.license(dir))
	if err != nil {
		return err
	}
	return build(ctx, image, dir, filepath.Join(m.top, "cmd/replicad/Dockerfile"), "--target", "prebuilt")
}

// integration makes the image of integration/compose/Dockerfile, likewise.
func (m maker) integration(ctx context.Context, image, redisImage, redisTag string) error {
	dir := filepath.Join(m.dir, "integration")
	t := tree{filepath.Join(dir, "rootfs")}
	err := errors.Join(
		m.goBuild(ctx, t.path("/usr/bin/replicad"), "build", "./cmd/replicad"),
		m.goBuild(ctx, t.path("/usr/bin/compose.test"), "test", "-c", "./integration/compose"),
		m.license(dir))
	if err != nil {
		return err
	}
	return build(ctx, image, dir, filepath.Join(m.top, "integration/compose/Dockerfile"), "--target", "prebuilt",
		"--build-arg", "REDIS_IMAGE="+redisImage, "--build-arg", "REDIS_TAG="+redisTag)
}

func (m maker) license(context string) error {
	return tree{context}.copy(filepath.Join(m.top, "LICENSE"), "/LICENSE")
}

// goBuild runs "go build" or "go test -c" for a binary that needs no library.
func (m maker) goBuild(ctx context.Context, out string, args ...string) error {
	args = append(args[:len(args)-1:len(args)-1], "-trimpath", "-o", out, args[len(args)-1])
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = m.top
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	return quietly(cmd)
}

// made is the label of the images that this program made, and may replace.
const made = "replicad.made-from-this-machine"

// build runs docker build, unless the name is that of a stranger's image.
func build(ctx context.Context, image, dir, file string, more ...string) error {
	out, err := exec.CommandContext(ctx, "docker", "image", "inspect", "--format", `{{index .Config.Labels "`+made+`"}}`, image).CombinedOutput()
	text := strings.TrimSpace(string(out))
	switch {
	case err != nil && !strings.Contains(text, "No such image"):
		return fmt.Errorf("docker image inspect: %w: %s", err, text)
	case err == nil && text != "yes":
		return errors.New("there is an image of that name that this program did not make: it is left alone; use --prefix")
	}
	args := append([]string{"build", "--quiet", "--label", made + "=yes", "--file", file, "--tag", image}, more...)
	return quietly(exec.CommandContext(ctx, "docker", append(args, dir)...))
}

func topOfTheRepository(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	file := strings.TrimSpace(string(out))
	if err != nil || filepath.Base(file) != "go.mod" {
		return "", fmt.Errorf("run this program inside the repository (go env GOMOD: %q, %v)", file, err)
	}
	return filepath.Dir(file), nil
}

// quietly runs a command; its output is part of the error.
func quietly(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args[:min(3, len(cmd.Args))], " "), err, out)
	}
	return nil
}
