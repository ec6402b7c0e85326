package anet_test

import (
	"errors"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"replicad/anet"
)

func TestConnectorTriesTheNextAddressAfterAnImmediateFailure(t *testing.T) {
	missing := unixEndpoint(t, t.TempDir()+"/none")
	_, good := listenTCP(t)
	c := anet.NewConnector([]anet.Endpoint{missing, good}, anet.Source{})
	a, err := c.Next()
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, a.FD)
	if a.Endpoint != good || a.Connected {
		t.Errorf("the attempt is %+v, want one in progress to %s", a, good)
	}
	if len(a.Failures) != 1 || !errors.Is(a.Failures[0], syscall.ENOENT) ||
		!strings.Contains(a.Failures[0].Error(), missing.String()) {
		t.Errorf("passed over: %v, want %s with ENOENT", a.Failures, missing)
	}
	if err := outcome(t, a.FD); err != nil {
		t.Error(err)
	}
}

func TestConnectorTriesTheNextAddressAfterSocketError(t *testing.T) {
	refused := refusing(t)
	l, good := listenTCP(t)
	c := anet.NewConnector([]anet.Endpoint{refused, good}, anet.Source{})
	first, err := c.Next()
	if err != nil || first.Endpoint != refused {
		t.Fatalf("%+v, %v", first, err)
	}
	failure := outcome(t, first.FD)
	if failure == nil {
		t.Fatal("connected where nobody listens")
	}
	anet.Close(first.FD)
	c.Failed(failure)

	second, err := c.Next()
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, second.FD)
	if second.Endpoint != good || len(second.Failures) != 0 {
		t.Errorf("the second attempt is %+v; what Failed was told belongs to the first", second)
	}
	if err := outcome(t, second.FD); err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	server.Close()
}

func TestConnectorAtItsEndTellsWhyEachAddressFailed(t *testing.T) {
	missing := unixEndpoint(t, t.TempDir()+"/none")
	refused := refusing(t)
	c := anet.NewConnector([]anet.Endpoint{missing, refused}, anet.Source{})
	a, err := c.Next()
	if err != nil {
		t.Fatal(err)
	}
	c.Failed(outcome(t, a.FD))
	c.Failed(errors.New("told twice")) // there is no attempt any more
	anet.Close(a.FD)

	_, err = c.Next()
	for _, want := range []error{anet.ErrNoMoreEndpoints, syscall.ENOENT, syscall.ECONNREFUSED} {
		if !errors.Is(err, want) {
			t.Errorf("%v is not found in: %v", want, err)
		}
	}
	want := "no address can be reached: connect to " + missing.String() + ": no such file or directory (ENOENT); " +
		"connect to " + refused.String() + ": connection refused (ECONNREFUSED)"
	if err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
	if _, again := c.Next(); again == nil || again.Error() != want {
		t.Errorf("asked again it says %v", again)
	}
}

func TestConnectorWithOneAddressSaysNoMoreThanItsFailure(t *testing.T) {
	missing := unixEndpoint(t, t.TempDir()+"/none")
	a, err := anet.NewConnector([]anet.Endpoint{missing}, anet.Source{}).Next()
	if len(a.Failures) != 1 || a.FD != -1 {
		t.Errorf("the attempt is %+v, want one failure and no descriptor", a)
	}
	if want := "connect to " + missing.String() + ": no such file or directory (ENOENT)"; err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
	if !errors.Is(err, anet.ErrNoMoreEndpoints) {
		t.Error("ErrNoMoreEndpoints is not found in it")
	}
}

func TestConnectorWithoutAddressesHasNoMoreEndpoints(t *testing.T) {
	if _, err := anet.NewConnector(nil, anet.Source{}).Next(); !errors.Is(err, anet.ErrNoMoreEndpoints) {
		t.Errorf("got %v", err)
	}
}

func TestConnectorKeepsTheCallersWordsForALateFailure(t *testing.T) {
	_, ep := listenUnix(t)
	c := anet.NewConnector([]anet.Endpoint{ep}, anet.Source{})
	a, err := c.Next()
	if err != nil {
		t.Fatal(err)
	}
	closeAfter(t, a.FD)
	c.Failed(nil) // no failure
	late := errors.New("no answer in 5s")
	c.Failed(late)
	_, err = c.Next()
	if !errors.Is(err, late) || err.Error() != "connect to "+ep.String()+": no answer in 5s" {
		t.Errorf("got %v", err)
	}
}

func TestConnectorBindsToItsSource(t *testing.T) {
	_, ep := listenTCP(t)
	ours := netip.MustParseAddr("127.0.0.2")
	for _, c := range []struct {
		name   string
		source anet.Source
		from   string // "": fails
	}{
		{"strict", anet.Source{Addr: ours}, "127.0.0.2"},
		{"best effort", anet.Source{Addr: ours, BestEffort: true}, "127.0.0.2"},
		{"strict, not ours", anet.Source{Addr: notOurs}, ""},
		{"best effort, not ours", anet.Source{Addr: notOurs, BestEffort: true}, "127.0.0.1"},
	} {
		a, err := anet.NewConnector([]anet.Endpoint{ep}, c.source).Next()
		if c.from == "" {
			if !errors.Is(err, syscall.EADDRNOTAVAIL) {
				t.Errorf("%s: %v, want EADDRNOTAVAIL", c.name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		closeAfter(t, a.FD)
		if err := outcome(t, a.FD); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if got := anet.LocalAddr(a.FD); !strings.HasPrefix(got, c.from+":") {
			t.Errorf("%s: it comes from %s, want %s", c.name, got, c.from)
		}
	}
}
