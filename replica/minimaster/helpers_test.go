package minimaster

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// patience bounds every wait of these tests. It is only ever used up when one fails.
const patience = time.Minute

// eventually polls until cond holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not so: %s", what)
		}
	}
}

func startMaster(t *testing.T, cfg Config) *Master {
	t.Helper()
	m, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func newEngine(t testing.TB) *Engine {
	t.Helper()
	e, err := NewEngine()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

type doer interface {
	Do(args ...string) (any, error)
}

func mustDo(t testing.TB, d doer, args ...string) any {
	t.Helper()
	v, err := d.Do(args...)
	if err != nil {
		t.Fatalf("%.200q: %v", args, err)
	}
	return v
}

func mustRefuse(t testing.TB, d doer, text string, args ...string) {
	t.Helper()
	v, err := d.Do(args...)
	var e Error
	if !errors.As(err, &e) || !strings.Contains(err.Error(), text) {
		t.Errorf("%.200q: %v, %v; want an error with %q", args, v, err, text)
	}
}

// everyWrite executes every write the master knows, with keys that begin with prefix, so that something of each is
// left, and makes values large enough for Redis to encode them in its other ways.
func everyWrite(t testing.TB, c *Client, prefix string) {
	t.Helper()
	smallWrites(t, c, prefix)
	largeWrites(t, c, prefix)
}

func smallWrites(t testing.TB, c *Client, prefix string) {
	t.Helper()
	future := fmt.Sprint(time.Now().Add(time.Hour).UnixMilli())
	for line := range strings.Lines(strings.ReplaceAll(writeScript, "FUTURE", future)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		args := strings.Fields(line)
		for i, a := range args {
			if k, ok := strings.CutPrefix(a, "@"); ok {
				args[i] = prefix + k
			} else if a == `""` {
				args[i] = ""
			}
		}
		mustDo(t, c, args...)
	}
}

func largeWrites(t testing.TB, c *Client, prefix string) {
	t.Helper()
	long := strings.Repeat("a long value\x00\xff\r\n", 5000)
	mustDo(t, c, "SET", prefix+"binary\x00\r\n\xff", long)
	mustDo(t, c, "HSET", prefix+"long hash", long, long)
	mustDo(t, c, "XADD", prefix+"long stream", "*", "field", long, long[:70], "x")
	for i := range 300 {
		n := fmt.Sprint(i)
		mustDo(t, c, "RPUSH", prefix+"long list", n, "x"+n)
		mustDo(t, c, "SADD", prefix+"long set", n, "x"+n)
		mustDo(t, c, "SADD", prefix+"int set", n, "-"+n+"00000000")
		mustDo(t, c, "ZADD", prefix+"long zset", n+".25", "m"+n)
		mustDo(t, c, "XADD", prefix+"many", "*", "n", n, "s", "x"+n)
		if i%7 == 0 {
			mustDo(t, c, "XADD", prefix+"many", "*", "other", n)
		}
	}
}

// In the script @k is a key (or a member) with the prefix, "" the empty string, FUTURE an hour from now in Unix ms.
const writeScript = `
SELECT 0
SET @s value
SET @s2 12345 EX 1000
SET @s3 x PX 1000000
SET @s4 x PXAT FUTURE
SET @s4 y KEEPTTL
SET @s5 1 NX
SET @s5 2 NX
SET @s5 3 XX GET
SET @s6 x XX
SETEX @s7 1000 x
PSETEX @s8 1000000 x
SETNX @s9 x
SETNX @s9 y
MSET @m1 a @m2 b @m3 ""
MSETNX @m3 a @m4 b
MSETNX @m5 a @m6 b
GETSET @s new
GETSET @s2 new
GETDEL @m1
GETDEL @nothing
GETEX @m2 EX 1000
GETEX @m2 PERSIST
GETEX @m5 PXAT FUTURE
GETEX @m6
APPEND @s more
APPEND @app ""
APPEND @app x
SETRANGE @s 10 zzz
SETRANGE @fresh 3 abc
SETRANGE @fresh2 3 ""
SETBIT @bits 7 1
SETBIT @bits 100 1
SETBIT @bits 7 0
INCR @n
INCRBY @n 41
DECR @n
DECRBY @n 100
INCRBYFLOAT @f 0.1
INCRBYFLOAT @f 3.0e3
INCRBYFLOAT @n -0.5
SET @b1 foobar
SET @b2 abcde
BITOP AND @band @b1 @b2
BITOP OR @bor @b1 @b2
BITOP XOR @bxor @b1 @b2
BITOP NOT @bnot @b1
BITOP AND @band @nothing @nothing2

SET @d1 x
SET @d2 x
SET @d3 x
DEL @d1 @nothing
UNLINK @d2
DEL @nothing
EXPIRE @d3 1000
EXPIRE @d3 2000 GT
EXPIRE @d3 1000 GT
EXPIRE @d3 100 LT
EXPIRE @d3 500 NX
PEXPIRE @d3 5000000 XX
EXPIREAT @d3 4000000000
PEXPIREAT @d3 4000000000123
EXPIRE @s9 0
EXPIRE @nothing 10
SET @p x EX 100
PERSIST @p
PERSIST @p
SET @r x EX 1000
RENAME @r @r2
RENAME @r2 @r2
SET @r x
RENAMENX @r @r2
RENAMENX @r @r3
SET @mv x EX 1000
MOVE @mv 2
SET @cp x EX 1000
COPY @cp @cp2
COPY @cp @cp2
COPY @cp @cp2 DB 3
COPY @bits @cp2 REPLACE

RPUSH @l a b c d e
LPUSH @l z
LPUSHX @l y
RPUSHX @l f
LPUSHX @nothing x
LINSERT @l BEFORE c b2
LINSERT @l AFTER nope b2
LSET @l 0 first
LREM @l 1 b2
LREM @l 0 nope
LTRIM @l 0 5
LTRIM @l 0 100
LPOP @l
RPOP @l
LPOP @nothing
RPUSH @l2 1 2 3 4 5
LPOP @l2 2
RPOP @l2 0
RPOPLPUSH @l2 @l
RPOPLPUSH @l @l
LMOVE @l2 @l LEFT RIGHT
LMOVE @nothing @l LEFT RIGHT
LMPOP 2 @nothing @l LEFT COUNT 2
LMPOP 1 @l RIGHT
RPUSH @gone x
LPOP @gone
RPUSH @gone2 x y
LTRIM @gone2 5 6
COPY @l @l3

SADD @set a b c d e f g
SADD @set a
SREM @set a nope
SPOP @set
SPOP @set 2
SPOP @set 0
SPOP @nothing
SADD @set2 d e f g h i
SMOVE @set2 @set i
SMOVE @set2 @set nope
SMOVE @set2 @set2 h
SDIFFSTORE @sdiff @set2 @set
SINTERSTORE @sinter @set2 @set
SUNIONSTORE @sunion @set2 @set
SUNIONSTORE @sunion @nothing @nothing2
SADD @popall x
SPOP @popall
SADD @remall x
SREM @remall x

ZADD @z 1 a 2 b 3 c 4 d 5 e
ZADD @z NX 9 a 6 f
ZADD @z XX CH 1.5 a 7 nope
ZADD @z GT 1 b 30 c
ZADD @z INCR 0.1 a
ZADD @z 1 a
ZADD @z 1 a
ZADD @z inf top -inf bottom 1e-300 tiny
ZINCRBY @z 2.5 b
ZINCRBY @zfresh 0.1 x
ZINCRBY @zfresh 0.2 x
ZREM @z d nope
ZREMRANGEBYRANK @z 0 0
ZREMRANGEBYSCORE @z 6 6
ZADD @zlex 0 a 0 b 0 c 0 d
ZREMRANGEBYLEX @zlex [a (c
ZPOPMIN @z
ZPOPMAX @z
ZADD @z2 1 a 2 b 0.1 c 0.2 x 7 y 8 w
ZPOPMAX @z2 2
ZPOPMIN @nothing
ZMPOP 2 @nothing @z2 MIN COUNT 1
ZUNIONSTORE @zunion 3 @z @z2 @zfresh WEIGHTS 0.1 0.7 3
ZINTERSTORE @zinter 2 @z2 @zfresh AGGREGATE MAX
ZUNIONSTORE @zunion 2 @z @z2
ZINTERSTORE @zinter 2 @z @nothing
GEOADD @geo 13.361389 38.115556 Palermo 15.087269 37.502669 Catania
ZADD @zgone 1 a
ZPOPMIN @zgone

HSET @h a 1 b 2 c three
HSET @h a 10
HMSET @h d 4 e 5
HSETNX @h a 7
HSETNX @h f 6
HDEL @h b nope
HINCRBY @h a 5
HINCRBY @h new -3
HINCRBYFLOAT @h a 0.1
HINCRBYFLOAT @h fl 1e2
HSET @hgone a 1
HDEL @hgone a

XADD @x 1-1 a 1 b 2
XADD @x 1-* a 3 b 4
XADD @x 5 c 5
XADD @x * a 6 b 7
XADD @x NOMKSTREAM * a 8
XADD @nothing NOMKSTREAM * a 8
XADD @x MAXLEN ~ 4 * a 9
XADD @x MAXLEN 4 * a 10
XADD @x MINID 5 * a 11
XDEL @x 5
XDEL @x 99-99
XADD @x2 1 a 1
XADD @x2 2 a 1
XADD @x2 3 a 1
XTRIM @x2 MAXLEN = 2
XTRIM @x2 MINID ~ 3
XTRIM @x2 MAXLEN 100
RENAME @x2 @x3
EXPIRE @x3 1000

PUBLISH channel message
SELECT 5
SET @in5 x
MULTI
SET @tx1 a
INCR @tx2
SELECT 6
SADD @tx3 a b c
SPOP @tx3
GET @tx1
SELECT 5
SET @tx4 x EX 100
EXEC
MULTI
SET @never x
DISCARD
MULTI
SET @single x
EXEC
MULTI
GET @single
EXEC
SELECT 7
SET @s7 x EX 1000
SWAPDB 7 8
SELECT 9
SET @flushed x
FLUSHDB
FLUSHDB ASYNC
SELECT 0
`
