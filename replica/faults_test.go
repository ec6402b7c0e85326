package replica_test

import (
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"replicad/replica"
)

func TestAGetAckIsAnsweredThoughNewerOnesKeepComing(t *testing.T) {
	t.Parallel()
	// Under appendfsync always and a steady stream of WAITs each fsync makes
	// durable what was there before the newest GETACK.
	ln := listen(t)
	r := newRig(t, replica.Config{AckDurable: true}, storeOptions{byHand: true}, ln.Addr())
	r.start()
	k := accept(t, ln)
	k.say(everyStep + fullSync)
	r.waitPlace("SYNC/STREAM")
	r.store.fsync()
	start := r.total()
	answered := make(chan bool, 1)
	go func() {
		for {
			cmd, err := k.command()
			if err != nil {
				return
			}
			if a, ok := ackOf(cmd); ok && a.offset > start {
				answered <- true
				return
			}
		}
	}()
	rounds := 0
	for begun := time.Now(); len(answered) == 0; rounds++ {
		// The tick of each second would answer; a busy machine makes few rounds.
		if rounds > 100 && time.Since(begun) > 500*time.Millisecond {
			t.Fatalf("no answer after %d fsyncs", rounds)
		}
		before := r.total()
		k.say(setFoo + getAck)
		r.wait("the chunk is taken", func() bool { return r.store.total > before })
		r.store.set(func() { r.store.durable = before })
		r.on(func() {})
	}
	r.stop()
}

func TestAResetBehindAWholePayloadKeepsIt(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	r := newRig(t, replica.Config{}, storeOptions{splice: true}, ln.Addr())
	r.start()
	k := accept(t, ln)
	k.say(everyStep + "+FULLRESYNC " + replID + " 1000\r\n$EOF:" + eofMark + "\r\n")
	r.wait("the transfer begins", func() bool { return r.store.begun == 1 })
	k.say(payload + eofMark)
	if err := k.conn.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	k.conn.Close()
	r.wait("the transfer ends", func() bool { return r.store.commits+r.store.aborted > 0 })
	r.stop()
	if r.store.commits != 1 {
		t.Errorf("a whole payload was thrown away: %v", r.failure(0))
	}
}

func TestAStoreThatHasFailedBeforeTheStartIsResetFirst(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	r := newRig(t, replica.Config{}, storeOptions{position: &replica.Position{ReplID: replID, Offset: 1000}}, ln.Addr())
	r.store.failed = errors.New("the base is damaged")
	r.start()
	r.wait("the store is reset", func() bool { return r.store.resets == 1 })
	r.stop()
}

// failingAgain is a store that fails once more while it is reset.
type failingAgain struct{ *memStore }

func (s failingAgain) Reset() error {
	err := s.memStore.Reset()
	s.set(func() {
		if s.resets == 1 {
			s.failed = errors.New("what was opened anew is damaged")
		}
	})
	return err
}

func TestAStoreThatFailsAgainWhileItIsResetIsResetAgain(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	r := newRig(t, replica.Config{}, storeOptions{position: &replica.Position{ReplID: replID, Offset: 1000}}, ln.Addr())
	r.link = replica.NewLink(r.loop, failingAgain{r.store}, r.cfg)
	r.store.failed = errors.New("an fsync failed")
	r.start()
	r.wait("the store is reset twice", func() bool { return r.store.resets == 2 })
	r.stop()
}

func TestAReplicationIDThatIsNoneIsRefused(t *testing.T) {
	t.Parallel()
	for _, id := range []string{strings.Repeat("a", 39) + "\t", strings.Repeat(" ", 40)[:39] + "a", strings.Repeat("a", 39) + "g", strings.Repeat("a", 38) + "\u00a0"} {
		ln := listen(t)
		r := newRig(t, replica.Config{}, storeOptions{}, ln.Addr())
		r.start()
		k := accept(t, ln)
		k.say(everyStep + "+FULLRESYNC " + id + " 1000\r\n")
		r.waitFailures(1)
		if f := r.failure(0); !errors.Is(f, replica.ErrUnexpected) {
			t.Errorf("%q: %v", id, f)
		}
		r.stop()
	}
}

func TestAPayloadThatNoDiskHoldsIsRefused(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	r := newRig(t, replica.Config{}, storeOptions{}, ln.Addr())
	r.start()
	k := accept(t, ln)
	k.say(everyStep + "+FULLRESYNC " + replID + " 1000\r\n" + fmt.Sprintf("$%d\r\n", int64(math.MaxInt64)))
	r.waitFailures(1)
	if f := r.failure(0); !errors.Is(f, replica.ErrUnexpected) || r.store.begun != 0 {
		t.Errorf("%v, begun %d", f, r.store.begun)
	}
	r.stop()
}

// stubborn is a store whose base says EAGAIN once, as some file systems do.
type stubborn struct{ *memStore }

type stubbornBase struct {
	*fileBase
	said bool
}

func (s stubborn) BeginBase(f replica.FullSync) (replica.Base, error) {
	b, err := s.memStore.BeginBase(f)
	if err != nil {
		return nil, err
	}
	return &stubbornBase{fileBase: b.(*fileBase)}, nil
}

func (b *stubbornBase) SpliceFrom(pipe, n int) (int, error) {
	if !b.said {
		b.said = true
		return 0, fmt.Errorf("splice: %w", unix.EAGAIN)
	}
	return b.fileBase.SpliceFrom(pipe, n)
}

func TestTheStoresEAGAINIsNotTakenForTheSockets(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	r := newRig(t, replica.Config{}, storeOptions{splice: true}, ln.Addr())
	r.link = replica.NewLink(r.loop, stubborn{r.store}, r.cfg)
	r.start()
	k := accept(t, ln)
	whole := payload + strings.Repeat("x", 3000)
	k.say(everyStep + "+FULLRESYNC " + replID + fmt.Sprintf(" 1000\r\n$%d\r\n", len(whole)))
	r.wait("the transfer begins", func() bool { return r.store.begun == 1 })
	k.say(whole + strings.Repeat(setFoo, 300))
	r.waitFailures(1)
	if f := r.failure(0); !errors.Is(f, replica.ErrStore) || r.store.commits != 0 {
		t.Errorf("%v, %d bases committed", f, r.store.commits)
	}
	r.stop()
}
