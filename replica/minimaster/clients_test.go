package minimaster

import (
	"fmt"
	"strings"
	"testing"
)

func TestClientsGetTheAnswersOfRedis(t *testing.T) {
	m := startMaster(t, Config{})
	for _, c := range []struct {
		line string
		want any
	}{
		{"PING", "PONG"}, {"PING hello", "hello"}, {"ECHO hello", "hello"}, {"SELECT 3", "OK"}, {"SET a 1", "OK"},
		{"GET a", "1"}, {"SELECT 0", "OK"}, {"GET a", nil}, {"DBSIZE", int64(0)}, {"CLIENT GETNAME", nil},
		{"CLIENT SETNAME me", "OK"}, {"CLIENT GETNAME", "me"}, {"CLIENT SETINFO lib-name x", "OK"}, {"WAIT 0 0", int64(0)},
		{"UNWATCH", "OK"}, {"CONFIG GET save", []any{"save", ""}}, {"CONFIG GET nothing", []any{}},
		{"RPUSH l a b", int64(2)}, {"LRANGE l 0 -1", []any{"a", "b"}}, {"TYPE l", "list"}, {"COMMAND DOCS", []any{}},
	} {
		if got := mustDo(t, m, strings.Fields(c.line)...); fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", c.want) {
			t.Errorf("%s: %#v, want %#v", c.line, got, c.want)
		}
	}
	for line, want := range map[string]string{
		"SELECT 16": "DB index is out of range", "SELECT x": "not an integer", "ECHO": "wrong number of arguments for 'echo'",
		"REPLICAOF NO ONE": "stays one", "CONFIG SET a b": "CONFIG GET only", "HELLO 3": "NOPROTO", "CLIENT KILL TYPE normal": "replica only",
		"CLIENT NONSENSE": "unknown subcommand", "HELLO 2 NONSENSE": "Syntax error in HELLO", "PSYNC ? -1": "needs a connection",
	} {
		mustRefuse(t, m, want, strings.Fields(line)...)
	}
	hello := fmt.Sprint(mustDo(t, m, "HELLO", "2", "SETNAME", "you"))
	if !strings.Contains(hello, "proto 2") || !strings.Contains(hello, "role master") {
		t.Errorf("HELLO 2: %s", hello)
	}
}

func TestEachConnectionHasADatabaseOfItsOwn(t *testing.T) {
	m := startMaster(t, Config{})
	a, b := dialRaw(t, m), dialRaw(t, m)
	a.ask("+OK", "SELECT", "1")
	a.ask("+OK", "SET", "k", "v")
	b.ask("$-1", "GET", "k")
	a.ask("+OK", "QUIT")
	a.ends()
}

func TestINFOAndROLETellOfTheReplicas(t *testing.T) {
	m := startMaster(t, Config{BacklogSize: 1000})
	if s := mustDo(t, m, "INFO", "replication").(string); !strings.Contains(s, "connected_slaves:0\r\n") || !strings.Contains(s, "repl_backlog_active:0\r\n") {
		t.Errorf("before the first replica:\n%s", s)
	}
	r := dialRaw(t, m)
	r.ask("+OK", "REPLCONF", "listening-port", "7401")
	r.fullSync(m)
	mustDo(t, m, "SET", "a", "1", "EX", "100")
	r.send("REPLCONF", "ACK", "10")
	eventually(t, "the acknowledgement has come", func() bool { return m.Replicas()[0].Ack == 10 })
	info := mustDo(t, m, "INFO").(string)
	for _, want := range []string{
		"# Replication", "role:master", "connected_slaves:1", "slave0:ip=127.0.0.1,port=7401,state=online,offset=10,lag=0",
		"master_replid:" + m.ReplID(), fmt.Sprintf("master_repl_offset:%d", m.Offset()), "repl_backlog_active:1", "repl_backlog_size:1000",
		"repl_backlog_first_byte_offset:1", fmt.Sprintf("repl_backlog_histlen:%d", m.Offset()), "db0:keys=1,expires=1,avg_ttl=0", "sync_full:1",
	} {
		if !strings.Contains(info, want+"\r\n") {
			t.Errorf("%q is missing in\n%s", want, info)
		}
	}
	if got, want := fmt.Sprint(mustDo(t, m, "ROLE")), fmt.Sprintf("[master %d [[127.0.0.1 7401 10]]]", m.Offset()); got != want {
		t.Errorf("ROLE: %s, want %s", got, want)
	}
}

func TestDiffSaysWhatDiffers(t *testing.T) {
	s := func(items ...string) Value { return Value{Type: "string", Items: items} }
	a := Dump{0: {"same": s("x"), "only a": s("x"), "value": s("x"), "expiry": {"string", 5, []string{"x"}}, "type": s("x")}}
	b := Dump{0: {"same": s("x"), "value": s("y"), "expiry": s("x"), "type": {"set", 0, []string{"x"}}}, 3: {"only b": s("x")}}
	got := strings.Join(a.Diff(b), "\n")
	want := `db0 "expiry": expires at 5, in the second at 0
db0 "only a": only in the first, string of 1 "x"
db0 "type": string, in the second set
db0 "value": string of 1 "x", in the second string of 1 "y" (first difference at item 0: "x", "y")
db3 "only b": only in the second, string of 1 "x"`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if d := a.Diff(a); d != nil {
		t.Errorf("equal Dumps differ: %q", d)
	}
}
