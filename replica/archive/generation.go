package archive

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Names in a generation's folder. Those of the AOF are redis.conf's defaults
// for appenddirname and appendfilename.
const (
	AOFDir       = "appendonlydir"
	ManifestName = "appendonly.aof.manifest" // in AOFDir
	TimelineName = "timeline"
	FsyncedName  = "fsynced"
)

const (
	lockName     = "LOCK"
	baseName     = "appendonly.aof.1.base.rdb"
	tmpSuffix    = ".tmp"
	prunedSuffix = ".pruned" // behind the name of one that is being removed
)

// generation is the folder of one base and the log behind it.
type generation struct {
	dir    string
	number int
}

func generationIn(dir string, number int) generation {
	return generation{dir: filepath.Join(dir, fmt.Sprintf("generation-%06d", number)), number: number}
}

func incrName(seq int) string { return fmt.Sprintf("appendonly.aof.%d.incr.aof", seq) }

// incrSeq is the number in a name of incrName's.
func incrSeq(name string) (seq int, ok bool) {
	_, err := fmt.Sscanf(name, "appendonly.aof.%d.incr.aof", &seq)
	return seq, err == nil && name == incrName(seq)
}

func (g generation) aofs() string            { return filepath.Join(g.dir, AOFDir) }
func (g generation) aof(name string) string  { return filepath.Join(g.dir, AOFDir, name) }
func (g generation) base() string            { return g.aof(baseName) }
func (g generation) segment(seq int) string  { return g.aof(incrName(seq)) }
func (g generation) timeline() string        { return filepath.Join(g.dir, TimelineName) }
func (g generation) fsynced() string         { return filepath.Join(g.dir, FsyncedName) }
func (g generation) parent() string          { return filepath.Dir(g.dir) }
func (g generation) tmp() generation         { return generation{g.dir + tmpSuffix, g.number} }
func (g generation) finished() (bool, error) { return exists(g.aof(ManifestName)) }

func exists(path string) (bool, error) {
	_, err := os.Stat(path)
	return err == nil, ignoreMissing(err)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// folder says whether an entry is a folder, or a symbolic link to one; true
// beside the error of one that can't be looked at.
func folder(dir string, e fs.DirEntry) (bool, error) {
	if e.Type()&fs.ModeSymlink == 0 {
		return e.IsDir(), nil
	}
	st, err := os.Stat(filepath.Join(dir, e.Name()))
	return err != nil || st.IsDir(), err
}

// generations lists the generations below dir, oldest first, and the .tmp
// folders of those that are in the making. A generation of the first list was
// finished; what it lacks now was taken away since.
func generations(dir string) (done, unfinished []generation, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		g := generation{dir: filepath.Join(dir, e.Name())}
		name, making := strings.CutSuffix(e.Name(), tmpSuffix)
		_, err := fmt.Sscanf(name, "generation-%d", &g.number)
		if is, _ := folder(dir, e); err != nil || !is || g.number < 1 || generationIn(dir, g.number).dir != filepath.Join(dir, name) {
			continue
		}
		if making {
			unfinished = append(unfinished, g)
		} else {
			done = append(done, g)
		}
	}
	byNumber := func(a, b generation) int { return a.number - b.number }
	slices.SortFunc(done, byNumber)
	slices.SortFunc(unfinished, byNumber)
	return done, unfinished, nil
}

// Manifest is the text that tells redis-server what to load, in order: the base
// and the segments up to last, which are numbered without a gap (aofManifest in
// Redis' aof.c).
func Manifest(last int) []byte {
	p := fmt.Appendf(nil, "file %s seq 1 type b\n", baseName)
	for seq := 1; seq <= last; seq++ {
		p = fmt.Appendf(p, "file %s seq %d type i\n", incrName(seq), seq)
	}
	return p
}

// writeManifest has the manifest name the segments up to last.
func (g generation) writeManifest(last int, d disk) error {
	return d.replace(g.aof(ManifestName), func(f *os.File) error {
		_, err := d.pwrite(f, Manifest(last), 0)
		return err
	})
}
