package minimaster

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestACommandWhoseEffectCannotBeToldIsRefusedByName(t *testing.T) {
	m := startMaster(t, Config{})
	mustDo(t, m, "XADD", "x", "1-1", "a", "1")
	mustDo(t, m, "XADD", "x", "1-2", "a", "1")
	mustDo(t, m, "HSET", "h", "f", "v")
	for _, args := range [][]string{
		{"EVAL", "return redis.call('SET','k','v')", "0"}, {"PFADD", "k", "v"}, {"BLPOP", "k", "0"}, {"BZPOPMIN", "k", "0"},
		{"XGROUP", "CREATE", "x", "g", "$"}, {"XREADGROUP", "GROUP", "g", "c", "STREAMS", "x", ">"},
		{"HEXPIRE", "h", "10", "FIELDS", "1", "f"}, {"DUMP", "h"}, {"RESTORE", "k", "0", "x"}, {"DELEX", "h"},
		{"GEORADIUS", "g", "0", "0", "1", "km", "STORE", "k"}, {"SUBSCRIBE", "c"}, {"COPY", "x", "y"},
		{"XDEL", "x", "1-2"}, {"XTRIM", "x", "MAXLEN", "0"}, {"XADD", "x", "MAXLEN", "0", "*", "a", "1"},
		{"XTRIM", "x", "MINID", "2"}, {"XADD", "x", "MAXLEN", "~", "5", "LIMIT", "2", "*", "a", "1"},
		{"XREAD", "BLOCK", "0", "STREAMS", "x", "$"},
	} {
		mustRefuse(t, m, "ERR minimaster refuses "+args[0], args...)
	}
	mustRefuse(t, m, "ERR unknown command", "SORT", "k")
	if n := m.Dump().Keys(); n != 2 {
		t.Errorf("%d keys, want the two from before", n)
	}
}

// follower starts a master with a replica that has caught up, in database 0, on an empty dataset.
func follower(t *testing.T, cfg Config) (*Master, *raw) {
	t.Helper()
	m := startMaster(t, cfg)
	r := dialRaw(t, m)
	r.fullSync(m, "psync2")
	mustDo(t, m, "SET", "first", "write")
	r.wants(cmds("SELECT 0", "SET first write"))
	return m, r
}

