package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"replicad/integration/poll"
	"replicad/integration/redistest"
	"replicad/replica/archive"
	"replicad/replica/resp"
)

// restoredCopy is what restore --json says.
type restoredCopy struct {
	Generation int
	Offset     int64
	// What ran out since.
	BaseExpired   int64 `json:"base_expired"`
	StreamExpired int64 `json:"stream_expired"`
	Check         struct {
		Keys    int64
		Expired int64
		Digest  string
	}
}

// restoreTo restores and reads what it said.
func restoreTo(t *testing.T, dir string, args ...string) (r restoredCopy) {
	t.Helper()
	stdout, stderr, code := once(t, nil, append([]string{"restore", "--dir", dir, "--json"}, args...)...)
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || code != 0 {
		t.Fatalf("restore %v: code %d, %v\n%s%s", args, code, err, stdout, stderr)
	}
	return r
}

// checkAOF has redis-check-aof look at a restored folder, where there is one.
func checkAOF(t *testing.T, path string) {
	t.Helper()
	tool, err := exec.LookPath("redis-check-aof")
	if err != nil {
		t.Log("there is no redis-check-aof on the PATH")
		return
	}
	if out, err := exec.Command(tool, path).CombinedOutput(); err != nil {
		t.Errorf("redis-check-aof %s: %v\n%s", path, err, out)
	}
}

func TestARestoreToAnOffsetIsWhatTheMasterHeldThere(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t, largeBacklog)
	everyType(master, 0)
	dir := t.TempDir()
	stop := followInSegments(t, master, dir, 20_000, archive.Everysec)
	caughtUp(t, master, dir, "main")
	type moment struct {
		offset int64
		digest string
	}
	var moments []moment
	for i := range count(t, "moments", 3, 60) {
		for k := range 100 {
			master.DoIn(i%3, "SET", fmt.Sprint("k", i, ":", k), strings.Repeat("v", 200))
			master.DoIn(i%5, "RPUSH", "list", i*k)
		}
		moments = append(moments, moment{caughtUp(t, master, dir, "main").EndOffset, master.Digest()})
	}
	stop()
	if g := newest(t, dir, "main"); g.Segments < 3 {
		t.Fatalf("%d segments", g.Segments)
	}
	work := t.TempDir()
	for i, m := range moments {
		for _, format := range []string{"multipart", "aof", "rdb"} {
			out := filepath.Join(work, fmt.Sprint(format, i))
			r := restoreTo(t, dir, "--to", fmt.Sprintf("offset:%d", m.offset), "--out", out, "--format", format, "--check")
			if r.Generation != 1 || r.Offset != m.offset || r.Check.Digest != m.digest {
				t.Errorf("%s at offset %d: %+v, want digest %s", format, m.offset, r, m.digest)
			}
			switch format {
			case "multipart":
				checkAOF(t, filepath.Join(out, "appendonlydir", "appendonly.aof.manifest"))
			case "aof":
				checkAOF(t, filepath.Join(out, "appendonly.aof"))
			}
		}
	}
	// The result is as a user starts it; that it may be written to hurts nobody.
	before := files(t, dir)
	last := moments[len(moments)-1]
	for _, format := range []string{"multipart", "aof", "rdb"} {
		appendOnly := "appendonly yes"
		if format == "rdb" {
			appendOnly = "appendonly no"
		}
		s := redistest.StartIn(t, filepath.Join(work, fmt.Sprint(format, len(moments)-1)), appendOnly)
		if got := s.Digest(); got != last.digest {
			t.Errorf("started on %s: digest %s, want %s", format, got, last.digest)
		}
		s.Do("SET", "more", "after")
		s.Shutdown("")
	}
	if what := differ(before, files(t, dir)); what != "" {
		t.Errorf("a server on a restored folder changed the archive: %s", what)
	}
}

