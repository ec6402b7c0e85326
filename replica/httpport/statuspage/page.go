// Package statuspage is the page that shows at a glance whether a backup is
// sound: the state machine with the state in force lit, offsets and rates of the
// last five minutes, what can be restored, the last events, and the commands
// that restore. It is an http.Handler of HTML, CSS and SVG that are in the
// binary.
//
//	page := statuspage.New(statuspage.Config{Masters: masters, Version: version})
//	defer page.Close()
//	// page is one of the observers of the links, and the handler of /
//
// One template makes the page. An open page asks for itself every two seconds
// and changes what differs (page.js); without JavaScript the page says the same
// and stands still. The page is made anew five times a second at most, however
// many clients ask.
//
// What a master says is hostile: the template escapes it, units.Printable bounds
// it, and the content security policy allows nothing but what is in the binary.
package statuspage

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"sync"
	"time"

	"replicad/replica"
	"replicad/replica/daemon/status"
	"replicad/replica/units"
)

// Master is one that is followed; a *daemon.Handle is one. Its methods may be
// called from any goroutine.
type Master interface {
	Name() string
	Status() status.Status
	// Disk waits for a reading of the disk as long as wait at most.
	Disk(wait time.Duration) status.Disk
}

// Config says what to show.
type Config struct {
	Masters []Master
	Version string // of replicad, as the page shows it
	// Before is the page that this one takes the place of: a master of the same
	// name keeps its samples and lines. nil for none.
	Before *Page
}

const (
	sampleEvery = time.Second
	renderEvery = 200 * time.Millisecond // at most
	patience    = 2 * time.Second        // for all disks together
	longest     = 400                    // characters of a text that others wrote
)

// policy is the Content-Security-Policy: no script, style or image but our own
// files, no form, no frame.
const policy = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"

//go:embed static
var static embed.FS

//go:embed page.html
var source string

// Page is the handler, and an observer of the links. Make it by New.
type Page struct {
	masters  []*followed
	ids      int // that were given to masters
	version  string
	template *template.Template
	mux      *http.ServeMux

	quit  chan struct{} // closed by Close
	close sync.Once
	done  sync.WaitGroup

	rendering sync.Mutex
	rendered  time.Time
	last      []byte
}

// followed is what the page keeps of one master, the oldest first.
type followed struct {
	Master
	id string // of its parts of the page

	mu      sync.Mutex
	samples []sample
	notices []line
	steps   []line
	taken   [2]replica.State // the last change of state
}

// New makes a page and starts the goroutine that takes samples; Close ends it.
func New(cfg Config) *Page {
	p := &Page{version: cfg.Version, mux: http.NewServeMux(), quit: make(chan struct{})}
	p.template = template.Must(template.New("page").Funcs(template.FuncMap{
		"clean": clean, "short": short, "clock": clock, "machineTime": machineTime, "causes": causes,
		"size": units.Size, "count": units.Thousands, "span": units.Span,
		"seconds": func(d time.Duration) string { return inSeconds(d.Seconds()) },
	}).Parse(source))
	p.mux.HandleFunc("GET /{$}", p.serve)
	p.mux.HandleFunc("GET /static/{file}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-cache") // a new binary has other files, and no times
		http.ServeFileFS(w, r, static, "static/"+r.PathValue("file"))
	})
	kept := map[string]*followed{}
	if cfg.Before != nil {
		for _, f := range cfg.Before.masters {
			kept[f.Name()] = f
			p.ids = max(p.ids, cfg.Before.ids)
		}
	}
	for _, m := range cfg.Masters {
		f := kept[m.Name()]
		if f == nil {
			f = &followed{Master: m, id: fmt.Sprintf("m%d", p.ids)}
			p.ids++
		}
		p.masters = append(p.masters, f)
	}
	p.done.Go(p.run)
	return p
}

// Close ends the goroutine. The page can still be asked for.
func (p *Page) Close() {
	p.close.Do(func() { close(p.quit) })
	p.done.Wait()
}

// run takes a sample of each master a second.
func (p *Page) run() {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			for _, f := range p.masters {
				f.add(newSample(time.Now(), f.Status()))
			}
		case <-p.quit:
			return
		}
	}
}

func (f *followed) add(s sample) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.samples = keep(f.samples, s, keptSamples)
}

// keep adds x to the newest, of which there are most at most.
func keep[T any](newest []T, x T, most int) []T {
	if len(newest) >= most {
		newest = slices.Delete(newest, 0, len(newest)-most+1)
	}
	return append(newest, x)
}

// ServeHTTP serves / and /static/; another path is not found.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Security-Policy", policy)
	p.mux.ServeHTTP(w, r)
}

func (p *Page) serve(w http.ResponseWriter, _ *http.Request) {
	page, err := p.render()
	if err != nil {
		http.Error(w, "the page could not be made: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(page) // a client that went away misses nothing
}

// render makes the page, or gives the one that was made a moment ago: clients
// that ask all the time must not take time from the links.
func (p *Page) render() ([]byte, error) {
	p.rendering.Lock()
	defer p.rendering.Unlock()
	if time.Since(p.rendered) < renderEvery {
		return p.last, nil
	}
	var out bytes.Buffer
	if err := p.template.Execute(&out, p.view(time.Now())); err != nil {
		return nil, err
	}
	p.last, p.rendered = out.Bytes(), time.Now()
	return p.last, nil
}

// clean makes text of others fit to be shown. The template escapes HTML.
func clean(s string) string { return units.Printable(s, longest) }

// clock is a time of the server's zone.
func clock(t time.Time) string { return t.Local().Format(time.DateTime) }

// machineTime is a time as <time datetime> takes it.
func machineTime(t time.Time) string { return t.Format(time.RFC3339) }
