package statuspage

import (
	"time"

	"replicad/replica/daemon/status"
)

// Fill gives a master its last seconds, the newest last.
func (p *Page) Fill(name string, all []status.Status) {
	for _, f := range p.masters {
		if f.Name() != name {
			continue
		}
		begin := time.Now().Add(-time.Duration(len(all)) * sampleEvery)
		for i, s := range all {
			f.add(newSample(begin.Add(time.Duration(i+1)*sampleEvery), s))
		}
	}
}

// Render makes the page anew, and says how many bytes it has.
func (p *Page) Render() int {
	p.rendered = time.Time{}
	page, err := p.render()
	if err != nil {
		panic(err)
	}
	return len(page)
}
