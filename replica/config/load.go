package config

import (
	"cmp"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/daemon"
	"replicad/replica/daemon/sentinel"
)

// The file is named by a flag or a variable.
const (
	ConfigFlag     = "config"
	ConfigVariable = Prefix + "CONFIG"
)

// Sources are what [Load] reads, beside the file that they name.
type Sources struct {
	Flags   *pflag.FlagSet // parsed; nil for none
	Environ []string       // as os.Environ gives it
	// Strict makes a problem of a variable REPLICAD_* that belongs to no
	// key; otherwise it is a warning.
	Strict bool
}

// Config is what was read: what to follow, and how.
type Config struct {
	Settings
	File    string // "" for none
	Masters []Followed
	// Warnings are what is not wrong, but not good either.
	Warnings []string

	src     Sources
	d       *declarations
	origins map[string]Origin
}

// Followed is a master, with the keys that it may have of its own.
type Followed struct {
	Target replica.Master // with its password
	Master                // the settings

	name    string                // that the file gives it; "" for none
	address string                // as it was given; "" where Sentinels know it
	line    int                   // of its section in the file; 0 for none
	asks    *credentials          // of Sentinels, where they are asked
	own     func(key string) bool // the section has it
	d       *declarations
	origins map[string]Origin
}

// Register gives a command --config and a flag for each key. What they are set
// to is read by [Load].
func Register(fl *pflag.FlagSet) {
	fl.String(ConfigFlag, "", "file with settings, as the flags are named; flags and variables "+Prefix+"* go before it")
	new(Settings).declare(newDeclarations(fl))
}

// loader is one reading.
type loader struct {
	src      Sources
	cfg      *Config
	doc      *document
	below    []layer // the layers outside of masters, the weakest first
	problems Problems
}

// Load reads all sources. The error is of type [Problems], and names everything
// that is wrong.
func Load(src Sources) (*Config, error) {
	if src.Flags == nil {
		src.Flags = pflag.NewFlagSet("", pflag.ContinueOnError)
	}
	l := &loader{src: src, cfg: &Config{src: src}}
	c := l.cfg
	c.d = newDeclarations(pflag.NewFlagSet("", pflag.ContinueOnError))
	c.Settings.declare(c.d)
	if err := l.layers(); err != nil {
		return nil, err
	}
	var err error
	if c.origins, err = c.d.apply(l.below, &l.problems); err != nil {
		return nil, err
	}
	c.d.readSecrets(c.origins, &l.problems, l.warn)
	if !l.doc.unread {
		if err := l.masters(); err != nil {
			return nil, err
		}
		l.check()
	}
	if err := l.problems.err(); err != nil {
		return nil, err
	}
	return c, nil
}

func (l *loader) warn(text string) {
	for _, known := range l.cfg.Warnings {
		if known == text {
			return
		}
	}
	l.cfg.Warnings = append(l.cfg.Warnings, text)
}

// layers reads file, environment and flags.
func (l *loader) layers() error {
	keys := l.cfg.d.keys
	l.readFile(keys)
	file, err := fromSection(l.doc.path, l.doc.top)
	if err != nil {
		return err
	}
	environment, err := fromEnvironment(l.src.Environ, keys, func(name, text string) {
		o := Origin{Layer: Environment, Name: name}
		if l.src.Strict {
			l.problems.add(o, "", "%s", text)
			return
		}
		l.warn(Problem{Origin: o, Text: text}.String())
	})
	if err != nil {
		return err
	}
	flags, err := fromFlags(l.src.Flags, keys)
	l.below = []layer{file, environment, flags}
	return err
}

