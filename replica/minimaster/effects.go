package minimaster

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// effect is one command for the replicas: what has been done, in the database it was done in.
type effect struct {
	db   int
	args []string
}

// call is one command being executed.
type call struct {
	e       *Engine
	db      int
	args    []string // as the client sent them; args[0] is the name in its own spelling
	effects []effect
}

// do executes in the engine, in the database of the call.
func (c *call) do(args ...string) []byte { return c.e.call(c.db, args...) }

// verbatim executes the command as it stands.
func (c *call) verbatim() []byte { return c.do(c.args...) }

// propagate notes a command for the replicas.
func (c *call) propagate(args ...string) { c.effects = append(c.effects, effect{c.db, args}) }

// key is the first argument, which for most commands is the key.
func (c *call) key() string { return c.args[1] }

// A command is how one write is executed and what of it goes to the replicas.
type command struct {
	arity int   // as in Redis' command table: the name counts, negative means "at least"
	ints  []int // positions of arguments that must be integers, checked when present
	run   func(*call) []byte
}

// exec executes a command and returns the reply and what the replicas have to be told. No effects means that
// nothing changed. The caller has called tick.
func (e *Engine) exec(db int, args []string) ([]byte, []effect) {
	cmd, refusal := e.lookup(args)
	if refusal != nil {
		return refusal, nil
	}
	c := &call{e: e, db: db, args: args}
	reply := cmd.run(c)
	return reply, c.effects
}

// lookup finds the command, or the error reply that says why there is none.
func (e *Engine) lookup(args []string) (command, []byte) {
	name := strings.ToUpper(args[0])
	if why, ok := e.refused[name]; ok {
		return command{}, refuse(name, why)
	}
	if cmd, ok := e.writes[name]; ok {
		if n := len(args); n < max(cmd.arity, -cmd.arity) || cmd.arity > 0 && n != cmd.arity {
			return command{}, wrongArity(name)
		}
		for _, i := range cmd.ints {
			if i < len(args) {
				if _, ok := parseInt(args[i]); !ok {
					return command{}, errorReply(msgNotInt)
				}
			}
		}
		return cmd, nil
	}
	if e.srv.IsReadOnlyCommand(name) {
		return command{run: (*call).verbatim}, nil
	}
	if e.srv.IsRegisteredCommand(name) {
		return command{}, refuse(name, "its effect on the replicas is not known here")
	}
	quoted := ""
	for _, a := range args[1:min(len(args), 21)] {
		quoted += fmt.Sprintf("'%.128s' ", a)
	}
	return command{}, errorReply("ERR unknown command '%.128s', with args beginning with: %s", args[0], quoted)
}

func refuse(name, why string) []byte {
	return errorReply("ERR minimaster refuses %s: %s", name, why)
}

// refusals are commands that the engine would execute but that are not let through, with the reason.
func refusals() map[string]string {
	const (
		groups   = "consumer groups are not replicated"
		script   = "a script's effects are not known here"
		blocking = "it does not block; use the command without B"
		hll      = "the engine keeps HyperLogLogs in a form no replica can read"
		fieldTTL = "expiries of hash fields are not replicated"
		format   = "the engine's serialization is not that of Redis"
	)
	return map[string]string{
		"XGROUP": groups, "XREADGROUP": groups, "XACK": groups, "XCLAIM": groups, "XAUTOCLAIM": groups, "XPENDING": groups,
		"EVAL": script, "EVALSHA": script, "EVAL_RO": script, "EVALSHA_RO": script, "SCRIPT": script,
		"BLPOP": blocking, "BRPOP": blocking, "BRPOPLPUSH": blocking, "BLMOVE": blocking,
		"BZPOPMIN": blocking, "BZPOPMAX": blocking, "BZMPOP": blocking,
		"PFADD": hll, "PFMERGE": hll, "PFCOUNT": hll,
		"HEXPIRE": fieldTTL, "HPERSIST": fieldTTL, "HSETEX": fieldTTL, "HTTL": fieldTTL, "HPTTL": fieldTTL,
		"DUMP": format, "RESTORE": format,
		"GEORADIUS": "it may write; use GEORADIUS_RO or GEOSEARCH", "GEORADIUSBYMEMBER": "it may write; use GEORADIUSBYMEMBER_RO or GEOSEARCH",
		"DELEX":     "Redis 7 does not have it",
		"SUBSCRIBE": "it serves no subscribers", "PSUBSCRIBE": "it serves no subscribers",
		"UNSUBSCRIBE": "it serves no subscribers", "PUNSUBSCRIBE": "it serves no subscribers",
	}
}

