package archive

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"replicad/integration/poll"
	"replicad/replica"
	"replicad/replica/rdb/rdbtest"
	"replicad/replica/resp"
)

// soak gives the count of a test that tries many cases: full with
// REPLICAD_SOAK=1, and few with -short.
func soak(normal, full int) int {
	switch {
	case os.Getenv("REPLICAD_SOAK") == "1":
		return full
	case testing.Short():
		return min(normal, max(normal/8, 5))
	}
	return normal
}

// journal remembers, for each file below a folder, what of it was fsynced
// last: what a power cut must leave.
type journal struct {
	mu     sync.Mutex
	synced map[string][]byte
	named  map[string]bool   // the names of files that are durable
	before func(name string) // is called before each fsync
	moved  map[string]string // folders that were renamed, by the name before
	unsure map[string]string // likewise; the names may not be durable
}

// watched is a disk whose fsyncs a new journal takes down.
func watched() (*journal, disk) {
	j := &journal{synced: map[string][]byte{}, named: map[string]bool{}, moved: map[string]string{}, unsure: map[string]string{}}
	d := realDisk()
	d.fdatasync, d.syncDir, d.link, d.rename = j.fdatasync, j.syncDir, j.link, j.rename
	return j, d
}

// link takes down that what was fsynced of a file was so under its other name.
func (j *journal) link(from, to string) error {
	j.tellBefore(to)
	if err := os.Link(from, to); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.synced[to] = j.synced[from]
	return nil
}

// rename renames a folder: its name is durable when the one around it is fsynced.
func (j *journal) rename(from, to string) error {
	j.tellBefore(to)
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := os.Rename(from, to); err != nil {
		return err
	}
	j.moved[from], j.unsure[from] = to, to
	for path, p := range maps.Clone(j.synced) {
		if rest, ok := strings.CutPrefix(path, from+"/"); ok {
			j.synced[filepath.Join(to, rest)] = p
			delete(j.synced, path)
		}
	}
	for path := range maps.Clone(j.named) {
		if rest, ok := strings.CutPrefix(path, from+"/"); ok {
			j.named[filepath.Join(to, rest)] = true
		}
	}
	return nil
}

// now is the path of a file that was opened before its folder was renamed.
func (j *journal) now(path string) string {
	for from, to := range j.moved {
		if rest, ok := strings.CutPrefix(path, from+"/"); ok {
			return filepath.Join(to, rest)
		}
	}
	return path
}

// wasSynced takes down that a file was fsynced by somebody else.
func (j *journal) wasSynced(t *testing.T, path string) {
	t.Helper()
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.synced[path] = p
}

func (j *journal) tellBefore(name string) {
	j.mu.Lock()
	before := j.before
	j.mu.Unlock()
	if before != nil {
		before(name)
	}
}

// syncDir takes down that the names below a folder are durable. What was
// renamed is what was fsynced under the name before.
func (j *journal) syncDir(path string) error {
	j.tellBefore(path)
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	now := map[string][]byte{}
	for _, name := range []string{ManifestName, TimelineName} {
		name = filepath.Join(path, name)
		now[name], _ = os.ReadFile(name)
	}
	if err := SyncPath(path); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range entries {
		j.named[filepath.Join(path, e.Name())] = true
	}
	for from, to := range j.unsure {
		if filepath.Dir(to) == path {
			delete(j.unsure, from)
		}
	}
	for name, is := range now {
		if was, ok := j.synced[name+tmpSuffix]; ok && bytes.Equal(was, is) {
			j.synced[name] = is
		}
	}
	return nil
}

func (j *journal) fdatasync(f *os.File) error {
	j.tellBefore(f.Name())
	// What was there when the fsync began is what it promises.
	j.mu.Lock()
	p, err := os.ReadFile(j.now(f.Name()))
	j.mu.Unlock()
	if err != nil {
		return err
	}
	if err := fdatasync(f); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.synced[j.now(f.Name())] = p
	return nil
}

// begin takes down what a full sync, which fsyncs on its own, has left.
func (j *journal) begin(t *testing.T, dir string) {
	t.Helper()
	now := snapshotDir(t, dir)
	j.mu.Lock()
	defer j.mu.Unlock()
	for name, p := range now {
		j.named[filepath.Join(dir, name)] = true
		if _, ok := j.synced[filepath.Join(dir, name)]; !ok {
			j.synced[filepath.Join(dir, name)] = p
		}
	}
}

