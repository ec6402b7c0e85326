package integration

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"replicad/integration/poll"
	"replicad/integration/redistest"
)

// malformed is a request that is none, made from a seed; whole says whether it
// ends, or stays open until the client goes.
func malformed(r *rand.Rand) (kind, request string) {
	noisy := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.UintN(256))
		}
		return string(b)
	}
	huge := func() string {
		return []string{"9223372036854775807", "99999999999999999999999999", "2147483648", "536870912", "1048577", "-2", "-9223372036854775808", "0x10", "1e9", "", " 1", "01", "+1"}[r.IntN(13)]
	}
	switch r.IntN(14) {
	case 0:
		return "binary", noisy(1 + r.IntN(4000))
	case 1:
		return "huge count", "*" + huge() + "\r\n" + noisy(r.IntN(100))
	case 2:
		return "huge length", "*2\r\n$4\r\nPING\r\n$" + huge() + "\r\n" + noisy(r.IntN(100))
	case 3:
		return "truncated", "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100\r\n" + noisy(r.IntN(100))
	case 4:
		return "HTTP", "GET / HTTP/1.1\r\nHost: example.org\r\nAccept: */*\r\n\r\nPOST /x HTTP/1.1\r\n\r\n"
	case 5:
		return "TLS hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + noisy(510)
	case 6:
		return "endless line", strings.Repeat("a", 1+r.IntN(200_000))
	case 7:
		return "endless count", "*" + strings.Repeat("1", 1+r.IntN(100_000))
	case 8:
		return "many arguments", "*60000\r\n" + strings.Repeat("$0\r\n\r\n", r.IntN(60000))
	case 9:
		return "words", strings.Repeat("a ", 1+r.IntN(30000)) + "\r\n"
	case 10:
		return "quotes", "ECHO \"" + noisy(r.IntN(100)) + "\r\n"
	case 11:
		return "no dollar", "*1\r\n" + noisy(1+r.IntN(10)) + "\r\n"
	case 12:
		return "a queue of thousands", "MULTI\r\n" + strings.Repeat("ECHO "+strings.Repeat("x", 200)+"\r\n", 2000) + "EXEC\r\n"
	}
	return "wrong end", "*1\r\n$4\r\nPING" + noisy(2) + "*1\r\n$4\r\nPING\r\n"
}

// answered counts the answers of a client that pings and asks for INFO all the
// time, and notes the longest it waited.
func answered(t *testing.T, port int) (stop func() (n int, longest time.Duration)) {
	ctx, cancel := context.WithCancel(context.Background())
	var (
		wg      sync.WaitGroup
		n       int
		longest time.Duration
	)
	c := client(t, port)
	wg.Go(func() {
		for ctx.Err() == nil {
			began := time.Now()
			if err := c.Ping(context.Background()).Err(); err != nil {
				t.Errorf("a well-behaved client: %v", err)
				return
			}
			if _, err := c.Info(context.Background(), "replication").Result(); err != nil {
				t.Errorf("a well-behaved client: %v", err)
				return
			}
			longest = max(longest, time.Since(began))
			n += 2
			time.Sleep(time.Millisecond) // the pace of the client
		}
	})
	return func() (int, time.Duration) {
		cancel()
		wg.Wait()
		return n, longest
	}
}

func TestMalformedRequestsCostNobodyElseAnything(t *testing.T) {
	t.Parallel()
	n := count(t, "malformed requests", 400, 10_000)
	master := redistest.Start(t, largeBacklog)
	d, dir, port := servedBy(t, master)
	load := startLoad(t, master, loadRate)
	r := rand.New(rand.NewPCG(4, 7))
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	kinds := map[string]int{}
	var open []net.Conn
	one := func() {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatalf("the port takes nobody any more: %v", err)
		}
		kind, request := malformed(r)
		kinds[kind]++
		_ = c.SetDeadline(time.Now().Add(patience))
		_, _ = io.WriteString(c, request) // it may be cut meanwhile
		switch r.IntN(4) {
		case 0:
			c.Close()
		case 1: // read what it says, to the end where there is one
			_ = c.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, c)
			c.Close()
		default: // stay for a while, and take nothing
			open = append(open, c)
			if len(open) > 200 {
				open[0].Close()
				open = open[1:]
			}
		}
	}
	const before = 1000 // of the same kinds, after which the heap has the size that it needs
	for range before {
		one()
	}
	peak := d.status("VmHWM")
	stop := answered(t, port)
	offset := func() int64 {
		v, _ := strconv.ParseInt(field(t, port, "replication", "slave_repl_offset"), 10, 64)
		return v
	}
	last := offset()
	for i := range n {
		one()
		if i%(n/10) == n/10-1 {
			poll.Seen(t, "the link's offset to move on", func() (bool, string) {
				now := offset()
				if now > last {
					last = now
					return true, ""
				}
				return false, fmt.Sprint(now)
			})
		}
	}
	answers, longest := stop()
	for _, c := range open {
		c.Close()
	}
	now := d.status("VmHWM")
	t.Logf("malformed requests: %d and as warming up 1000, of %v; answers to a well-behaved client meanwhile: %d, the longest wait %v; VmHWM %d MiB, and %d MiB at the end",
		n, kinds, answers, longest, peak>>20, now>>20)
	if answers == 0 {
		t.Error("the well-behaved client got no answer")
	}
	// The clients hold maxmemory-clients (32mb) at most, and the garbage
	// collector lets what is held grow to its double.
	const most, mayGrow = 112 << 20, 24 << 20
	if grown := now - peak; (grown > mayGrow || now > most) && !raceBinary() {
		t.Errorf("memory grew by %d MiB to %d MiB", grown>>20, now>>20)
	}
	load.stop(t)
	poll.Seen(t, "the clients to be gone", func() (bool, string) {
		v := field(t, port, "clients", "connected_clients")
		k, _ := strconv.Atoi(v)
		return k > 0 && k < 20, v
	})
	equal(t, master, dir, "main")
	if full := d.matches(`msg="full sync done"`); full != 1 {
		t.Errorf("%d full syncs", full)
	}
	d.stop()
}

