// Package respport is the RESP port of a master: it answers redis-cli, Sentinel,
// exporters and dashboards as a replica of Redis 7 does, so that they need not
// know that this replica keeps no dataset.
//
//	s, err := respport.Listen(cfg) // a port in use is known before anything else begins
//	go s.Serve(backend)            // what INFO tells of, and what REPLICAOF orders
//	defer s.Close()
//
// Each client has a goroutine, which reads queries with [resp.QueryReader] and
// writes replies in the form that redcon gives them. A client may be hostile:
// the size of a query is bounded, and so is the memory that the port holds for
// all clients together. A client that breaks the protocol, or does not read its
// replies, is cut; other clients notice nothing of it.
//
// commands.txt lists what a client may send, and handlers in commands.go what is
// served of it. info.tmpl is the text of INFO.
//
// Nothing here runs on the event loop's goroutine. INFO reads copies: the
// link's status, and the daemon's description of the archive. Orders (REPLICAOF,
// BGSAVE) go through the [Backend].
package respport
