package redisserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"replicad/replica/rdb"
)

// whole is what a server that has loaded a folder must say in INFO persistence.
// A server that found other files than these, or none, starts as well.
type whole struct {
	base, total int64 // bytes of an AOF's base, and of all its files
	keys        int64 // of a dump.rdb; -1 where they are not known
}

// held looks what a folder holds for a server to load. An appendonly.aof becomes
// the base of a multi-part one (aofUpgradePrepare in Redis' aof.c).
func held(ctx context.Context, dir string) (whole, error) {
	w := whole{keys: -1}
	f, err := os.Open(filepath.Join(dir, "dump.rdb"))
	if err == nil {
		defer f.Close()
		c, err := rdb.ReadContent(ctx, f, func(int64) {})
		if err == nil {
			w.keys = c.Keys
		}
		return w, ctx.Err() // where it is damaged, the server says so
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return w, err
	}
	if st, err := os.Stat(filepath.Join(dir, "appendonly.aof")); err == nil {
		w.base, w.total = st.Size(), st.Size()
		return w, nil
	}
	files, err := os.ReadDir(filepath.Join(dir, "appendonlydir"))
	for _, f := range files {
		st, err := f.Info()
		if err != nil {
			return w, err
		}
		switch filepath.Ext(f.Name()) {
		case ".rdb":
			w.base += st.Size()
			w.total += st.Size()
		case ".aof":
			w.total += st.Size()
		}
	}
	return w, err
}

// is compares that with what the server says. The server may have appended what
// it expired meanwhile.
func (w whole) is(info string) error {
	base, total := field(info, "aof_base_size"), field(info, "aof_current_size")
	if base != w.base || total < w.total {
		return fmt.Errorf("it loaded %d bytes, %d of them a base, and the folder holds %d and %d", total, base, w.total, w.base)
	}
	if n := field(info, "rdb_last_load_keys_loaded") + field(info, "rdb_last_load_keys_expired"); w.keys >= 0 && n != w.keys {
		return fmt.Errorf("it loaded %d keys, and the file holds %d", n, w.keys)
	}
	return nil
}

// field is a number of INFO; 0 where there is none.
func field(info, name string) int64 {
	for line := range strings.Lines(info) {
		if v, is := strings.CutPrefix(strings.TrimSpace(line), name+":"); is {
			n, _ := strconv.ParseInt(v, 10, 64)
			return n
		}
	}
	return 0
}
