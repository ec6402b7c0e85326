package config

import (
	"fmt"
	"io"
	"net/url"
	"strings"
	"text/tabwriter"

	"go.yaml.in/yaml/v3"

	"replicad/replica"
)

// hidden stands for a password.
const hidden = "***"

// Show prints all settings with where each comes from, as a file that --config
// takes, but for passwords: those are hidden.
func (c *Config) Show(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	group := ""
	for _, k := range c.d.keys {
		if k.Group != group {
			group = k.Group
			fmt.Fprintf(t, "# %s\n", group)
		}
		if k.Name == replicaofKey {
			if len(c.ReplicaOf) > 0 {
				fmt.Fprintf(t, "%s:\t# %s\n", replicaofKey, c.origins[replicaofKey])
			}
			for _, a := range c.ReplicaOf {
				fmt.Fprintf(t, "  - %s\n", scalar(withoutPassword(a)))
			}
			continue
		}
		if _, given := c.origins[k.Name]; k.Unique && !given && len(c.Masters) > 1 {
			continue // then the default is none
		}
		line(t, "", k, c.origins)
	}
	first := true
	for _, f := range c.Masters {
		if f.line == 0 {
			continue
		}
		if first {
			fmt.Fprintf(t, "%s:\n", mastersKey)
		}
		first = false
		fmt.Fprintf(t, "  - %s: %s\t# %s:%d\n", nameKey, scalar(f.Target.Name), c.File, f.line)
		if f.address != "" {
			address := strings.TrimPrefix(withoutPassword(f.address), f.Target.Name+"=")
			fmt.Fprintf(t, "    %s: %s\t# %s\n", replicaofKey, scalar(address), f.origins[replicaofKey])
		}
		for _, k := range f.d.keys {
			if f.own(k.Name) {
				line(t, "    ", k, f.origins)
			}
		}
	}
	return t.Flush()
}

// line prints a key, unless it is one of two ways to give a secret, and not the
// one that was taken.
func line(w io.Writer, indent string, k *Key, origins map[string]Origin) {
	v := scalar(k.value.String())
	if k.Secret {
		if _, given := origins[k.Name]; !given {
			return
		}
		v = scalar(hidden)
	}
	fmt.Fprintf(w, "%s%s: %s\t# %s\n", indent, k.Name, v, origins[k.Name])
}

// scalar writes a value as YAML, on one line.
func scalar(s string) string {
	n := yaml.Node{Kind: yaml.ScalarNode, Value: s}
	if isNull(&n) || strings.ContainsAny(s, "\n\r\t#:*") {
		n.Style = yaml.DoubleQuotedStyle
	}
	b, err := yaml.Marshal(&n)
	if err != nil {
		return fmt.Sprintf("%q", s)
	}
	return strings.TrimSpace(string(b))
}

// withoutPassword hides the password of an address.
func withoutPassword(address string) string {
	m, err := replica.ParseMaster(address)
	if err != nil || m.Password == "" {
		return address
	}
	u := url.URL{Scheme: "redis", Host: m.Address()}
	if m.TLS {
		u.Scheme = "rediss"
	}
	who := url.QueryEscape(m.User) + ":" + hidden + "@"
	return m.Name + "=" + u.Scheme + "://" + who + u.Host
}
