package master

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"replicad/replica/resp"
)

// What a replica may say that it knows (REPLCONF capa). Others are passed over:
// a replica may know more than its master.
const (
	CapaEOF         = "eof"              // a payload that ends with a mark
	CapaPSync2      = "psync2"           // +CONTINUE with a replication id
	CapaRDBChannel  = "rdb-channel-repl" // a full sync on two connections (Redis 8)
	CapaDualChannel = "dual-channel"     // likewise (Valkey 8)
)

// Handshake is what REPLCONF tells before PSYNC. Its size is bounded, whatever a
// replica sends.
type Handshake struct {
	Port    int    // listening-port, 0 where it named none
	IP      string // ip-address, "" where it named none
	capa    []string
	RDBOnly bool // it takes the payload of a full sync and no stream

	RDBChannel bool  // it is the RDB channel of a full sync on two connections
	Main       int64 // the id that the main channel of the same sync was told (Redis)
}

// Knows says whether the replica has a capability.
func (h *Handshake) Knows(capa string) bool { return slices.Contains(h.capa, capa) }

// Error replies that Redis gives to a command that is wrong in itself.
const (
	msgSyntax = "ERR syntax error"
	msgNotInt = "ERR value is not an integer or out of range"
)

var replyOK = []byte("+OK\r\n")

// errorReply makes an error reply. Line ends cannot be in it.
func errorReply(format string, args ...any) []byte {
	msg := strings.NewReplacer("\r", " ", "\n", " ").Replace(fmt.Sprintf(format, args...))
	return []byte("-" + msg + "\r\n")
}

// maxAddress is longer than the text of any address (INET6_ADDRSTRLEN, or a
// name).
const maxAddress = 255

// Replconf takes REPLCONF, its name included: pairs of an option and a value. It
// returns the reply; nil where there is none.
func (h *Handshake) Replconf(args [][]byte) (reply []byte) {
	if len(args)%2 == 0 {
		return errorReply(msgSyntax)
	}
	for pair := range slices.Chunk(args[1:], 2) {
		switch option, value := word(pair[0]), string(pair[1][:min(len(pair[1]), maxAddress+1)]); option {
		case "listening-port":
			port, err := strconv.Atoi(value)
			if err != nil || port < 0 || port > 65535 {
				return errorReply(msgNotInt)
			}
			h.Port = port
		case "ip-address":
			if len(value) > maxAddress {
				return errorReply("ERR REPLCONF ip-address provided by replica instance is too long: %d bytes", len(pair[1]))
			}
			h.IP = value
		case "capa":
			known := []string{CapaEOF, CapaPSync2, CapaRDBChannel, CapaDualChannel}
			if capa := word(pair[1]); slices.Contains(known, capa) && !h.Knows(capa) {
				h.capa = append(h.capa, capa)
			}
		case "rdb-only":
			h.RDBOnly = value == "1"
		case "rdb-channel":
			h.RDBChannel = value == "1"
		case "main-ch-client-id":
			h.Main, _ = resp.ParseInteger(pair[1])
		case "set-rdb-client-id": // Valkey's main channel, whose RDB channel is known
		case "version": // Valkey 8 and later
		case "ack", "getack":
			return nil // neither is ever answered
		default:
			return errorReply("ERR Unrecognized REPLCONF option: %s", option)
		}
	}
	return replyOK
}

// word is an option in small letters, without what could break a reply.
func word(b []byte) string { return strings.ToLower(string(b[:min(len(b), 64)])) }

// Request is PSYNC or SYNC, and what the handshake told before it.
type Request struct {
	Handshake
	PSync  bool   // else SYNC: no line goes before the payload
	ReplID string // in small letters; "?" or "" for a full sync
	Offset int64  // the first byte that is asked for
}

// Request reads PSYNC or SYNC, its name included. refusal is an error reply; nil
// where there is none.
func (h *Handshake) Request(args [][]byte) (q Request, refusal []byte) {
	q.Handshake = *h
	q.capa = slices.Clone(h.capa)
	name := word(args[0])
	q.PSync = name == "psync"
	switch {
	case q.PSync && len(args) == 4 && word(args[3]) == "failover":
		return q, errorReply("ERR PSYNC FAILOVER can't be obeyed here: this master gives its place to nobody")
	case q.PSync && len(args) != 3, !q.PSync && len(args) != 1:
		return q, errorReply("ERR wrong number of arguments for '%s' command", name)
	case !q.PSync:
		return q, nil
	}
	offset, ok := resp.ParseInteger(args[2])
	if !ok {
		return q, errorReply(msgNotInt)
	}
	q.ReplID, q.Offset = word(args[1]), offset
	return q, nil
}

// Partial says whether the replica asks to go on where it is.
func (q Request) Partial() bool { return q.ReplID != "" && q.ReplID != "?" }

// Continue is the line that grants a partial resync. A replica without psync2
// does not expect an id behind the word.
func (q Request) Continue(id string) string {
	if q.Knows(CapaPSync2) {
		return "+CONTINUE " + id + "\r\n"
	}
	return "+CONTINUE\r\n"
}

// FullResync is the line that goes before a payload; "" for SYNC.
func (q Request) FullResync(id string, offset int64) string {
	if !q.PSync {
		return ""
	}
	return fmt.Sprintf("+FULLRESYNC %s %d\r\n", id, offset)
}
