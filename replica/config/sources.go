package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"replicad/replica/units"
)

// layer is what one source says: the flags, the variables, or a section of the
// file. It has the keys that the source gives.
type layer map[string]given

// given is the value of a key, or the values of a list, with its place.
type given struct {
	values []string
	origin Origin
}

// first is the value of a key; "" where the layer has none.
func (l layer) first(key string) string {
	if g := l[key]; len(g.values) > 0 {
		return g.values[0]
	}
	return ""
}

// merge puts layers upon each other, the weakest first. A layer that gives a
// password in one way hides a password that a weaker layer gives in the other
// way.
func (l *loader) merge(layers []layer) layer {
	merged := layer{}
	for _, one := range layers {
		for _, k := range l.keys {
			if !k.Secret {
				continue
			}
			_, isText := one[k.Name]
			_, isFile := one[k.file.Name]
			if isText || isFile {
				delete(merged, k.Name)
				delete(merged, k.file.Name)
			}
			if one.first(k.Name) != "" && one.first(k.file.Name) != "" {
				l.problems.add(one[k.file.Name].origin, k.file.Name, "%s and %s exclude each other", k.Name, k.file.Name)
			}
		}
		maps.Copy(merged, one)
	}
	return merged
}

// flagLayer holds the flags that were given.
func flagLayer(fl *pflag.FlagSet, keys []*Key) layer {
	got := layer{}
	for _, k := range keys {
		f := fl.Lookup(k.Name)
		if f == nil || !f.Changed {
			continue
		}
		values := []string{f.Value.String()}
		if k.List {
			values = slices.Clone(f.Value.(setting).get().([]string))
		}
		got[k.Name] = given{values, Origin{Layer: Flag, Name: "--" + k.Name}}
	}
	return got
}

// elements matches the elements of a list as a variable has it, separated by
// commas.
const elements = `[^,\s]([^,]*[^,\s])?`

// variableLayer holds the variables that are set; an empty one counts as not
// set. unknown is called for each variable REPLICAD_* that belongs to no key.
func variableLayer(environ []string, keys []*Key, unknown func(Problem)) layer {
	got := layer{}
	for _, s := range environ {
		name, v, _ := strings.Cut(s, "=")
		short, ours := strings.CutPrefix(name, Prefix)
		if v == "" || !ours || isForeign(short, v) {
			continue
		}
		at := Origin{Layer: Environment, Name: name}
		short = strings.ToLower(strings.ReplaceAll(short, "_", "-"))
		k := find(keys, short)
		switch {
		case k == nil || k.Variable() != name:
			unknown(Problem{at, "no key has this variable" + didYouMean(short, keys, variable)})
		case k.List:
			got[k.Name] = given{regexp.MustCompile(elements).FindAllString(v, -1), at}
		default:
			got[k.Name] = given{[]string{v}, at}
		}
	}
	return got
}

// isForeign says whether a variable REPLICAD_* is no setting: it is one of
// replicad's own tests, or one of those that Kubernetes (and Docker's links) set
// in every container beside a service named replicad, such as
// REPLICAD_PORT=tcp://10.0.0.1:6379.
func isForeign(short, v string) bool {
	const foreign = `^(SOAK|RACE_BINARY)$|^(SERVICE|PORT|TEST|REQUIRE)_`
	return regexp.MustCompile(foreign).MatchString(short) || short == "PORT" && strings.Contains(v, "://")
}

// Keys that only the file has: masters is a list of sections; name is a key of
// a section. replicaof is a key of a section too, with one address there.
const (
	mastersKey   = "masters"
	nameKey      = "name"
	replicaofKey = "replicaof"
)

// Bounds of files, in bytes. People write a file of settings by hand, and
// /dev/zero is no password.
const (
	maxFile   = 4 << 20
	maxSecret = 64 << 10
)

// fileLayer reads the file; nil where the file can't be read. All keys of the
// layer are known; their values are checked later, as those of flags and
// variables are.
func (l *loader) fileLayer() layer {
	b, open, err := readBounded(l.cfg.File, maxFile)
	l.open = open
	var pe *os.PathError
	if errors.As(err, &pe) {
		err = pe.Err // the problem begins with the path anyway
	}
	if err != nil {
		l.wrong(0, "", "%v", err)
		return nil
	}
	return l.parse(string(b))
}

