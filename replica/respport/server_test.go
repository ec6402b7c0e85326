package respport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"replicad/integration/poll"
	"replicad/replica"
)

func TestEveryCommandThatIsServedIsOneOfRedis(t *testing.T) {
	table := newTable()
	for name, h := range handlers() {
		c := table[name]
		if c == nil || c.run == nil || h == nil {
			t.Errorf("%s is served, and is not in commands.txt", name)
			continue
		}
		if c.is("write") || c.is("readonly") {
			t.Errorf("%s is served, and works on data", name)
		}
	}
	for _, want := range []string{"get", "set", "waitaof", "hexpire", "client|setinfo", "vadd"} {
		if table[want] == nil {
			t.Errorf("%s is unknown", want)
		}
	}
}

// The texts are Redis 7.0's, which integration compares with those of a real
// replica.
func TestCommandsAreAnsweredAsRedisAnswersThem(t *testing.T) {
	p := start(t, Config{})
	c := p.dial()
	for _, one := range [][2]string{
		{"PING", "+PONG"}, {"ping hello", "$5|hello"}, {"PING a b", "-ERR wrong number of arguments for 'ping' command"},
		{`ECHO "a \x41\n'b'"`, "$7|a A\n'b'"}, {"ECHO 'it\\'s'", "$4|it's"}, {"ECHO", "-ERR wrong number of arguments for 'echo' command"},
		{"SELECT 15", "+OK"}, {"SELECT 16", "-ERR DB index is out of range"}, {"SELECT x", "-ERR value is not an integer or out of range"},
		{"SET k v", "-READONLY You can't write against a read only replica."}, {"SET k", "-ERR wrong number of arguments for 'set' command"},
		{"HSETEX k FIELDS 1 f v", "-READONLY You can't write against a read only replica."},
		{"nonsense a b", "-ERR unknown command 'nonsense', with args beginning with: 'a' 'b' "},
		{"CONFIG", "-ERR wrong number of arguments for 'config' command"}, {"CONFIG GET", "-ERR wrong number of arguments for 'config|get' command"},
		{"CONFIG nonsense", "-ERR unknown subcommand 'nonsense'. Try CONFIG HELP."}, {"config|get x", "-ERR unknown command 'config|get', with args beginning with: 'x' "},
		{"CONFIG REWRITE", "+OK"}, {"CONFIG GET save", "*2|$4|save|$0|"}, {"CONFIG GET append?nly SAV*", "*4|$10|appendonly|$3|yes|$4|save|$0|"},
		{"CONFIG GET requirepass", "*0"},
		{"AUTH x", "-ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?"},
		{"AUTH nobody x", "-WRONGPASS invalid username-password pair or user is disabled."}, {"AUTH default x", "+OK"},
		{"HELLO 4", "-NOPROTO unsupported protocol version"}, {"HELLO x", "-ERR Protocol version is not an integer or out of range"},
		{"HELLO 2 SETNAME", "-ERR Syntax error in HELLO option 'SETNAME'"},
		{"EXEC", "-ERR EXEC without MULTI"}, {"DISCARD", "-ERR DISCARD without MULTI"}, {"WATCH k", "+OK"}, {"UNWATCH", "+OK"},
		{"CLIENT SETNAME \"a b\"", "-ERR Client names cannot contain spaces, newlines or special characters."},
		{"CLIENT GETNAME", "$-1"}, {"CLIENT SETNAME me", "+OK"}, {"CLIENT GETNAME", "$2|me"},
		{"CLIENT SETINFO LIB-NAME redis-py", "+OK"}, {"CLIENT SETINFO LIB-X y", "-ERR Unrecognized option 'LIB-X'"},
		{"CLIENT KILL 1.2.3.4:5", "-ERR No such client"}, {"CLIENT KILL TYPE x", "-ERR Unknown client type 'x'"}, {"CLIENT KILL ID x", "-ERR client-id should be greater than 0"},
		{"CLIENT KILL USER x", "-ERR syntax error"}, {"CLIENT KILL SKIPME maybe", "-ERR syntax error"},
		{"ROLE", "*5|$5|slave|$8|10.0.0.1|:6379|$9|connected|:110"}, {"LASTSAVE", ":1000"},
		{"SLOWLOG LEN", ":0"}, {"SLOWLOG GET 10", "*0"}, {"LATENCY LATEST", "*0"}, {"LATENCY HISTOGRAM", "*0"}, {"ACL WHOAMI", "$7|default"},
		{"MODULE LIST", "*0"}, {"COMMAND INFO nonsense ping", "*0"}, {"COMMAND", "*0"}, {"COMMAND COUNT", ":0"}, {"COMMAND DOCS", "*0"}, {"COMMAND DOCS ping", "*0"},
		{"PUBLISH a b", ":0"}, {"UNSUBSCRIBE", "*3|$11|unsubscribe|$-1|:0"},
		{"CLUSTER INFO", "-ERR This instance has cluster support disabled"}, {"REPLICAOF h x", "-ERR Invalid master port"},
		{"BGSAVE x", "-ERR syntax error"}, {"SHUTDOWN ABORT", "-ERR No shutdown in progress."}, {"SHUTDOWN x", "-ERR syntax error"},
		{"RESET", "+RESET"}, {"CLIENT GETNAME", "$-1"},
		{"QUIT", "+OK"},
	} {
		c.wants(one[0], one[1])
	}
	if rest := c.ended(); rest != "" {
		t.Errorf("after QUIT: %q", rest)
	}
}

