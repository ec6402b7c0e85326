package statuspage_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

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
		t.Errorf("%s answers %s", address, r.Status)
	}
	return body(t, r)
}

func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited a minute for %s", what)
		}
	}
}

// events are the messages of a stream.
type events struct {
	t    *testing.T
	in   *bufio.Scanner
	stop func()
}

type message struct {
	Title string            `json:"title"`
	Parts map[string]string `json:"parts"`
}

func follow(t *testing.T, address string) *events {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address+"events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Body.Close() })
	if r.StatusCode != http.StatusOK || r.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%s, %s", r.Status, r.Header.Get("Content-Type"))
	}
	in := bufio.NewScanner(r.Body)
	in.Buffer(nil, 4<<20)
	return &events{t, in, cancel}
}

// next is the next message; false at the end of the stream.
func (e *events) next() (message, bool) {
	e.t.Helper()
	for e.in.Scan() {
		data, ok := strings.CutPrefix(e.in.Text(), "data: ")
		if !ok {
			continue
		}
		var m message
		if err := json.Unmarshal([]byte(data), &m); err != nil {
			e.t.Fatalf("%q: %v", data, err)
		}
		return m, true
	}
	return message{}, false
}

// until reads messages until a part says it.
func (e *events) until(part, says string) message {
	e.t.Helper()
	for {
		m, ok := e.next()
		if !ok {
			e.t.Fatalf("the stream ended before %s said %q: %v", part, says, e.in.Err())
		}
		if strings.Contains(m.Parts[part], says) {
			return m
		}
	}
}

func TestAStreamTellsAllThatIsShownAndThenWhatChanges(t *testing.T) {
	main := streaming("main")
	p, address := serve(t, statuspage.Config{Masters: []statuspage.Master{main}})
	e := follow(t, address)
	first, _ := e.next()
	whole := get(t, address)
	for id := range first.Parts {
		if !strings.Contains(whole, `id="`+id+`"`) {
			t.Errorf("the page has no element %q", id)
		}
	}
	if len(first.Parts) != 10 || first.Title != "Sound: main - replicad" && !strings.Contains(first.Parts["m0-stored"], "being read") {
		t.Errorf("the first message has %d parts and the title %q", len(first.Parts), first.Title)
	}
	e.until("clock", "as of")
	main.set(func(f *fake) {
		f.status.State, f.status.Phase = replica.None, replica.NoPhase
		f.status.Entered, f.status.DownSince = time.Now(), time.Now()
	})
	p.Observe(replica.Event{
		Time: time.Now(), Master: "main", Kind: replica.Failed, State: replica.None,
		Err: &replica.LinkError{Master: "main", State: replica.Sync, Phase: replica.Stream, Cause: replica.ErrClosed},
	})
	m := e.until("m0-machine", `<b class="code">NONE</b>`)
	if m.Parts["m0-restore"] != "" {
		t.Errorf("the commands have not changed, and are told again")
	}
	e = follow(t, address)
	e.until("m0-notices", "the master closed the connection")
}

