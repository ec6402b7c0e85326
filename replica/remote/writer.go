package remote

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"replicad/replica"
	"replicad/replica/archive"
)

// Status is what the remote has of one archive.
type Status struct {
	URL string
	// ReplID and Offset are where the unbroken log behind a base ends; Generation
	// is the number of the local generation that it belongs to, 0 before the base
	// is there.
	ReplID     string
	Offset     int64
	Generation int
	// Since is when a byte was stored here first that is not there; zero where
	// nothing is missing.
	Since     time.Time
	Missing   int64  // bytes of the stream that are not there
	BaseDone  int64  // bytes of a base that is on its way
	BaseTotal int64  // 0 while none is on its way
	Objects   int64  // that this process has created
	Bytes     int64  // in them
	Failures  int64  // of this process
	Failure   string // the last one, while it lasts; "" otherwise
	FailedAt  time.Time
	Refused   bool // Failure ends only with another setting
	Conflicts int64
}

// Writer copies one archive to the remote. Run does it, and the other methods may
// be called from any goroutine.
type Writer struct {
	r       *Remote
	name    string
	dir     string // of the archive
	archive *archive.Archive
	observe func(archive.Event)
	id      string // of the writer: in the names of what only it may remove
	codec   *codec
	kick    chan struct{}
	tails   int64 // the number of the last one

	mu sync.Mutex
	is Status
}

// writerName is the file in an archive's folder that has the writer's name.
const writerName = "remote-writer"

// NewWriter makes the writer of the archive a, which is in the folder dir. observe
// is told RemoteFailed, RemoteMended, RemoteBase and RemoteContradiction.
func (r *Remote) NewWriter(name, dir string, a *archive.Archive, observe func(archive.Event)) (*Writer, error) {
	w := &Writer{r: r, name: name, dir: dir, archive: a, observe: observe, codec: newCodec(), kick: make(chan struct{}, 1)}
	w.is.URL = r.String() + "/" + name
	path := filepath.Join(dir, writerName)
	p, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		p = []byte(strings.ToLower(rand.Text()[:12]) + "\n")
		err = os.WriteFile(path, p, 0o640)
	}
	w.id = strings.TrimSpace(string(p))
	if err == nil && (w.id == "" || strings.ContainsAny(w.id, "/. ")) {
		err = fmt.Errorf("%s holds no name of a writer", path)
	}
	return w, err
}

// Status says how things stand.
func (w *Writer) Status() Status {
	stored := w.archive.Progress().Stored
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.is
	s.Missing = max(0, stored-s.Offset)
	if s.Missing == 0 {
		s.Since = time.Time{}
	}
	return s
}

// Lag is for how long the oldest byte has waited that is not in the remote.
func (s Status) Lag(now time.Time) time.Duration {
	if s.Since.IsZero() {
		return 0
	}
	return max(0, now.Sub(s.Since))
}

// Drain waits until the remote has all that is stored, but not where it fails,
// where its base is on the way, or longer than that.
func (w *Writer) Drain(atMost time.Duration) {
	for end := time.Now().Add(atMost); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if s := w.Status(); s.Missing == 0 || s.Failure != "" || s.Generation == 0 {
			return
		}
		w.Kick()
	}
}

func (w *Writer) set(change func(*Status)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.is)
}

// Run copies until ctx is done, and tries again where it fails.
func (w *Writer) Run(ctx context.Context) {
	more := make(chan struct{}, 1)
	defer w.archive.Watch(more)()
	const least, most = time.Second, time.Minute
	delay := least
	for ctx.Err() == nil {
		began := time.Now()
		err := w.session(ctx, more)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errTurned):
			continue
		}
		if time.Since(began) > 2*delay {
			delay = least
		}
		w.failed(err, delay)
		select {
		case <-time.After(delay + mrand.N(delay/2)):
		case <-ctx.Done():
		}
		delay = min(2*delay, most)
	}
}

func (w *Writer) failed(err error, delay time.Duration) {
	first := false
	w.set(func(s *Status) {
		first = s.Failure == ""
		s.Failures++
		s.Failure, s.FailedAt = err.Error(), time.Now()
		s.Refused = errors.Is(err, ErrUnconditional) || errors.Is(err, errNoNames)
	})
	if first {
		w.observe(archive.Event{Kind: archive.RemoteFailed, Err: err, Delay: delay})
	}
}

