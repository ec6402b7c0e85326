// Package probe finds out whether a master can be followed, and should be.
//
// It goes through each step that a link takes up to, not including, PSYNC: the
// name, each of its addresses, TLS, PING, AUTH, the REPLCONFs, with the very
// commands of package replica. Then it asks on the same connection what the
// user may ask (INFO, CONFIG GET, ACL WHOAMI, ACL DRYRUN), and judges what it
// was told. What comes of it is a list of checks:
//
//	r := probe.Run(ctx, probe.Options{Master: m})
//	for _, c := range r.Checks {
//		fmt.Println(c.Status, c.Name, c.Detail, c.Remedy)
//	}
//
// # Gentle
//
// Nothing is left on the master. REPLCONF makes no replica of a client, so the
// probe is not one, is not in INFO's connected_slaves, counts neither for WAIT
// nor for min-replicas-to-write, and starts no BGSAVE.
//
// Whether the user may run PSYNC, ACL DRYRUN tells (Redis 7.0). Who may not ask
// that, or asks an older master, learns it from a refusal: PING and PSYNC are
// sent in one write, and every master since 2.8 refuses a PSYNC while the answer
// to the command before it has not left ("SYNC and PSYNC are invalid with
// pending output", syncCommand in replication.c), after it has looked at the
// user's rights. Should something on the way have torn the two apart, the
// connection is cut at once, and the check says so.
//
// With Options.Psync a PSYNC is sent for real, and the connection cut after the
// reply. Where the master has a backlog it is asked to continue at its own
// offset, which costs nothing; where it has none, or does not say, it is asked
// for a full sync, and a BGSAVE may begin (and end with the connection). In
// either case the probe is a replica for that moment: INFO shows it,
// min-replicas-to-write may count it, a Sentinel may see it.
//
// # Hostile servers
//
// Options.Timeout bounds the whole, and each answer but that to PSYNC has 5 seconds
// of it. An
// answer may have 4 MiB and lines of 64 KiB. What a server says is shown
// without control characters, and without the password that it may quote.
//
// # JSON
//
// A [Report] as JSON is an object:
//
//	master         the address, without user and password
//	verdict        "pass", "warn" or "fail": the worst of the checks
//	server         "Redis 7.0.15"; absent where INFO is not permitted
//	took_seconds   of the whole
//	figures        what was measured; each absent where it is not known:
//	  write_bytes_per_second   of the replication stream
//	  repl_backlog_bytes       repl-backlog-size
//	  longest_cut_seconds      for how long a cut is survived without a full
//	                           sync; also absent where nothing is written
//	  used_memory_bytes        of the master
//	  full_sync_seconds        an estimate
//	  free_bytes               on the disk of Options.Dir
//	checks         a list, in the order in which they were made:
//	  name           see below
//	  status         "pass", "warn", "fail" or "skip"
//	  detail         what was found, or why it was skipped
//	  remedy         what helps; absent where there is nothing to advise
//	  took_seconds   absent where nothing was asked for it
//
// The names are "name resolution", "connect", "TLS", "PING", "AUTH", "REPLCONF
// listening-port", "REPLCONF ip-address" (where one is announced), "REPLCONF
// capa", "REPLCONF version", "ACL", "INFO", "CONFIG GET", "protected-mode",
// "maxclients", "loading", "role", "version", "requirepass", "BGSAVE",
// "repl-backlog-size", "client-output-buffer-limit", "repl-diskless-sync",
// "repl-timeout", "min-replicas-to-write", "disk", "full sync", and "PSYNC"
// (where asked for). Each is there once, in that order.
package probe
