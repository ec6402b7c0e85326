package minimaster

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"replicad/integration/poll"
	"replicad/replica/rdb"
)

// line is the line of INFO that begins with a word.
func line(m *Master, begin string) string {
	s, _ := m.Do("INFO", "replication")
	for l := range strings.Lines(s.(string)) {
		if strings.HasPrefix(l, begin) {
			return strings.TrimSpace(l)
		}
	}
	return ""
}

// queued is how many bytes wait for each replica, by its address.
func queued(m *Master) map[string]int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := map[string]int{}
	for st := range m.streams {
		n[st.conn.RemoteAddr().String()] = len(st.out)
	}
	return n
}

func TestTheHandshakeIsAnsweredAsRedisAnswersIt(t *testing.T) {
	m := startMaster(t, Config{})
	r := dialRaw(t, m)
	r.ask("+PONG", "PING")
	r.ask("+OK", "REPLCONF", "listening-port", "7401")
	r.ask("+OK", "REPLCONF", "ip-address", "10.0.0.7")
	r.ask("+OK", "REPLCONF", "capa", "eof", "capa", "psync2")
	r.ask("+OK", "REPLCONF", "version", "8.1.0")
	r.ask("-ERR Unrecognized REPLCONF option: nonsense", "REPLCONF", "nonsense", "1")
	r.ask("-ERR syntax error", "REPLCONF", "capa", "eof", "capa")
	r.ask("-ERR value is not an integer or out of range", "PSYNC", "?", "x")
	r.send("PSYNC", "?", "-1")
	r.answer(m)
	poll.Until(t, "the replica is online", func() bool { return strings.Contains(line(m, "slave0"), "state=online") })
	r.send("REPLCONF", "ACK", "7")
	poll.Until(t, "the acknowledgement has come", func() bool { return strings.Contains(line(m, "slave0"), "offset=7") })
	if got := line(m, "slave0"); got != "slave0:ip=10.0.0.7,port=7401,state=online,offset=7,lag=0" {
		t.Errorf("%s", got)
	}
}