// readFile finds and reads the file, if one is named.
func (l *loader) readFile(keys []*Key) {
	l.doc = &document{}
	for _, v := range l.src.Environ {
		if path, ok := strings.CutPrefix(v, ConfigVariable+"="); ok {
			l.cfg.File = path
		}
	}
	if f := l.src.Flags.Lookup(ConfigFlag); f != nil && f.Changed {
		if l.cfg.File = f.Value.String(); l.cfg.File == "" {
			l.problems.add(Origin{Layer: Flag, Name: "--" + ConfigFlag}, "", "it names no file")
		}
	}
	if l.cfg.File == "" {
		return
	}
	var st os.FileInfo
	l.doc, st = readFile(l.cfg.File, keys, &l.problems)
	if st != nil && openToOthers(st) && l.doc.holdsSecret(keys) {
		l.warn(l.cfg.File + " holds a password, and every user of this host can read it: chmod o-r it, or put the password into a file of its own")
	}
}

// holdsSecret says whether a password stands in the file itself.
func (d *document) holdsSecret(keys []*Key) bool {
	for _, s := range append([]section{d.top}, d.masters...) {
		for _, k := range keys {
			if _, ok := s.entries[k.Name]; ok && k.Secret {
				return true
			}
		}
		addresses, _ := s.entries[replicaofKey].value.([]string)
		if one, ok := s.entries[replicaofKey].value.(string); ok {
			addresses = []string{one}
		}
		for _, a := range addresses {
			if m, err := replica.ParseMaster(a); err == nil && m.Password != "" {
				return true
			}
		}
	}
	return false
}

// masters makes what is followed of masters, of replicaof, or of sentinel.
func (l *loader) masters() error {
	c := l.cfg
	from, given := c.origins[replicaofKey], len(c.ReplicaOf) > 0
	switch {
	case given && l.doc.listed > 0 && from.Layer == File:
		l.problems.add(from, replicaofKey, "it and %s (line %d) exclude each other: which of them says what to follow?", mastersKey, l.doc.listed)
		return nil
	case given && l.doc.listed > 0:
		l.problems.add(from, "", "%s:%d has %s: they exclude each other", l.doc.path, l.doc.listed, mastersKey)
		return nil
	case given && c.Sentinel.given():
		l.problems.add(from, "", "%s", eitherSays)
		return nil
	}
	for _, s := range l.doc.masters {
		if err := l.section(s); err != nil {
			return err
		}
	}
	f := Followed{own: func(string) bool { return false }}
	for _, f.address = range c.ReplicaOf {
		if err := l.follow(f, from, l.below); err != nil {
			return err
		}
	}
	if l.doc.listed == 0 && c.Sentinel.given() {
		return l.follow(f, c.origins[sentinelKey], l.below)
	}
	return nil
}

const eitherSays = sentinelKey + " and " + replicaofKey + " exclude each other: either Sentinel says where the master is, or you do"

// section reads one of masters.
func (l *loader) section(s section) error {
	own, err := fromSection(l.doc.path, s)
	if err != nil {
		return err
	}
	f := Followed{line: s.line, own: own.values.Exists}
	address, line := s.text(replicaofKey)
	at := Origin{File, l.doc.path, line}
	if f.address = address; address != "" && (f.own(sentinelKey) || f.own(masterNameKey)) {
		l.problems.add(at, "", "%s", eitherSays)
		return nil
	}
	if name, line := s.text(nameKey); name != "" {
		if err := replica.CheckName(name); err != nil {
			l.problems.add(Origin{File, l.doc.path, line}, nameKey, "%v", err)
			return nil
		}
		if f.name = name; address != "" {
			f.address = name + "=" + address
		}
	}
	return l.follow(f, at, append(l.below[:len(l.below):len(l.below)], own))
}

