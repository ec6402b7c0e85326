package integration

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"replicad/integration/poll"
	"replicad/integration/redistest"
)

// readmeCommand is a command of the README, and what the README says that it
// prints. A line "..." there stands for any lines.
type readmeCommand struct{ line, prints string }

var consoleForm = regexp.MustCompile("(?ms)^```console\n(.*?)^```$")

// readmeCommands are the commands of the README's console blocks, in order.
func readmeCommands(t *testing.T) (all []readmeCommand) {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range consoleForm.FindAllStringSubmatch(string(text), -1) {
		for line := range strings.Lines(block[1]) {
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				all = append(all, readmeCommand{line: strings.TrimSpace(command)})
			} else if len(all) > 0 {
				all[len(all)-1].prints += line
			}
		}
	}
	if len(all) < 10 {
		t.Fatalf("the README has %d commands in console blocks", len(all))
	}
	return all
}

// What differs from one run to the next, and what stands for it.
var changing = []struct {
	form *regexp.Regexp
	mark string
}{
	{regexp.MustCompile(`(?m)^.*\x1b\[K|\r`), ""}, // a line that the next one has taken the place of
	{regexp.MustCompile(`\b[0-9a-f]{40}\b|\b[0-9a-f]{8}\b`), "ID"},
	{regexp.MustCompile(`\b(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\b`), "MONTH"},
	{regexp.MustCompile(`\d+(\.\d+)*`), "N"},
	{regexp.MustCompile(`(N(ns|µs|ms|s|m|h)\b)`), "TIME"},
	{regexp.MustCompile(`N (B|KiB|MiB)\b`), "SIZE"},
	{regexp.MustCompile(`[ \t]+`), " "},
	{regexp.MustCompile(` \n`), "\n"},
}

func normalised(s string) string {
	for _, c := range changing {
		s = c.form.ReplaceAllString(s, c.mark)
	}
	return strings.TrimSpace(s)
}

// matches says whether got is what the README says, but for what changes. A reply
// to redis-cli does not change: it is the value that was restored, or the count of
// WAIT.
func (c readmeCommand) matches(got string) bool {
	if strings.HasPrefix(c.line, "redis-cli ") || strings.HasSuffix(c.line, "| redis-cli") {
		return strings.TrimSpace(got) == strings.TrimSpace(c.prints)
	}
	var form strings.Builder
	for line := range strings.Lines(normalised(c.prints) + "\n") {
		if line == "...\n" {
			form.WriteString(`(.*\n)*`)
		} else {
			form.WriteString(regexp.QuoteMeta(line))
		}
	}
	return regexp.MustCompile(`^` + form.String() + `$`).MatchString(normalised(got) + "\n")
}

var serverForm = regexp.MustCompile(`^redis-server |\breplicad run `)

var offsetForm = regexp.MustCompile(`(?m)^master_repl_offset:(\d+)|^slave\d+:.*,offset=(\d+),`)

// terminal makes a terminal: what a process writes to its screen comes out of the
// other end.
func terminal(t *testing.T) (other, screen *os.File) {
	t.Helper()
	other, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("there is no terminal here (%v): the README's commands were not run", err)
	}
	fd := int(other.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err := errors.Join(err, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)); err != nil {
		t.Fatal(err)
	}
	screen, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return other, screen
}