// commandTable has everything that changes data, and the few reads that need the real clock.
func commandTable() map[string]command {
	return map[string]command{
		// strings
		"SET":         {-3, nil, (*call).set},
		"SETEX":       {4, nil, (*call).setex},
		"PSETEX":      {4, nil, (*call).setex},
		"SETNX":       {3, nil, (*call).ifPositive},
		"MSET":        {-3, nil, (*call).ifOK},
		"MSETNX":      {-3, nil, (*call).ifPositive},
		"GETSET":      {3, nil, (*call).getset},
		"GETDEL":      {2, nil, (*call).getdel},
		"GETEX":       {-2, nil, (*call).getex},
		"APPEND":      {3, nil, (*call).ifOK},
		"SETRANGE":    {4, []int{2}, (*call).setrange},
		"SETBIT":      {4, []int{2, 3}, (*call).setbit},
		"INCR":        {2, nil, (*call).incr},
		"DECR":        {2, nil, (*call).incr},
		"INCRBY":      {3, []int{2}, (*call).incr},
		"DECRBY":      {3, []int{2}, (*call).incr},
		"INCRBYFLOAT": {3, nil, (*call).incrbyfloat},
		"BITOP":       {-4, nil, (*call).bitop},

		// keys
		"DEL":       {-2, nil, (*call).ifPositive},
		"UNLINK":    {-2, nil, (*call).ifPositive},
		"EXPIRE":    {-3, []int{2}, (*call).expire},
		"PEXPIRE":   {-3, []int{2}, (*call).expire},
		"EXPIREAT":  {-3, []int{2}, (*call).expire},
		"PEXPIREAT": {-3, []int{2}, (*call).expire},
		"PERSIST":   {2, nil, (*call).ifPositive},
		"TTL":       {2, nil, (*call).ttl},
		"PTTL":      {2, nil, (*call).ttl},
		"RENAME":    {3, nil, (*call).rename},
		"RENAMENX":  {3, nil, (*call).rename},
		"MOVE":      {3, []int{2}, (*call).move},
		"COPY":      {-3, nil, (*call).copy},
		"SWAPDB":    {3, []int{1, 2}, (*call).swapdb},
		"FLUSHDB":   {-1, nil, (*call).flush},
		"FLUSHALL":  {-1, nil, (*call).flush},
		"TIME":      {1, nil, (*call).time},

		// lists
		"LPUSH":     {-3, nil, (*call).ifPositive},
		"RPUSH":     {-3, nil, (*call).ifPositive},
		"LPUSHX":    {-3, nil, (*call).ifPositive},
		"RPUSHX":    {-3, nil, (*call).ifPositive},
		"LINSERT":   {5, nil, (*call).ifPositive},
		"LSET":      {4, []int{2}, (*call).ifOK},
		"LREM":      {4, []int{2}, (*call).ifPositive},
		"LTRIM":     {4, []int{2, 3}, (*call).ltrim},
		"LPOP":      {-2, []int{2}, (*call).ifPopped},
		"RPOP":      {-2, []int{2}, (*call).ifPopped},
		"RPOPLPUSH": {3, nil, (*call).ifPopped},
		"LMOVE":     {5, nil, (*call).ifPopped},
		"LMPOP":     {-4, nil, (*call).lmpop},

		// sets
		"SADD":        {-3, nil, (*call).ifPositive},
		"SREM":        {-3, nil, (*call).ifPositive},
		"SMOVE":       {4, nil, (*call).smove},
		"SPOP":        {-2, []int{2}, (*call).spop},
		"SDIFFSTORE":  {-3, nil, (*call).setstore},
		"SINTERSTORE": {-3, nil, (*call).setstore},
		"SUNIONSTORE": {-3, nil, (*call).setstore},

		// sorted sets
		"ZADD":             {-4, nil, (*call).zadd},
		"ZINCRBY":          {4, nil, (*call).zadd},
		"GEOADD":           {-5, nil, (*call).geoadd},
		"ZREM":             {-3, nil, (*call).ifPositive},
		"ZREMRANGEBYRANK":  {4, []int{2, 3}, (*call).zshrink},
		"ZREMRANGEBYSCORE": {4, nil, (*call).zshrink},
		"ZREMRANGEBYLEX":   {4, nil, (*call).zshrink},
		"ZPOPMIN":          {-2, []int{2}, (*call).zshrink},
		"ZPOPMAX":          {-2, []int{2}, (*call).zshrink},
		"ZMPOP":            {-4, nil, (*call).zmpop},
		"ZUNIONSTORE":      {-4, []int{2}, (*call).zstore},
		"ZINTERSTORE":      {-4, []int{2}, (*call).zstore},

		// hashes
		"HSET":         {-4, nil, (*call).hset},
		"HMSET":        {-4, nil, (*call).hset},
		"HSETNX":       {4, nil, (*call).ifPositive},
		"HDEL":         {-3, nil, (*call).ifPositive},
		"HINCRBY":      {4, []int{3}, (*call).hincrby},
		"HINCRBYFLOAT": {4, nil, (*call).hincrbyfloat},

		// streams
		"XADD":  {-5, nil, (*call).xadd},
		"XDEL":  {-3, nil, (*call).xdel},
		"XTRIM": {-4, nil, (*call).xtrim},
		"XREAD": {-4, nil, (*call).xread},

		// reads that the engine does not know for such
		"XINFO":  {-2, nil, (*call).verbatim},
		"MEMORY": {-2, nil, (*call).verbatim},

		// no write at all, but replicas have subscribers too
		"PUBLISH": {3, nil, (*call).publish},
	}
}