func TestWhatNeedsADatasetSaysWhatReplicadIsAndHowToRestore(t *testing.T) {
	c := start(t, Config{}).dial()
	for _, cmd := range []string{"GET k", "SCAN 0", "DBSIZE", "EVAL x 0", "OBJECT ENCODING k", "MEMORY USAGE k", "HTTL k FIELDS 1 f", "TYPE k"} {
		if got := c.does(cmd); !strings.HasPrefix(got, "-ERR replicad keeps no dataset in memory") || !strings.Contains(got, "replicad restore") {
			t.Errorf("%s: %q", cmd, got)
		}
	}
	for cmd, want := range map[string]string{
		"WAIT 1 1": "-ERR WAIT cannot be used with replica instances", "WAITAOF 1 1 1": "-ERR WAITAOF cannot be used with replica instances",
		"PSYNC ? -1": "-ERR replicad has no replicas", "SYNC": "-ERR replicad has no replicas", "REPLCONF ACK 1": "-ERR replicad has no replicas",
		"SAVE": "-ERR replicad has no dataset", "DEBUG SLEEP 1": "-ERR DEBUG is not offered", "CONFIG SET a b": "-ERR CONFIG SET is not offered",
		"CLIENT PAUSE 10": "-ERR CLIENT PAUSE is not offered", "CLIENT NO-EVICT on": "-ERR CLIENT NO-EVICT is not offered",
		"SPUBLISH a b": "-ERR SPUBLISH is not offered", "PUBSUB CHANNELS": "-ERR PUBSUB CHANNELS is not offered", "LATENCY DOCTOR": "-ERR LATENCY DOCTOR is not offered", "COMMAND HELP": "-ERR COMMAND HELP is not offered", "ACL LIST": "-ERR replicad has no ACL", "MONITOR": "-ERR MONITOR is not offered",
	} {
		if got := c.does(cmd); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, want %q", cmd, got, want)
		}
	}
}

