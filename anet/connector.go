package anet

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
)

// Source is the local address to connect from. The zero value leaves it to the
// kernel.
type Source struct {
	Addr netip.Addr
	// BestEffort connects without Addr where it cannot be had. Otherwise that
	// is a failure.
	BestEffort bool
}

// Connector walks the endpoints of one name, from the first to the last, one
// time. It opens descriptors and never closes one that it has handed out. It is
// for one goroutine at a time.
type Connector struct {
	endpoints []Endpoint // those not tried yet
	source    Source
	current   Endpoint // of the attempt that Next returned last; zero when Failed was told about it
	failures  []error  // one for every endpoint that failed, in order
}

// Attempt is a connection under way, or made.
type Attempt struct {
	// FD is the socket. It belongs to the caller, who closes it.
	FD int
	// Endpoint is where it goes.
	Endpoint Endpoint
	// Connected is true when connect(2) returned 0; false is EINPROGRESS.
	Connected bool
	// Failures are the endpoints that this Next passed over because they failed
	// at once; one *Error each. They are there also when Next found none that
	// did not fail.
	Failures []error
}

// NewConnector is a walk over eps, which it copies.
func NewConnector(eps []Endpoint, source Source) *Connector {
	return &Connector{endpoints: slices.Clone(eps), source: source}
}

// Next starts a connection to the next endpoint that does not fail at once.
// When none is left its error is ErrNoMoreEndpoints, joined with why each
// endpoint of the walk failed (at once, or as told to Failed); every further
// call says the same.
func (c *Connector) Next() (Attempt, error) {
	c.current = Endpoint{}
	before := len(c.failures)
	for len(c.endpoints) > 0 {
		ep := c.endpoints[0]
		c.endpoints = c.endpoints[1:]
		fd, connected, err := c.start(ep)
		if err != nil {
			c.failures = append(c.failures, err)
			continue
		}
		c.current = ep
		return Attempt{FD: fd, Endpoint: ep, Connected: connected, Failures: slices.Clone(c.failures[before:])}, nil
	}
	return Attempt{FD: -1, Failures: slices.Clone(c.failures[before:])}, &exhausted{failures: slices.Clone(c.failures)}
}

func (c *Connector) start(ep Endpoint) (fd int, connected bool, err error) {
	if c.source.BestEffort {
		return NonBlockBestEffortBindConnect(ep, c.source.Addr)
	}
	return NonBlockBindConnect(ep, c.source.Addr)
}

// Failed takes down why the attempt that Next returned last came to nothing:
// what SocketError said, a timeout, a peer that hung up. An error without the
// endpoint's name gets it. The descriptor stays the caller's to close. Without
// an attempt under way, or for the second time, Failed does nothing; neither
// does it for a nil error.
func (c *Connector) Failed(err error) {
	if err == nil || c.current == (Endpoint{}) {
		return
	}
	var named *Error
	if !errors.As(err, &named) || named.Endpoint != c.current {
		err = &Error{Step: "connect to", Endpoint: c.current, Err: err}
	}
	c.failures = append(c.failures, err)
	c.current = Endpoint{}
}

// exhausted is the end of a walk.
type exhausted struct{ failures []error }

// Error is the failure itself where there was one endpoint, and all of them in
// order where there were more.
func (e *exhausted) Error() string {
	switch len(e.failures) {
	case 0:
		return ErrNoMoreEndpoints.Error()
	case 1:
		return e.failures[0].Error()
	}
	texts := make([]string, len(e.failures))
	for i, err := range e.failures {
		texts[i] = err.Error()
	}
	return "no address can be reached: " + strings.Join(texts, "; ")
}

// Unwrap joins the failures and ErrNoMoreEndpoints, for errors.Is and
// errors.As.
func (e *exhausted) Unwrap() []error { return append(slices.Clone(e.failures), ErrNoMoreEndpoints) }