// ifPositive: a reply above zero says that something changed.
func (c *call) ifPositive() []byte {
	reply := c.verbatim()
	if replyInt(reply) > 0 {
		c.propagate(c.args...)
	}
	return reply
}

// ifOK: it changed something unless it failed.
func (c *call) ifOK() []byte {
	reply := c.verbatim()
	if !isError(reply) {
		c.propagate(c.args...)
	}
	return reply
}

// ifPopped: nil, or an empty array, says that there was nothing to take.
func (c *call) ifPopped() []byte {
	reply := c.verbatim()
	if !isError(reply) && !isNil(reply) && !strings.HasPrefix(string(reply), "*0") {
		c.propagate(c.args...)
	}
	return reply
}

// ---- expiries ----

// deadline turns the argument of EX, PX, EXAT or PXAT into Unix milliseconds.
func (c *call) deadline(option, arg string) (int64, []byte) {
	n, ok := parseInt(arg)
	if !ok {
		return 0, errorReply(msgNotInt)
	}
	at, ok := absolute(n, c.e.now, strings.HasPrefix(option, "P"), strings.HasSuffix(option, "AT"))
	if n <= 0 || !ok {
		return 0, errorReply("ERR invalid expire time in '%s' command", strings.ToLower(c.args[0]))
	}
	return at, nil
}

// absolute gives the Unix ms that n means, false when it is out of what the engine can hold.
func absolute(n, now int64, ms, at bool) (int64, bool) {
	if !ms {
		if n > maxExpiry/1000 || n < -maxExpiry/1000 {
			return 0, false
		}
		n *= 1000
	}
	if !at {
		if n > maxExpiry-now {
			return 0, false
		}
		n += now
	}
	return n, n <= maxExpiry
}

