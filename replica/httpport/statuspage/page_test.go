package statuspage_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"replicad/integration/poll"
	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/daemon/status"
	"replicad/replica/httpport/statuspage"
)

func body(t *testing.T, r *http.Response) string {
	t.Helper()
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// get is the page as the server gives it.
func get(t *testing.T, address string) string {
	t.Helper()
	r, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	if r.StatusCode != http.StatusOK {
		t.Fatalf("%s answers %s: %s", address, r.Status, body(t, r))
	}
	return body(t, r)
}

func TestThePageFollowsTheLink(t *testing.T) {
	main := streaming("main")
	p, address := serve(t, statuspage.Config{Masters: []statuspage.Master{main}})
	if page := get(t, address); !strings.Contains(page, "<title>Sound: main - replicad</title>") || !strings.Contains(page, `<b class="code">SYNC/STREAM</b>`) {
		t.Errorf("the page is\n%s", page)
	}
	main.set(func(f *fake) {
		f.status.State, f.status.Phase = replica.None, replica.NoPhase
		f.status.Entered, f.status.DownSince = time.Now(), time.Now()
	})
	p.Observe(replica.Event{
		Time: time.Now(), Master: "main", Kind: replica.Failed, State: replica.None,
		Err: &replica.LinkError{Master: "main", State: replica.Sync, Phase: replica.Stream, Cause: replica.ErrClosed},
	})
	poll.Until(t, "the cut to be shown", func() bool {
		page := get(t, address)
		_, notices, _ := strings.Cut(page, `id="m0-notices"`)
		return strings.Contains(page, `<b class="code">NONE</b>`) && strings.Contains(notices, "the master closed the connection")
	})
}

func TestADiskThatIsSlowOrHangsDelaysNoPageForLong(t *testing.T) {
	main, other := streaming("main"), streaming("other")
	main.disk = status.Disk{}
	other.disk.Err = errors.New("the disk hangs: a reading has been under way for 11s")
	_, address := serve(t, statuspage.Config{Masters: []statuspage.Master{main, other}})
	page := get(t, address)
	for _, want := range []string{"The archive is being read", "SYNC/STREAM", "The archive can&#39;t be read: the disk hangs"} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is not on the page\n%s", want, page)
		}
	}
	if most := 2 * time.Second; main.waited > most || other.waited > most {
		t.Errorf("waits %v and %v for a disk", main.waited, other.waited)
	}
	main.set(func(f *fake) { f.disk = streaming("main").disk })
	poll.Until(t, "the archive to be shown", func() bool { return strings.Contains(get(t, address), "<span>restore</span>") })
}

func TestManyRequestsShareOneRendering(t *testing.T) {
	main := streaming("main")
	_, address := serve(t, statuspage.Config{Masters: []statuspage.Master{main}})
	began := time.Now()
	for range 50 {
		get(t, address)
	}
	main.mu.Lock()
	defer main.mu.Unlock()
	if most := 1 + int(time.Since(began)/(200*time.Millisecond)); main.reads > most {
		t.Errorf("made %d times in %v", main.reads, time.Since(began))
	}
}

func TestAPageThatIsClosedWaitsForNobody(t *testing.T) {
	p, address := serve(t, statuspage.Config{Masters: []statuspage.Master{streaming("main")}})
	p.Close()
	p.Close()
	p.Observe(replica.Event{Master: "main", Kind: replica.Stopped})
	get(t, address)
}

func TestWhatIsAskedWronglyIsRefused(t *testing.T) {
	_, address := serve(t, statuspage.Config{Masters: []statuspage.Master{streaming("main")}})
	for path, want := range map[string]int{
		"": 200, "static/page.css": 200, "static/page.js": 200, "static/icon.svg": 200,
		"static/": 404, "static/none": 404, "page.html": 404, "events": 404, "static/../page.go": 404, "other": 404,
	} {
		r, err := http.Get(address + path)
		if err != nil {
			t.Fatal(err)
		}
		if body(t, r); r.StatusCode != want {
			t.Errorf("/%s answers %d, want %d", path, r.StatusCode, want)
		}
		if csp := r.Header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'self';") {
			t.Errorf("/%s: Content-Security-Policy %q", path, csp)
		}
	}
	r, err := http.Post(address, "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	if body(t, r); r.StatusCode != http.StatusMethodNotAllowed || r.Header.Get("Allow") == "" {
		t.Errorf("POST answers %s", r.Status)
	}
	r, err = http.Head(address)
	if err != nil {
		t.Fatal(err)
	}
	if text := body(t, r); r.StatusCode != http.StatusOK || text != "" {
		t.Errorf("HEAD answers %s %q", r.Status, text)
	}
}

