package probe

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

//go:embed checks.yaml
var checksFile []byte

// check is a row of the table of checks, in the form of checks.yaml.
type check struct {
	Name    string
	Needs   need
	Refusal string
	Rules   []rule
}

// need is what a check needs beside its facts.
type need string

const (
	answers       need = "answers"    // a master that answers
	connection    need = "connection" // to the master
	fullInfo      need = "info"       // INFO
	configuration need = "config"     // CONFIG GET
	folder        need = "dir"        // Options.Dir
)

// rule is a verdict, and the condition under which it holds.
type rule struct {
	When   string
	Status Status
	Detail string
	Remedy string
}

// checks reads the table of checks.
func checks() (table []check) {
	if err := yaml.Unmarshal(checksFile, &table); err != nil {
		panic(fmt.Sprintf("checks.yaml: %v", err)) // a mistake in the program
	}
	return table
}

// holds says whether all terms of a condition hold. Of a term, a=b and a!=b
// compare text, a<b and a>b numbers, and a? wants a number, a!? none. b is
// another value's name, or stands for itself.
func (f *facts) holds(condition string) bool {
	for term := range strings.FieldsSeq(condition) {
		at := strings.IndexAny(term, "=!<>?")
		name, op := term[:at], term[at:]
		right := strings.TrimLeft(op, "=!<>?")
		op = strings.TrimSuffix(op, right)
		a, isNumber := f.number(name)
		b, named := f.number(right)
		if !named {
			b, _ = strconv.ParseFloat(right, 64)
		}
		holds := map[string]bool{
			"=": f.value(name) == right, "!=": f.value(name) != right,
			"<": isNumber && a < b, ">": isNumber && a > b,
			"?": isNumber, "!?": !isNumber,
		}
		if !holds[op] {
			return false
		}
	}
	return true
}

// judge applies the first rule that holds.
func (f *facts) judge(rules []rule) Check {
	for i, r := range rules {
		if !f.holds(r.When) {
			continue
		}
		for r.Detail == "" && i < len(rules)-1 {
			i++
			r.Detail = rules[i].Detail
		}
		return Check{Status: r.Status, Detail: f.text(r.Detail), Remedy: f.text(r.Remedy)}
	}
	return Check{Status: Skip, Detail: "the master does not tell"}
}
