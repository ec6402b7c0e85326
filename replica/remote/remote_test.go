package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"replicad/integration/objecttest"
	"replicad/integration/poll"
	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/archive/restore"
	"replicad/replica/rdb/rdbtest"
	"replicad/replica/resp"
)

const (
	firstID    = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	secondID   = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	baseOffset = 1000
	baseDB     = 2
	testPiece  = 8 << 10
)

// store is object storage in memory.
type store struct{ *objecttest.Store }

func newStore(t *testing.T) store {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", objecttest.Key)
	t.Setenv("AWS_SECRET_ACCESS_KEY", objecttest.Secret)
	return store{objecttest.New(t)}
}

func (s store) open(t *testing.T) *Remote {
	t.Helper()
	r, err := Open(Config{URL: "s3://bucket/some/prefix", Endpoint: s.URL, Region: "us-east-1", Every: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	r.piece = testPiece
	return r
}

// source is an archive that grows.
type source struct {
	t       *testing.T
	dir     string
	a       *archive.Archive
	stream  []byte
	scanner *resp.Scanner
}

var base = rdbtest.Empty(baseDB, true)

func newSource(t *testing.T) *source {
	t.Helper()
	s := &source{t: t, dir: filepath.Join(t.TempDir(), "main")}
	a, err := archive.Open(s.dir, archive.Options{SegmentSize: 3000, TimelineResolution: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	s.a = a
	b, err := a.BeginBase(replica.FullSync{ReplID: firstID, Offset: baseOffset, Size: -1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Write(base); err != nil {
		t.Fatal(err)
	}
	pos, err := b.Commit()
	if err != nil {
		t.Fatal(err)
	}
	s.scanner = resp.NewScanner(pos.DB, resp.Limits{})
	return s
}

func (s *source) end() int64 { return baseOffset + int64(len(s.stream)) }

// send has n commands come.
func (s *source) send(r *rand.Rand, n int) {
	s.t.Helper()
	for range n {
		if r.IntN(5) == 0 {
			s.command("SELECT", fmt.Sprint(r.IntN(9)))
		} else {
			s.set(fmt.Sprint(r.IntN(1000)), strings.Repeat("v", r.IntN(300)))
		}
	}
}

func (s *source) set(key, value string) { s.command("SET", key, value) }

func (s *source) command(args ...string) {
	s.t.Helper()
	p := resp.AppendCommand(nil, args...)
	s.stream = append(s.stream, p...)
	if _, _, err := s.scanner.Scan(p); err != nil {
		s.t.Fatal(err)
	}
	for len(p) > 0 {
		k := copy(s.a.Buffer(), p)
		p = p[k:]
		b := s.scanner.Boundary()
		if len(p) == 0 {
			s.a.Commit(k, replica.Boundary{Offset: baseOffset + b.Offset, DB: b.DB})
		}
	}
	poll.Until(s.t, "it is stored", func() bool { return s.a.Progress().Stored == s.end() })
}

// writer runs a Writer until the test ends, or stop is called.
func (s *source) writer(r *Remote, observe func(archive.Event)) (w *Writer, stop func()) {
	s.t.Helper()
	if observe == nil {
		observe = func(archive.Event) {}
	}
	w, err := r.NewWriter("main", s.dir, s.a, observe)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() { w.Run(ctx) })
	stop = func() { cancel(); work.Wait() }
	s.t.Cleanup(stop)
	return w, stop
}

// arrives waits until all that has come is in the remote.
func (s *source) arrives(w *Writer) {
	s.t.Helper()
	poll.Until(s.t, "all is in the remote", func() bool {
		is := w.Status()
		return is.Offset == s.end() && is.Generation > 0 && is.Missing == 0
	})
}

// restored is what a restore from the remote alone has of the stream.
func restored(t *testing.T, r *Remote, to string) (stream []byte, err error) {
	t.Helper()
	dir := t.TempDir()
	c, err := r.Copy(context.Background(), dir, "main")
	if err != nil {
		return nil, err
	}
	target, err := archive.ParseTarget(to, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	held, p, err := archive.Locate(filepath.Join(dir, "main"), target, time.Now())
	if err != nil {
		return nil, err
	}
	held.Close()
	if err := c.Fill(context.Background(), "main", p.Generation, p.Offset, nil); err != nil {
		return nil, err
	}
	out := filepath.Join(t.TempDir(), "out")
	if _, err := restore.Run(context.Background(), restore.Options{Dir: filepath.Join(dir, "main"), Target: target, Out: out, Format: restore.AOF}); err != nil {
		return nil, err
	}
	all, err := os.ReadFile(filepath.Join(out, "appendonly.aof"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(all, base) {
		t.Fatal("it does not begin with the base")
	}
	all = all[len(base):]
	head := resp.AppendCommand(nil, "SELECT", fmt.Sprint(baseDB))
	if !bytes.HasPrefix(all, head) {
		t.Fatalf("it does not select the base's database: %.40q", all)
	}
	return all[len(head):], nil
}

// has checks that a restored stream is what was sent up to n bytes, or up to
// anywhere with -1, but for the SELECT that each segment opens with.
func (s *source) has(t *testing.T, got []byte, n int) {
	t.Helper()
	effects := func(p []byte) string {
		var all strings.Builder
		scan := resp.NewScanner(baseDB, resp.Limits{})
		for begin, at := 0, 0; at < len(p); {
			n := bytes.IndexByte(p[at:], '\n') + 1
			if _, _, err := scan.Scan(p[at : at+n]); err != nil {
				t.Fatal(err)
			}
			at += n
			if b := scan.Boundary(); b.Offset == int64(at) {
				if cmd := p[begin:at]; !bytes.Contains(cmd, []byte("SELECT")) {
					fmt.Fprintf(&all, "%d %q\n", b.DB, cmd)
				}
				begin = at
			}
		}
		return all.String()
	}
	a := effects(got)
	if n < 0 {
		if !strings.HasPrefix(effects(s.stream), a) {
			t.Fatalf("%d bytes were restored, and are no beginning of what was sent", len(got))
		}
		return
	}
	if b := effects(s.stream[:n]); a != b {
		i := 0
		for i < min(len(a), len(b)) && a[i] == b[i] {
			i++
		}
		t.Fatalf("%d bytes were restored, and have other commands than the %d that were sent: %.80q, not %.80q, behind %d", len(got), n, a[i:], b[i:], i)
	}
}

func TestWhatTheRemoteHoldsIsRestoredWithoutTheMachine(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	st := newStore(t)
	s := newSource(t)
	s.send(r, 50)
	w, stop := s.writer(st.open(t), nil)
	for range 10 {
		s.send(r, 1+r.IntN(60))
		if r.IntN(3) == 0 {
			s.arrives(w)
		}
	}
	s.arrives(w)
	s.a.Continue(secondID)
	s.send(r, 80)
	s.arrives(w)
	poll.Until(t, "segments are closed", func() bool {
		v, err := st.open(t).look(context.Background(), "main")
		return err == nil && end(v.cover(v.generations[0], true), baseOffset) >= s.end()/testPiece*testPiece
	})
	stop()
	for name := range st.Objects("some/prefix/") {
		if strings.Contains(name, "probe") {
			t.Errorf("%s was left", name)
		}
	}
	s.same(t, st.open(t))
	got, err := restored(t, st.open(t), "latest")
	if err != nil {
		t.Fatal(err)
	}
	s.has(t, got, len(s.stream))
	half := len(s.stream) / 2
	got, err = restored(t, st.open(t), fmt.Sprintf("offset:%d", baseOffset+half))
	if err != nil {
		t.Fatal(err)
	}
	if k := s.boundary(half); true {
		s.has(t, got, k)
	}
	s.same(t, st.open(t))
	// The next writer of the same archive goes on where the remote ends.
	before := len(st.Objects("some/prefix/"))
	w, stop = s.writer(st.open(t), nil)
	s.arrives(w)
	s.send(r, 3)
	s.arrives(w)
	stop()
	if n := w.Status().Objects; n < 1 || n > 4 || len(st.Objects("some/prefix/")) < before {
		t.Errorf("%d objects were created for three commands", n)
	}
}

// boundary is the last end of a command at or before n bytes of the stream.
func (s *source) boundary(n int) int {
	scan := resp.NewScanner(baseDB, resp.Limits{})
	if _, _, err := scan.Scan(s.stream[:n]); err != nil {
		s.t.Fatal(err)
	}
	return int(scan.Boundary().Offset)
}

func TestARemoteThatFailsNowAndThenHoldsAllInTheEnd(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	st := newStore(t)
	s := newSource(t)
	var asked atomic.Int64
	st.Misbehave(func(w http.ResponseWriter, req *http.Request, serve http.Handler) {
		switch n := asked.Add(1); {
		case n%7 == 3:
			http.Error(w, "<Error><Code>InternalError</Code></Error>", http.StatusServiceUnavailable)
		case n%7 == 5 && req.Method == http.MethodPut: // it takes effect, and the answer is lost
			serve.ServeHTTP(httptest.NewRecorder(), req)
			panic(http.ErrAbortHandler)
		default:
			serve.ServeHTTP(w, req)
		}
	})
	var mu sync.Mutex
	kinds := map[archive.EventKind]int{}
	w, stop := s.writer(st.open(t), func(e archive.Event) {
		mu.Lock()
		defer mu.Unlock()
		kinds[e.Kind]++
		if e.Err != nil && strings.Contains(e.Err.Error(), objecttest.Secret) {
			t.Errorf("it tells a secret: %v", e.Err)
		}
	})
	for range 6 {
		s.send(r, 20)
	}
	poll.Until(t, "a failure is told", func() bool { return w.Status().Failures > 0 })
	st.Misbehave(nil)
	s.arrives(w)
	stop()
	if mu.Lock(); kinds[archive.RemoteFailed] == 0 || kinds[archive.RemoteMended] == 0 || kinds[archive.RemoteContradiction] > 0 {
		t.Errorf("%v", kinds)
	}
	mu.Unlock()
	got, err := restored(t, st.open(t), "latest")
	if err != nil {
		t.Fatal(err)
	}
	s.has(t, got, len(s.stream))
}

func TestAStoreThatIgnoresConditionsIsRefused(t *testing.T) {
	st := newStore(t)
	st.Misbehave(func(w http.ResponseWriter, r *http.Request, serve http.Handler) {
		r.Header.Del("If-None-Match")
		serve.ServeHTTP(w, r)
	})
	if err := st.open(t).Probe(context.Background(), "w"); !errors.Is(err, ErrUnconditional) {
		t.Errorf("%v", err)
	}
	s := newSource(t)
	w, stop := s.writer(st.open(t), nil)
	poll.Until(t, "it is refused", func() bool { return w.Status().Refused })
	stop()
	if all := st.Objects("some/prefix/main"); len(all) > 0 {
		t.Errorf("%v", all)
	}
}

func TestAFlippedBitOrAMissingObjectIsNamedOrEndsTheRestoreBefore(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	st := newStore(t)
	s := newSource(t)
	s.send(r, 200)
	w, stop := s.writer(st.open(t), nil)
	s.arrives(w)
	stop()
	for key := range st.Objects("some/prefix/main") {
		name := strings.TrimPrefix(key, "some/prefix/")
		was, meta := st.Get(key)
		for range 5 {
			p := bytes.Clone(was)
			p[r.IntN(len(p))] ^= 1 << r.IntN(8)
			st.Put(key, p, meta)
			got, err := restored(t, st.open(t), "latest")
			if err == nil { // a text that nothing depends on, or another object has the bytes
				s.has(t, got, len(s.stream))
			} else if !strings.Contains(err.Error(), name) && !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrMissing) {
				t.Errorf("%s: %v", name, err)
			}
		}
		st.Delete(key)
		got, err := restored(t, st.open(t), "latest")
		if err == nil {
			s.has(t, got, -1)
		} else if !errors.Is(err, ErrMissing) && !errors.Is(err, archive.ErrUnavailable) {
			t.Errorf("without %s: %v", name, err)
		}
		st.Put(key, was, meta)
	}
}

func TestOfTwoWritersTheSecondTakesWhatTheFirstHasMade(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	st := newStore(t)
	one, two := newSource(t), newSource(t)
	a, stopA := one.writer(st.open(t), nil)
	b, stopB := two.writer(st.open(t), nil)
	for range 8 {
		seed := r.Uint64()
		one.send(rand.New(rand.NewPCG(seed, 0)), 40)
		two.send(rand.New(rand.NewPCG(seed, 0)), 40)
	}
	one.arrives(a)
	two.arrives(b)
	stopA()
	stopB()
	if n := a.Status().Conflicts + b.Status().Conflicts; n > 0 {
		t.Errorf("%d contradictions between equal archives", n)
	}
	got, err := restored(t, st.open(t), "latest")
	if err != nil {
		t.Fatal(err)
	}
	one.has(t, got, len(one.stream))
}

func TestTwoHistoriesOfOneNameContradictEachOtherAloud(t *testing.T) {
	st := newStore(t)
	one, two := newSource(t), newSource(t)
	for i := range 100 { // of one length, as two histories have it by chance or malice
		for k, s := range []*source{one, two} {
			s.set("key", fmt.Sprintf("%0100d", i*2+k))
		}
	}
	a, stop := one.writer(st.open(t), nil)
	one.arrives(a)
	closed := func() int { return len(st.Objects("some/prefix/main/log/")) }
	poll.Until(t, "a segment is closed", func() bool { return closed() == 1 })
	stop()
	before := st.Objects("some/prefix/main/log/")
	told := make(chan archive.Event, 100)
	// The other's machine lists the bucket before the first writes to it.
	st.Misbehave(func(w http.ResponseWriter, r *http.Request, serve http.Handler) {
		if r.Method == http.MethodGet && r.URL.Query().Has("list-type") {
			fmt.Fprint(w, `<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>`)
			return
		}
		serve.ServeHTTP(w, r)
	})
	b, stop := two.writer(st.open(t), func(e archive.Event) {
		if e.Kind == archive.RemoteContradiction {
			told <- e
		}
	})
	defer stop()
	if e := <-told; !errors.Is(e.Err, ErrContradiction) {
		t.Errorf("%v", e.Err)
	}
	poll.Until(t, "it goes on under a name of its own", func() bool { return closed() == 2 && b.Status().Conflicts == 1 })
	for key, size := range before {
		if st.Objects("some/prefix/main/log/")[key] != size {
			t.Errorf("%s was written over", key)
		}
	}
}

// same checks each object of the log against what was sent.
func (s *source) same(t *testing.T, r *Remote) {
	t.Helper()
	v, err := r.look(context.Background(), "main")
	if err != nil {
		t.Fatal(err)
	}
	for _, all := range v.log {
		for _, p := range all {
			o, err := r.get(context.Background(), p.key, 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			var plain []byte
			var h header
			err = newCodec().decode(o, func(is header, _ int64, p []byte) error {
				h, plain = is, append(plain, p...)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if h.From != p.from || h.To != p.to || !bytes.Equal(plain, s.stream[h.From-baseOffset:h.To-baseOffset]) {
				t.Errorf("%s: other bytes than were sent", p.key)
			}
		}
	}
}
