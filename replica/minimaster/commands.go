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
// (handle), AUTH and those of transactions (process). The values that the commands
// make are of the types that the snapshot has.
func commandTable() map[string]command {
	table := map[string]command{
		"SET":       {3, 5, (*call).set},
		"EXPIRE":    {3, 3, (*call).expire},
		"PEXPIRE":   {3, 3, (*call).expire},
		"EXPIREAT":  {3, 3, (*call).expire},
		"PEXPIREAT": {3, 3, (*call).expire},
		"INCR":      {2, 2, (*call).incr},
		"INCRBY":    {3, 3, (*call).incr},
		"ZADD":      {4, math.MaxInt, (*call).zadd},

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

// execute executes a command now, and returns the reply and what the replicas have
// to be told. No effects means that nothing changed. The caller holds mu.
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

// ifChanged executes, and propagates unless the command failed or the reply, which
// is nil or zero, says that nothing changed.
func (c *call) ifChanged() []byte {
	reply := c.verbatim()
	if !isError(reply) && !slices.Contains([]string{":0\r\n", "$-1\r\n", "*-1\r\n", "*0\r\n"}, string(reply)) {
		c.propagate(c.args...)
	}
	return reply
}

// set is SET without options but an expiry, which the replicas get as an absolute
// one.
func (c *call) set() []byte {
	key, value := c.args[1], c.args[2]
	if len(c.args) == 3 {
		return c.always()
	}
	unit := strings.ToUpper(c.args[3])
	if len(c.args) != 5 || !slices.Contains([]string{"EX", "PX", "EXAT", "PXAT"}, unit) {
		return errorReply(msgSyntax)
	}
	at, bad := c.deadline(unit, c.args[4])
	switch n, _ := parseInt(c.args[4]); {
	case bad != nil:
		return bad
	case n <= 0:
		return errorReply(msgExpiry, c.args[0])
	}
	c.do("SET", key, value)
	c.m.engine.setExpire(c.db, key, at)
	c.propagate("SET", key, value, "PXAT", strconv.FormatInt(at, 10))
	return replyOK
}

// deadline turns an argument into Unix milliseconds. The unit is the command, or
// the option of SET, that the argument stands behind: where it begins with P the
// argument is milliseconds, where it ends with AT it is absolute.
func (c *call) deadline(unit, arg string) (int64, []byte) {
	n, ok := parseInt(arg)
	if !ok {
		return 0, errorReply(msgNotInt)
	}
	scale, base := int64(1000), c.m.engine.now
	if strings.HasPrefix(unit, "P") {
		scale = 1
	}
	if strings.HasSuffix(unit, "AT") {
		base = 0
	}
	if math.Abs(float64(n)*float64(scale)+float64(base)) > float64(maxExpiry) {
		return 0, errorReply(msgExpiry, c.args[0])
	}
	return n*scale + base, nil
}

// expire is EXPIRE, PEXPIRE, EXPIREAT and PEXPIREAT without options (expire.c,
// expireGenericCommand). An expiry that has come already deletes the key.
func (c *call) expire() []byte {
	key := c.args[1]
	at, bad := c.deadline(strings.ToUpper(c.args[0]), c.args[2])
	switch {
	case bad != nil:
		return bad
	case !c.data().Exists(key):
		return intReply(0)
	case at <= c.m.engine.now:
		c.do("DEL", key)
		c.propagate("DEL", key)
	default:
		c.m.engine.setExpire(c.db, key, at)
		c.propagate("PEXPIREAT", key, strconv.FormatInt(at, 10))
	}
	return intReply(1)
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
