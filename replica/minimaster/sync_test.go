package minimaster

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestTheHandshakeIsAnsweredAsRedisAnswersIt(t *testing.T) {
	m := startMaster(t, Config{})
	r := dialRaw(t, m)
	r.ask("+PONG", "PING")
	r.ask("+OK", "REPLCONF", "listening-port", "7401")
	r.ask("+OK", "REPLCONF", "ip-address", "10.0.0.7")
	r.ask("+OK", "REPLCONF", "capa", "eof", "capa", "psync2")
	r.ask("+OK", "REPLCONF", "version", "8.1.0")
	r.ask("-ERR Unrecognized REPLCONF option: nonsense", "REPLCONF", "nonsense", "1")
	r.ask("-ERR syntax error", "REPLCONF", "capa")
	r.ask("-ERR value is not an integer or out of range", "PSYNC", "?", "x")
	r.send("PSYNC", "?", "-1")
	r.answer(m)
	eventually(t, "the replica is online", func() bool { return m.Replicas()[0].State == "online" })
	r.send("REPLCONF", "ACK", "0")
	got := m.Replicas()[0]
	if got.IP != "10.0.0.7" || got.Port != 7401 || fmt.Sprint(got.Capa) != "[eof psync2]" || got.Version != "8.1.0" || !got.Full {
		t.Errorf("%+v", got)
	}
}

func TestSnapshotAndStreamTogetherAreTheMastersContent(t *testing.T) {
	for _, diskless := range []bool{false, true} {
		m := startMaster(t, Config{Diskless: diskless})
		everyWrite(t, m.NewClient(), "before ")
		r := dialRaw(t, m)
		rdb, offset := r.fullSync(m, "eof", "psync2")
		if offset != 0 {
			t.Fatalf("offset %d: nothing is counted before the first replica", offset)
		}
		sameDump(t, m.Dump(), load(t, rdb, nil).Dump())
		r.send("REPLCONF", "ACK", "0")
		everyWrite(t, m.NewClient(), "after ")
		stream := r.stream(m, 0)
		sameDump(t, m.Dump(), load(t, rdb, stream).Dump())
	}
}

func TestADisklessMasterSendsNothingBeforeTheFirstAck(t *testing.T) {
	m := startMaster(t, Config{Diskless: true})
	r := dialRaw(t, m)
	r.fullSync(m, "eof")
	eventually(t, "the replica is online", func() bool { return m.Replicas()[0].State == "online" })
	mustDo(t, m, "SET", "a", "1")
	want := cmds("SELECT 0", "SET a 1")
	if q := m.Replicas()[0].Queued; q != len(want) {
		t.Fatalf("%d bytes wait, want all %d", q, len(want))
	}
	r.send("REPLCONF", "ACK", "0")
	r.wants(want)
}

func TestAReplicaWithoutCapaEOFGetsALengthFromADisklessMaster(t *testing.T) {
	m := startMaster(t, Config{Diskless: true})
	r := dialRaw(t, m)
	r.send("PSYNC", "?", "-1")
	r.line()
	if head := r.line(); head[0] != '$' || strings.HasPrefix(head, "$EOF") {
		t.Fatalf("framing %q", head)
	}
}

func TestSYNCGetsTheSnapshotWithoutALineBefore(t *testing.T) {
	m := startMaster(t, Config{})
	mustDo(t, m, "SET", "a", "1")
	r := dialRaw(t, m)
	r.send("SYNC")
	sameDump(t, m.Dump(), load(t, r.payload(), nil).Dump())
	mustDo(t, m, "SET", "a", "2")
	r.wants(cmds("SELECT 0", "SET a 2"))
}

