package probe

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"replicad/replica"
)

// patience is how long a probe may take beyond its --timeout on a slow machine.
const patience = 30 * time.Second

// serve starts a server that holds serve's conversation with each who connects,
// and gives the master that it plays.
func serve(t *testing.T, serve func(c net.Conn)) replica.Master {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			all.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	m, err := replica.ParseMaster(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// script is a master in a table: the answer to a command, by the longest
// beginning of it that is there, in capitals. A missing one is an unknown
// command.
type script map[string]string

// with is the table with other answers in it.
func (a script) with(pairs ...string) script {
	b := script{}
	for k, v := range a {
		b[k] = v
	}
	for i := 0; i < len(pairs); i += 2 {
		b[pairs[i]] = pairs[i+1]
	}
	return b
}

func (a script) to(args []string) string {
	for n := len(args); n > 0; n-- {
		if s, ok := a[strings.ToUpper(strings.Join(args[:n], " "))]; ok {
			return s
		}
	}
	return "-ERR unknown command '" + args[0] + "'\r\n"
}

// master plays the table.
func master(t *testing.T, a script) replica.Master {
	t.Helper()
	return serve(t, func(c net.Conn) {
		in := bufio.NewReader(c)
		for {
			args, err := command(in)
			if err != nil {
				return
			}
			if _, err := io.WriteString(c, a.to(args)); err != nil {
				return
			}
		}
	})
}

// command reads a RESP array of bulk strings.
func command(in *bufio.Reader) ([]string, error) {
	header := func() (int, error) {
		line, err := in.ReadString('\n')
		if err != nil {
			return 0, err
		}
		return strconv.Atoi(strings.TrimSpace(line[1:]))
	}
	n, err := header()
	if err != nil {
		return nil, err
	}
	args := make([]string, n)
	for i := range args {
		k, err := header()
		if err != nil {
			return nil, err
		}
		p := make([]byte, k+2)
		if _, err := io.ReadFull(in, p); err != nil {
			return nil, err
		}
		args[i] = string(p[:k])
	}
	return args, nil
}

func bulk(s string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(s), s) }

func pair(name, value string) string { return "*2\r\n" + bulk(name) + bulk(value) }

// infoText is what a small, sound master says.
const infoText = "# Server\r\nredis_version:7.2.6\r\nrun_id:abc\r\n\r\n# Clients\r\nconnected_clients:3\r\nmaxclients:10000\r\n" +
	"# Memory\r\nused_memory:1048576\r\nused_memory_rss:2097152\r\ntotal_system_memory:8589934592\r\n# Persistence\r\nloading:0\r\nasync_loading:0\r\n" +
	"rdb_changes_since_last_save:0\r\nrdb_last_save_time:1\r\nrdb_last_bgsave_status:ok\r\nrdb_last_bgsave_time_sec:-1\r\n" +
	"# Replication\r\nrole:master\r\nconnected_slaves:0\r\nmaster_replid:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nmaster_repl_offset:100\r\n" +
	"repl_backlog_active:1\r\nrepl_backlog_size:1048576\r\n"

// sound is a master with which all is well.
func sound() script {
	a := script{
		"PING": "+PONG\r\n", "AUTH": "+OK\r\n", "REPLCONF": "+OK\r\n", "ACL WHOAMI": bulk("default"), "ACL DRYRUN": "+OK\r\n",
		"PSYNC": "-ERR wrong number of arguments for 'psync' command\r\n", "SYNC X": "-ERR wrong number of arguments for 'sync' command\r\n",
		"PSYNC ? -1": "-ERR SYNC and PSYNC are invalid with pending output\r\n", "INFO": bulk(infoText), "CONFIG GET": "*0\r\n",
		"COMMAND INFO": fmt.Sprintf("*%d\r\n%s", len(strings.Fields(written)), strings.Repeat("*1\r\n+x\r\n", len(strings.Fields(written)))), "MODULE LIST": "*0\r\n",
	}
	for name, value := range soundConfig() {
		a["CONFIG GET "+strings.ToUpper(name)] = pair(name, value)
	}
	return a
}

func soundConfig() map[string]string {
	return map[string]string{
		"maxclients": "10000", "protected-mode": "no", "repl-backlog-size": "1048576", "repl-backlog-ttl": "3600",
		"client-output-buffer-limit": "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60", "repl-diskless-sync": "yes",
		"repl-diskless-sync-delay": "5", "repl-timeout": "60", "repl-ping-slave-period": "10", "min-slaves-to-write": "0", "min-slaves-max-lag": "10",
		"proto-max-bulk-len": "536870912",
	}
}

// names are those of the checks, in their order.
func names(opt Options) []string {
	all := []string{
		"name resolution", "connect", "TLS", "PING", "AUTH", "REPLCONF listening-port", "REPLCONF ip-address", "REPLCONF capa", "REPLCONF version",
		"ACL", "INFO", "CONFIG GET", "commands", "protected-mode", "maxclients", "loading", "role", "version", "requirepass", "BGSAVE", "repl-backlog-size",
		"client-output-buffer-limit", "repl-diskless-sync", "repl-timeout", "proto-max-bulk-len", "min-replicas-to-write", "disk", "full sync", "PSYNC",
	}
	return slices.DeleteFunc(all, func(name string) bool {
		return name == "PSYNC" && !opt.Psync || name == "REPLCONF ip-address" && opt.AnnounceIP == ""
	})
}

// run probes, and checks what holds of each probe: all checks are there, once
// and in order, nothing steers a terminal, and it is over in time.
func run(t *testing.T, opt Options) Report {
	t.Helper()
	if opt.For == 0 {
		opt.For = 10 * time.Millisecond
	}
	begun := time.Now()
	told := 0
	opt.Tell = func(Check) { told++ }
	r := Run(context.Background(), opt)
	if opt.Timeout == 0 {
		opt.Timeout = DefaultTimeout
	}
	if d := time.Since(begun); d > opt.Timeout+patience {
		t.Errorf("it took %v, with a time-out of %v", d, opt.Timeout)
	}
	var got []string
	for _, c := range r.Checks {
		got = append(got, c.Name)
		if strings.ContainsFunc(c.Detail+c.Remedy, func(r rune) bool { return !unicode.IsPrint(r) }) || c.Detail == "" {
			t.Errorf("%s: %q, %q", c.Name, c.Detail, c.Remedy)
		}
		if !slices.Contains([]Status{Pass, Warn, Fail, Skip}, c.Status) {
			t.Errorf("%s has the status %q", c.Name, c.Status)
		}
	}
	if want := names(opt); !slices.Equal(got, want) {
		t.Errorf("the checks are\n%q, want\n%q", got, want)
	}
	if told != len(r.Checks) {
		t.Errorf("%d of %d checks were told", told, len(r.Checks))
	}
	return r
}

// find gives the check of that name.
func find(t *testing.T, r Report, name string) Check {
	t.Helper()
	for _, c := range r.Checks {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("there is no check %q", name)
	return Check{}
}

// expect compares a check with a status and a piece of its text and remedy.
func expect(t *testing.T, c Check, status Status, detail, remedy string) {
	t.Helper()
	if c.Status != status || !strings.Contains(c.Detail, detail) || !strings.Contains(c.Remedy, remedy) || remedy == "" && c.Remedy != "" {
		t.Errorf("got  %s %s: %q -> %q\nwant %s %s: %q -> %q", c.Status, c.Name, c.Detail, c.Remedy, status, c.Name, detail, remedy)
	}
}
