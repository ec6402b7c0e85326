package statuspage

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"replicad/replica/daemon/status"
	"replicad/replica/units"
)

const (
	listed = 100 // masters on a page of the overview
	// surveyEvery is how often all masters are looked at, and readings how many
	// folders are read again for it: the disk has links to serve.
	surveyEvery = time.Second
	readings    = 100
)

// classes are those of a verdict, the worst first, and what a group of masters
// in each is called.
var classes = []struct{ class, says string }{{"bad", "in trouble"}, {"warn", "to watch"}, {"good", "sound"}}

// entry is a master in the overview.
type entry struct {
	Name, Address string
	Verdict       verdict
	Since, Until  string // what can be restored, "" where nothing is known
}

// Reason is the gravest reason, and how many more there are.
func (e entry) Reason() string {
	if len(e.Verdict.Reasons) == 0 {
		return ""
	}
	more := len(e.Verdict.Reasons) - 1
	if more > 0 {
		return fmt.Sprintf("%s (and %s)", e.Verdict.Reasons[0], units.Count(int64(more), "more reason"))
	}
	return e.Verdict.Reasons[0]
}

// survey is how all masters stood at a moment, the worst first.
type survey struct {
	at      time.Time
	entries []entry
	wrong   int // that are not sound
	unread  int // whose folder has not been read yet
}

// question is what the overview is asked for. The zero value asks for all.
type question struct {
	Text  string // a part of name or address
	Class string // of the verdict
	Page  int    // from 1 on
}

func ask(q url.Values) question {
	page, _ := strconv.Atoi(q.Get("page"))
	return question{units.Printable(q.Get("q"), 100), q.Get("state"), max(page, 1)}
}

// Link is the address of another page of the answer, or of the answer to
// another class.
func (q question) Link(class string, page int) string {
	v := url.Values{}
	if q.Text != "" {
		v.Set("q", q.Text)
	}
	if class != "" {
		v.Set("state", class)
	}
	if page > 1 {
		v.Set("page", strconv.Itoa(page))
	}
	return "?" + v.Encode()
}

// overview is what the template gets of several masters.
type overview struct {
	question
	All    int
	Counts []count // of those that the text finds, by class
	Wrong  []entry // on this page
	Sound  []entry
	Found  int
	First  int // the number of the first one on this page, from 1 on
	Last   int
	Pages  int
	Unread int
}

// count is how many masters are in a class.
type count struct {
	Class, Says string
	Masters     int
}

// Unfolded says whether the sound masters are shown at once: nothing is worse, or
// they were asked for.
func (o overview) Unfolded() bool { return len(o.Wrong) == 0 || o.Text != "" || o.Class == "good" }

// answer picks what a question asks for.
func (s *survey) answer(q question) overview {
	o := overview{question: q, All: len(s.entries), Unread: s.unread}
	for _, c := range classes {
		o.Counts = append(o.Counts, count{c.class, c.says, 0})
	}
	var found []entry
	part := strings.ToLower(q.Text)
	for _, e := range s.entries {
		if !strings.Contains(strings.ToLower(e.Name), part) && !strings.Contains(strings.ToLower(e.Address), part) {
			continue
		}
		o.Counts[rank(e.Verdict)].Masters++
		if q.Class == "" || q.Class == e.Verdict.Class {
			found = append(found, e)
		}
	}
	o.Found, o.Pages = len(found), max((len(found)+listed-1)/listed, 1)
	o.Page = max(min(q.Page, o.Pages), 1)
	begin := (o.Page - 1) * listed
	found = found[begin:min(begin+listed, len(found))]
	o.First, o.Last = min(begin+1, o.Found), begin+len(found)
	sound := len(found)
	if i := slices.IndexFunc(found, func(e entry) bool { return e.Verdict.Class == "good" }); i >= 0 {
		sound = i
	}
	o.Wrong, o.Sound = found[:sound], found[sound:]
	return o
}

// rank is where the class of a verdict stands in classes.
func rank(v verdict) int {
	for i, c := range classes {
		if c.class == v.Class {
			return i
		}
	}
	return len(classes) - 1
}

// surveyed looks at all masters, or gives what was seen a moment ago. It waits
// for no disk. The caller holds rendering.
func (p *Page) surveyed(now time.Time) *survey {
	if p.seen != nil && now.Sub(p.seen.at) < surveyEvery {
		return p.seen
	}
	s := &survey{at: now}
	for range min(readings, len(p.masters)) {
		f := p.masters[p.next%len(p.masters)]
		p.next++
		f.stored = newStored(f.Disk(0))
	}
	for _, f := range p.masters {
		e := f.entry(now)
		if e.Verdict.Class != "good" {
			s.wrong++
		}
		if f.stored.at.IsZero() {
			s.unread++
		}
		s.entries = append(s.entries, e)
	}
	slices.SortStableFunc(s.entries, func(a, b entry) int {
		return cmp.Or(rank(a.Verdict)-rank(b.Verdict), strings.Compare(a.Name, b.Name))
	})
	p.seen = s
	return s
}

// entry is the master's line of the overview.
func (f *followed) entry(now time.Time) entry {
	s := f.Status()
	f.mu.Lock()
	left := fills(f.samples, f.stored)
	f.mu.Unlock()
	e := entry{Name: s.Name, Address: s.Address, Verdict: judge(s, f.stored, left, now)}
	if !f.stored.oldest.IsZero() {
		e.Since, e.Until = clock(f.stored.oldest), units.Span(now.Sub(f.stored.newest))
	}
	return e
}

// stored is what matters of a reading of a master's folder.
type stored struct {
	at                time.Time // of the reading; zero before the first
	err               error
	free              int64
	generations       int // that can be restored
	oldest, newest    time.Time
	damaged, segments int64 // generations and segments that are not what was written
}

func newStored(d status.Disk) stored {
	sound, oldest, newest := status.Restorable(d.Archive.Generations)
	s := stored{at: d.At, err: d.Err, free: d.Free, generations: len(sound), oldest: oldest, newest: newest}
	for _, g := range d.Archive.Generations {
		if g.Problem != "" {
			s.damaged++
		}
		s.segments += int64(g.Damaged)
	}
	return s
}

// none says that the folder is known to hold nothing that can be restored.
func (s stored) none() bool { return s.err == nil && !s.at.IsZero() && s.generations == 0 }