func TestReplicasGetEffectsNotIntentions(t *testing.T) {
	m, r := follower(t, Config{})
	do := func(line string) any { return mustDo(t, m, strings.Fields(line)...) }
	// exactly: what is done and what the replicas get of it
	exactly := func(line string, want ...string) {
		t.Helper()
		do(line)
		r.wants(cmds(want...))
	}
	// expiry reads the absolute time out of a command that has the form want, with AT for it, and checks that it is
	// as far away as wanted.
	expiry := func(line, want string, ms int64) {
		t.Helper()
		before := time.Now().UnixMilli()
		do(line)
		after := time.Now().UnixMilli()
		at := m.Dump()[0]["k"].Expire
		if at < before+ms || at > after+ms {
			t.Errorf("%s: expires at %d, now is %d", line, at, after)
		}
		r.wants(cmds(strings.ReplaceAll(want, " AT", " "+strconv.FormatInt(at, 10))))
	}
	const hour = 3600 * 1000
	expiry("SET k v EX 3600", "SET k v PXAT AT", hour)
	expiry("SET k v PX 3600000 GET", "SET k v PXAT AT", hour)
	expiry("SETEX k 3600 v", "SET k v PXAT AT", hour)
	expiry("PSETEX k 3600000 v", "SET k v PXAT AT", hour)
	expiry("EXPIRE k 7200", "PEXPIREAT k AT", 2*hour)
	expiry("PEXPIRE k 3600000 LT", "PEXPIREAT k AT", hour)
	expiry("GETEX k EX 60", "PEXPIREAT k AT", 60000)
	exactly("EXPIREAT k 4000000000", "PEXPIREAT k 4000000000000")
	exactly("PEXPIREAT k 4000000000123", "PEXPIREAT k 4000000000123")
	exactly("SET k v EXAT 4000000000", "SET k v PXAT 4000000000000")
	exactly("SET k w KEEPTTL", "SET k w KEEPTTL")
	exactly("GETEX k PERSIST", "PERSIST k")
	exactly("EXPIRE k -1", "DEL k")
	exactly("SET k v", "SET k v")
	exactly("GETEX k PXAT 1", "DEL k")

	exactly("SET k 1 NX", "SET k 1")
	exactly("GETSET k 2", "SET k 2")
	exactly("INCRBYFLOAT k 0.5", "SET k 2.5 KEEPTTL")
	exactly("GETDEL k", "DEL k")
	exactly("HINCRBYFLOAT h f 0.5", "HSET h f 0.5")
	exactly("SADD s only", "SADD s only")
	exactly("SPOP s", "SREM s only")
	exactly("ZADD z 1 a 2 b", "ZADD z 1 a 2 b")
	exactly("ZADD z GT 0 a 3 b", "ZADD z 3 b")
	exactly("ZADD z INCR 0.5 a", "ZADD z 1.5 a")
	exactly("ZINCRBY z 1.5 a", "ZADD z 3 a")
	exactly("ZPOPMIN z", "ZREM z a")
	exactly("ZMPOP 1 z MAX", "ZREM z b")
	exactly("RPUSH l a b c", "RPUSH l a b c")
	exactly("LMPOP 2 nothing l RIGHT COUNT 2", "RPOP l 2")
	exactly("ZADD z 1 a 2 b", "ZADD z 1 a 2 b")
	exactly("ZUNIONSTORE u 1 z", "ZADD u 1 a 2 b")
	exactly("ZUNIONSTORE u 1 z WEIGHTS 2", "MULTI", "DEL u", "ZADD u 2 a 4 b", "EXEC")
	exactly("ZUNIONSTORE u 1 nothing", "DEL u")
	exactly("SET b x", "SET b x")
	exactly("BITOP NOT c b", "SET c \x87")
	exactly("BITOP AND c nothing nothing", "DEL c")

	id, _ := do("XADD x MAXLEN ~ 10 * f v").(string)
	if ms, _, _ := strings.Cut(id, "-"); len(ms) < 13 {
		t.Errorf("XADD * gave %q, not the time", id)
	}
	r.wants(cmds("XADD x MAXLEN = 10 " + id + " f v"))
	exactly("XADD x 99999999999999 f v", "XADD x 99999999999999-0 f v")
	exactly("XADD x 99999999999999-* f v", "XADD x 99999999999999-1 f v")
	exactly("PUBLISH c m", "PUBLISH c m")
	exactly("FLUSHALL ASYNC", "FLUSHALL ASYNC")
}

