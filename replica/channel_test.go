package replica_test

import (
	"errors"
	"net"
	"slices"
	"strings"
	"testing"

	"replicad/replica"
)

const (
	endOff  = "$ENDOFF:1000 " + replID + " 0 42\r\n"
	eofHead = "$EOF:" + eofMark + "\r\n"
)

// dialect is how one server takes the RDB to a connection of its own.
type dialect struct {
	answer string // to PSYNC on the main channel
	names  []string
	asks   []string // the RDB channel, for its payload
	head   string   // what is sent before $EOF
}

func dialects() map[string]dialect {
	return map[string]dialect{
		"Redis":  {"+RDBCHANNELSYNC 77\r\n", []string{"main-ch-client-id", "77"}, []string{"PSYNC", "?", "-1"}, "+FULLRESYNC " + replID + " 1000\r\n"},
		"Valkey": {"+DUALCHANNELSYNC\r\n", nil, []string{"SYNC"}, endOff},
	}
}

// open brings a link to where the RDB channel has asked for its payload.
func (d dialect) open(t *testing.T, ln net.Listener) (main, side *talk) {
	t.Helper()
	main = accept(t, ln)
	main.say(everyStep)
	main.hear("PING")
	main.hear("REPLCONF")
	if got := main.hear("REPLCONF"); strings.Join(got[1:], " ") != "capa eof capa psync2 capa rdb-channel-repl capa dual-channel" {
		t.Errorf("got %q", got)
	}
	main.hear("PSYNC")
	main.say(d.answer)
	side = accept(t, ln)
	side.say("+PONG\r\n+OK\r\n")
	side.hear("PING")
	want := slices.Concat([]string{"capa", "eof", "rdb-only", "1", "rdb-channel", "1"}, d.names, []string{"listening-port", "0"})
	if got := side.hear("REPLCONF"); !slices.Equal(got[1:], want) {
		t.Errorf("the RDB channel says %q, want %q", got, want)
	}
	if got := side.hear(d.asks[0]); !slices.Equal(got, d.asks) {
		t.Errorf("the RDB channel asks %q", got)
	}
	return main, side
}

// stream has the main channel's stream begin.
func (d dialect) stream(t *testing.T, main *talk, rest string) {
	t.Helper()
	if d.names == nil {
		if got := main.hear("REPLCONF"); !slices.Equal(got[1:], []string{"set-rdb-client-id", "42"}) {
			t.Errorf("got %q", got)
		}
		main.say("+OK\r\n") // before which PSYNC would be refused
		if got := main.hear("PSYNC"); !slices.Equal(got[1:], []string{replID, "1001"}) {
			t.Errorf("got %q", got)
		}
		rest = "+CONTINUE " + replID + "\r\n" + rest
	}
	main.say(rest)
}

func forEachDialect(t *testing.T, f func(t *testing.T, d dialect, ln net.Listener)) {
	for name, d := range dialects() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, d, listen(t))
		})
	}
}

func TestTheStreamComesBesideTheRDBOnAConnectionOfItsOwn(t *testing.T) {
	t.Parallel()
	forEachDialect(t, func(t *testing.T, d dialect, ln net.Listener) {
		for _, splice := range []bool{false, true} {
			gate := make(chan struct{})
			r := newRig(t, replica.Config{}, storeOptions{gate: gate, splice: splice}, ln.Addr())
			r.start()
			main, side := d.open(t, ln)
			side.say(d.head + eofHead + payload[:9])
			if d.names != nil {
				main.say(setFoo) // before the database is known
			}
			side.say(payload[9:])
			d.stream(t, main, setFoo)
			want := int64(1031)
			if d.names != nil {
				want += 31
			}
			r.wait("the stream beside the RDB", func() bool { return r.store.taken() == want && r.store.commits == 0 })
			r.w.do(func() {
				if r.count(replica.Acknowledged) != 0 || r.place() != "SYNC/TRANSFER" {
					t.Errorf("in %s, %d ACKs before the RDB's end", r.place(), r.count(replica.Acknowledged))
				}
			})
			side.say(eofMark)
			for range 2 { // the base is not in place
				if a := main.nextAck(); a.offset != 0 {
					t.Errorf("ACK %d before the base is in place", a.offset)
				}
			}
			main.say(getAck)
			r.wait("GETACK", func() bool { return r.store.taken() == want+37 })
			close(gate)
			main.hearAck(want + 37)
			main.say(setFoo)
			r.wait("more of the stream", func() bool { return r.store.taken() == want+37+31 })
			r.stop()
			r.checkPath()
			if string(r.store.payload) != payload || r.store.commits != 1 || len(r.failures) != 0 {
				t.Errorf("the base has %q\n%s", r.store.payload, r.story())
			}
			if r.count(replica.FullSyncBegun) != 1 || r.count(replica.FullSyncDone) != 1 || r.count(replica.TransferBegun) != 1 {
				t.Errorf("the transfer is not told once\n%s", r.story())
			}
		}
	})
}

