package statuspage

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"sync"
	"time"

	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/daemon/status"
	"replicad/replica/logs"
)

// Master is what the page asks of one master; *daemon.Handle is one. The
// methods are called from many goroutines. Archive may take its time.
type Master interface {
	Name() string
	Status() status.Status
	Archive() (archive.Master, error)
	LagSince() time.Time
}

// Config says what to show.
type Config struct {
	Masters []Master
	Version string // of replicad, as its page shows it
	// Free says how much room is left below a folder, in bytes; archive.Free
	// where it is nil.
	Free func(dir string) (int64, error)
	// MaxStreams is how many pages may be open at once, and followed;
	// DefaultMaxStreams where it is 0. More are told to come again.
	MaxStreams int
}

// DefaultMaxStreams is the default of Config.MaxStreams.
const DefaultMaxStreams = 64

const (
	queued   = 256                    // events that wait for the page's goroutine
	settle   = 150 * time.Millisecond // from an event until it is shown: others follow it
	patience = 500 * time.Millisecond // of a request, for an archive that is being read

	renderEvery = 200 * time.Millisecond // the whole page, at most
)

// policy is the Content-Security-Policy: no script, style or image but our own
// files, no form, no frame.
const policy = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"

//go:embed static
var static embed.FS

//go:embed templates
var templates embed.FS

// Page is the handler, and an observer of the links. Make it by New.
type Page struct {
	cfg     Config
	masters []*followed
	byName  map[string]*followed
	page    *template.Template
	static  http.Handler

	events chan noted
	wake   chan struct{} // a stream has come
	quit   chan struct{} // closed by Close
	close  sync.Once
	done   sync.WaitGroup

	rendering sync.Mutex // of the whole page
	rendered  time.Time
	last      []byte

	mu      sync.Mutex // of streams, and of samples and lines of all that are followed
	streams map[*stream]bool
}

// followed is what the page keeps of one master.
type followed struct {
	Master
	id   string // of its parts of the page
	disk *disk

	samples samples // under the page's lock, as all that follows
	notices lines
	steps   lines
	taken   [2]replica.State // the last change of state
}

// New makes a page and starts its goroutine; Close ends it.
func New(cfg Config) *Page {
	if cfg.Free == nil {
		cfg.Free = archive.Free
	}
	if cfg.MaxStreams == 0 {
		cfg.MaxStreams = DefaultMaxStreams
	}
	p := &Page{
		cfg: cfg, byName: map[string]*followed{},
		page:   template.Must(template.New("").Funcs(functions()).ParseFS(templates, "templates/*.html")),
		static: http.FileServerFS(static),
		events: make(chan noted, queued), wake: make(chan struct{}, 1), quit: make(chan struct{}),
		streams: map[*stream]bool{},
	}
	for i, m := range cfg.Masters {
		f := &followed{Master: m, id: fmt.Sprintf("m%d", i), disk: newDisk(m.Archive, cfg.Free)}
		f.notices.most, f.steps.most = keptNotices, keptSteps
		p.masters = append(p.masters, f)
		p.byName[m.Name()] = f
	}
	p.done.Go(p.run)
	return p
}

// Close ends the streams and the goroutine. A server that is shut down waits for
// the streams: close the page first, or by http.Server.RegisterOnShutdown.
func (p *Page) Close() {
	p.close.Do(func() { close(p.quit) })
	p.done.Wait()
}

// Observe implements replica.Observer. It never waits; what does not fit in the
// queue is not shown.
func (p *Page) Observe(e replica.Event) {
	if level, logged := logs.Level(e.Kind); !logged || level < logs.LevelVerbose || e.Kind == replica.TransferProgress {
		return
	}
	n := noted{Line: logs.OfLink(e)}
	if e.Kind == replica.StateEntered && !e.Rebase {
		n.taken = &[2]replica.State{e.From, e.State}
	}
	p.queue(n)
}

// ObserveArchive implements archive.Observer. It never waits, as Observe.
func (p *Page) ObserveArchive(e archive.Event) {
	if logs.ArchiveLevel(e.Kind) >= logs.LevelVerbose {
		p.queue(noted{Line: logs.OfArchive(e)})
	}
}

// noted is an event on its way to the page's goroutine.
type noted struct {
	logs.Line
	taken *[2]replica.State // of an event that changed the state
}

func (p *Page) queue(n noted) {
	select {
	case p.events <- n:
	default:
	}
}

func (p *Page) run() {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	var soon <-chan time.Time
	for {
		select {
		case e := <-p.events:
			p.note(e)
			if soon == nil {
				soon = time.After(settle)
			}
		case <-soon:
			soon = nil
			p.publish(time.Now())
		case <-p.wake:
			p.publish(time.Now())
		case <-tick.C:
			now := time.Now()
			p.sample(now)
			p.publish(now)
		case <-p.quit:
			return
		}
	}
}

// sample takes a sample of each master.
func (p *Page) sample(now time.Time) {
	for _, f := range p.masters {
		s := takeSample(now, f.Status(), f.LagSince())
		p.mu.Lock()
		f.samples.add(s)
		p.mu.Unlock()
	}
}

// note keeps what is to be shown of an event.
func (p *Page) note(n noted) {
	f := p.byName[n.Master]
	if f == nil {
		return
	}
	l := newLine(n.Line)
	p.mu.Lock()
	defer p.mu.Unlock()
	if n.taken != nil {
		f.taken = *n.taken
	}
	f.steps.add(l)
	if l.notice {
		f.notices.addOrCount(l)
	}
}

// ServeHTTP serves /, /events and /static/; another path is not found.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	switch {
	case r.URL.Path == "/":
		p.serveWhole(w, r)
	case r.URL.Path == "/events":
		p.serveEvents(w, r)
	case strings.HasPrefix(r.URL.Path, "/static/") && !strings.HasSuffix(r.URL.Path, "/"):
		h.Set("Cache-Control", "no-cache") // a new binary has other files, and no times
		p.static.ServeHTTP(w, r)
	default:
		http.NotFound(w, r)
	}
}

// serveWhole answers with the page as things stand.
func (p *Page) serveWhole(w http.ResponseWriter, r *http.Request) {
	whole, err := p.whole()
	if err != nil {
		http.Error(w, "the page could not be made: "+err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	if r.Method == http.MethodHead {
		return
	}
	_, _ = w.Write(whole) // who went away misses nothing
}

// whole renders the page, or gives what was rendered a moment ago: whoever asks
// all the time takes no more time from the links than one who does not.
func (p *Page) whole() ([]byte, error) {
	p.rendering.Lock()
	defer p.rendering.Unlock()
	if time.Since(p.rendered) < renderEvery {
		return p.last, nil
	}
	var out bytes.Buffer
	if err := p.page.ExecuteTemplate(&out, "page.html", p.view(time.Now(), patience)); err != nil {
		return nil, err
	}
	p.last, p.rendered = out.Bytes(), time.Now()
	return p.last, nil
}