// readBounded reads a file of at most most bytes. open says whether users that
// neither own the file nor are of its group can read it.
func readBounded(path string, most int64) (b []byte, open bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	if b, err = io.ReadAll(io.LimitReader(f, most+1)); err != nil {
		return nil, false, err
	}
	if int64(len(b)) > most {
		return nil, false, fmt.Errorf("%s has more than %d bytes", path, most)
	}
	st, err := f.Stat()
	return b, err == nil && st.Mode().IsRegular() && st.Mode().Perm()&0o004 != 0, err
}

// wrong adds a problem of a line of the file.
func (l *loader) wrong(line int, key, format string, args ...any) {
	l.problems.add(Origin{File, l.cfg.File, line}, key, format, args...)
}

// parse reads the text of a file: one document of YAML, or nothing.
func (l *loader) parse(text string) layer {
	var root, next yaml.Node
	y := yaml.NewDecoder(strings.NewReader(text))
	err := y.Decode(&root)
	if err == nil {
		err = y.Decode(&next)
	}
	switch {
	case err == nil:
		l.wrong(next.Line, "", "a second document: write all settings into the first one")
	case !errors.Is(err, io.EOF):
		m := regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?(.*)`).FindStringSubmatch(err.Error())
		line, _ := strconv.Atoi(m[1])
		l.wrong(line, "", "this is no YAML: %s", m[2])
	case root.Content == nil || isNull(root.Content[0]): // nothing but comments
		return layer{}
	default:
		return l.mapping(root.Content[0], "", append(slices.Clone(l.keys), &Key{Name: mastersKey}))
	}
	return nil
}

// readMasters reads the value of the key masters.
func (l *loader) readMasters(line int, n *yaml.Node) {
	l.listed = line
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		l.wrong(line, mastersKey, "want a list, of which each entry begins with \"- %s: ...\"", nameKey)
		return
	}
	shared := func(k *Key) bool { return !k.Master }
	known := append(slices.DeleteFunc(slices.Clone(l.keys), shared), &Key{Name: nameKey}, &Key{Name: replicaofKey})
	for _, one := range n.Content {
		if own := l.mapping(one, mastersKey+": ", known); own != nil {
			at := cmp.Or(own[replicaofKey].origin, Origin{File, l.cfg.File, one.Line})
			l.masters = append(l.masters, section{one.Line, at, own})
		}
	}
}

// mapping reads keys with values; nil where n is something else. A problem of
// the whole begins with prefix.
func (l *loader) mapping(n *yaml.Node, prefix string, known []*Key) layer {
	line := n.Line
	if n = follow(n); n.Kind != yaml.MappingNode {
		l.wrong(line, "", "%swant keys with values, \"key: value\"", prefix)
		return nil
	}
	got, first := layer{}, map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, line, v := n.Content[i].Value, n.Content[i].Line, follow(n.Content[i+1])
		k := find(known, name)
		switch {
		case k == nil && find(l.keys, name) != nil:
			l.wrong(line, "", "%q is the same for all masters: write it outside of %s", name, mastersKey)
		case k == nil || n.Content[i].Kind != yaml.ScalarNode:
			l.wrong(line, "", "unknown key %q%s", name, didYouMean(name, known, func(s string) string { return s }))
		case first[name] > 0:
			l.wrong(line, name, "this key was given before, in line %d", first[name])
		case name == mastersKey:
			l.readMasters(line, v)
		default:
			if values, wrong := valuesOf(v, k.List); wrong != "" {
				l.wrong(line, name, "%s", wrong)
			} else {
				got[name] = given{values, Origin{File, l.cfg.File, line}}
			}
		}
		first[name] = cmp.Or(first[name], line)
	}
	return got
}

// follow returns what an alias (*name) stands for.
func follow(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// valuesOf reads the value of a key, or the values of one that takes a list.
func valuesOf(n *yaml.Node, list bool) (values []string, wrong string) {
	all := []*yaml.Node{n}
	switch {
	case isNull(n):
		return nil, "the key has no value: give it one, or remove the line"
	case list && n.Kind == yaml.ScalarNode && n.Value == "":
		return nil, ""
	case list && n.Kind == yaml.SequenceNode:
		all = n.Content
	}
	for _, one := range all {
		if one = follow(one); one.Kind != yaml.ScalarNode {
			return nil, "want a plain value, not a list or keys with values"
		}
		values = append(values, one.Value)
	}
	return values, ""
}

// didYouMean proposes the known key whose name differs in the fewest letters,
// written as spell does; "" where no name is similar.
func didYouMean(name string, known []*Key, spell func(string) string) string {
	names := make([]string, len(known))
	for i, k := range known {
		names[i] = k.Name
	}
	if found := units.Nearest(name, names); found != "" {
		return ": did you mean " + spell(found) + "?"
	}
	return ""
}
