// Package rdb knows of RDB files what replication needs, and no more: which
// server wrote one, at which place of which history and in which database the
// stream that follows it goes on, and whether the file is intact. It does not
// read keys or values.
//
// An RDB file is a magic of nine bytes (REDIS0011), a sequence of opcodes with
// their operands, the opcode 0xFF that ends it, and, from version 5 on, eight
// bytes of checksum. From version 7 on the first opcodes are aux fields (0xFA):
// pairs of strings such as redis-ver = 7.2.6 or repl-stream-db = 3. [ReadHeader]
// reads those. The last of the two matters more than it seems to: the stream of a
// chained replica does not open with a SELECT, so nothing but this field says
// where its first keys belong.
//
// [VerifyChecksum] reads a finished file once and compares its checksum. A
// [Checksum] does the same for bytes that pass by.
//
// Everything here treats the file as hostile: no length found in it makes these
// functions allocate or read more than their documented bounds.
package rdb
