package integration

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"replicad/integration/poll"
	"replicad/integration/redistest"
	"replicad/replica/archive"
)

// A model is a scripted master that remembers every byte that it ever said, and
// what its keys were behind each command. It has an unbounded backlog.
type model struct {
	t    *testing.T
	addr string

	mu       sync.Mutex
	more     *sync.Cond
	r        *rand.Rand
	all      map[string]*history
	now      *history
	resting  bool // it writes nothing
	silent   bool // it sends nothing
	deaf     bool // it refuses connections
	over     bool // the test ends
	open     map[net.Conn]bool
	mayFull  bool // a full sync would be no fault
	full     int  // full syncs that the main link was given
	partial  int
	forks    int
	promised map[*history]int64 // the highest ACK
}

// history is what one replication id names: all of the parent up to fork, and
// bytes behind that.
type history struct {
	id     string
	parent *history // nil for the first after a restart
	fork   int64    // the last byte of the parent's that is this one's too
	bytes  []byte
	ends   []moment // boundaries, in order
	before map[string]string
}

// moment is a boundary: behind it the keys have these values.
type moment struct {
	offset int64
	sets   []string // key, value, key, value ...
}

func (h *history) end() int64 { return h.fork + int64(len(h.bytes)) }

// read gives the bytes behind an offset, up to another.
func (h *history) read(from, to int64) []byte {
	if from >= h.fork || h.parent == nil {
		return h.bytes[max(from-h.fork, 0) : to-h.fork]
	}
	if to <= h.fork {
		return h.parent.read(from, to)
	}
	return append(slices.Clone(h.parent.read(from, h.fork)), h.bytes[:to-h.fork]...)
}

// first is the offset before the oldest byte that there is.
func (h *history) first() int64 {
	for h.parent != nil {
		h = h.parent
	}
	return h.fork
}

// state is what the keys were at the last boundary at or before an offset.
func (h *history) state(offset int64) map[string]string {
	var s map[string]string
	if h.parent != nil {
		s = h.parent.state(min(offset, h.fork))
	} else {
		s = maps.Clone(h.before)
	}
	for _, m := range h.ends {
		if m.offset > offset {
			break
		}
		for i := 0; i < len(m.sets); i += 2 {
			s[m.sets[i]] = m.sets[i+1]
		}
	}
	return s
}

func startModel(t *testing.T, seed uint64) *model {
	m := &model{t: t, r: rand.New(rand.NewPCG(seed, 11)), all: map[string]*history{}, open: map[net.Conn]bool{}, promised: map[*history]int64{}}
	m.more = sync.NewCond(&m.mu)
	m.restart()
	s := script(t, m.converse)
	m.addr = s.addr
	ctx, stop := context.WithCancel(t.Context())
	var writer sync.WaitGroup
	writer.Go(func() {
		pace := time.NewTicker(5 * time.Millisecond)
		defer pace.Stop()
		for ctx.Err() == nil {
			<-pace.C
			m.write()
		}
	})
	t.Cleanup(func() {
		stop()
		writer.Wait()
		m.mu.Lock()
		m.over = true
		m.mu.Unlock()
		m.more.Broadcast()
	})
	return m
}

// newID gives a replication id that no other history has.
func (m *model) newID() string {
	b := make([]byte, 40)
	for i := range b {
		b[i] = "0123456789abcdef"[m.r.IntN(16)]
	}
	return string(b)
}

// restart has the master forget its history, and keep its keys. The caller holds
// mu, or nobody else is there.
func (m *model) restart() {
	h := &history{id: m.newID(), fork: int64(m.r.IntN(1000)), before: map[string]string{}}
	if m.now != nil {
		h.before = m.now.state(m.now.end())
	}
	m.all[h.id], m.now, m.mayFull = h, h, true
	m.cutAll()
}

// promote has a replica take the master's place that lacks the last bytes.
func (m *model) promote() {
	old := m.now
	at := old.end()
	// Not before what the id names: two failovers missed are a full sync.
	if n := len(old.ends); n > 0 && m.r.IntN(3) > 0 {
		at = old.ends[max(0, n-1-m.r.IntN(200))].offset
	}
	h := &history{id: m.newID(), parent: old, fork: at}
	// Where the link never followed old, it has nothing to go on from.
	if m.promised[old] == 0 {
		m.mayFull = true
	}
	m.all[h.id], m.now = h, h
	m.forks++
	m.cutAll()
}

