package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"replicad/integration/poll"
	"replicad/integration/redistest"
)

// place is where a program that reads 'replicad tail' goes on.
type place struct {
	ID     string
	Offset int64
	Event  string
	Args   []any
	Keys   []any
}

// tailReader reads 'replicad tail --follow' as a program does that stores its
// place, and is killed at any moment.
type tailReader struct {
	t    *testing.T
	dir  string
	at   place
	seen []int64 // the numbers that were written to the key, in the order in which they came
	last atomic.Int64
}

// readFor runs tail, and kills it after a while, or when done is closed.
func (r *tailReader) readFor(d time.Duration, done <-chan struct{}) {
	from := fmt.Sprintf("%s:%d", r.at.ID, r.at.Offset)
	cmd := command(nil, "tail", "--dir", r.dir, "--name", "main", "--follow", "--from", from, "--db", "5")
	out, err := cmd.StdoutPipe()
	if err != nil {
		r.t.Error(err)
		return
	}
	if err := cmd.Start(); err != nil {
		r.t.Error(err)
		return
	}
	stop := make(chan struct{})
	go func() {
		select {
		case <-time.After(d):
		case <-done:
		case <-stop:
		}
		_ = cmd.Process.Kill()
	}()
	in := bufio.NewReader(out)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			break // what came of a line counts for nothing
		}
		var p place
		if err := json.Unmarshal(line, &p); err != nil {
			r.t.Errorf("%s: %v", line, err)
			break
		}
		if p.Event != "" {
			r.t.Errorf("%s", line)
			continue
		}
		if r.at = p; len(p.Keys) == 1 && p.Keys[0] == "counter" {
			n, err := strconv.ParseInt(fmt.Sprint(p.Args[1]), 10, 64)
			if err != nil {
				r.t.Errorf("%s: %v", line, err)
			}
			r.seen = append(r.seen, n)
			r.last.Store(n)
		}
	}
	close(stop)
	_ = cmd.Wait()
}

func TestTailHasEachCommandOnceWhoeverIsKilled(t *testing.T) {
	t.Parallel()
	n := count(t, "kill -9 of daemon or reader", 8, 200)
	master := redistest.Start(t, largeBacklog)
	dir := t.TempDir()
	args := append(byAddress(t, master), "--segment-size", "64kb")
	d := run(t, dir, args...)
	d.waitLog(`msg="full sync done"`)
	poll.Seen(t, "the base to be verified", func() (bool, string) { return newest(t, dir, "main").BaseVerified, "not yet" })

	// One client counts up, with and without transactions: this is the record.
	client := master.NewClient(5)
	var wrote atomic.Int64
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for i := 0; ; i++ {
			select {
			case <-quit:
				return
			case <-time.After(time.Millisecond):
			}
			p := client.Pipeline()
			if i%3 == 0 {
				p = client.TxPipeline()
			}
			for range 10 {
				p.Set(context.Background(), "counter", wrote.Add(1), 0)
			}
			p.Append(context.Background(), "other", "some more bytes")
			if _, err := p.Exec(context.Background()); err != nil {
				t.Error(err)
				return
			}
		}
	}()

	g := newest(t, dir, "main")
	reader := &tailReader{t: t, dir: dir, at: place{ID: g.Histories[0].ReplID, Offset: g.BaseOffset}}
	done, read := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(read)
		r := rand.New(rand.NewPCG(5, 1))
		for {
			select {
			case <-done:
				return
			default:
				reader.readFor(time.Duration(100+r.IntN(700))*time.Millisecond, done)
			}
		}
	}()
	r := rand.New(rand.NewPCG(5, 2))
	for range n {
		time.Sleep(time.Duration(50+r.IntN(300)) * time.Millisecond) // when it is killed is all that this says
		if r.IntN(3) == 0 {
			if err := d.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond)
		}
		d.kill()
		d = run(t, dir, args...)
		d.waitLog(`msg="partial resync"`)
	}
	k := len(d.log.from(0))
	if err := d.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	d.waitLogAfter(k, `msg="rebase done`)
	close(quit)
	<-ended
	caughtUp(t, master, dir, "main")
	poll.Seen(t, "the reader to have all", func() (bool, string) {
		last := reader.last.Load()
		return last == wrote.Load(), fmt.Sprintf("%d of %d", last, wrote.Load())
	})
	close(done)
	<-read
	for i, n := range reader.seen {
		if n != int64(i+1) {
			t.Fatalf("behind %d comes %d", i, n)
		}
	}
	g = newest(t, dir, "main")
	t.Logf("%d commands, up to generation %d", len(reader.seen), g.Number)
	if g.Number < 2 {
		t.Error("no rebase took over")
	}
}