func TestRESP3HasItsOwnTypes(t *testing.T) {
	c := start(t, Config{}).dial()
	if got := c.does("HELLO 3 SETNAME me"); !strings.HasPrefix(got, "%7|$6|server|$5|redis|$7|version|$6|7.0.15|$5|proto|:3|$2|id|:") ||
		!strings.HasSuffix(got, "|$4|mode|$10|standalone|$4|role|$7|replica|$7|modules|*0") {
		t.Errorf("HELLO 3: %q", got)
	}
	c.wants("CLIENT GETNAME", "$2|me")
	c.wants("CONFIG GET save", "%1|$4|save|$0|")
	c.wants("UNSUBSCRIBE", ">3|$11|unsubscribe|_|:0")
	c.wants("SUBSCRIBE a", ">3|$9|subscribe|$1|a|:1")
	c.wants("PING", "+PONG") // allowed, and as ever: pushes are told apart
	if got := c.does("CLIENT INFO"); !strings.HasPrefix(got, "=") || !strings.Contains(got, "|txt:id=") || !strings.Contains(got, "resp=3") {
		t.Errorf("CLIENT INFO: %q", got)
	}
	c.wants("PUBLISH a x", ">3|$7|message|$1|a|$1|x")
	if got := c.next(); got != ":1" {
		t.Errorf("PUBLISH: %q", got)
	}
	if got := c.does("HELLO 2"); !strings.HasPrefix(got, "*14|") {
		t.Errorf("HELLO 2: %q", got)
	}
	if got := c.does("GET k"); !strings.HasPrefix(got, "-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context") {
		t.Errorf("a subscriber's GET: %q", got)
	}
	c.wants("PING", "*2|$4|pong|$0|")
}

func TestGoRedisIsAtHome(t *testing.T) {
	p := start(t, Config{RequirePass: "secret"})
	ctx := context.Background()
	for _, protocol := range []int{2, 3} {
		t.Run(fmt.Sprint("RESP", protocol), func(t *testing.T) {
			c := redis.NewClient(&redis.Options{Addr: p.addr, Password: "secret", Protocol: protocol, ClientName: "me"})
			defer c.Close()
			if err := c.Ping(ctx).Err(); err != nil {
				t.Fatal(err)
			}
			sub := c.PSubscribe(ctx, "h*o")
			defer sub.Close()
			if _, err := sub.Receive(ctx); err != nil {
				t.Fatal(err)
			}
			if n, err := c.Publish(ctx, "hello", "world").Result(); n != 1 || err != nil {
				t.Errorf("PUBLISH: %d, %v", n, err)
			}
			m, err := sub.ReceiveMessage(ctx)
			if err != nil || m.Channel != "hello" || m.Pattern != "h*o" || m.Payload != "world" {
				t.Errorf("%+v, %v", m, err)
			}
			got, err := c.ConfigGet(ctx, "appendonly").Result()
			if err != nil || got["appendonly"] != "yes" {
				t.Errorf("CONFIG GET: %v, %v", got, err)
			}
			if info, err := c.Info(ctx, "replication").Result(); err != nil || !strings.Contains(info, "slave_priority:0\r\n") {
				t.Errorf("INFO: %q, %v", info, err)
			}
			if _, err := c.Command(ctx).Result(); err != nil {
				t.Errorf("COMMAND: %v", err)
			}
			if l, err := c.ClientList(ctx).Result(); err != nil || !strings.Contains(l, "name=me") || !strings.Contains(l, "lib-name=go-redis") {
				t.Errorf("CLIENT LIST: %q, %v", l, err)
			}
			if err := c.Set(ctx, "k", "v", 0).Err(); !redis.HasErrorPrefix(err, "READONLY") {
				t.Errorf("SET: %v", err)
			}
		})
	}
}

func TestATransactionIsWhatSentinelSends(t *testing.T) {
	p := start(t, Config{})
	sentinel, other, listener := p.dial(), p.dial(), p.dial()
	other.wants("PING", "+PONG")
	listener.wants("SUBSCRIBE __sentinel__:hello", "*3|$9|subscribe|$18|__sentinel__:hello|:1")
	sentinel.wants("MULTI", "+OK")
	sentinel.wants("MULTI", "-ERR MULTI calls can not be nested")
	for _, cmd := range []string{"SLAVEOF 10.0.0.2 6380", "CONFIG REWRITE", "CLIENT KILL TYPE normal", "CLIENT KILL TYPE pubsub"} {
		sentinel.wants(cmd, "+QUEUED")
	}
	sentinel.wants("EXEC", "*4|+OK|+OK|:1|:1")
	sentinel.wants("PING", "+PONG")
	other.ended()
	listener.ended()
	if got := p.b.ordered(); got != "replicaof 10.0.0.2 6380" {
		t.Errorf("orders: %s", got)
	}
	if got := sentinel.section("replication"); got["master_host"] != "10.0.0.2" || got["master_port"] != "6380" {
		t.Errorf("INFO right after: %v", got)
	}
	sentinel.wants("REPLICAOF 10.0.0.2 6380", "+OK Already connected to specified master")
	sentinel.wants("REPLICAOF NO ONE", "+OK")
	if got := sentinel.does("ROLE"); got != "*5|$5|slave|$0||:0|$4|none|:110" && got != "*5|$5|slave|$0||:0|$4|none|:-1" {
		t.Errorf("ROLE with nobody: %q", got)
	}
}

