package redisserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"replicad/replica/rdb/rdbtest"
	"replicad/replica/resp"
)

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func configured(t *testing.T, b Binary, text string) Binary {
	t.Helper()
	b.Config = filepath.Join(t.TempDir(), "redis.conf")
	if err := os.WriteFile(b.Config, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return b
}

func stream(commands ...[]string) string {
	var p []byte
	for _, c := range commands {
		p = resp.AppendCommand(p, c...)
	}
	return string(p)
}

func TestAMastersOwnConfigurationHidesNothingOfAFolder(t *testing.T) {
	b := find(t)
	elsewhere := t.TempDir()
	incr := stream([]string{"SET", "k", strings.Repeat("v", 100)}, []string{"SELECT", "40"}, []string{"SET", "l", "v"})
	for _, directive := range []string{
		"appendfilename other.aof",
		"appenddirname others",
		"dbfilename other.rdb",
		"dir " + elsewhere,
		"replicaof 127.0.0.1 1\nreplica-serve-stale-data no",
		"requirepass secret",
		"logfile " + filepath.Join(elsewhere, "log"),
		"pidfile " + filepath.Join(elsewhere, "pid"),
		"loglevel warning",
		"maxmemory 1mb\nmaxmemory-policy allkeys-lru",
		"cluster-enabled yes",
		"databases 4",
		"port 1\nbind 192.0.2.1",
		"unixsocket " + filepath.Join(elsewhere, "s"),
		"appendonly no\nsave 1 1",
		"daemonize yes",
	} {
		c := configured(t, b, directive)
		for _, made := range []func(*testing.T, string) string{folder, preamble} {
			if r, err := c.Check(within(t), made(t, incr)); err != nil || r.Keys != 2 {
				t.Errorf("%s: %+v, %v", directive, r, err)
			}
			path, err := c.Save(within(t), made(t, incr))
			if err != nil {
				t.Errorf("%s: %v", directive, err)
				continue
			}
			saved := t.TempDir()
			if err := os.Rename(path, filepath.Join(saved, "dump.rdb")); err != nil {
				t.Fatal(err)
			}
			if r, err := c.Check(within(t), saved, "--appendonly", "no"); err != nil || r.Keys != 2 {
				t.Errorf("%s: of the dump.rdb: %+v, %v", directive, r, err)
			}
		}
	}
	if left, err := os.ReadDir(elsewhere); len(left) > 0 && left[0].Name() != "log" || err != nil {
		t.Errorf("the servers left %v, %v", left, err)
	}
}

// preamble makes a folder of one appendonly.aof.
func preamble(t *testing.T, incr string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "appendonly.aof"), append(rdbtest.Empty(0, true), incr...), 0o640); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestAServerThatLoadsLessThanTheFolderHoldsFailsTheLoad(t *testing.T) {
	b := find(t)
	incr := stream([]string{"SET", "k", "v"})
	full := folder(t, incr)
	path, err := b.Save(within(t), full)
	if err != nil {
		t.Fatal(err)
	}
	saved := t.TempDir()
	if err := os.Rename(path, filepath.Join(saved, "dump.rdb")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		dir        string
		directives []string
	}{
		{full, []string{"--appendfilename", "other.aof"}},
		{full, []string{"--appendonly", "no"}},
		{preamble(t, incr), []string{"--appendfilename", "other.aof"}},
		{saved, []string{"--appendonly", "no", "--dbfilename", "other.rdb"}},
	} {
		if r, err := b.Check(within(t), c.dir, c.directives...); !errors.Is(err, ErrLoad) || !strings.Contains(fmt.Sprint(err), "it loaded") {
			t.Errorf("%v: %+v, %v", c.directives, r, err)
		}
	}
}

func TestAConfigurationThatRefusesOurQuestionsIsSaidAndNotWaitedFor(t *testing.T) {
	b := find(t)
	for _, directive := range []string{"user default off", "user default on >secret ~* +@all", "rename-command INFO none"} {
		_, err := configured(t, b, directive).Check(within(t), folder(t, stream([]string{"SET", "k", "v"})))
		if !errors.Is(err, ErrLoad) || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(fmt.Sprint(err), "refused") {
			t.Errorf("%s: %v", directive, err)
		}
	}
	// What is renamed and not needed does no harm.
	renamed := configured(t, b, "rename-command PING pong\nrename-command DEBUG none\nrename-command CONFIG no-config")
	if r, err := renamed.Check(within(t), folder(t, stream([]string{"SET", "k", "v"}))); err != nil || r.Keys != 1 || r.Digest != "" {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestErrorsOfScriptsAreNotThoseOfTheLoad(t *testing.T) {
	b := find(t)
	set := []string{"SET", "s", "x"}
	for _, c := range []struct {
		name    string
		command []string
		failed  bool
		scripts int64
	}{
		{"an error that the script caught", []string{"EVAL", "redis.pcall('INCR', 's') redis.call('SET', 'a', '1')", "0"}, false, 0},
		{"an error behind a write", []string{"EVAL", "redis.call('SET', 'a', '1') error('boom')", "0"}, false, 1},
		{"a script that is not there", []string{"EVALSHA", strings.Repeat("a", 40), "0"}, true, 0},
		{"a command that fails", []string{"INCR", "s"}, true, 0},
	} {
		r, err := b.Check(within(t), folder(t, stream(set, c.command)))
		if errors.Is(err, ErrCommands) != c.failed || !c.failed && (err != nil || r.ScriptErrors != c.scripts || (r.ScriptError != "") != (c.scripts > 0)) {
			t.Errorf("%s: %+v, %v", c.name, r, err)
		}
	}
	_, err := b.Check(within(t), folder(t, stream(set, []string{"INCR", "s"}, []string{"INCR", "s"})))
	if text := fmt.Sprint(err); !strings.Contains(text, "2 of them") || !strings.Contains(text, "incr: value is not an integer") {
		t.Errorf("it does not name what failed: %v", err)
	}
}

func TestOfWhatAServerSaysLittleIsKept(t *testing.T) {
	var w words
	for range 1000 {
		fmt.Fprintf(&w, "a line of %s\n", strings.Repeat("x", 5000))
	}
	fmt.Fprint(&w, "cut any")
	fmt.Fprint(&w, "where\nnext\n")
	if len(w.last) != 3 || w.last[1] != "cut anywhere" || w.last[2] != "next" || len(w.last[0]) > mostLine {
		t.Errorf("%.100q", w.last)
	}
	fmt.Fprint(&w, "# Redis 7.0.15 crashed by signal: 11, si_code: 1\nmuch\nmore\nbehind\n")
	if len(w.last) != 1 || !strings.Contains(w.last[0], "crashed by signal") {
		t.Errorf("%q", w.last)
	}
}
