package replica_test

import (
	"bytes"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"replicad/eventloop"
	"replicad/replica"
	"replicad/replica/resp"
	"replicad/replica/study"
)

// discard is a store that keeps nothing. When it has taken as much as was asked
// for, it says so.
type discard struct {
	buf   []byte
	taken atomic.Int64
	until atomic.Int64
	done  chan struct{}
}

func newDiscard(buffer int) *discard {
	d := &discard{buf: make([]byte, buffer), done: make(chan struct{}, 1)}
	d.until.Store(-1)
	return d
}

func (d *discard) Position() (replica.Position, bool) {
	return replica.Position{ReplID: replID}, true
}
func (d *discard) Continue(string) {}
func (d *discard) Buffer() []byte  { return d.buf }
func (d *discard) Commit(n int, _ replica.Boundary) {
	if d.taken.Add(int64(n)) == d.until.Load() {
		d.done <- struct{}{}
	}
}
func (d *discard) Progress() replica.Progress {
	n := d.taken.Load()
	return replica.Progress{Stored: n, Durable: n}
}
func (d *discard) Notify(func())                                    {}
func (d *discard) BeginBase(replica.FullSync) (replica.Base, error) { return nil, replica.ErrNoRoom }
func (d *discard) Room() error                                      { return nil }
func (d *discard) Reset() error                                     { return nil }

// streaming brings a link to STREAM and returns the master's end. written, then
// finish: what was written is taken.
func streaming(t testing.TB, buffer int) (conn net.Conn, d *discard) {
	t.Helper()
	conn, d, _ = streamingTo(t, buffer, replica.ObserverFunc(func(replica.Event) {}))
	return conn, d
}

// streamingTo is streaming with an observer; nil for none. cpu is how long the
// loop's thread has run.
func streamingTo(t testing.TB, buffer int, observer replica.Observer) (conn net.Conn, d *discard, cpu func() time.Duration) {
	t.Helper()
	ln := listen(t)
	d = newDiscard(buffer)
	loop, err := eventloop.New()
	if err != nil {
		t.Fatal(err)
	}
	link := replica.NewLink(loop, d, replica.Config{
		Master:   replica.Master{Name: "m", Host: "h", Port: 1},
		Resolve:  addresses(endpointOf(ln.Addr())),
		Observer: observer,
	})
	ran := make(chan error, 1)
	loop.Post(link.Start)
	go func() { ran <- loop.Run() }()
	k := accept(t, ln)
	k.say(everyStep + "+CONTINUE\r\n")
	k.hearAck(0) // the link streams
	go io.Copy(io.Discard, k.r)
	t.Cleanup(func() {
		loop.Post(func() { link.Stop(loop.Stop) })
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
	return k.conn, d, func() time.Duration {
		ran := make(chan time.Duration)
		loop.Post(func() {
			var at unix.Timespec
			if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &at); err != nil {
				t.Error(err)
			}
			ran <- time.Duration(at.Nano())
		})
		return <-ran
	}
}

// commands is a piece of a stream of about size bytes, with values of so many.
func commands(size, value int) []byte {
	var b bytes.Buffer
	v := strings.Repeat("v", value)
	for b.Len() < size {
		b.Write(resp.AppendCommand(nil, "set", "key:"+strconv.Itoa(b.Len()), v))
	}
	return b.Bytes()
}

func TestTheStreamPathAllocatesNothingForAChunk(t *testing.T) {
	conn, d := streaming(t, 64<<10)
	chunk := commands(4<<10, 100)
	sent := int64(0)
	round := func() {
		sent += int64(len(chunk))
		d.until.Store(sent)
		if _, err := conn.Write(chunk); err != nil {
			t.Error(err)
		}
		<-d.done
	}
	for range 10 {
		round()
	}
	// The ACK of each second allocates a little; in 2000 rounds it is lost.
	if n := testing.AllocsPerRun(2000, round); n != 0 {
		t.Errorf("%v allocations for each chunk", n)
	}
}

func BenchmarkStream(b *testing.B) {
	for _, c := range []struct {
		name          string
		buffer, value int
	}{
		{"64KiB-buffer/100B-values", 64 << 10, 100},
		{"256KiB-buffer/100B-values", 256 << 10, 100},
		{"256KiB-buffer/10KiB-values", 256 << 10, 10 << 10},
	} {
		b.Run(c.name, func(b *testing.B) {
			conn, d := streaming(b, c.buffer)
			chunk := commands(256<<10, c.value)
			b.SetBytes(int64(len(chunk)))
			b.ReportAllocs()
			d.until.Store(int64(b.N) * int64(len(chunk)))
			b.ResetTimer()
			for range b.N {
				if _, err := conn.Write(chunk); err != nil {
					b.Fatal(err)
				}
			}
			<-d.done
		})
	}
}

// BenchmarkObserver says what it costs to be observed: by nobody, by one who
// looks at each event and keeps nothing, and by the recorder of a study once it
// has what it keeps. The three take turns, piece by piece, so that the
// machine's moods hit them alike, and what is measured is the time that the
// loop's thread ran: other processes don't count. Reported is the ratio of the
// medians to nobody's.
func BenchmarkObserver(b *testing.B) {
	const piece = 4 << 20
	var seen int
	watchers := []struct {
		name string
		replica.Observer
	}{
		{"nobody", nil},
		{"looking", replica.ObserverFunc(func(e replica.Event) { seen += len(e.Data) })},
		{"study", &study.Recorder{}},
	}
	chunk := commands(piece, 100)
	took := make([][]time.Duration, len(watchers))
	var rounds []func()
	for i, w := range watchers {
		conn, d, cpu := streamingTo(b, 256<<10, w.Observer)
		rounds = append(rounds, func() {
			d.until.Store(d.taken.Load() + int64(len(chunk)))
			begun := cpu()
			if _, err := conn.Write(chunk); err != nil {
				b.Fatal(err)
			}
			<-d.done
			took[i] = append(took[i], cpu()-begun)
		})
		rounds[i]() // the first one warms up
		took[i] = nil
	}
	b.SetBytes(int64(len(chunk) * len(watchers)))
	b.ResetTimer()
	for n := range b.N {
		for k := range watchers {
			rounds[(n+k)%len(watchers)]() // none is always first
		}
	}
	median := func(i int) float64 {
		slices.Sort(took[i])
		return float64(took[i][len(took[i])/2])
	}
	for i, w := range watchers[1:] {
		b.ReportMetric(median(i+1)/median(0), w.name+"/nobody")
	}
}

// BenchmarkCommandLatency is one small command at a time, from the master's
// write to the store.
func BenchmarkCommandLatency(b *testing.B) {
	conn, d := streaming(b, 64<<10)
	cmd := []byte(setFoo)
	b.ReportAllocs()
	for i := range b.N {
		d.until.Store(int64(i+1) * int64(len(cmd)))
		if _, err := conn.Write(cmd); err != nil {
			b.Fatal(err)
		}
		<-d.done
	}
}