func (c *call) set() []byte {
	var nx, xx, get, keep bool
	var at int64
	for i := 3; i < len(c.args); i++ {
		switch option := strings.ToUpper(c.args[i]); option {
		case "NX":
			nx = true
		case "XX":
			xx = true
		case "GET":
			get = true
		case "KEEPTTL":
			keep = true
		case "EX", "PX", "EXAT", "PXAT":
			if at != 0 || i+1 == len(c.args) {
				return errorReply(msgSyntax)
			}
			i++
			var bad []byte
			if at, bad = c.deadline(option, c.args[i]); bad != nil {
				return bad
			}
		default:
			return errorReply(msgSyntax)
		}
	}
	if nx && xx || keep && at != 0 {
		return errorReply(msgSyntax)
	}
	key, value := c.key(), c.args[2]
	reply := replyOK
	if get {
		if reply = c.do("GET", key); isError(reply) {
			return reply
		}
	}
	if exists := c.e.exists(c.db, key); nx && exists || xx && !exists {
		if !get {
			reply = replyNil
		}
		return reply
	}
	c.store(key, value, at, keep)
	return reply
}

// store sets a string and says so. What the conditions of SET were is of no interest to a replica.
func (c *call) store(key, value string, at int64, keep bool) {
	switch {
	case keep:
		c.do("SET", key, value, "KEEPTTL")
		c.propagate("SET", key, value, "KEEPTTL")
	case at > 0:
		c.do("SET", key, value)
		c.e.setExpire(c.db, key, at)
		c.propagate("SET", key, value, "PXAT", strconv.FormatInt(at, 10))
	default:
		c.do("SET", key, value)
		c.propagate("SET", key, value)
	}
}

func (c *call) setex() []byte {
	option := "EX"
	if strings.EqualFold(c.args[0], "PSETEX") {
		option = "PX"
	}
	at, bad := c.deadline(option, c.args[2])
	if bad != nil {
		return bad
	}
	c.store(c.key(), c.args[3], at, false)
	return replyOK
}

func (c *call) getset() []byte {
	old := c.do("GET", c.key())
	if !isError(old) {
		c.store(c.key(), c.args[2], 0, false)
	}
	return old
}

func (c *call) getdel() []byte {
	reply := c.verbatim()
	if !isError(reply) && !isNil(reply) {
		c.propagate("DEL", c.key())
	}
	return reply
}

func (c *call) getex() []byte {
	var at int64
	persist := false
	if len(c.args) > 2 {
		switch option := strings.ToUpper(c.args[2]); {
		case option == "PERSIST" && len(c.args) == 3:
			persist = true
		case (option == "EX" || option == "PX" || option == "EXAT" || option == "PXAT") && len(c.args) == 4:
			var bad []byte
			if at, bad = c.deadline(option, c.args[3]); bad != nil {
				return bad
			}
		default:
			return errorReply(msgSyntax)
		}
	}
	reply := c.do("GET", c.key())
	switch {
	case isError(reply) || isNil(reply):
	case at > 0:
		c.expireKey(at)
	case persist && replyInt(c.do("PERSIST", c.key())) == 1:
		c.propagate("PERSIST", c.key())
	}
	return reply
}

// expireKey gives the key an expiry, or deletes it when that has come already.
func (c *call) expireKey(at int64) {
	if at <= c.e.now && !c.e.replaying || at <= 0 {
		c.do("DEL", c.key())
		c.propagate("DEL", c.key())
		return
	}
	c.e.setExpire(c.db, c.key(), at)
	c.propagate("PEXPIREAT", c.key(), strconv.FormatInt(at, 10))
}

