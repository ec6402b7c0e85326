package integration

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"replicad/integration/poll"
	"replicad/replica/minimaster"
)

// settings are files that a running daemon's SIGHUP reads again.
type settings struct {
	t            *testing.T
	file, secret string
}

func (s *settings) write(path, text string) {
	s.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// hangup sends SIGHUP, and waits for a line that says what came of it.
func (s *settings) hangup(d *process, pattern string) {
	s.t.Helper()
	n := len(d.log.from(0))
	if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		s.t.Fatal(err)
	}
	d.waitLogAfter(n, pattern)
}

func TestSIGHUPTakesAChangedPasswordAtTheNextConnectAndTheLogLevel(t *testing.T) {
	t.Parallel()
	const right = "the-right-password"
	master, err := minimaster.Start(minimaster.Config{RequirePass: right})
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	dir := t.TempDir()
	s := &settings{t, filepath.Join(dir, "replicad.yml"), filepath.Join(dir, "secret")}
	text := "# of a test\nmasters:\n  - name: main\n    replicaof: " + master.Addr() + "\n    masterauth-file: " + s.secret + "\nloglevel: notice\n"
	s.write(s.file, text)
	s.write(s.secret, "the-wrong-one\n")
	d := run(t, filepath.Join(dir, "data"), "--config", s.file)
	d.waitLog("level=warning .*main .*WRONGPASS")

	// A file that is wrong changes nothing, and says why, also of the password
	// that has come meanwhile.
	s.write(s.secret, right+"\n")
	s.write(s.file, text+"nonsense: 1\n")
	s.hangup(d, `SIGHUP: the settings are wrong, and all stays as it was" why=".*replicad.yml:7: unknown key`)
	n := len(d.log.from(0))
	d.waitLogAfter(n, "WRONGPASS")

	s.write(s.file, strings.Replace(text, "notice", "debug", 1))
	s.hangup(d, "SIGHUP: masters, log level and secrets are read again.*loglevel=debug")
	d.waitLog("full sync done")
	n = len(d.log.from(0))
	d.waitLogAfter(n, "level=debug .*msg=ack")

	// Masters come, move and go. A master that stays does not notice.
	other, err := minimaster.Start(minimaster.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	more := text + "  - name: other\n    replicaof: " + other.Addr() + "\n"
	more = strings.Replace(more, "loglevel: notice\n", "", 1) + "loglevel: notice\n"
	s.write(s.file, more)
	s.hangup(d, "SIGHUP: masters.* masters=2 .*followed=other")
	poll.Until(t, "a replica of the other", func() bool { return d.matches("full sync done.*other|other.*full sync done") > 0 })
	s.write(s.file, text)
	s.hangup(d, "SIGHUP: masters.* masters=1 .*left=other")

	// What can't change is named.
	s.write(s.file, text+"segment-size: 1mb\n")
	s.hangup(d, "a changed setting needs a restart.*key=segment-size")
	d.ends(syscall.SIGTERM, 0)
	if d.matches(right) > 0 {
		t.Error("the password is in the log")
	}
}
