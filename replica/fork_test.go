package replica_test

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"replicad/replica"
)

// infoOf is the reply to INFO replication, as a master sends it.
func infoOf(role, id string, offset int64, id2 string, second, backlog int64) string {
	if id2 == "" {
		id2 = strings.Repeat("0", 40)
	}
	text := fmt.Sprintf("# Replication\r\nrole:%s\r\nconnected_slaves:1\r\nslave0:ip=127.0.0.1,port=1,state=online,offset=3,lag=1\r\n"+
		"master_failover_state:no-failover\r\nmaster_replid:%s\r\nmaster_replid2:%s\r\nmaster_repl_offset:%d\r\nsecond_repl_offset:%d\r\n"+
		"repl_backlog_active:1\r\nrepl_backlog_size:1048576\r\nrepl_backlog_first_byte_offset:%d\r\nrepl_backlog_histlen:9\r\n",
		role, id, id2, offset, second, backlog)
	return fmt.Sprintf("$%d\r\n%s\r\n", len(text), text)
}

// resuming is a link with a history up to offset 1000, connected to a scripted
// master that has answered the handshake but for INFO.
func resuming(t *testing.T, opt storeOptions) (*rig, net.Listener, *talk) {
	t.Helper()
	ln := listen(t)
	opt.position = &replica.Position{ReplID: replID, Offset: 1000, DB: 0}
	r := newRig(t, replica.Config{}, opt, ln.Addr())
	r.start()
	k := accept(t, ln)
	k.say(everyStep)
	return r, ln, k
}

// forkAt is a store's answer to ForkAt, whatever the master says.
func forkAt(offset int64, ok bool) func(replica.Replication) (replica.Position, bool) {
	return func(replica.Replication) (replica.Position, bool) {
		return replica.Position{ReplID: replID, Offset: offset, DB: 3}, ok
	}
}

func TestAMasterThatHasAllOfTheHistoryIsAskedForTheNextByte(t *testing.T) {
	t.Parallel()
	for name, info := range map[string]string{
		"under its present id": infoOf("master", replID, 1000, "", -1, 1),
		"under the id before":  infoOf("master", otherID, 5000, replID, 1001, 1),
		"it did not tell":      "-NOPERM this user has no permissions to run the 'info' command\r\n",
		"an empty answer":      "$0\r\n\r\n",
		"a proxy says OK":      "+OK\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, _, k := resuming(t, storeOptions{fork: func(replica.Replication) (replica.Position, bool) {
				t.Error("the store was asked for a fork")
				return replica.Position{}, false
			}})
			k.say(info)
			if got := k.hear("INFO"); len(got) != 2 || got[1] != "replication" {
				t.Errorf("got %q", got)
			}
			if got := k.hear("PSYNC"); got[1] != replID || got[2] != "1001" {
				t.Errorf("got %q", got)
			}
			k.say("+CONTINUE\r\n" + setFoo)
			r.wait("the stream", func() bool { return r.store.taken() == 1031 })
			r.stop()
			r.checkPath()
			if r.count(replica.Forked) != 0 || len(r.failures) != 0 {
				t.Errorf("it forked\n%s", r.story())
			}
		})
	}
}

func TestAMasterThatHasLostTheEndIsAskedForTheByteBehindTheFork(t *testing.T) {
	t.Parallel()
	var told atomic.Pointer[replica.Replication]
	gate := make(chan struct{})
	r, _, k := resuming(t, storeOptions{gate: gate, fork: func(m replica.Replication) (replica.Position, bool) {
		told.Store(&m)
		return replica.Position{ReplID: replID, Offset: 900, DB: 3}, true
	}})
	info := infoOf("master", otherID, 5000, replID, 901, 77)
	for i := range info { // in pieces of one byte
		k.say(info[i : i+1])
	}
	if got := k.hear("PSYNC"); got[1] != replID || got[2] != "901" {
		t.Fatalf("got %q", got)
	}
	if m := *told.Load(); m != (replica.Replication{Role: "master", ReplID: otherID, Offset: 5000, ReplID2: replID, Offset2: 900, Backlog: 77}) {
		t.Errorf("the store was told %+v", m)
	}
	k.say("+CONTINUE " + otherID + "\r\n" + setFoo)
	// The store goes back: meanwhile the fork is acknowledged, and nothing is
	// read.
	for range 2 {
		if a := k.nextAck(); a.offset != 900 {
			t.Errorf("ACK %d while the store goes back", a.offset)
		}
	}
	r.w.do(func() {
		if r.place() != "SYNC/PSYNC" || r.store.total != 0 {
			t.Errorf("in %s, %d bytes are taken", r.place(), r.store.total)
		}
	})
	close(gate)
	k.hearAck(931)
	r.stop()
	r.checkPath()
	r.w.do(func() {
		s := r.store
		if string(s.stream) != setFoo || s.start.Offset != 900 || s.ids[len(s.ids)-1] != (replica.Position{ReplID: otherID, Offset: 900}) {
			t.Errorf("the store holds %q behind %+v, ids %+v", s.stream, s.start, s.ids)
		}
		for _, e := range r.events {
			if e.Kind == replica.Acknowledged && e.Offset > 931 {
				t.Errorf("ACK %d", e.Offset)
			}
			if e.Kind == replica.Forked && (e.Offset != 900 || e.Received != 1000 || e.Text != otherID) {
				t.Errorf("Forked: %+v", e)
			}
		}
	})
	if r.count(replica.Forked) != 1 || r.count(replica.FullSyncBegun) != 0 {
		t.Errorf("%d forks\n%s", r.count(replica.Forked), r.story())
	}
}

