package minimaster

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"replicad/integration/poll"
)

func TestACommandWhoseEffectIsNotKnownIsRefusedByNameAndChangesNothing(t *testing.T) {
	m, _ := follower(t, Config{})
	mustDo(t, m, "HSET", "h", "f", "v")
	before := m.Offset()
	for _, args := range [][]string{
		{"EVAL", "return redis.call('SET','k','v')", "0"}, {"PFADD", "k", "v"}, {"BLPOP", "k", "0"}, {"XADD", "x", "*", "f", "v"},
		{"HEXPIRE", "h", "10", "FIELDS", "1", "f"}, {"RESTORE", "k", "0", "x"}, {"GEOADD", "g", "0", "0", "m"}, {"SUBSCRIBE", "c"},
		{"SORT", "l", "STORE", "k"}, {"SETRANGE", "k", "0", "x"}, {"XREAD", "BLOCK", "0", "STREAMS", "x", "$"}, {"SWAPDB", "0", "1"},
	} {
		mustRefuse(t, m, "ERR unknown command '"+args[0]+"'", args...)
	}
	for _, line := range []string{"SET k v NX", "SET k v GET", "SET k v EX", "SET k v EX 1 NX", "EXPIRE h 10 NX", "ZADD z NX 1 a", "INCRBYFLOAT s 1", "SPOP s"} {
		mustRefuse(t, m, "ERR ", strings.Fields(line)...)
	}
	if n := len(content(t, m)); n != 2 || m.Offset() != before {
		t.Errorf("%d keys, want the two from before, and %d bytes of stream", n, m.Offset()-before)
	}
}

// follower starts a master with a replica that has caught up, in database 0, on
// an empty dataset.
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
	// expiry reads the absolute time out of a command that has the form want,
	// with AT for it, and checks that it is as far away as wanted.
	expiry := func(line, want string, ms int64) {
		t.Helper()
		before := time.Now().UnixMilli()
		do(line)
		after := time.Now().UnixMilli()
		at := mustDo(t, m, "PEXPIRETIME", "k").(int64)
		if at < before+ms || at > after+ms {
			t.Errorf("%s: expires at %d, now is %d", line, at, after)
		}
		r.wants(cmds(strings.ReplaceAll(want, " AT", " "+strconv.FormatInt(at, 10))))
	}
	const hour = 3600 * 1000
	expiry("SET k v EX 3600", "SET k v PXAT AT", hour)
	expiry("SET k v PX 3600000", "SET k v PXAT AT", hour)
	exactly("SET k v PXAT 4000000000000", "SET k v PXAT 4000000000000")
	exactly("PERSIST k", "PERSIST k")
	exactly("SET k 2", "SET k 2")
	exactly("INCR k", "INCR k")
	exactly("SADD s only", "SADD s only")
	exactly("ZADD z 1 a 2 b", "ZADD z 1 a 2 b")
	exactly("RPUSH l a b c", "RPUSH l a b c")
	exactly("LPOP l 2", "LPOP l 2")
	exactly("FLUSHALL", "FLUSHALL")
}

func TestAWriteThatChangesNothingIsNotPropagated(t *testing.T) {
	m, r := follower(t, Config{})
	for _, line := range []string{"SET s v", "SADD set a", "HSET h f v", "ZADD z 1 a", "RPUSH l a"} {
		mustDo(t, m, strings.Fields(line)...)
	}
	before := m.Offset()
	for _, line := range []string{
		"DEL nothing", "UNLINK nothing", "PERSIST s", "LPOP nothing", "RPOP l 0", "LPOP nothing 2",
		"SADD set a", "SREM set nothing", "ZREM z nothing", "HDEL h nothing", "GET s", "PEXPIRETIME s",
	} {
		mustDo(t, m, strings.Fields(line)...)
		if now := m.Offset(); now != before {
			t.Errorf("%s: %d bytes of stream", line, now-before)
			before = now
		}
	}
	mustDo(t, m, "SET", "octal", "007")
	mustDo(t, m, "SET", "most", "9223372036854775807")
	before = m.Offset()
	for _, line := range []string{
		"INCR s", "INCR octal", "INCR most", "LPUSH s a", "SADD s a", "HSET s f v",
		"ZADD s 1 a", "SET k v EX 0", "SET k v EX x", "SET k v PXAT -5", "SET k v NX XX", "SET k", "INCRBY n +5", "INCRBY n 05", "ZADD z nan a",
		"ZADD z 1_0 a", "ZADD z 1 a 2", "SET k v EX 9223372036854775807", "SET k v PX 9223372036854775807", "SET k v EX -9223372036854775808",
		"SELECT 16", "HSET h a", "HSET h a b c", "MSET a", "APPEND l x", "DEL", "FLUSHALL NOW",
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
	mustRefuse(t, m, "unknown command 'EVAL'", "EVAL", "x", "0")
	mustRefuse(t, m, "EXECABORT", "EXEC")
	mustRefuse(t, m, "not allowed here", "EXEC")
	if v := mustDo(t, m, "EXISTS", "d"); v != int64(0) {
		t.Error("d is set")
	}
}

func TestAKeyExpiresByTheClockAndTheReplicasGetADEL(t *testing.T) {
	m, r := follower(t, Config{})
	before := time.Now()
	mustDo(t, m, "SET", "k", "v", "PX", "300")
	at := mustDo(t, m, "PEXPIRETIME", "k").(int64)
	r.wants(cmds("SET k v PXAT "+strconv.FormatInt(at, 10), "DEL k"))
	if took := time.Since(before); took < 300*time.Millisecond {
		t.Errorf("it went after %v", took)
	}
	if v := mustDo(t, m, "GET", "k"); v != nil {
		t.Errorf("GET gives %v", v)
	}
	// And one taken away in time does not come.
	mustDo(t, m, "SET", "stays", "v", "PX", "400")
	mustDo(t, m, "PERSIST", "stays")
	mustDo(t, m, "SET", "goes", "v", "PX", "420")
	poll.Until(t, "the other has gone", func() bool { return mustDo(t, m, "EXISTS", "goes") == int64(0) })
	if mustDo(t, m, "EXISTS", "stays") != int64(1) {
		t.Error("a key without expiry has gone")
	}
}

// randomCommand makes a write on few keys with few values, so that they meet
// often, of the wrong type, too.
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
SET K V
SET K V PX MS
APPEND K V
INCR K
INCRBY K I
MSET K V K V
DEL K K
UNLINK K
PERSIST K
LPUSH K V V
RPUSH K V V V
LPOP K
RPOP K N
SADD K V V V
SREM K V V
ZADD K F V F V
ZREM K V V
HSET K V V V V
HDEL K V V
SELECT D
SELECT D
FLUSHDB
GET K
`), "\n")

func TestRandomWritesLeaveARealRedisWithTheSameContent(t *testing.T) {
	needRedis(t, "redis-server")
	// The seed is logged, so that a failure can be repeated.
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	m := startMaster(t, Config{Diskless: true})
	redis := startRedis(t, m)
	c := m.NewClient()
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
		offset := redis.applied(m)
		want, got := content(t, m.NewClient()), content(t, redis)
		mustDo(t, m, "PING")      // which deletes what has expired: a replica hides it before
		if m.Offset() == offset { // else something has expired in between, and the next round will look again
			if d := diff(want, got); d != nil {
				t.Fatalf("round %d:\n%s\nthe last commands:\n%s", round, strings.Join(d, "\n"), strings.Join(log[max(0, len(log)-100):], "\n"))
			}
			compared++
		}
		log = log[:0]
	}
	if compared == 0 {
		t.Error("never was there a moment to compare with redis-server")
	}
}
