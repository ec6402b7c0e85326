package replica_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"replicad/anet/tunnel"
	"replicad/anet/tunnel/tunneltest"
	"replicad/replica"
)

// What one attempt leaves behind, and what comes when it has ended.

func TestAnAckThatCannotBeSentEndsTheConnectionOnce(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	r := newRig(t, replica.Config{}, storeOptions{capacity: 1 << 20, byHand: true}, ln.Addr())
	r.start()
	k := accept(t, ln)
	k.say(everyStep + fullSync)
	r.waitPlace("SYNC/STREAM")
	// One GETACK has its ACK and waits for the fsync; another waits for both.
	k.say(setFoo + getAck)
	first := int64(1000 + len(setFoo+getAck))
	r.wait("the first GETACK", func() bool { return r.store.taken() == first })
	r.store.store(1 << 20)
	k.hearAck(first - int64(len(getAck)))
	k.say(setFoo + getAck)
	r.wait("the second GETACK", func() bool { return r.store.total == 2*(first-1000) })
	r.on(func() {
		if err := unix.Shutdown(r.link.FD(), unix.SHUT_WR); err != nil {
			t.Error(err)
		}
		r.store.set(func() {
			r.store.stored = r.store.taken()
			r.store.durable = r.store.stored
		})
	})
	r.waitFailures(1)
	r.on(func() {})
	if n := len(r.failures); n != 1 {
		t.Errorf("%d failures of one connection, the second: %v", n, r.failures[1].Err)
	}
	r.stop()
	r.checkPath()
	if f := r.failure(0); f.Phase != replica.Stream || !errors.Is(f, unix.EPIPE) {
		t.Errorf("got %v", f)
	}
}

func TestStoppedIsToldOnceHoweverOftenALinkIsStopped(t *testing.T) {
	t.Parallel()
	r := newRig(t, replica.Config{Master: replica.Master{Name: "m"}}, storeOptions{}, nil)
	r.start()
	calls := 0
	for range 2 {
		r.on(func() { r.link.Stop(func() { calls++ }) })
	}
	r.stop()
	if n := r.count(replica.Stopped); n != 1 || calls != 2 {
		t.Errorf("Stopped was told %d times, done called %d times for 2 orders", n, calls)
	}
}

func TestThePasswordThatWasSentIsHiddenThoughAnotherOneIsSetMeanwhile(t *testing.T) {
	t.Parallel()
	for _, reply := range []string{"-ERR no s3cr3t-pass here", "what is s3cr3t-pass?"} {
		ln := listen(t)
		r := newRig(t, everyStop(), storeOptions{}, ln.Addr())
		r.start()
		k := accept(t, ln)
		k.say("+PONG\r\n")
		r.waitPlace("SYNC/AUTH")
		r.on(func() { r.link.SetCredentials("", "another") })
		k.say(reply + "\r\n")
		r.waitFailures(1)
		r.stop()
		if f := r.failure(0); strings.Contains(f.Error(), "s3cr3t-pass") {
			t.Errorf("%q: %v", reply, f)
		}
	}
}

func TestALinkDoesNothingBeforeItsStart(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	r := newRig(t, replica.Config{}, storeOptions{position: &replica.Position{ReplID: replID, Offset: 1000}}, ln.Addr())
	r.store.set(func() { r.store.failed = errors.New("the base is damaged") })
	for range 3 { // iterations of the loop
		r.on(func() {})
	}
	r.w.do(func() {
		if r.store.resets > 0 || r.store.rooms > 0 {
			t.Errorf("%d resets, %d attempts", r.store.resets, r.store.rooms)
		}
	})
	r.start()
	r.wait("the store is reset", func() bool { return r.store.resets == 1 })
	accept(t, ln).hear("PING")
	r.stop()
}

// slowReset is a store whose Reset waits.
type slowReset struct {
	*memStore
	entered, gate chan struct{}
}

func (s slowReset) Reset() error {
	s.entered <- struct{}{}
	<-s.gate
	return s.memStore.Reset()
}