func TestNewlinesKeepAWaitingReplicaAlive(t *testing.T) {
	count := func(r *raw) (n int) {
		for {
			b, err := r.r.Peek(1)
			if err != nil {
				t.Fatal(err)
			}
			if b[0] != '\n' {
				return n
			}
			r.read(1)
			n++
		}
	}
	t.Run("before +FULLRESYNC while a diskless master waits for others", func(t *testing.T) {
		m := startMaster(t, Config{Diskless: true, DisklessSyncDelay: 400 * time.Millisecond, KeepAlive: 5 * time.Millisecond})
		r := dialRaw(t, m)
		r.ask("+OK", "REPLCONF", "capa", "eof")
		r.send("PSYNC", "?", "-1")
		eventually(t, "it waits", func() bool { return len(m.Replicas()) == 1 && m.Replicas()[0].State == "wait_bgsave" })
		mustDo(t, m, "SET", "written", "while it waits")
		if n := count(r); n < 1 {
			t.Errorf("%d newlines", n)
		}
		rdb, offset := r.answer(m)
		// What was written before the snapshot is in it, and its bytes are below the offset.
		if offset != m.Offset() || offset == 0 {
			t.Errorf("offset %d, the master's is %d", offset, m.Offset())
		}
		sameDump(t, m.Dump(), load(t, rdb, nil).Dump())
	})
	t.Run("after +FULLRESYNC while a disk-based master saves", func(t *testing.T) {
		m := startMaster(t, Config{KeepAlive: 5 * time.Millisecond, Faults: Faults{SaveTime: 200 * time.Millisecond}})
		r := dialRaw(t, m)
		r.send("PSYNC", "?", "-1")
		r.line()
		mustDo(t, m, "SET", "written", "meanwhile")
		if n := count(r); n < 1 {
			t.Errorf("%d newlines", n)
		}
		rdb := r.payload()
		if n := load(t, rdb, nil).Dump().Keys(); n != 0 {
			t.Errorf("%d keys in a snapshot from before", n)
		}
		r.wants(cmds("SELECT 0")) // and then what was written meanwhile
	})
}

func TestPSYNCContinuesWithExactlyTheNextByteFromAnywhereInTheBacklog(t *testing.T) {
	m := startMaster(t, Config{BacklogSize: 200})
	first := dialRaw(t, m)
	first.fullSync(m)
	for i := range 20 {
		mustDo(t, m, "SET", fmt.Sprint("key", i), "value")
	}
	stream := first.stream(m, 0)
	end := m.Offset()
	for offset := end - 200 + 1; offset <= end+1; offset++ {
		r := dialRaw(t, m)
		r.ask("+OK", "REPLCONF", "capa", "psync2")
		r.ask("+CONTINUE "+m.ReplID(), "PSYNC", m.ReplID(), strconv.FormatInt(offset, 10))
		r.wants(string(stream[offset-1:]))
		r.c.Close()
	}
	if s := m.Stats(); s.SyncPartialOK != 201 || s.SyncFull != 1 || s.SyncPartialErr != 0 {
		t.Errorf("%+v", s)
	}
	for name, args := range map[string][]string{
		"an offset below the backlog":   {m.ReplID(), strconv.FormatInt(end-200, 10)},
		"an offset beyond the master's": {m.ReplID(), strconv.FormatInt(end+2, 10)},
		"a negative offset":             {m.ReplID(), "-1"},
		"an id it does not know":        {strings.Repeat("0", 40), strconv.FormatInt(end, 10)},
	} {
		r := dialRaw(t, m)
		r.send("PSYNC", args[0], args[1])
		if got := r.line(); got != fmt.Sprintf("+FULLRESYNC %s %d", m.ReplID(), end) {
			t.Errorf("%s: %q", name, got)
		}
	}
	if s := m.Stats(); s.SyncPartialErr != 4 {
		t.Errorf("%+v, want 4 refusals", s)
	}
}

func TestAReplicaWithoutPsync2IsToldToContinueWithoutAnID(t *testing.T) {
	m := startMaster(t, Config{})
	r := dialRaw(t, m)
	r.fullSync(m)
	mustDo(t, m, "SET", "a", "1")
	again := dialRaw(t, m)
	again.ask("+CONTINUE", "PSYNC", strings.ToUpper(m.ReplID()), "1") // ids compare without case
	again.wants(cmds("SELECT 0", "SET a 1"))
}