func TestAFullSyncThatINFODidNotForetellIsAcceptedTheSecondTime(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		info  string
		fork  bool
		twice bool
		why   string
	}{
		"the master should have continued":    {infoOf("master", replID, 1000, "", -1, 1), false, true, "backlog does not reach"},
		"it should have continued at a fork":  {infoOf("master", otherID, 5000, replID, 901, 1), true, true, "histories part at offset 900"},
		"its backlog does not reach the fork": {infoOf("master", otherID, 5000, replID, 901, 902), true, false, "backlog begins at 902"},
		"it has no backlog":                   {infoOf("master", otherID, 5000, replID, 901, 0), true, false, "histories part"},
		"it has another history":              {infoOf("master", otherID, 5000, "", -1, 1), false, false, "another history"},
		"INFO is not permitted":               {"-NOPERM no\r\n", false, false, "INFO is not permitted"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, ln, k := resuming(t, storeOptions{fork: forkAt(900, c.fork)})
			answer := "+FULLRESYNC " + otherID + " 7000\r\n"
			if strings.Contains(c.info, "\nmaster_replid:"+replID) {
				answer = "+FULLRESYNC " + replID + " 7000\r\n"
			}
			k.say(c.info)
			k.hear("PSYNC")
			k.say(answer)
			if c.twice {
				k = accept(t, ln)
				k.say(everyStep + c.info)
				k.hear("PSYNC")
				k.say(answer)
			}
			k.say("$18\r\n" + payload)
			r.waitPlace("SYNC/STREAM")
			r.stop()
			r.checkPath()
			if n := r.count(replica.FullSyncBegun); n != 1 || len(r.failures) != 0 {
				t.Errorf("%d full syncs\n%s", n, r.story())
			}
			for _, e := range r.events {
				if e.Kind == replica.FullSyncBegun && !strings.Contains(e.Text, c.why) {
					t.Errorf("it says why: %q", e.Text)
				}
			}
		})
	}
}

func TestAReplicaThatIsBehindInTheSameHistoryIsAskedAgain(t *testing.T) {
	t.Parallel()
	r, _, k := resuming(t, storeOptions{fork: forkAt(0, false)})
	k.say(infoOf("slave", replID, 950, "", -1, 1))
	k.hear("INFO")
	k.hear("INFO")
	k.say(infoOf("slave", replID, 1020, "", -1, 1))
	if got := k.hear("PSYNC"); got[2] != "1001" {
		t.Errorf("got %q", got)
	}
	k.say("+CONTINUE\r\n")
	r.waitPlace("SYNC/STREAM")
	r.stop()
	r.checkPath()
}

func TestAMasterThatRefusedINFOIsNotAskedAgainUnlessSomethingChanged(t *testing.T) {
	t.Parallel()
	r, ln, k := resuming(t, storeOptions{fork: forkAt(0, false)})
	k.say("-NOPERM no\r\n")
	k.hear("INFO")
	k.hear("PSYNC")
	k.conn.Close()
	asks := func(said string) bool {
		k := accept(t, ln)
		k.say(everyStep + said)
		for {
			cmd, err := k.command()
			if err != nil {
				t.Fatal(err)
			}
			if cmd[0] == "INFO" || cmd[0] == "PSYNC" {
				k.conn.Close()
				return cmd[0] == "INFO"
			}
		}
	}
	if asks("") {
		t.Error("it asked again")
	}
	r.on(func() { r.link.SetCredentials("", "") })
	if !asks("-NOPERM no\r\n") {
		t.Error("with other credentials it did not ask again")
	}
	r.stop()
}

func TestAStoreThatCanNotGoBackEndsTheAttempt(t *testing.T) {
	t.Parallel()
	r, ln, k := resuming(t, storeOptions{fork: forkAt(900, true)})
	r.w.do(func() { r.store.resetErr = errors.New("no room for a fork") })
	info := infoOf("master", otherID, 5000, replID, 901, 1)
	k.say(info)
	k.hear("PSYNC")
	k.say("+CONTINUE " + otherID + "\r\n" + setFoo)
	r.waitFailures(1)
	if f := r.failure(0); !errors.Is(f, replica.ErrStore) {
		t.Errorf("%v", f)
	}
	r.w.do(func() { r.store.resetErr = nil })
	k = accept(t, ln)
	k.say(everyStep + info)
	if got := k.hear("PSYNC"); got[2] != "901" {
		t.Errorf("got %q", got)
	}
	k.say("+CONTINUE " + otherID + "\r\n" + setFoo)
	k.hearAck(931)
	r.stop()
	r.checkPath()
}

