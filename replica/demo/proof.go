package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"replicad/replica/archive"
	"replicad/replica/archive/redisserver"
	"replicad/replica/archive/restore"
	"replicad/replica/tables"
	"replicad/replica/units"
)

// prove shows the archive, and compares its files with what the master sent.
func (s *show) prove(ctx context.Context) error {
	masters, err := archive.List(s.dir)
	if err != nil {
		return err
	}
	s.say("7. replicad list --dir %s", s.dir)
	if err := tables.Print(s.out, tables.Archives, s.dir, masters); err != nil {
		return err
	}
	if len(masters) != 1 || len(masters[0].Generations) != 2 {
		return errors.New("the archive does not hold two generations of one master")
	}
	s.say("8. The proof. Each file is compared, byte for byte, with what the master sent:")
	compared, end := 0, int64(0)
	for _, g := range masters[0].Generations {
		n, to, err := s.compare(g)
		if err != nil {
			return fmt.Errorf("generation %d is not what the master sent: %w", g.Number, err)
		}
		compared, end = compared+n, to
	}
	if end < s.acked {
		return fmt.Errorf("offset %d was acknowledged, and the archive ends at %d", s.acked, end)
	}
	fmt.Fprintf(s.out, "   All %s bytes are the same.\n", units.Thousands(int64(compared)))
	return s.load(ctx, masters[0].Dir)
}

// compare compares a generation with the RDB file and the stream that the master
// sent. It says how many bytes it compared, and at which offset they end.
func (s *show) compare(g archive.Generation) (n int, end int64, err error) {
	r, err := g.OpenReader()
	if err != nil {
		return 0, 0, err
	}
	defer r.Close()
	rdb, known := s.snapshots[g.BaseOffset]
	if !known {
		return 0, 0, fmt.Errorf("the master sent no RDB file at offset %d", g.BaseOffset)
	}
	if err := same(r.BasePath(), rdb); err != nil {
		return 0, 0, err
	}
	row := func(file string, n int, format string, args ...any) {
		fmt.Fprintf(s.out, "   generation %d  %-9s  %9s bytes  are %s\n", g.Number, file, units.Thousands(int64(n)), fmt.Sprintf(format, args...))
	}
	row("base", len(rdb), "the RDB file of the full sync at offset %d", g.BaseOffset)
	n = len(rdb)
	first, stream := s.master.Backlog()
	for _, seg := range r.Segments {
		if first != 1 || seg.To > int64(len(stream)) {
			return 0, 0, fmt.Errorf("the master knows bytes %d to %d of the stream, segment %d ends at %d", first, len(stream), seg.Seq, seg.To)
		}
		sent := stream[seg.From:seg.To]
		if err := same(r.SegmentPath(seg), slices.Concat(seg.SelectHeader(), sent)); err != nil {
			return 0, 0, err
		}
		row(fmt.Sprint("segment ", seg.Seq), len(sent), "bytes %d to %d of the stream, with %s in it",
			seg.From+1, seg.To, units.Count(s.resumes(seg), "cut"))
		n += len(sent)
	}
	return n, r.End(), nil
}

// resumes is how often the stream was cut and resumed inside a segment.
func (s *show) resumes(seg archive.Segment) (n int64) {
	for _, at := range s.resumed {
		if at > seg.From && at < seg.To {
			n++
		}
	}
	return n
}

// same says where a file first differs from what was sent.
func same(path string, sent []byte) error {
	file, err := os.ReadFile(path)
	if err != nil || bytes.Equal(file, sent) {
		return err
	}
	at := 0
	for at < min(len(file), len(sent)) && file[at] == sent[at] {
		at++
	}
	return fmt.Errorf("%s: byte %d is the first that differs; the file has %d bytes, %d were sent", path, at, len(file), len(sent))
}

// load has a redis-server from the PATH load a restore, and counts the keys.
func (s *show) load(ctx context.Context, dir string) error {
	if _, err := redisserver.Find(); errors.Is(err, redisserver.ErrNotFound) || errors.Is(err, redisserver.ErrTooOld) {
		s.say("9. There is no redis-server 7.0 or later on the PATH: with one, the demo also has it load a restore.")
		return nil
	}
	latest, err := archive.ParseTarget("latest", time.Now())
	if err != nil {
		return err
	}
	_, report, err := restore.Drill(ctx, restore.Options{Dir: dir, Target: latest})
	if err != nil {
		return err
	}
	for _, loaded := range report.Databases {
		if err := s.do([][]string{{"SELECT", fmt.Sprint(loaded.DB)}}); err != nil {
			return err
		}
		if n, err := s.master.Do("DBSIZE"); err != nil || n != loaded.Keys {
			return fmt.Errorf("redis-server loaded %d keys of database %d, the master has %v: %w", loaded.Keys, loaded.DB, n, err)
		}
	}
	if n := len(report.Databases); n != databases {
		return fmt.Errorf("redis-server loaded %d databases, the master has %d", n, databases)
	}
	s.say("9. redis-server %s loads a restore: %d keys in %d databases, as many in each as the master has.", report.Version, report.Keys, databases)
	return nil
}