func TestATransactionWithARefusedCommandIsNotExecuted(t *testing.T) {
	p := start(t, Config{})
	c := p.dial()
	for _, bad := range []string{"SET k v", "GET k", "nonsense", "PING a b c", "SUBSCRIBE a", "SHUTDOWN", "PSYNC ? -1"} {
		c.wants("MULTI", "+OK")
		c.wants("REPLICAOF NO ONE", "+QUEUED")
		if bad == "PING a b c" { // known when it is executed, as in Redis
			c.wants(bad, "+QUEUED")
			c.wants("DISCARD", "+OK")
			continue
		}
		if got := c.does(bad); got[0] != '-' {
			t.Errorf("%s: %q", bad, got)
		}
		c.wants("EXEC", "-EXECABORT Transaction discarded because of previous errors.")
	}
	if got := p.b.ordered(); got != "" {
		t.Errorf("orders: %s", got)
	}
	c.wants("MULTI", "+OK")
	for range maxQueued {
		c.wants("PING", "+QUEUED")
	}
	c.wants("PING", "-ERR the transaction is too large")
	c.wants("EXEC", "-EXECABORT Transaction discarded because of previous errors.")
}

func TestOrdersThatFailSaySo(t *testing.T) {
	p := start(t, Config{})
	p.b.refuse = errors.New("the disk is full")
	c := p.dial()
	c.wants("REPLICAOF 10.0.0.9 1", "-ERR the disk is full")
	c.wants("BGSAVE", "-ERR the disk is full")
	p.b.set(func() { p.b.refuse = nil })
	c.wants("BGSAVE", "+Background saving started")
	c.wants("BGSAVE SCHEDULE", "+Background saving started")
	c.wants("BGREWRITEAOF", "+Background append only file rewriting started")
	if got := p.b.ordered(); got != "rebase, rebase, rebase" {
		t.Errorf("orders: %s", got)
	}
}

func TestShutdownEndsTheDaemonAndAnswersNothing(t *testing.T) {
	ended := make(chan struct{})
	p := start(t, Config{Shutdown: func() { close(ended) }})
	c := p.dial()
	c.send("SHUTDOWN NOSAVE\r\n")
	if got := c.ended(); got != "" {
		t.Errorf("it said %q", got)
	}
	<-ended
}