func TestAnOrderDuringAResetOfTheStoreIsObeyedAfterIt(t *testing.T) {
	for _, order := range []string{"follow", "nobody", "stop"} {
		t.Run(order, func(t *testing.T) {
			t.Parallel()
			first, second := listen(t), listen(t)
			cfg := replica.Config{Master: replica.Master{Name: "m", Host: "first", Port: 1}}
			cfg.Resolve = byPort(t, "", map[int]net.Listener{1: first, 2: second})
			r := newRig(t, cfg, storeOptions{position: &replica.Position{ReplID: replID, Offset: 1000}}, nil)
			store := slowReset{r.store, make(chan struct{}), make(chan struct{})}
			r.link = replica.NewLink(r.loop, store, r.cfg)
			r.start()
			k := accept(t, first)
			k.say(everyStep + "+CONTINUE\r\n" + setFoo)
			r.wait("a command", func() bool { return r.store.total > 0 })
			k.say("rubbish\r\n")
			<-store.entered
			done := make(chan struct{})
			r.on(func() {
				switch order {
				case "follow":
					r.link.Follow(cfg.Master.At("second", 2))
				case "nobody":
					r.link.Follow(cfg.Master.Nobody())
				case "stop":
					r.link.Stop(func() { close(done) })
				}
			})
			r.on(func() {})
			select {
			case <-done:
				t.Error("done is called while the store is reset")
			default:
			}
			close(store.gate)
			r.waitEvent(replica.StoreReset, 1)
			switch order {
			case "follow":
				k := accept(t, second)
				k.say(everyStep)
				if got := strings.Join(k.hear("PSYNC")[1:], " "); got != fmt.Sprint(replID, " ", 1001+len(setFoo)) {
					t.Errorf("PSYNC %s", got)
				}
			case "stop":
				<-done
			}
			r.stop()
			r.checkPath()
			if r.store.resets != 1 || len(r.failures) != 1 {
				t.Errorf("%d resets, %d failures", r.store.resets, len(r.failures))
			}
		})
	}
}

// overTLS makes a listener speak TLS, and cfg believe it.
func overTLS(t *testing.T, ln net.Listener, cfg replica.Config) (net.Listener, replica.Config) {
	a := tunneltest.NewAuthority(t)
	cert := a.Sign("master.test", time.Now().Add(time.Hour))
	cfg.TLS = tunnel.Files{CACert: a.CA(), ServerName: "master.test"}
	cfg.Master.Host, cfg.Master.Port, cfg.Master.TLS = "master.test", 6379, true
	return tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{cert}}), cfg
}

func TestACutOverTLSIsToldAsACut(t *testing.T) {
	t.Parallel()
	plain := listen(t)
	ln, cfg := overTLS(t, plain, replica.Config{})
	r := newRig(t, cfg, storeOptions{}, plain.Addr())
	r.start()
	accept(t, ln).say(everyStep + fullSync)
	r.waitPlace("SYNC/STREAM")
	r.on(r.link.Cut)
	r.waitFailures(1)
	r.stop()
	r.checkPath()
	if f := r.failure(0); !errors.Is(f, replica.ErrCut) {
		t.Errorf("got %v", f)
	}
}

