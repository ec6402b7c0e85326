package remote

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"replicad/replica/archive"
)

// manifest is the object generation/NUMBER.
type manifest struct {
	Format   int       `json:"replicad"`
	Writer   string    `json:"writer"`
	Base     string    `json:"base"` // the key below which the parts are
	History  string    `json:"history"`
	Offset   int64     `json:"offset"`
	DB       int       `json:"db"`   // that is in force there
	Size     int64     `json:"size"` // of the RDB, in bytes
	Part     int64     `json:"part"` // of its parts, but for the last one
	CRC      string    `json:"crc32c"`
	Time     time.Time `json:"time"` // as archive.Timeline's BaseTime
	Since    time.Time `json:"since,omitzero"`
	SinceAt  int64     `json:"since_offset,omitempty"`
	Fork     *int64    `json:"fork,omitempty"`   // the offset at which the generation leaves Parent
	Parent   int       `json:"parent,omitempty"` // its number here; 0 where it is not here
	Replicad int       `json:"generation"`       // its number in the writer's archive
}

// generation is one in the remote.
type generation struct {
	manifest
	number int
	// The histories that it follows: ids[k+1] is the same as ids[k] up to
	// least[k+1], and even up to most[k+1].
	ids         []string
	least, most []int64
}

// piece is a part of a history that an object has.
type piece struct {
	entry
	id       string
	from, to int64 // that are taken of it
	begins   int64 // what its name says
	ends     int64
	closed   bool
	writer   string // of a tail
}

// view is what a listing says of one archive.
type view struct {
	name        string
	generations []*generation // by their numbers
	log         map[string][]piece
	parts       map[string]map[int]entry // of bases, by the key of the base
	tails       int64                    // the highest number of a tail
	foreign     []string                 // keys that are none of ours
}

const noID = "-"

func idName(id string) string { return cmp.Or(id, noID) }

func rangeName(from, to int64) string { return fmt.Sprintf("%020d-%020d", from, to) }

// parseRange reads what rangeName writes, and what may follow behind a dot.
func parseRange(s string) (from, to int64, more string, ok bool) {
	s, more, _ = strings.Cut(s, ".")
	a, b, _ := strings.Cut(s, "-")
	from, err := strconv.ParseInt(a, 10, 64)
	to, err2 := strconv.ParseInt(b, 10, 64)
	return from, to, more, err == nil && err2 == nil && from >= 0 && to > from && s == rangeName(from, to)
}

