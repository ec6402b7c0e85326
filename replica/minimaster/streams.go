package minimaster

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/alicebob/miniredis/v2"
)

// Streams remember in Redis the highest id they ever had; the engine derives it from the last entry. So that
// the two never differ, what would remove the last entry is refused.
const whyKeepTop = "the engine would forget the stream's last id with its last entry"

type streamID struct{ ms, seq uint64 }

func (id streamID) String() string { return fmt.Sprintf("%d-%d", id.ms, id.seq) }

func (id streamID) less(o streamID) bool {
	return id.ms < o.ms || id.ms == o.ms && id.seq < o.seq
}

// next is the smallest id above. There is none above the highest.
func (id streamID) next() (streamID, bool) {
	if id.seq < math.MaxUint64 {
		return streamID{id.ms, id.seq + 1}, true
	}
	return streamID{id.ms + 1, 0}, id.ms < math.MaxUint64
}

// parseStreamID reads ms or ms-seq, with the seq that a missing one stands for.
func parseStreamID(s string, missing uint64) (streamID, bool) {
	ms, seq, both := strings.Cut(s, "-")
	id := streamID{seq: missing}
	var err error
	if id.ms, err = strconv.ParseUint(ms, 10, 64); err != nil {
		return id, false
	}
	if both {
		id.seq, err = strconv.ParseUint(seq, 10, 64)
	}
	return id, err == nil
}

const (
	msgStreamID  = "ERR Invalid stream ID specified as stream command argument"
	msgStreamTop = "ERR The ID specified in XADD is equal or smaller than the target stream top item"
	msgStreamMin = "ERR The ID specified in XADD must be greater than 0-0"
)

// newStreamID decides the id of a new entry after last (t_stream.c, streamAppendItem): "*", "ms-*", "ms" or "ms-seq".
func newStreamID(arg string, last streamID, now int64) (streamID, []byte) {
	after, ok := last.next()
	if !ok {
		return after, errorReply("ERR The stream has exhausted the last possible ID, unable to add more items")
	}
	if arg == "*" {
		if id := (streamID{ms: uint64(now)}); last.less(id) {
			return id, nil
		}
		return after, nil
	}
	if ms, auto := strings.CutSuffix(arg, "-*"); auto {
		id, ok := parseStreamID(ms, 0)
		switch {
		case !ok || strings.Contains(ms, "-"):
			return id, errorReply(msgStreamID)
		case id.ms < last.ms || id.ms == last.ms && after.ms != id.ms:
			return id, errorReply(msgStreamTop)
		case id.ms == last.ms:
			return after, nil
		}
		return id, nil
	}
	id, ok := parseStreamID(arg, 0)
	switch {
	case !ok:
		return id, errorReply(msgStreamID)
	case id == streamID{}:
		return id, errorReply(msgStreamMin)
	case !last.less(id):
		return id, errorReply(msgStreamTop)
	}
	return id, nil
}

// stream returns the entries of the stream at the key, or the error reply for a key of another type.
func (c *call) stream() ([]miniredis.StreamEntry, []byte) {
	entries, err := c.e.db(c.db).Stream(c.key())
	if err != nil {
		return nil, errorReply("%s", err)
	}
	return entries, nil
}

func lastID(entries []miniredis.StreamEntry) streamID {
	if len(entries) == 0 {
		return streamID{}
	}
	id, _ := parseStreamID(entries[len(entries)-1].ID, 0)
	return id
}

// trim is the MAXLEN or MINID of XADD and XTRIM, as something exact.
type trim struct {
	strategy  string // "" none
	threshold string
	maxlen    int64
	minid     streamID
}

// parseTrim reads [=|~] threshold from args and returns how many it used. "~" lets Redis trim less than asked, which
// no replica could repeat; here everything is trimmed exactly.
func parseTrim(name, strategy string, args []string) (t trim, used int, bad []byte) {
	t.strategy = strategy
	if len(args) > 0 && (args[0] == "=" || args[0] == "~") {
		used++
	}
	if used == len(args) {
		return t, 0, errorReply(msgSyntax)
	}
	t.threshold = args[used]
	used++
	if used < len(args) && strings.EqualFold(args[used], "LIMIT") {
		return t, 0, refuse(name+" LIMIT", "the engine trims exactly")
	}
	var ok bool
	if strategy == "MAXLEN" {
		if t.maxlen, ok = parseInt(t.threshold); !ok {
			return t, 0, errorReply(msgNotInt)
		} else if t.maxlen < 0 {
			return t, 0, errorReply("ERR The MAXLEN argument must be >= 0.")
		}
	} else if t.minid, ok = parseStreamID(t.threshold, 0); !ok {
		return t, 0, errorReply(msgStreamID)
	}
	return t, used, nil
}

