// Package resp is the wire between a replica and its master: how a command is
// written, how a reply line is read, and where in a replication stream one
// command ends and the next begins. It knows no sockets and no disk; whoever
// owns the bytes hands them in, in whatever pieces the kernel cut them.
//
// A replica speaks RESP in two directions that have little in common. What it
// sends is a handful of short commands; [AppendCommand] writes them. What it
// receives is first a conversation of lines ("+PONG", "+FULLRESYNC ...", bare
// newlines as keep-alives), read by [LineReader], and then, for ever, the
// replication stream: arrays of bulk strings, one after the other, with no
// answer expected.
//
// The stream need not be understood to be stored. Three things must be known of
// it all the same, and [Scanner] finds them without copying a byte:
//
//   - where a command ends, because an archive must end there after a crash, and
//     because a multi-part AOF may only be cut between two commands that are not
//     inside a transaction (a file other than the last which ends inside MULTI
//     is refused by redis-server);
//   - which database is selected there, because redis-server starts each AOF
//     file in database 0, so the next segment must open with a SELECT;
//   - that the master has just asked REPLCONF GETACK, which a replica answers at
//     once, with the offset before that command.
//
// The shortest use:
//
//	s := resp.NewScanner(0, resp.Limits{})
//	for len(p) > 0 {
//		n, kind, err := s.Scan(p)
//		if err != nil {
//			return err // errors.Is(err, resp.ErrProtocol)
//		}
//		p = p[n:]
//		if kind == resp.GetAck {
//			acknowledge(base + s.CommandStart())
//		}
//	}
//	cut := s.Boundary() // cut.Offset bytes in, database cut.DB
//
// Nothing here is safe for use by several goroutines at once; each link owns
// its reader and its scanner.
package resp