func TestAWriteThatChangesNothingIsNotPropagated(t *testing.T) {
	m, r := follower(t, Config{})
	for _, line := range []string{"SET s v", "SADD set a", "HSET h f v", "ZADD z 1 a", "RPUSH l a", "XADD x 1-1 a b"} {
		mustDo(t, m, strings.Fields(line)...)
	}
	before := m.Offset()
	for _, line := range []string{
		"SET s w NX", "SET nothing w XX", "SETNX s w", "MSETNX s a new b", "GETDEL nothing", "GETEX s", "GETEX s PERSIST",
		"DEL nothing", "UNLINK nothing", "EXPIRE nothing 10", "EXPIRE s 10 XX", "PERSIST s", "RENAME s s", "RENAMENX s l",
		"MOVE nothing 1", "COPY nothing t", "COPY s l", "LPUSHX nothing a", "LINSERT l BEFORE nothing a", "LREM l 0 nothing",
		"LTRIM l 0 10", "LPOP nothing", "RPOP l 0", "RPOPLPUSH nothing l", "LMOVE nothing l LEFT LEFT", "LMPOP 1 nothing LEFT",
		"SADD set a", "SREM set nothing", "SPOP nothing", "SPOP set 0", "SMOVE set set a", "SMOVE set t nothing",
		"SDIFFSTORE t nothing", "ZADD z 1 a", "ZADD z NX 2 a", "ZADD z XX 2 nothing", "ZREM z nothing", "ZPOPMIN nothing",
		"ZREMRANGEBYSCORE z 5 6", "ZINTERSTORE t 1 nothing", "HSETNX h f w", "HDEL h nothing", "XDEL x 0-1", "XTRIM x MAXLEN 5",
		"XADD nothing NOMKSTREAM * a b", "GET s", "TTL s", "BITOP AND t nothing nothing",
	} {
		mustDo(t, m, strings.Fields(line)...)
		if now := m.Offset(); now != before {
			t.Errorf("%s: %d bytes of stream", line, now-before)
			before = now
		}
	}
	mustDo(t, m, "SETRANGE", "nothing", "5", "")
	if m.Offset() != before {
		t.Error("SETRANGE with an empty string is propagated")
	}
	for _, line := range []string{
		"INCR s", "LPUSH s a", "SADD s a", "HSET s f v", "ZADD s 1 a", "XADD s * a b", "SET k v EX 0", "SET k v EX x", "SET k v NX XX",
		"SET k", "INCRBY n +5", "INCRBY n 05", "ZADD z nan a", "XADD x 1-1 a b", "XADD x 0-0 a b", "EXPIRE s 9223372036854775807",
		"SETRANGE s 999999999999 x", "SETBIT s 99999999999 1", "SELECT 16", "MOVE s 99", "SWAPDB 0 16", "HSET h a", "GETSET l x",
	} {
		if v, err := m.Do(strings.Fields(line)...); err == nil {
			t.Errorf("%s: %v, want an error", line, v)
		}
		if now := m.Offset(); now != before {
			t.Errorf("%s failed: %d bytes of stream", line, now-before)
			before = now
		}
	}
	mustDo(t, m, "SET", "end", "1")
	r.stream(m, int64(len(cmds("SELECT 0", "SET first write"))))
}

