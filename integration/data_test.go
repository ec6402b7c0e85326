package integration

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"replicad/integration/poll"
	"replicad/integration/redistest"
)

// commands are commands with their arguments.
type commands [][]any

func (c *commands) add(args ...any) { *c = append(*c, args) }

// allBytes is every byte, CRLF and the like among them.
func allBytes() string {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return string(b) + "\r\n*3\r\n$3\r\nSET\r\n"
}

// noise is n bytes that do not compress.
func noise(n int, seed uint64) string {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	b := make([]byte, n)
	_, _ = r.Read(b)
	return string(b)
}

const library = `#!lua name=lib
redis.register_function('put', function(keys, args)
  redis.call('SET', keys[1], args[1])
  redis.call('RPUSH', keys[1] .. ':log', args[1], args[2])
  return redis.call('INCR', keys[1] .. ':n')
end)`

// everyType writes data of every type and encoding into a database.
func everyType(s *redistest.Server, db int) {
	var c commands
	c.add("SET", "s:plain", "value")
	c.add("SET", "s:empty", "")
	c.add("SET", "s:int", 12345)
	c.add("SET", "s:negative", -9223372036854775000)
	c.add("SET", "s:binary", allBytes())
	c.add("SET", allBytes(), "binary key")
	c.add("SET", "s:compressible", strings.Repeat("replicad ", 4000))
	c.add("SET", "s:noise", noise(100_000, 1))
	c.add("INCRBYFLOAT", "s:float", "3.25")
	c.add("SETBIT", "bitmap", 1_000_003, 1)
	c.add("BITFIELD", "bitfield", "SET", "u8", 0, 200, "SET", "i16", 100, -300)
	c.add("GEOADD", "geo", 13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania")
	for i := range 10 {
		c.add("PFADD", "hll:sparse", i)
		c.add("RPUSH", "list:small", i, fmt.Sprint("e", i))
		c.add("HSET", "hash:small", fmt.Sprint("f", i), i)
		c.add("ZADD", "zset:small", float64(i)+0.5, fmt.Sprint("m", i))
		c.add("SADD", "set:small", fmt.Sprint("m", i))
	}
	c.add("ZADD", "zset:small", "-inf", "low", "+inf", "high")
	for i := 0; i < 3000; i += 100 {
		hll, list, ints, manyInts := []any{"PFADD", "hll:dense"}, []any{"RPUSH", "list:large"}, []any{"SADD", "set:int"}, []any{"SADD", "set:int:large"}
		set, hash, zset := []any{"SADD", "set:large"}, []any{"HSET", "hash:large"}, []any{"ZADD", "zset:large"}
		for j := i; j < i+100; j++ {
			hll = append(hll, fmt.Sprint("x", j))
			list = append(list, fmt.Sprint("element ", j))
			ints = append(ints, j%400-200)
			manyInts = append(manyInts, j*1_000_003)
			set = append(set, fmt.Sprint("member ", j))
			hash = append(hash, fmt.Sprint("field ", j), noise(20, uint64(j)))
			zset = append(zset, float64(j)/7, fmt.Sprint("member ", j))
		}
		c = append(c, hll, list, ints, manyInts, set, hash, zset)
	}
	c.add("RPUSH", "list:large", noise(20_000, 2), "", allBytes())
	c.add("HSET", "hash:large", "big", noise(20_000, 3), allBytes(), "")
	for i := range 300 {
		c.add("XADD", "stream", fmt.Sprintf("%d-%d", 1000+i/10, i%10+1), "field", i, "other", noise(10, uint64(i)))
	}
	c.add("XDEL", "stream", "1003-4", "1029-10")
	c.add("XGROUP", "CREATE", "stream", "group", "0")
	c.add("XGROUP", "CREATE", "stream", "late", "$")
	c.add("XGROUP", "CREATE", "stream:empty", "group", "$", "MKSTREAM")
	c.add("XGROUP", "CREATECONSUMER", "stream", "group", "idle")
	c.add("XREADGROUP", "GROUP", "group", "one", "COUNT", 20, "STREAMS", "stream", ">")
	c.add("XREADGROUP", "GROUP", "group", "two", "COUNT", 5, "STREAMS", "stream", ">")
	c.add("XACK", "stream", "group", "1000-1", "1001-2")
	for _, key := range []string{"s:int", "list:small", "hash:small", "zset:small", "set:int", "stream:empty"} {
		c.add("COPY", key, "e:"+key)
		c.add("PEXPIRE", "e:"+key, 100_000_000+db)
	}
	s.Pipe(db, c...)
}

// everyWrite sends writes of every kind, which work on what everyType wrote
// into databases 0 and 1. When it returns, what was to expire is gone.
func everyWrite(t *testing.T, s *redistest.Server) {
	t.Helper()
	ctx := context.Background()
	var c commands

	// Strings.
	c.add("APPEND", "s:plain", " and more")
	c.add("SETRANGE", "s:plain", 20, "padded")
	c.add("GETSET", "s:int", 7)
	c.add("INCRBY", "s:int", 35)
	c.add("DECR", "s:negative")
	c.add("INCRBYFLOAT", "s:float", "-0.125")
	c.add("MSET", "m:1", 1, "m:2", 2, "m:3", 3)
	c.add("MSETNX", "m:4", 4, "m:5", 5)
	c.add("SETNX", "m:1", "no")
	c.add("GETDEL", "m:2")
	c.add("GETEX", "m:3", "EX", 100_000)
	c.add("SETEX", "m:6", 100_000, "x")
	c.add("PERSIST", "m:6")
	c.add("BITOP", "XOR", "bitmap:2", "bitmap", "s:noise")
	c.add("BITFIELD", "bitfield", "INCRBY", "u8", 0, 100, "OVERFLOW", "SAT", "INCRBY", "i16", 100, 30000)
	c.add("SET", "big", noise(5<<20, 4))
	c.add("APPEND", "big", noise(5<<20, 5))
	c.add("SET", "s:binary", allBytes()+allBytes(), "KEEPTTL")

	// Lists.
	c.add("LPUSH", "list:small", "head")
	c.add("LINSERT", "list:small", "BEFORE", "e3", "inserted")
	c.add("LREM", "list:small", 1, "e4")
	c.add("LSET", "list:small", 0, allBytes())
	c.add("LTRIM", "list:large", 10, -10)
	c.add("LMOVE", "list:large", "list:small", "LEFT", "RIGHT")
	c.add("RPOPLPUSH", "list:large", "list:new")
	c.add("LMPOP", 2, "nothing", "list:large", "RIGHT", "COUNT", 5)
	c.add("RPOP", "list:small", 2)
	c.add("BLPOP", "list:large", 1)
	c.add("BLMOVE", "list:large", "list:new", "RIGHT", "LEFT", 1)

	// Sets, whose random members arrive as what they were.
	c.add("SPOP", "set:large")
	c.add("SPOP", "set:large", 1500)
	c.add("SPOP", "set:int", 50)
	c.add("SPOP", "set:small", 100)
	c.add("SMOVE", "set:int", "set:large", "7")
	c.add("SADD", "set:int", "no integer")
	c.add("SREM", "set:int:large", 0)
	c.add("SINTERSTORE", "set:i", "set:int", "set:int:large")
	c.add("SUNIONSTORE", "set:u", "set:int", "set:large")
	c.add("SDIFFSTORE", "set:d", "set:large", "set:int")

	// Hashes.
	c.add("HDEL", "hash:large", "field 1", "field 2", "big")
	c.add("HINCRBY", "hash:small", "f1", 100)
	c.add("HINCRBYFLOAT", "hash:small", "f2", "0.5")
	c.add("HSETNX", "hash:small", "new", 1)
	c.add("HSET", "hash:small", "outgrows the listpack", noise(1000, 6))

	// Sorted sets.
	c.add("ZINCRBY", "zset:small", 2.5, "m1")
	c.add("ZADD", "zset:large", "GT", "CH", 1e6, "member 5")
	c.add("ZPOPMIN", "zset:large", 10)
	c.add("ZPOPMAX", "zset:small")
	c.add("BZPOPMIN", "zset:large", 1)
	c.add("ZMPOP", 1, "zset:large", "MAX", "COUNT", 3)
	c.add("ZREMRANGEBYRANK", "zset:large", 0, 99)
	c.add("ZREMRANGEBYSCORE", "zset:large", 20, 30)
	c.add("ZUNIONSTORE", "zset:u", 2, "zset:small", "zset:large", "WEIGHTS", 2, 0.1, "AGGREGATE", "MAX")
	c.add("ZRANGESTORE", "zset:r", "zset:large", 0, 9)
	c.add("ZDIFFSTORE", "zset:d", 2, "zset:large", "zset:r")
	c.add("GEOADD", "geo", "XX", 13.4, 38.2, "Palermo")
	c.add("GEOSEARCHSTORE", "geo:near", "geo", "FROMLONLAT", 15, 37, "BYRADIUS", 200, "km", "STOREDIST")

	// HyperLogLog: also a PFCOUNT writes.
	c.add("PFADD", "hll:sparse", "another")
	c.add("PFMERGE", "hll:both", "hll:sparse", "hll:dense")
	c.add("PFCOUNT", "hll:both")

	// Streams; ids and times are the master's.
	c.add("XADD", "stream", "*", "auto", "id")
	c.add("XADD", "stream", "NOMKSTREAM", "MAXLEN", "~", 250, "*", "k", allBytes())
	c.add("XTRIM", "stream", "MAXLEN", 200)
	c.add("XTRIM", "stream", "MINID", "1015-0")
	c.add("XDEL", "stream", "1020-3")
	c.add("XGROUP", "SETID", "stream", "late", "1020-1")
	c.add("XREADGROUP", "GROUP", "group", "three", "COUNT", 7, "STREAMS", "stream", ">")
	c.add("XREADGROUP", "GROUP", "late", "x", "NOACK", "COUNT", 2, "STREAMS", "stream", ">")
	c.add("XCLAIM", "stream", "group", "four", 0, "1002-5", "1002-6", "1015-1")
	c.add("XAUTOCLAIM", "stream", "group", "five", 0, "0", "COUNT", 3)
	c.add("XGROUP", "DELCONSUMER", "stream", "group", "two")
	c.add("XGROUP", "DESTROY", "stream:empty", "group")
	c.add("XSETID", "stream:empty", "5-5")

	// The keyspace.
	c.add("SORT", "list:new", "ALPHA", "DESC", "STORE", "sorted")
	c.add("SORT", "set:i", "BY", "nosort", "STORE", "sorted:i")
	c.add("COPY", "hash:large", "hash:copy")
	c.add("COPY", "stream", "stream:copy", "DB", 3)
	c.add("COPY", "zset:small", "zset:r", "REPLACE")
	c.add("RENAME", "set:u", allBytes()+"2")
	c.add("RENAMENX", "set:d", "set:renamed")
	c.add("MOVE", "geo:near", 4)
	c.add("EXPIRE", "set:renamed", 100_000, "NX")
	c.add("EXPIREAT", "hash:copy", 99_999_999_999)
	c.add("PEXPIREAT", "zset:d", 99_999_999_999_999)
	c.add("EXPIRE", "bitmap:2", -1)
	c.add("UNLINK", "list:large", "missing")
	c.add("DEL", "set:i")
	c.add("PUBLISH", "channel", "a message")
	c.add("SPUBLISH", "channel", "a message")

	// Scripts and functions: their effects arrive in MULTI.
	c.add("EVAL", `redis.call('SET', KEYS[1], ARGV[1]); redis.call('SPOP', KEYS[2]); redis.call('ZADD', KEYS[3], tonumber(redis.call('TIME')[1]), 'now'); return 1`,
		3, "lua:s", "set:large", "lua:z", allBytes())
	c.add("EVAL", `for i = 1, 100 do redis.call('RPUSH', KEYS[1], i .. ARGV[1]) end`, 1, "lua:list", noise(2000, 7))
	c.add("EVAL", `redis.call('SELECT', 6); redis.call('SET', 'from lua', 'in 6'); redis.call('SELECT', 0); redis.call('SET', 'back', 'in 0')`, 0)
	c.add("FUNCTION", "LOAD", "REPLACE", library)
	c.add("FCALL", "put", 1, "f", "one", "two")
	s.Pipe(0, c...)

	// A dump carries its own checksum and version.
	for _, key := range []string{"zset:large", "stream", "hash:large", "s:plain"} {
		dump := s.Do("DUMP", key)
		s.Do("RESTORE", "restored:"+key, 0, dump)
		s.DoIn(1, "RESTORE", "restored:"+key, 500_000_000, dump, "REPLACE", "FREQ", 3)
	}

	// Transactions, one of them across databases.
	_, err := s.Client(0).TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.Set(ctx, "tx:1", allBytes(), 0)
		p.Do(ctx, "SELECT", 2)
		p.Set(ctx, "tx:2", "in database 2", 0)
		p.Do(ctx, "SELECT", 0)
		p.SPop(ctx, "set:large")
		p.Incr(ctx, "tx:n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Do("SCRIPT", "FLUSH")

	// A client that waits is served by another's push.
	served := make(chan error, 1)
	go func() {
		c := s.NewClient(1)
		defer c.Close()
		_, err := c.Do(ctx, "BLMOVE", "waited for", "served", "LEFT", "RIGHT", 30).Result()
		served <- err
	}()
	poll.Seen(t, "a blocked client", func() (bool, string) {
		n := s.Info("clients")["blocked_clients"]
		return n == "1", n
	})
	s.DoIn(1, "RPUSH", "waited for", "first", "second")
	if err := <-served; err != nil {
		t.Fatal(err)
	}

	// Whole databases.
	s.Pipe(7, []any{"SET", "seven", 7}, []any{"SADD", "set", 1, 2, 3})
	s.Pipe(8, []any{"SET", "eight", 8})
	s.Do("SWAPDB", 7, 8)
	s.Pipe(8, []any{"SET", "after the swap", "in 8"})
	s.Pipe(9, []any{"SET", "gone", 1}, []any{"FLUSHDB"}, []any{"SET", "new", 1})
	s.Pipe(10, []any{"SET", "gone", 1}, []any{"FLUSHDB", "ASYNC"})

	// Keys that expire: the master sends DEL when they do.
	c = nil
	for i := range 50 {
		c.add("SET", fmt.Sprint("short:", i), i, "PX", 20+i)
		c.add("HSET", fmt.Sprint("short:h:", i), "f", i)
		c.add("PEXPIRE", fmt.Sprint("short:h:", i), 20+i)
	}
	s.Pipe(11, append(c, []any{"SET", "stays", 1})...)
	poll.Seen(t, "50 keys to expire", func() (bool, string) {
		n := s.DoIn(11, "DBSIZE")
		return n == int64(1), fmt.Sprint(n)
	})
	s.Do("SET", "last", "write")
}

// load writes to a master until it is stopped: small and large values, short
// transactions, several databases.
type load struct {
	quit     chan struct{}
	done     sync.WaitGroup
	err      error
	commands atomic.Int64
}

// startLoad starts a load that writes about bytesPerSecond; a server that is
// restarted meanwhile is waited for.
func startLoad(t *testing.T, s *redistest.Server, bytesPerSecond int) *load {
	t.Helper()
	l := &load{quit: make(chan struct{})}
	clients := []*redis.Client{s.NewClient(0), s.NewClient(3)}
	l.done.Go(func() {
		r := rand.New(rand.NewPCG(1, 2))
		value := noise(300_000, 9)
		began, sent := time.Now(), 0
		for n := 0; l.err == nil; n++ {
			select {
			case <-l.quit:
				return
			default:
			}
			c := clients[r.IntN(len(clients))]
			p := c.Pipeline()
			if n%3 == 0 {
				p = c.TxPipeline()
			}
			for range 20 {
				size := r.IntN(200)
				if r.IntN(200) == 0 {
					size = r.IntN(len(value))
				}
				sent += size + 60
				ctx, key, v := context.Background(), fmt.Sprint("load:", r.IntN(2000)), value[:size]
				switch r.IntN(6) {
				case 0:
					p.Incr(ctx, key+":n")
				case 1:
					p.Do(ctx, "SADD", key+":set", r.IntN(1000), v)
				case 2:
					p.Do(ctx, "SPOP", key+":set", 3)
				case 3:
					p.Do(ctx, "XADD", key+":stream", "MAXLEN", "~", 50, "*", "v", v)
				default:
					p.Set(ctx, key, v, 0)
				}
			}
			if _, err := p.Exec(context.Background()); err != nil && err != redis.Nil {
				l.err = err
				return
			}
			l.commands.Add(20)
			if ahead := time.Duration(float64(sent)/float64(bytesPerSecond)*float64(time.Second)) - time.Since(began); ahead > 0 {
				time.Sleep(ahead) // the pace of the load
			}
		}
	})
	t.Cleanup(func() {
		l.end()
		for _, c := range clients {
			c.Close()
		}
	})
	return l
}

// end stops the load, and returns how many commands it sent.
func (l *load) end() int64 {
	select {
	case <-l.quit:
	default:
		close(l.quit)
	}
	l.done.Wait()
	return l.commands.Load()
}

// stop ends the load, which must have gone well.
func (l *load) stop(t *testing.T) {
	t.Helper()
	n := l.end()
	if l.err != nil {
		t.Fatalf("the load broke: %v", l.err)
	}
	if n == 0 {
		t.Fatal("the load wrote nothing")
	}
	t.Logf("load: %d commands", n)
}