func (m *model) cutAll() {
	for nc := range m.open {
		cut(nc, m.r.IntN(2) == 0)
	}
}

// cut ends a connection, by a RST or in order.
func cut(nc net.Conn, reset bool) {
	if tcp, ok := nc.(*net.TCPConn); ok && reset {
		_ = tcp.SetLinger(0)
	}
	nc.Close()
}

func request(args ...string) (b []byte) {
	b = fmt.Appendf(b, "*%d\r\n", len(args))
	for _, a := range args {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(a), a)
	}
	return b
}

// write is one turn of the writer: some commands, now and then a transaction, a
// large value, or a ping.
func (m *model) write() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.resting {
		return
	}
	h := m.now
	add := func(commands [][]string) {
		var sets []string
		for _, c := range commands {
			h.bytes = append(h.bytes, request(c...)...)
			if c[0] == "SET" {
				sets = append(sets, c[1], c[2])
			}
		}
		h.ends = append(h.ends, moment{h.end(), sets})
	}
	set := func() []string {
		value := strconv.FormatUint(m.r.Uint64(), 10)
		if m.r.IntN(200) == 0 {
			value = strings.Repeat(value, m.r.IntN(2000))
		}
		return []string{"SET", fmt.Sprint("key:", m.r.IntN(100)), value}
	}
	if len(h.bytes) == 0 {
		add([][]string{{"SELECT", "0"}})
	}
	for range m.r.IntN(12) {
		switch m.r.IntN(20) {
		case 0:
			add([][]string{{"PING"}})
		case 1:
			commands := [][]string{{"MULTI"}}
			for range 1 + m.r.IntN(10) {
				commands = append(commands, set())
			}
			add(append(commands, []string{"EXEC"}))
		default:
			add([][]string{set()})
		}
	}
	m.more.Broadcast()
}

// converse is one connection, from the accept on.
func (m *model) converse(c *conversation) {
	m.mu.Lock()
	m.open[c.Conn] = true
	deaf := m.deaf
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		delete(m.open, c.Conn)
		m.mu.Unlock()
	}()
	if deaf {
		cut(c.Conn, true)
		return
	}
	baseOnly, streams, h := false, false, (*history)(nil)
	for {
		args, err := c.command()
		if err != nil {
			return
		}
		word := strings.ToUpper(args[0])
		switch {
		case word == "PING":
			c.say("+PONG\r\n")
		case word == "INFO":
			text := m.info()
			c.say("$%d\r\n%s\r\n", len(text), text)
		case word == "REPLCONF" && strings.EqualFold(args[1], "rdb-only"):
			baseOnly = args[2] == "1"
			c.say("+OK\r\n")
		case word == "REPLCONF" && strings.EqualFold(args[1], "ACK"):
			offset, _ := strconv.ParseInt(args[2], 10, 64)
			m.acked(h, offset)
		case word == "REPLCONF":
			c.say("+OK\r\n")
		case word == "PSYNC" && !streams:
			var from int64
			var opening string
			h, from, opening = m.psync(args[1], args[2], baseOnly)
			if !c.say("%s", opening) || baseOnly {
				return
			}
			streams = true
			var sender sync.WaitGroup
			defer sender.Wait()
			defer c.Close()
			sender.Go(func() { m.send(c, h, from) })
		default:
			m.t.Errorf("the master was sent %q", args)
			return
		}
	}
}

func (m *model) info() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	before, second := strings.Repeat("0", 40), int64(-1)
	if m.now.parent != nil {
		before, second = m.now.parent.id, m.now.fork+1
	}
	return fmt.Sprintf("# Replication\r\nrole:master\r\nconnected_slaves:0\r\nmaster_replid:%s\r\nmaster_replid2:%s\r\nmaster_repl_offset:%d\r\nsecond_repl_offset:%d\r\n",
		m.now.id, before, m.now.end(), second)
}