// movedTo is a journal of a copy of the folder from.
func (j *journal) movedTo(from, to string) *journal {
	j.mu.Lock()
	defer j.mu.Unlock()
	moved, _ := watched()
	for path, p := range j.synced {
		moved.synced[to+strings.TrimPrefix(path, from)] = p
	}
	for path := range j.named {
		moved.named[to+strings.TrimPrefix(path, from)] = true
	}
	return moved
}

// cutPower makes in to what a power cut may leave of from: each file as it was
// fsynced last, and what was written since replaced by nothing, zeros, garbage
// or itself; one whose name is not durable may be missing, and one that was
// renamed after an fsync is either the old one or the new one.
func (j *journal) cutPower(t *testing.T, r *rand.Rand, from, to string) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	now := snapshotDir(t, from)
	lost := map[string]string{} // renames that did not happen
	for before, after := range j.unsure {
		if r.IntN(2) == 0 {
			lost[strings.TrimPrefix(after, from+"/")] = strings.TrimPrefix(before, from+"/")
		}
	}
	for name, content := range now {
		path, was := filepath.Join(to, name), filepath.Join(from, name)
		for after, before := range lost {
			if rest, ok := strings.CutPrefix(name, after+"/"); ok {
				path = filepath.Join(to, before, rest)
			}
		}
		synced := j.synced[was]
		renamed, ok := j.synced[was+tmpSuffix]
		switch {
		case ok && bytes.Equal(renamed, content):
			if r.IntN(2) == 0 {
				content = synced
			}
		case filepath.Base(name) == lockName:
		case !j.named[was] && r.IntN(2) == 0:
			continue
		default:
			content = tear(r, synced, content)
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o640); err != nil {
			t.Fatal(err)
		}
	}
}

// tear makes one of the contents that a file may have after a power cut.
func tear(r *rand.Rand, synced, written []byte) []byte {
	if len(written) < len(synced) {
		return synced
	}
	out := bytes.Clone(written)
	const sector = 512
	for i := 0; i < len(out); i += sector {
		end := min(i+sector, len(out))
		if end <= len(synced) && bytes.Equal(out[i:end], synced[i:end]) {
			continue
		}
		// A sector that was being written: the old one, the new one, or,
		// behind the old end, anything.
		switch r.IntN(5) {
		case 4: // torn in the middle
			if i < len(synced) {
				k := i + r.IntN(end-i)
				copy(out[k:end], synced[min(k, len(synced)):])
			}
			continue
		case 0:
			copy(out[i:end], make([]byte, end-i))
		case 1:
			for k := i; k < end; k++ {
				out[k] = byte(r.Uint32())
			}
		case 2: // it was written
			continue
		}
		if i < len(synced) {
			copy(out[i:end], synced[i:])
		}
	}
	if n := len(synced) + r.IntN(len(out)-len(synced)+1); r.IntN(3) == 0 {
		out = out[:n]
	}
	return out
}

// checkRecovered opens what is in dir and checks that it holds at least the
// first durable bytes of the stream, ends on a boundary, and nowhere differs.
func checkRecovered(t *testing.T, dir string, stream []byte, base, durable int64) replica.Position {
	t.Helper()
	a, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	pos, ok := a.Position()
	if !ok {
		t.Fatalf("there is nothing to continue: %+v", a.Recovery())
	}
	// The rest of a command or transaction goes, though it was durable: the
	// master sends it again.
	s := resp.NewScanner(0, resp.Limits{})
	if _, _, err := s.Scan(stream[:durable-base]); err != nil {
		t.Fatal(err)
	}
	if least := base + s.Boundary().Offset; pos.Offset < least {
		t.Fatalf("recovered to %d, though all up to the boundary %d was durable: %+v", pos.Offset, least, a.Recovery())
	}
	if pos.Offset > base+int64(len(stream)) {
		t.Fatalf("recovered to %d, beyond the end", pos.Offset)
	}
	s = resp.NewScanner(0, resp.Limits{})
	if _, _, err := s.Scan(stream[:pos.Offset-base]); err != nil || base+s.Boundary().Offset != pos.Offset || s.Boundary().DB != pos.DB {
		t.Fatalf("recovered to %+v, which is no boundary (%v)", pos, err)
	}
	mustClose(t, a)
	if got := segmentBytes(t, generationIn(dir, 1)); !bytes.Equal(got, stream[:pos.Offset-base]) {
		t.Fatalf("the %d recovered bytes are not those that were received", len(got))
	}
	if tl, _, _ := generationIn(dir, 1).readTimeline(visitor{}); tl.Damaged != 0 {
		t.Fatalf("%d damaged lines are left in the timeline", tl.Damaged)
	}
	return pos
}

