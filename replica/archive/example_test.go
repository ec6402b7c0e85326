package archive_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"replicad/replica"
	"replicad/replica/archive"
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

func ExampleLocate() {
	dir, err := os.MkdirTemp("", "replicad-example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	dir = filepath.Join(dir, "main")
	if err := write(dir); err != nil {
		fmt.Println(err)
		return
	}
	// The zero Target means the latest moment.
	generation, point, err := archive.Locate(dir, archive.Target{}, time.Now())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer generation.Close()
	fmt.Printf("generation %d, from offset %d to %d\n", point.Generation, generation.Timeline.BaseOffset, point.Offset)
	// Output:
	// generation 1, from offset 1000 to 1038
}
