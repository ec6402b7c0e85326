package httpport

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"golang.org/x/net/netutil"
)

// mostConnections bounds the file descriptors that are taken: the link and the
// archive need some too. Who comes when all are taken waits.
const mostConnections = 128

// ErrListen is what every error of [Listen] wraps.
var ErrListen = errors.New("http")

// Listen opens the port, before anything is done that a port in use would stop.
// What comes is answered when Serve is called.
func Listen(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%w: can't listen at %s: %s", ErrListen, addr, why(addr, err))
	}
	return netutil.LimitListener(l, mostConnections), nil
}

// why says what is wrong with an address, and what to do.
func why(addr string, err error) string {
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "the port is in use, perhaps by another replicad: choose another one"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		host, _, _ := net.SplitHostPort(addr)
		return "this host has no address " + host
	case errors.Is(err, syscall.EACCES):
		return "not permitted: ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher one"
	case errors.As(err, &dns):
		return "there is no host of that name: " + strings.TrimPrefix(dns.Error(), "lookup ")
	}
	return err.Error()
}
