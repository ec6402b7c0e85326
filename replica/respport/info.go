package respport

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"replicad/replica/archive"
	"replicad/replica/daemon/status"
	"replicad/replica/units"
)

//go:embed info.txt
var infoText string

// section is a part of INFO, as info.txt has it.
type section struct {
	title  string
	name   string // in small letters
	usual  bool   // shown by INFO without arguments
	all    bool   // shown by INFO all
	fields []infoField
	values func(*view) values // of the fields without a value in info.txt
}

// infoField is a line of info.txt.
type infoField struct {
	name, value string
	computed    bool
}

// values are the computed fields of a section by their names.
type values map[string]any

// infoLayout reads info.txt.
func infoLayout() (all []section) {
	for line := range strings.Lines(infoText) {
		switch f := strings.Fields(line); {
		case len(f) == 0 || f[0] == "//":
		case f[0] == "#":
			name := strings.ToLower(f[1])
			all = append(all, section{
				title: f[1], name: name, values: computed()[name],
				usual: slices.Contains(f[2:], "default"), all: slices.Contains(f[2:], "all"),
			})
		default:
			s := &all[len(all)-1]
			s.fields = append(s.fields, infoField{name: f[0], value: strings.Join(f[1:], " "), computed: len(f) == 1})
		}
	}
	return all
}

// view is what one INFO tells of. What it needs is read once.
type view struct {
	s       *Server
	st      status.Status
	archive func() (archive.Master, error)
}

func newView(q *request) *view {
	// A disk may be slow: others are answered meanwhile.
	read := func() (m archive.Master, err error) {
		q.waiting(func() { m, err = q.s.backend.Archive() })
		return m, err
	}
	return &view{q.s, q.s.backend.Status(), sync.OnceValues(read)}
}

// newest is the newest complete generation; the zero value if there is none.
func (v *view) newest() (g archive.Generation) {
	m, _ := v.archive()
	for _, one := range m.Generations {
		if one.Complete {
			g = one
		}
	}
	return g
}

// lastSave is when the base of the newest generation was complete, in unix
// seconds; 0 if there is none.
func (v *view) lastSave() int64 {
	if g := v.newest(); !g.From.IsZero() {
		return g.From.Unix()
	}
	return 0
}

// info is INFO [section ...].
func info(q *request) {
	wanted := map[string]bool{}
	for _, a := range q.args[1:] {
		wanted[lower(a)] = true
	}
	usual, everything := len(q.args) == 1 || wanted["default"], wanted["everything"]
	all := wanted["all"] || everything
	v := newView(q)
	var b strings.Builder
	for _, s := range q.s.info {
		if !(wanted[s.name] || usual && s.usual || all && s.all || everything) {
			continue
		}
		if b.Len() > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString("# " + s.title + "\r\n")
		s.write(v, &b)
	}
	q.text(b.String())
}

// write writes the fields of a section. A computed field without a value is left
// out; the field * stands for all values that have no field.
func (s *section) write(v *view, b *strings.Builder) {
	var all values
	if s.values != nil {
		all = s.values(v)
	}
	for _, f := range s.fields {
		value, known := all[f.name]
		switch {
		case f.name == "*":
			for _, name := range slices.Sorted(maps.Keys(all)) {
				fmt.Fprintf(b, "%s:%s\r\n", name, format(all[name]))
			}
		case !f.computed:
			b.WriteString(f.name + ":" + f.value + "\r\n")
		case known:
			fmt.Fprintf(b, "%s:%s\r\n", f.name, format(value))
		}
	}
}

// format writes a value as INFO has it.
func format(value any) string {
	switch v := value.(type) {
	case bool:
		if v {
			return "1"
		}
		return "0"
	case string:
		return units.Printable(v, 1<<10)
	case float64:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprint(value)
}
