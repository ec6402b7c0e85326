package config

import (
	"strings"

	"github.com/spf13/pflag"
)

// Key is a setting as it was declared.
type Key struct {
	Name    string // of the flag and in the file
	Group   string // heading, for people
	Help    string
	Default string
	Master  bool     // masters may have a value of their own
	Secret  bool     // not to be shown
	Reload  bool     // SIGHUP takes it
	Unique  bool     // no two masters may have the same, so it is no default for several
	List    bool     // may have several values
	Choices []string // all that it may be; nil for more

	value pflag.Value
}

// Variable is the key's name in the environment.
func (k Key) Variable() string { return variable(k.Name) }

func variable(key string) string {
	return Prefix + strings.ToUpper(strings.ReplaceAll(key, "-", "_"))
}

// Prefix is what the names of all variables begin with.
const Prefix = "REPLICAD_"

// option says something more of a key.
type option func(*Key)

// reloaded: SIGHUP takes a new value; all others need a restart.
func reloaded(k *Key) { k.Reload = true }

// unique: no two masters may have the same value, so that a value outside of
// masters is an error where there are several. (0 is none, and so is then the
// default.)
func unique(k *Key) { k.Unique = true }

// declarations collects keys. Each is a flag of fl too.
type declarations struct {
	fl       *pflag.FlagSet
	keys     []*Key
	secrets  []*Secret
	group    string
	master   bool // those that follow are a master's
	ofMaster bool // they are those of one master: its secrets are read
}

func newDeclarations(fl *pflag.FlagSet) *declarations { return &declarations{fl: fl} }

// declare makes a key. Its value is put to to.
func declare[T any](d *declarations, to *T, name string, f form[T], def T, help string, opt ...option) {
	*to = def
	d.add(&Key{Name: name, Help: help, Choices: f.choices, value: value[T]{to, f}}, opt)
}

// declareList makes a key that may be given several times, be a list in the
// file, and be separated by commas in the environment.
func declareList(d *declarations, to *[]string, name string, def []string, help string, opt ...option) {
	*to = def
	d.add(&Key{Name: name, Help: help, List: true, value: &list{to: to}}, opt)
}

// declareSecret makes two keys: NAME, and NAME-file for a file that holds it.
// Both are read again on SIGHUP. The stronger layer's counts.
func declareSecret(d *declarations, to *Secret, name, what string) {
	*to = Secret{key: name}
	d.secrets = append(d.secrets, to)
	declare(d, &to.File, to.fileKey(), text(), "", "file that holds "+what, reloaded)
	d.add(&Key{
		Name: name, Secret: true, Reload: true, value: value[string]{&to.given, text()},
		Help: what + " (visible to every user of this host: prefer the file or the variable)",
	}, nil)
}

func (d *declarations) add(k *Key, opt []option) {
	for _, o := range opt {
		o(k)
	}
	k.Group, k.Master, k.Default = d.group, d.master, k.value.String()
	d.keys = append(d.keys, k)
	f := d.fl.VarPF(k.value, k.Name, "", k.Help)
	if k.value.Type() == "bool" {
		f.NoOptDefVal = "true"
	}
}

// find gives a key, or nil.
func (d *declarations) find(name string) *Key {
	for _, k := range d.keys {
		if k.Name == name {
			return k
		}
	}
	return nil
}

// Keys gives all settings, in the order that they are told about in.
func Keys() []Key {
	d := newDeclarations(pflag.NewFlagSet("", pflag.ContinueOnError))
	new(Settings).declare(d)
	all := make([]Key, len(d.keys))
	for i, k := range d.keys {
		all[i] = *k
	}
	return all
}