// psync answers as masterTryPartialResynchronization does, with an unbounded
// backlog.
func (m *model) psync(id, at string, baseOnly bool) (h *history, from int64, opening string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h = m.now
	next, _ := strconv.ParseInt(at, 10, 64)
	last := next - 1
	known := id == h.id && last <= h.end() || h.parent != nil && id == h.parent.id && last <= h.fork
	if known && last >= h.first() {
		m.partial++
		return h, last, "+CONTINUE " + h.id + "\r\n"
	}
	if !baseOnly {
		// The first refusal of a history is not taken: the link asks again.
		m.full++
		if !m.mayFull {
			m.t.Errorf("PSYNC %s %s: there was no need for a full sync; the master is at %d of %s", id, at, h.end(), h.id)
		}
	}
	image := dump(h.state(h.end()), false)
	return h, h.end(), fmt.Sprintf("+FULLRESYNC %s %d\r\n$%d\r\n%s", h.id, h.end(), len(image), image)
}

// acked takes an ACK: what is acknowledged must have been sent, and must never be
// missing again.
func (m *model) acked(h *history, offset int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if h == nil || offset == 0 {
		return
	}
	if offset > h.end() {
		m.t.Errorf("ACK %d of a history that ends at %d", offset, h.end())
	}
	m.promised[h] = max(m.promised[h], offset)
	if h == m.now {
		m.mayFull = false
	}
}

// send sends a history from an offset on, in pieces of any size.
func (m *model) send(c *conversation, h *history, from int64) {
	r := rand.New(rand.NewPCG(uint64(from), uint64(c.number)))
	for {
		m.mu.Lock()
		for !m.over && m.open[c.Conn] && (m.silent || from == h.end()) {
			m.more.Wait()
		}
		if m.over || !m.open[c.Conn] {
			m.mu.Unlock()
			return
		}
		piece := slices.Clone(h.read(from, min(h.end(), from+1+int64(r.IntN(20_000)))))
		m.mu.Unlock()
		if _, err := c.Write(piece); err != nil {
			return
		}
		from += int64(len(piece))
	}
}

// set changes what the master does.
func (m *model) set(change func()) {
	m.mu.Lock()
	change()
	m.mu.Unlock()
	m.more.Broadcast()
}

// compare reads every generation, and wants the bytes that the model said. It
// returns the generations.
func (m *model) compare(dir string) []archive.Generation {
	m.t.Helper()
	var sound []archive.Generation
	for _, g := range generations(m.t, dir, "main") {
		if !g.Complete {
			continue
		}
		if g.Problem != "" || g.Damaged > 0 {
			m.t.Fatalf("generation %d: %s, %d segments damaged", g.Number, g.Problem, g.Damaged)
		}
		sound = append(sound, g)
		r, err := g.OpenReader()
		if err != nil {
			m.t.Fatal(err)
		}
		got := []byte(nil)
		for _, s := range r.Segments {
			b, err := os.ReadFile(r.SegmentPath(s))
			if err != nil {
				m.t.Fatal(err)
			}
			got = append(got, b[s.Header:min(int64(len(b)), s.Header+s.To-s.From)]...)
		}
		from, to := r.Timeline.BaseOffset, r.End()
		r.Close()
		m.mu.Lock()
		h := m.historyOf(g)
		if h == nil || to > h.end() || from < h.first() {
			m.mu.Unlock()
			m.t.Fatalf("generation %d has %d to %d of %+v, which the master never said", g.Number, from, to, g.Histories)
		}
		if want := h.read(from, to); !bytes.Equal(got, want) {
			m.t.Errorf("generation %d has %d bytes behind %d that are not the %d that the master said", g.Number, len(got), from, len(want))
		}
		m.mu.Unlock()
	}
	return sound
}

func (m *model) historyOf(g archive.Generation) *history {
	return m.all[g.Histories[len(g.Histories)-1].ReplID]
}

