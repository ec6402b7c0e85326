package tail

// pattern is a glob-style pattern as KEYS has it (stringmatchlen in Redis'
// util.c): *, ?, [set], [^set], [a-z], and \ to take the next byte as it is.
type pattern struct {
	items   []item
	literal []byte // the longest run of bytes that each match has; of two the last
}

// item matches one byte, or with star any number of them.
type item struct {
	star bool
	set  [4]uint64 // a bit for each byte
}

func (m *item) add(c byte)      { m.set[c>>6] |= 1 << (c & 63) }
func (m *item) has(c byte) bool { return m.set[c>>6]&(1<<(c&63)) != 0 }

func newPattern(text string) *pattern {
	p := &pattern{}
	var run []byte
	for i := 0; i < len(text); i++ {
		var m item
		c := text[i]
		single := false
		switch {
		case c == '*':
			m.star = true
		case c == '?':
			m.set = [4]uint64{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}
		case c == '[':
			m, i = readSet(text, i+1)
		default:
			if c == '\\' && i+1 < len(text) {
				i++
				c = text[i]
			}
			m.add(c)
			single = true
		}
		p.items = append(p.items, m)
		if !single {
			run = nil
			continue
		}
		if run = append(run, c); len(run) >= len(p.literal) {
			p.literal = append([]byte(nil), run...)
		}
	}
	return p
}

// readSet reads a set behind its bracket, and returns where it ends.
func readSet(text string, i int) (m item, end int) {
	not := i < len(text) && text[i] == '^'
	if not {
		i++
	}
	for ; i < len(text) && text[i] != ']'; i++ {
		switch {
		case text[i] == '\\' && i+1 < len(text):
			i++
			m.add(text[i])
		case i+2 < len(text) && text[i+1] == '-':
			for c, hi := int(min(text[i], text[i+2])), int(max(text[i], text[i+2])); c <= hi; c++ {
				m.add(byte(c))
			}
			i += 2
		default:
			m.add(text[i])
		}
	}
	if not {
		for k := range m.set {
			m.set[k] = ^m.set[k]
		}
	}
	return m, i
}

// match says whether the whole of key matches.
func (p *pattern) match(key []byte) bool {
	i, k := 0, 0
	star, from := -1, 0 // the last star, and where what is behind it is tried
	for k < len(key) {
		switch {
		case i < len(p.items) && p.items[i].star:
			star, from = i, k
			i++
		case i < len(p.items) && p.items[i].has(key[k]):
			i, k = i+1, k+1
		case star >= 0:
			from++
			i, k = star+1, from
		default:
			return false
		}
	}
	for i < len(p.items) && p.items[i].star {
		i++
	}
	return i == len(p.items)
}