// mended notes that the remote has taken something.
func (w *Writer) mended() {
	was := ""
	w.set(func(s *Status) { was, s.Failure, s.Refused = s.Failure, "", false })
	if was != "" {
		w.observe(archive.Event{Kind: archive.RemoteMended})
	}
}

// session copies until something fails, or until the archive goes on in another
// generation or under another id.
func (w *Writer) session(ctx context.Context, more <-chan struct{}) error {
	if err := w.r.Probe(ctx, w.id); err != nil {
		return err
	}
	local, err := archive.Lineage{Dir: w.dir}.Newest()
	for errors.Is(err, archive.ErrNotKept) {
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
		local, err = archive.Lineage{Dir: w.dir}.Newest()
	}
	if err != nil {
		return err
	}
	defer local.Close()
	v, err := w.r.look(ctx, w.name)
	if err != nil {
		return err
	}
	w.mended()
	w.tails = max(w.tails, v.tails)
	s := &session{Writer: w, local: local, view: v}
	return s.run(ctx, more)
}

// session is what lasts while a generation is copied.
type session struct {
	*Writer
	local  *archive.Reader
	view   *view
	remote *generation // nil until the base and the ids are there
	held   int64       // where the unbroken log ends
	closed int64       // where the unbroken closed segments end
}

// here describes the local generation as the remote would.
func (s *session) here() *generation {
	t := &s.local.Timeline
	g := &generation{manifest: manifest{
		Format: formatVersion, Writer: s.id, History: idName(t.Histories[0].ReplID), Offset: t.BaseOffset, DB: t.Segments[0].DB,
		Size: s.local.BaseSize, Part: s.r.piece, Time: t.BaseTime, Replicad: s.local.Number,
	}}
	g.Base = fmt.Sprintf("%s/base/%s.%020d.%s", s.name, g.History, g.Offset, s.id)
	if t.TookOver {
		g.Since, g.SinceAt = t.Since, t.BaseOffset
	}
	if t.Fork != (archive.Fork{}) {
		g.Fork = &t.Fork.Offset
		for _, p := range s.view.generations {
			if p.Writer == s.id && p.Replicad == t.Fork.Generation {
				g.Parent = p.number
			}
		}
	}
	g.ids, g.least, g.most = []string{g.History}, []int64{g.Offset}, []int64{g.Offset}
	for _, h := range t.Histories[1:] {
		g.goesOn(idName(h.ReplID), h.From)
	}
	return g
}

func (s *session) run(ctx context.Context, more <-chan struct{}) (err error) {
	here := s.here()
	if here.ids[len(here.ids)-1] == noID {
		return errNoNames
	}
	var there *generation
	for _, g := range s.view.generations {
		forked := g.Fork != nil
		if g.History == here.History && g.Offset == here.Offset && forked == (here.Fork != nil) && (!forked || *g.Fork == *here.Fork) {
			there = g
		}
		if g.History == here.History && g.Offset == here.Offset {
			here.Base, here.Part = g.Base, g.Part // a fork has the base of its parent
		}
	}
	pieces := s.view.cover(here, false)
	s.held = min(end(pieces, here.Offset), s.local.End())
	s.closed = min(end(s.view.cover(here, true), here.Offset), s.held)
	s.told()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var work sync.WaitGroup
	defer work.Wait()
	defer stop(nil)
	based := make(chan *generation, 1)
	work.Go(func() {
		g := there
		var err error
		if g == nil {
			g, err = s.base(ctx, here)
		}
		if err == nil {
			err = s.steps(ctx, g, here)
		}
		if err != nil {
			stop(err)
			return
		}
		based <- g
	})
	defer func() {
		if cause := context.Cause(ctx); cause != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
			err = cause
		}
	}()
	return s.log(ctx, more, based)
}

// told tells how far the remote is.
func (s *session) told() {
	id := s.local.ReplID(s.held)
	s.set(func(is *Status) {
		is.Offset, is.ReplID = s.held, id
		is.Generation = 0
		if s.remote != nil {
			is.Generation = s.local.Number
		}
	})
}

