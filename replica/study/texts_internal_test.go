package study

import (
	"strings"
	"testing"
	"text/template"
)

// The parts that a reply's entry names are the groups of its expression and the
// end of the line; and every group is a part, so that no byte is left out.
func TestEveryGroupOfAReplyHasAText(t *testing.T) {
	b := texts()
	for _, r := range b.Replies {
		if groups := r.pattern.NumSubexp(); len(r.Parts) != groups+1 {
			t.Errorf("%s has %d groups and %d parts", r.Is, groups, len(r.Parts))
		}
		outside, depth := "", 0
		for _, c := range strings.ReplaceAll(strings.ReplaceAll(r.Is, `\$`, "d"), `\(`, "") {
			switch {
			case c == '(':
				depth++
			case c == ')':
				depth--
			case depth == 0:
				outside += string(c)
			}
		}
		if outside != "^$" {
			t.Errorf("%s has %q outside of its groups", r.Is, outside)
		}
	}
}

func TestEveryTextIsATemplateAndEveryKeyHasItsSources(t *testing.T) {
	b := texts()
	rules := append(append(append([]*rule{}, b.Sent...), b.Stream...), b.Replies...)
	for _, r := range b.Things {
		rules = append(rules, r)
	}
	for _, r := range rules {
		all := []string{r.Title, r.Text}
		for _, p := range r.Parts {
			all = append(all, p[0], p[1])
		}
		for _, text := range all {
			if _, err := template.New("").Funcs(functions()).Parse(text); err != nil {
				t.Errorf("%q: %v", text, err)
			}
		}
		if r.Text == "" || r.Key != "" && b.Sources[r.Key].Known == "" {
			t.Errorf("%q (%s) has no text, or no sources %q", r.Title, r.Is, r.Key)
		}
	}
	for _, name := range thingOf() {
		if b.Things[name] == nil {
			t.Errorf("there is no thing %q", name)
		}
	}
}
