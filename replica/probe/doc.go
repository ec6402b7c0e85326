// Package probe finds out whether a master can be followed, and should be.
//
// A real link makes the handshake up to, not including, PSYNC; the probe
// observes the link's events. Then it asks over another connection what the user
// may ask (INFO, CONFIG GET, COMMAND INFO, MODULE LIST, ACL WHOAMI, ACL DRYRUN),
// and judges the answers. The result is a list of checks:
//
//	r := probe.Run(ctx, probe.Options{Master: m})
//	for _, c := range r.Checks {
//		fmt.Println(c.Status, c.Name, c.Detail, c.Remedy)
//	}
//
// checks.yaml has the checks, in their order. A link sends AUTH and the REPLCONFs
// in one write, so the time of the first is that of all; under TLS the time of
// PING has that of the TLS handshake in it.
//
// # Gentle
//
// Nothing is left on the master. REPLCONF makes no replica of a client: the probe
// is not in INFO's connected_slaves, counts neither for WAIT nor for
// min-replicas-to-write, and starts no BGSAVE.
//
// ACL DRYRUN tells whether the user may run PSYNC (Redis 7.0). Where the user may
// not ask that, or the master is older, a refusal tells: PING and PSYNC are sent
// in one write, and every master since 2.8 refuses a PSYNC while the answer to
// the command before it has not left ("SYNC and PSYNC are invalid with pending
// output", syncCommand in Redis' replication.c), after it has looked at the
// user's rights. Should something on the way tear the two apart, the connection
// is cut at once, and the check says so.
//
// With Options.Psync a second link sends a real PSYNC, and is cut after the
// reply. Where the master has a backlog it asks to continue at the master's own
// offset, which costs nothing; else it asks for a full sync, and a BGSAVE may
// begin. The probe is a replica for that moment: INFO shows it,
// min-replicas-to-write may count it, a Sentinel may see it.
//
// Options.Timeout bounds the whole; each answer but that to PSYNC has 5 seconds
// of it, and 4 MiB. A server's own words are shown without control characters,
// and without the password that they may quote.
package probe