func TestTheFirstWriteAfterAFullSyncOpensWithSELECT(t *testing.T) {
	m := startMaster(t, Config{})
	a := dialRaw(t, m)
	a.fullSync(m)
	mustDo(t, m, "SET", "a", "1")
	mustDo(t, m, "SET", "a", "2")
	mustDo(t, m, "SELECT", "3")
	mustDo(t, m, "SET", "a", "3")
	want := cmds("SELECT 0", "SET a 1", "SET a 2", "SELECT 3", "SET a 3")
	a.wants(want)
	b := dialRaw(t, m)
	_, offset := b.fullSync(m)
	if offset != int64(len(want)) {
		t.Errorf("offset %d, want %d", offset, len(want))
	}
	mustDo(t, m, "SET", "a", "4")
	a.wants(cmds("SELECT 3", "SET a 4"))
	b.wants(cmds("SELECT 3", "SET a 4"))
	// A partial sync is no new stream.
	c := dialRaw(t, m)
	c.ask("+CONTINUE", "PSYNC", m.ReplID(), strconv.FormatInt(m.Offset()+1, 10))
	mustDo(t, m, "SET", "a", "5")
	c.wants(cmds("SET a 5"))
}

func TestPINGsKeepTheStreamGoingAndCount(t *testing.T) {
	m := startMaster(t, Config{ReplPingPeriod: 5 * time.Millisecond})
	r := dialRaw(t, m)
	r.fullSync(m)
	r.wants(cmds("PING", "PING", "PING"))
	if m.Offset() < int64(3*len(cmds("PING"))) {
		t.Errorf("offset %d", m.Offset())
	}
}

func TestCutReplicasAndCLIENTKILLCloseEveryReplicaAndNoClient(t *testing.T) {
	m := startMaster(t, Config{})
	client := dialRaw(t, m)
	client.ask("+OK", "SET", "a", "1")
	a, b := dialRaw(t, m), dialRaw(t, m)
	a.fullSync(m)
	b.fullSync(m)
	if n := m.CutReplicas(); n != 2 {
		t.Errorf("CutReplicas = %d", n)
	}
	a.ends()
	b.ends()
	if n := len(m.Replicas()); n != 0 {
		t.Errorf("%d replicas", n)
	}
	c := dialRaw(t, m)
	c.fullSync(m)
	client.ask(":1", "CLIENT", "KILL", "TYPE", "REPLICA")
	c.ends()
	client.ask("+PONG", "PING")
}

func TestAReplicaThatLeavesIsForgotten(t *testing.T) {
	m := startMaster(t, Config{})
	r := dialRaw(t, m)
	r.fullSync(m)
	r.c.Close()
	eventually(t, "it is forgotten", func() bool { return len(m.Replicas()) == 0 })
}

func TestASlowReplicaIsDisconnectedAndNobodyWaitsForIt(t *testing.T) {
	m := startMaster(t, Config{OutputLimit: 1 << 20})
	slow, quick := dialRaw(t, m), dialRaw(t, m)
	slow.fullSync(m)
	quick.fullSync(m)
	go func() { _, _ = io.Copy(io.Discard, quick.r) }()
	value := strings.Repeat("x", 64<<10)
	// The kernel's buffers swallow some MiB on their own.
	eventually(t, "the slow one is gone", func() bool {
		mustDo(t, m, "SET", "k", value)
		list := m.Replicas()
		for _, r := range list { // the quick one gets the time to be quick
			eventually(t, "a queue drains or bursts", func() bool {
				for _, x := range m.Replicas() {
					if x.Addr == r.Addr && x.Addr == quick.c.LocalAddr().String() {
						return x.Queued < 512<<10
					}
				}
				return true
			})
		}
		return len(list) == 1
	})
	if left := m.Replicas()[0]; left.Addr != quick.c.LocalAddr().String() {
		t.Errorf("left is %s", left.Addr)
	}
}

