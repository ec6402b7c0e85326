package replica_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"replicad/replica"
	"replicad/replica/study"
)

// A conversation is a text file in testdata: what replica and master say to
// each other, in the form of a recorded transcript, and what must become of it.
// testdata/README describes the form for those who write one.
type conversation struct {
	name    string
	cfg     replica.Config
	store   storeOptions
	steps   []step
	expects []expectation
	slow    bool // waits for time to pass: replayed less often
}

type stepKind int

const (
	fromReplica stepKind = iota // R>M
	fromMaster                  // M>R
	masterCloses
	diskSyncs
)

// step is one line of a conversation.
type step struct {
	kind     stepKind
	line     int
	commands [][]string // R>M
	data     []byte     // M>R
	// How many of data's bytes are replies (and the line before a payload),
	// payload (with its EOF mark), and stream; in this order.
	replies, payload, stream int
	marked                   bool // the payload that ends here ends with an EOF mark
}

type expectation struct {
	line int
	what string
	args []string
}

// outcome is what a replica must have after a conversation, computed from the
// master's bytes alone.
type outcome struct {
	payload []byte // nil without a full sync
	full    replica.FullSync
	start   int64  // where the history begins
	stream  []byte // from there on
}

func loadConversations(t testing.TB, dir string) []conversation {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", dir, "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no conversations in testdata/%s: %v", dir, err)
	}
	var all []conversation
	for _, f := range files {
		all = append(all, loadConversation(t, f))
	}
	return all
}

func loadConversation(t testing.TB, file string) conversation {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c, err := parseConversation(string(text))
	if err != nil {
		t.Fatalf("%s:%v", file, err)
	}
	c.name = strings.TrimSuffix(filepath.Base(file), ".txt")
	return c
}

// parseConversation reads a conversation. Errors begin with the line's number.
func parseConversation(text string) (conversation, error) {
	var c conversation
	c.cfg.Master.Name = "m"
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if err := c.parseLine(i+1, line); err != nil {
			return c, fmt.Errorf("%d: %w", i+1, err)
		}
	}
	if len(c.steps) == 0 {
		return c, fmt.Errorf("1: nobody says anything")
	}
	if len(c.expects) == 0 {
		return c, fmt.Errorf("1: nothing is expected")
	}
	return c, nil
}

func (c *conversation) parseLine(n int, line string) error {
	word, rest, _ := strings.Cut(line, " ")
	rest = strings.TrimSpace(rest)
	switch word {
	case "R>M", "M>R":
		data, err := parseBytes(rest)
		if err != nil {
			return err
		}
		if word == "M>R" {
			c.steps = append(c.steps, step{kind: fromMaster, line: n, data: data})
			return nil
		}
		commands, err := parseCommands(data)
		c.steps = append(c.steps, step{kind: fromReplica, line: n, commands: commands})
		return err
	case "handshake":
		for l := range strings.Lines(study.Handshake) {
			if err := c.parseLine(n, strings.TrimSpace(l)); err != nil {
				return err
			}
		}
		return nil
	case "close":
		c.steps = append(c.steps, step{kind: masterCloses, line: n})
		return nil
	case "fsync":
		c.steps = append(c.steps, step{kind: diskSyncs, line: n})
		return nil
	}
	words, err := splitWords(rest)
	if err != nil || len(words) == 0 {
		return fmt.Errorf("%q makes no sense (%v)", line, err)
	}
	switch word {
	case "config":
		return c.configure(words)
	case "history":
		p, err := parsePosition(words)
		c.store.position = &p
		return err
	case "expect":
		c.expects = append(c.expects, expectation{n, words[0], words[1:]})
		return nil
	}
	return fmt.Errorf("unknown word %q", word)
}

// parseBytes reads the columns of a transcript: seconds, bytes and the bytes
// themselves with C escapes. The first two may be missing together.
func parseBytes(s string) ([]byte, error) {
	columns, _, _ := strings.Cut(s, `"`)
	text, err := strconv.Unquote(s[len(columns):])
	if err != nil {
		return nil, fmt.Errorf("the bytes %s: %w", s[len(columns):], err)
	}
	switch f := strings.Fields(columns); len(f) {
	case 0:
	case 2:
		if n, err := strconv.Atoi(f[1]); err != nil || n != len(text) {
			return nil, fmt.Errorf("the line says %s bytes, but has %d", f[1], len(text))
		}
	default:
		return nil, fmt.Errorf("want seconds and bytes before the text, got %q", columns)
	}
	if text == "" {
		return nil, fmt.Errorf("no bytes")
	}
	return []byte(text), nil
}

