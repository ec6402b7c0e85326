package eventloop

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// FileProc handles a file event. mask holds those bits that it is registered
// for and that are ready now, and Err or HangUp where epoll reported them.
type FileProc func(fd int, mask Mask)

// fileEvent is one descriptor's registration. Redis: aeFileEvent, ae.h.
type fileEvent struct {
	mask                Mask // None: not in the epoll set
	generation          int32
	readProc, writeProc FileProc
	// The CreateFileEvent call that set each proc. The two are equal where one
	// call registered one proc for both bits. ae.c finds that by comparing the
	// function pointers; functions cannot be compared in Go.
	readCall, writeCall uint64
}

// CreateFileEvent registers proc for Readable, Writable or both. Bits that were
// registered before stay, with their proc; a bit that is registered again gets
// the new one.
//
// When both bits are ready, a proc that was registered for them in one call is
// called once, with both. Two procs are called one after the other, the
// readable one first, and the writable one only if its registration is still
// the same then. Errors and hang-ups are reported to each registered proc, see
// Err.
//
// A descriptor that was closed without DeleteFileEvent, and whose number is in
// use again, is treated as the new one that it is: nothing of the old
// registration is left. The error wraps epoll_ctl's errno: EPERM for a regular
// file (it is always ready, epoll does not take it), EBADF for a closed
// descriptor.
func (l *Loop) CreateFileEvent(fd int, mask Mask, proc FileProc) error {
	mask &= both
	switch {
	case l.closed:
		return ErrStopped
	case mask == None:
		return errors.New("eventloop: register a file event for neither READABLE nor WRITABLE")
	case proc == nil:
		return errors.New("eventloop: register a file event without a handler")
	case fd < 0:
		return fmt.Errorf("eventloop: register descriptor %d: %w", fd, unix.EBADF)
	}
	l.grow(fd)
	f := &l.files[fd]
	if err := l.enter(fd, f, mask); err != nil {
		return fmt.Errorf("eventloop: register descriptor %d for %s: %w", fd, mask, err)
	}
	l.calls++
	f.mask |= mask
	if mask&Readable != 0 {
		f.readProc, f.readCall = proc, l.calls
	}
	if mask&Writable != 0 {
		f.writeProc, f.writeCall = proc, l.calls
	}
	return nil
}

// enter puts a descriptor into the epoll set, or adds to what it is watched
// for. It asks the kernel even where nothing changes for the kernel: only the
// answer tells that a descriptor was closed behind the loop's back.
func (l *Loop) enter(fd int, f *fileEvent, mask Mask) error {
	if f.mask != None {
		err := l.control(unix.EPOLL_CTL_MOD, fd, f.generation, f.mask|mask)
		if err == nil {
			return nil
		}
		// ENOENT: another file has the number now. EBADF: none has. Either way
		// the old registration is void.
		*f = fileEvent{}
		if err != unix.ENOENT {
			return err
		}
	}
	l.generations++
	generation := int32(l.generations)
	if err := l.control(unix.EPOLL_CTL_ADD, fd, generation, mask); err != nil {
		return err
	}
	f.generation = generation
	return nil
}

// DeleteFileEvent takes back the registration for the bits of mask. With none
// left the descriptor leaves the epoll set, and no event that is already on its
// way is delivered. Call it before close(2). It is no error where the
// descriptor is not registered, or was closed already. It is one (ENOENT or
// EBADF) where that close took the other bit with it.
func (l *Loop) DeleteFileEvent(fd int, mask Mask) error {
	if l.closed {
		return ErrStopped
	}
	mask &= both & l.FileEvents(fd)
	if mask == None {
		return nil
	}
	f := &l.files[fd]
	left := f.mask &^ mask
	if left == None {
		*f = fileEvent{}
		err := l.control(unix.EPOLL_CTL_DEL, fd, 0, None)
		if err != nil && err != unix.ENOENT && err != unix.EBADF {
			return fmt.Errorf("eventloop: remove descriptor %d: %w", fd, err)
		}
		return nil
	}
	if err := l.control(unix.EPOLL_CTL_MOD, fd, f.generation, left); err != nil {
		*f = fileEvent{}
		return fmt.Errorf("eventloop: keep descriptor %d for %s: %w", fd, left, err)
	}
	f.mask = left
	if mask&Readable != 0 {
		f.readProc, f.readCall = nil, 0
	}
	if mask&Writable != 0 {
		f.writeProc, f.writeCall = nil, 0
	}
	return nil
}

// FileEvents is what a descriptor is registered for: Readable, Writable, both
// or None. Redis: aeGetFileEvents, ae.c.
func (l *Loop) FileEvents(fd int) Mask {
	if fd < 0 || fd >= len(l.files) {
		return None
	}
	return l.files[fd].mask
}

func (l *Loop) grow(fd int) {
	if more := fd + 1 - len(l.files); more > 0 {
		l.files = append(l.files, make([]fileEvent, more)...)
	}
}

// control is epoll_ctl(2). Pad is the upper half of epoll_data, which the
// kernel keeps and returns with every event.
func (l *Loop) control(op, fd int, generation int32, mask Mask) error {
	return unix.EpollCtl(l.epfd, op, fd, &unix.EpollEvent{Events: mask.epollEvents(), Fd: int32(fd), Pad: generation})
}

// dispatch calls the handlers of one event, where they are still those of the
// registration that the event is about. A handler may do anything to the
// registrations, so nothing that a handler could have changed is used after its
// call.
func (l *Loop) dispatch(e *unix.EpollEvent) {
	fd := int(e.Fd)
	if fd >= len(l.files) {
		return
	}
	f := l.files[fd] // a copy
	mask := maskOf(e.Events)
	fired, extra := mask&f.mask, mask&(Err|HangUp)
	if f.generation != e.Pad || fired == None {
		return
	}
	if fired == both && f.readCall == f.writeCall {
		f.readProc(fd, both|extra)
		return
	}
	if fired&Readable != 0 {
		f.readProc(fd, Readable|extra)
	}
	if fired&Writable != 0 && fd < len(l.files) && l.files[fd].writeCall == f.writeCall {
		f.writeProc(fd, Writable|extra)
	}
}
