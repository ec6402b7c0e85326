package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"replicad/anet"
	"replicad/eventloop"
)

// Failures that no errno stands for.
var (
	errTimeout = errors.New("timeout")
	errSelf    = errors.New("the socket met itself: nobody listens there, and the kernel chose that very port for it")
)

// lesson is one connection on its way. All but resolve runs on the loop's
// thread.
type lesson struct {
	host    string
	port    int
	source  netip.Addr // zero: the kernel's choice
	timeout time.Duration
	resolve func(ctx context.Context, host string, port int) ([]anet.Endpoint, error)

	out   io.Writer
	start time.Time

	loop      *eventloop.Loop
	timer     *eventloop.Timer // runs while an attempt is in progress
	connector *anet.Connector
	attempt   anet.Attempt
	err       error // how it ended
}

// say tells one event, with the milliseconds since the start.
func (l *lesson) say(format string, args ...any) {
	elapsed := float64(time.Since(l.start)) / float64(time.Millisecond)
	fmt.Fprintf(l.out, "%10.3fms  %s\n", elapsed, fmt.Sprintf(format, args...))
}

// run makes the connection; nil means that it was made (and closed again).
func (l *lesson) run() error {
	loop, err := eventloop.New()
	if err != nil {
		return err
	}
	l.loop, l.timer = loop, loop.NewTimer(l.noAnswer)

	ctx, cancel := context.WithTimeout(context.Background(), l.timeout)
	defer cancel()
	l.say("resolve %s, on a goroutine: the resolver blocks, the loop must not", l.host)
	go func() {
		endpoints, err := l.resolve(ctx, l.host, l.port)
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("resolve %s: %w: no answer in %s", l.host, errTimeout, l.timeout)
		}
		loop.Post(func() { l.resolved(endpoints, err) })
	}()
	if err := loop.Run(); err != nil {
		return err
	}
	return l.err
}

func (l *lesson) finish(err error) {
	l.err = err
	l.loop.Stop()
}

// resolved comes back from the resolver's goroutine, by Post.
func (l *lesson) resolved(endpoints []anet.Endpoint, err error) {
	if err != nil {
		l.finish(err)
		return
	}
	for i, ep := range endpoints {
		l.say("address %d of %d: %s", i+1, len(endpoints), ep)
	}
	l.connector = anet.NewConnector(endpoints, anet.Source{Addr: l.source})
	l.next()
}

// next starts a connection to the next address, and has the loop watch it.
func (l *lesson) next() {
	attempt, err := l.connector.Next()
	for _, failure := range attempt.Failures {
		l.say("failed at once: %v", failure)
	}
	if err != nil {
		l.finish(err)
		return
	}
	l.attempt = attempt
	if attempt.Connected {
		l.say("connect(%s) = 0, at once: fd %d", attempt.Endpoint, attempt.FD)
		l.outcome()
		return
	}
	l.say("connect(%s) = EINPROGRESS: fd %d, the kernel goes on alone", attempt.Endpoint, attempt.FD)
	const mask = eventloop.Readable | eventloop.Writable
	if err := l.loop.CreateFileEvent(attempt.FD, mask, l.ready); err != nil {
		l.finish(errors.Join(err, anet.Close(attempt.FD)))
		return
	}
	l.say("fd %d registered for %s (%s)", attempt.FD, mask, mask.EpollNames())
	l.timer.Reset(l.timeout)
}

// ready is the file event: the attempt has its outcome.
func (l *lesson) ready(fd int, mask eventloop.Mask) {
	l.say("epoll_wait: fd %d is %s (%s)", fd, mask, mask.EpollNames())
	l.outcome()
}

// outcome asks how the attempt ended. Writable alone does not say.
func (l *lesson) outcome() {
	fd := l.attempt.FD
	err := anet.SocketError(fd)
	if err != nil {
		l.say("getsockopt(SO_ERROR) = %s: %v", anet.ErrorName(err), err)
		l.failed(err)
		return
	}
	l.say("getsockopt(SO_ERROR) = 0")
	if anet.SelfConnected(fd) {
		l.failed(errSelf)
		return
	}
	l.say("connected from %s to %s", anet.LocalAddr(fd), anet.PeerAddr(fd))
	l.finish(l.drop())
}

// noAnswer is the time event: neither a connection nor an error came in time.
func (l *lesson) noAnswer() {
	err := fmt.Errorf("%w: no answer in %s", errTimeout, l.timeout)
	l.say("%v", err)
	l.failed(err)
}

// failed gives the attempt up, and goes on with the next address.
func (l *lesson) failed(err error) {
	l.connector.Failed(err)
	if err := l.drop(); err != nil {
		l.finish(err)
		return
	}
	l.next()
}

// drop removes the attempt's descriptor from the epoll set, and then closes it.
func (l *lesson) drop() error {
	l.timer.Stop()
	const mask = eventloop.Readable | eventloop.Writable
	err := l.loop.DeleteFileEvent(l.attempt.FD, mask)
	return errors.Join(err, anet.Close(l.attempt.FD))
}