// checkGoesOn opens what was recovered once more, feeds the rest and looks at
// the whole.
func checkGoesOn(t *testing.T, dir string, stream []byte, base int64) {
	t.Helper()
	a := open(t, dir, Options{AppendFsync: No, SegmentSize: 3000})
	pos, _ := a.Position()
	f := newFeeder(t, a, pos)
	f.feed(stream[pos.Offset-base:], 10_000)
	mustClose(t, a)
	if got := segmentBytes(t, generationIn(dir, 1)); !bytes.Equal(got, stream) {
		t.Fatal("after recovery and the rest of the stream the segment is not the stream")
	}
	b := open(t, dir, Options{})
	if rec := b.Recovery(); rec.Cut != 0 || rec.Why != "" {
		t.Fatalf("a second recovery cut %d bytes: %s", rec.Cut, rec.Why)
	}
	mustClose(t, b)
}

func TestWhatWasDurableIsThereAfterAPowerCut(t *testing.T) {
	t.Parallel()
	n := soak(30, 2000)
	for i := range n {
		policy := Policy(i % 2) // everysec, always
		r := rand.New(rand.NewPCG(8, uint64(i)))
		dir, after := t.TempDir(), t.TempDir()
		j, d := watched()
		opt := Options{AppendFsync: policy, disk: d}
		a := open(t, dir, opt)
		f := fullSync(t, a, replica.FullSync{ReplID: idA, Offset: 50, Size: -1}, rdbtest.Empty(0, false))
		j.begin(t, dir)
		stream := commands(r, 20+r.IntN(300))
		for rest := stream; len(rest) > 0; {
			k := min(1+r.IntN(1+len(stream)/4), len(rest))
			f.feed(rest[:k], 1+r.IntN(3000))
			rest = rest[k:]
			if r.IntN(3) == 0 && policy == Always {
				f.awaitDurable()
			}
		}
		if policy == Everysec {
			// Do not wait for the tick of each run: ask for it.
			if r.IntN(2) == 0 {
				f.awaitStored()
			}
			a.log.Load().flusher.sync()
			f.feed(resp.AppendCommand(nil, "SET", "after", "the tick"), 10)
			stream = f.sent.Bytes()
		}
		if r.IntN(2) == 0 {
			f.awaitStored()
		}
		durable := a.Progress().Durable // before the cut
		j.cutPower(t, r, dir, after)
		pos := checkRecovered(t, after, stream, 50, durable)
		checkGoesOn(t, after, stream, 50)
		_ = pos
		mustClose(t, a)
	}
	t.Logf("%d power cuts", n)
}

func TestAPowerCutBeforeAnyFsyncLosesNothingThatWasDurable(t *testing.T) {
	t.Parallel()
	// The moment when a record is written and not yet fsynced is short: hit
	// it on purpose, at each fsync of a run.
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(13, 13))
	j, d := watched()
	opt := Options{AppendFsync: Always, disk: d}
	a := open(t, dir, opt)
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Offset: 50, Size: -1}, rdbtest.Empty(0, false))
	j.begin(t, dir)
	type cut struct {
		dir     string
		durable int64
	}
	var mu sync.Mutex
	var cuts []cut
	before := func(string) {
		mu.Lock()
		defer mu.Unlock()
		c := cut{t.TempDir(), a.Progress().Durable}
		j.cutPower(t, r, dir, c.dir)
		cuts = append(cuts, c)
	}
	j.mu.Lock()
	j.before = before
	j.mu.Unlock()
	stream := commands(rand.New(rand.NewPCG(14, 14)), soak(100, 1000))
	for rest := stream; len(rest) > 0; {
		k := min(1+len(stream)/soak(20, 200), len(rest))
		f.feed(rest[:k], 3000)
		f.awaitDurable()
		rest = rest[k:]
	}
	mustClose(t, a)
	for _, c := range cuts {
		checkRecovered(t, c.dir, stream, 50, c.durable)
		checkGoesOn(t, c.dir, stream, 50)
	}
	if len(cuts) < soak(20, 200) {
		t.Fatalf("only %d power cuts", len(cuts))
	}
	t.Logf("%d power cuts", len(cuts))
}

