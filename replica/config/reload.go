package config

import (
	"maps"
	"slices"

	"replicad/replica"
)

// Changes are what a second reading of the sources brings.
type Changes struct {
	// Config is what they say now. Of it only LogLevel and secrets are to be
	// taken; what else differs is named in Restart.
	Config *Config
	// Masters are those of Config that were followed before, at the same
	// address: take Target.User and Target.Password of each, and its
	// secrets. (Those of Sentinels need nobody to take them.)
	Masters []Followed
	// Restart names the keys that differ from what was read first, and can't
	// change while the daemon runs.
	Restart []string
}

// Master gives the one of Masters that is named, as it is to be connected to.
func (c *Changes) Master(name string) (m replica.Master, ok bool) {
	for _, f := range c.Masters {
		if f.Target.Name == name {
			return f.Target, true
		}
	}
	return m, false
}

// Reload reads the sources again, as SIGHUP asks for. With an error nothing is
// to be changed. c stays what it was: what Restart names are differences from
// what runs.
func (c *Config) Reload() (Changes, error) {
	now, err := Load(c.src)
	if err != nil {
		return Changes{}, err
	}
	ch := Changes{Config: now}
	differs := map[string]bool{}
	compare(c.d, now.d, false, differs)
	before := map[string]*Followed{}
	for i := range c.Masters {
		before[c.Masters[i].Target.Name] = &c.Masters[i]
	}
	for _, f := range now.Masters {
		was := before[f.Target.Name]
		delete(before, f.Target.Name)
		if was == nil || was.Target.Address() != f.Target.Address() || was.Target.TLS != f.Target.TLS {
			differs[replicaofKey+" of "+f.Target.Name] = true
			continue
		}
		compare(was.d, f.d, true, differs)
		if was.asks != nil && f.asks != nil {
			was.asks.set(f.asks.get())
		}
		ch.Masters = append(ch.Masters, f)
	}
	for name := range before {
		differs[replicaofKey+" of "+name] = true
	}
	ch.Restart = slices.Sorted(maps.Keys(differs))
	return ch, nil
}

// compare finds the keys that differ in their values: those of masters, or the
// others. replicaof is compared by what is followed.
func compare(was, now *declarations, ofMasters bool, differs map[string]bool) {
	for i, k := range now.keys {
		if k.Master == ofMasters && !k.Reload && k.Name != replicaofKey && k.value.String() != was.keys[i].value.String() {
			differs[k.Name] = true
		}
	}
}
