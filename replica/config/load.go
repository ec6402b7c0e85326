package config

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/spf13/pflag"

	"replicad/replica"
)

// ConfigFlag is the flag that names the file; a variable may name it, too.
const ConfigFlag = "config"

// Keys that say which Sentinels know where a master is.
const (
	sentinelKey   = "sentinel"
	masterNameKey = "master-name"
)

// Sources are what [Load] reads, beside the file that they name.
type Sources struct {
	Flags   *pflag.FlagSet // parsed
	Environ []string       // as os.Environ gives it
	// Strict makes a problem of a variable REPLICAD_* that belongs to no key.
	// Without Strict such a variable is a warning.
	Strict bool
}

// Config is what was read: which masters to follow, and how.
type Config struct {
	reading
	File    string // "" for none
	Masters []Followed
	// Portless are the masters for which no port is open, because they are several
	// and have none of their own.
	Portless []string
	// Warnings name settings that work and are still not good.
	Warnings []string

	src Sources
}

// Followed is a master to follow, with its settings: its own values, and else
// those that hold for all masters.
type Followed struct {
	Target replica.Master // with user and password
	reading
	section
	asks *atomic.Pointer[login] // for the Sentinels that know it; nil without
}

// section is what is said of one master: one of masters, or what stands in its
// place.
type section struct {
	line int    // of one of masters; 0 otherwise
	at   Origin // where the section says which master it is
	own  layer
}

// login is how replicad authenticates with Sentinels.
type login struct{ user, password string }

// reading is settings with the places that their values come from.
type reading struct {
	*Settings
	keys    []*Key
	origins map[string]Origin // without the keys that have their defaults
}

// given says whether a key has a value, which is not "".
func (r reading) given(key string) bool { return find(r.keys, key).value.String() != "" }

// Register gives a command the flag --config, and a flag for each key that is
// named; for all keys where none is named. The settings have the values of the
// flags. [Load] and [Fill] add what variables and the file say.
func Register(fl *pflag.FlagSet, names ...string) *Settings {
	help := "`FILE` with settings, as the flags are named; flags and variables " + Prefix + "* go before it"
	if len(names) > 0 {
		help = "`FILE` with settings of run; the command takes those for which it has flags"
	}
	fl.String(ConfigFlag, "", help)
	return register(fl, func(k *Key) bool { return len(names) == 0 || slices.Contains(names, k.Name) })
}

// register adds a flag for each wanted key.
func register(fl *pflag.FlagSet, wanted func(*Key) bool) *Settings {
	s := new(Settings)
	for _, k := range s.keys() {
		if !wanted(k) {
			continue
		}
		f := fl.VarPF(k.value, k.Name, "", k.Help)
		if k.value.Type() == "bool" {
			f.NoOptDefVal = "true"
		}
	}
	return s
}

// loader is one reading of all sources.
type loader struct {
	cfg      *Config
	keys     []*Key  // the names of all; no value is read into them
	layers   []layer // what holds for all masters: file, variables, flags
	problems Problems

	// Of the file.
	masters []section
	listed  int  // the line of the key masters; 0 where there is none
	open    bool // every user of this host can read the file
}

// Load reads all sources. The error is of type [Problems], and names everything
// that is wrong.
func Load(src Sources) (*Config, error) {
	l := newLoader(src)
	l.cfg.reading = l.read(l.layers)
	if l.layers[0] != nil { // the file can be read
		l.followAll()
		l.check()
	}
	if err := l.problems.err(); err != nil {
		return nil, err
	}
	return l.cfg, nil
}

// Fill gives each flag of a command that was not given the value that run would
// have: of a variable, or of the file. So `prune` keeps what the daemon keeps.
// Fill leaves flags alone that are no key of run. The error is of type
// [Problems].
func Fill(fl *pflag.FlagSet, environ []string) error {
	l := newLoader(Sources{Flags: fl, Environ: environ})
	merged := l.merge(l.layers)
	l.apply(merged, slices.DeleteFunc(l.keys, func(k *Key) bool {
		f := fl.Lookup(k.Name)
		if f != nil {
			k.value = f.Value.(setting)
		}
		return f == nil || f.Changed
	}))
	return l.problems.err()
}

// newLoader reads the layers.
func newLoader(src Sources) *loader {
	l := &loader{cfg: &Config{src: src}, keys: Keys()}
	unknown := l.warn
	if src.Strict {
		unknown = func(p Problem) { l.problems = append(l.problems, p) }
	}
	keys := append(Keys(), &Key{Name: ConfigFlag})
	l.layers = []layer{nil, variableLayer(src.Environ, keys, unknown), flagLayer(src.Flags, keys)}
	file, named := l.merge(l.layers)[ConfigFlag]
	l.layers[0] = layer{}
	if named {
		l.cfg.File = file.values[0]
		l.layers[0] = l.fileLayer()
	}
	return l
}