func TestADisklessMasterSendsNothingBeforeTheFirstAck(t *testing.T) {
	m := startMaster(t, Config{Diskless: true})
	r := dialRaw(t, m)
	r.fullSync(m, "eof")
	poll.Until(t, "the replica is online", func() bool { return strings.Contains(line(m, "slave0"), "state=online") })
	mustDo(t, m, "SET", "a", "1")
	want := cmds("SELECT 0", "SET a 1")
	if q := queued(m)[r.c.LocalAddr().String()]; q != len(want) {
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
	var rdb []byte
	m := startMaster(t, Config{OnSnapshot: func(_ int64, b []byte) { rdb = b }})
	mustDo(t, m, "SET", "a", "1")
	r := dialRaw(t, m)
	r.send("SYNC")
	if got := r.payload(); !bytes.Equal(got, rdb) || len(got) == 0 {
		t.Errorf("the payload is %q, the snapshot %q", got, rdb)
	}
	mustDo(t, m, "SET", "a", "2")
	r.wants(cmds("SELECT 0", "SET a 2"))
}

func TestNewlinesKeepAReplicaAliveWhileADiskBasedMasterSaves(t *testing.T) {
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
	m := startMaster(t, Config{KeepAlive: 5 * time.Millisecond, Faults: Faults{SaveTime: 200 * time.Millisecond}})
	mustDo(t, m, "SET", "before", "it")
	r := dialRaw(t, m)
	r.send("PSYNC", "?", "-1")
	r.line()
	mustDo(t, m, "SET", "meanwhile", "it")
	if n := count(r); n < 2 {
		t.Errorf("%d newlines", n)
	}
	if rdb := r.payload(); !bytes.Contains(rdb, []byte("before")) || bytes.Contains(rdb, []byte("meanwhile")) {
		t.Errorf("the snapshot is not of the moment of +FULLRESYNC: %q", rdb)
	}
	r.wants(cmds("SELECT 0", "SET meanwhile it"))
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

func TestPSYNCBeforeTheFirstReplicaIsAFullSyncSinceNothingWasCounted(t *testing.T) {
	m := startMaster(t, Config{})
	mustDo(t, m, "SET", "a", "1")
	r := dialRaw(t, m)
	r.ask("+FULLRESYNC "+m.ReplID()+" 0", "PSYNC", m.ReplID(), "1")
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

func TestCutReplicasClosesEveryReplicaAndNoClient(t *testing.T) {
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
	if n := m.Replicas(); n != 0 {
		t.Errorf("%d replicas", n)
	}
	client.ask("+PONG", "PING")
}

func TestAReplicaThatLeavesIsForgotten(t *testing.T) {
	m := startMaster(t, Config{})
	r := dialRaw(t, m)
	r.fullSync(m)
	r.c.Close()
	poll.Until(t, "it is forgotten", func() bool { return m.Replicas() == 0 })
}

func TestASlowReplicaIsDisconnectedAndNobodyWaitsForIt(t *testing.T) {
	m := startMaster(t, Config{OutputLimit: 1 << 20})
	slow, quick := dialRaw(t, m), dialRaw(t, m)
	slow.fullSync(m)
	quick.fullSync(m)
	go func() { _, _ = io.Copy(io.Discard, quick.r) }()
	value := strings.Repeat("x", 64<<10)
	// The kernel's buffers swallow some MiB on their own.
	poll.Until(t, "the slow one is gone", func() bool {
		mustDo(t, m, "SET", "k", value)
		poll.Until(t, "the quick one's queue drains", func() bool { return queued(m)[quick.c.LocalAddr().String()] < 512<<10 })
		return m.Replicas() == 1
	})
	if _, ok := queued(m)[quick.c.LocalAddr().String()]; !ok {
		t.Error("the quick one is gone")
	}
}

func TestWaitAsksForAcknowledgementsAndCountsThem(t *testing.T) {
	m := startMaster(t, Config{})
	if got := m.Wait(0, 0); got != 0 {
		t.Errorf("Wait(0) = %v", got)
	}
	r := dialRaw(t, m)
	r.fullSync(m)
	mustDo(t, m, "SET", "a", "1")
	want := cmds("SELECT 0", "SET a 1")
	r.wants(want)

	got := make(chan int, 1)
	go func() { got <- m.Wait(1, 0) }()
	r.wants(cmds("REPLCONF GETACK *"))
	r.send("REPLCONF", "ACK", strconv.Itoa(len(want)-1)) // not enough
	r.send("REPLCONF", "ACK", strconv.Itoa(len(want)), "FACK", "10")
	if n := <-got; n != 1 {
		t.Errorf("Wait = %d, want 1", n)
	}
	// GETACK counts, too, and is not acknowledged.
	if n := m.Wait(1, time.Millisecond); n != 0 {
		t.Errorf("Wait = %d: the GETACK is not acknowledged", n)
	}
	r.send("REPLCONF", "ACK", strconv.FormatInt(m.Offset(), 10))
	r.read(len(cmds("REPLCONF GETACK *")))
	poll.Until(t, "the acknowledgement has come", func() bool { return strings.Contains(line(m, "slave0"), fmt.Sprint("offset=", m.Offset())) })
	if n := m.Wait(1, 0); n != 1 {
		t.Errorf("Wait = %d, want 1", n)
	}
	if n := m.Wait(2, time.Millisecond); n != 1 {
		t.Errorf("Wait for two = %d", n)
	}
}

func TestTheBacklogIsWhatEveryReplicaWasSent(t *testing.T) {
	m := startMaster(t, Config{BacklogSize: 100})
	if first, stream := m.Backlog(); first != 1 || stream != nil {
		t.Errorf("before the first replica: %d, %q", first, stream)
	}
	r := dialRaw(t, m)
	r.fullSync(m)
	mustDo(t, m, "SET", "a", "1")
	sent := r.stream(m, 0)
	if first, stream := m.Backlog(); first != 1 || !bytes.Equal(stream, sent) {
		t.Errorf("%d, %q, want 1, %q", first, stream, sent)
	}
	for i := range 30 {
		mustDo(t, m, "SET", "a", strconv.Itoa(i))
	}
	if first, stream := m.Backlog(); first != m.Offset()-99 || len(stream) != 100 {
		t.Errorf("%d, %d bytes", first, len(stream))
	}
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
					// An acknowledgement and a write at each step, so that the
					// stream follows. The connection may be cut already.
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
	var rdb []byte
	m := startMaster(t, Config{Diskless: true, Faults: Faults{ByteAtATime: true}, OnSnapshot: func(_ int64, b []byte) { rdb = b }})
	mustDo(t, m, "SET", "a", "1")
	r := dialRaw(t, m)
	if got, _ := r.fullSync(m, "eof", "psync2"); !bytes.Equal(got, rdb) {
		t.Errorf("the payload is %q, the snapshot %q", got, rdb)
	}
	r.send("REPLCONF", "ACK", "0")
	mustDo(t, m, "SET", "b", "2")
	r.wants(cmds("SELECT 0", "SET b 2"))
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

func TestACorruptSnapshotFailsItsChecksum(t *testing.T) {
	m := startMaster(t, Config{Faults: Faults{CorruptRDB: true}})
	for i := range 50 {
		mustDo(t, m, "SET", fmt.Sprint("key", i), "value")
	}
	payload, _ := dialRaw(t, m).fullSync(m)
	if _, err := rdb.VerifyChecksum(t.Context(), bytes.NewReader(payload), int64(len(payload))); !errors.Is(err, rdb.ErrChecksum) {
		t.Errorf("%v", err)
	}
}

const wrongPass = "-WRONGPASS invalid username-password pair or user is disabled."

func TestAUTHIsRequiredWhereAPasswordIsSet(t *testing.T) {
	t.Run("a password alone", func(t *testing.T) {
		m := startMaster(t, Config{RequirePass: "p"})
		r := dialRaw(t, m)
		for _, args := range [][]string{{"PING"}, {"REPLCONF", "capa", "eof"}, {"PSYNC", "?", "-1"}, {"GET", "a"}, {"MULTI"}, {"WAIT", "0", "0"}, {"SYNC"}} {
			r.ask("-NOAUTH Authentication required.", args...)
		}
		r.ask(wrongPass, "AUTH", "q")
		r.ask(wrongPass, "AUTH", "other", "p")
		r.ask("+OK", "AUTH", "default", "p")
		r.ask("+PONG", "PING")
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

func TestAReplicaThatWantsTheSnapshotAloneGetsNoStreamAndIsCutBehindIt(t *testing.T) {
	for _, diskless := range []bool{false, true} {
		m := startMaster(t, Config{Diskless: diskless})
		mustDo(t, m, "SET", "before", "it")
		r := dialRaw(t, m)
		r.ask("+OK", "REPLCONF", "rdb-only", "1")
		r.ask("+OK", "REPLCONF", "capa", "eof")
		r.send("PSYNC", "?", "-1")
		r.line()
		mustDo(t, m, "SET", "meanwhile", "it")
		if rdb := r.payload(); !bytes.Contains(rdb, []byte("before")) {
			t.Errorf("the payload is %q", rdb)
		}
		if rest := r.ends(); len(rest) > 0 {
			t.Errorf("behind the payload came %q", rest)
		}
		poll.Until(t, "it is gone", func() bool { return m.Replicas() == 0 })
	}
}