// kept wants everything in the generations that was ever acknowledged.
func (m *model) kept(all []archive.Generation) {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for h, offset := range m.promised {
		if !slices.ContainsFunc(all, func(g archive.Generation) bool {
			own := m.historyOf(g)
			for ; own != nil; own = own.parent {
				if own == h {
					break
				}
				if offset > own.fork {
					return false
				}
			}
			return own != nil && g.BaseOffset <= offset && offset <= g.EndOffset
		}) {
			m.t.Errorf("offset %d of %s was acknowledged, and no generation has it: %+v", offset, h.id, all)
		}
	}
}

// loads restores a random moment of a random generation, and compares the keys.
func (m *model) loads(r *rand.Rand, dir string, all []archive.Generation) {
	m.t.Helper()
	g := all[r.IntN(len(all))]
	at := g.BaseOffset + r.Int64N(g.EndOffset-g.BaseOffset+1)
	out := filepath.Join(m.t.TempDir(), "out")
	restoreTo(m.t, dir, "--generation", strconv.Itoa(g.Number), "--to", fmt.Sprint("offset:", at), "--out", out)
	m.mu.Lock()
	want := m.historyOf(g).state(at)
	m.mu.Unlock()
	s := redistest.Load(m.t, out)
	if n := s.Do("DBSIZE"); n != int64(len(want)) {
		m.t.Errorf("generation %d at %d: %v keys, want %d", g.Number, at, n, len(want))
	}
	for key, value := range want {
		if got := s.Do("GET", key); got != value {
			m.t.Errorf("generation %d at %d: %s is %.40v, want %.40s", g.Number, at, key, got, value)
		}
	}
	s.Kill()
	if err := os.RemoveAll(out); err != nil {
		m.t.Fatal(err)
	}
}

