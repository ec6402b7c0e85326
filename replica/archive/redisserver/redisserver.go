// Package redisserver has a redis-server from the PATH load a folder. That is
// the proof that an archive is what it says, and none of our readers takes
// part.
package redisserver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Errors of this package, for errors.Is.
var (
	ErrNotFound = errors.New("no redis-server on the PATH")
	ErrTooOld   = errors.New("redis-server is older than 7.0, which brought the multi-part AOF")
	ErrLoad     = errors.New("redis-server did not load the folder")
	// ErrCommands: the server loaded the folder, and commands of it failed: what
	// they should have done is missing.
	ErrCommands = errors.New("commands failed while redis-server loaded the folder")
)

// Binary is a redis-server that can load an archive.
type Binary struct {
	Path    string
	Version string // 7.0.15
	Config  string // a file of its configuration; "" for none
}

// Choice says which redis-server loads a folder, for a master that is not plain:
// one with modules, or with renamed commands. The zero value is the one on the
// PATH.
type Choice struct {
	Path   string // --redis-server
	Config string // --redis-config: a redis.conf with rename-command, loadmodule ...
}

var versionForm = regexp.MustCompile(`v=((\d+)\.\d+\.\d+)`)

// Find is [Choice.Find] for the server on the PATH.
func Find() (Binary, error) { return Choice{}.Find() }

// Find looks for redis-server, then valkey-server, on the PATH, unless one is
// named. The error wraps ErrNotFound or ErrTooOld.
func (c Choice) Find() (Binary, error) {
	names, missing := []string{"redis-server", "valkey-server"}, ErrNotFound
	if c.Path != "" {
		names, missing = []string{c.Path}, fmt.Errorf("%w: %s is none", ErrNotFound, c.Path)
	}
	if c.Config != "" {
		if _, err := os.Stat(c.Config); err != nil {
			return Binary{}, fmt.Errorf("%w: its configuration: %w", ErrNotFound, err)
		}
	}
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		out, _ := exec.Command(path, "--version").Output()
		m := versionForm.FindSubmatch(out)
		if m == nil {
			continue
		}
		if major, _ := strconv.Atoi(string(m[2])); major >= 7 {
			return Binary{Path: path, Version: string(m[1]), Config: c.Config}, nil
		}
		missing = fmt.Errorf("%w: %s is %s", ErrTooOld, path, m[1])
	}
	return Binary{}, missing
}

// Start is the command by which a person starts the server on a folder, word by
// word, with directives behind it. It overrides what in the configuration would
// have the server start empty, or take a master's dataset in place of the
// folder's. The error is that of reading the configuration.
func (c Choice) Start(dir string, directives []string, databases int) ([]string, error) {
	const usual = 16 // redis.conf's default
	words := []string{cmp.Or(c.Path, "redis-server")}
	if c.Config == "" {
		words = append(append(words, "--dir", dir), directives...)
		if databases > usual {
			words = append(words, "--databases", strconv.Itoa(databases))
		}
		return words, nil
	}
	text, err := os.ReadFile(c.Config)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 2 && strings.EqualFold(f[0], "databases") {
			n, _ := strconv.Atoi(f[1])
			databases = max(databases, n)
		}
	}
	if dir, err = filepath.Abs(dir); err != nil { // the configuration may have another one, which is entered first
		return nil, err
	}
	words = append(append(words, c.Config, "--dir", dir), directives...)
	return append(words, "--databases", strconv.Itoa(databases),
		"--appendfilename", "appendonly.aof", "--appenddirname", "appendonlydir", "--dbfilename", "dump.rdb", "--replicaof", "no", "one"), nil
}

// Server is a redis-server that runs on a folder. It listens on a unix socket
// in a private folder, and on no port. Both sides name the socket below a
// descriptor of that folder (proc_pid_fd(5)), for the path of a socket is
// bounded (unix(7): 108 bytes), and that of a temporary folder is not.
type Server struct {
	Client *redis.Client // database 0
	Took   time.Duration // from the start of the process until it had loaded
	cmd    *exec.Cmd
	socket string
	folder *os.File
	said   words
	exited chan struct{}
	let    func() bool // ends the watch over the context
}