// warn adds a warning, unless it is there already.
func (l *loader) warn(p Problem) {
	if !slices.Contains(l.cfg.Warnings, p.String()) {
		l.cfg.Warnings = append(l.cfg.Warnings, p.String())
	}
}

// read makes settings of layers, the weakest first.
func (l *loader) read(layers []layer) reading {
	s := new(Settings)
	r := reading{Settings: s, keys: s.keys()}
	r.origins = l.apply(l.merge(layers), r.keys)
	for _, k := range r.keys {
		if !k.Secret {
			continue
		}
		l.warnVisible(r.origins[k.Name], "prefer --"+k.file.Name+" or "+k.Variable())
		if path := k.file.value.String(); path != "" {
			l.readSecret(k, path, r.origins[k.file.Name])
		}
	}
	return r
}

// apply sets keys, and returns where their values come from.
func (l *loader) apply(from layer, keys []*Key) map[string]Origin {
	origins := map[string]Origin{}
	for _, k := range keys {
		g, ok := from[k.Name]
		if !ok {
			continue
		}
		origins[k.Name] = g.origin
		for _, v := range g.values {
			if err := k.value.Set(v); err != nil {
				l.problems.add(g.origin, k.Name, "%v", err)
			}
		}
	}
	return origins
}

// readSecret reads the password of a key from the file at path, which was named
// at o.
func (l *loader) readSecret(k *Key, path string, o Origin) {
	b, open, err := readBounded(path, maxSecret)
	password := strings.TrimRight(string(b), "\r\n")
	if err == nil && password == "" {
		err = fmt.Errorf("%s is empty", path)
	}
	if err = cmp.Or(err, k.value.Set(password)); err != nil {
		l.problems.add(o, k.file.Name, "%v", err)
	}
	if open {
		l.warn(Problem{Text: path + " holds a password, and every user of this host can read it: chmod o-r it"})
	}
}

// warnVisible warns of a password that was given at o, where every user of this
// host can see it there.
func (l *loader) warnVisible(o Origin, remedy string) {
	switch {
	case o.Layer == Flag:
		l.warn(Problem{o, "a password on the command line is visible to every user of this host: " + remedy})
	case o.Layer == File && l.open:
		l.warn(Problem{Text: o.Name + " holds a password, and every user of this host can read it: chmod o-r it, or put the password into a file of its own"})
	}
}

// followAll finds the masters to follow: by masters, by replicaof, or by
// sentinel.
func (l *loader) followAll() {
	c := l.cfg
	from := c.origins[replicaofKey]
	for _, address := range c.ReplicaOf {
		l.masters = append(l.masters, section{at: from, own: layer{replicaofKey: given{[]string{address}, from}}})
	}
	switch {
	case l.listed > 0 && len(c.ReplicaOf) > 0:
		l.problems.add(from, "", "%s and %s (%s:%d) exclude each other: which of them says what to follow?", replicaofKey, mastersKey, c.File, l.listed)
		return
	case l.listed == 0 && len(c.ReplicaOf) == 0 && c.asksSentinel():
		l.masters = []section{{at: c.origins[sentinelKey]}}
	}
	for _, s := range l.masters {
		l.follow(s)
	}
	for _, f := range c.Masters {
		if _, given := f.origins["port"]; !given && len(c.Masters) > 1 {
			f.RESP.Port = 0 // the default can serve only one of them
			if f.RESP.TLSPort == 0 {
				c.Portless = append(c.Portless, f.Target.Name)
			}
		}
	}
}

// asksSentinel says whether Sentinels know where the master is.
func (s *Settings) asksSentinel() bool {
	return len(s.Sentinel.Addresses) > 0 || s.Sentinel.MasterName != ""
}

// follow adds the master of a section, unless something is wrong with it.
func (l *loader) follow(s section) {
	f := Followed{section: s, reading: l.read(append(slices.Clone(l.layers), s.own))}
	f.origins[replicaofKey] = s.at
	f.RESP.TLS.Files = f.Link.TLS
	if l.find(&f); f.Target.Name == "" {
		return
	}
	if f.Target.Password != "" {
		l.warnVisible(s.at, "prefer --masterauth-file or "+variable("masterauth"))
	}
	m := &f.Target
	if m.User == "" && m.Password == "" {
		m.User = f.MasterUser
	}
	m.Password, m.TLS = cmp.Or(m.Password, f.MasterAuth), m.TLS || f.TLS
	switch {
	case m.User != "" && m.Password == "" && !f.given("masterauth-file"):
		l.problems.add(s.at, "", "user %q for %s has no password: set masterauth-file or %s", m.User, m, variable("masterauth"))
	case m.TLS && m.Path != "":
		l.problems.add(s.at, "", "TLS with the unix socket %s: Redis speaks no TLS there", m.Address())
	default:
		l.cfg.Masters = append(l.cfg.Masters, f)
	}
}

