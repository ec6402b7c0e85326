// Images makes the images that docker-compose.yml names from what is on this
// machine, for there is not always a registry: that of the master from a
// redis-server (or valkey-server) of the PATH and the libraries it is linked
// with, those of replicad and of the integration tests from the sources. They
// have the names that the compose file gives them, so the very same file is run:
//
//	go run ./integration/compose/images
//	docker-compose up
//
// An image of that name that it did not make itself, it leaves alone; --prefix
// gives names of one's own. What it prints are the compose file's variables:
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
	kind, err := kindOf(*server)
	if err != nil {
		return err
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
	m := maker{log: stderr, top: top, dir: dir, prefix: *prefix}
	return m.all(ctx, kind, stdout)
}

// maker makes images.
type maker struct {
	docker docker
	log    io.Writer
	top    string // of the repository
	dir    string // a temporary folder
	prefix string
}

// all makes the three images, and prints what the compose file calls them by.
func (m maker) all(ctx context.Context, k kind, stdout io.Writer) error {
	step := func(what string) { fmt.Fprintln(m.log, "images:", what) }
	tag, err := k.version(ctx)
	if err != nil {
		return err
	}
	image := m.prefix + k.image
	step(image + ":" + tag)
	if err := m.server(ctx, k, image, tag); err != nil {
		return fmt.Errorf("the image of %s: %w", k.server, err)
	}
	step(m.prefix + "replicad:dev")
	if err := m.replicad(ctx); err != nil {
		return fmt.Errorf("the image of replicad: %w", err)
	}
	step(integrationImage(image, tag))
	if err := m.integration(ctx, image, tag); err != nil {
		return fmt.Errorf("the image of the integration tests: %w", err)
	}
	_, err = fmt.Fprintf(stdout, "REDIS_IMAGE=%s\nREDIS_TAG=%s\nREPLICAD_IMAGE=%s\nREPLICAD_TAG=dev\n", image, tag, m.prefix+"replicad")
	return err
}

// server makes the master's image.
func (m maker) server(ctx context.Context, k kind, image, tag string) error {
	t := newTree(filepath.Join(m.dir, "server"))
	if err := k.fill(ctx, t); err != nil {
		return err
	}
	return m.docker.load(ctx, image+":"+tag, t.dir, []string{
		"USER 999", "WORKDIR /data", "VOLUME /data", "EXPOSE 6379", `CMD ["redis-server"]`,
	})
}

// replicad makes the image of cmd/replicad/Dockerfile, from the stage that
// takes a binary as it is.
func (m maker) replicad(ctx context.Context) error {
	dir := filepath.Join(m.dir, "replicad")
	t := newTree(filepath.Join(dir, "rootfs"))
	if err := m.goBuild(ctx, t.path("/usr/bin/replicad"), "build", "./cmd/replicad"); err != nil {
		return err
	}
	if err := t.copyIfThere("/etc/ssl/certs/ca-certificates.crt"); err != nil {
		return err
	}
	for _, d := range []string{"data", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, "owned", d), 0o755); err != nil {
			return err
		}
	}
	if err := m.license(dir); err != nil {
		return err
	}
	return m.docker.build(ctx, m.prefix+"replicad:dev", dir, filepath.Join(m.top, "cmd/replicad/Dockerfile"))
}

// integration makes the image of integration/compose/Dockerfile, likewise.
func (m maker) integration(ctx context.Context, redisImage, redisTag string) error {
	dir := filepath.Join(m.dir, "integration")
	t := newTree(filepath.Join(dir, "rootfs"))
	if err := m.goBuild(ctx, t.path("/usr/bin/replicad"), "build", "./cmd/replicad"); err != nil {
		return err
	}
	if err := m.goBuild(ctx, t.path("/usr/bin/compose.test"), "test", "-c", "./integration/compose"); err != nil {
		return err
	}
	if err := m.license(dir); err != nil {
		return err
	}
	return m.docker.build(ctx, integrationImage(redisImage, redisTag), dir, filepath.Join(m.top, "integration/compose/Dockerfile"),
		"--build-arg", "REDIS_IMAGE="+redisImage, "--build-arg", "REDIS_TAG="+redisTag)
}

func (m maker) license(context string) error {
	return tree{context}.copy(filepath.Join(m.top, "LICENSE"), "/LICENSE")
}

// integrationImage is the name that docker-compose.yml gives it.
func integrationImage(redisImage, redisTag string) string {
	return "replicad-integration/" + redisImage + ":" + redisTag
}

// goBuild runs "go build" or "go test -c" for a binary that needs no library.
func (m maker) goBuild(ctx context.Context, out string, args ...string) error {
	args = append(args[:len(args)-1:len(args)-1], "-trimpath", "-o", out, args[len(args)-1])
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = m.top
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	return quietly(cmd)
}

func topOfTheRepository(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	file := strings.TrimSpace(string(out))
	if err != nil || filepath.Base(file) != "go.mod" {
		return "", fmt.Errorf("it is to be run inside the repository (go env GOMOD: %q, %v)", file, err)
	}
	return filepath.Dir(file), nil
}

// quietly runs a command; an error has what it wrote.
func quietly(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args[:min(3, len(cmd.Args))], " "), err, out)
	}
	return nil
}