// plain has the server load a folder and do nothing else, whatever a master's
// own redis.conf says, which these directives follow: it may name other files or
// a master, want a password, listen, or evict what was loaded.
var plain = []string{
	"--port", "0", "--bind", "", "--unixsocket", "/proc/self/fd/3/s", "--unixsocketperm", "700",
	"--appendonly", "yes", "--appendfsync", "no", "--save", "", "--auto-aof-rewrite-percentage", "0",
	"--appendfilename", "appendonly.aof", "--appenddirname", "appendonlydir", "--dbfilename", "dump.rdb",
	"--rdbchecksum", "yes", "--databases", "65536", "--maxmemory", "0",
	"--replicaof", "no", "one", "--replica-serve-stale-data", "yes", "--cluster-enabled", "no", "--requirepass", "", "--aclfile", "",
	"--logfile", "", "--loglevel", "notice", "--pidfile", "", "--enable-debug-command", "yes", "--daemonize", "no",
}

// Load starts a redis-server on dir, which holds an appendonlydir, an
// appendonly.aof or a dump.rdb, and returns when the server has loaded all of
// it. The server may write to dir, which must be a copy. It ends with ctx, or at
// Stop. The directives, in the form of a command line, override those of Load
// and of the configuration. The error wraps ErrLoad and holds what the server
// said last.
func (b Binary) Load(ctx context.Context, dir string, directives ...string) (*Server, error) {
	dir, err := filepath.Abs(dir) // the configuration's dir, which comes first, is entered
	if err != nil {
		return nil, err
	}
	whole, err := held(ctx, dir)
	if err != nil {
		return nil, err
	}
	private, err := os.MkdirTemp("", "replicad-load-")
	if err != nil {
		return nil, err
	}
	folder, err := os.Open(private)
	if err != nil {
		return nil, errors.Join(err, os.Remove(private))
	}
	s := &Server{folder: folder, socket: fmt.Sprintf("/proc/self/fd/%d/s", folder.Fd()), exited: make(chan struct{})}
	var config []string
	if b.Config != "" {
		config = []string{b.Config}
	}
	s.cmd = exec.Command(b.Path, slices.Concat(config, plain, []string{"--dir", dir}, directives)...)
	s.cmd.Stdout, s.cmd.Stderr = &s.said, &s.said
	s.cmd.ExtraFiles = []*os.File{folder} // descriptor 3
	began := time.Now()
	if err := s.cmd.Start(); err != nil {
		s.leave()
		return nil, err
	}
	s.let = context.AfterFunc(ctx, func() { _ = s.cmd.Process.Kill() })
	go func() {
		_ = s.cmd.Wait()
		close(s.exited)
	}()
	s.Client = s.DB(0)
	if err := s.awaitLoaded(ctx, whole); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLoad, s.lost(ctx, err))
	}
	s.Took = time.Since(began)
	return s, nil
}

// awaitLoaded waits until the server has loaded, and proves that this was all
// that the folder holds. It asks INFO, which is answered during a load, and all
// else that is asked later needs.
func (s *Server) awaitLoaded(ctx context.Context, whole whole) error {
	for {
		// The client writes to stderr when it can't connect. So the server is
		// asked only once it listens.
		if c, err := net.Dial("unix", s.socket); err == nil {
			c.Close()
			info, err := s.Client.Info(ctx, "persistence").Result()
			var refused redis.Error
			if errors.As(err, &refused) && !strings.HasPrefix(err.Error(), "LOADING") {
				return fmt.Errorf("INFO is refused, as the configuration may want: %w", err)
			}
			if err == nil && field(info, "loading") == 0 {
				return whole.is(info)
			}
		}
		select {
		case <-s.exited:
			return errors.New("it exited")
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond): // it loads, or does not listen yet
		}
	}
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
	s.leave()
}

// leave removes the private folder.
func (s *Server) leave() {
	os.RemoveAll(s.folder.Name())
	s.folder.Close()
}

// Report says what a redis-server found in a folder.
type Report struct {
	Version   string     `json:"redis_version"`
	Databases []Database `json:"databases"` // that have keys
	Keys      int64      `json:"keys"`
	// Expired counts the keys that the server dropped until it was asked, for
	// their time to live had run out. More may be among Keys.
	Expired int64   `json:"expired"`
	Digest  string  `json:"digest"`       // DEBUG DIGEST; "" where the server does not allow it
	Seconds float64 `json:"load_seconds"` // from the start of the process
	// ScriptErrors counts scripts that ended with an error. A master that sends
	// scripts as they are sends also those that failed behind their first write,
	// so they fail at the load as they did there. ScriptError is the first one.
	ScriptErrors int64  `json:"script_errors"`
	ScriptError  string `json:"script_error,omitempty"`
}

