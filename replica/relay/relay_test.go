package relay_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"replicad/integration/poll"
	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/master"
	"replicad/replica/rdb/rdbtest"
	"replicad/replica/relay"
	"replicad/replica/resp"
)

const patience = time.Minute

var id = strings.Repeat("a", 40)

// log is an archive with the bytes that its master has sent.
type log struct {
	t    *testing.T
	a    *archive.Archive
	dir  string
	rdb  []byte
	base int64
	sent []byte
}

func newLog(t *testing.T) *log {
	t.Helper()
	l := &log{t: t, dir: filepath.Join(t.TempDir(), "main"), rdb: rdbtest.Empty(0, true), base: 1000}
	var err error
	if l.a, err = archive.Open(l.dir, archive.Options{AppendFsync: archive.No}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.a.Close() })
	l.full(id)
	return l
}

// full has the archive take a full sync.
func (l *log) full(id string) {
	l.t.Helper()
	b, err := l.a.BeginBase(replica.FullSync{ReplID: id, Offset: l.base, Size: -1})
	if err == nil {
		_, err = b.Write(l.rdb)
	}
	if err == nil {
		_, err = b.Commit()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	l.sent = nil
}

func (l *log) end() int64 { return l.base + int64(len(l.sent)) }

// send has the master send commands of so many bytes.
func (l *log) send(value int) {
	l.t.Helper()
	p := resp.AppendCommand(nil, "SET", fmt.Sprint("key", len(l.sent)), strings.Repeat("v", value))
	for rest := p; len(rest) > 0; {
		n := copy(l.a.Buffer(), rest)
		rest = rest[n:]
		l.sent = append(l.sent, p[len(p)-len(rest)-n:len(p)-len(rest)]...)
		at := l.end()
		if len(rest) > 0 {
			at = l.end() - int64(len(p)-len(rest))
		}
		l.a.Commit(n, replica.Boundary{Offset: at})
		if n == 0 {
			time.Sleep(time.Millisecond)
		}
	}
}

func (l *log) relay(cfg relay.Config) *relay.Relay {
	cfg.Lineage.Dir = l.dir
	if cfg.Watch == nil {
		cfg.Watch = l.a.Watch
	}
	cfg.End = func() int64 { return l.a.Progress().Stored }
	r := relay.New(cfg)
	l.t.Cleanup(r.Close)
	return r
}

// side is the relay's side of a connection.
type side struct {
	*net.TCPConn
	r   *bufio.Reader
	raw bool // the kernel may send files
}

func (s side) Query() ([][]byte, error) {
	line, err := s.r.ReadBytes('\n')
	return bytes.Fields(line), err
}

func (s side) Raw() (syscall.RawConn, bool) {
	raw, err := s.SyscallConn()
	return raw, err == nil && s.raw
}

// peer is the replica's side.
type peer struct {
	t *testing.T
	net.Conn
	r       *bufio.Reader
	refused string
	ended   chan struct{} // closed when the relay has let it go
}

// ask has a replica ask for something behind a handshake.
func ask(t *testing.T, r *relay.Relay, raw bool, lines ...string) *peer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	in, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, Conn: c, r: bufio.NewReader(c), ended: make(chan struct{})}
	var h master.Handshake
	for _, line := range lines[:len(lines)-1] {
		h.Replconf(bytes.Fields([]byte(line)))
	}
	q, refusal := h.Request(bytes.Fields([]byte(lines[len(lines)-1])))
	if refusal != nil {
		t.Fatalf("%s", refusal)
	}
	a, no := r.Answer(q, in.RemoteAddr())
	if p.refused = no; no != "" {
		in.Close()
		return p
	}
	go func() {
		r.Feed(side{in.(*net.TCPConn), bufio.NewReader(in), raw}, q, a)
		close(p.ended)
	}()
	return p
}

func (p *peer) line() string {
	p.t.Helper()
	for {
		s, err := p.r.ReadString('\n')
		if err != nil {
			p.t.Fatalf("%q, %v", s, err)
		}
		if s != "\n" {
			return strings.TrimSpace(s)
		}
	}
}

// wants reads exactly these bytes.
func (p *peer) wants(want []byte) {
	p.t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(p.r, got); err != nil || !bytes.Equal(got, want) {
		p.t.Fatalf("%d bytes of %d came, %v; equal: %v", n, len(want), err, bytes.Equal(got, want))
	}
}

func (p *peer) ends() {
	p.t.Helper()
	if rest, err := io.ReadAll(p.r); len(rest) > 0 {
		p.t.Fatalf("%d bytes came, %v", len(rest), err)
	}
}

func (p *peer) full(l *log, id string) {
	p.t.Helper()
	if got, want := p.line(), fmt.Sprintf("+FULLRESYNC %s %d", id, l.base); got != want {
		p.t.Fatalf("%q, want %q", got, want)
	}
	if got, want := p.line(), fmt.Sprintf("$%d", len(l.rdb)); got != want {
		p.t.Fatalf("%q, want %q", got, want)
	}
	p.wants(l.rdb)
}