func TestAMainChannelThatBreaksIsResumedWhileTheRDBComes(t *testing.T) {
	t.Parallel()
	forEachDialect(t, func(t *testing.T, d dialect, ln net.Listener) {
		r := newRig(t, replica.Config{}, storeOptions{}, ln.Addr())
		r.start()
		main, side := d.open(t, ln)
		side.say(d.head + eofHead + payload)
		d.stream(t, main, setFoo)
		r.wait("the stream", func() bool { return r.store.taken() == 1031 })
		main.conn.Close()
		again := accept(t, ln)
		again.say(everyStep)
		if got := again.hear("PSYNC"); !slices.Equal(got[1:], []string{replID, "1032"}) {
			t.Fatalf("got %q", got)
		}
		again.say("+CONTINUE\r\n" + setFoo)
		r.wait("the rest", func() bool { return r.store.taken() == 1062 })
		r.w.do(func() {
			if n := r.count(replica.Acknowledged); n != 0 {
				t.Errorf("%d ACKs before the RDB's end", n)
			}
		})
		side.say(eofMark)
		again.hearAck(1062)
		r.stop()
		r.checkPath()
		if string(r.store.payload) != payload || r.store.aborted != 0 {
			t.Errorf("the base has %q", r.store.payload)
		}
	})
}

func TestWhereTheRDBChannelBreaksBothBeginAnewAndTheThirdTakesOneConnection(t *testing.T) {
	t.Parallel()
	forEachDialect(t, func(t *testing.T, d dialect, ln net.Listener) {
		r := newRig(t, replica.Config{}, storeOptions{}, ln.Addr())
		r.start()
		for i := range 2 {
			main, side := d.open(t, ln)
			side.say(d.head + eofHead + payload[:10+4*i])
			if i == 1 {
				side.say(payload[14:])
				d.stream(t, main, setFoo)
				r.wait("the stream", func() bool { return r.store.taken() == 1031 })
			}
			side.conn.Close()
			r.waitFailures(i + 1)
			if f := r.failure(i); !errors.Is(f, replica.ErrClosed) || !strings.Contains(f.Error(), "RDB channel") {
				t.Errorf("%v", f)
			}
		}
		r.w.do(func() {
			if r.store.has || r.store.aborted != 2 {
				t.Errorf("half a history is left: %v, %d bases given up", r.store.has, r.store.aborted)
			}
		})
		k := accept(t, ln)
		k.say(everyStep)
		k.hear("PING")
		k.hear("REPLCONF")
		if got := k.hear("REPLCONF"); slices.Contains(got, "dual-channel") || slices.Contains(got, "rdb-channel-repl") {
			t.Errorf("the third time it says %q", got)
		}
		k.say(fullSync + setFoo)
		k.hearAck(1031)
		r.stop()
		r.checkPath()
	})
}

