package anet

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// What the functions of this package return without any wrapping, so == works
// as well as errors.Is; ErrTimeout and ErrNoMoreEndpoints come wrapped in the
// story of what was tried.
var (
	// ErrWouldBlock is EAGAIN: nothing to read now, or no room to write now.
	// Wait for the descriptor's event.
	ErrWouldBlock = errors.New("anet: the operation would block")

	// ErrTimeout says that SyncWrite ran out of its time.
	ErrTimeout = errors.New("timed out")

	// ErrNoMoreEndpoints says that a Connector has tried all its addresses.
	ErrNoMoreEndpoints = errors.New("no address left to try")
)

// Error is a step that failed on a socket. It prints as "<step> <endpoint>:
// <why> (<ERRNO>)".
type Error struct {
	// Step says what was tried, with its preposition: "connect to", "create a
	// socket for", "read".
	Step string
	// Endpoint is where to; the zero Endpoint where the step knows only a
	// descriptor.
	Endpoint Endpoint
	// Err is why; most often a syscall.Errno.
	Err error
}

// Error implements error.
func (e *Error) Error() string {
	if e.Endpoint == (Endpoint{}) {
		return e.Step + ": " + describe(e.Err)
	}
	return e.Step + " " + e.Endpoint.String() + ": " + describe(e.Err)
}

// Unwrap gives the cause, so that errors.Is(err, syscall.ECONNREFUSED) works.
func (e *Error) Unwrap() error { return e.Err }

// ErrorName gives the symbolic name of the first syscall.Errno that err wraps,
// "ECONNREFUSED" for example, and "" when there is none. Of an error that joins
// several, depth first, the first one with an errno counts.
func ErrorName(err error) string {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return ""
	}
	return unix.ErrnoName(errno)
}

// describe puts the errno's name behind its text, for a bare errno; other
// errors speak for themselves.
func describe(err error) string {
	errno, ok := err.(syscall.Errno)
	if !ok {
		return fmt.Sprint(err)
	}
	if name := unix.ErrnoName(errno); name != "" {
		return errno.Error() + " (" + name + ")"
	}
	return errno.Error()
}