func TestAClientWithoutThePasswordGetsNothing(t *testing.T) {
	p := start(t, Config{RequirePass: "secret"})
	c := p.dial()
	for _, cmd := range []string{"PING", "INFO", "REPLICAOF NO ONE", "SUBSCRIBE a", "CLIENT LIST", "GET k", "MULTI"} {
		c.wants(cmd, "-NOAUTH Authentication required.")
	}
	if got := c.does("HELLO 3"); !strings.HasPrefix(got, "-NOAUTH HELLO must be called with the client already authenticated") {
		t.Errorf("HELLO: %q", got)
	}
	for _, cmd := range []string{"AUTH wrong", "AUTH other secret", "AUTH default secre", "HELLO 3 AUTH default x"} {
		c.wants(cmd, "-WRONGPASS invalid username-password pair or user is disabled.")
	}
	c.wants("PING", "-NOAUTH Authentication required.")
	c.send(array(append([]string{"AUTH"}, strings.Split(strings.Repeat("x", 10), "")...)...))
	if got := c.ended(); got != "-ERR Protocol error: unauthenticated multibulk length\r\n" {
		t.Errorf("many arguments: %q", got)
	}
	c = p.dial()
	c.send("*2\r\n$4\r\nAUTH\r\n$20000\r\n")
	if got := c.ended(); got != "-ERR Protocol error: unauthenticated bulk length\r\n" {
		t.Errorf("a long argument: %q", got)
	}
	c = p.dial()
	// In one write: the limits change with the first command.
	c.send(array("AUTH", "secret") + array(append([]string{"DEL"}, strings.Split(strings.Repeat("k", 20), "")...)...))
	if got := c.next() + c.next(); got != "+OK-READONLY You can't write against a read only replica." {
		t.Errorf("AUTH and more: %q", got)
	}
	p.SetRequirePass("other")
	c.wants("PING", "+PONG")
	if got := p.dial().does("AUTH default secret"); got != "-WRONGPASS invalid username-password pair or user is disabled." {
		t.Errorf("the former password: %q", got)
	}
	p.dial().wants("AUTH other", "+OK")
	if n := c.section("stats")["acl_access_denied_auth"]; n != "5" {
		t.Errorf("acl_access_denied_auth: %s", n)
	}
}

func TestClientsAreListedAndKilled(t *testing.T) {
	p := start(t, Config{})
	a, b := p.dial(), p.dial()
	a.wants("CLIENT SETNAME a", "+OK")
	b.wants("CLIENT SETNAME b", "+OK")
	id := b.does("CLIENT ID")[1:]
	b.wants("SUBSCRIBE x", "*3|$9|subscribe|$1|x|:1")
	if got := a.does("CLIENT LIST TYPE pubsub"); !strings.Contains(got, "name=b ") || strings.Contains(got, "name=a ") || !strings.Contains(got, " flags=P ") || !strings.Contains(got, " sub=1 ") {
		t.Errorf("CLIENT LIST TYPE pubsub: %q", got)
	}
	if got := a.does("CLIENT LIST ID " + id); !strings.Contains(got, "name=b ") || strings.Contains(got, "name=a ") {
		t.Errorf("CLIENT LIST ID: %q", got)
	}
	a.wants("CLIENT KILL ID "+id, ":1")
	b.ended()
	a.wants("CLIENT KILL ID "+id, ":0")
	b = p.dial()
	b.wants("PING", "+PONG")
	a.wants("CLIENT KILL "+b.LocalAddr().String(), "+OK")
	b.ended()
	a.wants("CLIENT KILL TYPE normal", ":0") // itself is skipped
	a.wants("CLIENT KILL TYPE normal SKIPME no", ":1")
	if got := a.ended(); got != "" {
		t.Errorf("it said %q", got)
	}
}

func TestEachLineOfInfoIsATitleOrAField(t *testing.T) {
	p := start(t, Config{})
	c := p.dial()
	p.b.set(func() {
		p.b.st.Phase, p.b.st.Transfer.Total, p.b.st.LastFailure = replica.Transfer, 100, "of two\r\nlines"
	})
	text := c.does("INFO everything")
	for line := range strings.SplitSeq(text, "|") {
		if name, _, ok := strings.Cut(line, ":"); line != "" && line[0] != '#' && line[0] != '$' && (!ok || strings.ContainsAny(name, " \n{}")) {
			t.Errorf("%q", line)
		}
	}
	for _, want := range []string{"master_sync_in_progress:1|", "master_sync_total_bytes:100|", "master_link_down_since_seconds:", "archive_last_failure:of two", "cluster_enabled:0|"} {
		if !strings.Contains(text, "|"+want) {
			t.Errorf("there is no %s", want)
		}
	}
	if strings.Contains(text, "no value") {
		t.Errorf("a value is missing: %s", text)
	}
}

