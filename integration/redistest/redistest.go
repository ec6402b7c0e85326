// Package redistest runs redis-server for tests.
//
// A test says what the server is to be, in the words of redis.conf, and gets
// one that is ready:
//
//	master := redistest.Start(t, "requirepass secret")
//	master.Do("SET", "key", "value")
//
// A server listens on a free port of the loopback (or wherever the directives
// say), works in a folder of its own, and ends with the test, however that
// ends. It is the redis-server of the PATH; where there is none the test is
// skipped with a line that says so, or fails when REPLICAD_REQUIRE_REDIS is 1.
// The tests need Redis 7.0 or later, or Valkey: earlier servers load no
// multi-part AOF.
//
// What fails here fails the test: methods return no errors but where they say.
package redistest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// RequireVariable names the variable that turns the skipping of tests without
// a redis-server into a failure.
const RequireVariable = "REPLICAD_REQUIRE_REDIS"

// defaults stand before the directives of the test, which count in their place.
// The master pings its replicas so rarely that an offset that is read stays
// what it was as long as nobody writes.
var defaults = []string{
	"bind 127.0.0.1",
	"protected-mode no",
	"daemonize no",
	`save ""`,
	"appendonly no",
	"enable-debug-command yes",
	"repl-diskless-sync-delay 0",
	"repl-ping-replica-period 3600",
	"repl-timeout 7200",
	"shutdown-timeout 0",
}

// patience is how long a server may take to be ready, or to end.
const patience = 60 * time.Second

// Server is a redis-server process.
type Server struct {
	// Dir is the folder it works in, unless a directive said otherwise.
	Dir string
	// Port is the TCP port it listens on; 0 for none.
	Port int
	// Socket is the unix socket it listens on; "" for none.
	Socket string
	// Host is the address it listens on.
	Host string

	t          testing.TB
	sentinel   bool // it runs as one
	binary     string
	directives []string
	password   string
	cmd        *exec.Cmd
	exited     chan struct{}
	clients    map[int]*redis.Client
}

// Path finds redis-server. Without one it skips the test, or fails it.
func Path(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err == nil {
		return path
	}
	const text = "there is no redis-server on the PATH: nothing was tested here"
	if os.Getenv(RequireVariable) == "1" {
		t.Fatalf("%s, and %s is 1", text, RequireVariable)
	}
	t.Skip(text)
	return ""
}

// Start starts a server with the lines of redis.conf that are given, and waits
// until it is ready. Without a line "port" it gets a free one.
func Start(t testing.TB, directives ...string) *Server {
	t.Helper()
	return StartIn(t, t.TempDir(), directives...)
}

// StartIn starts a server in a folder that exists, with whatever it holds.
func StartIn(t testing.TB, dir string, directives ...string) *Server {
	t.Helper()
	s := New(t, dir, directives...)
	s.Start()
	return s
}

// StartValkey starts a valkey-server from the PATH as Start does. Without one it
// skips the test: Debian has it in its backports alone.
func StartValkey(t testing.TB, directives ...string) *Server {
	t.Helper()
	path, err := exec.LookPath("valkey-server")
	if err != nil {
		t.Skip("there is no valkey-server on the PATH: nothing was tested here")
	}
	s := New(t, t.TempDir(), directives...)
	s.binary = path
	s.Start()
	return s
}

// New prepares a server without starting it: its port is chosen.
func New(t testing.TB, dir string, directives ...string) *Server {
	t.Helper()
	Path(t)
	s := &Server{t: t, Dir: dir, Host: "127.0.0.1", clients: map[int]*redis.Client{}, directives: directives, binary: Path(t)}
	s.Port = -1
	s.read(directives)
	if s.Port < 0 {
		s.Port = FreePort(t, s.Host)
		s.directives = append([]string{"port " + strconv.Itoa(s.Port)}, directives...)
	}
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("redis-server at port %d wrote:\n%s", s.Port, tail(s.Log(), 4000))
		}
	})
	return s
}

// read takes from the directives what a client needs to know.
func (s *Server) read(directives []string) {
	for _, d := range directives {
		name, value, _ := strings.Cut(d, " ")
		value = strings.Trim(value, `"`)
		switch name {
		case "port":
			s.Port, _ = strconv.Atoi(value)
		case "bind":
			s.Host = strings.Fields(value)[0]
		case "unixsocket":
			s.Socket = value
		case "requirepass":
			s.password = value
		}
	}
}

