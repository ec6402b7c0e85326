// Package resp reads and writes RESP, in bytes that the caller hands in, in
// whatever pieces they came. The package knows no sockets and no files.
//
//   - [AppendCommand] writes a command to a master.
//   - [LineReader] reads a master's replies, which are lines.
//   - [Scanner] walks a replication stream in place. The stream is stored as it is,
//     but the archive must know where a command ends outside of a transaction (a
//     file may be cut there only), which database is selected there (redis-server
//     begins each AOF file in database 0), and when the master asks for an offset
//     (REPLCONF GETACK).
//   - [QueryReader] reads what a client sends to the RESP port.
//
// The shortest use of a scanner:
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
// A value must not be used by several goroutines at once.
package resp
