package integration

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"replicad/integration/poll"
	"replicad/integration/redistest"
	"replicad/replica/rdb"
)

// TestMemoryStaysBelow64MiBWhateverTheMasterSends has a scripted master send an
// RDB and a stream as fast as it can, in each framing.
func TestMemoryStaysBelow64MiBWhateverTheMasterSends(t *testing.T) {
	t.Parallel()
	if raceBinary() {
		t.Skip("the race detector multiplies memory: nothing was measured")
	}
	const limit = 64 << 20
	mib := count(t, "MiB of RDB, and of stream", 80, 1024)
	for _, framing := range []string{"$<length>", "$EOF"} {
		t.Run(framing, func(t *testing.T) {
			t.Parallel()
			value := noise(1<<20, 1)
			var acked, fsynced atomic.Int64
			var streamed atomic.Int64
			master := script(t, func(c *conversation) {
				if _, _, ok := c.handshake(); !ok {
					return
				}
				sum, size := rdb.NewChecksum(), int64(0)
				piece := func(key int) string { return "\x00" + rdbString(fmt.Sprint("key:", key)) + rdbString(value) }
				const head = "REDIS0010\xfe\x00"
				size = int64(len(head) + 1 + 8)
				for i := range mib {
					size += int64(len(piece(i)))
				}
				mark := replID('e')
				c.say("+FULLRESYNC %s 0\r\n", replID('a'))
				if framing == "$EOF" {
					c.say("$EOF:%s\r\n", mark)
				} else {
					c.say("$%d\r\n", size)
				}
				send := func(s string) {
					sum.Write([]byte(s))
					c.say("%s", s)
				}
				send(head)
				for i := range mib {
					send(piece(i))
				}
				send("\xff")
				c.say("%s", binary.LittleEndian.AppendUint64(nil, sum.Sum64()))
				begin, ended := make(chan struct{}), make(chan struct{})
				go func() {
					defer close(ended)
					first := true
					c.acks(func(offset, durable int64) {
						acked.Store(offset)
						fsynced.Store(durable)
						if first {
							close(begin)
							first = false
						}
					})
				}()
				if framing == "$EOF" {
					c.say("%s", mark)
					<-begin // as a diskless master does
				}
				n, _ := fmt.Fprint(c, "*2\r\n$6\r\nSELECT\r\n$1\r\n1\r\n")
				total := int64(n)
				for i := range mib {
					n, err := fmt.Fprintf(c, "*3\r\n$3\r\nSET\r\n$6\r\nkey:%02d\r\n$%d\r\n%s\r\n", i%10, len(value), value)
					if total += int64(n); err != nil {
						return
					}
				}
				streamed.Store(total)
				<-ended // the connection stays until the daemon ends it
			})
			dir := t.TempDir()
			began := time.Now()
			d := run(t, dir, "--replicaof", "main="+master.addr)
			d.waitLog(`msg="full sync done"`)
			rdbTook := time.Since(began)
			poll.Seen(t, "all to be acknowledged and fsynced", func() (bool, string) {
				total := streamed.Load()
				return total > 0 && acked.Load() == total && fsynced.Load() == total, fmt.Sprint(acked.Load(), fsynced.Load(), total)
			})
			poll.Seen(t, "the base to be verified", func() (bool, string) {
				return newest(t, dir, "main").BaseVerified, "not yet"
			})
			peak := d.status("VmHWM")
			t.Logf("%d MiB of RDB (%v) and %d MiB of stream, %v in all: peak RSS %.1f MiB", mib, rdbTook.Round(time.Millisecond), mib,
				time.Since(began).Round(time.Millisecond), float64(peak)/(1<<20))
			if peak >= limit {
				t.Errorf("the peak of RSS (VmHWM) was %d bytes, the limit is %d", peak, limit)
			}
			d.stop()
			g := newest(t, dir, "main")
			if g.EndOffset != streamed.Load() || g.BaseBytes < int64(mib)<<20 {
				t.Errorf("the archive has a base of %d bytes and ends at %d; %d bytes were streamed", g.BaseBytes, g.EndOffset, streamed.Load())
			}
			loaded := redistest.Load(t, g.Dir)
			if n, m := loaded.DoIn(0, "DBSIZE"), loaded.DoIn(1, "DBSIZE"); n != int64(mib) || m != int64(10) {
				t.Errorf("loaded: %v and %v keys, want %d and 10", n, m, mib)
			}
		})
	}
}
