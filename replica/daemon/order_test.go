package daemon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"replicad/integration/poll"
	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/minimaster"
)

func handle(t *testing.T, d *Daemon) *Handle {
	t.Helper()
	return d.Handles()[0]
}

func hostPort(m *minimaster.Master) (string, string) {
	host, port, _ := strings.Cut(m.Addr(), ":")
	return host, port
}

func TestReplicaOfFollowsAnotherMasterAndOutlivesARestart(t *testing.T) {
	t.Parallel()
	a, b := startMaster(t), startMaster(t)
	dir := t.TempDir()
	cfg := Config{Dir: dir, Masters: []replica.Master{parse(t, "m="+a.Addr())}}
	d, rec, stop := running(t, cfg)
	awaitStream(t, a)
	h := handle(t, d)
	if err := h.ReplicaOf(hostPort(b)); err != nil {
		t.Fatal(err)
	}
	awaitStream(t, b)
	if n := len(describe(t, filepath.Join(dir, "m")).Generations); n != 2 {
		t.Errorf("%d generations: another history begins one, and leaves the old one", n)
	}
	if s := h.Status(); s.Address != b.Addr() || !s.Up() || s.FullSyncs[replica.SyncInitial] != 1 || s.FullSyncs[replica.SyncHistory] != 1 {
		t.Errorf("%+v", s)
	}
	if err := h.ReplicaOf(hostPort(b)); err != nil {
		t.Fatal(err)
	}
	if _, again := rec.find(replica.Repointed, 2); again {
		t.Error("to follow who is followed already is no change")
	}
	stop()

	d, _, stop = running(t, cfg)
	awaitStream(t, b)
	if got := handle(t, d).Status().PartialSyncs; got != 1 {
		t.Errorf("%d partial syncs after the restart", got)
	}
	stop()

	c := startMaster(t)
	cfg.Masters[0] = parse(t, "m="+c.Addr())
	d, _, stop = running(t, cfg)
	awaitStream(t, c)
	if got := handle(t, d).Status().Address; got != c.Addr() {
		t.Errorf("the configuration was changed, and %s is followed", got)
	}
	stop()
}

func TestNoOneKeepsTheArchiveAndHoldsUntilReplicaOf(t *testing.T) {
	t.Parallel()
	m := startMaster(t)
	dir := t.TempDir()
	cfg := Config{Dir: dir, Masters: []replica.Master{parse(t, "m="+m.Addr())}}
	d, _, stop := running(t, cfg)
	awaitStream(t, m)
	h := handle(t, d)
	if err := h.NoOne(); err != nil {
		t.Fatal(err)
	}
	if s := h.Status(); s.Following() || s.Wanted() || s.State != replica.None || s.DownSince.IsZero() {
		t.Errorf("%+v", s)
	}
	poll.Until(t, "the end of the link", func() bool { return m.Replicas() == 0 })
	do(t, m, "SET", "while", "nobody follows")
	stop()

	d, _, stop = running(t, cfg)
	h = handle(t, d)
	if err := h.Rebase("a test"); !errors.Is(err, ErrNotStreaming) {
		t.Errorf("a rebase of nobody: %v", err)
	}
	if s := h.Status(); s.Following() {
		t.Errorf("after a restart %s is followed", s.Address)
	}
	if err := h.ReplicaOf(hostPort(m)); err != nil {
		t.Fatal(err)
	}
	awaitStream(t, m)
	if s := m.Stats(); s.SyncFull != 1 || s.SyncPartialOK != 1 {
		t.Errorf("%+v, want a partial resync after the pause", s)
	}
	stop()
	if err := h.NoOne(); !errors.Is(err, ErrStopped) {
		t.Errorf("an order to a daemon that has stopped: %v", err)
	}
}

