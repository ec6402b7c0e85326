package replica_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"replicad/integration/poll"
	"replicad/replica"
)

// delivered waits until the other side's kernel has received all that was
// written.
func delivered(t *testing.T, conn net.Conn) {
	t.Helper()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	poll.Until(t, "the bytes to be delivered", func() bool {
		left := 1
		if err := raw.Control(func(fd uintptr) { left, _ = unix.IoctlGetInt(int(fd), unix.TIOCOUTQ) }); err != nil {
			t.Fatal(err)
		}
		return left == 0
	})
}

// endings are the ways in which a stream ends while bytes wait in the kernel.
var endings = map[string]struct {
	reset bool // the master is gone
	end   func(*rig)
}{
	"an ACK that can't be written": {true, func(r *rig) { r.link.Tick() }},
	"a cut":                        {false, func(r *rig) { r.link.Cut() }},
	"an order":                     {false, func(r *rig) { r.link.Follow(r.cfg.Master.At("h", 2)) }},
	"a stop":                       {false, func(r *rig) { r.link.Stop(nil) }},
}

func TestWhatTheKernelHasReceivedIsStoredHoweverTheStreamEnds(t *testing.T) {
	for name, e := range endings {
		for _, where := range []string{"the stream", "the base is made durable", "the store is full"} {
			t.Run(name+"/"+where, func(t *testing.T) {
				t.Parallel()
				ln := listen(t)
				opt := storeOptions{}
				stream := strings.Repeat(setFoo, 3000)
				switch where {
				case "the base is made durable":
					opt.gate = make(chan struct{})
				case "the store is full":
					opt.capacity = 10_000
				}
				r := newRig(t, replica.Config{}, opt, ln.Addr())
				r.start()
				k := accept(t, ln)
				k.say(everyStep + fullSync)
				if opt.gate != nil {
					k.hearAck(0)
				} else {
					r.waitPlace("SYNC/STREAM")
				}
				held, ended := make(chan struct{}), make(chan struct{})
				r.loop.Post(func() { // the loop stands still meanwhile
					<-held
					e.end(r)
					close(ended)
				})
				k.say(stream)
				delivered(t, k.conn)
				if e.reset {
					_ = k.conn.(*net.TCPConn).SetLinger(0)
					k.conn.Close()
				}
				close(held)
				<-ended
				if opt.gate != nil {
					close(opt.gate)
				}
				if opt.capacity > 0 {
					end := 1000 + int64(len(stream))
					poll.Until(t, "all to be stored", func() bool {
						r.store.store(10_000)
						done := false
						r.w.do(func() { done = r.store.stored == end })
						return done
					})
				}
				r.wait("all that was received", func() bool { return string(r.store.stream) == stream })
				if name != "a stop" {
					k = accept(t, ln)
					k.say(everyStep)
					if got, want := strings.Join(k.hear("PSYNC")[1:], " "), fmt.Sprint(replID, " ", 1001+len(stream)); got != want {
						t.Errorf("PSYNC %s, want %s", got, want)
					}
				}
				r.stop()
				r.checkPath()
			})
		}
	}
}

func TestWhatWasSentOverTLSIsStoredHoweverTheStreamEnds(t *testing.T) {
	for name, e := range endings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plain := listen(t)
			ln, cfg := overTLS(t, plain, replica.Config{})
			stream := strings.Repeat(setFoo, 10_000)
			r := newRig(t, cfg, storeOptions{}, plain.Addr())
			r.start()
			k := accept(t, ln)
			k.say(everyStep + fullSync)
			r.waitPlace("SYNC/STREAM")
			held, ended := make(chan struct{}), make(chan struct{})
			r.loop.Post(func() {
				<-held
				e.end(r)
				close(ended)
			})
			k.say(stream)
			if e.reset {
				raw := k.conn.(*tls.Conn).NetConn()
				delivered(t, raw)
				_ = raw.(*net.TCPConn).SetLinger(0)
				raw.Close()
			}
			close(held)
			<-ended
			r.wait("all that was sent", func() bool { return string(r.store.stream) == stream })
			r.stop()
		})
	}
}

func TestAStopDoesNotWaitForAStoreThatStalls(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	r := newRig(t, replica.Config{}, storeOptions{capacity: 100}, ln.Addr())
	r.start()
	k := accept(t, ln)
	k.say(everyStep + fullSync + strings.Repeat(setFoo, 1000))
	r.waitEvent(replica.Paused, 1)
	r.on(r.link.Cut)
	r.w.do(func() {
		if r.place() != "NONE" || r.count(replica.ConnectCalled) != 1 {
			t.Errorf("the link is in %s: it must not connect before what was received is stored", r.place())
		}
	})
	r.store.set(func() { r.store.stalled = unix.ENOSPC })
	r.stop()
}
