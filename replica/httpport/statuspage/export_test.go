package statuspage

import (
	"bytes"
	"time"

	"replicad/replica/daemon/status"
)

// Fill gives a master its last seconds, the newest last.
func (p *Page) Fill(name string, all []status.Status) { p.FillAt(name, all, time.Now()) }

// FillAt is Fill at a time.
func (p *Page) FillAt(name string, all []status.Status, now time.Time) {
	for _, f := range p.masters {
		if f.Name() != name {
			continue
		}
		begin := now.Add(-time.Duration(len(all)) * sampleEvery)
		for i, s := range all {
			f.add(newSample(begin.Add(time.Duration(i+1)*sampleEvery), s))
		}
	}
}

// Render makes the page anew, and says how many bytes it has.
func (p *Page) Render() int {
	clear(p.made)
	p.seen = nil
	var f *followed
	if len(p.masters) == 1 {
		f = p.masters[0]
	}
	page, err := p.render(f, question{})
	if err != nil {
		panic(err)
	}
	return len(page)
}

// RenderAt is the page of the only master at a time.
func (p *Page) RenderAt(now time.Time) ([]byte, error) {
	var out bytes.Buffer
	err := p.template.Execute(&out, p.view(p.masters[0], question{}, now))
	return out.Bytes(), err
}
