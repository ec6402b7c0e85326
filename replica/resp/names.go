package resp

// Known says whether a command is one that a Redis or Valkey server without
// modules and renamed commands sends to its replicas, or one of earlier and
// later versions does; in any letter case. Those up to 7.0 are COMMAND LIST
// FILTERBY ACLCAT write of 7.0.15.
func Known(name []byte) bool {
	var lower [24]byte
	if len(name) > len(lower) {
		return false
	}
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	switch string(lower[:len(name)]) {
	case "append", "bitfield", "bitop", "blmove", "blmpop", "blpop", "brpop", "brpoplpush", "bzmpop", "bzpopmax", "bzpopmin",
		"copy", "decr", "decrby", "del", "expire", "expireat", "flushall", "flushdb", "function", "geoadd", "georadius",
		"georadiusbymember", "geosearchstore", "getdel", "getex", "getset", "hdel", "hincrby", "hincrbyfloat", "hmset", "hset",
		"hsetnx", "incr", "incrby", "incrbyfloat", "linsert", "lmove", "lmpop", "lpop", "lpush", "lpushx", "lrem", "lset", "ltrim",
		"migrate", "move", "mset", "msetnx", "persist", "pexpire", "pexpireat", "pfadd", "pfcount", "pfdebug", "pfmerge", "psetex",
		"rename", "renamenx", "restore", "restore-asking", "rpop", "rpoplpush", "rpush", "rpushx", "sadd", "sdiffstore", "set",
		"setbit", "setex", "setnx", "setrange", "sinterstore", "smove", "sort", "spop", "srem", "sunionstore", "swapdb", "unlink",
		"xack", "xadd", "xautoclaim", "xclaim", "xdel", "xgroup", "xreadgroup", "xsetid", "xtrim", "zadd", "zdiffstore", "zincrby",
		"zinterstore", "zmpop", "zpopmax", "zpopmin", "zrangestore", "zrem", "zremrangebylex", "zremrangebyrank",
		"zremrangebyscore", "zunionstore", // 7.0
		"hexpire", "hexpireat", "hpersist", "hpexpire", "hpexpireat", // 7.4
		"hgetdel", "hgetex", "hsetex", "sflush", "trimslots", "vadd", "vrem", "vsetattr", // 8.0
		"delex", "delifeq", "msetex", "xackdel", "xdelex", // later ones, and Valkey's
		"cluster", "discard", "eval", "evalsha", "exec", "fcall", "multi", "ping", "publish", "replconf", "script", "select", "spublish": // no writes
		return true
	}
	return false
}
