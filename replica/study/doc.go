// Package study explains a conversation between a replica and its master: what the
// kernel said, which states the link went through, and every byte of every
// message.
//
// It is an observer of the one stream of events that drives the daemon: a
// [Recorder] keeps them, or [ReadTranscript] reads a conversation that was
// recorded. [Explain] turns either into a [Study], a list of steps, and the
// renderers work on that alone: [Text], [JSON], and package page for HTML.
//
// # Every byte, once
//
// A message is cut into items (a command, a reply, a keep-alive, a payload), an
// item into parts, and the parts of a message are its bytes: each in exactly one
// part, each part with an explanation. What is read as one flow is cut first,
// and then dealt to the messages, so that it doesn't matter how TCP cut it.
// Bytes that were counted but not kept (of a large payload, or a long stream) are
// a part too, which says so.
//
// # The JSON
//
// One step a line, in order. The fields of each:
//
//	number     from 1 on
//	at         seconds since the first event
//	connection from 1 on; 0 before the first
//	kind       kernel, state, message, sync, note, failure
//	state      NONE, CONNECTING, RECEIVE_PONG or SYNC/<phase>: in force after it
//	title      in a few words
//	text       what it means
//	known      server versions that know it; may be missing
//	places     [{versions, file, function}]: where the sources do the same; may be missing
//
// Of a state also:
//
//	from       the state before
//	took       seconds that one lasted
//	inferred   true where it follows from the bytes of a recording
//
// Of a message also:
//
//	direction  "R>M" replica to master, "M>R" master to replica
//	bytes      its length
//	items      [{title, text, known, places, first_offset, last_offset,
//	           continued, continues, parts}]
//
// The offsets are replication offsets, and missing where bytes have none. Parts
// are [{name, text, bytes, offset, data}]: data is the bytes as a string with C
// escapes, as in a transcript; it is missing where bytes were not kept.
//
// The last line is {"of": ..., "recorded": bool, "failure": ..., "remedy": ...,
// "dropped": n}; failure and remedy are missing where nothing failed.
package study