// empties says whether nothing of a stream with this last id would be left.
func (t trim) empties(last streamID) bool {
	return t.strategy == "MAXLEN" && t.maxlen == 0 || t.strategy == "MINID" && last.less(t.minid)
}

func (c *call) xadd() []byte {
	var t trim
	nomk := false
	i := 2
options:
	for ; i < len(c.args); i++ {
		switch option := strings.ToUpper(c.args[i]); option {
		case "NOMKSTREAM":
			nomk = true
		case "MAXLEN", "MINID":
			var used int
			var bad []byte
			if t, used, bad = parseTrim("XADD", option, c.args[i+1:]); bad != nil {
				return bad
			}
			i += used
		default:
			break options
		}
	}
	if i >= len(c.args) || len(c.args[i+1:]) == 0 || len(c.args[i+1:])%2 != 0 {
		return wrongArity("xadd")
	}
	entries, bad := c.stream()
	if bad != nil {
		return bad
	}
	if nomk && !c.e.exists(c.db, c.key()) {
		return replyNil
	}
	id, bad := newStreamID(c.args[i], lastID(entries), c.e.now)
	if bad != nil {
		return bad
	}
	if t.empties(id) {
		return refuse("XADD "+t.strategy+" "+t.threshold, whyKeepTop)
	}
	fields := c.args[i+1:]
	reply := c.do(append([]string{"XADD", c.key(), id.String()}, fields...)...)
	if isError(reply) {
		return reply
	}
	args := []string{"XADD", c.key()}
	if t.strategy != "" {
		c.do("XTRIM", c.key(), t.strategy, "=", t.threshold)
		args = append(args, t.strategy, "=", t.threshold)
	}
	c.propagate(append(append(args, id.String()), fields...)...)
	return reply
}

func (c *call) xtrim() []byte {
	strategy := strings.ToUpper(c.args[2])
	if strategy != "MAXLEN" && strategy != "MINID" {
		return errorReply(msgSyntax)
	}
	t, used, bad := parseTrim("XTRIM", strategy, c.args[3:])
	if bad != nil {
		return bad
	}
	if 3+used != len(c.args) {
		return errorReply(msgSyntax)
	}
	entries, bad := c.stream()
	if bad != nil {
		return bad
	}
	if len(entries) > 0 && t.empties(lastID(entries)) {
		return refuse("XTRIM "+t.strategy+" "+t.threshold, whyKeepTop)
	}
	reply := c.do("XTRIM", c.key(), t.strategy, "=", t.threshold)
	if replyInt(reply) > 0 {
		c.propagate("XTRIM", c.key(), t.strategy, "=", t.threshold)
	}
	return reply
}

func (c *call) xdel() []byte {
	entries, bad := c.stream()
	if bad != nil {
		return bad
	}
	args := []string{"XDEL", c.key()}
	for _, arg := range c.args[2:] {
		id, ok := parseStreamID(arg, 0)
		if !ok {
			return errorReply(msgStreamID)
		}
		if len(entries) > 0 && id == lastID(entries) {
			return refuse("XDEL "+id.String(), whyKeepTop)
		}
		args = append(args, id.String())
	}
	reply := c.do(args...)
	if replyInt(reply) > 0 {
		c.propagate(args...)
	}
	return reply
}

// xread reads, which needs nothing of this, unless it waits.
func (c *call) xread() []byte {
	for _, a := range c.args[1:] {
		if strings.EqualFold(a, "BLOCK") {
			return refuse("XREAD BLOCK", "it does not block; use the command without BLOCK")
		}
		if strings.EqualFold(a, "STREAMS") {
			break
		}
	}
	return c.verbatim()
}
