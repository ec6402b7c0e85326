package anet

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// NonBlockConnect starts a connection to ep and returns at once. connected is
// true when connect(2) returned 0, and false when it said EINPROGRESS: wait
// until fd is writable, then ask SocketError. The caller owns fd. On an error
// nothing is left open.
//
// Redis: anetTcpNonBlockConnect and anetUnixGenericConnect, anet.c.
func NonBlockConnect(ep Endpoint) (fd int, connected bool, err error) {
	return NonBlockBindConnect(ep, netip.Addr{})
}

// NonBlockBindConnect is NonBlockConnect from a local address of the caller's
// choice (the port stays the kernel's). It fails when that address cannot be
// had: not one of this machine's (EADDRNOTAVAIL), or of another family than the
// endpoint's. The zero netip.Addr means no bind.
//
// Redis: anetTcpNonBlockBindConnect, anet.c.
func NonBlockBindConnect(ep Endpoint, source netip.Addr) (fd int, connected bool, err error) {
	family, remote, err := ep.sockaddr()
	if err != nil {
		return -1, false, &Error{Step: "connect to", Endpoint: ep, Err: err}
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, false, &Error{Step: "create a socket for", Endpoint: ep, Err: err}
	}
	if source.IsValid() {
		if err := bind(fd, family, source); err != nil {
			unix.Close(fd)
			return -1, false, &Error{Step: fmt.Sprintf("bind to %s, to connect to", source), Endpoint: ep, Err: err}
		}
	}
	connected, err = connect(fd, remote)
	if err != nil {
		unix.Close(fd)
		step := "connect to"
		if source.IsValid() {
			step = fmt.Sprintf("connect from %s to", source)
		}
		return -1, false, &Error{Step: step, Endpoint: ep, Err: err}
	}
	return fd, connected, nil
}

// NonBlockBestEffortBindConnect tries NonBlockBindConnect, and when that fails
// at once, because of the bind or of anything else, NonBlockConnect. LocalAddr
// tells which it was. A connection that gets under way from source and fails
// later, with a timeout for instance, is not tried again.
//
// Redis: anetTcpNonBlockBestEffortBindConnect, anet.c.
func NonBlockBestEffortBindConnect(ep Endpoint, source netip.Addr) (fd int, connected bool, err error) {
	if source.IsValid() {
		if fd, connected, err = NonBlockBindConnect(ep, source); err == nil {
			return fd, connected, nil
		}
	}
	return NonBlockBindConnect(ep, netip.Addr{})
}

// connect calls connect(2). A signal may interrupt it after the connection is
// under way, so that the second call finds it there: EALREADY, or EISCONN when
// it was fast.
func connect(fd int, sa unix.Sockaddr) (connected bool, err error) {
	for {
		switch err := unix.Connect(fd, sa); err {
		case nil, unix.EISCONN:
			return true, nil
		case unix.EINPROGRESS, unix.EALREADY:
			return false, nil
		case unix.EINTR:
		default:
			return false, err
		}
	}
}

// errFamily: no socket of the endpoint's family can be bound to the source
// address.
var errFamily = errors.New("the source address and the endpoint are of different families")

// bind gives the socket its local address, port 0. IP_BIND_ADDRESS_NO_PORT
// (ip(7), Linux 4.2) leaves the choice of the port to connect(2), which knows
// the peer and so can use a port that is busy towards another one; without it,
// thousands of connections from one source run out of ports early. A kernel
// that lacks it binds all the same.
func bind(fd, family int, source netip.Addr) error {
	sourceFamily, sa, err := inetSockaddr(source.Unmap(), 0)
	if err != nil {
		return err
	}
	if sourceFamily != family {
		return errFamily
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	return unix.Bind(fd, sa)
}

// SocketError takes the pending error of a socket (getsockopt SO_ERROR): nil,
// or a bare syscall.Errno. Once a non-blocking connect made the descriptor
// writable, nil means connected. Taking the error clears it. Where fd is no
// socket, or closed, the errno is getsockopt's own (ENOTSOCK, EBADF).
func SocketError(fd int) error {
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if code != 0 {
		return syscall.Errno(code)
	}
	return nil
}

// SelfConnected tells whether a TCP socket is connected to itself. That sounds
// absurd, and happens to a program that keeps connecting to a port of this
// machine where nobody listens: when the port lies in the range for outgoing
// connections, the kernel may pick that very port as the local one, and the SYN
// meets its own socket (simultaneous open, RFC 9293 3.5). Such a connection
// echoes what is written, and keeps the real server from binding its port:
// close it.
func SelfConnected(fd int) bool {
	local := LocalAddr(fd)
	return local != "" && local == PeerAddr(fd) && !isUnix(fd)
}
