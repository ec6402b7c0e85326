package statuspage

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

const (
	behind    = 8                // messages that may wait for a reader
	writeTime = 10 * time.Second // that a write may take
	heartbeat = 15 * time.Second // between comments, where nothing else is said
)

// stream is a page that is open. It belongs to the page's goroutine, but for the
// channels.
type stream struct {
	out  chan []byte
	lost chan struct{}     // closed when it reads too slowly
	last map[string]string // what it was told of each part
}

// message is what an open page is told: the parts that changed.
type message struct {
	Title string            `json:"title"`
	Parts map[string]string `json:"parts"` // HTML by the element's id
}

// publish tells each stream what changed since it was told last.
func (p *Page) publish(now time.Time) {
	p.mu.Lock()
	open := make([]*stream, 0, len(p.streams))
	for s := range p.streams {
		open = append(open, s)
	}
	p.mu.Unlock()
	if len(open) == 0 {
		return
	}
	v := p.view(now, 0)
	parts, err := p.parts(v)
	if err != nil {
		return // the tests render all there is
	}
	for _, s := range open {
		b := s.changed(v.Title, parts)
		if b == nil {
			continue
		}
		select {
		case s.out <- b:
		default:
			p.mu.Lock()
			delete(p.streams, s)
			p.mu.Unlock()
			close(s.lost)
		}
	}
}

// changed is the message for a stream; nil where there is nothing new.
func (s *stream) changed(title string, parts map[string]string) []byte {
	m := message{Title: title, Parts: map[string]string{}}
	for id, html := range parts {
		if before, told := s.last[id]; !told || before != html {
			m.Parts[id], s.last[id] = html, html
		}
	}
	if len(m.Parts) == 0 {
		return nil
	}
	b, err := json.Marshal(m)
	if err != nil {
		return nil // strings always are JSON
	}
	return fmt.Appendf(nil, "data: %s\n\n", b)
}

// parts renders what may change, by the id of its element.
func (p *Page) parts(v view) (map[string]string, error) {
	all := map[string]string{}
	render := func(id, name string, of any) error {
		var out bytes.Buffer
		err := p.page.ExecuteTemplate(&out, name, of)
		all[id] = out.String()
		return err
	}
	for _, name := range v.parts() {
		if err := render(name, name, v); err != nil {
			return nil, err
		}
	}
	for _, m := range v.Masters {
		for _, name := range m.parts() {
			if err := render(m.ID+"-"+name, name, m); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// join registers a stream; nil where there are too many, or the page is closed.
func (p *Page) join() *stream {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.streams) >= p.cfg.MaxStreams {
		return nil
	}
	s := &stream{out: make(chan []byte, behind), lost: make(chan struct{}), last: map[string]string{}}
	p.streams[s] = true
	select {
	case p.wake <- struct{}{}:
	default:
	}
	return s
}

func (p *Page) leave(s *stream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.streams, s)
}

// serveEvents follows the page's changes until the reader goes, or is too slow.
func (p *Page) serveEvents(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	if r.Method == http.MethodHead {
		h.Set("Content-Type", "text/event-stream")
		return
	}
	s := p.join()
	if s == nil {
		h.Set("Retry-After", "10")
		http.Error(w, "too many pages are open", http.StatusServiceUnavailable)
		return
	}
	defer p.leave(s)
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // nginx would keep them back
	c := http.NewResponseController(w)
	write := func(b []byte) bool {
		_ = c.SetWriteDeadline(time.Now().Add(writeTime)) // where the server knows it
		if _, err := w.Write(b); err != nil {
			return false
		}
		return c.Flush() == nil
	}
	_ = c.SetReadDeadline(time.Time{}) // a server's ReadTimeout would end the stream
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	if !write([]byte("retry: 2000\n\n")) {
		return
	}
	for {
		select {
		case b := <-s.out:
			if !write(b) {
				return
			}
		case <-beat.C:
			if !write([]byte(":\n\n")) {
				return
			}
		case <-s.lost:
			return
		case <-p.quit:
			return
		case <-r.Context().Done():
			return
		}
	}
}