// The commands run one after the other, where 6379 is the master's port and no
// other server runs. A server goes on; the others end.
func TestEachCommandOfTheREADMEPrintsWhatTheREADMESays(t *testing.T) {
	t.Parallel()
	redistest.Path(t)
	for _, name := range []string{"bash", "redis-cli", "date"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("there is no %s on the PATH: the README's commands were not run", name)
		}
	}
	commands := readmeCommands(t)
	ownNetwork(t)
	dir := t.TempDir()
	// FAKETTY has redis-cli print as on a terminal.
	env := []string{"FAKETTY=1", "TZ=UTC", "LC_ALL=C", "HOME=" + dir, "PATH=" + filepath.Dir(binaryPath()) + ":" + os.Getenv("PATH")}
	bash := func(line string) *exec.Cmd {
		cmd := exec.Command("bash", "-c", line)
		cmd.Dir, cmd.Env = dir, env
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
		return cmd
	}
	serve := func(c readmeCommand) {
		t.Helper()
		out, err := os.Create(filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		cmd := bash(c.line)
		screen := out
		if strings.Contains(c.line, "replicad run ") {
			var keyboard *os.File
			keyboard, screen = terminal(t)
			go func() {
				_, _ = io.Copy(out, keyboard) // EIO when nobody has the terminal any more
				keyboard.Close()
			}()
		}
		cmd.Stdout, cmd.Stderr = screen, screen
		err = cmd.Start()
		if screen != out {
			screen.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			_ = cmd.Wait()
			out.Close()
		})
		poll.Seen(t, c.line+" to print\n"+c.prints, func() (bool, string) {
			b, err := os.ReadFile(out.Name())
			return err == nil && c.matches(string(b)), string(b)
		})
	}
	// inStep waits until the replicas have acknowledged all of the stream.
	inStep := func() {
		t.Helper()
		poll.Seen(t, "the replicas to be in step", func() (bool, string) {
			info, err := bash("redis-cli info replication").CombinedOutput()
			offsets := map[string]bool{}
			for _, m := range offsetForm.FindAllStringSubmatch(string(info), -1) {
				offsets[m[1]+m[2]] = true
			}
			return err == nil && len(offsets) == 1, string(info)
		})
	}
	serve(readmeCommand{"redis-server --save ''", "...\n1:M 1 Nov 2026 10:00:00.000 * Ready to accept connections\n"})
	var times []string // what date printed in the README, and what it prints here
	for _, c := range commands {
		c.line = strings.NewReplacer(times...).Replace(c.line)
		if serverForm.MatchString(c.line) {
			serve(c)
			continue
		}
		if strings.HasPrefix(c.line, "date ") || strings.HasPrefix(c.line, "replicad ") {
			inStep()
		}
		if strings.HasPrefix(c.line, "date ") { // the second began after the last write came
			written := time.Now()
			poll.Seen(t, "the next second", func() (bool, string) {
				return time.Now().Truncate(time.Second).Sub(written) > 200*time.Millisecond, fmt.Sprint(time.Now())
			})
		}
		out, _ := bash(c.line).CombinedOutput()
		if !c.matches(string(out)) {
			t.Fatalf("%s prints\n%s\nand the README says\n%s", c.line, out, c.prints)
		}
		if strings.HasPrefix(c.line, "date ") {
			times = append(times, strings.TrimSpace(c.prints), strings.TrimSpace(string(out)))
		}
	}
	t.Logf("%d commands of the README print what it says", len(commands))
}

var buildBlock = regexp.MustCompile("(?s)## Build\n.*?```sh\n(.*?)```")

func TestTheREADMEsBuildWorksInAFreshCopyOfTheSources(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("-short: the README's build was not run")
	}
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	block := buildBlock.FindSubmatch(text)
	if block == nil {
		t.Fatal("the README has no build")
	}
	dir := t.TempDir()
	copied := exec.Command("cp", "-R", "anet", "cmd", "eventloop", "replica", "go.mod", "go.sum", dir)
	copied.Dir = ".."
	if out, err := copied.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.Command("bash", "-e", "-c", string(block[1])+"command -v replicad nbconnect")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-trimpath -buildvcs=false") // the build cache then has no folder's name
	out, err := cmd.CombinedOutput()
	if bin := filepath.Join(dir, "bin"); err != nil || !strings.Contains(string(out), bin+"/replicad\n"+bin+"/nbconnect\n") {
		t.Errorf("%v: %s", err, out)
	}
}
