package config

import (
	"github.com/spf13/pflag"

	"replicad/replica"
)

// Flags gives a command that speaks to masters, and is not run, the flags of
// [Connect]; the environment has the same keys.
type Flags struct {
	fl *pflag.FlagSet
	// Connect is what they say, after Masters.
	Connect Connect
}

// NewFlags registers the flags.
func NewFlags(fl *pflag.FlagSet) *Flags {
	new(Connect).declare(newDeclarations(fl))
	return &Flags{fl: fl}
}

// Masters reads addresses, as [replica.ParseMaster] does, and gives each user,
// password and TLS. It is called after the flags were parsed; environ is as
// os.Environ gives it. The error is of type [Problems].
func (f *Flags) Masters(addresses, environ []string, warn func(string)) ([]replica.Master, error) {
	d := newDeclarations(pflag.NewFlagSet("", pflag.ContinueOnError))
	f.Connect.declare(d)
	environment, err := fromEnvironment(environ, d.keys, func(string, string) {})
	if err != nil {
		return nil, err
	}
	flags, err := fromFlags(f.fl, d.keys)
	if err != nil {
		return nil, err
	}
	l := &loader{cfg: &Config{}, doc: &document{}, below: []layer{environment, flags}}
	at := Origin{Layer: Flag}
	if f.fl.Lookup(replicaofKey) != nil {
		at.Name = "--" + replicaofKey
	}
	for _, a := range addresses {
		if err := l.follow(Followed{address: a, own: func(string) bool { return false }}, at, l.below); err != nil {
			return nil, err
		}
	}
	l.tls()
	for _, w := range l.cfg.Warnings {
		warn(w)
	}
	if err := l.problems.err(); err != nil {
		return nil, err
	}
	var all []replica.Master
	for _, m := range l.cfg.Masters {
		f.Connect = m.Connect
		all = append(all, m.Target)
	}
	return all, nil
}

// Config tells a link what to connect from, and the TLS files; after Masters.
func (f *Flags) Config(cfg *replica.Config) { f.Connect.link(cfg) }
