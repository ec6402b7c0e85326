package study

import (
	_ "embed"
	"io"
	"strings"
	"text/template"

	"replicad/replica"
)

var (
	//go:embed states.svg
	statesPicture string
	//go:embed states.tmpl
	statesTemplate string
)

// StateFormats are the formats of [States].
func StateFormats() []string { return []string{"text", "mermaid", "svg"} }

// States writes the link's table of transitions, and the phases of SYNC, in one
// of the StateFormats. The
// picture says beside the states what the numbers of its arrows mean.
func States(w io.Writer, format string) error {
	if format == "svg" {
		_, err := io.WriteString(w, statesPicture)
		return err
	}
	// These characters end a statement or a label in Mermaid.
	label := strings.NewReplacer(";", ",", ":", ",", "#", "no. ").Replace
	t, err := template.New("").Funcs(template.FuncMap{"label": label}).Parse(statesTemplate)
	if err != nil {
		return err
	}
	type phase struct{ Name, Text string }
	var phases []phase
	for p := replica.Auth; p <= replica.Stream; p++ {
		phases = append(phases, phase{p.String(), texts().Phases[p.String()]})
	}
	return t.ExecuteTemplate(w, format, map[string]any{"Transitions": replica.Transitions(), "Phases": phases})
}

// picture is the picture of the states without its legend. The changes of state
// that were taken are marked, and so are their states.
func picture(taken map[[2]string]int) string {
	marks := []string{"-126 0 950 595", "-126 0 330 500"} // what is shown of it
	for pair := range taken {
		for _, class := range []string{"box " + pair[0], "box " + pair[1], "move " + pair[0] + "-" + pair[1]} {
			marks = append(marks, `"`+class+`"`, `"`+class+` taken"`)
		}
	}
	states, _, _ := strings.Cut(statesPicture, "<!-- legend -->")
	return strings.NewReplacer(marks...).Replace(states) + "</svg>"
}