const psync2 = "REPLCONF capa eof capa psync2"

func TestBehindTheRDBExactlyTheHistorysBytesCome(t *testing.T) {
	t.Parallel()
	for _, raw := range []bool{true, false} {
		l := newLog(t)
		l.send(5 << 20) // more than a share, and than a socket holds
		r := l.relay(relay.Config{})
		p := ask(t, r, raw, psync2, "PSYNC ? -1")
		p.full(l, id)
		p.wants(l.sent)
		for range 20 {
			at := len(l.sent)
			l.send(10)
			p.wants(l.sent[at:])
		}
		// Anywhere, also in the middle of a command.
		for at := l.end() - 30; at <= l.end(); at++ {
			q := ask(t, r, raw, psync2, fmt.Sprintf("PSYNC %s %d", strings.ToUpper(id), at+1))
			if got := q.line(); got != "+CONTINUE "+id {
				t.Fatal(got)
			}
			q.wants(l.sent[at-l.base:])
			q.Close()
		}
		if s := r.Stats(); s.SyncFull != 1 || s.SyncPartialOK != 31 || s.SyncPartialErr != 0 {
			t.Errorf("%+v", s)
		}
	}
}

func TestAReplicaBeyondTheEndWaitsUntilTheSameBytesHaveCome(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	r := l.relay(relay.Config{})
	l.send(10)
	want := fmt.Sprintf("PSYNC %s %d", id, l.end()+10)
	poll.Until(t, "all is stored", func() bool { return l.a.Progress().Stored == l.end() })
	if p := ask(t, r, true, psync2, want); !strings.HasPrefix(p.refused, "NOMASTERLINK ") {
		t.Errorf("beyond the end: %q", p.refused)
	}
	l.send(10)
	poll.Until(t, "it is granted", func() bool { return ask(t, r, true, psync2, want).refused == "" })
	for _, no := range []string{"PSYNC " + id + " 9223372036854775807", "PSYNC " + id + " -9223372036854775808", "PSYNC " + id + " 5"} {
		p := ask(t, r, true, psync2, no)
		if beyond := strings.HasSuffix(no, "7"); beyond != strings.HasPrefix(p.refused, "NOMASTERLINK ") {
			t.Errorf("%s: %q", no, p.refused)
		} else if !beyond {
			p.full(l, id)
		}
	}
}

func TestAChangeOfIdCutsTheReplicasBeforeTheyRunPastIt(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	r := l.relay(relay.Config{})
	l.send(10)
	p := ask(t, r, true, psync2, "PSYNC ? -1")
	p.full(l, id)
	p.wants(l.sent)
	at, next := l.end(), strings.Repeat("b", 40)
	l.a.Continue(next)
	l.send(10)
	p.ends()
	old := ask(t, r, true, "PSYNC "+id+" "+strconv.FormatInt(at+1, 10)) // without psync2
	old.full(l, next)
	q := ask(t, r, true, psync2, "PSYNC "+id+" "+strconv.FormatInt(at+1, 10))
	if got := q.line(); got != "+CONTINUE "+next {
		t.Fatal(got)
	}
	q.wants(l.sent[at-l.base:])
	beyond := ask(t, r, true, psync2, "PSYNC "+id+" "+strconv.FormatInt(at+2, 10))
	beyond.full(l, next)
	before := ask(t, r, true, psync2, fmt.Sprintf("PSYNC %s %d", next, l.base+1)) // the id names all that led to it
	if got := before.line(); got != "+CONTINUE "+next {
		t.Fatal(got)
	}
	before.wants(l.sent)
}

func TestAFullSyncOfTheArchiveCutsTheReplicas(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	r := l.relay(relay.Config{})
	l.send(10)
	p := ask(t, r, true, psync2, "PSYNC ? -1")
	p.full(l, id)
	p.wants(l.sent)
	l.base = 5000
	l.full(strings.Repeat("c", 40))
	p.ends()
	ask(t, r, true, psync2, fmt.Sprintf("PSYNC %s %d", id, 1010)).full(l, strings.Repeat("c", 40))
}

func TestAReplicaThatWantsABaseAloneGetsAYoungOneAndNothingBehindIt(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	l.send(10)
	p := ask(t, l.relay(relay.Config{MaxBaseAge: time.Hour}), true, "REPLCONF rdb-only 1", "PSYNC ? -1")
	p.full(l, id)
	p.ends()
	old := l.relay(relay.Config{MaxBaseAge: time.Nanosecond})
	if p := ask(t, old, true, "REPLCONF rdb-only 1", "SYNC"); !strings.Contains(p.refused, "restore --format rdb") {
		t.Errorf("an old base: %q", p.refused)
	}
	ask(t, old, true, psync2, "PSYNC ? -1").full(l, id)
}