func TestADamagedFileIsCaughtByRestoreOrByItsCheck(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t, largeBacklog)
	everyType(master, 0)
	dir := t.TempDir()
	stop := followInSegments(t, master, dir, 4_000, archive.Everysec)
	caughtUp(t, master, dir, "main")
	for i := range 100 {
		master.Do("SET", fmt.Sprint("k", i), strings.Repeat("v", 100))
		if i%10 == 0 {
			caughtUp(t, master, dir, "main")
		}
	}
	caughtUp(t, master, dir, "main")
	stop()
	for name, file := range map[string]string{
		"base":    "appendonly.aof.1.base.rdb",
		"segment": "appendonly.aof.1.incr.aof",
	} {
		wantCode, want := 1, "redis-server did not load the folder"
		if name == "segment" { // which restore reads itself
			wantCode, want = 2, "the file is damaged at byte"
		}
		damaged := filepath.Join(t.TempDir(), "main")
		if err := os.CopyFS(damaged, os.DirFS(filepath.Join(dir, "main"))); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(damaged, "generation-000001", "appendonlydir", file)
		p, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		at := len(p) / 2
		if name == "segment" { // the begin of a command
			at = strings.LastIndex(string(p), "\r\n*3\r\n") + 2
		}
		p[at] ^= 0x01
		if err := os.WriteFile(path, p, 0o640); err != nil {
			t.Fatal(err)
		}
		below := filepath.Dir(damaged)
		for _, args := range [][]string{{"--check-only"}, {"--check", "--out", filepath.Join(t.TempDir(), "out")}} {
			_, stderr, code := once(t, nil, append([]string{"restore", "--dir", below}, args...)...)
			if code != wantCode || !strings.Contains(stderr, want) {
				t.Errorf("a bit of a %s flipped, %v: code %d\n%s", name, args, code, stderr)
			}
		}
		if entries, err := os.ReadDir(below); err != nil || len(entries) != 1 {
			t.Errorf("the drill left %v, %v", entries, err)
		}
	}
	restoreTo(t, dir, "--check-only")
}

func TestRestoresBesideADaemonThatWritesAllPassTheirCheck(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t, largeBacklog)
	everyType(master, 0)
	dir := t.TempDir()
	d := run(t, dir, byAddress(t, master)...)
	defer d.stop()
	poll.Seen(t, "a generation", func() (bool, string) {
		_, ok := newestIfAny(t, dir, "main")
		return ok, ""
	})
	load := startLoad(t, master, loadRate)
	var last int64
	for i := range count(t, "restores", 3, 100) {
		before := newest(t, dir, "main").EndOffset
		poll.Seen(t, "some more bytes", func() (bool, string) {
			return newest(t, dir, "main").EndOffset > before, ""
		})
		to := "latest"
		if i%2 == 1 {
			to = time.Now().Format(time.RFC3339Nano)
		}
		out := filepath.Join(t.TempDir(), "out")
		r := restoreTo(t, dir, "--to", to, "--out", out, "--check")
		// The timeline may be a tenth of a second behind the files.
		if to == "latest" && r.Offset < last || r.Check.Keys == 0 {
			t.Errorf("restore %d: %+v, the one before ended at %d", i, r, last)
		}
		last = r.Offset
		checkAOF(t, filepath.Join(out, "appendonlydir", "appendonly.aof.manifest"))
	}
	load.stop(t)
}

