package archive

import (
	"os"

	"golang.org/x/sys/unix"
)

const (
	// mostAhead is how much of the disk is allocated ahead of a file, at
	// most.
	mostAhead = 64 << 20
	// margin is how far ahead of a file's end the next piece is allocated.
	margin = 1 << 20
	// plenty is what must be free for that: on a disk that is nearly full,
	// nothing is kept from others.
	plenty = 16 * mostAhead
	// writeback is how many written bytes make the kernel start to send
	// them to the disk, so that no fsync finds gigabytes to do.
	writeback = 8 << 20
)

// ahead prepares the disk for a file that grows.
//
// It allocates space ahead of the file's end, which makes the writes cheaper:
// where none is allocated, ext4 reserves space for each block that is written.
// The file's length stays what was written (FALLOC_FL_KEEP_SIZE), and a file
// never has more allocated ahead than it holds, up to mostAhead. A truncate
// gives back what is left in the end; after a crash, recovery or the end of the
// generation does so.
//
// It also has the kernel write back what was written, a piece at a time. Both
// are hints: where they are refused, writing goes on as without them.
type ahead struct {
	allocated int64 // file position up to which space was asked for
	kicked    int64 // file position up to which writeback was started
}

// grew tells that the file ends at end now, and will not grow beyond last.
func (a *ahead) grew(f *os.File, d disk, end, last int64) {
	a.allocate(f, d, end, last)
	if end-a.kicked >= writeback {
		_ = unix.SyncFileRange(int(f.Fd()), a.kicked, end-a.kicked, unix.SYNC_FILE_RANGE_WRITE)
		a.kicked = end
	}
}

func (a *ahead) allocate(f *os.File, d disk, end, last int64) {
	if end < margin || end+margin <= a.allocated || end >= last {
		return
	}
	step := min(end, mostAhead, last-end)
	a.allocated = end + step
	if free, err := d.free(f.Name()); err != nil || free < plenty {
		return
	}
	_ = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, end, step)
}