// TestPingsOfManyClientsBesideASync measures, and judges nothing but that all
// ends well: how long a full sync and the catching up behind it take alone, and
// beside redis-benchmark. As that one takes a core itself, and what it pings
// another, it also pings a redis-server that has nothing to do with the sync:
// what is more than that is what the port costs the link.
func TestPingsOfManyClientsBesideASync(t *testing.T) {
	const clients = 200
	bench := tool(t, "redis-benchmark")
	mib := count(t, "MiB of dataset", 8, 512)
	rounds := count(t, "rounds", 1, 5)
	master := redistest.Start(t, largeBacklog, "rdbcompression no")
	bystander := redistest.Start(t)
	fill(t, master, mib)
	value, behind := noise(100_000, 3), min(10*mib, 500)
	took := func(pinged string) time.Duration {
		dir, port := t.TempDir(), redistest.FreePort(t, "127.0.0.1")
		d := run(t, dir, "--replicaof", "main=127.0.0.1:1", "--port", strconv.Itoa(port))
		poll.Seen(t, "the port to answer", func() (bool, string) {
			err := client(t, port).Ping(context.Background()).Err()
			return err == nil, fmt.Sprint(err)
		})
		switch pinged {
		case "replicad":
			defer pinging(t, bench, port, clients)()
		case "a bystander":
			defer pinging(t, bench, bystander.Port, clients)()
		}
		began := time.Now()
		orderTo(t, port, master)
		d.waitLog(`msg="full sync done"`)
		p := master.Client(0).Pipeline()
		for i := range behind {
			p.Set(context.Background(), fmt.Sprint("behind:", i), value, 0)
		}
		if _, err := p.Exec(context.Background()); err != nil && err != redis.Nil {
			t.Fatal(err)
		}
		caughtUp(t, master, dir, "main")
		return time.Since(began)
	}
	all := map[string]time.Duration{}
	for range rounds {
		for _, pinged := range []string{"nobody", "a bystander", "replicad"} {
			all[pinged] += took(pinged)
		}
	}
	mean := func(pinged string) time.Duration {
		return (all[pinged] / time.Duration(rounds)).Round(time.Millisecond)
	}
	t.Logf("sync of %d MiB and %d kB of stream behind it: %v alone; beside redis-benchmark -t ping -c %d: %v where it pings a redis-server, %v where it pings replicad: ratio %.2f",
		mib, behind*len(value)/1000, mean("nobody"), clients, mean("a bystander"), mean("replicad"), float64(all["replicad"])/float64(all["a bystander"]))
}

// pinging runs redis-benchmark until it is told to quit.
func pinging(t *testing.T, bench string, port, clients int) (quit func()) {
	t.Helper()
	cmd := exec.Command(bench, "-p", strconv.Itoa(port), "-t", "ping_mbulk", "-c", strconv.Itoa(clients), "-n", "100000000", "-q")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	asked := func() int {
		n, _ := strconv.Atoi(field(t, port, "stats", "total_commands_processed"))
		return n
	}
	poll.Seen(t, "redis-benchmark's clients to be connected", func() (bool, string) {
		v := field(t, port, "clients", "connected_clients")
		n, _ := strconv.Atoi(v)
		return n > clients && asked() > clients, v
	})
	return func() {
		t.Helper()
		n := asked()
		t.Logf("answers of port %d: %.0f a second", port, float64(n)/time.Since(began).Seconds())
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// fill gives a master so many MiB of keys.
func fill(t *testing.T, master *redistest.Server, mib int) {
	t.Helper()
	value := noise(64<<10, 5)
	for i := range mib {
		p := master.Client(0).Pipeline()
		for k := range 16 {
			p.Set(context.Background(), fmt.Sprint("fill:", i, ":", k), value, 0)
		}
		if _, err := p.Exec(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}