// find says where the master of a section is: at an address, or where Sentinels
// say.
func (l *loader) find(f *Followed) {
	name, address := f.own.first(nameKey), f.own.first(replicaofKey)
	nameErr := replica.CheckName(name)
	_, own := f.own[sentinelKey]
	var err error
	switch {
	case name != "" && nameErr != nil:
		l.problems.add(f.own[nameKey].origin, nameKey, "%v", nameErr)
	case address != "" && f.asksSentinel() && (own || f.line == 0):
		l.problems.add(f.at, "", "%s and %s exclude each other: which of them says where the master is?", replicaofKey, sentinelKey)
	case address != "":
		if name != "" {
			address = name + "=" + address
		}
		if f.Target, err = replica.ParseMaster(address); err != nil {
			l.problems.add(f.at, replicaofKey, "%v%s", err, meant(address))
		}
	case f.asksSentinel():
		l.findBySentinel(f, name)
	default:
		l.problems.add(f.at, "", "a master without %s: where is it?", replicaofKey)
	}
}

// meant asks about an address without a port whether Redis' port was meant.
func meant(address string) string {
	withPort := fmt.Sprintf("%s:%d", address, replica.DefaultPort)
	if _, err := replica.ParseMaster(withPort); err != nil || strings.ContainsAny(address, " :/") {
		return ""
	}
	return ": did you mean " + withPort + "?"
}

// findBySentinel makes a master of which only the name is known.
func (l *loader) findBySentinel(f *Followed, name string) {
	wrong := func(key, format string, args ...any) { l.problems.add(f.origins[key], key, format, args...) }
	s := &f.Sentinel
	s.MasterName = cmp.Or(s.MasterName, name)
	target, err := replica.ParseName(cmp.Or(name, s.MasterName))
	switch {
	case len(s.Addresses) == 0:
		wrong(masterNameKey, "without %s: which Sentinels know it? For example: %s 10.0.0.1:26379,10.0.0.2:26379", sentinelKey, sentinelKey)
	case s.MasterName == "":
		wrong(sentinelKey, "without %s: what do the Sentinels call the master? For example: %s mymaster", masterNameKey, masterNameKey)
	case s.User != "" && s.Password == "" && !f.given("sentinel-pass-file"):
		wrong("sentinel-user", "%s has no password: set sentinel-pass-file or %s", s.User, variable("sentinel-pass"))
	case err != nil:
		wrong(masterNameKey, "%v", err)
	default:
		f.Target = target
	}
	asks := new(atomic.Pointer[login])
	asks.Store(&login{s.User, s.Password})
	s.Credentials = func() (user, password string) {
		now := asks.Load()
		return now.user, now.password
	}
	if files := f.Link.TLS; f.SentinelTLS {
		s.TLS = func(host string) (*tls.Config, error) { return files.Config(host) }
	}
	f.asks = asks
}

// RegisterConnect gives a command that connects to a master the flags of
// [Connect].
func RegisterConnect(fl *pflag.FlagSet) {
	register(fl, func(k *Key) bool { return k.connects() })
}

// Connect says how a command that is not run connects to a master: the Master
// with user and password, its Source and the TLS files. address is one that
// [replica.ParseMaster] takes. The flags of src are those of [RegisterConnect];
// the variables of the same keys count, a file does not. The error is of type
// [Problems].
func Connect(src Sources, address string, warn func(string)) (link replica.Config, err error) {
	keys := slices.DeleteFunc(Keys(), func(k *Key) bool { return !k.connects() })
	at := Origin{Layer: Flag}
	l := &loader{cfg: &Config{}, keys: keys}
	l.layers = []layer{variableLayer(src.Environ, keys, func(Problem) {}), flagLayer(src.Flags, keys)}
	l.follow(section{at: at, own: layer{replicaofKey: given{[]string{cmp.Or(address, " ")}, at}}})
	l.checkTLS()
	for _, w := range l.cfg.Warnings {
		warn(w)
	}
	if err := l.problems.err(); err != nil {
		return link, err
	}
	f := l.cfg.Masters[0]
	link.Master, link.Source, link.TLS = f.Target, f.Link.Source, f.Link.TLS
	return link, nil
}