func TestAReplicaThatWantsABaseAloneAndLeavesBeforeItHoldsNothing(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	var watching atomic.Int64
	cfg := relay.Config{Watch: func(more chan<- struct{}) func() {
		watching.Add(1)
		stop := l.a.Watch(more)
		return func() { watching.Add(-1); stop() }
	}}
	for name, leaves := range map[string]func(*relay.Relay, *peer){
		"the relay is closed": func(r *relay.Relay, p *peer) {},
		"it takes the base":   func(r *relay.Relay, p *peer) { p.full(l, id) },
	} {
		r := l.relay(cfg)
		if name == "the relay is closed" {
			r.Close()
		}
		p := ask(t, r, true, "REPLCONF rdb-only 1", "PSYNC ? -1")
		leaves(r, p)
		p.Close()
		<-p.ended
		if n := watching.Load(); n != 0 {
			t.Errorf("%s: %d streams of it are open", name, n)
		}
	}
}

func TestAReplicaThatLeavesInTheRDBWaitsLongerEachTime(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	r := l.relay(relay.Config{})
	handshake := []string{"REPLCONF listening-port 7401", psync2, "PSYNC ? -1"}
	p := ask(t, r, true, handshake...)
	p.full(l, id)
	p.Close()
	<-p.ended
	began := time.Now()
	again := ask(t, r, true, handshake...)
	if b, err := again.r.Peek(1); err != nil || b[0] != '\n' { // it is kept waiting, and told that the master lives
		t.Fatalf("%q, %v", b, err)
	}
	other := ask(t, r, true, "REPLCONF listening-port 7402", psync2, "PSYNC ? -1")
	other.full(l, id)
	again.full(l, id)
	if took := time.Since(began); took < 900*time.Millisecond {
		t.Errorf("the next RDB came after %v", took)
	}
	if _, err := fmt.Fprintf(again, "REPLCONF ACK %d\n", l.base); err != nil {
		t.Fatal(err)
	}
	poll.Until(t, "the acknowledgement has come", func() bool {
		for _, x := range r.Replicas() {
			if x.Port == 7401 && x.Now().Acked {
				return true
			}
		}
		return false
	})
	again.Close()
	<-again.ended
	third := ask(t, r, true, handshake...) // it has loaded one since
	if b, err := third.r.Peek(1); err != nil || b[0] != '+' {
		t.Fatalf("%q, %v", b, err)
	}
}

func TestRetentionWaitsForAReplicaAsLongAsHold(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	r := l.relay(relay.Config{Hold: time.Minute})
	now := time.Now()
	if d := r.LetGo(1, now); d != 0 {
		t.Errorf("without replicas retention waits for %v", d)
	}
	p := ask(t, r, true, psync2, "PSYNC ? -1")
	p.full(l, id)
	poll.Until(t, "the replica is there", func() bool { return len(r.Replicas()) == 1 })
	if d := r.LetGo(1, now); d != time.Minute {
		t.Errorf("retention waits for %v", d)
	}
	if d := r.LetGo(1, now.Add(50*time.Second)); d != 10*time.Second {
		t.Errorf("retention waits for another %v", d)
	}
	r.LetGo(1, now.Add(time.Minute))
	p.ends()
}

func TestAReplicaThatReadsNothingIsCutAndHoldsUpNobody(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	r := l.relay(relay.Config{Timeout: time.Second})
	var stuck []*peer
	for range 20 { // more than there are turns at the disk
		stuck = append(stuck, ask(t, r, true, psync2, "PSYNC ? -1"))
	}
	p := ask(t, r, false, psync2, "PSYNC ? -1")
	p.full(l, id)
	for range 8 {
		at := len(l.sent)
		l.send(1 << 20)
		p.wants(l.sent[at:])
	}
	for _, s := range stuck {
		<-s.ended
	}
}

func TestALoopOfReplicasIsSeen(t *testing.T) {
	t.Parallel()
	l := newLog(t)
	r := l.relay(relay.Config{})
	ask(t, r, true, "REPLCONF listening-port 7401", psync2, "PSYNC ? -1").full(l, id)
	for _, c := range []struct {
		m    replica.Replication
		port int
		loop bool
	}{
		{replica.Replication{Role: "master"}, 7401, false},
		{replica.Replication{Role: "slave", Host: "127.0.0.1", Port: 7401}, 6379, true},
		{replica.Replication{Role: "slave", Host: "127.0.0.1", Port: 7402}, 6379, false},
		{replica.Replication{Role: "slave", Host: "10.0.0.1", Port: 6379}, 7401, true},
	} {
		if err := r.Loop(c.m, "127.0.0.1", c.port); (err != nil) != c.loop {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
