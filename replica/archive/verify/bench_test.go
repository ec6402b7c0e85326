package verify_test

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"

	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/archive/verify"
	"replicad/replica/rdb/rdbtest"
	"replicad/replica/resp"
	"replicad/replica/units"
)

// BenchmarkVerify reads 256 MiB of stream from the page cache, in commands of
// the usual sizes.
func BenchmarkVerify(b *testing.B) {
	for _, size := range []int{100, 1000, 10000} {
		b.Run(units.FormatSize(int64(size)), func(b *testing.B) { benchmark(b, size) })
	}
}

func benchmark(b *testing.B, size int) {
	dir := filepath.Join(b.TempDir(), "main")
	a, err := archive.Open(dir, archive.Options{AppendFsync: archive.No})
	if err != nil {
		b.Fatal(err)
	}
	base, err := a.BeginBase(replica.FullSync{ReplID: id, Size: -1})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := base.Write(rdbtest.Empty(0, true)); err != nil {
		b.Fatal(err)
	}
	pos, err := base.Commit()
	if err != nil {
		b.Fatal(err)
	}
	p := bytes.Repeat(resp.AppendCommand(nil, "SET", "key", strings.Repeat("v", size)), 1+60000/size)
	end := pos.Offset
	for end < 256<<20 {
		buf := a.Buffer()
		if len(buf) < len(p) {
			// The ring may wrap before there is room for a whole piece.
			buf = buf[:min(len(buf), len(p))]
		}
		n := copy(buf, p[int(end-pos.Offset)%len(p):])
		end += int64(n)
		boundary := end
		if int(end-pos.Offset)%len(p) != 0 {
			boundary = end - (end-pos.Offset)%int64(len(p))
		}
		a.Commit(n, replica.Boundary{Offset: boundary})
	}
	if err := a.Close(); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(end)
	for b.Loop() {
		if _, err := verify.Archive(context.Background(), dir, verify.Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
