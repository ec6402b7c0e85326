package anet_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"replicad/anet"
)

func TestEndpointsPrintAsTheyAreWrittenEverywhereElse(t *testing.T) {
	for _, c := range []struct {
		ep     anet.Endpoint
		string string
	}{
		{anet.TCP(netip.MustParseAddrPort("127.0.0.1:6379")), "127.0.0.1:6379"},
		{anet.TCP(netip.MustParseAddrPort("[::1]:6379")), "[::1]:6379"},
		{anet.TCP(netip.MustParseAddrPort("[fe80::1%eth0]:6379")), "[fe80::1%eth0]:6379"},
		{anet.TCP(netip.MustParseAddrPort("[::ffff:10.0.0.1]:6379")), "10.0.0.1:6379"},
		{unixEndpoint(t, "/run/redis.sock"), "unix:///run/redis.sock"},
		{unixEndpoint(t, "@redis"), "unix://@redis"},
		{anet.Endpoint{}, "(no address)"},
	} {
		if got := c.ep.String(); got != c.string {
			t.Errorf("String is %q, want %q", got, c.string)
		}
	}
}

func TestEndpointsOfTheSameAddressAreEqual(t *testing.T) {
	plain := anet.TCP(netip.MustParseAddrPort("10.0.0.1:6379"))
	if mapped := anet.TCP(netip.MustParseAddrPort("[::ffff:10.0.0.1]:6379")); mapped != plain {
		t.Errorf("%v and %v differ", mapped, plain)
	}
	a, sameAsA, b := unixEndpoint(t, "/a"), unixEndpoint(t, "/a"), unixEndpoint(t, "/b")
	if a != sameAsA || a == b {
		t.Error("unix endpoints are not compared by their path")
	}
}

func TestUnixRefusesPathsThatDoNotFitTheKernelsAddress(t *testing.T) {
	for _, path := range []string{"", strings.Repeat("x", 108), "/run/\x00redis"} {
		if ep, err := anet.Unix(path); err == nil {
			t.Errorf("Unix(%q) gave %v", path, ep)
		}
	}
	longest := strings.Repeat("x", 107)
	if _, _, err := anet.NonBlockConnect(unixEndpoint(t, longest)); anet.ErrorName(err) != "ENOENT" {
		t.Errorf("the longest path reaches the kernel with %v, want ENOENT", err)
	}
}

func TestResolveAnswersLiteralAddressesWithoutALookup(t *testing.T) {
	dead, cancel := context.WithCancel(t.Context())
	cancel() // any lookup fails with this
	for _, c := range []struct{ host, want string }{
		{"127.0.0.1", "127.0.0.1:6379"},
		{"::1", "[::1]:6379"},
		{"[::1]", "[::1]:6379"},
		{"fe80::1%lo", "[fe80::1%lo]:6379"},
		{"::ffff:127.0.0.1", "127.0.0.1:6379"},
	} {
		eps, err := anet.Resolve(dead, c.host, 6379)
		if err != nil || len(eps) != 1 || eps[0].String() != c.want {
			t.Errorf("Resolve(%s) = %v, %v; want %s", c.host, eps, err, c.want)
		}
	}
}

func TestResolveFindsLocalhostOnTheLoopback(t *testing.T) {
	eps, err := anet.Resolve(t.Context(), "localhost", 6379)
	if err != nil {
		t.Fatal(err)
	}
	for i, ep := range eps {
		ap, err := netip.ParseAddrPort(ep.String())
		if err != nil || !ap.Addr().IsLoopback() || ap.Port() != 6379 {
			t.Errorf("localhost has the address %s", ep)
		}
		if slices.Contains(eps[:i], ep) {
			t.Errorf("%s comes twice", ep)
		}
	}
	if len(eps) == 0 {
		t.Error("no address and no error")
	}
}

func TestResolveSaysWhichNameOrPortItCouldNotUse(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		host string
		port int
		says string
	}{
		{"localhost", 0, "port 0"},
		{"localhost", 65536, "port 65536"},
		{"", 6379, "empty"},
		{"redis.example", 6379, "redis.example"},
	} {
		eps, err := anet.Resolve(cancelled, c.host, c.port)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("Resolve(%q, %d) = %v, %v; want an error that names %q", c.host, c.port, eps, err, c.says)
		}
	}
}

func TestResolveGivesUpWhenItsContextEnds(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := anet.Resolve(cancelled, "redis.example", 6379)
	if err == nil {
		t.Fatal("no error")
	}
	// net reports a cancelled lookup as a DNSError; newer releases of Go wrap
	// context.Canceled in it.
	if !errors.Is(err, context.Canceled) && !strings.Contains(err.Error(), "cancel") {
		t.Errorf("the error does not tell of the cancellation: %v", err)
	}
}
