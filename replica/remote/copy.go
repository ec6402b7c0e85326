package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"replicad/replica/archive"
)

// Copy is what a folder has of the archives of a remote: of each a whole
// generation in all but the bytes, which Fill fetches. So what reads an archive
// reads a remote.
type Copy struct {
	r        *Remote
	dir      string
	archives map[string]*copied
}

// copied is one archive of a Copy.
type copied struct {
	view   *view
	made   map[int]archive.Assembly // by the generation
	pieces map[int][]piece
}

// workers is how many objects are read at once.
const workers = 8

// each calls do with 0 to n-1, some at once, and returns the first error.
func each(ctx context.Context, n int, do func(ctx context.Context, codec *codec, i int) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	next := make(chan int)
	var work sync.WaitGroup
	for range min(workers, n) {
		work.Go(func() {
			c := newCodec()
			defer c.dec.Close()
			for i := range next {
				if err := do(ctx, c, i); err != nil {
					stop(err)
				}
			}
		})
	}
	for i := 0; i < n && ctx.Err() == nil; i++ {
		select {
		case next <- i:
		case <-ctx.Done():
		}
	}
	close(next)
	work.Wait()
	return context.Cause(ctx)
}

// again calls do until it succeeds, or has failed some times in a row. What is
// damaged or missing is asked for once.
func again(ctx context.Context, do func() error) error {
	for tries := range 5 {
		err := do()
		if err == nil || tries == 4 || errors.Is(err, ErrDamaged) && tries > 0 || !worthATry(err) {
			return err
		}
		select {
		case <-time.After(200 * time.Millisecond << tries):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Copy makes in dir the archives of the remote; of one name, where name is not "".
// They are no archives that a daemon may write to. The error wraps ErrMissing
// where there is none.
func (r *Remote) Copy(ctx context.Context, dir, name string) (*Copy, error) {
	c := &Copy{r: r, dir: dir, archives: map[string]*copied{}}
	names := []string{name}
	if name == "" {
		var err error
		if names, err = r.names(ctx); err != nil {
			return nil, err
		}
	}
	for _, n := range names {
		v, err := r.look(ctx, n)
		if err != nil {
			return nil, err
		}
		if len(v.generations) == 0 {
			continue
		}
		a := &copied{v, map[int]archive.Assembly{}, map[int][]piece{}}
		c.archives[n] = a
		for i, g := range v.generations {
			var next *generation
			if i+1 < len(v.generations) {
				next = v.generations[i+1]
			}
			if err := c.make(ctx, a, g, next); err != nil {
				return nil, fmt.Errorf("%s: generation %d: %w", n, g.number, err)
			}
		}
	}
	if len(c.archives) == 0 {
		return nil, fmt.Errorf("%s/%s: %w", r, name, ErrMissing)
	}
	return c, nil
}

// make makes a generation without its bytes. It ends where the next one takes
// over, if that goes on from it.
func (c *Copy) make(ctx context.Context, a *copied, g, next *generation) error {
	pieces := a.view.cover(g, false)
	if next != nil && !next.Since.IsZero() && next.Fork == nil && next.History == g.ids[len(g.ids)-1] {
		i := slices.IndexFunc(pieces, func(p piece) bool { return p.to >= next.Offset })
		if i >= 0 {
			pieces = pieces[:i+1] // so the moments before the next one's first are here
		}
	}
	heads := make([]header, len(pieces))
	err := each(ctx, len(pieces), func(ctx context.Context, _ *codec, i int) (err error) {
		return again(ctx, func() error { heads[i], err = c.r.head(ctx, pieces[i].key, pieces[i].size); return err })
	})
	if err != nil {
		return err
	}
	m := archive.Assembly{
		Number: g.number, BaseOffset: g.Offset, BaseSize: g.Size, BaseTime: g.Time, Histories: g.histories(),
		Since: archive.Moment{Time: g.Since, Offset: g.SinceAt},
	}
	if crc, err := strconv.ParseUint(g.CRC, 16, 32); err == nil {
		m.BaseCRC = uint32(crc)
	}
	if g.Fork != nil {
		m.Fork = archive.Fork{Offset: *g.Fork, Generation: g.Parent}
	}
	for i, p := range pieces {
		h := heads[i]
		if h.History != p.id || h.From != p.begins || h.To != p.ends {
			return fmt.Errorf("%s: %w: its header has another range", p.key, ErrDamaged)
		}
		n := len(m.Segments)
		if n == 0 || m.Segments[n-1].To-m.Segments[n-1].From >= c.r.piece && h.From == p.from && !h.Inside {
			if h.From != p.from || h.Inside {
				return fmt.Errorf("%s: %w: the log does not begin with a command", p.key, ErrDamaged)
			}
			m.Segments = append(m.Segments, archive.Segment{From: p.from, DB: h.DB})
			n++
		}
		m.Segments[n-1].To = p.to
		for _, k := range h.Marks {
			if k[1] > p.from && k[1] <= p.to {
				m.Marks = append(m.Marks, archive.Mark{Time: time.UnixMilli(k[0]), Offset: k[1]})
			}
		}
	}
	if len(m.Segments) == 0 { // nothing has come behind the base yet
		m.Segments = []archive.Segment{{From: g.Offset, To: g.Offset, DB: g.DB}}
	}
	m.Histories = slices.DeleteFunc(m.Histories, func(h archive.History) bool {
		return h.From > g.Offset && h.From >= m.Segments[len(m.Segments)-1].To
	})
	a.made[g.number], a.pieces[g.number] = m, pieces
	return archive.Assemble(filepath.Join(c.dir, a.view.name), m)
}

// head reads the header of an object.
func (r *Remote) head(ctx context.Context, key string, size int64) (header, error) {
	p, err := r.get(ctx, key, 0, min(prelude, size))
	if err != nil {
		return header{}, err
	}
	if n, err := headerSize(p); err == nil && n > int64(len(p)) && n <= size {
		if p, err = r.get(ctx, key, 0, n); err != nil {
			return header{}, err
		}
	}
	h, _, err := readHeader(p)
	if err != nil {
		err = fmt.Errorf("%s/%s: %w", r, key, err)
	}
	return h, err
}

// Fill fetches the base of a generation, and the bytes of its history up to an
// offset or a little behind it. progress is told how many bytes are there, of how
// many; it may be nil.
func (c *Copy) Fill(ctx context.Context, name string, number int, offset int64, progress func(done, total int64)) error {
	a := c.archives[name]
	m, ok := a.made[number]
	if !ok {
		return fmt.Errorf("%w: %s has no generation %d", ErrMissing, name, number)
	}
	dir := filepath.Join(c.dir, name)
	r, err := archive.Generation{Number: number, Dir: filepath.Join(dir, fmt.Sprintf("generation-%06d", number))}.OpenReader()
	if err != nil {
		return err
	}
	defer r.Close()
	segments := 1
	for segments < len(m.Segments) && m.Segments[segments].From < offset {
		segments++
	}
	pieces := slices.DeleteFunc(slices.Clone(a.pieces[number]), func(p piece) bool { return p.from >= m.Segments[segments-1].To })
	parts, err := a.view.partsOf(a.view.generation(number))
	if err != nil {
		return err
	}
	total := m.BaseSize + m.Segments[segments-1].To - m.BaseOffset
	var mu sync.Mutex
	var done int64
	told := func(n int) {
		mu.Lock()
		defer mu.Unlock()
		if done += int64(n); progress != nil {
			progress(min(done, total), total)
		}
	}
	base, err := os.OpenFile(r.BasePath(), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer base.Close()
	files := make([]*os.File, segments)
	for i := range files {
		if files[i], err = os.OpenFile(r.SegmentPath(r.Segments[i]), os.O_WRONLY, 0); err != nil {
			return err
		}
		defer files[i].Close()
	}
	err = each(ctx, len(parts)+len(pieces), func(ctx context.Context, codec *codec, i int) error {
		if i < len(parts) {
			begins := int64(i) * a.view.generation(number).Part
			return c.fetch(ctx, codec, parts[i].key, begins, func(from int64, p []byte) error {
				_, err := base.WriteAt(p, from)
				told(len(p))
				return err
			})
		}
		piece := pieces[i-len(parts)]
		k := 0
		for m.Segments[k].To <= piece.from {
			k++
		}
		return c.fetch(ctx, codec, piece.key, piece.begins, func(from int64, p []byte) error {
			if skip := piece.from - from; skip > 0 {
				p, from = p[min(skip, int64(len(p))):], piece.from
			}
			if over := from + int64(len(p)) - piece.to; over > 0 {
				p = p[:max(0, int64(len(p))-over)]
			}
			_, err := files[k].WriteAt(p, r.Segments[k].Position(from))
			told(len(p))
			return err
		})
	})
	if err != nil {
		return err
	}
	if err := c.sums(ctx, base, m); err != nil {
		return err
	}
	for _, f := range append(files, base) {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	return m.Settle(ctx, dir, segments)
}

// sums checks the base as a whole.
func (c *Copy) sums(ctx context.Context, base *os.File, m archive.Assembly) error {
	var crc uint32
	buf := make([]byte, frameSize)
	for at := int64(0); ; {
		n, err := base.ReadAt(buf, at)
		crc = crc32.Update(crc, castagnoli, buf[:n])
		at += int64(n)
		if err == io.EOF {
			break
		}
		if err = cmp.Or(err, ctx.Err()); err != nil {
			return err
		}
	}
	if crc != m.BaseCRC {
		return fmt.Errorf("the base at offset %d: %w: its CRC-32C is %08x, not %08x", m.BaseOffset, ErrDamaged, crc, m.BaseCRC)
	}
	return nil
}

// fetch gets an object, and calls each with its plain bytes; once more from its
// beginning where the store cut it short.
func (c *Copy) fetch(ctx context.Context, codec *codec, key string, begins int64, each func(from int64, p []byte) error) error {
	return again(ctx, func() error {
		p, err := c.r.get(ctx, key, 0, -1)
		if err != nil {
			return err
		}
		err = codec.decode(p, func(h header, from int64, p []byte) error {
			if h.From != begins {
				return fmt.Errorf("%w: it begins at %d, not at %d", ErrDamaged, h.From, begins)
			}
			return each(from, p)
		})
		if err != nil {
			err = fmt.Errorf("%s/%s: %w", c.r, key, err)
		}
		return err
	})
}
