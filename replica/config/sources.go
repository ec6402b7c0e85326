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

	"github.com/agnivade/levenshtein"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
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
func merge(layers []layer, keys []*Key, problems *Problems) layer {
	merged := layer{}
	for _, l := range layers {
		for _, k := range keys {
			file := fileKeyOf(k.Name)
			_, isText := l[k.Name]
			_, isFile := l[file]
			if !k.Secret || !isText && !isFile {
				continue
			}
			delete(merged, k.Name)
			delete(merged, file)
			if l.first(k.Name) != "" && l.first(file) != "" {
				problems.add(l[file].origin, file, "%s and %s exclude each other", k.Name, file)
			}
		}
		maps.Copy(merged, l)
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
		if l, ok := f.Value.(value[[]string]); ok && k.List {
			values = slices.Clone(*l.to)
		}
		got[k.Name] = given{values, Origin{Layer: Flag, Name: "--" + k.Name}}
	}
	return got
}

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
			got[k.Name] = given{split(v), at}
		default:
			got[k.Name] = given{[]string{v}, at}
		}
	}
	return got
}

// split reads a list as variables have it: separated by commas.
func split(v string) []string {
	var all []string
	for s := range strings.SplitSeq(v, ",") {
		if s = strings.TrimSpace(s); s != "" {
			all = append(all, s)
		}
	}
	return all
}

// isForeign says whether a variable REPLICAD_* is no setting: it names the
// file, is one of replicad's own tests, or is one of those that Kubernetes (and
// Docker's links) set in every container beside a service named replicad, such
// as REPLICAD_PORT=tcp://10.0.0.1:6379.
func isForeign(short, v string) bool {
	const foreign = `^(CONFIG|SOAK|RACE_BINARY)$|^(SERVICE|PORT|TEST|REQUIRE)_`
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

// document is what a file says. All its keys are known; their values are
// checked later, as those of flags and variables are.
type document struct {
	path    string
	top     layer // what stands outside of masters; nil where the file can't be read
	masters []section
	listed  int  // the line of the key masters; 0 where there is none
	open    bool // every user of this host can read the file

	keys     []*Key
	problems *Problems
}

// section is what is said of one master: one of masters, or what stands in its
// place.
type section struct {
	line int    // of one of masters; 0 otherwise
	at   Origin // where the section says which master it is
	own  layer
}

// readFile reads the file at path.
func readFile(path string, keys []*Key, problems *Problems) document {
	d := document{path: path, keys: keys, problems: problems}
	b, open, err := readBounded(path, maxFile)
	d.open = open
	var pe *os.PathError
	if errors.As(err, &pe) {
		err = pe.Err // the problem begins with the path anyway
	}
	if err != nil {
		d.problem(0, "", "%v", err)
		return d
	}
	d.read(string(b))
	return d
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

func (d *document) problem(line int, key, format string, args ...any) {
	d.problems.add(Origin{File, d.path, line}, key, format, args...)
}

// read reads the text of a file: one document of YAML, or nothing.
func (d *document) read(text string) {
	var root, next yaml.Node
	y := yaml.NewDecoder(strings.NewReader(text))
	err := y.Decode(&root)
	if err == nil {
		err = y.Decode(&next)
	}
	switch {
	case err == nil:
		d.problem(next.Line, "", "a second document: write all settings into the first one")
	case err != nil && !errors.Is(err, io.EOF):
		m := regexp.MustCompile(`^(?:yaml: )?(?:line (\d+): )?(.*)`).FindStringSubmatch(err.Error())
		line, _ := strconv.Atoi(m[1])
		d.problem(line, "", "this is no YAML: %s", m[2])
	case root.Content == nil || isNull(root.Content[0]): // nothing but comments
		d.top = layer{}
	default:
		d.top = d.mapping(root.Content[0], "", append(slices.Clone(d.keys), &Key{Name: mastersKey}))
	}
}

// readMasters reads the value of the key masters.
func (d *document) readMasters(line int, n *yaml.Node) {
	d.listed = line
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		d.problem(line, mastersKey, "want a list, of which each entry begins with \"- %s: ...\"", nameKey)
		return
	}
	shared := func(k *Key) bool { return !k.Master }
	known := append(slices.DeleteFunc(slices.Clone(d.keys), shared), &Key{Name: nameKey}, &Key{Name: replicaofKey})
	for _, one := range n.Content {
		if own := d.mapping(one, mastersKey+": ", known); own != nil {
			at := cmp.Or(own[replicaofKey].origin, Origin{File, d.path, one.Line})
			d.masters = append(d.masters, section{one.Line, at, own})
		}
	}
}

// mapping reads keys with values; nil where n is something else. A problem of
// the whole begins with prefix.
func (d *document) mapping(n *yaml.Node, prefix string, known []*Key) layer {
	line := n.Line
	if n = follow(n); n.Kind != yaml.MappingNode {
		d.problem(line, "", "%swant keys with values, \"key: value\"", prefix)
		return nil
	}
	got, first := layer{}, map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, line, v := n.Content[i].Value, n.Content[i].Line, follow(n.Content[i+1])
		k := find(known, name)
		switch {
		case k == nil && find(d.keys, name) != nil:
			d.problem(line, "", "%q is the same for all masters: write it outside of %s", name, mastersKey)
		case k == nil || n.Content[i].Kind != yaml.ScalarNode:
			d.problem(line, "", "unknown key %q%s", name, didYouMean(name, known, func(s string) string { return s }))
		case first[name] > 0:
			d.problem(line, name, "this key was given before, in line %d", first[name])
		case name == mastersKey:
			d.readMasters(line, v)
		default:
			if values, wrong := valuesOf(v, k.List); wrong != "" {
				d.problem(line, name, "%s", wrong)
			} else {
				got[name] = given{values, Origin{File, d.path, line}}
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
	name = strings.ToLower(strings.ReplaceAll(name, "_", "-"))
	best, found := max(1, min(len(name)/3, 4))+1, ""
	for _, k := range known {
		if d := levenshtein.ComputeDistance(name, k.Name); d < best {
			best, found = d, k.Name
		}
	}
	if found == "" {
		return ""
	}
	return ": did you mean " + spell(found) + "?"
}
