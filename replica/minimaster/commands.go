package minimaster

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/alicebob/miniredis/v2"
)

// effect is one command for the replicas: what has been done, in the database it
// was done in.
type effect struct {
	db   int
	args []string
}

// call is one command of a client that is being executed.
type call struct {
	*Client
	args    []string // as the client sent them
	effects []effect
}

// do executes in the engine, in the client's database.
func (c *call) do(args ...string) []byte { return c.m.engine.call(c.db, args...) }

// data gives direct access to the client's database.
func (c *call) data() *miniredis.RedisDB { return c.m.engine.mini.DB(c.db) }

// propagate notes a command for the replicas.
func (c *call) propagate(args ...string) { c.effects = append(c.effects, effect{c.db, args}) }

// command is how one command is executed, and what of it goes to the replicas.
type command struct {
	least, most int // of arguments, with the name; 0 where the engine counts them
	run         func(*call) []byte
}

// commandTable has every command that the master knows, but for PSYNC and SYNC
// (handle), AUTH and those of transactions (process). The values that the
// commands make are of the types that the snapshot has.
func commandTable() map[string]command {
	table := map[string]command{
		"SET":    {3, 5, (*call).set},
		"INCR":   {2, 2, (*call).incr},
		"INCRBY": {3, 3, (*call).incr},
		"ZADD":   {4, math.MaxInt, (*call).zadd},

		"PING":     {1, 1, (*call).ping},
		"SELECT":   {2, 2, (*call).selectDB},
		"REPLCONF": {3, math.MaxInt, (*call).replconf},
		"INFO":     {1, math.MaxInt, (*call).info},
		"CONFIG":   {3, math.MaxInt, (*call).config},
	}
	for words, run := range map[string]func(*call) []byte{
		"MSET APPEND HSET FLUSHDB FLUSHALL":                                (*call).always,
		"DEL UNLINK PERSIST LPUSH RPUSH LPOP RPOP SADD SREM HDEL ZREM":     (*call).ifChanged,
		"GET MGET STRLEN EXISTS TYPE KEYS SCAN DBSIZE PEXPIRETIME":         (*call).verbatim,
		"LRANGE LLEN SMEMBERS SCARD HGET HGETALL HLEN ZRANGE ZSCORE ZCARD": (*call).verbatim,
	} {
		for name := range strings.FieldsSeq(words) {
			table[name] = command{run: run}
		}
	}
	return table
}

// lookup finds the command, or the error reply that says why there is none.
func (m *Master) lookup(args []string) (command, []byte) {
	cmd, ok := m.table[strings.ToUpper(args[0])]
	if !ok {
		return cmd, errorReply("ERR unknown command '%.128s': minimaster does not know what to tell the replicas", args[0])
	}
	if cmd.most > 0 && (len(args) < cmd.least || len(args) > cmd.most) {
		return cmd, wrongArity(args[0])
	}
	return cmd, nil
}

// execute executes a command now, and returns the reply and what the replicas
// have to be told. No effects means that nothing changed. The caller holds mu.
func (m *Master) execute(c *Client, args []string) ([]byte, []effect) {
	cmd, refusal := m.lookup(args)
	if refusal != nil {
		return refusal, nil
	}
	x := &call{Client: c, args: args}
	reply := cmd.run(x)
	return reply, x.effects
}

// verbatim executes the command as it stands, and propagates nothing.
func (c *call) verbatim() []byte { return c.do(c.args...) }

// always executes, and propagates unless the command failed.
func (c *call) always() []byte {
	reply := c.verbatim()
	if !isError(reply) {
		c.propagate(c.args...)
	}
	return reply
}

// ifChanged executes, and propagates unless the command failed or the reply,
// which is nil or zero, says that nothing changed.
func (c *call) ifChanged() []byte {
	reply := c.verbatim()
	if !isError(reply) && !slices.Contains([]string{":0\r\n", "$-1\r\n", "*-1\r\n", "*0\r\n"}, string(reply)) {
		c.propagate(c.args...)
	}
	return reply
}

// set is SET without options but EX, PX and PXAT. The replicas get an absolute
// expiry.
func (c *call) set() []byte {
	if len(c.args) == 3 {
		return c.always()
	}
	if len(c.args) != 5 {
		return errorReply(msgSyntax)
	}
	key, value := c.args[1], c.args[2]
	option := strings.ToUpper(c.args[3])
	unit := map[string]int64{"EX": 1000, "PX": 1, "PXAT": 1}[option]
	n, ok := parseInt(c.args[4])
	switch {
	case unit == 0:
		return errorReply(msgSyntax)
	case !ok:
		return errorReply(msgNotInt)
	case n <= 0 || n > (maxExpiry-c.m.engine.now)/unit:
		return errorReply(msgExpiry, c.args[0])
	}
	at := n * unit
	if option != "PXAT" {
		at += c.m.engine.now
	}
	c.do("SET", key, value)
	c.m.engine.setExpire(c.db, key, at)
	c.propagate("SET", key, value, "PXAT", strconv.FormatInt(at, 10))
	return replyOK
}

// incr is INCR and INCRBY. The engine would take an "007" for a number, a replica
// would not.
func (c *call) incr() []byte {
	if old, err := c.data().Get(c.args[1]); err == nil && !isInteger(old) {
		return errorReply(msgNotInt)
	}
	if len(c.args) == 3 && !isInteger(c.args[2]) {
		return errorReply(msgNotInt)
	}
	return c.always()
}

// zadd is ZADD without options. It checks the scores, for the engine reads more
// forms of them than a replica.
func (c *call) zadd() []byte {
	if len(c.args)%2 != 0 {
		return errorReply(msgSyntax)
	}
	for pair := range slices.Chunk(c.args[2:], 2) {
		if _, ok := parseScore(pair[0]); !ok {
			return errorReply(msgNotFloat)
		}
	}
	return c.always()
}
