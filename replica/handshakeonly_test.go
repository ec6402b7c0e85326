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
			r := newRig(t, replica.Config{HandshakeOnly: true}, storeOptions{}, ln.Addr())
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