func TestWAITAsksForAcknowledgementsAndCountsThem(t *testing.T) {
	m := startMaster(t, Config{})
	if got := mustDo(t, m, "WAIT", "0", "0"); got != int64(0) {
		t.Errorf("WAIT 0 = %v", got)
	}
	r := dialRaw(t, m)
	r.fullSync(m)
	mustDo(t, m, "SET", "a", "1")
	want := cmds("SELECT 0", "SET a 1")
	r.wants(want)

	got := make(chan any, 1)
	go func() {
		v, _ := m.Do("WAIT", "1", "0")
		got <- v
	}()
	r.wants(cmds("REPLCONF GETACK *"))
	r.send("REPLCONF", "ACK", strconv.Itoa(len(want)-1)) // not enough
	r.send("REPLCONF", "ACK", strconv.Itoa(len(want)), "FACK", "10")
	if v := <-got; v != int64(1) {
		t.Errorf("WAIT = %v, want 1", v)
	}
	if x := m.Replicas()[0]; x.Ack != int64(len(want)) || x.Fack != 10 {
		t.Errorf("%+v", x)
	}
	// GETACK counts, too, but nobody who wrote before waits for it.
	if v := mustDo(t, m, "WAIT", "1", "0"); v != int64(1) {
		t.Errorf("WAIT again = %v", v)
	}
	if n := m.Wait(1, time.Millisecond); n != 0 {
		t.Errorf("Wait = %d: the GETACK is not acknowledged", n)
	}
	if v := mustDo(t, m, "WAITAOF", "0", "1", "1"); fmt.Sprint(v) != "[0 0]" {
		t.Errorf("WAITAOF = %v", v)
	}
	r.send("REPLCONF", "ACK", strconv.FormatInt(m.Offset(), 10), "FACK", strconv.FormatInt(m.Offset(), 10))
	if v := mustDo(t, m, "WAITAOF", "0", "1", "10000"); fmt.Sprint(v) != "[0 1]" {
		t.Errorf("WAITAOF = %v", v)
	}
	if v := mustDo(t, m, "WAIT", "2", "1"); v != int64(1) {
		t.Errorf("WAIT for two = %v", v)
	}
	mustRefuse(t, m, "timeout is negative", "WAIT", "1", "-1")
	mustRefuse(t, m, "numlocal", "WAITAOF", "1", "0", "0")
}

func TestCloseEndsEverybodyWhoWaits(t *testing.T) {
	m := startMaster(t, Config{})
	r := dialRaw(t, m)
	r.fullSync(m)
	done := make(chan int)
	go func() { done <- m.Wait(5, 0) }()
	r.wants(cmds("REPLCONF GETACK *"))
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	<-done
	r.ends()
	if _, err := net.Dial("tcp", m.Addr()); err == nil {
		t.Error("it still listens")
	}
}

// conversation is everything a replica sends before it is one, at once.
func conversation() []byte {
	var b []byte
	b = appendCommand(b, "PING")
	b = appendCommand(b, "REPLCONF", "listening-port", "7401")
	b = appendCommand(b, "REPLCONF", "capa", "eof", "capa", "psync2")
	return appendCommand(b, "PSYNC", "?", "-1")
}

func TestCutAfterCutsAtExactlyThatByteWhereverItIs(t *testing.T) {
	for _, diskless := range []bool{false, true} {
		m := startMaster(t, Config{Diskless: diskless})
		for i := range 5 {
			mustDo(t, m, "SET", fmt.Sprint("key", i), "value")
		}
		talk := func(cut int64) []byte {
			m.SetFaults(Faults{CutAfter: cut, ByteAtATime: cut%2 == 0})
			r := dialRaw(t, m)
			if _, err := r.c.Write(conversation()); err != nil {
				t.Fatal(err)
			}
			var got []byte
			b := make([]byte, 1<<10)
			for cut == 0 || int64(len(got)) < cut {
				n, err := r.r.Read(b)
				got = append(got, b[:n]...)
				if err != nil || cut == 0 && bytes.Contains(got, []byte("SELECT")) {
					break
				}
				if bytes.Contains(got, []byte("FULLRESYNC")) {
					// An acknowledgement and a write at each step, so that the stream follows. The
					// connection may be cut already.
					_, _ = r.c.Write(appendCommand(nil, "REPLCONF", "ACK", "0"))
					mustDo(t, m, "SET", "k", "v")
				}
			}
			if cut > 0 {
				got = append(got, r.ends()...)
			} else {
				r.c.Close()
			}
			return got
		}
		whole := int64(len(talk(0)))
		for cut := int64(1); cut < whole; cut += 7 {
			if got := talk(cut); int64(len(got)) != cut {
				t.Fatalf("diskless=%v, CutAfter %d: %d bytes came: %q", diskless, cut, len(got), got)
			}
		}
		m.SetFaults(Faults{})
		if got := talk(0); !bytes.Contains(got, []byte("SELECT")) {
			t.Errorf("without faults: %q", got)
		}
	}
}