// Database is a line of INFO keyspace.
type Database struct {
	DB      int   `json:"db"`
	Keys    int64 `json:"keys"`
	Expires int64 `json:"expires"` // how many of the keys have a time to live
}

// Check loads a folder strictly: a file that ends inside a command is an error,
// too. The server may write to dir, which must be a copy. The directives are
// those of [Binary.Load]: a dump.rdb needs "--appendonly", "no". The error wraps
// ErrLoad where the server refused the files.
func (b Binary) Check(ctx context.Context, dir string, directives ...string) (Report, error) {
	s, err := b.Load(ctx, dir, append(directives, "--aof-load-truncated", "no")...)
	if err != nil {
		return Report{}, err
	}
	defer s.Stop()
	r := Report{Version: b.Version, Seconds: s.Took.Seconds()}
	if r.ScriptErrors, r.ScriptError, err = s.errors(ctx); err != nil {
		return Report{}, err
	}
	if r.Databases, r.Expired, err = s.keyspace(ctx); err != nil {
		return Report{}, s.lost(ctx, err)
	}
	for _, d := range r.Databases {
		r.Keys += d.Keys
	}
	r.Digest, err = s.Digest(ctx)
	var refused redis.Error
	if err != nil && !errors.As(err, &refused) {
		return Report{}, s.lost(ctx, err)
	}
	return r, nil
}

// Save loads a folder's AOF strictly, and has the server write the dataset to a
// dump.rdb in the same folder. It returns the file's path.
//
// The server does so as a replica whose master is away. A master drops keys at
// the load whose time to live has run out since the moment that is restored; a
// replica leaves that to its master (rdbLoadRio in Redis' rdb.c).
func (b Binary) Save(ctx context.Context, dir string) (path string, err error) {
	s, err := b.Load(ctx, dir, "--aof-load-truncated", "no", "--replicaof", "127.0.0.1", "1")
	if err != nil {
		return "", err
	}
	defer s.Stop()
	if _, _, err := s.errors(ctx); err != nil {
		return "", err
	}
	if err := s.Client.Save(ctx).Err(); err != nil {
		return "", fmt.Errorf("SAVE: %w", s.lost(ctx, err))
	}
	return filepath.Join(dir, "dump.rdb"), nil
}

// lacking is what helps where the server does not understand the folder.
const lacking = "does it lack a module, a script or a renamed command of the master? See --redis-server and --redis-config"

// lost ends the server, and adds to a client's error what the server said last.
// Where ctx is done, the error is ctx's.
func (s *Server) lost(ctx context.Context, err error) error {
	s.Stop() // until then it may write
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	said := strings.Join(s.said.last, " | ")
	if lower := strings.ToLower(said); strings.Contains(lower, "unknown command") || strings.Contains(lower, "module") {
		return fmt.Errorf("%w; %s; it said last: %s", err, lacking, said)
	}
	return fmt.Errorf("%w; it said last: %s", err, said)
}

// errors says which commands failed during the load: INFO counts the errors that
// the client had from which the server loads (afterErrorReply in Redis'
// networking.c, since 6.0), and the server's log has their text. Those of scripts
// are returned apart.
func (s *Server) errors(ctx context.Context) (scripts int64, script string, err error) {
	info, err := s.Client.Info(ctx, "stats").Result()
	if err != nil {
		return 0, "", s.lost(ctx, err)
	}
	s.said.Lock()
	defer s.said.Unlock()
	failed := field(info, "unexpected_error_replies") - s.said.scripts
	if failed <= 0 {
		return s.said.scripts, s.said.script, nil
	}
	return 0, "", fmt.Errorf("%w: %d of them, the first with: %s; %s",
		ErrCommands, failed, cmp.Or(s.said.command, "(the server did not say)"), lacking)
}

// keyspace asks how many keys there are, and, in the same moment, how many were
// dropped.
func (s *Server) keyspace(ctx context.Context) ([]Database, int64, error) {
	info, err := s.Client.Info(ctx, "persistence", "stats", "keyspace").Result()
	all := []Database{}
	for line := range strings.Lines(info) {
		var d Database
		if _, err := fmt.Sscanf(line, "db%d:keys=%d,expires=%d", &d.DB, &d.Keys, &d.Expires); err == nil {
			all = append(all, d)
		}
	}
	return all, field(info, "expired_keys") + field(info, "rdb_last_load_keys_expired"), err
}
