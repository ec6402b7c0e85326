package eventloop

import (
	"cmp"
	"strings"

	"golang.org/x/sys/unix"
)

// Mask is a set of events of a descriptor.
type Mask uint32

// The bits of a Mask. Readable and Writable can be registered; Err and HangUp
// are only reported, together with them: as in ae_epoll.c an error or a hang-up
// makes a descriptor readable and writable, since read(2), write(2) or SO_ERROR
// is where the handler learns what happened.
const (
	None     Mask = 0
	Readable Mask = 1 // data, the end of the stream, or a connection to accept
	Writable Mask = 2 // room in the send buffer, or a connect(2) that has its outcome
	Err      Mask = 4 // EPOLLERR was seen
	HangUp   Mask = 8 // EPOLLHUP was seen: both directions are shut down
)

const both = Readable | Writable

// String gives the names of ae.h: "READABLE|WRITABLE"; "NONE" for no bit.
func (m Mask) String() string { return m.join("NONE", "READABLE", "WRITABLE", "ERR", "HUP") }

// EpollNames gives the names of epoll_ctl(2):
// "EPOLLIN|EPOLLOUT|EPOLLERR|EPOLLHUP"; "0" for no bit. Of a mask that a
// handler was given, Readable or Writable may stand there for an error or a
// hang-up only: see Err.
func (m Mask) EpollNames() string { return m.join("0", "EPOLLIN", "EPOLLOUT", "EPOLLERR", "EPOLLHUP") }

// join joins the names of the bits that are set. names are those of all bits,
// the lowest first.
func (m Mask) join(none string, names ...string) string {
	var set []string
	for i, name := range names {
		if m&(1<<i) != 0 {
			set = append(set, name)
		}
	}
	return cmp.Or(strings.Join(set, "|"), none)
}

// epollEvents is what epoll_ctl takes for a mask. EPOLLERR and EPOLLHUP need
// not be asked for.
func (m Mask) epollEvents() uint32 {
	var events uint32
	if m&Readable != 0 {
		events |= unix.EPOLLIN
	}
	if m&Writable != 0 {
		events |= unix.EPOLLOUT
	}
	return events
}

// maskOf is what epoll_wait reported, as a mask.
func maskOf(events uint32) Mask {
	var m Mask
	if events&unix.EPOLLIN != 0 {
		m |= Readable
	}
	if events&unix.EPOLLOUT != 0 {
		m |= Writable
	}
	if events&unix.EPOLLERR != 0 {
		m |= both | Err
	}
	if events&unix.EPOLLHUP != 0 {
		m |= both | HangUp
	}
	return m
}
