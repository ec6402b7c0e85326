package study_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"replicad/replica"
	"replicad/replica/study"
)

// The README shows states.svg: it is drawn from the code's own table.
func TestTheDrawnStateMachineIsTheCodes(t *testing.T) {
	var got bytes.Buffer
	if err := study.States(&got, "svg", replica.Transitions()); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("states.svg", got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("states.svg")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Error("states.svg does not show replica.Transitions(); -update draws it anew")
	}
}

func TestTheDrawingIsWellFormedWhateverTheTable(t *testing.T) {
	table := append(replica.Transitions(),
		replica.Transition{From: replica.None, To: replica.None, Event: "repointed <&> \"quoted\"", Action: "another master"},
		replica.Transition{From: replica.None, To: replica.Sync, Event: "past two boxes", Action: "nothing"},
		replica.Transition{From: replica.Sync, To: replica.None, Event: "repointed", Action: "close"},
		replica.Transition{From: replica.Sync, To: replica.Connecting, Event: "up, past one", Action: strings.Repeat("long ", 50)})
	var svg bytes.Buffer
	if err := study.States(&svg, "svg", table); err != nil {
		t.Fatal(err)
	}
	texts := 0
	for d := xml.NewDecoder(&svg); ; {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := tok.(xml.StartElement); ok && e.Name.Local == "text" {
			texts++
		}
	}
	if texts < 4*len(table) {
		t.Errorf("%d texts for %d transitions", texts, len(table))
	}
}

func TestTheTableIsWrittenAsTextAndAsMermaid(t *testing.T) {
	var text, mermaid bytes.Buffer
	if err := study.States(&text, "text", replica.Transitions()); err != nil {
		t.Fatal(err)
	}
	if err := study.States(&mermaid, "mermaid", replica.Transitions()); err != nil {
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
	if lines := strings.Split(strings.TrimSpace(mermaid.String()), "\n"); len(lines) != len(replica.Transitions())+2 || lines[0] != "stateDiagram-v2" {
		t.Errorf("Mermaid:\n%s", mermaid.String())
	}
}
