package config

import (
	"fmt"
	"strings"

	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/posflag"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"
)

// delimiter is what koanf nests keys by; none of ours has one.
const delimiter = "."

// layer is one source of values, and where each comes from.
type layer struct {
	values *koanf.Koanf
	origin func(key string) Origin
}

// load makes a layer. None of the providers that are used here can fail: each
// reads what is in memory.
func load(p koanf.Provider, origin func(string) Origin) (layer, error) {
	l := layer{koanf.New(delimiter), origin}
	return l, l.values.Load(p, nil)
}

// fromSection is a section of the file.
func fromSection(path string, s section) (layer, error) {
	values := map[string]any{}
	for k, e := range s.entries {
		values[k] = e.value
	}
	return load(confmap.Provider(values, delimiter), func(key string) Origin {
		return Origin{File, path, s.entries[key].line}
	})
}

// fromEnvironment are the variables that are set; an empty one is none.
// unknown is told those that belong to no key.
func fromEnvironment(environ []string, keys []*Key, unknown func(variable, text string)) (layer, error) {
	byVariable := map[string]*Key{}
	for _, k := range keys {
		byVariable[k.Variable()] = k
	}
	take := func(name, v string) (string, any) {
		k := byVariable[name]
		switch {
		case v == "" || fromKubernetes(name, v):
			return "", nil
		case k == nil:
			if !strings.HasPrefix(name, Prefix) || name == ConfigVariable || ofTests(name) {
				return "", nil
			}
			unknown(name, unknownVariable(name, byVariable))
			return "", nil
		case k.List:
			return k.Name, split(v)
		}
		return k.Name, v
	}
	p := env.Provider(delimiter, env.Opt{Prefix: Prefix, TransformFunc: take, EnvironFunc: func() []string { return environ }})
	return load(p, func(key string) Origin { return Origin{Layer: Environment, Name: variable(key)} })
}

func unknownVariable(name string, known map[string]*Key) string {
	short := func(s string) string {
		return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(s, Prefix), "_", "-"))
	}
	var names []string
	for v := range known {
		names = append(names, short(v))
	}
	if near := nearest(short(name), names); near != "" {
		return fmt.Sprintf("no key has this variable: did you mean %s?", variable(near))
	}
	return "no key has this variable"
}

// split reads a list as variables have it: separated by commas.
func split(v string) []string {
	var all []string
	for _, s := range strings.Split(v, ",") {
		if s = strings.TrimSpace(s); s != "" {
			all = append(all, s)
		}
	}
	return all
}

// fromKubernetes says whether a variable is one of those that Kubernetes (and
// Docker's links) set in every container beside a service named replicad, such as
// REPLICAD_PORT=tcp://10.0.0.1:6379.
func fromKubernetes(name, v string) bool {
	name = strings.TrimPrefix(name, Prefix)
	return strings.HasPrefix(name, "SERVICE_") || strings.HasPrefix(name, "PORT_") ||
		name == "PORT" && (strings.HasPrefix(v, "tcp://") || strings.HasPrefix(v, "udp://"))
}

// ofTests says whether a variable is one of replicad's own tests.
func ofTests(name string) bool {
	name = strings.TrimPrefix(name, Prefix)
	return name == "SOAK" || name == "RACE_BINARY" || strings.HasPrefix(name, "TEST_") || strings.HasPrefix(name, "REQUIRE_")
}

// fromFlags are those flags that were given.
func fromFlags(fl *pflag.FlagSet, keys []*Key) (layer, error) {
	known := map[string]bool{}
	for _, k := range keys {
		known[k.Name] = true
	}
	p := posflag.ProviderWithFlag(fl, delimiter, nil, func(f *pflag.Flag) (string, any) {
		if !known[f.Name] {
			return "", nil
		}
		if l, ok := f.Value.(pflag.SliceValue); ok {
			return f.Name, l.GetSlice()
		}
		return f.Name, f.Value.String()
	})
	return load(p, func(key string) Origin { return Origin{Layer: Flag, Name: "--" + key} })
}

// apply puts the layers upon each other, the weakest first, and gives each
// declared key its value. It returns where the values come from.
func (d *declarations) apply(layers []layer, problems *Problems) (map[string]Origin, error) {
	merged, origins := koanf.New(delimiter), map[string]Origin{}
	for _, l := range layers {
		for _, s := range d.secrets {
			d.oneSecret(s, l, merged, problems)
		}
		if err := merged.Merge(l.values); err != nil {
			return nil, err
		}
		for _, k := range d.keys {
			if l.values.Exists(k.Name) {
				origins[k.Name] = l.origin(k.Name)
			}
		}
	}
	for _, k := range d.keys {
		if !merged.Exists(k.Name) {
			delete(origins, k.Name)
			continue
		}
		if err := set(k, merged); err != nil {
			problems.add(origins[k.Name], k.Name, "%v", err)
		}
	}
	return origins, nil
}

func set(k *Key, from *koanf.Koanf) error {
	if l, ok := k.value.(pflag.SliceValue); ok {
		return l.Replace(from.Strings(k.Name))
	}
	return k.value.Set(from.String(k.Name))
}

// oneSecret sees to it that a password that a layer gives in one way hides one
// that a weaker layer gives in the other.
func (d *declarations) oneSecret(s *Secret, l layer, merged *koanf.Koanf, problems *Problems) {
	given, byFile := l.values.Exists(s.key), l.values.Exists(s.fileKey())
	switch {
	case given && byFile && l.values.String(s.key) != "" && l.values.String(s.fileKey()) != "":
		problems.add(l.origin(s.fileKey()), s.fileKey(), "%s and %s exclude each other", s.key, s.fileKey())
		l.values.Delete(s.fileKey())
	case given && !byFile:
		merged.Delete(s.fileKey())
	case byFile && !given:
		merged.Delete(s.key)
	}
}
