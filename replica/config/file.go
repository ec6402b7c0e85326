package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/agnivade/levenshtein"
	"go.yaml.in/yaml/v3"
)

// Keys that are the file's alone: masters is the list, name is one of a
// master's keys, and so is replicaof, with one address there.
const (
	mastersKey   = "masters"
	nameKey      = "name"
	replicaofKey = "replicaof"
)

// maxFile bounds a file: it is written by hand.
const maxFile = 4 << 20

// document is a file whose keys are all known, and each of one value or a list
// of them, but not yet understood.
type document struct {
	path    string
	top     section
	masters []section
	listed  int  // the line of masters, 0 where there is none
	unread  bool // it could not be read, or is no YAML
}

// section is what stands outside of masters, or one of them.
type section struct {
	line    int
	entries map[string]entry
}

// entry is a key's value: a string, or a []string where the key takes several.
type entry struct {
	value any
	line  int
}

// text is the value of a key that takes one.
func (s section) text(key string) (string, int) {
	e, ok := s.entries[key]
	if !ok {
		return "", s.line
	}
	return e.value.(string), e.line
}

// reader reads a document, and collects what is wrong with it.
type reader struct {
	doc      *document
	keys     []*Key
	problems *Problems
}

// readFile reads the file at path. Problems have their lines.
func readFile(path string, keys []*Key, problems *Problems) (doc *document, mode os.FileInfo) {
	r := reader{&document{path: path}, keys, problems}
	f, err := os.Open(path)
	if err != nil {
		r.giveUp("%s", withoutPath(err))
		return r.doc, nil
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		r.giveUp("%s", withoutPath(err))
	case len(b) > maxFile:
		r.giveUp("it is larger than %d bytes, and so no file of settings", maxFile)
	default:
		r.read(string(b))
	}
	mode, _ = f.Stat()
	return r.doc, mode
}

// withoutPath takes the path from an error whose line begins with it.
func withoutPath(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

func (r *reader) problem(line int, key, format string, args ...any) {
	r.problems.add(Origin{File, r.doc.path, line}, key, format, args...)
}

// giveUp says that the file as a whole can't be read.
func (r *reader) giveUp(format string, args ...any) {
	r.doc.unread = true
	r.problem(0, "", format, args...)
}

func (r *reader) read(text string) {
	d := yaml.NewDecoder(strings.NewReader(text))
	var n, next yaml.Node
	switch err := d.Decode(&n); {
	case errors.Is(err, io.EOF): // nothing but comments
		r.doc.top.entries = map[string]entry{}
		return
	case err != nil:
		r.malformed(err)
		return
	}
	if err := d.Decode(&next); err == nil {
		r.problem(next.Line, "", "a second document: all settings belong into the first")
	} else if !errors.Is(err, io.EOF) {
		r.malformed(err)
	}
	root := n.Content[0]
	if isNull(root) {
		r.doc.top.entries = map[string]entry{}
		return
	}
	known := map[string]*Key{mastersKey: nil}
	for _, k := range r.keys {
		known[k.Name] = k
	}
	r.doc.top = r.section(root, "", known, func(k, v *yaml.Node) bool {
		if k.Value != mastersKey {
			return false
		}
		r.masters(k, v)
		return true
	})
}

// yamlLine is how the parser says where it gave up.
var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

func (r *reader) malformed(err error) {
	text := err.Error()
	line := 0
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		text = text[len(m[0]):]
		line, _ = strconv.Atoi(m[1])
	}
	r.doc.unread = true
	r.problem(line, "", "this is no YAML: %s", text)
}

func (r *reader) masters(key, list *yaml.Node) {
	list = follow(list)
	r.doc.listed = key.Line
	if list.Kind != yaml.SequenceNode || len(list.Content) == 0 {
		r.problem(key.Line, mastersKey, "want a list, of which each begins with \"- %s: ...\"", nameKey)
		return
	}
	known := map[string]*Key{nameKey: {Name: nameKey}, replicaofKey: {Name: replicaofKey}}
	for _, k := range r.keys {
		if k.Master {
			known[k.Name] = k
		}
	}
	for _, n := range list.Content {
		s := r.section(n, "masters: ", known, nil)
		if s.entries != nil {
			r.doc.masters = append(r.doc.masters, s)
		}
	}
}

// section reads a mapping. special takes what is not one of the keys.
func (r *reader) section(n *yaml.Node, within string, known map[string]*Key, special func(k, v *yaml.Node) bool) section {
	line := n.Line
	n = follow(n)
	if n.Kind != yaml.MappingNode {
		r.doc.unread = r.doc.unread || within == ""
		r.problem(line, "", "%swant keys with values, \"key: value\"", within)
		return section{}
	}
	s := section{line: line, entries: map[string]entry{}}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		key, ok := known[k.Value]
		switch {
		case k.Kind != yaml.ScalarNode || !ok:
			r.problem(k.Line, "", "%s", r.unknown(k.Value, within != "", known))
			continue
		case seen[k.Value] > 0:
			r.problem(k.Line, k.Value, "it is given twice, first in line %d", seen[k.Value])
			continue
		}
		seen[k.Value] = k.Line
		if special != nil && special(k, v) {
			continue
		}
		if got, ok := r.value(k, follow(v), key.List); ok {
			s.entries[k.Value] = entry{got, k.Line}
		}
	}
	return s
}

// follow gives what an alias (*name) stands for.
func follow(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// value reads a key's value. What it is a value of is checked later, by its
// form, as that of a flag or a variable.
func (r *reader) value(key, n *yaml.Node, list bool) (any, bool) {
	switch {
	case isNull(n):
		r.problem(key.Line, key.Value, "it has no value: give it one, or remove the line")
	case n.Kind == yaml.ScalarNode && list && n.Value == "":
		return []string{}, true
	case n.Kind == yaml.ScalarNode && list:
		return []string{n.Value}, true
	case n.Kind == yaml.ScalarNode:
		return n.Value, true
	case n.Kind != yaml.SequenceNode:
		r.problem(key.Line, key.Value, "want a value, not keys with values")
	case !list:
		r.problem(key.Line, key.Value, "want one value, not a list")
	default:
		all := []string{}
		for _, one := range n.Content {
			one = follow(one)
			if one.Kind != yaml.ScalarNode || isNull(one) {
				r.problem(one.Line, key.Value, "want a list of plain values")
				return nil, false
			}
			all = append(all, one.Value)
		}
		return all, true
	}
	return nil, false
}

// unknown says what a key that is none may have been meant to be.
func (r *reader) unknown(name string, inMaster bool, known map[string]*Key) string {
	if inMaster {
		for _, k := range r.keys {
			if k.Name == name {
				return fmt.Sprintf("%q is the same for all masters: it belongs outside of %s", name, mastersKey)
			}
		}
	}
	text := fmt.Sprintf("unknown key %q", name)
	var names []string
	for n := range known {
		names = append(names, n)
	}
	if near := nearest(name, names); near != "" {
		text += ": did you mean " + near + "?"
	}
	return text
}

// nearest gives the name that differs in the fewest letters, where these are
// few; "" where none is like it.
func nearest(name string, names []string) string {
	name = strings.ToLower(strings.ReplaceAll(name, "_", "-"))
	best, found := max(1, min(len(name)/3, 4))+1, ""
	for _, n := range names {
		if d := levenshtein.ComputeDistance(name, n); d < best || d == best && found != "" && n < found {
			best, found = d, n
		}
	}
	return found
}
