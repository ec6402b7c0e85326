// Package rdb reads of RDB files what replication needs, and no more: which
// server wrote a file, at which offset of which history and in which database
// the stream behind it goes on, and whether the file is intact.
//
// An RDB file is a magic of nine bytes (REDIS0011), a sequence of opcodes with
// their operands, the opcode 0xFF that ends it, and, from version 5 on, eight
// bytes of checksum. From version 7 on the first opcodes are aux fields (0xFA):
// pairs of strings such as redis-ver = 7.2.6 or repl-stream-db = 3. [ReadHeader]
// reads those. The field repl-stream-db matters more than it seems to: the stream
// of a chained replica does not open with a SELECT, so only this field says to
// which database its first keys belong.
//
// [VerifyChecksum] reads a finished file once and compares its checksum. A
// [Checksum] does the same for bytes that pass by. A [Reader] reads the bytes,
// lengths and strings of which everything else in a file consists.
//
// Everything here treats the file as hostile: no length in a file makes these
// functions allocate or read more than their documented bounds.
package rdb