func TestInfoHasTheSectionsThatAreAskedFor(t *testing.T) {
	c := start(t, Config{}).dial()
	titles := func(cmd string) string {
		var all []string
		for line := range strings.SplitSeq(c.does(cmd), "|") {
			if title, ok := strings.CutPrefix(line, "# "); ok {
				all = append(all, title)
			}
		}
		return strings.Join(all, " ")
	}
	const all = "Server Clients Memory Persistence Stats Replication Archive CPU Cluster Keyspace"
	for cmd, want := range map[string]string{
		"INFO": all, "INFO default": all, "INFO all": all, "INFO everything": all, "INFO nonsense": "", "INFO CPU Server": "Server CPU",
	} {
		if got := titles(cmd); got != want {
			t.Errorf("%s: %s, want %s", cmd, got, want)
		}
	}
	got := c.section("archive")
	if got["archive_generations"] != "1" || got["archive_oldest_restorable_time"] != "1000" || got["archive_newest_restorable_time"] != "2000" ||
		got["archive_fsynced_offset"] != "100" || got["archive_lag_bytes"] != "20" {
		t.Errorf("INFO archive: %v", got)
	}
	c.wants("GET k", c.does("GET k"))
	if got := c.section("stats")["total_error_replies"]; got != "2" {
		t.Errorf("total_error_replies: %s", got)
	}
	c.wants("CONFIG RESETSTAT", "+OK")
	if got := c.section("stats")["total_error_replies"]; got != "0" {
		t.Errorf("total_error_replies after RESETSTAT: %s", got)
	}
}

func TestADiskThatStandsStillHoldsUpOnlyWhoAsksForIt(t *testing.T) {
	p := startOn(t, Config{}, listen(t), false, func(s *Server) { s.turns = make(turns, 1) })
	reading := make(chan struct{})
	p.b.set(func() { p.b.reading = reading })
	asks, other := p.dial(), p.dial()
	asks.send("INFO archive\r\n")
	for range 100 {
		other.wants("PING", "+PONG")
		if got := other.section("replication")["role"]; got != "slave" {
			t.Errorf("role: %q", got)
		}
	}
	close(reading)
	if got := asks.next(); !strings.Contains(got, "|archive_generations:1|") {
		t.Errorf("%q", got)
	}
}

func TestACommandThatBreaksDownCostsItsClientAlone(t *testing.T) {
	var l logged
	p := start(t, Config{Log: logInto(&l)})
	good, bad := p.dial(), p.dial()
	good.wants("PING", "+PONG")
	p.b.set(func() { p.b.panics = true })
	bad.send("REPLICAOF 10.0.0.7 1\r\n")
	bad.ended()
	p.b.set(func() { p.b.panics = false })
	good.wants("PING", "+PONG")
	good.wants("REPLICAOF 10.0.0.7 1", "+OK") // no lock was left behind
	if !strings.Contains(l.text(), "a command broke down") {
		t.Errorf("the log: %s", l.text())
	}
}

func TestThereAreNoMoreThanMaxclients(t *testing.T) {
	p := start(t, Config{MaxClients: 2})
	a, b := p.dial(), p.dial()
	a.wants("PING", "+PONG")
	b.wants("PING", "+PONG")
	if got := p.dial().ended(); got != "-ERR max number of clients reached\r\n" {
		t.Errorf("the third: %q", got)
	}
	b.Close()
	poll.Until(t, "room", func() bool { return len(p.connected()) == 1 })
	p.dial().wants("PING", "+PONG")
	if got := a.section("stats")["rejected_connections"]; got != "1" {
		t.Errorf("rejected_connections: %s", got)
	}
}

func TestAnIdleClientIsCutUnlessItListens(t *testing.T) {
	p := start(t, Config{Timeout: 50 * time.Millisecond})
	idle, listener := p.dial(), p.dial()
	listener.wants("SUBSCRIBE a", "*3|$9|subscribe|$1|a|:1")
	if got := idle.ended(); got != "" {
		t.Errorf("it said %q", got)
	}
	if n := p.Server.pubsub.publish("a", []byte("m")); n != 1 {
		t.Errorf("%d listeners", n)
	}
	if got := listener.next(); got != "*3|$7|message|$1|a|$1|m" {
		t.Errorf("%q", got)
	}
}

