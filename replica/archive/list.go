package archive

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Master is what a folder holds of one master.
type Master struct {
	Name        string       `json:"name"`
	Dir         string       `json:"dir"`
	Running     bool         `json:"running"` // a replicad holds the lock
	Generations []Generation `json:"generations"`
	// Problem says why the folder can't be read; it may be no archive.
	Problem string `json:"problem,omitempty"`
}

// Generation describes one full sync and the stream behind it.
type Generation struct {
	Number        int       `json:"number"`
	Dir           string    `json:"dir"` // redis-server --appendonly yes --dir
	Complete      bool      `json:"complete"`
	Closed        bool      `json:"closed"` // nothing more will be written to it
	Histories     []History `json:"replication_ids"`
	BaseOffset    int64     `json:"base_offset"`
	BaseBytes     int64     `json:"base_bytes"`
	BaseVerified  bool      `json:"base_verified"`
	BaseCRCKnown  bool      `json:"base_crc_known"` // the timeline has the CRC-32C of the base's file
	Segments      int       `json:"segments"`
	Sealed        int       `json:"segments_sealed"`   // how many of them are complete
	Verified      int       `json:"segments_verified"` // how many were read again, and are what was written
	Damaged       int       `json:"segments_damaged"`  // how many were read again, and are not
	EndOffset     int64     `json:"end_offset"`        // the last byte in the files
	FsyncedOffset int64     `json:"fsynced_offset"`    // the last byte that is durable
	// From and To are the first and the last time that the generation can be
	// restored to, as in [Range]. From is when its base was complete, or, after
	// a rebase, when it took over; To is when the last byte came. Where a later
	// generation has a time, too, the time is restored from the later one.
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to,omitzero"`
	// Witnessed is how much time the marks have seen go by, in nanoseconds: see
	// [Timeline].
	Witnessed time.Duration `json:"witnessed"`
	Rebased   bool          `json:"rebased"` // a rebase began it, not a full sync
	Forked    bool          `json:"forked"`  // a failover began it: it goes on from a fork
	Bytes     int64         `json:"bytes"`   // base and segments
	// Alone is how many of the bytes no other generation has: two generations
	// may share segments, as hard links.
	Alone int64 `json:"bytes_alone"`
	// Frees is how many bytes go from the disk with the generation, when all
	// before it have gone: those that no later generation has. The sum over
	// all is what the archive takes.
	Frees   int64  `json:"bytes_freed"`
	Problem string `json:"problem,omitempty"`
	// Needs is what a server must have to load the generation, beside what every
	// one has, as far as it was noticed.
	Needs []Need `json:"needs,omitempty"`
	// Lost is what the failover has lost behind which this generation goes on;
	// nil where it goes on from no fork, or the generation before is not kept.
	Lost *Lost `json:"lost,omitempty"`

	fork  Fork
	files []os.FileInfo // base and segments
}

// lostFound is the folder that fsck(8) keeps for itself on each file system.
const lostFound = "lost+found"

// List describes the archives below dir, whether a daemon writes them or not.
// A folder that can't be read has a Problem.
func List(dir string) ([]Master, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	masters := []Master{}
	for _, e := range entries {
		is, err := folder(dir, e)
		if !is || e.Name() == lostFound {
			continue
		}
		m := Master{Name: e.Name(), Dir: filepath.Join(dir, e.Name()), Generations: []Generation{}}
		if err == nil {
			m, is, err = Describe(m.Dir)
		}
		if err != nil {
			m.Problem = err.Error()
		}
		if is || err != nil {
			masters = append(masters, m)
		}
	}
	return masters, nil
}

// Describe describes the archive of one master; false where dir is none. It
// reads whole timelines; to describe an archive repeatedly, use a [Describer].
func Describe(dir string) (Master, bool, error) { return NewDescriber(dir).Describe() }

// Describer describes one master's archive again and again. A timeline may have
// millions of marks: a Describer reads only what was added to it since the last
// time. The methods may be called from any goroutine; they wait for each other.
type Describer struct {
	dir string

	mu   sync.Mutex
	read map[string]*readSoFar // by the generation's folder
	lost map[string]*Lost      // likewise; what is settled
}

// readSoFar is a timeline that is known up to a length.
type readSoFar struct {
	file     os.FileInfo
	timeline Timeline
	length   int64
}

// NewDescriber makes one for the archive in dir. It reads nothing yet.
func NewDescriber(dir string) *Describer {
	return &Describer{dir: dir, read: map[string]*readSoFar{}, lost: map[string]*Lost{}}
}

// Describe is [Describe].
func (d *Describer) Describe() (Master, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	m, ok, err := d.describe()
	maps.DeleteFunc(d.read, func(dir string, _ *readSoFar) bool {
		return err == nil && !slices.ContainsFunc(m.Generations, func(g Generation) bool { return g.Dir == dir })
	})
	return m, ok, err
}

