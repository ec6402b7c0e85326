// Package statuspage is the page that shows at a glance whether a backup is
// sound: what can be restored and the commands that restore, the state machine
// with the state in force lit, offsets and rates of the last five minutes, and
// the last events. It is an http.Handler of HTML, CSS and SVG that are in the
// binary.
//
// Of several masters / is an overview, the worst first, a hundred on a page, and
// /?master=NAME is the page of one. So a page is never larger than some hundred
// KiB, however many masters there are.
//
//	page := statuspage.New(statuspage.Config{Masters: masters, Version: version})
//	defer page.Close()
//	// page is one of the observers of the links, and the handler of /
//
// One template makes the page. An open page asks for itself every two seconds
// and changes what differs (page.js); without JavaScript the page says the same
// and stands still. A page is made anew five times a second at most, however many
// clients ask.
//
// What a master says is hostile: the template escapes it, units.Printable bounds
// it, and the content security policy allows nothing but what is in the binary.
package statuspage

import (
	"bytes"
	"embed"
	"html/template"
	"maps"
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
	mostPages   = 16                     // made within renderEvery

	// Of many masters those that nobody looks at are sampled more rarely.
	many       = 100
	rarely     = 5 // times sampleEvery
	lookedAtIn = time.Minute

	patience = 2 * time.Second // for all disks together
	longest  = 400             // characters of a text that others wrote
)

// policy is the Content-Security-Policy: no script, style or image but our own
// files, no form but the search, no frame.
const policy = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"

//go:embed static
var static embed.FS

//go:embed page.html
var source string

// Page is the handler, and an observer of the links. Make it by New.
type Page struct {
	masters  []*followed
	byName   map[string]*followed
	version  string
	template *template.Template
	mux      *http.ServeMux

	quit  chan struct{} // closed by Close
	close sync.Once
	done  sync.WaitGroup

	rendering sync.Mutex
	made      map[asking]made // by what was asked for
	seen      *survey
	next      int // the master whose folder is read next for a survey
}

// asking is what a client asks for: the page of a master, or the overview.
type asking struct {
	f *followed
	question
}

// made is a page as it was made.
type made struct {
	at   time.Time
	page []byte
}

// followed is what the page keeps of one master, the oldest first.
type followed struct {
	Master
	stored stored // of a survey; the page's rendering guards it

	mu      sync.Mutex
	samples []sample
	notices []line
	steps   []line
	taken   [2]replica.State // the last change of state
	looked  time.Time        // when its page was asked for last
}

// New makes a page and starts the goroutine that takes samples; Close ends it.
func New(cfg Config) *Page {
	p := &Page{version: cfg.Version, mux: http.NewServeMux(), quit: make(chan struct{}), made: map[asking]made{}, byName: map[string]*followed{}}
	p.template = template.Must(template.New("page").Funcs(template.FuncMap{
		"clean": clean, "short": short, "clock": clock, "machineTime": machineTime, "causes": causes,
		"term": explain, "says": explanation, "zone": zone,
		"before": func(page int) int { return page - 1 }, "after": func(page int) int { return page + 1 },
		"size": units.Size, "count": units.Thousands, "span": units.Span,
		"seconds": func(d time.Duration) string { return inSeconds(d.Seconds()) },
	}).Parse(source))
	p.mux.HandleFunc("GET /{$}", p.serve)
	p.mux.HandleFunc("GET /static/{file}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-cache") // a new binary has other files, and no times
		http.ServeFileFS(w, r, static, "static/"+r.PathValue("file"))
	})
	for _, m := range cfg.Masters {
		f := &followed{Master: m}
		if cfg.Before != nil {
			f.take(cfg.Before.byName[m.Name()])
		}
		p.masters, p.byName[m.Name()] = append(p.masters, f), f
	}
	p.done.Go(p.run)
	return p
}

// take takes over what another page has kept of the master; nil for nothing.
func (f *followed) take(old *followed) {
	if old == nil {
		return
	}
	old.mu.Lock()
	defer old.mu.Unlock()
	f.samples, f.notices, f.steps = slices.Clone(old.samples), slices.Clone(old.notices), slices.Clone(old.steps)
	f.taken, f.looked = old.taken, old.looked
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
	for n := 0; ; n++ {
		select {
		case <-tick.C:
			for i, f := range p.masters {
				if len(p.masters) <= many || (n+i)%rarely == 0 || f.lookedAt() {
					f.add(newSample(time.Now(), f.Status()))
				}
			}
		case <-p.quit:
			return
		}
	}
}

// lookedAt says whether somebody has looked at the master's page lately.
func (f *followed) lookedAt() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Since(f.looked) < lookedAtIn
}

// add adds a sample, and forgets those that no graph shows any more.
func (f *followed) add(s sample) {
	f.mu.Lock()
	defer f.mu.Unlock()
	old := 0
	for old < len(f.samples) && s.at.Sub(f.samples[old].at) > (graphWidth+2)*time.Second {
		old++
	}
	f.samples = append(slices.Delete(f.samples, 0, old), s)
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

// serve answers with the overview, or with the page of a master.
func (p *Page) serve(w http.ResponseWriter, r *http.Request) {
	var f *followed
	q := r.URL.Query()
	switch name := q.Get("master"); {
	case q.Has("master"):
		if f = p.byName[name]; f == nil {
			http.Error(w, "no master is called "+clean(name)+"; the masters are listed at /", http.StatusNotFound)
			return
		}
	case len(p.masters) == 1:
		f = p.masters[0]
	}
	page, err := p.render(f, ask(q))
	if err != nil {
		http.Error(w, "the page could not be made: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(page) // a client that went away misses nothing
}

// render makes a page, or gives the one that was made a moment ago: clients that
// ask all the time must not take time from the links.
func (p *Page) render(f *followed, q question) ([]byte, error) {
	key := asking{f, q}
	p.rendering.Lock()
	defer p.rendering.Unlock()
	for {
		maps.DeleteFunc(p.made, func(_ asking, m made) bool { return time.Since(m.at) >= renderEvery })
		if m, ok := p.made[key]; ok {
			return m.page, nil
		}
		if len(p.made) < mostPages {
			break
		}
		time.Sleep(renderEvery / mostPages)
	}
	var out bytes.Buffer
	if err := p.template.Execute(&out, p.view(f, q, time.Now())); err != nil {
		return nil, err
	}
	p.made[key] = made{time.Now(), out.Bytes()}
	return out.Bytes(), nil
}

// clean makes text of others fit to be shown. The template escapes HTML.
func clean(s string) string { return units.Printable(s, longest) }

// clock is a time of the server's zone.
func clock(t time.Time) string { return t.Local().Format(time.DateTime) }

// machineTime is a time as <time datetime> takes it.
func machineTime(t time.Time) string { return t.Format(time.RFC3339) }

// zone is how many seconds the server's clock is ahead of UTC.
func zone(t time.Time) int {
	_, ahead := t.Local().Zone()
	return ahead
}