func TestEachTroubleHasItsWord(t *testing.T) {
	hour := time.Now().Add(-time.Hour)
	down := func(f *fake) {
		f.status.State, f.status.Phase, f.status.DownSince = replica.None, replica.NoPhase, hour
	}
	for want, change := range map[string]func(*fake){
		"good Sound":         func(*fake) {},
		"bad Link down":      down,
		"warn Connecting":    func(f *fake) { down(f); f.status.DownSince = time.Now() },
		"warn Not following": func(f *fake) { down(f); f.status.Address, f.status.NoOne = "", true },
		"bad No master":      func(f *fake) { down(f); f.status.Address = "" },
		"warn Full sync":     func(f *fake) { down(f); f.status.State, f.status.Phase = replica.Sync, replica.Transfer },
		"bad Can&#39;t write": func(f *fake) {
			f.status.Stalled, f.status.StalledSince = "write: no space left on device", hour
		},
		"bad Can&#39;t read": func(f *fake) { f.disk.Err = errors.New("permission denied") },
		"bad No backup yet":  func(f *fake) { f.disk.Archive.Generations = nil },
		"warn First sync": func(f *fake) {
			down(f)
			f.status.State, f.status.Phase, f.disk.Archive.Generations = replica.Sync, replica.Transfer, nil
		},
		"warn Damage":    func(f *fake) { f.disk.Archive.Generations[1].Damaged = 1 },
		"warn Lagging":   func(f *fake) { f.lag = time.Hour },
		"warn Too large": func(f *fake) { f.status.Overfull = true },
	} {
		main := streaming("main")
		change(main)
		_, address := serve(t, statuspage.Config{Masters: []statuspage.Master{main}})
		class, word, _ := strings.Cut(want, " ")
		poll.Until(t, want, func() bool {
			return strings.Contains(get(t, address), `<p class="pill `+class+`" role="status">`+word+`</p>`)
		})
	}
}

func TestADiskThatFillsIsTold(t *testing.T) {
	main := streaming("main")
	main.disk.Free = 2 << 30
	p, address := serve(t, statuspage.Config{Masters: []statuspage.Master{main}})
	p.Fill("main", minutes(0, 0))
	if page := get(t, address); !strings.Contains(page, "Disk fills") || !strings.Contains(page, "full in about") {
		t.Errorf("the page is\n%s", page)
	}
}

func TestSecretsAndOthersMastersEventsAreNotShown(t *testing.T) {
	p, address := serve(t, statuspage.Config{Masters: []statuspage.Master{streaming("main")}})
	p.Observe(replica.Event{Time: time.Now(), Master: "another", Kind: replica.Resumed, ReplID: "strange"})
	p.Observe(replica.Event{Time: time.Now(), Master: "main", Kind: replica.Sent, Data: []byte("AUTH secret")})
	p.Observe(replica.Event{Time: time.Now(), Master: "main", Kind: replica.Resumed, State: replica.Sync, Phase: replica.Psync, ReplID: "known"})
	poll.Until(t, "the event to be noted", func() bool { return strings.Contains(get(t, address), "replid=<bdi>known") })
	if page := get(t, address); strings.Contains(page, "strange") || strings.Contains(page, "secret") {
		t.Errorf("the page is\n%s", page)
	}
}

func TestRepeatedFailuresDoNotPushOutWhatCameBefore(t *testing.T) {
	p, address := serve(t, statuspage.Config{Masters: []statuspage.Master{streaming("main")}})
	p.Observe(replica.Event{Time: time.Now(), Master: "main", Kind: replica.FullSyncDone, ReplID: "before"})
	for range 200 {
		p.Observe(replica.Event{Time: time.Now(), Master: "main", Kind: replica.Failed, Err: errors.New("refused")})
	}
	poll.Until(t, "the failures to be counted", func() bool {
		_, notices, _ := strings.Cut(get(t, address), `id="m0-notices"`)
		return strings.Contains(notices, "200 times") && strings.Contains(notices, "replid=<bdi>before")
	})
}

