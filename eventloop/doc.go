// Package eventloop is a small event loop on epoll(7): one thread that sleeps
// until a descriptor is ready, a time has come, or another goroutine has
// something for it, and then calls the function that was registered for that.
// It knows no Redis; its model, and its vocabulary, are those of Redis' ae.c
// and ae_epoll.c.
//
// Three kinds of things happen on a [Loop]:
//
//   - a file event: a descriptor is readable or writable,
//     [Loop.CreateFileEvent];
//   - a time event: a [Timer] has run down, [Loop.NewTimer];
//   - a posted function: the way in for every other goroutine, [Loop.Post].
//
// The example of [Loop] is the shortest program that has all three.
//
// # One iteration
//
// [Loop.Run] does this again and again: wait in epoll_wait(2) until something
// is ready or the first timer is due; call the handlers of the ready
// descriptors; call the timers that were due when the wait ended; run the
// functions that were posted until now. What a handler, a timer or a posted
// function starts anew (a timer reset to 0, a Post) has its turn in the next
// iteration, after the descriptors have had theirs: nothing can starve the
// files.
//
// # Level-triggered, and what follows
//
// A descriptor is reported for as long as it is ready, so a handler may leave
// bytes unread and will be called again. But an idle connection is writable all
// the time, and a registration for that keeps a processor busy. Register
// [Writable] while there is something to write, no longer.
//
// # Threads
//
// Handlers run on the thread of the goroutine that called Run; Run locks the
// goroutine to its thread. Every method belongs to that thread (before Run, to
// the loop's owner), except [Loop.Post] and [Loop.Stop], which any goroutine
// may call. A handler must not wait for anything: while it runs, everything
// else on the loop stands still.
//
// # Descriptors that change under a batch
//
// epoll_wait returns a batch of events. While the first is handled, its handler
// may close the descriptor of the second and open another, which gets the same
// number: the event that is still in the batch is about a file that is no more.
// Therefore a descriptor gets a new generation each time that it enters the
// epoll set. The generation travels through the kernel in the 64 bits of
// epoll_data, beside the descriptor (EpollEvent.Fd and EpollEvent.Pad). An
// event of another generation than the registered one is dropped. This needs
// one discipline, that of ae.c: [Loop.DeleteFileEvent] comes before close(2).
package eventloop
