package anet

import (
	"net/netip"
	"slices"
	"testing"
)

func TestAddressesKeepTheirOrderAndLoseTheirDuplicates(t *testing.T) {
	var addrs []netip.Addr
	for _, s := range []string{"10.0.0.2", "::1", "10.0.0.1", "::ffff:10.0.0.2", "::1", "10.0.0.3"} {
		addrs = append(addrs, netip.MustParseAddr(s))
	}
	var got []string
	for _, ep := range endpoints(addrs, 7) {
		got = append(got, ep.String())
	}
	want := []string{"10.0.0.2:7", "[::1]:7", "10.0.0.1:7", "10.0.0.3:7"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
