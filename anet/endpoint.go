package anet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Endpoint is one address that can be connected to: an IPv4 or IPv6 address
// with a port, or the path of a unix socket. Endpoints are comparable and can
// be map keys. The zero Endpoint is no address; connecting to it fails.
type Endpoint struct {
	tcp  netip.AddrPort
	path string
}

// TCP is the endpoint of an IP address and port. An IPv4 address written as
// IPv6 (::ffff:127.0.0.1) becomes the IPv4 address that it stands for. The zone
// of a link-local IPv6 address is an interface's name or index.
func TCP(ap netip.AddrPort) Endpoint {
	return Endpoint{tcp: netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())}
}

// maxUnixPath is the longest path that leaves room for the NUL which ends it in
// sockaddr_un (unix(7)): 107 bytes.
const maxUnixPath = len(unix.RawSockaddrUnix{}.Path) - 1

// Unix is the endpoint of a unix stream socket. A path that begins with @ names
// a socket in the abstract namespace, as in ss(8). The path must have 1 to 107
// bytes and no NUL.
func Unix(path string) (Endpoint, error) {
	switch {
	case path == "":
		return Endpoint{}, errors.New("unix socket: the path is empty")
	case len(path) > maxUnixPath:
		return Endpoint{}, fmt.Errorf("unix socket %s: the path has %d bytes, the kernel takes %d at most",
			path, len(path), maxUnixPath)
	case strings.IndexByte(path, 0) >= 0:
		return Endpoint{}, fmt.Errorf("unix socket %q: the path contains a NUL", path)
	}
	return Endpoint{path: path}, nil
}

// String is "127.0.0.1:6379", "[fe80::1%eth0]:6379" or
// "unix:///run/redis.sock".
func (e Endpoint) String() string {
	switch {
	case e.path != "":
		return "unix://" + e.path
	case e.tcp.IsValid():
		return e.tcp.String()
	}
	return "(no address)"
}

// sockaddr is the endpoint as connect(2) wants it, with the family for
// socket(2).
func (e Endpoint) sockaddr() (family int, sa unix.Sockaddr, err error) {
	if e.path != "" {
		return unix.AF_UNIX, &unix.SockaddrUnix{Name: e.path}, nil
	}
	return inetSockaddr(e.tcp.Addr(), e.tcp.Port())
}

// inetSockaddr is an IP address and a port as the kernel wants them.
func inetSockaddr(addr netip.Addr, port uint16) (family int, sa unix.Sockaddr, err error) {
	switch {
	case addr.Is4():
		return unix.AF_INET, &unix.SockaddrInet4{Addr: addr.As4(), Port: int(port)}, nil
	case addr.Is6():
		zone, err := zoneID(addr.Zone())
		if err != nil {
			return 0, nil, err
		}
		return unix.AF_INET6, &unix.SockaddrInet6{Addr: addr.As16(), Port: int(port), ZoneId: zone}, nil
	}
	return 0, nil, errors.New("not an address")
}

// zoneID is the interface index that a zone stands for. It is asked at every
// connect, not when the Endpoint is made: an interface that went away and came
// back has a new index.
func zoneID(zone string) (uint32, error) {
	if zone == "" {
		return 0, nil
	}
	if id, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(id), nil
	}
	ifi, err := net.InterfaceByName(zone)
	if err != nil {
		return 0, fmt.Errorf("zone %s: %w", zone, err)
	}
	return uint32(ifi.Index), nil
}

// Resolve gives every address of a host name, each with the port, in the
// resolver's order (RFC 6724: the one to try first comes first), without
// duplicates. A literal IP address, with or without brackets, is answered
// without a lookup.
//
// Resolve BLOCKS for as long as the resolver takes, up to many seconds: never
// call it on an event loop's thread. Cancel it through ctx. It returns at least
// one endpoint or an error; port must be 1 to 65535.
func Resolve(ctx context.Context, host string, port int) ([]Endpoint, error) {
	if port < 1 || port > 65535 {
		return nil, fmt.Errorf("port %d is not between 1 and 65535", port)
	}
	if host == "" {
		return nil, errors.New("resolve: the host name is empty")
	}
	literal := host
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		literal = host[1 : len(host)-1]
	}
	if addr, err := netip.ParseAddr(literal); err == nil {
		return endpoints([]netip.Addr{addr}, port), nil
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", host, err)
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("resolve %s: the name has no address", host)
	}
	return endpoints(addrs, port), nil
}

// endpoints pairs addresses with a port, keeps their order and drops the second
// of two that are the same.
func endpoints(addrs []netip.Addr, port int) []Endpoint {
	eps := make([]Endpoint, 0, len(addrs))
	seen := make(map[Endpoint]bool, len(addrs))
	for _, addr := range addrs {
		ep := TCP(netip.AddrPortFrom(addr, uint16(port)))
		if !seen[ep] {
			seen[ep] = true
			eps = append(eps, ep)
		}
	}
	return eps
}