// fillUp fills a file system, of which others may write to it at the same time,
// but for about so many bytes.
func fillUp(t *testing.T, dir string, but int64) (makeRoom func()) {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size := int64(0)
	for step := int64(1 << 20); step >= 4<<10; {
		switch err := unix.Fallocate(int(f.Fd()), 0, size, step); err {
		case nil:
			size += step
		case unix.ENOSPC:
			step /= 2
		default:
			t.Fatal(err)
		}
	}
	if err := f.Truncate(max(0, size-but)); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNothingIsLostInASoakOfCutsOrdersFullDisksAndKills runs 30 minutes with
// REPLICAD_SOAK=1. The machine's clock is everybody's: a clock that is stepped
// is tested in package archive.
func TestNothingIsLostInASoakOfCutsOrdersFullDisksAndKills(t *testing.T) {
	t.Parallel()
	redistest.Path(t)
	seed := uint64(time.Now().UnixNano())
	rounds, until := count(t, fmt.Sprintf("rounds of faults (seed %d)", seed), 4, 1_000_000), time.Now().Add(30*time.Minute)
	size := "64m"
	if soak() {
		size = "1g"
	}
	dir := mountTmpfs(t, size, "")
	m := startModel(t, seed)
	r := rand.New(rand.NewPCG(seed, 12))
	port := redistest.FreePort(t, "127.0.0.1")
	host, masterPort, _ := net.SplitHostPort(m.addr)
	start := func() *process {
		return run(t, dir, "--replicaof", "main="+m.addr, "--port", strconv.Itoa(port), "--segment-size", "100kb",
			"--auto-aof-rewrite-min-size", "300kb", "--appendfsync", []string{"everysec", "always", "no"}[r.IntN(3)])
	}
	d := start()
	// while is how long a fault lasts: the master's pace, not a wait for anything.
	while := func() { time.Sleep(time.Duration(10+r.IntN(700)) * time.Millisecond) }
	ask := func(args ...any) {
		c := client(t, port)
		defer c.Close()
		_ = c.Do(context.Background(), args...).Err() // it may be refused just now
	}
	faults := []struct {
		name string
		do   func()
	}{
		{"cut", func() { m.set(m.cutAll) }},
		{"cut again and again", func() {
			for range 5 {
				m.set(m.cutAll)
				time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
			}
		}},
		{"silence", func() { m.set(func() { m.silent = true }); while(); m.set(func() { m.silent = false }) }},
		{"refuse", func() {
			m.set(func() { m.deaf = true; m.cutAll() })
			while()
			m.set(func() { m.deaf = false })
		}},
		{"restart of the master", func() { m.set(m.restart) }},
		{"failover", func() { m.set(m.promote) }},
		{"kill -9", func() { d.kill(); m.kept(m.compare(dir)); d = start() }},
		{"SIGTERM", func() { d.stop(); m.kept(m.compare(dir)); d = start() }},
		{"freeze", func() { d.freeze(); while(); d.thaw() }},
		{"freeze and cut", func() { d.freeze(); m.set(m.cutAll); while(); d.thaw() }},
		{"full disk", func() {
			makeRoom := fillUp(t, dir, int64(r.IntN(64<<10)))
			while()
			if r.IntN(3) == 0 { // it ends, and starts, without room
				d.kill()
				d = start()
				while()
			}
			makeRoom()
		}},
		{"no descriptors", func() {
			d.waitLog("replicad is running") // it refuses to start with so few
			fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.cmd.Process.Pid))
			if err != nil {
				t.Fatal(err)
			}
			var before unix.Rlimit
			few := unix.Rlimit{Cur: uint64(len(fds) - r.IntN(3)), Max: 1 << 16}
			if err := unix.Prlimit(d.cmd.Process.Pid, unix.RLIMIT_NOFILE, nil, &before); err != nil {
				t.Fatal(err)
			}
			few.Max = before.Max
			if err := unix.Prlimit(d.cmd.Process.Pid, unix.RLIMIT_NOFILE, &few, nil); err != nil {
				t.Fatal(err)
			}
			if r.IntN(2) == 0 {
				m.set(m.cutAll)
			}
			while()
			if err := unix.Prlimit(d.cmd.Process.Pid, unix.RLIMIT_NOFILE, &before, nil); err != nil {
				t.Fatal(err)
			}
		}},
		{"rebase", func() { ask("BGSAVE") }},
		{"rebase and kill -9", func() { ask("BGSAVE"); time.Sleep(time.Duration(r.IntN(30)) * time.Millisecond); d.kill(); d = start() }},
		{"follow nobody", func() { ask("REPLICAOF", "NO", "ONE"); while(); order(t, port, host, masterPort) }},
		{"SIGHUP", func() {
			d.waitLog("replicad is running") // before that, the signal ends it
			_ = d.cmd.Process.Signal(syscall.SIGHUP)
		}},
	}
	done := map[string]int{}
	longest := map[int]int64{} // where each generation was seen to end
	for round := 0; round < rounds && time.Now().Before(until) && !t.Failed(); round++ {
		for range 6 {
			f := faults[r.IntN(len(faults))]
			done[f.name]++
			f.do()
			while()
		}
		// It heals by itself, from whatever it was.
		m.set(func() { m.resting = true })
		poll.Seen(t, "the archive to end where the master does", func() (bool, string) {
			m.mu.Lock()
			id, end := m.now.id, m.now.end()
			m.mu.Unlock()
			g, ok := newestIfAny(t, dir, "main")
			return ok && g.EndOffset == end && g.Histories[len(g.Histories)-1].ReplID == id, fmt.Sprintf("%+v\nthe master is at %d of %s", g, end, id)
		})
		all := m.compare(dir)
		m.kept(all)
		for _, g := range all {
			if g.EndOffset < longest[g.Number] {
				t.Errorf("generation %d ended at %d, and ends at %d", g.Number, longest[g.Number], g.EndOffset)
			}
			longest[g.Number] = g.EndOffset
		}
		for n := range longest {
			if !slices.ContainsFunc(all, func(g archive.Generation) bool { return g.Number == n }) {
				t.Errorf("generation %d is gone", n)
			}
		}
		m.loads(r, dir, all)
		m.set(func() { m.resting = false })
	}
	d.stop()
	if stdout, stderr, code := once(t, nil, "verify", "--dir", dir); code != 0 {
		t.Errorf("verify: code %d\n%s%s", code, stdout, stderr)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	t.Logf("%d bytes in the last history, %d generations, %d failovers, %d full syncs, %d partial resyncs; faults: %v",
		len(m.now.bytes), len(longest), m.forks, m.full, m.partial, done)
}