// follow reads what is known of a master from layers.
func (l *loader) follow(f Followed, at Origin, layers []layer) (err error) {
	f.d = newDeclarations(pflag.NewFlagSet("", pflag.ContinueOnError))
	f.d.ofMaster = true
	f.Master.declare(f.d)
	if f.origins, err = f.d.apply(layers, &l.problems); err != nil {
		return err
	}
	f.origins[replicaofKey] = at
	if !f.d.readSecrets(f.origins, &l.problems, l.warn) {
		return nil
	}
	if f.address == "" {
		if !f.Sentinel.given() {
			l.problems.add(at, "", "a master without %s: where is it?", replicaofKey)
			return nil
		}
		f.Sentinel.MasterName = cmp.Or(f.Sentinel.MasterName, f.name)
		if !l.watched(&f) {
			return nil
		}
	} else if f.Target, err = replica.ParseMaster(f.address); err != nil {
		l.problems.add(at, replicaofKey, "%v", err)
		return nil
	}
	if f.Target.Password != "" && at.Layer == Flag {
		l.warn("a password on the command line is visible to every user of this host: prefer --masterauth-file or " + variable("masterauth"))
	}
	if problem := f.Connect.complete(&f.Target); problem != "" {
		l.problems.add(at, "", "%s", problem)
		return nil
	}
	l.cfg.Masters = append(l.cfg.Masters, f)
	return nil
}

// readSecrets reads the files of secrets, and warns where one was given on the
// command line. It is false where one can't be read.
func (d *declarations) readSecrets(origins map[string]Origin, problems *Problems, warn func(string)) bool {
	good := true
	for _, s := range d.secrets {
		if d.find(s.key).Master != d.ofMaster {
			continue
		}
		if err := s.read(warn); err != nil {
			problems.add(origins[s.fileKey()], s.fileKey(), "%v", err)
			good = false
		}
		if o := origins[s.key]; o.Layer == Flag {
			warn(o.Name + " is visible to every user of this host: prefer --" + s.fileKey() + " or " + variable(s.key))
		}
	}
	return good
}

// complete adds to a master who is there, and TLS.
func (c *Connect) complete(m *replica.Master) (problem string) {
	if m.User == "" && m.Password == "" {
		m.User, m.Password = c.User, c.Password.Text
	} else if m.Password == "" {
		m.Password = c.Password.Text
	}
	m.TLS = m.TLS || c.TLS
	switch {
	case m.User != "" && m.Password == "":
		return "user \"" + m.User + "\" for " + m.String() + " has no password: set masterauth-file or " + variable("masterauth")
	case m.TLS && m.Path != "":
		return "TLS with the unix socket " + m.Address() + ": Redis speaks no TLS there"
	}
	return ""
}

// Link is what a link to the master is made with, on top of base.
func (m *Master) Link(base replica.Config) replica.Config {
	m.Connect.link(&base)
	base.AnnounceIP, base.AnnouncePort = m.AnnounceIP, m.AnnouncePort
	return base
}

// link tells a link what to connect from, and the TLS files.
func (c *Connect) link(cfg *replica.Config) {
	cfg.Source, _ = replica.ParseSource(c.Source) // the form of the key is the same
	cfg.Source.BestEffort = true
	cfg.TLS = c.Files
}

// Daemon is what the daemon is made with, but for the observer of its links.
func (c *Config) Daemon(log *slog.Logger) daemon.Config {
	cfg := daemon.Config{
		Dir: c.Dir,
		Link: replica.Config{
			ReplTimeout: c.ReplTimeout, ReplSyncioTimeout: c.ReplSyncioTimeout, ReplBGSaveTimeout: c.ReplBGSaveTimeout, Limits: c.Limits,
		},
		Archive:   archive.Options{AppendFsync: c.AppendFsync, SegmentSize: c.SegmentSize, TimelineResolution: c.TimelineResolution},
		Rebase:    c.Rebase,
		Sentinel:  map[string]sentinel.Config{},
		Retention: c.Retention,
		Log:       log,
	}
	own := map[string]*Master{}
	for i := range c.Masters {
		f := &c.Masters[i]
		name := f.Target.Name
		cfg.Masters = append(cfg.Masters, f.Target)
		m := f.Master
		m.AnnouncePort = c.announced(f)
		own[name] = &m
		if f.address == "" {
			s := f.sentinel()
			s.Log = log.With("master", name)
			cfg.Sentinel[name] = s
		}
	}
	cfg.PerMaster = func(link *replica.Config) { *link = own[link.Master.Name].Link(*link) }
	return cfg
}
