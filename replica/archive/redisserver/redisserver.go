// Package redisserver has a redis-server from the PATH load a folder. That is
// the proof that an archive is what it says, and none of our readers takes
// part.
package redisserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// Errors of this package, for errors.Is.
var (
	ErrNotFound = errors.New("no redis-server on the PATH")
	ErrTooOld   = errors.New("redis-server is older than 7.0, which brought the multi-part AOF")
	ErrLoad     = errors.New("redis-server did not load the folder")
)

// Binary is a redis-server that can load an archive.
type Binary struct {
	Path    string
	Version string // 7.0.15
}

var versionForm = regexp.MustCompile(`v=((\d+)\.\d+\.\d+)`)

// Find looks for redis-server, then valkey-server, on the PATH. The error is
// ErrNotFound or ErrTooOld.
func Find() (Binary, error) {
	var old error
	for _, name := range []string{"redis-server", "valkey-server"} {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		out, err := exec.Command(path, "--version").Output()
		if err != nil {
			continue
		}
		m := versionForm.FindSubmatch(out)
		if m == nil {
			continue
		}
		if major, _ := strconv.Atoi(string(m[2])); major < 7 {
			old = fmt.Errorf("%w: %s is %s", ErrTooOld, path, m[1])
			continue
		}
		return Binary{Path: path, Version: string(m[1])}, nil
	}
	if old != nil {
		return Binary{}, old
	}
	return Binary{}, ErrNotFound
}

// Server is a redis-server that runs on a folder. It listens on a unix socket
// in a private folder, and on no port.
type Server struct {
	Client *redis.Client // database 0
	Took   time.Duration // from the start of the process until it had loaded
	cmd    *exec.Cmd
	socket string
	folder string
	log    bytes.Buffer
	exited chan struct{}
	let    func() bool // ends the watch over the context
}

// Load starts a redis-server on dir, which holds an appendonlydir, and returns
// when the server has loaded it. The server may write to dir, which must be a
// copy. It ends with ctx, or at Stop. The directives, in the form of a command
// line, override those of Load. The error wraps ErrLoad and holds what the
// server said last.
func (b Binary) Load(ctx context.Context, dir string, directives ...string) (*Server, error) {
	folder, err := os.MkdirTemp("", "replicad-load-")
	if err != nil {
		return nil, err
	}
	s := &Server{folder: folder, socket: filepath.Join(folder, "s"), exited: make(chan struct{})}
	s.cmd = exec.Command(b.Path, append([]string{
		"--port", "0", "--unixsocket", s.socket, "--unixsocketperm", "700",
		"--dir", dir, "--appendonly", "yes", "--appendfsync", "no", "--save", "",
		"--auto-aof-rewrite-percentage", "0", "--databases", "65536",
		"--enable-debug-command", "yes", "--daemonize", "no"}, directives...)...)
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	began := time.Now()
	if err := s.cmd.Start(); err != nil {
		os.RemoveAll(folder)
		return nil, err
	}
	s.let = context.AfterFunc(ctx, func() { _ = s.cmd.Process.Kill() })
	go func() {
		_ = s.cmd.Wait()
		close(s.exited)
	}()
	s.Client = s.DB(0)
	if err := s.awaitLoaded(ctx); err != nil {
		s.Stop()
		return nil, fmt.Errorf("%w: %w; it said last: %s", ErrLoad, err, lastLines(s.log.Bytes(), 3))
	}
	s.Took = time.Since(began)
	return s, nil
}

func (s *Server) awaitLoaded(ctx context.Context) error {
	for {
		// The client writes to stderr when it can't connect. So the server is
		// asked only once it listens.
		if s.listens() && s.Client.Ping(ctx).Err() == nil {
			return nil
		}
		select {
		case <-s.exited:
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return errors.New("it exited")
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond): // LOADING, or not listening yet
		}
	}
}

func (s *Server) listens() bool {
	c, err := net.Dial("unix", s.socket)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

// DB returns a client of a database; the caller closes it. The client waits for
// an answer as long as the server lives, for SAVE and DEBUG DIGEST take their
// time.
func (s *Server) DB(n int) *redis.Client {
	return redis.NewClient(&redis.Options{Network: "unix", Addr: s.socket, DB: n, Protocol: 2, DisableIdentity: true, ReadTimeout: -1, MaxRetries: -1})
}

// Digest asks for DEBUG DIGEST.
func (s *Server) Digest(ctx context.Context) (string, error) {
	return s.Client.Do(ctx, "DEBUG", "DIGEST").Text()
}

// Stop ends the server and removes its private folder.
func (s *Server) Stop() {
	s.let()
	s.Client.Close()
	_ = s.cmd.Process.Kill() // nothing of it is kept
	<-s.exited
	os.RemoveAll(s.folder)
}

func lastLines(p []byte, n int) string {
	lines := bytes.Split(bytes.TrimSpace(p), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-n):], []byte(" | ")))
}