func TestWhatIsNoRDBChannelEndsTheAttempt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer, side string
		want         error
	}{
		"no client id":                    {"+RDBCHANNELSYNC\r\n", "", replica.ErrUnexpected},
		"a client id of words":            {"+RDBCHANNELSYNC x\r\n", "", replica.ErrUnexpected},
		"the RDB channel is refused":      {"+RDBCHANNELSYNC 7\r\n", "+PONG\r\n-ERR Unrecognized REPLCONF option: rdb-channel\r\n", replica.ErrReply},
		"no end offset":                   {"+DUALCHANNELSYNC\r\n", "+PONG\r\n+OK\r\n$18\r\n" + payload + strings.Repeat("x", 99), replica.ErrUnexpected},
		"an end offset of words":          {"+DUALCHANNELSYNC\r\n", "+PONG\r\n+OK\r\n$ENDOFF:x " + replID + " 0 1\r\n", replica.ErrUnexpected},
		"a negative end offset":           {"+DUALCHANNELSYNC\r\n", "+PONG\r\n+OK\r\n$ENDOFF:-5 " + replID + " 0 1\r\n", replica.ErrUnexpected},
		"an end offset of a huge history": {"+DUALCHANNELSYNC\r\n", "+PONG\r\n+OK\r\n$ENDOFF:9223372036854775807 " + replID + " 0 1\r\n", replica.ErrUnexpected},
		"no RDB":                          {"+RDBCHANNELSYNC 7\r\n", "+PONG\r\n+OK\r\n+FULLRESYNC " + replID + " 1000\r\n" + eofHead + strings.Repeat("x", 500), replica.ErrNotRDB},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ln := listen(t)
			r := newRig(t, replica.Config{}, storeOptions{}, ln.Addr())
			r.start()
			k := accept(t, ln)
			k.say(everyStep + c.answer)
			if c.side != "" {
				accept(t, ln).say(c.side)
			}
			r.waitFailures(1)
			if f := r.failure(0); !errors.Is(f, c.want) {
				t.Errorf("%v", f)
			}
			r.stop()
			r.checkPath()
			if r.store.has {
				t.Error("a history is left")
			}
		})
	}
}

func TestAnOrderOrAStopDuringAnRDBChannelLeavesNothing(t *testing.T) {
	t.Parallel()
	forEachDialect(t, func(t *testing.T, d dialect, ln net.Listener) {
		for _, begun := range []bool{false, true} {
			for _, stop := range []bool{false, true} {
				r := newRig(t, replica.Config{}, storeOptions{}, ln.Addr())
				r.start()
				main, side := d.open(t, ln)
				side.say(d.head + eofHead + payload[:9])
				r.wait("a part of the RDB", func() bool { return r.store.baseSize == 9 })
				if begun {
					side.say(payload[9:])
					d.stream(t, main, setFoo)
					r.wait("the stream", func() bool { return r.store.taken() == 1031 })
				}
				if !stop {
					r.on(func() { r.link.Follow(replica.Master{Host: "other.test", Port: 1}) })
					k := accept(t, ln)
					k.say(everyStep)
					if got := k.hear("PSYNC"); got[1] != "?" {
						t.Errorf("the other master is asked %q", got)
					}
					k.say(fullSync)
					k.hearAck(1000)
				}
				r.stop()
				r.checkPath()
				if r.store.aborted != 1 || r.store.has == stop {
					t.Errorf("begun %v, stop %v: %d bases given up, a history: %v", begun, stop, r.store.aborted, r.store.has)
				}
			}
		}
	})
}

func TestAStoreThatFailsDuringAnRDBChannelBeginsAnew(t *testing.T) {
	t.Parallel()
	forEachDialect(t, func(t *testing.T, d dialect, ln net.Listener) {
		r := newRig(t, replica.Config{}, storeOptions{}, ln.Addr())
		r.start()
		main, side := d.open(t, ln)
		side.say(d.head + eofHead + payload)
		d.stream(t, main, setFoo)
		r.wait("the stream", func() bool { return r.store.taken() == 1031 })
		r.store.set(func() { r.store.failed = errors.New("an fsync failed") })
		r.waitFailures(1)
		main, side = d.open(t, ln)
		side.say(d.head + eofHead + payload + eofMark)
		d.stream(t, main, setFoo)
		main.hearAck(1031)
		r.stop()
		r.checkPath()
		if r.store.aborted != 1 || r.store.resets != 1 {
			t.Errorf("%d bases given up, %d resets\n%s", r.store.aborted, r.store.resets, r.story())
		}
	})
}

func TestAHistoryThatIsKnownIsResumedOnOneConnection(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	r := newRig(t, replica.Config{}, storeOptions{position: &replica.Position{ReplID: replID, Offset: 1000}}, ln.Addr())
	r.start()
	k := accept(t, ln)
	k.say(everyStep)
	k.hear("PING")
	k.hear("REPLCONF")
	if got := k.hear("REPLCONF"); slices.Contains(got, "dual-channel") {
		t.Errorf("got %q", got)
	}
	k.say("+RDBCHANNELSYNC 7\r\n") // which it did not offer
	r.waitFailures(1)
	if f := r.failure(0); !errors.Is(f, replica.ErrUnexpected) {
		t.Errorf("%v", f)
	}
	r.stop()
}