// parseCommands reads all of p as commands: RESP arrays, or the inline form of
// old replicas.
func parseCommands(p []byte) ([][]string, error) {
	var all [][]string
	for len(p) > 0 {
		cmd, n, err := parseCommand(p)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return nil, fmt.Errorf("the command %q is cut", p)
		}
		all = append(all, cmd)
		p = p[n:]
	}
	return all, nil
}

// parseCommand reads one command, simply and slowly, and shares no code with
// what it tests. n is 0 while p holds no whole command.
func parseCommand(p []byte) (cmd []string, n int, err error) {
	line, rest, ok := bytes.Cut(p, []byte("\r\n"))
	if !ok {
		return nil, 0, nil
	}
	if len(line) == 0 || line[0] != '*' {
		return strings.Fields(string(line)), len(line) + 2, nil
	}
	args, err := strconv.Atoi(string(line[1:]))
	if err != nil {
		return nil, 0, err
	}
	for range args {
		line, after, ok := bytes.Cut(rest, []byte("\r\n"))
		if !ok {
			return nil, 0, nil
		}
		if len(line) < 2 || line[0] != '$' {
			return nil, 0, fmt.Errorf("%q is no bulk string", line)
		}
		size, err := strconv.Atoi(string(line[1:]))
		if err != nil {
			return nil, 0, err
		}
		if len(after) < size+2 {
			return nil, 0, nil
		}
		cmd = append(cmd, string(after[:size]))
		rest = after[size+2:]
	}
	return cmd, len(p) - len(rest), nil
}

// splitWords cuts at blanks; what stands in double quotes is one word.
func splitWords(s string) ([]string, error) {
	var words []string
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		if s[0] == '#' {
			break
		}
		if s[0] != '"' {
			word, rest, _ := strings.Cut(s, " ")
			words, s = append(words, word), rest
			continue
		}
		quoted, err := strconv.QuotedPrefix(s)
		if err != nil {
			return nil, err
		}
		word, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, err
		}
		words, s = append(words, word), s[len(quoted):]
	}
	return words, nil
}

// parsePosition reads <replid> <offset> [db <n>].
func parsePosition(words []string) (replica.Position, error) {
	var p replica.Position
	if len(words) != 2 && (len(words) != 4 || words[2] != "db") {
		return p, fmt.Errorf("want <replid> <offset> [db <n>]")
	}
	p.ReplID = words[0]
	var err error
	if p.Offset, err = strconv.ParseInt(words[1], 10, 64); err == nil && len(words) == 4 {
		p.DB, err = strconv.Atoi(words[3])
	}
	return p, err
}

// configure sets a flag of the replica, by the name that replicad gives it.
func (c *conversation) configure(words []string) error {
	if len(words) != 2 {
		return fmt.Errorf("want config <flag> <value>")
	}
	value := words[1]
	var err error
	switch words[0] {
	case "masterauth":
		c.cfg.Master.Password = value
	case "masteruser":
		c.cfg.Master.User = value
	case "replica-announce-ip":
		c.cfg.AnnounceIP = value
	case "replica-announce-port":
		c.cfg.AnnouncePort, err = strconv.Atoi(value)
	case "appendfsync":
		c.cfg.AckDurable = value == "always"
		c.store.byHand = true
	case "repl-timeout":
		c.cfg.ReplTimeout, err = time.ParseDuration(value)
		c.slow = true
	case "repl-syncio-timeout":
		c.cfg.ReplSyncioTimeout, err = time.ParseDuration(value)
		c.slow = true
	case "repl-bgsave-timeout":
		c.cfg.ReplBGSaveTimeout, err = time.ParseDuration(value)
		c.slow = true
	case "free-bytes":
		c.store.largest, err = strconv.ParseInt(value, 10, 64)
	case "proto-max-bulk-len":
		c.cfg.Limits.MaxBulk, err = strconv.ParseInt(value, 10, 64)
	case "replay":
		c.slow = value == "seldom"
	default:
		return fmt.Errorf("unknown flag %q", words[0])
	}
	return err
}

// analyse computes what must become of the conversation, and marks for each
// step which of its bytes are replies, payload and stream. It knows the whole
// conversation, and so need not care how bytes are cut.
func (c *conversation) analyse() outcome {
	var o outcome
	if p := c.store.position; p != nil {
		o.start = p.Offset
	}
	from := 0
	for i := 0; i <= len(c.steps); i++ {
		if i == len(c.steps) || c.steps[i].kind == masterCloses {
			c.analyseConnection(c.steps[from:i], &o)
			from = i + 1
		}
	}
	return o
}

