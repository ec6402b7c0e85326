package statuspage_test

import (
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"regexp"
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
		_, notices, _ := strings.Cut(page, `id="notices"`)
		return strings.Contains(page, `<b class="code">NONE</b>`) && strings.Contains(notices, "the master closed the connection")
	})
}

func TestADiskThatIsSlowOrHangsDelaysNoPageForLong(t *testing.T) {
	main, other := streaming("main"), streaming("other")
	main.disk = status.Disk{}
	other.disk.Err = errors.New("the disk hangs: a reading has been under way for 11s")
	_, address := serve(t, statuspage.Config{Masters: []statuspage.Master{main, other}})
	for query, want := range map[string]string{
		"": "The archive can&#39;t be read: the disk hangs", "?master=main": "The archive is being read", "?master=other": "The archive can&#39;t be read: the disk hangs",
	} {
		if page := get(t, address+query); !strings.Contains(page, want) {
			t.Errorf("%q is not on the page %q\n%s", want, query, page)
		}
	}
	if most := 2 * time.Second; main.waited > most || other.waited > most {
		t.Errorf("waits %v and %v for a disk", main.waited, other.waited)
	}
	main.set(func(f *fake) { f.disk = streaming("main").disk })
	poll.Until(t, "the archive to be shown", func() bool { return strings.Contains(get(t, address+"?master=main"), "<span>restore</span>") })
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
		"warn First sync ": func(f *fake) { // repl-diskless-sync-delay, or the first connection of two
			down(f)
			f.status.State, f.status.Phase, f.disk.Archive.Generations = replica.Sync, replica.Psync, nil
		},
		"warn Damage":    func(f *fake) { f.disk.Archive.Generations[1].Damaged = 1 },
		"warn Lagging":   func(f *fake) { f.lag = time.Hour },
		"warn Too large": func(f *fake) { f.status.Overfull = true },
	} {
		main := streaming("main")
		change(main)
		_, address := serve(t, statuspage.Config{Masters: []statuspage.Master{main}})
		class, word, _ := strings.Cut(strings.TrimSpace(want), " ")
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
		_, notices, _ := strings.Cut(get(t, address), `id="notices"`)
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

func TestSeveralMastersAreSummedUpTheWorstFirst(t *testing.T) {
	good, watch, bad := streaming("aa"), streaming("bb"), streaming("cc")
	watch.status.Overfull = true
	bad.disk.Err = errors.New("permission denied")
	_, address := serve(t, statuspage.Config{Masters: []statuspage.Master{good, watch, bad}})
	page := get(t, address)
	at := 0
	for _, want := range []string{
		"<title>2 of 3 masters need a look - replicad</title>", "<b>1</b> in trouble", "<b>1</b> to watch", "<b>1</b> sound",
		`href="?master=cc"`, "permission denied", `href="?master=bb"`, "larger than max-bytes", "<summary>1 is sound", `href="?master=aa"`,
	} {
		i := strings.Index(page[at:], want)
		if i < 0 {
			t.Fatalf("behind byte %d there is no %q on the page\n%s", at, want, page)
		}
		at += i
	}
	if strings.Contains(page, "<details class=\"sound\" open") {
		t.Error("what is sound is not folded")
	}
	if page := get(t, address+"?state=bad"); !strings.Contains(page, "master=cc") || strings.Contains(page, "master=bb") {
		t.Errorf("of those in trouble it shows\n%s", page)
	}
	if page := get(t, address+"?q=AA"); !strings.Contains(page, "master=aa") || strings.Contains(page, "master=bb") || !strings.Contains(page, "open><summary>1 is sound") {
		t.Errorf("a search for AA shows\n%s", page)
	}
	if page := get(t, address+"?q=%3Cscript%3E&state=good&page=-7"); !strings.Contains(page, "No master is like that") || strings.Contains(page, "<script>") {
		t.Errorf("a search for nothing shows\n%s", page)
	}
	if page := get(t, address+"?master=bb"); !strings.Contains(page, "<title>Too large: bb - replicad</title>") || !strings.Contains(page, `<a href="?">All 3 masters</a>: 2 of them need a look`) {
		t.Errorf("the page of bb is\n%s", page)
	}
	r, err := http.Get(address + "?master=dd")
	if err != nil {
		t.Fatal(err)
	}
	if said := body(t, r); r.StatusCode != http.StatusNotFound || !strings.Contains(said, "no master is called dd") {
		t.Errorf("a master that is not followed: %s %s", r.Status, said)
	}
	watch.set(func(f *fake) { f.status.Overfull = false })
	bad.set(func(f *fake) { f.disk.Err = nil })
	poll.Until(t, "all to be sound", func() bool {
		page := get(t, address)
		return strings.Contains(page, "<title>Sound: all masters - replicad</title>") && strings.Contains(page, "open><summary>3 are sound")
	})
}

func TestAPageOfThousandsOfMastersIsBounded(t *testing.T) {
	var all []statuspage.Master
	for i := range 5000 {
		f := streaming(fmt.Sprintf("%04d-%s", i, strings.Repeat("n", 40)))
		if i%2 == 1 {
			f.status.State, f.status.Phase, f.status.DownSince = replica.None, replica.NoPhase, time.Now().Add(-time.Hour)
			f.status.LastFailure, f.status.LastFailureAt = strings.Repeat("x", 1000), time.Now()
		}
		all = append(all, f)
	}
	_, address := serve(t, statuspage.Config{Masters: all})
	shown := map[string]bool{}
	pages := 0
	next := regexp.MustCompile(`rel="next" href="([^"]*)"`)
	for query := "?"; query != ""; pages++ {
		page := get(t, address+query)
		if len(page) > 200_000 {
			t.Fatalf("page %d has %d bytes", pages+1, len(page))
		}
		for _, m := range regexp.MustCompile(`master=(\d+)`).FindAllStringSubmatch(page, -1) {
			shown[m[1]] = true
		}
		query = ""
		if m := next.FindStringSubmatch(page); m != nil {
			query = html.UnescapeString(m[1])
		}
	}
	if len(shown) != 5000 || pages != 50 {
		t.Errorf("%d pages show %d masters", pages, len(shown))
	}
	reads := 0
	for _, m := range all {
		reads += m.(*fake).reads
	}
	if reads > 5000 {
		t.Errorf("50 pages read %d folders", reads)
	}
}

func BenchmarkRenderingThePage(b *testing.B) {
	for _, n := range []int{1, 100, 1000, 5000} {
		b.Run(fmt.Sprintf("%d masters", n), func(b *testing.B) {
			cfg := statuspage.Config{Masters: []statuspage.Master{streaming("main")}}
			for i := 1; i < n; i++ {
				cfg.Masters = append(cfg.Masters, streaming(fmt.Sprint("main", i)))
			}
			p := statuspage.New(cfg)
			defer p.Close()
			p.Fill("main", minutes(190, 22))
			tell(p, story("main"))
			b.ReportAllocs()
			var bytes int
			for b.Loop() {
				bytes = p.Render()
			}
			b.ReportMetric(float64(bytes), "bytes/page")
		})
	}
}

func TestWithoutABackupOnlyAFirstSyncIsNoAlarm(t *testing.T) {
	const alarm = "Nothing can be restored yet"
	for _, c := range []struct {
		name   string
		alarms bool
		change func(*status.Status)
	}{
		{"a first sync", false, func(s *status.Status) { s.State, s.Phase = replica.Sync, replica.Transfer }},
		{"a first sync on two connections, while the stream comes already", false, func(s *status.Status) {
			s.State, s.Phase, s.LagSince = replica.Sync, replica.Transfer, time.Now().Add(-time.Hour)
		}},
		{"a master that was asked and has not answered", false, func(s *status.Status) { s.State, s.Phase, s.LastFailure = replica.Sync, replica.Psync, "" }},
		{"a folder that was read before the sync was done", false, func(s *status.Status) {
			s.State, s.Phase, s.Entered = replica.Sync, replica.Stream, time.Now().Add(time.Hour)
		}},
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
		if reasons, _, _ := strings.Cut(page[strings.Index(page, `<ul class="reasons`):], "</ul>"); !c.alarms && strings.Count(reasons, "<li>") != 1 {
			t.Errorf("%s: it takes more than a sentence\n%s", c.name, reasons)
		}
	}
}

func TestAPageThatTakesThePlaceOfAnotherKeepsWhatIsKnown(t *testing.T) {
	main := streaming("main")
	before, _ := serve(t, statuspage.Config{Masters: []statuspage.Master{main}})
	before.Fill("main", minutes(0, 0))
	tell(before, story("main"))
	_, address := serve(t, statuspage.Config{Masters: []statuspage.Master{streaming("new"), main}, Before: before})
	if page := get(t, address+"?master=main"); !strings.Contains(page, `class="curve first" d="M`) || !strings.Contains(page, "rebase done") {
		t.Errorf("the page that takes over is\n%s", page)
	}
	if page := get(t, address+"?master=new"); strings.Contains(page, "rebase done") {
		t.Errorf("the page of the new master is\n%s", page)
	}
}
