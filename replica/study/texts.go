package study

import (
	"cmp"
	_ "embed"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"text/template"
	"time"

	"go.yaml.in/yaml/v3"

	"replicad/anet"
	"replicad/replica/units"
)

//go:embed texts.yaml
var textsFile []byte

// texts is texts.yaml, read once.
var texts = sync.OnceValue(func() *book {
	b := &book{}
	if err := yaml.Unmarshal(textsFile, b); err != nil {
		panic(fmt.Sprintf("texts.yaml: %v", err)) // a mistake in the program
	}
	for _, list := range [][]*rule{b.Sent, b.Stream, b.Replies} {
		for _, r := range list {
			r.pattern = regexp.MustCompile("(?is)" + r.Is)
		}
	}
	return b
})

// book holds what a study says, in the form of texts.yaml.
type book struct {
	Sources               map[string]Sources
	Things                map[string]*rule
	Phases                map[string]string
	Argument, Command     [2]string
	Sent, Stream, Replies []*rule
	Errors                [][2]string
	Opcodes, Values       map[byte]*rule
	Aux, Checksum         map[string]string

	parsed sync.Map // from a text to its template
}

// rule says what a command, a reply or another thing means.
type rule struct {
	Is    string // a regular expression; the words or the line must match
	To    string // of a reply: how the command begins that it answers
	Kind  Kind
	Key   string // of the sources
	State string // that the link enters with it
	Reads string // of an opcode or a type of value: what follows it
	Title string
	Text  string
	Parts [][2]string // name and text of each
	Again int         // how many of the last Parts are repeated

	pattern *regexp.Regexp
}

// Sources tells which versions of the servers know a thing, and where their
// sources do the same.
type Sources struct {
	Known  string  `json:"known,omitempty"`
	Places []Place `json:"places,omitempty"`
}

// Place is a function of the sources.
type Place struct {
	Versions string `json:"versions"` // "Redis 6.0 to 7.0"
	File     string `json:"file"`
	Function string `json:"function"`
}

// find returns the first rule for a text, and the groups of its expression. to is
// the command that a reply answers; it is empty for a command.
func find(rules []*rule, to, text string) (*rule, []string) {
	for _, r := range rules {
		if strings.HasPrefix(to, r.To) {
			if groups := r.pattern.FindStringSubmatch(text); groups != nil {
				return r, groups
			}
		}
	}
	return &rule{}, nil // the last rule of each list matches everything
}

// errorMeaning says what an error reply means.
func (b *book) errorMeaning(line string) string {
	for _, e := range b.Errors {
		if strings.HasPrefix(strings.TrimPrefix(line, "-"), e[0]) {
			return e[1]
		}
	}
	return ""
}

// argument gives name and text of an argument of a command.
func (b *book) argument(r *rule, i int) [2]string {
	n := len(r.Parts)
	switch {
	case i < n:
		return r.Parts[i]
	case r.Again > 0:
		return r.Parts[n-r.Again+(i-n)%r.Again]
	case i == 0:
		return b.Command
	}
	return b.Argument
}

// words are a command's arguments, the groups of a reply's expression, or what
// an RDB has behind an opcode.
type words []string

// Word returns a word, or "" if there is none.
func (w words) Word(i int) string {
	if i < len(w) {
		return w[i]
	}
	return ""
}

// facts are what the texts about commands, replies and RDB records may name.
type facts struct {
	words
	Index int    // of the argument
	Multi bool   // a transaction is open
	At    int64  // replication offset of a command, 0 if it is not known
	To    string // the command that a reply answers
	Asked words  // likewise, with its arguments
	Error string // what an error reply means
	Aux   string // what an aux field means
}

// Value is the argument.
func (f facts) Value() string { return f.Word(f.Index) }

// fill executes a template of texts.yaml.
func (b *book) fill(text string, facts any) string {
	if !strings.Contains(text, "{{") {
		return text
	}
	t, ok := b.parsed.Load(text)
	if !ok {
		t = template.Must(template.New("").Funcs(functions()).Parse(text))
		b.parsed.Store(text, t)
	}
	var out strings.Builder
	if err := t.(*template.Template).Execute(&out, facts); err != nil {
		return err.Error()
	}
	return out.String()
}

func functions() template.FuncMap {
	return template.FuncMap{
		"errno":     errno,
		"hasPrefix": strings.HasPrefix,
		"micro":     func(d time.Duration) string { return d.Round(time.Microsecond).String() },
		"printable": func(s string) string { return units.Printable(s, 200) },
		"quote":     quote,
		"took": func(d time.Duration) string {
			if d <= 0 {
				return ""
			}
			return ", in " + d.Round(10*time.Microsecond).String()
		},
		"count": func(n any, noun string) string { return units.Count(number(fmt.Sprint(n)), noun) },
		"add":   func(s string, n int64) int64 { return number(s) + n },
		"date":  func(s string) string { return time.Unix(number(s), 0).UTC().Format(time.RFC3339) },
	}
}

// number reads a number in decimal; what is none gives 0.
func number(s string) int64 {
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}

func errno(err error) string {
	if err == nil {
		return "0"
	}
	return cmp.Or(anet.ErrorName(err), err.Error())
}

// quote cuts a string for a title, and quotes it.
func quote(s string) string {
	if len(s) <= 40 {
		return strconv.QuoteToASCII(s)
	}
	return strconv.QuoteToASCII(s[:40]) + "..."
}

// shownWords are the words of a command for a title, long ones cut.
func shownWords(args [][]byte) words {
	var all words
	for _, a := range args {
		s := escape(a[:min(len(a), 60)])
		if len(a) > 60 {
			s += "..."
		}
		all = append(all, cmp.Or(s, `""`))
	}
	return all
}

// line joins the words for a title.
func (w words) line() string { return strings.Join(shorten(w, 5), " ") }

// shorten only counts what is beyond the first n of a list, if that is several.
func shorten(all []string, n int) []string {
	if len(all) <= n+1 {
		return all
	}
	return append(all[:n:n], fmt.Sprintf("and %d more", len(all)-n))
}