func TestATransactionIsPropagatedInOnePiece(t *testing.T) {
	m, r := follower(t, Config{})
	c := dialRaw(t, m)
	c.ask("+OK", "MULTI")
	c.ask("+QUEUED", "SET", "a", "1")
	c.ask("+QUEUED", "SELECT", "2")
	c.ask("+QUEUED", "INCR", "a")
	c.ask("+QUEUED", "GET", "a")
	mustDo(t, m, "SET", "between", "x")
	c.ask("*4", "EXEC")
	for _, want := range []string{"+OK", "+OK", ":1", "$1", "1"} {
		if got := c.line(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	r.wants(cmds("SET between x", "MULTI", "SET a 1", "SELECT 2", "INCR a", "EXEC"))

	// One effect alone is atomic as it is; none is nothing.
	for _, lines := range [][]string{{"MULTI", "SET b 1", "GET b", "EXEC"}, {"MULTI", "GET b", "EXEC"}, {"MULTI", "SET c 1", "DISCARD"}} {
		for _, l := range lines {
			mustDo(t, m, strings.Fields(l)...)
		}
	}
	mustDo(t, m, "SET", "end", "1")
	r.wants(cmds("SELECT 0", "SET b 1", "SET end 1"))

	// A refused command spoils the whole.
	mustDo(t, m, "MULTI")
	mustDo(t, m, "SET", "d", "1")
	mustRefuse(t, m, "refuses EVAL", "EVAL", "x", "0")
	mustRefuse(t, m, "EXECABORT", "EXEC")
	mustRefuse(t, m, "without MULTI", "EXEC")
	mustRefuse(t, m, "without MULTI", "DISCARD")
	if _, ok := m.Dump()[0]["d"]; ok {
		t.Error("d is set")
	}
}

func TestWATCHNoticesEveryChange(t *testing.T) {
	m := startMaster(t, Config{})
	other := m.NewClient()
	for _, change := range []string{"", "SET k 2", "DEL k", "EXPIRE k 100", "FLUSHALL", "SET other 1"} {
		mustDo(t, m, "SET", "k", "1")
		mustDo(t, m, "WATCH", "k")
		if change != "" {
			mustDo(t, other, strings.Fields(change)...)
		}
		mustDo(t, m, "MULTI")
		mustDo(t, m, "SET", "done", "1")
		v := mustDo(t, m, "EXEC")
		if want := change == "" || change == "SET other 1"; (v != nil) != want {
			t.Errorf("after %q EXEC gives %v", change, v)
		}
	}
}

func TestAKeyExpiresByTheClockAndTheReplicasGetADEL(t *testing.T) {
	m, r := follower(t, Config{})
	before := time.Now()
	mustDo(t, m, "SET", "k", "v", "PX", "30")
	at := m.Dump()[0]["k"].Expire
	r.wants(cmds("SET k v PXAT "+strconv.FormatInt(at, 10), "DEL k"))
	if took := time.Since(before); took < 30*time.Millisecond {
		t.Errorf("it went after %v", took)
	}
	if v := mustDo(t, m, "GET", "k"); v != nil {
		t.Errorf("GET gives %v", v)
	}
	// Its expiry goes where the value goes.
	for _, line := range []string{"SET k v PX 400", "RENAME k k2", "COPY k2 k3", "MOVE k2 1", "SELECT 5", "SET s v PX 400", "SWAPDB 5 6", "SELECT 0"} {
		mustDo(t, m, strings.Fields(line)...)
	}
	eventually(t, "all have gone", func() bool { return m.Dump().Keys() == 1 })
	// And one taken away in time does not come.
	mustDo(t, m, "SET", "stays", "v", "PX", "400")
	mustDo(t, m, "PERSIST", "stays")
	mustDo(t, m, "SET", "goes", "v", "PX", "420")
	eventually(t, "the other has gone", func() bool { return mustDo(t, m, "EXISTS", "goes") == int64(0) })
	if mustDo(t, m, "EXISTS", "stays") != int64(1) {
		t.Error("a key without expiry has gone")
	}
}

func TestTTLCountsDown(t *testing.T) {
	m := startMaster(t, Config{})
	mustDo(t, m, "SET", "k", "v", "EX", "100")
	if v := mustDo(t, m, "TTL", "k").(int64); v < 90 || v > 100 {
		t.Errorf("TTL = %v", v)
	}
	eventually(t, "PTTL falls", func() bool { return mustDo(t, m, "PTTL", "k").(int64) < 100000 })
	if v := mustDo(t, m, "TTL", "nothing"); v != int64(-2) {
		t.Errorf("TTL of nothing = %v", v)
	}
	mustDo(t, m, "PERSIST", "k")
	if v := mustDo(t, m, "PTTL", "k"); v != int64(-1) {
		t.Errorf("PTTL without expiry = %v", v)
	}
}

// randomCommand makes a write on few keys with few values, so that they meet often, of the wrong type, too.
func randomCommand(rnd *rand.Rand) []string {
	words := strings.Fields(randomCommands[rnd.IntN(len(randomCommands))])
	var args []string
	for _, w := range words {
		switch w {
		case "K":
			w = string("abcdefgh"[rnd.IntN(8)])
		case "V":
			w = []string{"1", "2", "x", "y", "zz", "-7", "1.5", "", "007"}[rnd.IntN(9)]
		case "I":
			w = strconv.Itoa(rnd.IntN(9) - 3)
		case "N-*":
			w = strconv.Itoa(rnd.IntN(4)) + "-*"
		case "N":
			w = strconv.Itoa(rnd.IntN(4))
		case "F":
			w = []string{"0.1", "1", "-2.5", "1e100", "inf", "-inf", "3"}[rnd.IntN(7)]
		case "D":
			w = strconv.Itoa(rnd.IntN(3))
		case "MS":
			w = strconv.Itoa(rnd.IntN(3000) + 1)
		}
		args = append(args, w)
	}
	return args
}

var randomCommands = strings.Split(strings.TrimSpace(`
SET K V
SET K V NX
SET K V XX GET
SET K V PX MS
SET K V KEEPTTL
SETNX K V
GETSET K V
GETDEL K
GETEX K PX MS
GETEX K PERSIST
APPEND K V
SETRANGE K N V
SETBIT K N 1
INCR K
INCRBY K I
DECRBY K I
INCRBYFLOAT K F
BITOP OR K K K
BITOP NOT K K
MSET K V K V
MSETNX K V K V
DEL K K
UNLINK K
EXPIRE K I
PEXPIRE K MS NX
PEXPIRE K MS GT
PEXPIRE K MS LT
PERSIST K
RENAME K K
RENAMENX K K
MOVE K D
COPY K K
COPY K K REPLACE
COPY K K DB D REPLACE
SWAPDB D D
LPUSH K V V
RPUSH K V V V
LPUSHX K V
RPUSHX K V
LINSERT K BEFORE V V
LSET K I V
LREM K I V
LTRIM K I I
LPOP K
RPOP K N
RPOPLPUSH K K
LMOVE K K LEFT RIGHT
LMPOP 2 K K LEFT COUNT 2
SADD K V V V
SREM K V V
SPOP K
SPOP K N
SMOVE K K V
SDIFFSTORE K K K
SINTERSTORE K K K
SUNIONSTORE K K K
ZADD K F V F V
ZADD K NX F V
ZADD K XX CH F V
ZADD K LT F V
ZADD K INCR F V
ZINCRBY K F V
ZREM K V V
ZREMRANGEBYRANK K I I
ZREMRANGEBYSCORE K -inf I
ZREMRANGEBYLEX K - (x
ZPOPMIN K
ZPOPMAX K N
ZMPOP 2 K K MIN COUNT 2
ZUNIONSTORE K 2 K K
ZINTERSTORE K 2 K K WEIGHTS 0.1 3
HSET K V V V V
HSETNX K V V
HDEL K V V
HINCRBY K V I
HINCRBYFLOAT K V F
XADD K * V V
XADD K MAXLEN 3 * V V
XADD K N-* V V
XDEL K 0-1
XTRIM K MAXLEN N
SELECT D
SELECT D
FLUSHDB
GET K
`), "\n")

func TestRandomWritesReplayToTheSameContent(t *testing.T) {
	// The seed is logged, so that a failure can be repeated.
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	m := startMaster(t, Config{Diskless: true})
	r := dialRaw(t, m)
	rdb, _ := r.fullSync(m, "eof", "psync2")
	r.send("REPLCONF", "ACK", "0")
	var redis *redisReplica
	switch _, err := exec.LookPath("redis-server"); {
	case err == nil:
		redis = startRedis(t, m) // a second opinion
	case os.Getenv("REPLICAD_REQUIRE_REDIS") == "1":
		t.Fatalf("redis-server is required (REPLICAD_REQUIRE_REDIS=1): %v", err)
	default:
		t.Log("redis-server is not on the PATH: compared with a replay in the engine only")
	}
	c := m.NewClient()
	var stream []byte
	var log []string
	compared := 0
	for round := range 40 {
		for range 100 {
			args := randomCommand(rnd)
			multi := rnd.IntN(20) == 0
			if multi {
				mustDo(t, c, "MULTI")
				_, _ = c.Do(randomCommand(rnd)...)
			}
			v, err := c.Do(args...)
			if multi {
				v, err = c.Do("EXEC")
			}
			log = append(log, fmt.Sprintf("%.100q -> %v %v", args, v, err))
		}
		// Nothing may expire between the two looks.
		m.mu.Lock()
		m.expire()
		offset, want := m.offset, m.engine.dump()
		m.mu.Unlock()
		stream = append(stream, r.read(int(offset)-len(stream))...)
		e := load(t, rdb, stream)
		diff := want.Diff(e.Dump())
		if diff == nil && redis != nil {
			eventually(t, "redis-server is there, too", func() bool {
				at, _ := strconv.ParseInt(redis.info("slave_repl_offset"), 10, 64)
				return redis.info("master_link_status") == "up" && at >= offset
			})
			got := redis.dump()
			if m.Offset() == offset { // else something has expired in between, and the next round will look again
				diff = want.Diff(got)
				compared++
			}
		}
		if diff != nil {
			t.Fatalf("round %d:\n%s\nthe last commands:\n%s", round, strings.Join(diff, "\n"), strings.Join(log[max(0, len(log)-100):], "\n"))
		}
		log = log[:0]
	}
	if redis != nil && compared == 0 {
		t.Error("never was there a moment to compare with redis-server")
	}
}
