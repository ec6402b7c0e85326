package anet

import (
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// EnableNoDelay switches Nagle's algorithm off, so that small writes leave at
// once (tcp(7), TCP_NODELAY). A unix socket has nothing to switch; it is left
// alone, without an error.
//
// Redis: anetEnableTcpNoDelay, anet.c.
func EnableNoDelay(fd int) error {
	if isUnix(fd) {
		return nil
	}
	return setInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1, "set TCP_NODELAY")
}

// maxKeepIdle is MAX_TCP_KEEPIDLE and MAX_TCP_KEEPINTVL of the kernel, in
// seconds.
const maxKeepIdle = 32767

// KeepAlive makes the kernel probe a silent peer: first after interval, then
// three times every third of it, so a dead peer is found after about twice the
// interval. Times are whole seconds for the kernel, 1 to 32767: interval is
// rounded down into that range. A unix socket needs no probes; it is left
// alone, without an error.
//
// Redis: anetKeepAlive, anet.c.
func KeepAlive(fd int, interval time.Duration) error {
	if isUnix(fd) {
		return nil
	}
	idle := min(max(int64(interval/time.Second), 1), maxKeepIdle)
	if err := setInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1, "set SO_KEEPALIVE"); err != nil {
		return err
	}
	if err := setInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(idle), "set TCP_KEEPIDLE"); err != nil {
		return err
	}
	if err := setInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(max(idle/3, 1)), "set TCP_KEEPINTVL"); err != nil {
		return err
	}
	return setInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 3, "set TCP_KEEPCNT")
}

// SetReceiveLowWater makes a TCP descriptor readable only when that many bytes
// have come, or the peer closed, or an error is pending (socket(7),
// SO_RCVLOWAT): fewer wake-ups for a bulk transfer. 1 is the kernel's default.
// The kernel takes no more than half of the largest receive buffer, and lowers
// a larger value to that.
func SetReceiveLowWater(fd, bytes int) error {
	return setInt(fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT, bytes, "set SO_RCVLOWAT")
}

func setInt(fd, level, option, value int, step string) error {
	if err := unix.SetsockoptInt(fd, level, option, value); err != nil {
		return &Error{Step: step, Err: err}
	}
	return nil
}

func isUnix(fd int) bool {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	return err == nil && domain == unix.AF_UNIX
}

// LocalAddr is the socket's own address as Endpoint.String writes it; "" when
// fd is no socket. The client's end of a unix socket has no name, it is
// "unix://".
func LocalAddr(fd int) string {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return ""
	}
	return sockaddrString(sa)
}

// PeerAddr is the address at the other end as Endpoint.String writes it; ""
// when the socket is not connected (yet, or any more) or fd is no socket.
func PeerAddr(fd int) string {
	sa, err := unix.Getpeername(fd)
	if err != nil {
		return ""
	}
	return sockaddrString(sa)
}

// sockaddrString writes zones as numbers: their names would cost a netlink
// conversation.
func sockaddrString(sa unix.Sockaddr) string {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)).String()
	case *unix.SockaddrInet6:
		addr := netip.AddrFrom16(sa.Addr)
		if sa.ZoneId != 0 {
			addr = addr.WithZone(strconv.FormatUint(uint64(sa.ZoneId), 10))
		}
		return netip.AddrPortFrom(addr, uint16(sa.Port)).String()
	case *unix.SockaddrUnix:
		if sa.Name == "@" { // what x/sys makes of an unnamed socket, which a client's own end is
			return "unix://"
		}
		return "unix://" + sa.Name
	}
	return ""
}

// Close closes a descriptor. It must have left every epoll set before: a copy
// of it elsewhere (fork, dup) would keep the registration alive with nobody
// able to remove it. EINTR counts as closed, which on Linux it is (close(2));
// trying again could close a descriptor that another thread has just got.
func Close(fd int) error {
	if err := unix.Close(fd); err != nil && err != unix.EINTR {
		return &Error{Step: "close", Err: err}
	}
	return nil
}

// Shutdown ends a connection in both directions and leaves the descriptor open.
// poll(2) reports it readable, writable and hung up; reads give io.EOF. On a
// socket that is not connected it fails with ENOTCONN.
func Shutdown(fd int) error {
	if err := unix.Shutdown(fd, unix.SHUT_RDWR); err != nil {
		return &Error{Step: "shutdown", Err: err}
	}
	return nil
}

// Unread is how many bytes the kernel has received for a socket that were not
// read yet (FIONREAD, tcp(7)), also of a connection that has ended; 0 where fd
// is no socket.
func Unread(fd int) int {
	n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
	if err != nil {
		return 0
	}
	return n
}
