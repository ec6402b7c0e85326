package restore_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/archive/restore"
	"replicad/replica/rdb/rdbtest"
	"replicad/replica/resp"
)

// write makes an archive of an empty RDB and one command, as a link does.
func write(dir string) error {
	a, err := archive.Open(dir, archive.Options{})
	if err != nil {
		return err
	}
	base, err := a.BeginBase(replica.FullSync{ReplID: strings.Repeat("a", 40), Offset: 1000, Size: -1})
	if err != nil {
		return err
	}
	if _, err := base.Write(rdbtest.Empty(0, true)); err != nil {
		return err
	}
	pos, err := base.Commit()
	if err != nil {
		return err
	}
	n := copy(a.Buffer(), resp.AppendCommand(nil, "SET", "greeting", "hello"))
	a.Commit(n, replica.Boundary{Offset: pos.Offset + int64(n)})
	return a.Close()
}

func ExampleRun() {
	dir, err := os.MkdirTemp("", "replicad-example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	if err := write(filepath.Join(dir, "main")); err != nil {
		fmt.Println(err)
		return
	}
	result, err := restore.Run(context.Background(), restore.Options{
		Dir: filepath.Join(dir, "main"), // its zero Target means the latest moment
		Out: filepath.Join(dir, "restored"),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	// redis-server --appendonly yes --dir restored
	fmt.Printf("%s of %d segment, up to offset %d\n", result.Format, result.Segments, result.Offset)
	// Output:
	// multipart of 1 segment, up to offset 1038
}