// expire is EXPIRE, PEXPIRE, EXPIREAT and PEXPIREAT (expire.c, expireGenericCommand).
func (c *call) expire() []byte {
	var nx, xx, gt, lt bool
	for _, option := range c.args[3:] {
		switch strings.ToUpper(option) {
		case "NX":
			nx = true
		case "XX":
			xx = true
		case "GT":
			gt = true
		case "LT":
			lt = true
		default:
			return errorReply("ERR Unsupported option %s", option)
		}
	}
	switch {
	case nx && (xx || gt || lt):
		return errorReply("ERR NX and XX, GT or LT options at the same time are not compatible")
	case gt && lt:
		return errorReply("ERR GT and LT options at the same time are not compatible")
	}
	name := strings.ToUpper(c.args[0])
	n, _ := parseInt(c.args[2])
	at, ok := absolute(n, c.e.now, name[0] == 'P', strings.HasSuffix(name, "AT"))
	if !ok {
		return errorReply("ERR invalid expire time in '%s' command", strings.ToLower(name))
	}
	if !c.e.exists(c.db, c.key()) {
		return intReply(0)
	}
	old := c.e.expireAt(c.db, c.key()) // none counts as infinity for GT and LT
	if nx && old != 0 || xx && old == 0 || gt && (old == 0 || at <= old) || lt && old != 0 && at >= old {
		return intReply(0)
	}
	c.expireKey(at)
	return intReply(1)
}

// ttl is TTL and PTTL: the engine's clock stands still, so they are reckoned here.
func (c *call) ttl() []byte {
	if !c.e.exists(c.db, c.key()) {
		return intReply(-2)
	}
	at := c.e.expireAt(c.db, c.key())
	if at == 0 {
		return intReply(-1)
	}
	left := max(0, at-c.e.now)
	if strings.EqualFold(c.args[0], "TTL") {
		left = (left + 500) / 1000
	}
	return intReply(left)
}

func (c *call) time() []byte {
	now := time.Now()
	b := []byte("*2\r\n")
	b = append(b, bulkReply(strconv.FormatInt(now.Unix(), 10))...)
	return append(b, bulkReply(strconv.Itoa(now.Nanosecond()/1000))...)
}

// ---- strings ----

// maxString is proto-max-bulk-len: no string grows beyond it.
const maxString = 512 << 20

func (c *call) setrange() []byte {
	offset, _ := parseInt(c.args[2])
	switch {
	case offset < 0:
		return errorReply("ERR offset is out of range")
	case offset > maxString-int64(len(c.args[3])):
		return errorReply("ERR string exceeds maximum allowed size (proto-max-bulk-len)")
	case c.args[3] == "":
		return c.do("STRLEN", c.key()) // it changes nothing, and creates nothing
	}
	return c.ifPositive()
}

func (c *call) setbit() []byte {
	offset, _ := parseInt(c.args[2])
	bit := c.args[3]
	switch {
	case offset < 0 || offset >= maxString*8:
		return errorReply("ERR bit offset is not an integer or out of range")
	case bit != "0" && bit != "1":
		return errorReply("ERR bit is not an integer or out of range")
	}
	return c.ifOK()
}

// incr is INCR, DECR, INCRBY and DECRBY.
func (c *call) incr() []byte {
	if c.e.typeOf(c.db, c.key()) == "string" {
		// An "007" the engine would take for a number, a replica would not.
		if old, _ := c.e.db(c.db).Get(c.key()); !isInteger(old) {
			return errorReply(msgNotInt)
		}
	}
	if strings.EqualFold(c.args[0], "DECRBY") && c.args[2] == strconv.FormatInt(math.MinInt64, 10) {
		return errorReply("ERR decrement would overflow")
	}
	return c.ifOK()
}

func isInteger(s string) bool {
	_, ok := parseInt(s)
	return ok
}

// incrbyfloat: floats are added here, and only here. The replicas get the sum.
func (c *call) incrbyfloat() []byte {
	if f, ok := parseScore(c.args[2]); !ok {
		return errorReply(msgNotFloat)
	} else if math.IsInf(f, 0) {
		return errorReply("ERR increment would produce NaN or Infinity")
	}
	reply := c.verbatim()
	if !isError(reply) {
		value, _ := c.e.db(c.db).Get(c.key())
		c.propagate("SET", c.key(), value, "KEEPTTL")
	}
	return reply
}

