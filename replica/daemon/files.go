package daemon

import (
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	// filesALink are the descriptors that a link and its archive have.
	filesALink = 5
	// filesOwn are those of the process, and of what comes and goes: full syncs,
	// rebases, readings of a disk.
	filesOwn = 64
)

// FreeFiles says how many descriptors are left for clients, of a process that
// follows so many masters and listens at so many ports. The limit is
// RLIMIT_NOFILE, whose soft limit Go raises at the start. Where not even the
// masters fit, the error wraps ErrSetup and says what to change: else one link
// after the other would fail for ever.
func FreeFiles(masters, ports int) (left int, err error) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil || r.Cur > 1<<30 {
		return 1 << 30, nil
	}
	need := filesOwn + ports + filesALink*masters
	if left = int(r.Cur) - need; left < 0 {
		return 0, fmt.Errorf("%w: %d masters and %d ports take %d file descriptors, and RLIMIT_NOFILE is %d: raise it (ulimit -n, LimitNOFILE= of systemd, --ulimit nofile= of docker), or follow fewer: %d have room",
			ErrSetup, masters, ports, need, r.Cur, max(0, int(r.Cur)-filesOwn-ports)/filesALink)
	}
	return left, nil
}