// FreePort finds a TCP port that nobody listens on. It lies below the ports
// that the kernel hands out to clients, so that it stays free until somebody
// listens on purpose.
func FreePort(t testing.TB, host string) int {
	t.Helper()
	for range 1000 {
		port := 15000 + rand.IntN(17000)
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err != nil {
			continue
		}
		l.Close()
		return port
	}
	t.Fatalf("no port of %s is free", host)
	return 0
}

// Addr is host:port.
func (s *Server) Addr() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// Start starts a server that does not run, with the directives it had and
// more, and waits until it is ready.
func (s *Server) Start(more ...string) {
	s.t.Helper()
	s.Launch(more...)
	s.WaitReady()
}

// Launch starts a server that does not run, and returns at once: it may be
// loading.
func (s *Server) Launch(more ...string) {
	s.t.Helper()
	s.directives = append(s.directives, more...)
	s.read(more)
	before, args := defaults, []string(nil)
	if s.sentinel {
		before, args = sentinelDefaults, []string{"--sentinel"}
	}
	conf := append(append([]string{}, before...), `dir "`+s.Dir+`"`, `logfile "`+s.logfile()+`"`)
	conf = append(conf, s.directives...)
	file := filepath.Join(s.Dir, "redis.conf")
	if err := os.WriteFile(file, []byte(strings.Join(conf, "\n")+"\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.cmd = exec.Command(s.binary, append([]string{file}, args...)...)
	s.cmd.Dir = s.Dir
	// A test that is aborted runs no cleanup.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) {
		_ = cmd.Wait()
		close(exited)
	}(s.cmd, s.exited)
}

func (s *Server) logfile() string { return filepath.Join(s.Dir, "redis-server.log") }

// Log is what the server logged so far.
func (s *Server) Log() string {
	b, err := os.ReadFile(s.logfile())
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// WaitReady waits until the server answers and has loaded its dataset.
func (s *Server) WaitReady() {
	s.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		err := s.dial() // first by hand: go-redis logs each refusal
		if err == nil {
			err = s.Client(0).Do(context.Background(), "PING").Err()
		}
		if err == nil || redis.HasErrorPrefix(err, "MASTERDOWN") {
			return
		}
		select {
		case <-s.exited:
			s.t.Fatalf("redis-server ended instead of starting:\n%s", tail(s.Log(), 4000))
		default:
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("redis-server is not ready after %v: %v\n%s", patience, err, tail(s.Log(), 4000))
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (s *Server) dial() error {
	network, addr := "tcp", s.Addr()
	if s.Port == 0 {
		network, addr = "unix", s.Socket
	}
	c, err := net.Dial(network, addr)
	if err == nil {
		c.Close()
	}
	return err
}

// Kill ends the server with SIGKILL, if it runs.
func (s *Server) Kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	<-s.exited
	s.forget()
}

// Running says whether the server was started, and neither killed nor shut down.
func (s *Server) Running() bool { return s.cmd != nil }

// Shutdown ends the server as SHUTDOWN does; how is NOSAVE, SAVE or "".
func (s *Server) Shutdown(how string) {
	s.t.Helper()
	args := []any{"SHUTDOWN"}
	if how != "" {
		args = append(args, how)
	}
	if err := s.Client(0).Do(context.Background(), args...).Err(); err != nil && !isClosed(err) {
		s.t.Fatalf("SHUTDOWN: %v", err)
	}
	select {
	case <-s.exited:
	case <-time.After(patience):
		s.t.Fatal("redis-server does not end after SHUTDOWN")
	}
	s.forget()
}

func isClosed(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) || strings.Contains(err.Error(), "EOF") || strings.Contains(err.Error(), "reset")
}

func (s *Server) forget() {
	s.cmd = nil
	for db, c := range s.clients {
		c.Close()
		delete(s.clients, db)
	}
}

// Client is a client that works in one database. It is the server's: not to be
// closed. Goroutines of the test make their own by NewClient.
func (s *Server) Client(db int) *redis.Client {
	c := s.clients[db]
	if c == nil {
		c = s.NewClient(db)
		s.clients[db] = c
	}
	return c
}

// NewClient makes a client with one connection, for the caller to close. It
// sends nothing but what it is told, AUTH and SELECT, and repeats nothing.
func (s *Server) NewClient(db int) *redis.Client {
	opt := &redis.Options{
		Network: "tcp", Addr: s.Addr(), Password: s.password, DB: db, Protocol: 2,
		DisableIdentity: true, MaxRetries: -1, PoolSize: 1,
		DialTimeout: 5 * time.Second, DialerRetries: 1, ReadTimeout: patience, WriteTimeout: patience,
	}
	if s.Port == 0 {
		opt.Network, opt.Addr = "unix", s.Socket
	}
	return redis.NewClient(opt)
}

// Do sends a command to database 0 and gives its answer; nil for a null.
func (s *Server) Do(args ...any) any {
	s.t.Helper()
	return s.DoIn(0, args...)
}

// SetPassword changes requirepass; "" for none.
func (s *Server) SetPassword(password string) {
	s.t.Helper()
	s.Do("CONFIG", "SET", "requirepass", password)
	s.password = password
}

// DoIn sends a command to a database.
func (s *Server) DoIn(db int, args ...any) any {
	s.t.Helper()
	v, err := s.Client(db).Do(context.Background(), args...).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		s.t.Fatalf("%v: %v", brief(args), err)
	}
	return v
}

// Pipe sends commands to a database in one write; each must succeed.
func (s *Server) Pipe(db int, commands ...[]any) {
	s.t.Helper()
	if err := Pipe(s.Client(db), commands...); err != nil {
		s.t.Fatal(err)
	}
}

// Pipe sends commands in one write, and returns the first error there is.
func Pipe(c *redis.Client, commands ...[]any) error {
	p := c.Pipeline()
	for _, args := range commands {
		p.Do(context.Background(), args...)
	}
	answers, err := p.Exec(context.Background())
	for i, a := range answers {
		if e := a.Err(); e != nil && !errors.Is(e, redis.Nil) {
			return fmt.Errorf("%v: %w", brief(commands[i]), e)
		}
	}
	if err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	return nil
}

func brief(args []any) string {
	text := fmt.Sprint(args...)
	return text[:min(len(text), 100)]
}

// Info gives the fields of a section of INFO.
func (s *Server) Info(section string) map[string]string {
	s.t.Helper()
	text, ok := s.Do("INFO", section).(string)
	if !ok {
		s.t.Fatalf("INFO %s: no text", section)
	}
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[k] = v
		}
	}
	return fields
}

