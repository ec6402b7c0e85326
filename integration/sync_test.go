package integration

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"replicad/integration/redistest"
)

// TestTheLoadedArchiveIsTheMastersDataset takes a full sync and a stream of
// writes of every kind, over each transport, in both framings, and with each
// way to authenticate; in each framing all data once more as a stream.
func TestTheLoadedArchiveIsTheMastersDataset(t *testing.T) {
	t.Parallel()
	const diskless, disk = "repl-diskless-sync yes", "repl-diskless-sync no"
	for i, c := range []struct {
		name       string
		directives []string
		env        []string
		args       func(t *testing.T, s *redistest.Server) []string
	}{
		{"diskless", []string{diskless}, nil, byAddress},
		{"from the master's disk", []string{disk}, nil, byAddress},
		{"without compression and checksum", []string{disk, "rdbcompression no", "rdbchecksum no"}, nil, byAddress},
		{"over a unix socket", []string{disk, "port 0", "unixsocket SOCKET"}, nil,
			func(_ *testing.T, s *redistest.Server) []string {
				return []string{"--replicaof", "main=unix://" + s.Socket}
			}},
		{"over IPv6", []string{diskless, "bind ::1"}, nil, byAddress},
		{"with requirepass and the variable", []string{diskless, "requirepass secret-1"},
			[]string{"REPLICAD_MASTERAUTH=secret-1"}, byAddress},
		{"with an ACL user and a password file", []string{disk, "user replica on >secret-2 +psync +replconf +ping"}, nil,
			func(t *testing.T, s *redistest.Server) []string {
				file := filepath.Join(t.TempDir(), "password")
				if err := os.WriteFile(file, []byte("secret-2\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				return append(byAddress(t, s), "--masteruser", "replica", "--masterauth-file", file)
			}},
		{"with a redis URL", []string{diskless, "user replica on >se%cr:et@3 +psync +replconf +ping"}, nil,
			func(_ *testing.T, s *redistest.Server) []string {
				return []string{"--replicaof", fmt.Sprintf("main=redis://replica:se%%25cr%%3Aet%%403@%s", s.Addr())}
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if strings.Contains(c.name, "IPv6") && !haveIPv6() {
				t.Skip("::1 can't be bound here: nothing was tested over IPv6")
			}
			directives := append([]string(nil), c.directives...)
			for i, d := range directives {
				directives[i] = strings.ReplaceAll(d, "SOCKET", filepath.Join(shortDir(t), "redis.sock"))
			}
			master := redistest.Start(t, directives...)
			for _, db := range []int{0, 1, 15} {
				everyType(master, db)
			}
			master.Do("FUNCTION", "LOAD", strings.ReplaceAll(library, "put", "earlier"))
			master.Do("FUNCTION", "FLUSH")
			dir := t.TempDir()
			d := runEnv(t, c.env, dir, c.args(t, master)...)
			d.waitLog(`msg="full sync done"`)
			if bytes := newest(t, dir, "main").BaseBytes; bytes < 300_000 {
				t.Errorf("the base has %d bytes only", bytes)
			}
			everyWrite(t, master)
			equal(t, master, dir, "main")

			if i < 2 { // the two framings
				master.Do("FLUSHALL")
				everyType(master, 0)
				everyType(master, 1)
				everyWrite(t, master)
				loaded := equal(t, master, dir, "main")
				if n := loaded.Number("stats", "expired_keys"); n > 0 {
					t.Logf("%d keys expired in the loaded server by themselves", n)
				}
			}
			d.stop()
			g := newest(t, dir, "main")
			if len(generations(t, dir, "main")) != 1 || !g.BaseVerified || g.FsyncedOffset != g.EndOffset {
				t.Errorf("the archive in the end: %+v", generations(t, dir, "main"))
			}
			sameDataset(t, master, g.Dir)
			want := "target: disk"
			if strings.Contains(strings.Join(c.directives, " "), diskless) {
				want = "target: replicas sockets"
			}
			if !strings.Contains(master.Log(), want) {
				t.Errorf("the master's log has no %q:\n%s", want, master.Log())
			}
		})
	}
}

func byAddress(_ *testing.T, s *redistest.Server) []string {
	return []string{"--replicaof", "main=" + s.Addr()}
}

func haveIPv6() bool {
	l, err := net.Listen("tcp", "[::1]:0")
	if err == nil {
		l.Close()
	}
	return err == nil
}

// shortDir is a folder whose path leaves room for the 108 bytes of a unix
// socket's.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
