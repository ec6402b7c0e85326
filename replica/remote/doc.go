// Package remote keeps a copy of archives in object storage, by the interface of
// S3, and reads archives back from there.
//
// # Objects
//
// Every object is a fact, and is never changed. Below the prefix each archive has
// its name, and below that:
//
//	base/ID.OFFSET.WRITER/NUMBER   64 MiB of an RDB: history ID up to OFFSET
//	generation/NUMBER              a whole base, and what its generation is
//	generation/NUMBER.OFFSET.ID    behind OFFSET it goes on as history ID
//	log/ID/FROM-TO                 a closed segment: history ID from FROM to TO
//	log/ID/FROM-TO.WRITER          one that differs from the one of that name
//	tail/WRITER/NUMBER.ID.FROM-TO  what had come since the tail before
//
// Offsets have 20 digits. The ranges stand in the names, so that a LIST says what
// there is. Facts may overlap; a reader takes any that cover an offset. A history
// that goes on under another id is the same up to that place, so a generation
// follows several ids.
//
// A closed segment ends at the first boundary at or behind a multiple of 64 MiB of
// the offset, so that two archivers of one master make the same names. Only one of
// them creates it (If-None-Match); the other compares the length and the checksum.
// A command that is longer than 8 MiB may be divided: "inside" then says that an
// object begins within a command.
//
// Each object of a base or of the log begins with a skippable frame of zstd (RFC
// 8878), which holds a header as JSON; frames of zstd follow. So zstd -d makes the
// plain bytes of it, and any S3 client reads it:
//
//	aws s3 cp s3://BUCKET/PREFIX/NAME/log/ID/FROM-TO - | zstd -d
//
// The header has the history, the range, the database in force at FROM, the
// CRC-32C of the plain bytes, the sizes of the frames, and the marks of the
// writer's clock: pairs of unix milliseconds and an offset.
//
// # Order
//
// What a reader needs is there first: the parts of a base before its generation,
// and the fact of a new history before the bytes that have its name. So the end of
// the unbroken log behind a base is what can be restored, and it alone is called
// held.
package remote
