package minimaster

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// patience bounds every wait of these tests. It is only ever used up when one
// fails.
const patience = time.Minute

// content is everything that a server holds, as its own answers have it: for each
// key its database and name, and then type, expiry and value. In database 0 the
// client remains.
func content(t testing.TB, d doer) map[string]string {
	t.Helper()
	all := map[string]string{}
	for db := range databases {
		mustDo(t, d, "SELECT", strconv.Itoa(db))
		keys, _ := mustDo(t, d, "KEYS", "*").([]any)
		for _, k := range keys {
			key := k.(string)
			kind := mustDo(t, d, "TYPE", key)
			if kind == "none" {
				continue // it has expired since
			}
			all[fmt.Sprintf("db%d %q", db, key)] = fmt.Sprintf("%v, expires %v: %q", kind, mustDo(t, d, "PEXPIRETIME", key), value(t, d, kind, key))
		}
	}
	mustDo(t, d, "SELECT", "0")
	return all
}

// value reads a key. What has no order is sorted, and scores are compared as the
// numbers that they are.
func value(t testing.TB, d doer, kind any, key string) []string {
	t.Helper()
	if kind == "string" {
		s, _ := d.Do("GET", key)
		return []string{fmt.Sprint(s)}
	}
	read := map[any][]string{
		"list": {"LRANGE", key, "0", "-1"}, "set": {"SMEMBERS", key},
		"hash": {"HGETALL", key}, "zset": {"ZRANGE", key, "0", "-1", "WITHSCORES"},
	}[kind]
	var items []string
	for _, x := range mustDo(t, d, read...).([]any) {
		items = append(items, x.(string))
	}
	switch kind {
	case "set":
		slices.Sort(items)
	case "hash":
		pairs := slices.Collect(slices.Chunk(items, 2))
		slices.SortFunc(pairs, slices.Compare)
		items = slices.Concat(pairs...)
	case "zset":
		for i := 1; i < len(items); i += 2 {
			f, err := strconv.ParseFloat(items[i], 64)
			if err != nil {
				t.Fatal(err)
			}
			items[i] = fmt.Sprint(f)
		}
	}
	return items
}

// diff says where two contents differ.
func diff(want, got map[string]string) (lines []string) {
	for k, v := range want {
		if got[k] != v {
			lines = append(lines, fmt.Sprintf("%s: %.200s, want %.200s", k, got[k], v))
		}
	}
	for k, v := range got {
		if _, ok := want[k]; !ok {
			lines = append(lines, fmt.Sprintf("%s: %.200s, want none", k, v))
		}
	}
	slices.Sort(lines)
	return lines
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
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("%.200q: %v, %v; want an error with %q", args, v, err, text)
	}
}

// everyWrite executes every write the master knows, with keys that begin with
// prefix, so that something of each is left, and makes values of many sizes.
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
		if line == "" {
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
	for i := range 300 {
		n := fmt.Sprint(i)
		mustDo(t, c, "RPUSH", prefix+"long list", n, "x"+n)
		mustDo(t, c, "SADD", prefix+"long set", n, "x"+n)
		mustDo(t, c, "SADD", prefix+"int set", n, "-"+n+"00000000")
		mustDo(t, c, "ZADD", prefix+"long zset", n+".25", "m"+n)
	}
}

// In the script @k is a key (or a member) with the prefix, "" the empty string,
// FUTURE an hour from now in Unix ms.
const writeScript = `
SELECT 0
SET @s value
SET @s2 12345 EX 1000
SET @s3 x PX 1000000
SET @s4 x PXAT FUTURE
MSET @m1 a @m2 b @m3 ""
APPEND @s more
APPEND @app ""
APPEND @app x
INCR @n
INCRBY @n 41
INCRBY @n -100
INCR @s2
SET @d1 x
SET @d2 x
SET @d3 x
DEL @d1 @nothing
UNLINK @d2
DEL @nothing
SET @p x EX 100
PERSIST @p
PERSIST @p
RPUSH @l a b c d e
LPUSH @l z
LPOP @l
RPOP @l
LPOP @l 2
LPOP @nothing
RPUSH @gone x
LPOP @gone
SADD @set a b c d e f g
SADD @set a
SREM @set a nope
SADD @remall x
SREM @remall x
ZADD @z 1 a 2 b 3 c 4 d 5 e
ZADD @z 1.5 a
ZADD @z inf top -inf bottom 1e-300 tiny
ZADD @z 0.30000000000000004 sum
ZREM @z d nope
ZADD @zgone 1 a
ZREM @zgone a
HSET @h a 1 b 2 c three
HSET @h a 10
HDEL @h b nope
HSET @hgone a 1
HDEL @hgone a
SELECT 5
SET @in5 x
MULTI
SET @tx1 a
INCR @tx2
SELECT 6
SADD @tx3 a b c
SREM @tx3 a
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
SELECT 9
SET @flushed x
FLUSHDB
FLUSHDB
SELECT 0
`
