package archive

import (
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"replicad/replica"
)

// A model: which offsets each id names, up to where, in the history that leads to
// the end.
func TestALineageResumesWhereItsBytesLeadOnAndNowhereElse(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 7))
		h := newHistory(t, t.TempDir(), r, Options{})
		until := map[string]int64{h.id: 1 << 62} // by id: the last offset that it names
		change := func(from int64, do func()) {
			was := h.id
			do()
			if h.id == was {
				return
			}
			for id, end := range until {
				until[id] = min(end, from)
			}
			until[h.id] = 1 << 62
		}
		for range 8 {
			h.send(commands(r, 20))
			switch r.IntN(3) {
			case 0:
				change(h.end(), func() { h.goOnAs(t) })
			case 1:
				h.rebase(t)
			case 2:
				was := h.id
				h.fork(t)
				if h.id == was {
					break
				}
				for id, end := range until {
					until[id] = min(end, h.end())
				}
				until[h.id] = 1 << 62
			}
		}
		h.send(commands(r, 20))
		l := Lineage{Dir: h.dir}
		for id, last := range until {
			for range 40 {
				at := h.base + r.Int64N(int64(len(h.sent))+40)
				c, is, err := l.Resume(replica.Position{ReplID: id, Offset: at})
				switch {
				case at <= last && at <= h.end():
					if err != nil || is.ReplID != h.id {
						t.Fatalf("seed %d: offset %d of %s, which ends at %d: %v, %v", seed, at, id, last, is, err)
					}
					if is.UpTo <= at {
						t.Fatalf("seed %d: a cursor at offset %d is to be opened anew at %d", seed, at, is.UpTo)
					}
					if got, err := io.ReadAll(io.LimitReader(c, min(is.UpTo, h.end())-at)); err != nil || string(got) != string(h.sent[at-h.base:][:len(got)]) {
						t.Fatalf("seed %d: behind offset %d of %s other bytes come: %v", seed, at, id, err)
					}
					c.Close()
				case at <= last:
					if !errors.Is(err, ErrAhead) {
						t.Fatalf("seed %d: offset %d is behind the end %d: %v", seed, at, h.end(), err)
					}
				case !errors.Is(err, ErrNotKept):
					t.Fatalf("seed %d: offset %d of %s, which ends at %d: %v", seed, at, id, last, err)
				}
			}
		}
		if _, _, err := l.Resume(replica.Position{ReplID: strings.Repeat("f", 40), Offset: h.end()}); !errors.Is(err, ErrNotKept) {
			t.Errorf("an id of another history: %v", err)
		}
		mustClose(t, h.a)
	}
}

func TestAFullSyncEndsALineage(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 7))
	h := newHistory(t, t.TempDir(), r, Options{})
	h.send(commands(r, 20))
	was := replica.Position{ReplID: h.id, Offset: h.end()}
	h.full(t, 1000)
	h.send(commands(r, 20))
	if _, _, err := (Lineage{Dir: h.dir}).Resume(was); !errors.Is(err, ErrNotKept) {
		t.Errorf("a place before a full sync: %v", err)
	}
	mustClose(t, h.a)
}

func TestALineageToAMomentEndsThere(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(4, 7))
	h := newHistory(t, t.TempDir(), r, Options{})
	h.send(commands(r, 20))
	at, id := h.end(), h.id
	h.goOnAs(t)
	h.send(commands(r, 20))
	is, _ := h.a.Current()
	l := Lineage{Dir: h.dir, Generation: is.Generation, Offset: at}
	c, end, err := l.Resume(replica.Position{ReplID: id, Offset: at})
	if err != nil || end.ReplID != id {
		t.Fatalf("the end: %+v, %v", end, err)
	}
	c.Close()
	for _, p := range []replica.Position{{ReplID: id, Offset: at + 1}, {ReplID: h.id, Offset: at}} {
		if _, _, err := l.Resume(p); !errors.Is(err, ErrNotKept) {
			t.Errorf("%+v, behind the moment: %v", p, err)
		}
	}
	mustClose(t, h.a)
}