// Number gives a field of INFO as a number.
func (s *Server) Number(section, field string) int64 {
	s.t.Helper()
	n, err := strconv.ParseInt(s.Info(section)[field], 10, 64)
	if err != nil {
		s.t.Fatalf("INFO %s, %s: %v", section, field, err)
	}
	return n
}

// Offset is the replication offset.
func (s *Server) Offset() int64 {
	s.t.Helper()
	return s.Number("replication", "master_repl_offset")
}

// ReplID is the replication id.
func (s *Server) ReplID() string {
	s.t.Helper()
	return s.Info("replication")["master_replid"]
}

// Digest is DEBUG DIGEST: equal digests mean equal datasets.
func (s *Server) Digest() string {
	s.t.Helper()
	d, ok := s.Do("DEBUG", "DIGEST").(string)
	if !ok || len(d) != 40 {
		s.t.Fatalf("DEBUG DIGEST: %v", d)
	}
	return d
}

// Load starts a server on a copy of a folder that holds an appendonlydir. A
// last file that ends inside a command fails the test.
func Load(t testing.TB, dir string, directives ...string) *Server {
	t.Helper()
	return load(t, Path(t), dir, directives...)
}

// Load starts a server of the same kind on a copy of a folder, as the function
// Load does.
func (s *Server) Load(dir string, directives ...string) *Server {
	s.t.Helper()
	return load(s.t, s.binary, dir, directives...)
}

func load(t testing.TB, binary, dir string, directives ...string) *Server {
	t.Helper()
	where := t.TempDir()
	if err := os.CopyFS(where, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	// An archive that ends inside a command is not to be mended by the server.
	s := New(t, where, append([]string{"appendonly yes", "aof-load-truncated no"}, directives...)...)
	s.binary = binary
	s.Start()
	return s
}

// tail is the end of a text, at most n bytes.
func tail(s string, n int) string { return s[max(0, len(s)-n):] }