func TestGarbageInsideAValueIsFoundByTheMarks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := open(t, dir, Options{AppendFsync: No})
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
	first := resp.AppendCommand(nil, "SET", "a", strings.Repeat("v", 1000))
	f.feed(first, 5000)
	marked := func() bool {
		p, _ := os.ReadFile(generationIn(dir, 1).timeline())
		return strings.Contains(string(p), fmt.Sprintf("offset %d ", f.end()))
	}
	poll.Until(t, "the first command is marked", marked)
	f.feed(first, 5000)
	poll.Until(t, "the second command is marked", marked)
	after := t.TempDir()
	if err := os.CopyFS(after, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	seg := generationIn(after, 1).segment(1)
	p, _ := os.ReadFile(seg)
	copy(p[len(p)-500:], "garbage") // well-formed all the same
	if err := os.Truncate(generationIn(after, 1).fsynced(), slotStride*slots); err != nil {
		t.Fatal(err) // without the word of what was written
	}
	if err := os.WriteFile(seg, p, 0o640); err != nil {
		t.Fatal(err)
	}
	b := open(t, after, Options{})
	if pos, _ := b.Position(); pos.Offset != int64(len(first)) || b.Recovery().Why == "" {
		t.Fatalf("recovered to %d, want %d: %+v", pos.Offset, len(first), b.Recovery())
	}
}

func TestGarbageInsideAValueIsFoundWithoutAMark(t *testing.T) {
	t.Parallel()
	dir, after := t.TempDir(), t.TempDir()
	a := open(t, dir, Options{AppendFsync: No})
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
	f.feed(resp.AppendCommand(nil, "SET", "a", strings.Repeat("v", 1000)), 5000)
	f.awaitStored()
	if err := os.CopyFS(after, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	g := generationIn(after, 1)
	p, _ := os.ReadFile(g.segment(1))
	copy(p[len(p)-500:], "garbage")
	if err := os.WriteFile(g.segment(1), p, 0o640); err != nil {
		t.Fatal(err)
	}
	b := open(t, after, Options{})
	if pos, _ := b.Position(); pos.Offset != 0 || b.Recovery().Why == "" {
		t.Fatalf("recovered to %d: %+v", pos.Offset, b.Recovery())
	}
}

func TestWhatWasMarkedIsThereAfterAKill(t *testing.T) {
	t.Parallel()
	// A killed process leaves the page cache: files are as they were written.
	// All that a mark proves stays, fsynced or not.
	dir, after := t.TempDir(), t.TempDir()
	r := rand.New(rand.NewPCG(9, 9))
	a := open(t, dir, Options{AppendFsync: No})
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
	stream := commands(r, 3000)
	f.feed(stream, 5000)
	g := generationIn(dir, 1)
	poll.Until(t, "the end is marked", func() bool {
		tl, _, _ := g.readTimeline(visitor{})
		return tl.Last.Offset == f.end()
	})
	if d := a.Progress().Durable; d != 0 {
		t.Fatalf("appendfsync no, and %d is durable", d)
	}
	if err := os.CopyFS(after, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if pos := checkRecovered(t, after, stream, 0, 0); pos.Offset != f.end() {
		t.Fatalf("recovered to %d, want all of the %d marked bytes", pos.Offset, f.end())
	}
}

func TestWhatWasStoredIsThereAfterAKillThoughNoMarkSaysSo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a := open(t, dir, Options{AppendFsync: No})
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
	r := rand.New(rand.NewPCG(15, 15))
	n := soak(30, 300)
	for range n {
		f.feed(commands(r, 1+r.IntN(50)), 500)
		f.awaitStored() // what ACK says
		after := t.TempDir()
		if err := os.CopyFS(after, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		if pos := checkRecovered(t, after, f.sent.Bytes(), 0, 0); pos.Offset != f.end() {
			t.Fatalf("recovered to %d, though %d was stored", pos.Offset, f.end())
		}
	}
	t.Logf("%d kills", n)
}

// stored makes an archive that was closed in good order, and returns its
// stream.
func stored(t *testing.T, dir string, n int) []byte {
	t.Helper()
	a := open(t, dir, Options{AppendFsync: No})
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Offset: 9, Size: -1}, rdbtest.Empty(0, true))
	stream := commands(rand.New(rand.NewPCG(10, 10)), n)
	f.feed(stream[:len(stream)/2], 999)
	f.awaitStored()
	f.feed(stream[len(stream)/2:], 999)
	mustClose(t, a)
	return stream
}