func (c *conversation) analyseConnection(steps []step, o *outcome) {
	var all []byte
	for _, s := range steps {
		all = append(all, s.data...)
	}
	replies, payload, marked := len(all), 0, false
	full := replica.FullSync{Offset: -1}
	at := 0
lines:
	for at < len(all) {
		end := bytes.IndexByte(all[at:], '\n')
		if end < 0 {
			break
		}
		line := strings.TrimSuffix(string(all[at:at+end]), "\r")
		at += end + 1
		word, args, _ := strings.Cut(line, " ")
		switch {
		case word == "+CONTINUE":
			replies = at
			o.stream = append(o.stream, all[at:]...)
			break lines
		case word == "+FULLRESYNC":
			id, offset, _ := strings.Cut(args, " ")
			full.ReplID = id
			full.Offset, _ = strconv.ParseInt(offset, 10, 64)
		case strings.HasPrefix(line, "$EOF:"):
			mark := []byte(line[len("$EOF:"):])
			replies, marked = at, true
			end := bytes.Index(all[at:], mark)
			if end < 0 || len(mark) != 40 {
				payload = len(all) - at // the master never comes to its end
				break lines
			}
			full.Size = -1
			o.fullSync(full, all[at:at+end], all[at+end+len(mark):])
			payload = end + len(mark)
			break lines
		case strings.HasPrefix(line, "$"):
			size, err := strconv.ParseInt(line[1:], 10, 64)
			if err != nil || size < 0 {
				continue
			}
			replies = at
			if size > int64(len(all)-at) {
				payload = len(all) - at
				break lines
			}
			payload = int(size)
			full.Size = size
			o.fullSync(full, all[at:at+payload], all[at+payload:])
			break lines
		}
	}
	for i := range steps {
		n := len(steps[i].data)
		steps[i].replies = min(n, replies)
		replies -= steps[i].replies
		steps[i].payload = min(n-steps[i].replies, payload)
		payload -= steps[i].payload
		steps[i].stream = n - steps[i].replies - steps[i].payload
		steps[i].marked = marked && steps[i].payload > 0 && payload == 0
	}
}

func (o *outcome) fullSync(full replica.FullSync, payload, stream []byte) {
	full.Offset = max(full.Offset, 0) // SYNC tells none
	o.full, o.start = full, full.Offset
	o.payload = append([]byte{}, payload...)
	o.stream = append([]byte{}, stream...)
}

// boundaries gives all places where a stream may be cut, as redis-server would
// find them: offset to selected database.
func boundaries(stream []byte, start int64, db int) map[int64]int {
	cuts := map[int64]int{start: db}
	at, multi, before := start, false, db
	for len(stream) > 0 {
		cmd, n, err := parseCommand(stream)
		if n == 0 || err != nil {
			break
		}
		stream = stream[n:]
		at += int64(n)
		switch name := strings.ToUpper(strings.Join(cmd[:min(1, len(cmd))], "")); name {
		case "SELECT":
			db, _ = strconv.Atoi(cmd[1])
		case "MULTI":
			multi, before = true, db
		case "EXEC":
			multi = false
		case "DISCARD":
			multi, db = false, before
		}
		if !multi {
			cuts[at] = db
		}
	}
	return cuts
}

func TestConversationFilesThatMakeNoSenseAreRefused(t *testing.T) {
	const good = "R>M \"PING\\r\\n\"\nexpect state NONE\n"
	if _, err := parseConversation(good); err != nil {
		t.Fatalf("the good one is refused: %v", err)
	}
	for _, bad := range []string{
		"",
		"R>M \"PING\\r\\n\"\n", // expects nothing
		"expect state NONE\n",  // says nothing
		"R>M 0.1 7 \"PING\\r\\n\"\nexpect state NONE\n",
		"R>M 0.1 \"PING\\r\\n\"\nexpect state NONE\n",
		"R>M \"PING\"\nexpect state NONE\n",
		"M>R PONG\nexpect state NONE\n",
		good + "config masterauth\n",
		good + "config colour red\n",
		good + "history 1 2 3\n",
		good + "whistle\n",
	} {
		if _, err := parseConversation(bad); err == nil {
			t.Errorf("taken: %q", bad)
		}
	}
}
