// Package statuspage is the page that shows at a glance whether a backup is
// sound: the state machine with the state in force lit, offsets and rates of the
// last five minutes, what can be restored, the last events, and the command that
// restores. It is an http.Handler of HTML, CSS and SVG that are in the binary.
//
//	page := statuspage.New(statuspage.Config{Masters: masters, Version: version})
//	defer page.Close()
//	// page is one of the observers of the links, and a handler of /
//
// All that is shown is rendered here, by one set of templates: whole for the
// first answer, and in parts, as server-sent events (/events), for a page that is
// open. So the page says the same without JavaScript; it only stands still. What
// a master said is hostile: templates escape it, [clean] bounds it, and the
// content security policy allows nothing but what is in the binary.
//
// One goroutine takes a sample of each master a second, into a ring of five
// minutes, and tells the streams what changed. Nothing here makes the loop wait:
// events go through a bounded queue, a stream that does not read is dropped (the
// browser comes back by itself), and archives are read by goroutines that nobody
// waits for longer than [patience].
package statuspage