func TestCommandsThatFailAtTheLoadFailTheCheck(t *testing.T) {
	t.Parallel()
	renamed := "rename-command SET s3cret-set"
	master := redistest.Start(t, largeBacklog, renamed)
	dir := t.TempDir()
	d := run(t, dir, byAddress(t, master)...)
	poll.Seen(t, "a generation", func() (bool, string) {
		_, ok := newestIfAny(t, dir, "main")
		return ok, ""
	})
	master.Do("s3cret-set", "a", "1")
	caughtUp(t, master, dir, "main")
	d.waitLog(`level=notice msg="a server that loads the archive must have .*what="the command s3cret-set"`)
	master.Do("s3cret-set", "b", "1")
	caughtUp(t, master, dir, "main")
	d.stop()
	if n := d.matches("s3cret-set"); n != 1 {
		t.Errorf("it is said %d times", n)
	}
	for _, args := range [][]string{{"list"}, {"verify"}} {
		if out, _, code := once(t, nil, append(args, "--dir", dir)...); code != 0 || !strings.Contains(out, "the command s3cret-set") {
			t.Errorf("%v: code %d, %s", args, code, out)
		}
	}
	config := filepath.Join(t.TempDir(), "redis.conf")
	if err := os.WriteFile(config, []byte(renamed+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	server := redistest.Path(t)
	for _, args := range [][]string{{"--check-only"}, {"--check", "--out", filepath.Join(t.TempDir(), "a")}, {"--format", "rdb", "--out", filepath.Join(t.TempDir(), "b")}} {
		base := append([]string{"restore", "--dir", dir}, args...)
		if _, stderr, code := once(t, nil, base...); code != 1 || !strings.Contains(stderr, "--redis-config") {
			t.Errorf("%v without the master's renames: code %d\n%s", args, code, stderr)
		}
		for i, a := range base {
			if strings.HasPrefix(a, os.TempDir()) && i > 3 {
				base[i] = filepath.Join(t.TempDir(), "again")
			}
		}
		if _, stderr, code := once(t, nil, append(base, "--redis-server", server, "--redis-config", config)...); code != 0 {
			t.Errorf("%v with them: code %d\n%s", args, code, stderr)
		}
	}
	if _, stderr, code := once(t, nil, "restore", "--dir", dir, "--check-only", "--redis-server", "/nowhere/redis-server"); code != 2 || !strings.Contains(stderr, "/nowhere/redis-server") {
		t.Errorf("a server that is none: code %d\n%s", code, stderr)
	}
}

func TestAnRDBFileHasTheKeysWhoseTimeRanOutSinceTheMoment(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t, largeBacklog)
	master.Do("SET", "in the base", "x", "PX", 1500)
	dir := t.TempDir()
	stop := followInSegments(t, master, dir, 1<<20, archive.Everysec)
	master.Do("SET", "in the stream", "x", "PX", 1500)
	master.Do("SET", "stays", "x")
	g := caughtUp(t, master, dir, "main")
	poll.Seen(t, "both times to run out", func() (bool, string) {
		n, _ := master.Do("EXISTS", "in the base", "in the stream").(int64)
		return n == 0, fmt.Sprint(n)
	})
	stop()
	out := filepath.Join(t.TempDir(), "out")
	restoreTo(t, dir, "--to", fmt.Sprint("offset:", g.EndOffset), "--format", "rdb", "--out", out)
	for _, format := range []string{"multipart", "aof", "rdb"} {
		r := restoreTo(t, dir, "--to", fmt.Sprint("offset:", g.EndOffset), "--format", format, "--check", "--out", filepath.Join(t.TempDir(), "out"))
		if r.BaseExpired+r.StreamExpired != 2 || r.Check.Keys+r.Check.Expired != 3 {
			t.Errorf("%s: %+v, want two of three keys that ran out", format, r)
		}
	}
	loaded := redistest.StartIn(t, out, "replicaof 127.0.0.1 1") // a replica expires nothing by itself
	if n := loaded.Do("DBSIZE"); n != int64(3) {
		t.Errorf("the RDB file has %v keys, want 3", n)
	}
}

// scriptedStream starts a master that sends an RDB file with some keys, and then
// commands.
func scriptedStream(t *testing.T, keys map[string]string, commands [][]string) *scripted {
	t.Helper()
	var stream []byte
	for _, c := range commands {
		stream = resp.AppendCommand(stream, c...)
	}
	return script(t, func(c *conversation) {
		if _, _, ok := c.handshake(); !ok {
			return
		}
		base := dump(keys, false)
		c.say("+FULLRESYNC %s 1000\r\n$%d\r\n%s", replID('a'), len(base), base)
		c.say("%s", stream)
		c.acks(func(_, _ int64) {})
	})
}

// words cuts a text into commands of words.
func words(commands ...string) (all [][]string) {
	for _, c := range commands {
		all = append(all, strings.Fields(c))
	}
	return all
}

// followed has replicad follow a scripted stream to its end.
func followed(t *testing.T, commands [][]string, keys map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	size := int64(0)
	for _, c := range commands {
		size += int64(len(resp.AppendCommand(nil, c...)))
	}
	d := run(t, dir, "--replicaof", "main="+scriptedStream(t, keys, commands).addr)
	poll.Seen(t, "all of the stream", func() (bool, string) {
		g, ok := newestIfAny(t, dir, "main")
		return ok && g.EndOffset == 1000+size, fmt.Sprint(g.EndOffset)
	})
	d.stop()
	return dir
}

func TestTimesToLiveEndWhenTheMasterMeantThemTo(t *testing.T) {
	t.Parallel()
	redistest.Path(t)
	const forever = "9223372036854775807"
	donor := redistest.Start(t)
	donor.Do("SET", "d", "v")
	payload, _ := donor.Do("DUMP", "d").(string)
	commands := words(
		"SELECT 0", "SETEX an-hour 3600 %", "PSETEX a-minute 60000 v", "SET with-px v PX 60000", "SET with-ex v EX 3600",
		"SET getex v", "GETEX getex EX 3600", "SET expire v", "EXPIRE expire 3600",
		"SET has v EX 100", "EXPIRE has 3600 NX", "SET has-none v", "EXPIRE has-none 3600 XX",
		"SET greater v EX 100", "EXPIRE greater 3600 GT", "SET less v EX 100", "PEXPIRE less 3600000 GT", "PEXPIRE less 60000 LT",
		"PSETEX for-ever "+forever+" v", "SET saturated v", "EXPIRE saturated "+forever,
		"MULTI", "SETEX in-multi 3600 v", "EXEC", "SET gone v", "EXPIRE gone -9223372036854775808", "SET short v PX 1")
	commands = append(commands, []string{"RESTORE", "restored", "3600000", payload, "REPLACE"})
	dir := followed(t, commands, map[string]string{"in the base": "v"})
	for _, format := range []string{"multipart", "aof", "rdb"} {
		out := filepath.Join(t.TempDir(), "out")
		stdout, stderr, code := once(t, nil, "restore", "--dir", dir, "--out", out, "--format", format, "--json")
		var said struct {
			Relative int64 `json:"relative_expiries"`
		}
		if err := json.Unmarshal([]byte(stdout), &said); err != nil || code != 0 || said.Relative != 20 {
			t.Fatalf("%s: code %d, %v, %+v\n%s%s", format, code, err, said, stdout, stderr)
		}
		appendOnly := "appendonly yes"
		if format == "rdb" {
			appendOnly = "appendonly no"
		}
		s := redistest.StartIn(t, out, appendOnly, "replicaof 127.0.0.1 1") // a replica expires nothing by itself
		const hour, minute = 3600_000, 60_000
		ttls := map[string]int64{
			"in the base": -1, "an-hour": hour, "a-minute": minute, "with-px": minute, "with-ex": hour, "getex": hour, "expire": hour,
			"has": 100_000, "has-none": -1, "greater": hour, "less": minute, "for-ever": 1 << 62, "saturated": 1 << 62, "in-multi": hour, "restored": hour,
			"gone": -2, "short": -2, // these two are there, and a replica denies it
		}
		for key, want := range ttls {
			got := s.Do("PTTL", key).(int64)
			if want < 0 && got != want || want > 1<<60 && got < want || 0 < want && want < 1<<60 && (got > want || got < want-50_000) {
				t.Errorf("%s: PTTL %s is %d, want %d", format, key, got, want)
			}
		}
		if n := s.Do("DBSIZE"); n != int64(len(ttls)) {
			t.Errorf("%s: %v keys, want %d", format, n, len(ttls))
		}
		if got := s.Do("GET", "an-hour"); got != "%" {
			t.Errorf("%s: GET an-hour is %v", format, got)
		}
		s.Kill()
	}
}

func TestKeysOfTrimmedSlotsAreNotRestored(t *testing.T) {
	t.Parallel()
	redistest.Path(t)
	// The slots are 12182 for foo, 5061 for bar and 15495 for a.
	commands := words("SELECT 0", "SET foo v", "SET bar v", "CLUSTER SETSLOT 12182 NODE x", "TRIMSLOTS RANGES 2 12182 12182 15495 16383",
		"SET a v", "MULTI", "TRIMSLOTS RANGES 1 5000 5061", "SET b v", "EXEC", "TRIMSLOTS RANGES 1 0 99999")
	dir := followed(t, commands, map[string]string{"{foo}x": "v", "{a}": "v", "{}foo": "v"})
	out := filepath.Join(t.TempDir(), "out")
	stdout, stderr, code := once(t, nil, "restore", "--dir", dir, "--out", out, "--check")
	if code != 0 || !strings.Contains(stdout, "4 commands for a node of a cluster") {
		t.Fatalf("code %d\n%s%s", code, stdout, stderr)
	}
	s := redistest.Load(t, out)
	if got := s.Do("EXISTS", "a", "b", "{}foo"); got != int64(3) || s.Do("DBSIZE") != int64(3) {
		t.Errorf("of a, b and {}foo there are %v, of %v keys: %v", got, s.Do("DBSIZE"), s.Do("KEYS", "*"))
	}
}

func TestTheLineThatStartsAServerDoesSoWhateverItsConfigurationSays(t *testing.T) {
	t.Parallel()
	server := redistest.Path(t)
	dir := followed(t, words("SELECT 20", "renamed k v", "renamed l v", "PEXPIRE l 3000"), map[string]string{"in the base": "v"})
	began := time.Now()
	poll.Seen(t, "the time of l runs out", func() (bool, string) { return time.Since(began) > 7*time.Second, "" })
	config := filepath.Join(t.TempDir(), "a master's.conf")
	text := "rename-command SET renamed\nappendfilename other.aof\nappenddirname others\ndbfilename other.rdb\nreplicaof 127.0.0.1 1\ndatabases 4\nport 1\ndir " + t.TempDir() + "\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"multipart", "aof", "rdb"} {
		work := t.TempDir()
		cmd := command(nil, "restore", "--dir", dir, "--out", "out", "--format", format, "--check", "--redis-server", server, "--redis-config", config)
		cmd.Dir = work
		stdout, err := cmd.CombinedOutput()
		_, line, ok := strings.Cut(string(stdout), "start it: ")
		line, _, _ = strings.Cut(line, "\n")
		if err != nil || !ok || !strings.Contains(line, "--port 7000") {
			t.Fatalf("%s: %v\n%s", format, err, stdout)
		}
		port := redistest.FreePort(t, "127.0.0.1")
		start := exec.Command("sh", "-c", "exec "+strings.Replace(line, "--port 7000", fmt.Sprint("--port ", port, " --bind 127.0.0.1"), 1))
		start.Dir = work
		if err := start.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = start.Process.Kill(); _ = start.Wait() })
		c := redis.NewClient(&redis.Options{Addr: fmt.Sprint("127.0.0.1:", port), DB: 20, Protocol: 2, DisableIdentity: true})
		defer c.Close()
		poll.Seen(t, "the server has loaded", func() (bool, string) {
			v, err := c.Get(context.Background(), "k").Result()
			return v == "v", fmt.Sprint(format, ": ", line, ": ", v, err)
		})
		role, err := c.Info(context.Background(), "replication").Result()
		if err != nil || !strings.Contains(role, "role:master") {
			t.Errorf("%s: %v, %s", format, err, role)
		}
		if !strings.Contains(string(stdout), "times in the stream") {
			t.Errorf("%s: of the key that ran out it says nothing:\n%s", format, stdout)
		}
	}
}