func TestMoreStreamsThanMayBeAreToldToComeAgain(t *testing.T) {
	_, address := serve(t, statuspage.Config{Masters: []statuspage.Master{streaming("main")}, MaxStreams: 2})
	a, b := follow(t, address), follow(t, address)
	a.next()
	b.next()
	r, err := http.Get(address + "events")
	if err != nil {
		t.Fatal(err)
	}
	if text := body(t, r); r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" {
		t.Errorf("%s %q", r.Status, text)
	}
	get(t, address)
	a.stop()
	await(t, "the place of who left", func() bool {
		r, err := http.Get(address + "events")
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
}

func TestAReaderThatDoesNotReadIsDropped(t *testing.T) {
	main := streaming("main")
	p, address := serve(t, statuspage.Config{Masters: []statuspage.Master{main}, MaxStreams: 1})
	c, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(address, "http://"), "/"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.(*net.TCPConn).SetReadBuffer(4096); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "GET /events HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	await(t, "the stream to begin", func() bool { return p.Streams() == 1 })
	// More than the kernel keeps for who does not read.
	for n := 0; p.Streams() == 1 && n < 5000; n++ {
		main.set(func(f *fake) {
			f.status.LastFailure = strings.Repeat(string(rune('a'+n%26)), 300)
			f.status.DownSince, f.status.LastFailureAt = time.Time{}, time.Now()
		})
		p.PublishNow()
	}
	if n := p.Streams(); n != 0 {
		t.Errorf("%d streams are left", n)
	}
}

func TestAnArchiveThatCanNotBeReadDelaysNoPage(t *testing.T) {
	main := streaming("main")
	main.slow = make(chan struct{})
	_, address := serve(t, statuspage.Config{Masters: []statuspage.Master{main}})
	for range 3 {
		if page := get(t, address); !strings.Contains(page, "The archive is being read") || !strings.Contains(page, "SYNC/STREAM") {
			t.Errorf("the page is\n%s", page)
		}
	}
	main.mu.Lock()
	reads := main.reads
	main.mu.Unlock()
	if reads != 1 {
		t.Errorf("it was read %d times at once", reads)
	}
	close(main.slow)
	await(t, "the archive to be shown", func() bool { return strings.Contains(get(t, address), "<span>restore</span>") })
}

func TestManyRequestsReadTheArchiveOnce(t *testing.T) {
	main := streaming("main")
	_, address := serve(t, statuspage.Config{Masters: []statuspage.Master{main}})
	began := time.Now()
	for range 50 {
		get(t, address)
	}
	main.mu.Lock()
	defer main.mu.Unlock()
	if most := 2 + int(time.Since(began)/(2*time.Second)); main.reads > most {
		t.Errorf("read %d times in %v", main.reads, time.Since(began))
	}
}

func TestClosingEndsTheStreams(t *testing.T) {
	p, address := serve(t, statuspage.Config{Masters: []statuspage.Master{streaming("main")}})
	e := follow(t, address)
	e.next()
	p.Close()
	for {
		if _, ok := e.next(); !ok {
			break
		}
	}
	if err := e.in.Err(); err != nil {
		t.Errorf("the stream ended with %v", err)
	}
	p.Observe(replica.Event{Master: "main", Kind: replica.Stopped}) // waits for nobody
}

func TestWhatIsAskedWronglyIsRefused(t *testing.T) {
	_, address := serve(t, statuspage.Config{Masters: []statuspage.Master{streaming("main")}})
	for path, want := range map[string]int{
		"": 200, "static/page.css": 200, "static/page.js": 200, "static/icon.svg": 200,
		"static/": 404, "static/none": 404, "templates/page.html": 404, "static/../page.go": 404, "other": 404,
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
		"bad Can&#39;t read": func(f *fake) { f.err = errors.New("permission denied") },
		"bad No backup yet":  func(f *fake) { f.archive.Generations = nil },
		"warn Damage":        func(f *fake) { f.archive.Generations[1].Damaged = 1 },
		"warn Lagging":       func(f *fake) { f.lag = hour },
		"warn Too large":     func(f *fake) { f.status.Overfull = true },
	} {
		main := streaming("main")
		change(main)
		_, address := serve(t, statuspage.Config{Masters: []statuspage.Master{main}})
		class, word, _ := strings.Cut(want, " ")
		await(t, want, func() bool {
			return strings.Contains(get(t, address), `<p class="pill `+class+`" role="status">`+word+`</p>`)
		})
	}
}

func TestADiskThatFillsIsTold(t *testing.T) {
	main := streaming("main")
	p, address := serve(t, statuspage.Config{Masters: []statuspage.Master{main}, Free: func(string) (int64, error) { return 2 << 30, nil }})
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
	await(t, "the event to be noted", func() bool { return strings.Contains(get(t, address), "replid=<bdi>known") })
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
	await(t, "the failures to be counted", func() bool {
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
	damaged.archive.Generations[1].Problem = "timeline is damaged"
	damaged.archive.Generations[2].Rebased = true
	_, address = serve(t, statuspage.Config{Masters: []statuspage.Master{damaged}})
	if page := get(t, address); !strings.Contains(page, "with 1 gap, 11 h 40 min in all") {
		t.Errorf("the gap that a damaged generation leaves is not told\n%s", page)
	}
	_, address = serve(t, statuspage.Config{Masters: []statuspage.Master{&fake{name: "new", archive: archive.Master{Name: "new", Dir: "/d/new"}}}})
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
	await(t, "the rebase to be shown", func() bool {
		return strings.Contains(get(t, address), "Rebase: full sync of a second link: 1.0 MiB, for ")
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
	await(t, "all to be sound", func() bool {
		return strings.Contains(get(t, address), "<title>Sound: all masters - replicad</title>")
	})
}

func BenchmarkWhatAnOpenPageCostsASecond(b *testing.B) {
	main := streaming("main")
	p := statuspage.New(statuspage.Config{Masters: []statuspage.Master{main}, Free: func(string) (int64, error) { return 1 << 40, nil }})
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
