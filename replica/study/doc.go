// Package study explains a conversation between a replica and its master: what
// the kernel said, which states the link went through, and every byte of every
// message.
//
// A [Recorder] observes a link and keeps its events, or [ReadTranscript] reads a
// conversation that was recorded. [Explain] turns either into a [Study], a list
// of steps that are explained already. [Text], [JSON] and [HTML] only print it.
// What is said, and where the sources of Redis and Valkey do the same, stands
// in texts.yaml.
//
// # Every byte, once
//
// A message is cut into items (a command, a reply, a keep-alive, a payload),
// and an item into parts. The parts of a message are its bytes: each byte is in
// exactly one part, and each part has an explanation. What one side says on a
// connection is cut as one piece, so that it does not matter how TCP cut it.
// Bytes that were counted but not kept (of a large payload, or a long stream)
// are a part too, which says so.
//
// # The JSON
//
// One [Step] a line, in order, with the fields of [Step], [Change], [Item],
// [Part] and [Place]. A field is missing where there is nothing to say. The
// bytes of a part are a string with C escapes, as in a transcript.
//
// The last line is {"of": ..., "recorded": bool, "failure": ..., "remedy": ...,
// "dropped": n}; failure and remedy are missing if nothing failed.
package study