func (c *call) bitop() []byte {
	dst := c.args[2]
	reply, before := c.into(2)
	switch {
	case isError(reply):
	case replyInt(reply) > 0:
		value, _ := c.e.db(c.db).Get(dst)
		c.propagate("SET", dst, value)
	default:
		c.drop(dst, before)
	}
	return reply
}

// scratch is where commands with a destination compute. No client's key is likely to have this name.
const scratch = "\x00minimaster: result\x00"

// into executes a command that stores its result at args[at], aside first: the engine empties the destination before it
// looks at the sources, one of which it may be, or of the wrong type. It returns the reply, and whether there was
// something at the destination before. A result that is empty leaves nothing.
func (c *call) into(at int) (reply []byte, before bool) {
	dst := c.args[at]
	args := slices.Clone(c.args)
	args[at] = scratch
	reply = c.do(args...)
	before = c.e.exists(c.db, dst)
	if !isError(reply) && replyInt(reply) > 0 {
		c.do("RENAME", scratch, dst)
	}
	c.do("DEL", scratch)
	return reply, before
}

// drop removes a destination whose new value turned out empty, and says so when there was something before.
func (c *call) drop(dst string, before bool) {
	c.do("DEL", dst)
	if before {
		c.propagate("DEL", dst)
	}
}

// ---- keys ----

func (c *call) rename() []byte {
	reply := c.verbatim()
	if c.args[1] != c.args[2] && (string(reply) == string(replyOK) || replyInt(reply) == 1) {
		c.e.hint(c.db, c.args[2])
		c.propagate(c.args...)
	}
	return reply
}

// database reads the number of a database in range.
func database(s string) (int, bool) {
	n, ok := parseInt(s)
	return int(n), ok && n >= 0 && n < Databases
}

func (c *call) move() []byte {
	to, ok := database(c.args[2])
	if !ok {
		return errorReply(msgDBRange)
	}
	c.e.db(to)
	reply := c.ifPositive()
	if replyInt(reply) == 1 {
		c.e.hint(to, c.key())
	}
	return reply
}

func (c *call) copy() []byte {
	to, replace := c.db, false
	for i := 3; i < len(c.args); i++ {
		switch option := strings.ToUpper(c.args[i]); {
		case option == "REPLACE":
			replace = true
		case option == "DB" && i+1 < len(c.args):
			i++
			var ok bool
			if to, ok = database(c.args[i]); !ok {
				return errorReply(msgDBRange)
			}
		default:
			return errorReply(msgSyntax)
		}
	}
	if c.e.typeOf(c.db, c.key()) == "stream" {
		return refuse("COPY", "the engine's copy of a stream is not independent of the original")
	}
	c.e.db(to)
	dst := c.args[2]
	if to == c.db && dst == c.key() {
		return errorReply("ERR source and destination objects are the same")
	}
	if replace && c.e.exists(c.db, c.key()) {
		c.e.call(to, "DEL", dst) // or the engine lets the new value inherit the old expiry
	}
	reply := c.ifPositive()
	if replyInt(reply) == 1 {
		c.e.hint(to, dst)
	}
	return reply
}

func (c *call) swapdb() []byte {
	a, ok1 := database(c.args[1])
	b, ok2 := database(c.args[2])
	if !ok1 || !ok2 {
		return errorReply(msgDBRange)
	}
	c.e.db(a)
	c.e.db(b)
	reply := c.ifOK()
	c.e.hintAll(a)
	c.e.hintAll(b)
	c.e.flushes++
	return reply
}

// flush is FLUSHDB and FLUSHALL, which Redis propagates even when there was nothing.
func (c *call) flush() []byte {
	if len(c.args) > 2 || len(c.args) == 2 && !strings.EqualFold(c.args[1], "ASYNC") && !strings.EqualFold(c.args[1], "SYNC") {
		return errorReply(msgSyntax)
	}
	reply := c.do(c.args[0])
	c.propagate(c.args...)
	c.e.flushes++
	return reply
}

