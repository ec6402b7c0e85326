package daemon

import (
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"replicad/integration/poll"
	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/daemon/status"
	"replicad/replica/respport"
)

// slowDisk is a disk that counts its readings and takes as long as a test says.
type slowDisk struct {
	mu    sync.Mutex
	reads int64
	takes time.Duration
}

func (s *slowDisk) read() status.Disk {
	s.mu.Lock()
	s.reads++
	n, takes := s.reads, s.takes
	s.mu.Unlock()
	time.Sleep(takes)
	return status.Disk{Free: n}
}

// begun is how many readings have begun.
func (s *slowDisk) begun() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads
}

func (s *slowDisk) set(takes time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.takes = takes
}

func TestManyWhoAskShareOneReading(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &slowDisk{takes: 100 * time.Millisecond}
		d := &disk{read: s.read}
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if r := d.get(time.Second); r.Free != 1 || r.At.IsZero() || r.Err != nil {
					t.Errorf("%+v", r)
				}
			})
		}
		wg.Wait()
		time.Sleep(freshFor / 2)
		if r := d.get(time.Second); r.Free != 1 {
			t.Errorf("a reading that is fresh was read again: %+v", r)
		}
		time.Sleep(freshFor)
		if r := d.get(time.Second); r.Free != 2 {
			t.Errorf("a reading that is old is shown: %+v", r)
		}
	})
}

func TestADiskThatHangsHoldsNobodyAndOneGoroutineAndIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &slowDisk{}
		d := &disk{read: s.read}
		d.get(time.Second)
		s.set(time.Minute)
		time.Sleep(freshFor)
		for _, want := range []time.Duration{archiveWait, 0, 0} { // the first one waits; then the reading has had its time
			began := time.Now()
			if r := d.get(archiveWait); r.Free != 1 || r.Err != nil {
				t.Errorf("%+v, want the last reading", r)
			}
			if waited := time.Since(began); waited != want {
				t.Errorf("waited %v, want %v", waited, want)
			}
		}
		time.Sleep(hangsAfter)
		if r := d.get(archiveWait); !errors.Is(r.Err, ErrHangs) || r.Free != 1 {
			t.Errorf("%+v, want that the disk hangs", r)
		}
		if s.begun() != 2 {
			t.Errorf("%d readings were begun, want 2", s.begun())
		}
		time.Sleep(time.Minute)
		if r := d.get(0); r.Free != 2 || r.Err != nil {
			t.Errorf("%+v, want what was read in the end", r)
		}
	})
}

func TestADiskThatWasNeverReadTellsSo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &slowDisk{takes: time.Second}
		d := &disk{read: s.read}
		if r := d.get(archiveWait); !r.At.IsZero() {
			t.Errorf("%+v", r)
		}
		if r := d.get(2 * time.Second); r.Free != 1 {
			t.Errorf("%+v", r)
		}
	})
}

func TestReadingsTakeAShareOfTheTimeAtMost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const takes, over = 3 * time.Second, 10 * time.Minute
		s := &slowDisk{takes: takes}
		d := &disk{read: s.read}
		for began := time.Now(); time.Since(began) < over; {
			d.get(2 * time.Second)
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Duration(s.begun()) * takes; took > over/(diskShare-1) || s.begun() < 10 {
			t.Errorf("%d readings took %v of %v", s.begun(), took, over)
		}
	})
}

func TestAFolderThatIsGoneIsAnError(t *testing.T) {
	t.Parallel()
	f := &follower{dir: t.TempDir() + "/none"}
	f.describe()
	h := &Handle{f: f}
	if d := h.Disk(time.Minute); !errors.Is(d.Err, os.ErrNotExist) {
		t.Errorf("%+v", d)
	}
}

func TestINFOArchiveIsAnsweredWhileTheDiskHangs(t *testing.T) {
	t.Parallel()
	var readings atomic.Int32
	hung := make(chan struct{})
	f := &follower{status: status.New(replica.Master{Name: "m"})}
	f.disk.read = func() status.Disk {
		n := readings.Add(1)
		if n > 1 {
			<-hung
		}
		return status.Disk{Archive: archive.Master{Generations: make([]archive.Generation, n)}}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close() // a free port
	s, err := respport.Listen(respport.Config{Port: ln.Addr().(*net.TCPAddr).Port})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	go s.Serve(&Handle{f: f})
	client := redis.NewClient(&redis.Options{Addr: ln.Addr().String(), ReadTimeout: archiveWait + 5*time.Second, MaxRetries: -1})
	defer client.Close()
	generations := func() string {
		text, err := client.Info(t.Context(), "archive").Result()
		if err != nil {
			t.Fatalf("INFO archive is not answered: %v", err)
		}
		_, n, _ := strings.Cut(text, "archive_generations:")
		n, _, _ = strings.Cut(n, "\r")
		return n
	}
	for answered := 0; answered < 3; { // after the second reading has begun, which hangs
		if readings.Load() > 1 {
			answered++
		}
		if n := generations(); n != "1" {
			t.Fatalf("archive_generations:%s, want what the first reading found", n)
		}
	}
	close(hung)
	poll.Until(t, "what the second reading found", func() bool { return generations() == "2" })
}
