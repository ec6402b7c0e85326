package anet

import (
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// Read is one read(2); after EINTR it is tried again. It returns io.EOF when
// the peer has ended its direction, ErrWouldBlock when nothing is there yet,
// and otherwise an *Error that wraps the errno. An empty p reads nothing, 0 and
// nil. Only a failure allocates.
func Read(fd int, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		n, err := unix.Read(fd, p)
		switch {
		case err == nil && n == 0:
			return 0, io.EOF
		case err == nil:
			return n, nil
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return 0, ErrWouldBlock
		default:
			return 0, &Error{Step: "read", Err: err}
		}
	}
}

// Write is one send(2) on a socket, with MSG_NOSIGNAL: a peer that is gone is
// EPIPE, never a signal. After EINTR it is tried again. It may take less than
// all of p; ErrWouldBlock says that it took nothing because the send buffer is
// full. Only a failure allocates.
func Write(fd int, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		n, err := unix.SendmsgN(fd, p, nil, nil, unix.MSG_NOSIGNAL)
		switch err {
		case nil:
			return n, nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, ErrWouldBlock
		default:
			return 0, &Error{Step: "write", Err: err}
		}
	}
}

// SyncWrite writes all of p to a non-blocking socket, and waits where it must,
// but not longer than timeout in all. It writes first and asks the kernel for
// room only after EAGAIN, so the usual small command costs one system call. It
// is for short commands on a connection with an empty send buffer; it BLOCKS
// its thread for up to timeout.
//
// It returns how many bytes the kernel took, all of them without an error.
// errors.Is(err, ErrTimeout) when the time ran out; with a timeout of 0 or less
// it never waits.
//
// Redis: syncWrite, syncio.c.
func SyncWrite(fd int, p []byte, timeout time.Duration) (int, error) {
	start := time.Now()
	written := 0
	for {
		n, err := Write(fd, p[written:])
		written += n
		if written == len(p) {
			return written, nil
		}
		if err != nil && err != ErrWouldBlock {
			return written, err
		}
		left := timeout - time.Since(start)
		if left <= 0 {
			return written, &Error{Step: "write", Err: fmt.Errorf("%w after %s, with %d of %d bytes written",
				ErrTimeout, timeout, written, len(p))}
		}
		if err == ErrWouldBlock {
			if err := waitWritable(fd, left); err != nil {
				return written, err
			}
		}
	}
}

// waitWritable waits until fd is writable, has an error or hung up (the next
// write tells), or the time is over. A signal ends it early, which is fine for
// a caller that writes again and measures time itself.
func waitWritable(fd int, timeout time.Duration) error {
	poll := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	ts := unix.NsecToTimespec(int64(timeout))
	if _, err := unix.Ppoll(poll[:], &ts, nil); err != nil && err != unix.EINTR {
		return &Error{Step: "wait until writable", Err: err}
	}
	return nil
}
