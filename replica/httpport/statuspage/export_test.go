package statuspage

import "time"

// Sample is what a test says of one second.
type Sample struct {
	Up                bool
	BytesIn, Commands int64
	Received, Durable int64
	Lag               time.Duration
}

// Fill gives a master its last seconds, the newest last.
func (p *Page) Fill(name string, all []Sample) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.byName[name]
	begin := time.Now().Add(-time.Duration(len(all)) * sampleEvery)
	for i, s := range all {
		f.samples.add(sample{
			at: begin.Add(time.Duration(i+1) * sampleEvery), up: s.Up, bytesIn: s.BytesIn, commands: s.Commands,
			received: s.Received, durable: s.Durable, lag: s.Lag, knownOffs: true,
		})
	}
}

// Streams is how many pages are open.
func (p *Page) Streams() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.streams)
}

// PublishNow has the streams told what changed, soon.
func (p *Page) PublishNow() { p.wake <- struct{}{} }

// Render renders all parts, and says how many bytes they are.
func (p *Page) Render() (n int) {
	parts, err := p.parts(p.view(time.Now(), 0))
	if err != nil {
		panic(err)
	}
	for _, part := range parts {
		n += len(part)
	}
	return n
}