func TestByteAtATimeChangesNothingButTheSizeOfTheWrites(t *testing.T) {
	m := startMaster(t, Config{Diskless: true, Faults: Faults{ByteAtATime: true}})
	mustDo(t, m, "SET", "a", "1")
	r := dialRaw(t, m)
	rdb, _ := r.fullSync(m, "eof", "psync2")
	r.send("REPLCONF", "ACK", "0")
	mustDo(t, m, "SET", "b", "2")
	sameDump(t, m.Dump(), load(t, rdb, r.stream(m, 0)).Dump())
}

func TestFaultsReplaceReplies(t *testing.T) {
	m := startMaster(t, Config{RequirePass: "p"})
	steps := map[string][]string{
		"PING": {"PING"}, "AUTH": {"AUTH", "p"}, "REPLCONF listening-port": {"REPLCONF", "listening-port", "1"},
		"REPLCONF capa": {"REPLCONF", "capa", "eof"}, "REPLCONF version": {"REPLCONF", "VERSION", "8"},
		"PSYNC": {"PSYNC", "?", "-1"}, "SYNC": {"SYNC"},
	}
	for step, args := range steps {
		m.SetFaults(Faults{Replies: map[string]string{step: "-LOADING " + step + "\r\n"}})
		r := dialRaw(t, m)
		r.ask("-LOADING "+step, args...)
		r.c.Close()
	}
	m.SetFaults(Faults{Replies: map[string]string{"RDB": "-ERR the save failed\r\n"}})
	r := dialRaw(t, m)
	r.ask("+OK", "AUTH", "p")
	r.send("PSYNC", "?", "-1")
	r.line()
	if got := r.ends(); string(got) != "-ERR the save failed\r\n" {
		t.Errorf("instead of the snapshot: %q", got)
	}
}

func TestFaultsSpareThoseWhoAreNoReplicas(t *testing.T) {
	m := startMaster(t, Config{Faults: Faults{CutAfter: 20, Replies: map[string]string{"PING": "-LOADING\r\n"}}})
	client := dialRaw(t, m)
	client.ask("+OK", "SET", "a", "1")
	for range 10 {
		client.ask("+PONG", "PING")
	}
}

func TestDelayPassesBeforeEachReply(t *testing.T) {
	const delay = 20 * time.Millisecond
	m := startMaster(t, Config{Faults: Faults{Delay: delay}})
	r := dialRaw(t, m)
	begin := time.Now()
	r.ask("+PONG", "PING")
	r.ask("+OK", "REPLCONF", "capa", "eof")
	if took := time.Since(begin); took < 2*delay {
		t.Errorf("two replies took %v", took)
	}
}

func TestACorruptSnapshotFailsItsChecksum(t *testing.T) {
	m := startMaster(t, Config{Faults: Faults{CorruptRDB: true}})
	for i := range 50 {
		mustDo(t, m, "SET", fmt.Sprint("key", i), "value")
	}
	rdb, _ := dialRaw(t, m).fullSync(m)
	if err := newEngine(t).LoadRDB(bytes.NewReader(rdb)); err == nil {
		t.Error("it loads")
	}
}

func TestAUTHIsRequiredWhereAPasswordIsSet(t *testing.T) {
	t.Run("a password alone", func(t *testing.T) {
		m := startMaster(t, Config{RequirePass: "p"})
		r := dialRaw(t, m)
		for _, args := range [][]string{{"PING"}, {"REPLCONF", "capa", "eof"}, {"PSYNC", "?", "-1"}, {"GET", "a"}, {"MULTI"}, {"WAIT", "0", "0"}} {
			r.ask("-NOAUTH Authentication required.", args...)
		}
		r.ask("-"+wrongPass, "AUTH", "q")
		r.ask("-"+wrongPass, "AUTH", "other", "p")
		r.ask("+OK", "AUTH", "default", "p")
		r.ask("+PONG", "PING")
	})
	t.Run("a user", func(t *testing.T) {
		m := startMaster(t, Config{RequirePass: "p", MasterUser: "u"})
		r := dialRaw(t, m)
		r.ask("-"+wrongPass, "AUTH", "p")
		r.ask("+OK", "AUTH", "u", "p")
		r.fullSync(m)
	})
	t.Run("none", func(t *testing.T) {
		m := startMaster(t, Config{})
		r := dialRaw(t, m)
		r.send("AUTH", "p")
		if got := r.line(); !strings.HasPrefix(got, "-ERR AUTH <password> called without any password configured") {
			t.Error(got)
		}
	})
}