// look lists an archive, and reads its manifests.
func (r *Remote) look(ctx context.Context, name string) (*view, error) {
	v := &view{name: name, log: map[string][]piece{}, parts: map[string]map[int]entry{}}
	type step struct {
		number int
		from   int64
		id     string
	}
	var steps []step
	var numbers []int
	err := r.list(ctx, name+"/", func(e entry) {
		kind, rest, _ := strings.Cut(strings.TrimPrefix(e.key, name+"/"), "/")
		dir, last, nested := strings.Cut(rest, "/")
		switch {
		case kind == "generation" && !nested:
			word := strings.SplitN(rest, ".", 3)
			n, err := strconv.Atoi(word[0])
			if err == nil && n > 0 && len(word) == 1 {
				numbers = append(numbers, n)
				return
			}
			if len(word) == 3 && err == nil {
				if from, err := strconv.ParseInt(word[1], 10, 64); err == nil {
					steps = append(steps, step{n, from, word[2]})
					return
				}
			}
		case kind == "log" && nested:
			if from, to, _, ok := parseRange(last); ok {
				v.log[dir] = append(v.log[dir], piece{entry: e, id: dir, from: from, to: to, begins: from, ends: to, closed: true})
				return
			}
		case kind == "tail" && nested:
			word := strings.SplitN(last, ".", 3)
			n, err := strconv.ParseInt(word[0], 10, 64)
			if err == nil && len(word) == 3 {
				if from, to, _, ok := parseRange(word[2]); ok {
					v.log[word[1]] = append(v.log[word[1]], piece{entry: e, id: word[1], from: from, to: to, begins: from, ends: to, writer: dir})
					v.tails = max(v.tails, n)
					return
				}
			}
		case kind == "base" && nested:
			if n, err := strconv.Atoi(last); err == nil && n >= 0 {
				base := name + "/base/" + dir
				if v.parts[base] == nil {
					v.parts[base] = map[int]entry{}
				}
				v.parts[base][n] = e
				return
			}
		}
		v.foreign = append(v.foreign, e.key)
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(numbers)
	for _, n := range numbers {
		g, err := r.generation(ctx, name, n)
		if err != nil {
			return nil, err
		}
		v.generations = append(v.generations, g)
	}
	slices.SortStableFunc(steps, func(a, b step) int { return cmp.Compare(a.from, b.from) })
	for _, s := range steps {
		if g := v.generation(s.number); g != nil {
			g.goesOn(s.id, s.from)
		}
	}
	return v, nil
}

func generationKey(name string, number int) string {
	return fmt.Sprintf("%s/generation/%06d", name, number)
}

func (r *Remote) generation(ctx context.Context, name string, number int) (*generation, error) {
	key := generationKey(name, number)
	p, err := r.get(ctx, key, 0, -1)
	if err != nil {
		return nil, err
	}
	g := &generation{number: number}
	if err := unseal(p, &g.manifest); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", key, ErrDamaged, err)
	}
	if g.Part <= 0 || g.Size < 0 || g.Offset < 0 {
		return nil, fmt.Errorf("%s: %w: its numbers are wrong", key, ErrDamaged)
	}
	if g.Format != formatVersion {
		return nil, fmt.Errorf("%s: %w: it has format %d, and this replicad reads format %d", key, ErrDamaged, g.Format, formatVersion)
	}
	g.ids, g.least, g.most = []string{g.History}, []int64{g.Offset}, []int64{g.Offset}
	return g, nil
}

// goesOn notes that behind an offset the generation has another id. Of two that
// saw the change at different places both are right.
func (g *generation) goesOn(id string, from int64) {
	if i := slices.Index(g.ids, id); i > 0 && i == len(g.ids)-1 {
		g.most[i] = max(g.most[i], from)
		return
	}
	g.ids, g.least, g.most = append(g.ids, id), append(g.least, from), append(g.most, from)
}

func (v *view) generation(number int) *generation {
	i := slices.IndexFunc(v.generations, func(g *generation) bool { return g.number == number })
	if i < 0 {
		return nil
	}
	return v.generations[i]
}

// histories are the ids as a timeline has them.
func (g *generation) histories() (all []archive.History) {
	for k, id := range g.ids {
		if id == noID {
			id = ""
		}
		all = append(all, archive.History{ReplID: id, From: g.most[k]})
	}
	return all
}

// cover gives the pieces that have the generation's history from its base on, one
// behind the other without a gap, each as much of its object as is needed.
func (v *view) cover(g *generation, closed bool) (all []piece) {
	var waiting [][]piece // of each id, those that begin behind at, in order
	for _, id := range g.ids {
		of := slices.Clone(v.log[id])
		slices.SortFunc(of, func(a, b piece) int { return cmp.Compare(a.from, b.from) })
		waiting = append(waiting, of)
	}
	begun := make([][]piece, len(g.ids))
	for at := g.Offset; ; {
		var best piece
		for k := range g.ids {
			for len(waiting[k]) > 0 && waiting[k][0].from <= at {
				if p := waiting[k][0]; p.closed || !closed {
					begun[k] = append(begun[k], p)
				}
				waiting[k] = waiting[k][1:]
			}
			begun[k] = slices.DeleteFunc(begun[k], func(p piece) bool { return p.to <= at })
			end := int64(math.MaxInt64)
			if k+1 < len(g.ids) {
				end = g.most[k+1]
			}
			if at < g.least[k] || at >= end {
				continue
			}
			for _, p := range begun[k] {
				p.to = min(p.to, end)
				if better(p, best, at) {
					best = p
				}
			}
		}
		if best.to == 0 {
			return all
		}
		best.from = at
		all, at = append(all, best), best.to
	}
}

// better says whether one piece is to be taken rather than another: one that
// begins at the place, for of one that begins before, the database is not known
// there; a closed one; the longer one.
func better(p, than piece, at int64) bool {
	worth := func(p piece) int {
		switch {
		case p.from == at && p.closed:
			return 2
		case p.from == at:
			return 1
		}
		return 0
	}
	a, b := worth(p), worth(than)
	return than.to == 0 || a > b || a == b && p.to > than.to
}

// end is where pieces end that begin at an offset.
func end(pieces []piece, from int64) int64 {
	if n := len(pieces); n > 0 {
		return pieces[n-1].to
	}
	return from
}

// partsOf are the parts of a base, in their order. The error wraps ErrMissing
// where one is missing.
func (v *view) partsOf(g *generation) (all []entry, err error) {
	has := v.parts[g.Base]
	for n := range g.parts() {
		e, ok := has[n]
		if !ok {
			return nil, fmt.Errorf("%w: part %d of the base %s is not there", ErrMissing, n, g.Base)
		}
		all = append(all, e)
	}
	return all, nil
}

// parts is how many parts the base has.
func (m manifest) parts() int { return int((m.Size + m.Part - 1) / m.Part) }
