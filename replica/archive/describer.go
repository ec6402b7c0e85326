package archive

import (
	"io"
	"os"
	"slices"
	"sync"
)

// Describer describes one master's archive again and again. A timeline may have
// millions of marks: a Describer reads only what was added to it since the last
// time. The methods may be called from any goroutine; they wait for each other.
type Describer struct {
	dir string

	mu   sync.Mutex
	read map[string]*readSoFar // by the generation's folder
	used map[string]bool       // the folders that this call has asked for
}

// readSoFar is a timeline that is known up to a length.
type readSoFar struct {
	file     os.FileInfo
	timeline Timeline
	length   int64
}

// NewDescriber makes one for the archive in dir. It reads nothing yet.
func NewDescriber(dir string) *Describer {
	return &Describer{dir: dir, read: map[string]*readSoFar{}}
}

// Describe is [Describe].
func (d *Describer) Describe() (Master, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.used = map[string]bool{}
	m, ok, err := d.describe()
	for dir := range d.read {
		if err == nil && !d.used[dir] {
			delete(d.read, dir)
		}
	}
	return m, ok, err
}

// timeline goes on where the last reading ended, unless the file is another one
// or is shorter now: recovery replaces and cuts it.
func (d *Describer) timeline(g generation) (Timeline, error) {
	d.used[g.dir] = true
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
	t.Histories, t.Segments = slices.Clone(t.Histories), slices.Clone(t.Segments)
	return t, err
}
