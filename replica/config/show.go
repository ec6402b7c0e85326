package config

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"text/tabwriter"

	"go.yaml.in/yaml/v3"
)

// Show prints all settings with where each comes from, as a file that --config
// takes. Passwords are hidden.
func (c *Config) Show(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	group := ""
	for _, k := range c.keys {
		if k.Group != group {
			group = k.Group
			fmt.Fprintf(t, "# %s\n", group)
		}
		if _, given := c.origins[k.Name]; given || k.Group != portGroup || len(c.Masters) <= 1 {
			c.print(t, "", k)
		}
	}
	for i, f := range c.Masters {
		if f.line == 0 {
			break // it is one of replicaof
		}
		if i == 0 {
			fmt.Fprintf(t, "%s:\n", mastersKey)
		}
		fmt.Fprintf(t, "  - %s: %s\t# %s:%d\n", nameKey, scalar(f.Target.Name), c.File, f.line)
		if address := f.own.first(replicaofKey); address != "" {
			fmt.Fprintf(t, "    %s: %s\t# %s\n", replicaofKey, scalar(withoutPassword(address)), f.origins[replicaofKey])
		}
		for _, k := range f.keys {
			if _, own := f.own[k.Name]; own && k.Name != replicaofKey {
				f.print(t, "    ", k)
			}
		}
	}
	return t.Flush()
}

// print writes a key on one line. A password that was not given has no line:
// its file may have been given.
func (r reading) print(w io.Writer, indent string, k *Key) {
	origin, given := r.origins[k.Name]
	v := scalar(k.value.String())
	switch {
	case k.Secret && !given:
		return
	case k.Secret:
		v = `"***"`
	case k.List:
		shown := []string{}
		for _, one := range k.value.get().([]string) {
			shown = append(shown, withoutPassword(one))
		}
		b, _ := json.Marshal(shown) // strings always have a JSON, which is YAML
		v = string(b)
	}
	fmt.Fprintf(w, "%s%s: %s\t# %s\n", indent, k.Name, v, origin)
}

// scalar writes a string as YAML, on one line.
func scalar(s string) string {
	n := yaml.Node{Kind: yaml.ScalarNode, Value: s}
	if isNull(&n) || strings.ContainsAny(s, "\n\r\t#:*") {
		n.Style = yaml.DoubleQuotedStyle
	}
	b, _ := yaml.Marshal(&n) // a scalar has nothing that could fail
	return strings.TrimSpace(string(b))
}

// withoutPassword hides the password of a redis:// address.
func withoutPassword(address string) string {
	return regexp.MustCompile(`(rediss?://[^:@]*):.*@`).ReplaceAllString(address, "$1:***@")
}