func TestAGapIsShownAndARebaseLeavesNone(t *testing.T) {
	main := streaming("main")
	_, address := serve(t, statuspage.Config{Masters: []statuspage.Master{main}})
	page := get(t, address)
	if got := strings.Count(page, `class="mark rebase"`); got != 3 {
		t.Errorf("%d marks of a rebase, want 3", got)
	}
	if got := strings.Count(page, `class="mark base"`); got != 2 {
		t.Errorf("%d marks of a full sync, want 2", got)
	}
	if !strings.Contains(page, "with 1 gap, 3 h 40 min in all") {
		t.Errorf("the gap is not told\n%s", page)
	}
	// A rebase bridges only the one before it.
	damaged := streaming("main")
	damaged.disk.Archive.Generations[1].Problem = "timeline is damaged"
	damaged.disk.Archive.Generations[2].Rebased = true
	_, address = serve(t, statuspage.Config{Masters: []statuspage.Master{damaged}})
	if page := get(t, address); !strings.Contains(page, "with 1 gap, 11 h 40 min in all") {
		t.Errorf("the gap that a damaged generation leaves is not told\n%s", page)
	}
	_, address = serve(t, statuspage.Config{Masters: []statuspage.Master{&fake{name: "new", disk: status.Disk{At: time.Now(), Archive: archive.Master{Name: "new", Dir: "/d/new"}}}}})
	if page := get(t, address); !strings.Contains(page, "Nothing yet") || strings.Contains(page, "<span>restore</span>") {
		t.Errorf("an empty archive is shown as\n%s", page)
	}
}

func TestAFullSyncUnderWayShowsHowFarItIs(t *testing.T) {
	main := streaming("main")
	main.status.Phase, main.status.DownSince = replica.Transfer, time.Now()
	main.status.Transfer = status.Transfer{Began: time.Now(), Bytes: 1 << 30, Total: 4 << 30}
	_, address := serve(t, statuspage.Config{Masters: []statuspage.Master{main}})
	if page := get(t, address); !strings.Contains(page, `<progress max="4294967296" value="1073741824"`) || !strings.Contains(page, "1.0 GiB of 4.0 GiB, 25 %") {
		t.Errorf("the page is\n%s", page)
	}
	main.set(func(f *fake) {
		f.status.Phase, f.status.DownSince, f.status.Transfer = replica.Stream, time.Time{}, status.Transfer{}
		f.status.Rebase.Transfer = status.Transfer{Began: time.Now(), Bytes: 1 << 20, Total: -1}
	})
	poll.Until(t, "the rebase to be shown", func() bool {
		return strings.Contains(get(t, address), "Rebase: a new base: 1.0 MiB, for ")
	})
}

func TestSeveralMastersAreSummedUp(t *testing.T) {
	good, bad := streaming("good"), streaming("bad")
	bad.status.Overfull = true
	_, address := serve(t, statuspage.Config{Masters: []statuspage.Master{good, bad}})
	page := get(t, address)
	for _, want := range []string{"<title>1 of 2 masters need a look - replicad</title>", `href="#m0"`, `href="#m1"`, `id="m1"`} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is not on the page", want)
		}
	}
	bad.set(func(f *fake) { f.status.Overfull = false })
	poll.Until(t, "all to be sound", func() bool {
		return strings.Contains(get(t, address), "<title>Sound: all masters - replicad</title>")
	})
}

func BenchmarkRenderingThePage(b *testing.B) {
	main := streaming("main")
	p := statuspage.New(statuspage.Config{Masters: []statuspage.Master{main}})
	defer p.Close()
	p.Fill("main", minutes(190, 22))
	tell(p, story("main"))
	b.ReportAllocs()
	var bytes int
	for b.Loop() {
		bytes = p.Render()
	}
	b.ReportMetric(float64(bytes), "bytes/page")
}

func TestWithoutABackupOnlyAFirstSyncIsNoAlarm(t *testing.T) {
	const alarm = "Nothing can be restored yet"
	for _, c := range []struct {
		name   string
		alarms bool
		change func(*status.Status)
	}{
		{"a first sync", false, func(s *status.Status) { s.State, s.Phase = replica.Sync, replica.Transfer }},
		{"a link that is connecting", false, func(s *status.Status) { s.DownSince = time.Now().Add(time.Minute) }},
		{"a link that is down", true, func(*status.Status) {}},
		{"no master is followed", true, func(s *status.Status) { s.Address, s.NoOne = "", true }},
	} {
		main := streaming("main")
		main.disk.Archive.Generations = nil
		main.status.State, main.status.Phase, main.status.DownSince = replica.None, replica.NoPhase, time.Now().Add(-time.Hour)
		c.change(&main.status)
		_, address := serve(t, statuspage.Config{Masters: []statuspage.Master{main}})
		page := get(t, address)
		if strings.Contains(page, alarm) != c.alarms || strings.Contains(page, `<p class="pill bad"`) != c.alarms {
			t.Errorf("%s: the alarm should be %v\n%s", c.name, c.alarms, page)
		}
	}
}