// steps says under which ids the generation goes on.
func (s *session) steps(ctx context.Context, there, here *generation) error {
	for k, id := range here.ids[1:] {
		from := here.most[k+1]
		if k+1 < len(there.ids) && there.ids[k+1] == id && there.most[k+1] >= from {
			continue
		}
		key := fmt.Sprintf("%s.%020d.%s", generationKey(s.name, there.number), from, id)
		if err := s.r.put(ctx, key, strings.NewReader("{}"), 2, ""); err != nil && !errors.Is(err, errExists) {
			return err
		}
	}
	return nil
}

// base copies the base, and makes the generation.
func (s *session) base(ctx context.Context, here *generation) (*generation, error) {
	began := time.Now()
	has := s.view.parts[here.Base]
	s.set(func(is *Status) { is.BaseDone, is.BaseTotal = 0, here.Size })
	defer s.set(func(is *Status) { is.BaseDone, is.BaseTotal = 0, 0 })
	f, err := os.Open(s.local.BasePath())
	if err != nil {
		return nil, err
	}
	defer f.Close()
	codec := newCodec()
	var crc uint32
	buf := make([]byte, frameSize)
	for n := range here.parts() {
		from := int64(n) * here.Part
		size := min(here.Part, here.Size-from)
		_, there := has[n]
		var o *object
		if !there {
			if o, err = newObject(codec, s.dir, header{History: here.History, From: from, Writer: s.id}); err != nil {
				return nil, err
			}
		}
		for done := int64(0); done < size && err == nil; {
			if err = ctx.Err(); err != nil {
				break
			}
			p := buf[:min(int64(len(buf)), size-done)]
			if _, err = io.ReadFull(io.NewSectionReader(f, from+done, size-done), p); err != nil {
				break
			}
			crc = crc32.Update(crc, castagnoli, p)
			if o != nil {
				_, err = o.Write(p)
			}
			done += int64(len(p))
		}
		if o != nil {
			if err == nil {
				err = s.create(ctx, fmt.Sprintf("%s/%06d", here.Base, n), o)
			}
			o.close()
		}
		if err != nil {
			return nil, err
		}
		s.set(func(is *Status) { is.BaseDone = from + size })
	}
	if t := &s.local.Timeline; t.HasBaseCRC && t.BaseCRC != crc {
		return nil, fmt.Errorf("%s: %w: its CRC-32C is %08x, not %08x", s.local.BasePath(), archive.ErrDamaged, crc, t.BaseCRC)
	}
	g := *here
	g.CRC = hex(crc)
	text, err := json.MarshalIndent(g.manifest, "", "  ")
	if err != nil {
		return nil, err
	}
	text = seal(text)
	if all := s.view.generations; len(all) > 0 {
		g.number = all[len(all)-1].number
	}
	for exists := true; exists; { // of two writers one is faster
		g.number++
		err = s.r.put(ctx, generationKey(s.name, g.number), bytes.NewReader(text), int64(len(text)), "")
		if exists = errors.Is(err, errExists); !exists && err != nil {
			return nil, err
		}
	}
	g.ids, g.least, g.most = g.ids[:1], g.least[:1], g.most[:1]
	s.observe(archive.Event{Kind: archive.RemoteBase, Generation: s.local.Number, Offset: g.Offset, Bytes: g.Size, Took: time.Since(began)})
	return &g, nil
}

// create PUTs an object. One that is there and has the same plain bytes counts as
// created: it is ours, and the answer was lost, or it is the other writer's. The
// error wraps ErrContradiction where it has others.
func (w *Writer) create(ctx context.Context, key string, o *object) error {
	body, size, err := o.finish()
	if err != nil {
		return err
	}
	err = w.r.put(ctx, key, body(), size, o.head.CRC)
	if errors.Is(err, errExists) {
		is, err := w.r.crcOf(ctx, key)
		if err != nil {
			return err
		}
		if is != o.head.CRC {
			return fmt.Errorf("%s/%s: %w: its bytes have the CRC-32C %s, and ours %s", w.r, key, ErrContradiction, is, o.head.CRC)
		}
		w.mended()
		return nil
	}
	if err != nil {
		return err
	}
	w.set(func(s *Status) { s.Objects, s.Bytes = s.Objects+1, s.Bytes+size })
	w.mended()
	return nil
}

