package study_test

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"maps"
	"strings"
	"testing"

	"replicad/replica"
	"replicad/replica/study"
)

// The README shows states.svg, which must be true: its description, its legend
// and its arrows are those of the code's own table.
func TestTheDrawnStateMachineIsTheCodes(t *testing.T) {
	var svg bytes.Buffer
	if err := study.States(&svg, "svg"); err != nil {
		t.Fatal(err)
	}
	type group struct {
		Class string   `xml:"class,attr"`
		Names []string `xml:"text"`
		Badge string   `xml:"g>text"`
	}
	var drawn struct {
		Desc   string  `xml:"desc"`
		Groups []group `xml:"g"`
		Legend []struct {
			Class string `xml:"class,attr"`
			Text  string `xml:",chardata"`
		} `xml:"text"`
	}
	if err := xml.Unmarshal(svg.Bytes(), &drawn); err != nil {
		t.Fatal(err)
	}
	classes := map[string]string{} // of boxes and arrows, with what stands there
	for _, g := range drawn.Groups {
		if g.Class != "badge" {
			classes[g.Class] = strings.Join(g.Names, " ") + g.Badge
		}
	}
	var desc, legend, shown string
	for _, line := range drawn.Legend {
		shown += line.Text + " "
	}
	var phases []string
	for p := replica.Auth; p <= replica.Stream; p++ {
		phases = append(phases, p.String())
	}
	want := map[string]string{"phases": strings.Join(phases, " → ")}
	for i, tr := range replica.Transitions() {
		desc += fmt.Sprintf("%d: from %s to %s when %s; then %s. ", i+1, tr.From, tr.To, tr.Event, tr.Action)
		legend += fmt.Sprintf("%s → %s %s then %s ", tr.From, tr.To, tr.Event, tr.Action)
		want["box "+tr.From.String()], want["box "+tr.To.String()] = tr.From.String(), tr.To.String()
		arrow := fmt.Sprintf("move %s-%s", tr.From, tr.To)
		want[arrow] = strings.TrimSpace(want[arrow] + fmt.Sprintf(" %d", i+1))
	}
	if drawn.Desc != desc || shown != legend {
		t.Errorf("states.svg says\n%s\n%s\nwant\n%s\n%s", drawn.Desc, shown, desc, legend)
	}
	if !maps.Equal(classes, want) {
		t.Errorf("states.svg shows %v, want %v", classes, want)
	}
}

func TestTheTableIsWrittenAsTextAndAsMermaid(t *testing.T) {
	var text, mermaid bytes.Buffer
	if err := study.States(&text, "text"); err != nil {
		t.Fatal(err)
	}
	if err := study.States(&mermaid, "mermaid"); err != nil {
		t.Fatal(err)
	}
	for _, tr := range replica.Transitions() {
		if !strings.Contains(text.String(), tr.Event) || !strings.Contains(text.String(), tr.Action) {
			t.Errorf("the text lacks %+v", tr)
		}
		if !strings.Contains(mermaid.String(), "    "+tr.From.String()+" --> "+tr.To.String()+": ") {
			t.Errorf("Mermaid lacks %+v", tr)
		}
	}
	for p := replica.Auth; p < replica.Stream; p++ {
		if !strings.Contains(text.String(), "\n  "+p.String()+" ") || !strings.Contains(mermaid.String(), fmt.Sprintf("        %s --> %s\n", p, p+1)) {
			t.Errorf("phase %s is missing\n%s\n%s", p, text.String(), mermaid.String())
		}
	}
	if lines := strings.Split(strings.TrimSpace(mermaid.String()), "\n"); len(lines) != len(replica.Transitions())+2+10 || lines[0] != "stateDiagram-v2" {
		t.Errorf("Mermaid:\n%s", mermaid.String())
	}
}