// timeline goes on where the last reading ended, unless the file is another one
// or is shorter now: recovery replaces and cuts it.
func (d *Describer) timeline(g generation) (Timeline, error) {
	f, err := os.Open(g.timeline())
	if err != nil {
		return Timeline{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return Timeline{}, err
	}
	k := d.read[g.dir]
	if k == nil || !os.SameFile(k.file, st) || st.Size() < k.length {
		k = &readSoFar{}
		d.read[g.dir] = k
	}
	k.file = st
	if _, err := f.Seek(k.length, io.SeekStart); err != nil {
		return Timeline{}, err
	}
	k.length, err = k.timeline.read(f, k.length, visitor{})
	t := k.timeline
	t.Histories, t.Segments, t.Needs = slices.Clone(t.Histories), slices.Clone(t.Segments), slices.Clone(t.Needs)
	return t, err
}

func (d *Describer) describe() (Master, bool, error) {
	dir := d.dir
	m := Master{Name: filepath.Base(dir), Dir: dir, Generations: []Generation{}}
	isArchive, err := exists(filepath.Join(dir, lockName))
	if err != nil || !isArchive {
		return m, false, err
	}
	m.Running = locked(filepath.Join(dir, lockName))
	done, unfinished, err := generations(dir)
	if err != nil {
		return m, false, err
	}
	for _, g := range append(done, unfinished...) {
		is, err := d.generation(g)
		if errors.Is(err, fs.ErrNotExist) && g.gone() {
			continue
		}
		if err != nil {
			is.Problem = err.Error()
		}
		m.Generations = append(m.Generations, is)
	}
	apportion(m.Generations)
	for i := range m.Generations {
		d.describeLoss(m.Generations, &m.Generations[i])
	}
	return m, true, nil
}

// describeLoss says what was lost where a generation goes on from a fork. What
// can't be read is left out: the generation's own problem says so.
func (d *Describer) describeLoss(all []Generation, g *Generation) {
	if g.fork == (Fork{}) {
		return
	}
	if g.Lost = d.lost[g.Dir]; g.Lost != nil {
		return
	}
	i := slices.IndexFunc(all, func(o Generation) bool { return o.Number == g.fork.Generation })
	if i < 0 {
		return
	}
	now, err := g.OpenReader()
	if err != nil {
		return
	}
	defer now.Close()
	was, err := all[i].OpenReader()
	if err != nil {
		return
	}
	defer was.Close()
	if l, err := lost(now, was, g.fork); err == nil {
		g.Lost = &l
		if !l.Pending {
			d.lost[g.Dir] = &l
		}
	}
}

// apportion says what the generations hold alone. They are in order.
func apportion(all []Generation) {
	type inode struct{ dev, number uint64 }
	times := map[inode]int{}
	of := func(st os.FileInfo) inode {
		s := st.Sys().(*syscall.Stat_t)
		return inode{s.Dev, s.Ino}
	}
	for _, g := range all {
		for _, st := range g.files {
			times[of(st)]++
		}
	}
	seen := map[inode]int{}
	for i := range all {
		g := &all[i]
		for _, st := range g.files {
			n := of(st)
			if seen[n]++; seen[n] == times[n] {
				g.Frees += st.Size()
			}
			if times[n] == 1 {
				g.Alone += st.Size()
			}
		}
		g.files = nil
	}
}

// locked says whether somebody holds the lock. It takes a shared lock for a
// moment, which a writer waits for; see lockFile.
func locked(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == unix.EWOULDBLOCK
}

// gone says whether a generation that lacks a file was renamed or removed
// meanwhile, or is a full sync that begins.
func (g generation) gone() bool {
	there, err := exists(g.dir)
	return filepath.Ext(g.dir) == tmpSuffix || err == nil && !there
}

// generation describes a generation that may be written at the same time.
func (d *Describer) generation(g generation) (Generation, error) {
	is := Generation{Number: g.number, Dir: g.dir, Histories: []History{}}
	st, err := os.Stat(g.base())
	if err != nil {
		return is, err
	}
	is.BaseBytes, is.Bytes, is.files = st.Size(), st.Size(), []os.FileInfo{st}
	if filepath.Ext(g.dir) == tmpSuffix {
		return is, nil
	}
	tl, err := d.timeline(g)
	if err != nil {
		return is, err
	}
	if is.Complete, err = g.finished(); err != nil {
		return is, err
	}
	is.Histories, is.BaseOffset, is.Closed = tl.Histories, tl.BaseOffset, tl.Closed
	is.BaseVerified, is.BaseCRCKnown = tl.Verified, tl.HasBaseCRC
	is.From, is.To = tl.span()
	is.Needs = tl.Needs
	is.Witnessed = tl.Witnessed
	is.fork, is.Forked = tl.Fork, tl.Fork != Fork{}
	is.Rebased = !is.Forked && tl.TookOver
	is.count(tl.Segments)
	for _, s := range tl.Segments {
		st, err := os.Stat(g.segment(s.Seq))
		if err != nil {
			return is, err
		}
		is.Bytes, is.files = is.Bytes+st.Size(), append(is.files, st)
		is.EndOffset = s.From + max(st.Size()-s.Header, 0)
	}
	if !is.Complete {
		is.Problem = "its manifest is missing"
	}
	if r, _ := is.ReadFsynced(); r.Found {
		is.FsyncedOffset = min(r.newest.end.offset, is.EndOffset)
	}
	return is, nil
}

// count counts the segments by what is known of them.
func (d *Generation) count(segments []Segment) {
	d.Segments = len(segments)
	for _, s := range segments {
		if s.Sealed {
			d.Sealed++
		}
		if s.Verified {
			d.Verified++
		}
		if s.Damaged {
			d.Damaged++
		}
	}
}