func TestAConnectionThatEndsWhileTheStoreGoesBackIsFollowedByOneAtTheFork(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	r, ln, k := resuming(t, storeOptions{gate: gate, fork: forkAt(900, true)})
	k.say(infoOf("master", otherID, 5000, replID, 901, 1))
	k.hear("PSYNC")
	k.say("+CONTINUE " + otherID + "\r\n")
	k.nextAck()
	r.on(r.link.Cut)
	close(gate)
	k = accept(t, ln)
	k.say(everyStep + infoOf("master", otherID, 5000, replID, 901, 1))
	if got := k.hear("PSYNC"); got[2] != "901" {
		t.Errorf("got %q", got)
	}
	k.say("+CONTINUE " + otherID + "\r\n" + setFoo)
	k.hearAck(931)
	r.stop()
	r.checkPath()
}

func TestAnAnswerToINFOThatIsNoneEndsTheAttempt(t *testing.T) {
	t.Parallel()
	for _, said := range []string{
		":5\r\n", "$-1\r\n", "$x\r\n", "$9223372036854775807\r\n" + strings.Repeat("x", 70_000), "$3\r\nabcdefgh\r\n",
		infoOf("master", otherID, 5000, replID, 901, 1) + "+OK\r\n",
	} {
		gate := make(chan struct{})
		r, _, k := resuming(t, storeOptions{fork: func(replica.Replication) (replica.Position, bool) {
			<-gate
			return replica.Position{}, false
		}})
		k.say(said)
		r.waitFailures(1)
		if f := r.failure(0); !errors.Is(f, replica.ErrUnexpected) {
			t.Errorf("%.20q: %v", said, f)
		}
		close(gate)
		r.stop()
		r.checkPath()
	}
}

func FuzzInfo(f *testing.F) {
	f.Add(infoOf("master", replID, 1000, otherID, 500, 1))
	f.Add("$2\r\n\r\n\r\n")
	f.Add("$" + strconv.Itoa(1<<40) + "\r\nmaster_replid:")
	f.Fuzz(func(t *testing.T, said string) {
		ln := listen(t)
		r := newRig(t, replica.Config{}, storeOptions{
			position: &replica.Position{ReplID: replID, Offset: 1000}, fork: forkAt(900, len(said)%2 == 0),
		}, ln.Addr())
		r.start()
		k := accept(t, ln)
		k.say(everyStep + said)
		k.conn.Close()
		r.waitFailures(1)
		r.stop()
		r.checkPath()
	})
}

func TestAServerThatDoesNotAnswerINFOIsAskedForTheNextByteAllTheSame(t *testing.T) {
	t.Parallel()
	r, ln, k := resuming(t, storeOptions{fork: forkAt(0, false)})
	if got := k.hear("PSYNC"); got[2] != "1001" {
		t.Errorf("got %q", got)
	}
	k.say("+CONTINUE\r\n")
	r.waitPlace("SYNC/STREAM")
	// It may have been busy: a failover that comes later finds its fork.
	k.conn.Close()
	k = accept(t, ln)
	k.say(everyStep)
	k.hear("INFO")
	k.say(infoOf("master", replID, 1000, "", -1, 1))
	k.hear("PSYNC")
	k.say("+CONTINUE\r\n")
	r.waitPlace("SYNC/STREAM")
	r.stop()
	r.checkPath()
}

func TestTheWaitForAReplicaThatIsBehindEnds(t *testing.T) {
	t.Parallel()
	behind := infoOf("slave", replID, 950, "", -1, 1)
	for name, c := range map[string]struct {
		then string // the answers behind the first
		next string // the offset that PSYNC names
		slow bool
	}{
		"promoted where it is":           {infoOf("master", otherID, 960, replID, 951, 1), "951", false},
		"INFO is refused":                {"-NOPERM no\r\n", "1001", false},
		"INFO is answered no more":       {"", "1001", false},
		"behind until the patience ends": {behind, "951", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.slow && testing.Short() {
				t.Skip("it takes 10 seconds")
			}
			r, _, k := resuming(t, storeOptions{fork: func(m replica.Replication) (replica.Position, bool) {
				return replica.Position{ReplID: replID, Offset: 950, DB: 3}, true
			}})
			k.say(behind)
			asked := 0
			for {
				cmd, err := k.command()
				if err != nil {
					t.Fatal(err)
				}
				if cmd[0] == "PSYNC" {
					if cmd[2] != c.next {
						t.Errorf("got %q", cmd)
					}
					break
				}
				if cmd[0] != "INFO" {
					continue
				}
				if asked++; asked > 1 {
					k.say(c.then)
				}
			}
			if c.slow != (asked > 3) {
				t.Errorf("asked %d times", asked)
			}
			k.say("+CONTINUE " + otherID + "\r\n")
			r.waitPlace("SYNC/STREAM")
			r.stop()
			r.checkPath()
		})
	}
}
