package config

import (
	"github.com/spf13/pflag"
)

// RegisterFile gives a command --config, for [Fill].
func RegisterFile(fl *pflag.FlagSet) {
	fl.String(ConfigFlag, "", "file with settings of run, of which this command takes those that it has flags for")
}

// Fill gives the flags of a command that is not run, and were not given, the
// values that run would have: of a variable, or of the file. So `prune` keeps what the
// daemon keeps. Flags that are no key of run are left alone. The error is of
// type [Problems].
func Fill(fl *pflag.FlagSet, environ []string) error {
	l := &loader{src: Sources{Flags: fl, Environ: environ}, cfg: &Config{d: newDeclarations(pflag.NewFlagSet("", pflag.ContinueOnError))}}
	new(Settings).declare(l.cfg.d)
	if err := l.layers(); err != nil {
		return err
	}
	d := &declarations{}
	for _, k := range l.cfg.d.keys {
		if f := fl.Lookup(k.Name); f != nil && !f.Changed {
			own := *k
			own.value = f.Value
			d.keys = append(d.keys, &own)
		}
	}
	if _, err := d.apply(l.below, &l.problems); err != nil {
		return err
	}
	return l.problems.err()
}