// log copies the log until ctx is done.
func (s *session) log(ctx context.Context, more <-chan struct{}, based <-chan *generation) error {
	var tails, closes *lane
	defer func() {
		for _, l := range []*lane{tails, closes} {
			if l != nil {
				l.close()
			}
		}
	}()
	tick := time.NewTicker(min(s.r.cfg.Every, time.Second))
	defer tick.Stop()
	var last time.Time       // when the last tail was begun
	lastClosed := time.Now() // when the last segment was closed
	tried := int64(0)        // what was stored when a segment could not be closed
	for {
		stored := s.archive.Progress().Stored
		cut := (s.closed/s.r.piece + 1) * s.r.piece
		if s.held > s.closed && time.Since(lastClosed) >= s.r.cfg.CloseAfter {
			cut = min(cut, s.held)
		}
		progress := false
		if stored >= cut && (tried == 0 || stored >= tried+s.r.piece/64 || cut == s.held) {
			err := s.put(ctx, &closes, s.closed, cut)
			tried = 0
			if errors.Is(err, errTooFew) {
				tried = stored
			} else if err != nil {
				return err
			} else {
				progress, lastClosed = true, time.Now()
			}
		}
		kicked := false
		select {
		case <-s.kick:
			kicked = true
		default:
		}
		if now := time.Now(); stored > s.held && (kicked || now.Sub(last) >= s.r.cfg.Every) {
			s.set(func(is *Status) {
				if is.Since.IsZero() {
					is.Since = now
				}
			})
			err := s.put(ctx, &tails, s.held, 0)
			if err == nil {
				progress, last = true, now
			} else if !errors.Is(err, errTooFew) {
				return err
			}
		}
		if progress {
			continue
		}
		select {
		case g := <-based:
			s.remote = g
			s.told()
		case <-more:
			if wait := s.r.cfg.Every - time.Since(last); wait > 0 {
				select {
				case <-time.After(wait):
				case <-s.kick:
					s.Kick()
				case <-ctx.Done():
				}
			}
		case <-s.kick:
			s.Kick()
		case <-tick.C:
			if s.turned() {
				return errTurned
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// turned says whether the archive goes on in another generation. That it goes on
// under another id, put sees by the bytes.
func (s *session) turned() bool {
	is, known := s.archive.Current()
	return known && is.Generation != s.local.Number
}

// Kick has a tail written at once.
func (w *Writer) Kick() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// put makes and creates the next object of a lane, which begins at an offset.
func (s *session) put(ctx context.Context, at **lane, from, cut int64) (err error) {
	if l := *at; l != nil && (l.torn || l.at != from) {
		l.close()
		*at = nil
	}
	if *at == nil {
		place := replica.Position{ReplID: s.local.ReplID(from), Offset: from}
		if *at, err = openLane(s.dir, s.local.Number, place, s.codec, s.id, s.r.piece); err != nil {
			return err
		}
	}
	began := time.Now()
	l := *at
	o, err := l.take(cut)
	if err != nil {
		return err
	}
	defer o.close()
	if !slices.ContainsFunc(s.local.Timeline.Histories, func(h archive.History) bool { return h.ReplID == o.head.History }) {
		return errTurned // the fact of a new id goes before the bytes
	}
	names := rangeName(o.head.From, o.head.To)
	key := fmt.Sprintf("%s/log/%s/%s", s.name, o.head.History, names)
	if cut == 0 {
		s.tails++
		key = fmt.Sprintf("%s/tail/%s/%012d.%s.%s", s.name, s.id, s.tails, o.head.History, names)
	}
	err = s.create(ctx, key, o)
	if errors.Is(err, ErrContradiction) && cut != 0 {
		s.set(func(is *Status) { is.Conflicts++ })
		s.observe(archive.Event{Kind: archive.RemoteContradiction, Offset: o.head.From, Bytes: o.head.To - o.head.From, Err: err})
		err = s.create(ctx, key+"."+s.id, o)
	}
	if err != nil {
		return err
	}
	if cut != 0 {
		s.closed = o.head.To
	}
	s.held = max(s.held, o.head.To)
	stored := s.archive.Progress().Stored
	s.set(func(is *Status) {
		is.Since = time.Time{}
		if stored > s.held {
			is.Since = began
		}
	})
	s.told()
	return nil
}