func TestEveryTruncationOfTheLast200BytesReopensOnABoundary(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stream := stored(t, dir, 400)
	for cut := 1; cut <= 200; cut += 200 / soak(40, 200) {
		after := t.TempDir()
		if err := os.CopyFS(after, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		seg := generationIn(after, 1).segment(1)
		st, _ := os.Stat(seg)
		if err := os.Truncate(seg, st.Size()-int64(cut)); err != nil {
			t.Fatal(err)
		}
		checkRecovered(t, after, stream, 9, 9+int64(len(stream)-cut))
		checkGoesOn(t, after, stream, 9)
	}
}

func TestAnySmallDamageToTimelineAndFsyncedStillOpens(t *testing.T) {
	t.Parallel()
	// Whatever single sector of the two small files is lost behind the facts
	// that a generation began with, what is recovered is a part of the stream.
	dir := t.TempDir()
	stream := stored(t, dir, 400)
	r := rand.New(rand.NewPCG(11, 11))
	n := soak(100, 3000)
	for range n {
		after := t.TempDir()
		if err := os.CopyFS(after, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		g := generationIn(after, 1)
		path, from := g.fsynced(), 0
		if r.IntN(2) == 0 {
			path = g.timeline()
			p, _ := os.ReadFile(path)
			from = bytes.Index(p, []byte("segment"))
			from += bytes.IndexByte(p[from:], '\n') + 1
		}
		p, _ := os.ReadFile(path)
		if from >= len(p) {
			t.Fatal("nothing to damage")
		}
		at := from + r.IntN(len(p)-from)
		for i := at; i < min(at+1+r.IntN(100), len(p)); i++ {
			p[i] = byte(r.Uint32())
		}
		if r.IntN(4) == 0 {
			p = p[:at]
		}
		if err := os.WriteFile(path, p, 0o640); err != nil {
			t.Fatal(err)
		}
		checkRecovered(t, after, stream, 9, 9)
		checkGoesOn(t, after, stream, 9)
	}
	t.Logf("%d damages", n)
}

func TestATimelineWithoutItsFirstFactsIsLeftAloneAndNotContinued(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stored(t, dir, 10)
	g := generationIn(dir, 1)
	if err := os.WriteFile(g.timeline(), []byte("nothing of the kind\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	before := snapshotDir(t, g.dir)
	a := open(t, dir, Options{})
	if pos, ok := a.Position(); ok {
		t.Fatalf("Position offers %+v", pos)
	}
	if a.Recovery().Why == "" {
		t.Fatal("nobody is told")
	}
	fullSync(t, a, replica.FullSync{ReplID: idB, Size: -1}, rdbtest.Empty(0, true))
	for name, p := range snapshotDir(t, g.dir) {
		if !bytes.Equal(p, before[name]) {
			t.Errorf("%s was changed", name)
		}
	}
	m, _, err := Describe(dir)
	if err != nil || len(m.Generations) != 2 || m.Generations[0].Problem == "" {
		t.Fatalf("%+v, %v", m, err)
	}
}

func TestMarksOfWhatWasCutDoNotSpeakAgainstWhatCameInstead(t *testing.T) {
	t.Parallel()
	// After a failover the bytes behind a cut may be others: marks of the
	// old ones, still in the timeline, must not be held against them.
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(12, 12))
	a := open(t, dir, Options{AppendFsync: No})
	f := fullSync(t, a, replica.FullSync{ReplID: idA, Size: -1}, rdbtest.Empty(0, true))
	first := commands(r, 50)
	f.feed(first, 1000)
	unfinished := []byte("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nab")
	f.feed(unfinished, 1000)
	mustClose(t, a) // marks and fsyncs the end, inside a command
	a = open(t, dir, Options{AppendFsync: No})
	pos, _ := a.Position()
	if pos.Offset != int64(len(first)) {
		t.Fatalf("reopened at %d, want %d", pos.Offset, len(first))
	}
	a.Continue(idB)
	f = newFeeder(t, a, pos)
	second := commands(r, 100)
	f.feed(second, 1000)
	f.awaitStored()
	poll.Until(t, "the new end is marked", func() bool {
		p, _ := os.ReadFile(generationIn(dir, 1).timeline())
		return strings.Contains(string(p), fmt.Sprintf("offset %d ", f.end()))
	})
	after := t.TempDir() // killed here
	if err := os.CopyFS(after, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	pos = checkRecovered(t, after, append(bytes.Clone(first), second...), 0, 0)
	if pos.Offset != f.end() || pos.ReplID != idB {
		t.Fatalf("recovered to %+v, want %s at %d", pos, idB, f.end())
	}
}

func TestAClockThatStepsBackIsWrittenDown(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), TimelineName)
	var p []byte
	for _, s := range []string{timelineVersion, baseFact(0, 1, time.UnixMilli(1)), replidFact(idA, 0), segmentFact(Segment{Seq: 1, Header: 23})} {
		p = sealed(p, s)
	}
	if err := os.WriteFile(path, p, 0o640); err != nil {
		t.Fatal(err)
	}
	tl, err := openTimeline(path, int64(len(p)), time.Time{}, realDisk())
	if err != nil {
		t.Fatal(err)
	}
	defer tl.close()
	for _, ms := range []int64{5000, 6000, 4000, 4100} {
		if err := tl.mark(Mark{Time: time.UnixMilli(ms), Offset: tl.end}); err != nil {
			t.Fatal(err)
		}
	}
	got, _ := os.ReadFile(path)
	if n := strings.Count(string(got), "clock "); n != 1 || !strings.Contains(string(got), "clock 4000 back 2000") {
		t.Fatalf("the timeline says:\n%s", got)
	}
}

func FuzzTimeline(f *testing.F) {
	var p []byte
	for _, s := range []string{
		timelineVersion, baseFact(5, 100, time.UnixMilli(1)), replidFact(idA, 5), replidFact("", 5), segmentFact(Segment{Seq: 1, From: 5, Header: 23}),
		markFact(Mark{Time: time.UnixMilli(2), Offset: 50, CRC: 7}), verifiedBaseFact(7), sealedFact(Segment{Seq: 1, To: 50, CRC: 9}), examinedSegmentFact(1, false), sinceFact(time.UnixMilli(3), 50), cutFact(40), clockFact(time.UnixMilli(1), time.UnixMilli(9)), endFact(40), "mark", "segment x", "later 1",
	} {
		p = sealed(p, s)
		f.Add(bytes.Clone(p))
	}
	f.Add(append(p, "torn"...))
	f.Add(append(bytes.Repeat([]byte("x"), 70_000), '\n'))
	f.Fuzz(func(t *testing.T, p []byte) {
		marks := 0
		tl, n, err := readTimeline(bytes.NewReader(p), visitor{mark: func(Mark) { marks++ }})
		if n > int64(len(p)) || n > 0 && p[n-1] != '\n' {
			t.Fatalf("the length %d of %d bytes is not the end of a line", n, len(p))
		}
		if err == nil && (len(tl.Segments) == 0 || len(tl.Histories) == 0) {
			t.Fatal("no error, and no segment or history")
		}
	})
}

func newestSlot(r io.ReaderAt) (checkpoint, bool) {
	f, _ := readFsynced(r)
	return f.newest, f.Found
}

func FuzzCheckpoint(f *testing.F) {
	c := checkpoint{serial: 3, seq: 2, end: place{100, 5}, boundary: place{90, 4}, db: 1}
	f.Add(c.encode())
	f.Add([]byte("fsynced 1 segment"))
	f.Fuzz(func(t *testing.T, p []byte) {
		if c, ok := newestSlot(bytes.NewReader(p)); ok {
			if d, again := newestSlot(bytes.NewReader(c.encode())); !again || d != c {
				t.Fatalf("%+v does not survive writing and reading: %+v", c, d)
			}
		}
	})
}

func TestATornSlotLeavesTheOneBeforeIt(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), FsyncedName)
	c := checkpoint{seq: 1, end: place{10, 1}, boundary: place{10, 1}}
	if err := realDisk().write(path, blankFsynced(c)); err != nil {
		t.Fatal(err)
	}
	f, err := openFsynced(path, 0, realDisk())
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	for i := range 10 {
		before, ok := newestSlot(f.f)
		if !ok {
			t.Fatal("no slot checks")
		}
		c.end.offset += 7
		if err := f.put(c); err != nil {
			t.Fatal(err)
		}
		after, _ := newestSlot(f.f)
		if after.end != c.end {
			t.Fatalf("put %d: read %+v", i, after)
		}
		if _, err := f.f.WriteAt([]byte("torn"), after.serial%slots*slotStride+30); err != nil {
			t.Fatal(err)
		}
		if got, ok := newestSlot(f.f); !ok || got != before {
			t.Fatalf("put %d was torn: read %+v, %v; want %+v", i, got, ok, before)
		}
		if _, err := f.f.WriteAt(after.encode(), after.serial%slots*slotStride); err != nil {
			t.Fatal(err)
		}
	}
}