func TestRestoreAndVerifyShowABarOnATerminalAndTakeItAway(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "kept")
	if out, stderr, code := once(t, nil, "demo", "--dir", dir); code != 0 {
		t.Fatalf("code %d: %s%s", code, out, stderr)
	}
	for _, args := range [][]string{
		{"restore", "--out", filepath.Join(t.TempDir(), "restored"), "--no-link"},
		{"verify"},
	} {
		other, screen := terminal(t)
		cmd := command(nil, append(args, "--dir", dir)...)
		var stdout bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, screen
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		screen.Close()
		shown, _ := io.ReadAll(other) // EIO when nobody has the terminal any more
		other.Close()
		if err := cmd.Wait(); err != nil || stdout.Len() == 0 {
			t.Fatalf("%v: %v, %q, %s", args, err, stdout.String(), shown)
		}
		states := strings.Split(strings.TrimRight(string(shown), "\r"), "\r")
		last := states[len(states)-1]
		if !regexp.MustCompile(args[0]+` +\d+% \|.*B/s\)`).Match(shown) || strings.TrimSpace(last) != "" {
			t.Errorf("%v: the bar went through %q", args, states)
		}
	}
	if out, stderr, code := once(t, nil, "verify", "--dir", dir); code != 0 || stderr != "" {
		t.Errorf("without a terminal: code %d, %q, %q", code, out, stderr)
	}
}