// ---- lists ----

func (c *call) ltrim() []byte {
	before := replyInt(c.do("LLEN", c.key()))
	reply := c.verbatim()
	if !isError(reply) && replyInt(c.do("LLEN", c.key())) != before {
		c.propagate(c.args...)
	}
	return reply
}

// where finds the word that follows the numkeys keys of LMPOP and ZMPOP.
func (c *call) where() string {
	n, ok := parseInt(c.args[1])
	if !ok || n < 1 || n > int64(len(c.args)-3) {
		return ""
	}
	return strings.ToUpper(c.args[2+n])
}

func (c *call) lmpop() []byte {
	reply := c.verbatim()
	if popped := replyStrings(reply); len(popped) > 1 {
		c.propagate(c.where()[:1]+"POP", popped[0], strconv.Itoa(len(popped)-1))
	}
	return reply
}

// ---- sets ----

// smove to the set itself reports 1 and changes nothing.
func (c *call) smove() []byte {
	if c.args[1] == c.args[2] {
		return c.verbatim()
	}
	return c.ifPositive()
}

// spop: the members were drawn by lot, so the replicas are told which.
func (c *call) spop() []byte {
	if len(c.args) > 3 {
		return errorReply(msgSyntax)
	}
	if len(c.args) == 3 && strings.HasPrefix(c.args[2], "-") {
		return errorReply("ERR value is out of range, must be positive")
	}
	reply := c.verbatim()
	if members := replyStrings(reply); !isError(reply) && len(members) > 0 {
		c.propagate(append([]string{"SREM", c.key()}, members...)...)
	}
	return reply
}

// setstore is SDIFFSTORE, SINTERSTORE and SUNIONSTORE.
func (c *call) setstore() []byte {
	reply, before := c.into(1)
	switch {
	case isError(reply):
	case replyInt(reply) > 0:
		c.propagate(c.args...)
	default:
		c.drop(c.key(), before)
	}
	return reply
}

// ---- sorted sets ----

// scores copies the sorted set as it is now.
func (c *call) scores() map[string]float64 {
	set, _ := c.e.db(c.db).SortedSet(c.key())
	return maps.Clone(set)
}

// zadd is ZADD and ZINCRBY. Whatever conditions and increments there were: the replicas get the
// scores that came out.
func (c *call) zadd() []byte {
	scores := c.args[2:]
	incr := strings.EqualFold(c.args[0], "ZINCRBY")
	if !incr {
	options:
		for len(scores) > 0 {
			switch strings.ToUpper(scores[0]) {
			case "INCR":
				incr = true
			case "NX", "XX", "GT", "LT", "CH":
			default:
				break options
			}
			scores = scores[1:]
		}
	}
	if len(scores) == 0 || len(scores)%2 != 0 {
		return errorReply(msgSyntax)
	}
	before := c.scores()
	for pair := range slices.Chunk(scores, 2) {
		f, ok := parseScore(pair[0])
		if !ok {
			return errorReply(msgNotFloat)
		}
		if incr && math.IsNaN(before[pair[1]]+f) {
			return errorReply("ERR resulting score is not a number (NaN)")
		}
	}
	reply := c.verbatim()
	c.zchanged(before, scores, 2)
	return reply
}

// geoadd: a position is a score. Redis, too, propagates it as ZADD.
func (c *call) geoadd() []byte {
	rest := c.args[2:]
	for len(rest) > 0 && slices.Contains([]string{"NX", "XX", "CH"}, strings.ToUpper(rest[0])) {
		rest = rest[1:]
	}
	if len(rest) == 0 || len(rest)%3 != 0 {
		return errorReply(msgSyntax)
	}
	before := c.scores()
	reply := c.verbatim()
	c.zchanged(before, rest, 3)
	return reply
}