// It runs alone, as it counts.
func TestStopOverTLSLeaksNothing(t *testing.T) {
	for _, s := range append(stops, struct{ place, said string }{"RECEIVE_PONG", "no TLS"}) {
		t.Run(s.place+fmt.Sprint(len(s.said)), func(t *testing.T) {
			plain := listen(t)
			ln, cfg := overTLS(t, plain, everyStop())
			goroutines, fds := runtime.NumGoroutine(), openFDs(t)
			r := newRig(t, cfg, storeOptions{splice: true}, plain.Addr())
			r.start()
			var k *talk
			if s.said == "no TLS" {
				k = accept(t, plain)
				r.waitPlace(s.place)
			} else {
				k = accept(t, ln)
				k.say(s.said)
			}
			if s.place == "SYNC/TRANSFER" && strings.Contains(s.said, "REDIS") {
				r.wait("the payload", func() bool { return r.store.baseSize == 5 })
			} else {
				r.waitPlace(s.place)
			}
			r.stop()
			r.checkPath()
			k.conn.Close()
			end := time.Now().Add(patience)
			for runtime.NumGoroutine() > goroutines || openFDs(t) > fds {
				if time.Now().After(end) {
					buf := make([]byte, 1<<16)
					t.Fatalf("before %d goroutines and %d descriptors, after %d and %d\n%s", goroutines, fds, runtime.NumGoroutine(), openFDs(t), buf[:runtime.Stack(buf, true)])
				}
				runtime.Gosched()
			}
		})
	}
}

func TestAnOrderWhileABaseIsMadeDurableKeepsTheBase(t *testing.T) {
	for _, order := range []string{"follow", "stop"} {
		t.Run(order, func(t *testing.T) {
			t.Parallel()
			first, second := listen(t), listen(t)
			cfg := replica.Config{Master: replica.Master{Name: "m", Host: "first", Port: 1}}
			cfg.Resolve = byPort(t, "", map[int]net.Listener{1: first, 2: second})
			opt := storeOptions{splice: true, gate: make(chan struct{})}
			r := newRig(t, cfg, opt, nil)
			r.start()
			k := accept(t, first)
			k.say(everyStep + fullSync)
			k.hearAck(0)
			done := make(chan struct{})
			r.on(func() {
				if order == "stop" {
					r.link.Stop(func() { close(done) })
				} else {
					r.link.Follow(cfg.Master.At("second", 2))
				}
			})
			r.on(func() {}) // the next attempt is due, and has to wait
			r.w.do(func() {
				if r.store.rooms != 1 || r.count(replica.Stopped) > 0 {
					t.Error("the store is used, or left, while a base is made durable")
				}
			})
			close(opt.gate)
			if order == "stop" {
				<-done
			} else {
				k := accept(t, second)
				k.say(everyStep)
				if got := strings.Join(k.hear("PSYNC")[1:], " "); got != replID+" 1001" {
					t.Errorf("PSYNC %s", got)
				}
			}
			r.stop()
			r.checkPath()
			if r.store.commits != 1 || r.store.aborted > 0 || len(r.failures) > 0 {
				t.Errorf("%d commits, %d aborted, %d failures", r.store.commits, r.store.aborted, len(r.failures))
			}
		})
	}
}

func TestAnAddressThatAcceptsAndFailsHidesNoOther(t *testing.T) {
	t.Parallel()
	for name, said := range map[string]string{
		"it closes at once":                "",
		"it refuses PING":                  "-LOADING\r\n",
		"it refuses PSYNC":                 everyStep + "-NOMASTERLINK Can't SYNC while not connected with my master\r\n",
		"it closes in the transfer":        everyStep + "+FULLRESYNC " + replID + " 1000\r\n$18\r\n" + payload[:5],
		"it says what no master says":      everyStep + "hello\r\n",
		"it is one that sends no RDB file": everyStep + "+FULLRESYNC " + replID + " 1000\r\n$18\r\n" + strings.Repeat("x", 18),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad, good := listen(t), listen(t)
			r := newRig(t, replica.Config{
				Resolve: addresses(endpointOf(bad.Addr()), endpointOf(good.Addr())),
			}, storeOptions{}, bad.Addr())
			r.start()
			k := accept(t, bad)
			k.say(said)
			k.conn.(*net.TCPConn).CloseWrite()
			accept(t, good).say(everyStep + fullSync)
			r.waitPlace("SYNC/STREAM")
			r.stop()
			r.checkPath()
			if n := len(r.failures); n > 1 && !strings.Contains(name, "RDB") {
				t.Errorf("%d failures\n%s", n, r.story())
			}
		})
	}
}
