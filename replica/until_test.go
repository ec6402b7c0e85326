package replica_test

import (
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"replicad/replica"
)

func TestALinkForTheHandshakeOnlyStopsBeforePsync(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		said  string
		fails error
		last  string // the last command that the master gets
	}{
		"all is accepted":        {everyStep, nil, "version"},
		"an option is refused":   {"+PONG\r\n+OK\r\n-ERR no\r\n-ERR no\r\n", nil, "version"},
		"the PING is refused":    {"-LOADING\r\n", replica.ErrReply, "PING"},
		"the answer is nonsense": {"+PONG\r\nhello\r\n", replica.ErrUnexpected, "version"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ln := listen(t)
			r := newRig(t, replica.Config{Until: replica.Version}, storeOptions{}, ln.Addr())
			r.start()
			k := accept(t, ln)
			k.say(c.said)
			r.waitEvent(replica.Stopped, 1)
			var heard []string
			for cmd, err := k.command(); err == nil; cmd, err = k.command() {
				heard = cmd
			}
			if !slices.Contains(heard, c.last) {
				t.Errorf("the last command was %q, want one with %q", heard, c.last)
			}
			r.stop()
			r.checkPath()
			if n := r.count(replica.Stopped); n != 1 {
				t.Errorf("Stopped was told %d times", n)
			}
			if n := len(r.failures); n > 1 || (n == 1) != (c.fails != nil) {
				t.Fatalf("%d failures\n%s", n, r.story())
			}
			if c.fails != nil && !errors.Is(r.failure(0), c.fails) {
				t.Errorf("got %v, want %v", r.failure(0), c.fails)
			}
			_ = ln.(*net.TCPListener).SetDeadline(time.Unix(1, 0))
			if _, err := ln.Accept(); err == nil {
				t.Error("there was a second attempt")
			}
		})
	}
}

func TestALinkForABaseAloneHangsUpBehindThePayloadAndAcknowledgesNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ option, payload string }{
		"rdb-only, $<len>":                {"+OK", "$18\r\n" + payload},
		"rdb-only, $EOF and left open":    {"+OK", "$EOF:" + eofMark + "\r\n" + payload + eofMark},
		"refused, and a stream behind it": {"-ERR Unrecognized REPLCONF option: rdb-only", "$18\r\n" + payload + setFoo},
		"refused, $EOF":                   {"-ERR Unrecognized REPLCONF option: rdb-only", "$EOF:" + eofMark + "\r\n" + payload + eofMark},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ln := listen(t)
			gate := make(chan struct{})
			r := newRig(t, replica.Config{Until: replica.Transfer, AnnouncePort: 7401}, storeOptions{gate: gate}, ln.Addr())
			r.start()
			k := accept(t, ln)
			k.say("+PONG\r\n+OK\r\n+OK\r\n" + c.option + "\r\n+OK\r\n")
			k.hear("PING")
			if got := k.hear("REPLCONF"); got[2] != "7401" {
				t.Errorf("listening-port is %q", got)
			}
			k.hear("REPLCONF") // capa
			if got := k.hear("REPLCONF"); !slices.Equal(got[1:], []string{"rdb-only", "1"}) {
				t.Errorf("got %q, want rdb-only 1", got)
			}
			k.hear("REPLCONF") // version
			if got := k.hear("PSYNC"); !slices.Equal(got[1:], []string{"?", "-1"}) {
				t.Errorf("got %q, want a full sync", got)
			}
			r.on(func() {
				if at, ok := r.link.Endpoint(); !ok || at.String() != ln.Addr().String() {
					t.Errorf("connected to %v, %v", at, ok)
				}
			})
			k.say("+FULLRESYNC " + replID + " 1000\r\n" + c.payload)
			// The base is not durable yet, and the connection is over.
			if cmd, err := k.command(); err == nil {
				t.Errorf("behind the payload it sent %q", cmd)
			}
			close(gate)
			r.waitEvent(replica.Stopped, 1)
			r.stop()
			r.checkPath()
			if string(r.store.payload) != payload || r.store.commits != 1 || r.store.total != 0 {
				t.Errorf("the store got %q, %d commits and %d bytes of stream", r.store.payload, r.store.commits, r.store.total)
			}
			if r.count(replica.FullSyncDone) != 1 || r.count(replica.Acknowledged) != 0 || len(r.failures) != 0 {
				t.Errorf("%d acknowledgements, %d failures\n%s", r.count(replica.Acknowledged), len(r.failures), r.story())
			}
			for _, e := range r.events {
				if !e.Rebase {
					t.Errorf("event %d does not say that it is of a base alone", e.Kind)
				}
			}
		})
	}
}

func TestALinkForABaseAloneThatIsCutStopsAndTriesNoMore(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	r := newRig(t, replica.Config{Until: replica.Transfer}, storeOptions{}, ln.Addr())
	r.start()
	k := accept(t, ln)
	k.say(everyStep + "+OK\r\n+FULLRESYNC " + replID + " 1000\r\n$18\r\n" + payload[:9])
	r.wait("a part of the payload", func() bool { return r.store.baseSize == 9 })
	k.conn.Close()
	r.waitEvent(replica.Stopped, 1)
	r.stop()
	r.checkPath()
	if len(r.failures) != 1 || r.failure(0).Phase != replica.Transfer || r.store.aborted != 1 {
		t.Errorf("%d failures, %d bases given up\n%s", len(r.failures), r.store.aborted, r.story())
	}
}
