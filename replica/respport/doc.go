// Package server is the RESP port: it answers redis-cli, Sentinel, exporters and
// dashboards as a replica of Redis 7 does, so that they need not know that this
// one keeps no dataset.
//
//	s, err := server.Listen(cfg)   // a port in use is known before anything else begins
//	s.Serve(backend)               // what INFO tells of, and whom REPLICAOF orders
//	defer s.Close()
//
// redcon accepts, parses and writes. Before it stands a guard (guard.go), for
// whoever can reach the port may send anything: only whole commands get to
// redcon, of a bounded size, and what clients make us hold in memory has a
// bound for all of them together. A client that sends nonsense, or does not read
// its replies, is cut; that costs nobody else anything.
//
// Nothing here runs on the loop's thread. What a client asks for is answered
// from a copy of the link's status, which is taken a few hundred times a second
// at most, and from a description of the archive that is read once a second at
// most. Orders (REPLICAOF, BGSAVE) go through the [Backend].
package respport
