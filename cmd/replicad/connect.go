package main

import (
	"os"

	"github.com/spf13/pflag"

	"replicad/replica"
	"replicad/replica/config"
)

// connectFlags say how a master is connected to, and who is there; every
// command that speaks to one has them.
type connectFlags struct{ flags *config.Flags }

func (f *connectFlags) register(fl *pflag.FlagSet) { f.flags = config.NewFlags(fl) }

// masters reads addresses and gives each user, password and TLS. Warnings are
// told through warn.
func (f *connectFlags) masters(addresses []string, warn func(string)) ([]replica.Master, error) {
	return f.flags.Masters(addresses, os.Environ(), warn)
}

// config tells a link what to connect from, and the TLS files. It is called
// after masters.
func (f *connectFlags) config(cfg *replica.Config) { f.flags.Config(cfg) }