func TestAnOrderThatCannotBeWrittenDownIsNotObeyed(t *testing.T) {
	t.Parallel()
	a, b := startMaster(t), startMaster(t)
	dir := t.TempDir()
	d, _, stop := running(t, Config{Dir: dir, Masters: []replica.Master{parse(t, "m="+a.Addr())}})
	defer stop()
	awaitStream(t, a)
	if err := os.Mkdir(filepath.Join(dir, "m", orderName+".tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	h := handle(t, d)
	if err := h.ReplicaOf(hostPort(b)); err == nil || !strings.Contains(err.Error(), "nothing was changed") {
		t.Errorf("%v", err)
	}
	if s := h.Status(); s.Address != a.Addr() {
		t.Errorf("%s is followed", s.Address)
	}
	for _, bad := range [][2]string{{"", "1"}, {"h", "0"}, {"h", "70000"}, {"h\n", "1"}, {"a b", "1"}, {"user@h", "1"}} {
		if err := h.ReplicaOf(bad[0], bad[1]); !errors.Is(err, replica.ErrAddress) {
			t.Errorf("REPLICAOF %q %q: %v", bad[0], bad[1], err)
		}
	}
}

func TestAnOrderDuringARebaseGivesTheRebaseUp(t *testing.T) {
	t.Parallel()
	a, b := startMaster(t), startMaster(t)
	a.SetFaults(minimaster.Faults{})
	dir := t.TempDir()
	d, rec, stop := running(t, Config{Dir: dir, Masters: []replica.Master{parse(t, "m="+a.Addr())}})
	defer stop()
	awaitStream(t, a)
	h := handle(t, d)
	for round := range 6 { // at whatever moment of it
		quit := writer(t, a)
		if err := h.Rebase("a test"); err != nil {
			t.Fatal(err)
		}
		if round%2 == 0 {
			rec.awaitArchive(t, archive.RebaseBegun, round+1)
		}
		if err := h.ReplicaOf(hostPort(b)); err != nil {
			t.Fatal(err)
		}
		quit()
		poll.Until(t, "the end of the rebase", func() bool { return !h.Status().Rebase.Running })
		awaitStream(t, b)
		if err := h.ReplicaOf(hostPort(a)); err != nil {
			t.Fatal(err)
		}
		awaitStream(t, a)
	}
	s := h.Status()
	t.Logf("of %d rebases %d were given up, %d were done first", 6, s.Rebase.Failed, s.Rebase.Done)
	if s.Rebase.Failed+s.Rebase.Done != 6 {
		t.Errorf("%+v", s.Rebase)
	}
}

func FuzzReadOrder(f *testing.F) {
	f.Add("configured 127.0.0.1:6379\nreplicaof 127.0.0.1:6380\n")
	f.Add("configured 127.0.0.1:6379\nreplicaof no one\n")
	f.Add("# a comment\nconfigured other:1\nreplicaof h:1\n")
	f.Add("replicaof\n\x00\xff")
	f.Fuzz(func(t *testing.T, text string) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, orderName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		configured := replica.Master{Name: "m", Host: "127.0.0.1", Port: 6379, User: "u", Password: "p"}
		m, ordered, void, err := readOrder(dir, configured.Address(), configured)
		if err != nil {
			if !errors.Is(err, errOrder) || !strings.Contains(err.Error(), orderName) {
				t.Errorf("%v", err)
			}
			return
		}
		if !ordered && (m != configured || void == "") || ordered && void != "" || m.Name != "m" || m.User != "u" || m.Password != "p" {
			t.Errorf("%+v, %v, %q", m, ordered, void)
		}
		if !ordered {
			return
		}
		if err := writeOrder(dir, configured.Address(), m); err != nil {
			t.Fatal(err)
		}
		if again, o, v, err := readOrder(dir, configured.Address(), configured); again != m || !o || v != "" || err != nil {
			t.Errorf("written and read: %+v, %v, %q, %v", again, o, v, err)
		}
	})
}

func TestAPasswordThatIsChangedWhileAnOrderIsObeyedStays(t *testing.T) {
	t.Parallel()
	a, b := startMaster(t), startMaster(t)
	d, _, _ := running(t, Config{Dir: t.TempDir(), Masters: []replica.Master{parse(t, "m="+a.Addr())}})
	awaitStream(t, a)
	h := d.Handles()[0]
	for i := range 30 {
		var wg sync.WaitGroup
		m := a
		if i%2 == 0 {
			m = b
		}
		host, port, err := net.SplitHostPort(m.Addr())
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			if err := h.ReplicaOf(host, port); err != nil {
				t.Error(err)
			}
		})
		want := fmt.Sprint("p", i)
		if err := h.SetCredentials("", want); err != nil {
			t.Error(err)
		}
		wg.Wait()
		_ = h.call(func() error {
			if got := h.f.cfg.Master.Password; got != want {
				t.Errorf("the password is %q, want %q", got, want)
			}
			return nil
		})
	}
}

func TestCredentialsThatTheMasterRefusesAreReadAgain(t *testing.T) {
	t.Parallel()
	m, err := minimaster.Start(minimaster.Config{RequirePass: "new"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	target := parse(t, "m="+m.Addr())
	target.Password = "old"
	var asked atomic.Int64
	_, rec, _ := running(t, Config{Dir: t.TempDir(), Masters: []replica.Master{target}, Credentials: func(name string) (string, string, error) {
		if name != "m" {
			t.Errorf("asked for %q", name)
		}
		if asked.Add(1) == 1 {
			return "", "", errors.New("the file is being written")
		}
		return "", "new", nil
	}})
	rec.await(t, replica.FullSyncDone, 1)
	if n := asked.Load(); n < 2 {
		t.Errorf("asked %d times", n)
	}
}