func TestProtectedModeServesTheLoopbackAlone(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1": true, "127.8.9.1": true, "::1": true, "::ffff:127.0.0.1": true,
		"10.0.0.1": false, "::ffff:10.0.0.1": false, "fe80::1": false, "0.0.0.0": false, "192.0.2.2": false,
	} {
		if got := loopback(&net.TCPAddr{IP: net.ParseIP(address), Port: 1}); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
	for _, c := range []struct {
		cfg    Config
		served bool
	}{
		{Config{ProtectedMode: true}, false}, {Config{}, true}, {Config{ProtectedMode: true, RequirePass: "x"}, true},
	} {
		ln := newPipes("10.0.0.1")
		p := startOn(t, c.cfg, ln, false)
		client := wrap(t, ln.dial())
		if c.served {
			if got := client.does("PING"); got != "+PONG" && got != "-NOAUTH Authentication required." {
				t.Errorf("%+v: %q", c.cfg, got)
			}
			continue
		}
		if got := client.ended(); !strings.HasPrefix(got, "-DENIED replicad is running in protected mode") {
			t.Errorf("%+v: %q", c.cfg, got)
		}
		p.SetRequirePass("x")
		wrap(t, ln.dial()).wants("PING", "-NOAUTH Authentication required.")
	}
}

// pipes is a listener whose peers have an address of choice.
type pipes struct {
	from net.Addr
	next chan net.Conn
	done chan struct{}
	once *sync.Once
}

func newPipes(from string) *pipes {
	return &pipes{&net.TCPAddr{IP: net.ParseIP(from), Port: 7}, make(chan net.Conn), make(chan struct{}), new(sync.Once)}
}

type pipe struct {
	net.Conn
	from net.Addr
}

func (p pipe) RemoteAddr() net.Addr { return p.from }

func (l *pipes) dial() net.Conn {
	a, b := net.Pipe()
	l.next <- pipe{b, l.from}
	return a
}

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.next:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func TestAPortThatIsInUseIsAnErrorThatSaysSo(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	n := ln.Addr().(*net.TCPAddr).Port
	_, err = Listen(Config{Port: n})
	if !errors.Is(err, ErrListen) || !strings.Contains(err.Error(), fmt.Sprintf("port %d is in use", n)) {
		t.Errorf("%v", err)
	}
	if _, err = Listen(Config{Port: n, Bind: []string{"192.0.2.77"}}); !errors.Is(err, ErrListen) || !strings.Contains(err.Error(), "no address of this host") {
		t.Errorf("%v", err)
	}
	if _, err = Listen(Config{Port: n, Bind: []string{"-192.0.2.77"}}); !errors.Is(err, ErrListen) || !strings.Contains(err.Error(), "no address to listen on") {
		t.Errorf("%v", err)
	}
	for _, c := range []Config{{Port: -1}, {Port: 70000}, {TLSPort: 9}} {
		if s, err := Listen(c); err == nil {
			s.Close()
			t.Errorf("%+v is taken", c)
		}
	}
}

func TestCloseEndsAllConnectionsAndMayComeTwiceAndBeforeServe(t *testing.T) {
	p := start(t, Config{})
	c := p.dial()
	c.wants("PING", "+PONG")
	p.Close()
	p.Close()
	if _, err := c.read(); !errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
	s := newServer(Config{})
	s.Close()
	s.Serve(newBackend()) // returns
}

func TestMaxclientsLeavesDescriptorsForTheArchive(t *testing.T) {
	for _, c := range []struct{ want, ports, free, fits int }{
		{10000, 1, 20000, 10000}, {10000, 1, 700, 700}, {10000, 2, 701, 350}, {10000, 3, 0, 1}, {1, 1, 700, 1},
	} {
		if got := FitMaxClients(c.want, c.ports, c.free); got != c.fits {
			t.Errorf("of %+v %d", c, got)
		}
	}
}
