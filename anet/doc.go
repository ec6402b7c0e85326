// Package anet holds non-blocking sockets for Linux: connect one, set it up,
// read, write, and learn why it failed. It knows no Redis and no event loop.
// Its model is Redis' anet.c, with the bounded write of syncio.c.
//
// # A non-blocking connect, in four steps
//
// connect(2) on a blocking socket returns when the peer has answered, which can
// be minutes later. On a non-blocking one it returns at once, and the
// connection is made while the caller does something else:
//
//  1. [NonBlockConnect] creates a socket and calls connect(2). Three things can
//     happen: it is connected already (usual for unix sockets), it failed (no
//     route, no such file), or errno is EINPROGRESS: the SYN is on its way.
//  2. After EINPROGRESS the caller waits, with epoll or poll, until the
//     descriptor is *writable*. Connected and failed sockets are both reported
//     as writable, so this says only that the outcome is known.
//  3. [SocketError] asks for the outcome (getsockopt SO_ERROR): nil is a
//     connection, anything else is why not, ECONNREFUSED for instance. The
//     kernel hands an error out once; a second call says nil.
//  4. The caller drops its interest in *writable*, which an idle connection is
//     all the time, and goes on with [Read] and [Write], or closes the
//     descriptor.
//
// A name has often more than one address. A [Connector] walks them in order:
// [Connector.Next] starts the first one that does not fail at once,
// [Connector.Failed] takes down what step 3 found out, and when no address is
// left the error tells what was wrong with each. The examples of both are the
// shortest programs.
//
// # Who owns a descriptor
//
// A function that returns a descriptor gives it away: the caller closes it with
// [Close], after it has left the epoll set. A function that returns an error
// has closed whatever it opened. Every socket is made with SOCK_NONBLOCK and
// SOCK_CLOEXEC. Nothing here keeps state about a descriptor, and no function
// but [Resolve] and [SyncWrite] waits, so all of them can be called from any
// thread that owns the descriptor at that time.
//
// # Errors
//
// Errors are made for reading (`connect to 127.0.0.1:1: connection refused
// (ECONNREFUSED)`) and for testing: they wrap the syscall.Errno, so
// errors.Is(err, syscall.ECONNREFUSED) works, and [ErrorName] gives its name.
package anet
