package minimaster

import (
	"fmt"
	"strings"
	"testing"

	"replicad/integration/poll"
)

func TestClientsGetTheAnswersOfRedis(t *testing.T) {
	m := startMaster(t, Config{})
	for _, c := range []struct {
		line string
		want any
	}{
		{"PING", "PONG"}, {"SELECT 3", "OK"}, {"SET a 1", "OK"}, {"GET a", "1"}, {"get a", "1"}, {"SELECT 0", "OK"}, {"GET a", nil},
		{"DBSIZE", int64(0)}, {"RPUSH l a b", int64(2)}, {"LRANGE l 0 -1", []any{"a", "b"}}, {"TYPE l", "list"},
		{"MGET l a", []any{nil, nil}}, {"PEXPIRETIME l", int64(-1)},
		{"INCR n", int64(1)}, {"CONFIG GET repl-diskless-sync nothing", []any{"repl-diskless-sync", "no"}}, {"CONFIG GET nothing", []any{}}, {"HSET h f v", int64(1)}, {"HGETALL h", []any{"f", "v"}}, {"FLUSHALL", "OK"},
	} {
		if got := mustDo(t, m, strings.Fields(c.line)...); fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", c.want) {
			t.Errorf("%s: %#v, want %#v", c.line, got, c.want)
		}
	}
	for line, want := range map[string]string{
		"SELECT 16": "DB index is out of range", "SELECT x": "DB index is out of range", "SELECT": "wrong number of arguments for 'select'",
		"REPLICAOF NO ONE": "unknown command 'REPLICAOF'", "HELLO 3": "unknown command", "PSYNC ? -1": "unknown command", "GET": "wrong number",
		"CONFIG SET a b": "CONFIG GET only", "CONFIG": "wrong number", "EXEC": "EXEC is not allowed here", "DISCARD": "DISCARD is not allowed here",
	} {
		mustRefuse(t, m, want, strings.Fields(line)...)
	}
	if _, err := m.Do(); err == nil {
		t.Error("an empty command is no error")
	}
}

func TestEachConnectionHasADatabaseOfItsOwn(t *testing.T) {
	m := startMaster(t, Config{})
	a, b := dialRaw(t, m), dialRaw(t, m)
	a.ask("+OK", "SELECT", "1")
	a.ask("+OK", "SET", "k", "v")
	b.ask("$-1", "GET", "k")
}

func TestINFOTellsOfTheReplicas(t *testing.T) {
	m := startMaster(t, Config{BacklogSize: 1000})
	if s := mustDo(t, m, "INFO", "replication").(string); !strings.Contains(s, "connected_slaves:0\r\n") || !strings.Contains(s, "repl_backlog_active:0\r\n") {
		t.Errorf("before the first replica:\n%s", s)
	}
	r := dialRaw(t, m)
	r.ask("+OK", "REPLCONF", "listening-port", "7401")
	r.fullSync(m)
	mustDo(t, m, "SET", "a", "1", "EX", "100")
	r.send("REPLCONF", "ACK", "10")
	poll.Until(t, "the acknowledgement has come", func() bool { return strings.Contains(line(m, "slave0"), "offset=10") })
	info := mustDo(t, m, "INFO").(string)
	for _, want := range []string{
		"redis_version:" + Version, "# Replication", "role:master", "connected_slaves:1", "slave0:ip=127.0.0.1,port=7401,state=online,offset=10,lag=0",
		"master_replid:" + m.ReplID(), fmt.Sprintf("master_repl_offset:%d", m.Offset()), "repl_backlog_active:1", "repl_backlog_size:1000",
		"repl_backlog_first_byte_offset:1", fmt.Sprintf("repl_backlog_histlen:%d", m.Offset()),
	} {
		if !strings.Contains(info, want+"\r\n") {
			t.Errorf("%q is missing in\n%s", want, info)
		}
	}
}
