package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"replicad/anet"
	"replicad/anet/tunnel"
	"replicad/replica"
	"replicad/replica/resp"
)

// stepLimit is how long an answer, or a connect, may take: the link's own limit.
const stepLimit = replica.DefaultReplSyncioTimeout

// pollSlice is how often a wait for the kernel looks whether it is still wanted.
const pollSlice = 100 * time.Millisecond

// limit is how long a step that begins now may take.
func limit(ctx context.Context) time.Duration {
	if end, ok := ctx.Deadline(); ok {
		return min(stepLimit, time.Until(end))
	}
	return stepLimit
}

// late is a step that had no answer.
func late(ctx context.Context, took time.Duration) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return context.Canceled
	}
	return fmt.Errorf("%w: no answer within %v", replica.ErrDeadline, took.Round(time.Millisecond))
}

// connect makes a connection as the link does: connect(2), then SO_ERROR. It gives
// up after most.
func connect(ctx context.Context, ep anet.Endpoint, source anet.Source, most time.Duration) (net.Conn, error) {
	begun := time.Now()
	end := begun.Add(most)
	a, err := anet.NewConnector([]anet.Endpoint{ep}, source).Next()
	if err != nil {
		return nil, err
	}
	for connected := false; !connected; {
		left := time.Until(end)
		if left <= 0 || ctx.Err() != nil {
			anet.Close(a.FD)
			return nil, anet.ConnectError(ep, late(ctx, time.Since(begun)))
		}
		connected = writable(a.FD, min(left, pollSlice))
	}
	err = anet.SocketError(a.FD)
	if err == nil && anet.SelfConnected(a.FD) {
		err = syscall.ECONNREFUSED // nobody listens: the port connected to itself
	}
	if err != nil {
		anet.Close(a.FD)
		return nil, anet.ConnectError(ep, err)
	}
	_ = anet.SetNoDelay(a.FD, true)
	f := os.NewFile(uintptr(a.FD), "socket")
	defer f.Close() // FileConn has a copy
	return net.FileConn(f)
}

// writable waits until a connect has ended, either way.
func writable(fd int, wait time.Duration) bool {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	ts := unix.NsecToTimespec(int64(wait))
	n, err := unix.Ppoll(poll, &ts, nil)
	return err == nil && n > 0
}

// encrypt speaks TLS on a connection, which stays the caller's where it fails.
func encrypt(ctx context.Context, nc net.Conn, files tunnel.Files, host string) (*tls.Conn, error) {
	cfg, err := files.Config(host)
	if err != nil {
		return nil, err
	}
	begun, most := time.Now(), limit(ctx)
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	c := tls.Client(nc, cfg)
	err = c.HandshakeContext(ctx)
	switch {
	case err == nil:
		return c, nil
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		if err := late(ctx, time.Since(begun)); errors.Is(err, context.Canceled) {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %w within %v", replica.ErrDeadline, replica.ErrNoHello, most.Round(time.Millisecond))
	}
	if err = tunnel.Explain(err); err == nil {
		err = replica.ErrClosed
	}
	return nil, err
}

// conn is a conversation with the master.
type conn struct {
	ctx context.Context
	nc  net.Conn
	in  *replyReader
	end func() bool
}

func newConn(ctx context.Context, nc net.Conn) *conn {
	c := &conn{ctx: ctx, nc: nc, in: newReplyReader(nc)}
	c.end = context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })
	return c
}

func (c *conn) close() {
	c.end()
	c.nc.Close()
}

// do sends a command and reads its answer.
func (c *conn) do(args ...string) (reply, error) {
	all, err := c.pipeline(args)
	if err != nil {
		return reply{}, err
	}
	return all[0], nil
}

// pipeline sends commands in one write and reads their answers.
func (c *conn) pipeline(commands ...[]string) ([]reply, error) {
	begun := c.send(limit(c.ctx), commands...)
	replies := make([]reply, len(commands))
	for i, args := range commands {
		var err error
		if replies[i], err = c.in.read(); err != nil {
			return nil, c.why(args[0], begun, err)
		}
	}
	return replies, nil
}

// send writes commands, whose answers may take so long in all. What it fails with is of no interest: what the master
// said before it closed the connection tells more, and is read next.
func (c *conn) send(most time.Duration, commands ...[]string) (begun time.Time) {
	var out []byte
	for _, args := range commands {
		out = resp.AppendCommand(out, args...)
	}
	begun = time.Now()
	_ = c.nc.SetDeadline(begun.Add(most))
	if c.ctx.Err() != nil {
		_ = c.nc.SetDeadline(time.Unix(1, 0))
	}
	_, _ = c.nc.Write(out)
	return begun
}

// why makes of an error what the link would have made of it.
func (c *conn) why(command string, begun time.Time, err error) error {
	var odd *strange
	switch {
	case errors.As(err, &odd):
		return fmt.Errorf("%w to %s: %s", replica.ErrUnexpected, command, odd.what)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return late(c.ctx, time.Since(begun))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return replica.ErrClosed
	}
	if _, ok := c.nc.(*tls.Conn); ok {
		err = tunnel.Explain(err)
	}
	var op *net.OpError
	if errors.As(err, &op) && anet.ErrorName(err) != "" {
		return &anet.Error{Step: "read", Err: errors.Unwrap(errors.Unwrap(op))}
	}
	return err
}