// zchanged propagates the scores that differ from before. Every step-th string of list is a member.
func (c *call) zchanged(before map[string]float64, list []string, step int) {
	after := c.scores()
	args := []string{"ZADD", c.key()}
	for i := step - 1; i < len(list); i += step {
		member := list[i]
		now, ok := after[member]
		if was, had := before[member]; ok && (!had || was != now) {
			args = append(args, formatScore(now), member)
			before = with(before, member, now) // a member named twice is told once
		}
	}
	if len(args) > 2 {
		c.propagate(args...)
	}
}

func with(m map[string]float64, key string, value float64) map[string]float64 {
	if m == nil {
		m = map[string]float64{}
	}
	m[key] = value
	return m
}

// zshrink is every command that takes members out by their place: the replicas are told which.
func (c *call) zshrink() []byte {
	before := c.scores()
	reply := c.verbatim()
	c.zgone(c.key(), before)
	return reply
}

func (c *call) zgone(key string, before map[string]float64) {
	after, _ := c.e.db(c.db).SortedSet(key)
	args := []string{"ZREM", key}
	for _, member := range slices.Sorted(maps.Keys(before)) {
		if _, ok := after[member]; !ok {
			args = append(args, member)
		}
	}
	if len(args) > 2 {
		c.propagate(args...)
	}
}

func (c *call) zmpop() []byte {
	reply := c.verbatim()
	v, _ := parseReply(reply)
	if popped, ok := v.([]any); ok && len(popped) == 2 {
		args := []string{"ZREM", popped[0].(string)}
		pairs, _ := popped[1].([]any)
		for _, pair := range pairs {
			args = append(args, pair.([]any)[0].(string))
		}
		c.propagate(args...)
	}
	return reply
}

// zstore is ZUNIONSTORE and ZINTERSTORE. Sums of floats depend on the order of adding, so the replicas get
// the set that came out.
func (c *call) zstore() []byte {
	dst := c.key()
	reply, before := c.into(1)
	switch {
	case isError(reply):
	case replyInt(reply) == 0:
		c.drop(dst, before)
	default:
		if before {
			c.propagate("DEL", dst)
		}
		scores := c.scores()
		for member, score := range scores {
			if math.IsNaN(score) { // inf - inf; Redis stores 0 (t_zset.c, zunionInterAggregate)
				c.do("ZADD", dst, "0", member)
				scores[member] = 0
			}
		}
		for members := range slices.Chunk(slices.Sorted(maps.Keys(scores)), itemsPerCommand) {
			args := []string{"ZADD", dst}
			for _, member := range members {
				args = append(args, formatScore(scores[member]), member)
			}
			c.propagate(args...)
		}
	}
	return reply
}

// itemsPerCommand bounds a command that rebuilds a value, as AOF_REWRITE_ITEMS_PER_CMD does.
const itemsPerCommand = 64

// ---- hashes ----

func (c *call) hset() []byte {
	if len(c.args)%2 != 0 {
		return wrongArity(c.args[0])
	}
	return c.ifOK()
}

func (c *call) hincrby() []byte {
	old := c.do("HGET", c.key(), c.args[2])
	if s := replyStrings(old); !isError(old) && !isNil(old) {
		n, ok := parseInt(s[0])
		by, _ := parseInt(c.args[3])
		switch {
		case !ok:
			return errorReply("ERR hash value is not an integer")
		case by > 0 && n > math.MaxInt64-by || by < 0 && n < math.MinInt64-by:
			return errorReply("ERR increment or decrement would overflow")
		}
	}
	return c.ifOK()
}

func (c *call) hincrbyfloat() []byte {
	if f, ok := parseScore(c.args[3]); !ok {
		return errorReply(msgNotFloat)
	} else if math.IsInf(f, 0) {
		return errorReply("ERR value is NaN or Infinity")
	}
	reply := c.verbatim()
	if !isError(reply) {
		c.propagate("HSET", c.key(), c.args[2], c.e.db(c.db).HGet(c.key(), c.args[2]))
	}
	return reply
}

// publish: receivers are counted here, of which there are none; replicas may have some.
func (c *call) publish() []byte {
	c.propagate(c.args...)
	return intReply(0)
}
