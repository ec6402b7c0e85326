package config

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/logs"
)

// write puts a file into a temporary folder, for its owner alone.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// sourcesOf makes sources of arguments and variables.
func sourcesOf(t *testing.T, args []string, environ ...string) Sources {
	t.Helper()
	fl := pflag.NewFlagSet("run", pflag.ContinueOnError)
	Register(fl)
	if err := fl.Parse(args); err != nil {
		t.Fatal(err)
	}
	return Sources{Flags: fl, Environ: environ}
}

func loaded(t *testing.T, args []string, environ ...string) *Config {
	t.Helper()
	c, err := Load(sourcesOf(t, args, environ...))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAFlagGoesBeforeAVariableThisBeforeTheFileThisBeforeTheDefault(t *testing.T) {
	file := write(t, "replicad.yml", "dir: file\nreplicaof: 127.0.0.1:1\nrepl-timeout: 1s\nsegment-size: 1mb\nkeep-generations: 7\nreplica-announce-ip: file\n")
	args := []string{"--config", file, "--repl-timeout", "3s", "--masteruser", "", "--tls=false"}
	c := loaded(t, args, "REPLICAD_REPL_TIMEOUT=2s", "REPLICAD_SEGMENT_SIZE=2mb", "REPLICAD_MASTERUSER=variable", "REPLICAD_TLS=yes", "REPLICAD_KEEP_GENERATIONS=", "REPLICAD_REPLICA_ANNOUNCE_IP=")
	for what, ok := range map[string]bool{
		"repl-timeout is the flag's":                        c.Link.ReplTimeout == 3*time.Second && c.origins["repl-timeout"].String() == "--repl-timeout",
		"segment-size is the variable's":                    c.Archive.SegmentSize == 2<<20 && c.origins["segment-size"].String() == "REPLICAD_SEGMENT_SIZE",
		"keep-generations is the file's":                    c.Retention.KeepGenerations == 7 && c.origins["keep-generations"].String() == file+":5",
		"appendfsync is the default":                        c.Archive.AppendFsync == archive.Everysec && c.origins["appendfsync"].String() == "default",
		"an empty flag hides a variable":                    c.MasterUser == "",
		"a switch that is off hides one that is on":         !c.TLS && !c.Masters[0].Target.TLS,
		"masters have what stands outside":                  c.Masters[0].Link.AnnounceIP == "file",
		"an empty variable is none, and no warning is told": len(c.Warnings) == 0,
	} {
		if !ok {
			t.Errorf("it is not so that %s: %+v", what, c.Settings)
		}
	}
}

func TestEachKeyComesFromEachLayer(t *testing.T) {
	// A value that is not the default, for those that would not take "x".
	other := map[string]string{
		"appendfsync": "always", "loglevel": "debug", "log-format": "json", "bind-source-addr": "10.0.0.1", "tls-auth-clients": "optional", "sentinel": "x:1",
		"bool": "true", "NUMBER": "12", "SIZE": "70mb", "DURATION": "3h", "HOST:PORT": "127.0.0.1:9121",
	}
	for _, k := range Keys() {
		def := k.value.String()
		v, ok := other[k.Name]
		if !ok {
			if v, ok = other[k.value.Type()]; !ok {
				v = "x"
			}
		}
		if v == def && k.value.Type() == "bool" {
			v = "false"
		}
		if v == def {
			t.Fatalf("%s: %q is its default", k.Name, v)
		}
		sources := map[Layer]Sources{
			File:        sourcesOf(t, []string{"--config", write(t, "replicad.yml", k.Name+": "+v+"\n")}),
			Environment: sourcesOf(t, nil, k.Variable()+"="+v),
			Flag:        sourcesOf(t, []string{"--" + k.Name + "=" + v}),
		}
		for at, src := range sources {
			l := newLoader(src)
			keys := Keys()
			origins := l.apply(l.merge(l.layers), keys)
			if len(l.problems) > 0 {
				t.Fatalf("%s: %v", k.Name, l.problems)
			}
			if got := find(keys, k.Name).value.String(); got != v || origins[k.Name].Layer != at || len(origins) != 1 {
				t.Errorf("%s: %q from layer %d is %q from %v", k.Name, v, at, got, origins)
			}
		}
	}
}

func TestAMastersOwnValueGoesBeforeTheOneForAll(t *testing.T) {
	own := write(t, "own", "own-secret\n")
	file := write(t, "replicad.yml", `
dir: data
masters:
  - name: first
    replicaof: 10.0.0.1:6379
  - name: second
    replicaof: 10.0.0.2:6379
    masteruser: second-user
    masterauth-file: `+own+`
    replica-announce-port: 7002
    tls-server-name: second.example.org
    bind-source-addr: 10.0.0.9
  - replicaof: redis://url-user:url-secret@10.0.0.3:6379
    tls: false
  - name: watched
    sentinel: [s1:1, s2]
    master-name: mymaster
  - name: open
    replicaof: 10.0.0.4:6379
    masteruser: ""
    masterauth: ""
tls: true
masteruser: all
replica-announce-port: 7000
`)
	c := loaded(t, []string{"--config", file, "--replica-announce-port", "7001"}, "REPLICAD_MASTERAUTH=for-all")
	cfg := c.Daemon(slog.New(slog.DiscardHandler))
	want := []replica.Master{
		{Name: "first", Host: "10.0.0.1", Port: 6379, User: "all", Password: "for-all", TLS: true},
		{Name: "second", Host: "10.0.0.2", Port: 6379, User: "second-user", Password: "own-secret", TLS: true},
		{Name: "10.0.0.3-6379", Host: "10.0.0.3", Port: 6379, User: "url-user", Password: "url-secret"},
		{Name: "watched", User: "all", Password: "for-all", TLS: true},
		{Name: "open", Host: "10.0.0.4", Port: 6379, TLS: true},
	}
	if !slices.Equal(cfg.Masters, want) {
		t.Errorf("%+v\nwant %+v", cfg.Masters, want)
	}
	link := func(i int) replica.Config {
		l := cfg.Link
		l.Master = cfg.Masters[i]
		cfg.PerMaster(&l)
		return l
	}
	if a, b := link(0), link(1); a.AnnouncePort != 7001 || b.AnnouncePort != 7002 || a.TLS.ServerName != "" || b.TLS.ServerName != "second.example.org" ||
		b.Source.Addr.String() != "10.0.0.9" || !b.Source.BestEffort || a.Source.Addr.IsValid() || a.ReplTimeout != replica.DefaultReplTimeout {
		t.Errorf("%+v\n%+v", a, b)
	}
	s, ok := cfg.Sentinel["watched"]
	if !ok || len(cfg.Sentinel) != 1 || !slices.Equal(s.Addresses, []string{"s1:1", "s2:26379"}) || s.MasterName != "mymaster" || s.TLS != nil {
		t.Errorf("%+v", cfg.Sentinel)
	}
}

func TestAPasswordThatIsGivenInOneWayHidesOneOfAWeakerLayer(t *testing.T) {
	secret := write(t, "secret", "of-the-file\r\n")
	base := []string{"--dir", "d", "--replicaof", "127.0.0.1:1"}
	for name, c := range map[string]struct {
		args, environ []string
		want          string
	}{
		"a file by flag, a variable": {[]string{"--masterauth-file", secret}, []string{"REPLICAD_MASTERAUTH=v"}, "of-the-file"},
		"a flag, a file by variable": {[]string{"--masterauth", "f"}, []string{"REPLICAD_MASTERAUTH_FILE=" + secret}, "f"},
		"a variable":                 {nil, []string{"REPLICAD_MASTERAUTH=v"}, "v"},
		"none":                       {nil, nil, ""},
	} {
		if got := loaded(t, append(base, c.args...), c.environ...).Masters[0].Target.Password; got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	_, err := Load(sourcesOf(t, base, "REPLICAD_MASTERAUTH=v-secret", "REPLICAD_MASTERAUTH_FILE="+secret))
	if err == nil || !strings.Contains(err.Error(), "exclude each other") || strings.Contains(err.Error(), "v-secret") {
		t.Errorf("%v", err)
	}
}

func TestPasswordsThatOthersCanReadAreWarnedOf(t *testing.T) {
	secret := write(t, "secret", "s")
	inFile := write(t, "replicad.yml", "dir: d\nreplicaof: redis://u:p@h:1\n")
	open := func(path string, mode os.FileMode) {
		t.Helper()
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	byFile := []string{"--dir", "d", "--replicaof", "a=h:1", "--replicaof", "b=h:2", "--masterauth-file", secret}
	for name, c := range map[string]struct {
		args []string
		path string
	}{"masterauth-file": {byFile, secret}, "the file itself": {[]string{"--config", inFile}, inFile}} {
		open(c.path, 0o640)
		if w := loaded(t, c.args).Warnings; len(w) != 0 {
			t.Errorf("%s: %q", name, w)
		}
		open(c.path, 0o644)
		if w := loaded(t, c.args).Warnings; len(w) != 1 || !strings.Contains(w[0], c.path) || !strings.Contains(w[0], "every user") {
			t.Errorf("%s: %q, want one warning", name, w)
		}
	}
	w := loaded(t, []string{"--dir", "d", "--replicaof", "redis://u:hunter2@h:1", "--masterauth", "hunter2"}).Warnings
	if len(w) != 2 || strings.Contains(strings.Join(w, ""), "hunter2") {
		t.Errorf("%q", w)
	}
}

func TestAnAddressThatOthersReachIsWarnedOf(t *testing.T) {
	for address, want := range map[string]int{
		"127.0.0.1:9121": 0, "127.0.0.2:0": 0, "[::1]:9121": 0, "localhost:9121": 0, "": 0,
		":9121": 1, "0.0.0.0:9121": 1, "[::]:9121": 1, "10.0.0.1:9121": 1, "db.example.org:9121": 1,
	} {
		c := loaded(t, []string{"--replicaof", "h:1", "--dir", "d", "--http", address})
		if len(c.Warnings) != want || want > 0 && !strings.Contains(c.Warnings[0], address) || c.HTTP != address {
			t.Errorf("%q: %q", address, c.Warnings)
		}
	}
	for _, address := range []string{"9121", "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:65536", "127.0.0.1:-1", "::1:9121", "http://127.0.0.1:9121"} {
		fl := pflag.NewFlagSet("", pflag.ContinueOnError)
		Register(fl)
		if err := fl.Parse([]string{"--http", address}); err == nil || !strings.Contains(err.Error(), "want host:port") {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestASecretsFileThatIsNoneIsRefused(t *testing.T) {
	for path, want := range map[string]string{
		"/dev/zero":                  "more than",
		"/dev/null":                  "is empty",
		t.TempDir():                  "is a directory",
		write(t, "empty", "\r\n"):    "is empty",
		filepath.Join("no", "where"): "no such file",
	} {
		_, err := Load(sourcesOf(t, []string{"--dir", "d", "--replicaof", "h:1", "--masterauth-file", path}))
		if err == nil || !strings.Contains(err.Error(), "--masterauth-file: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if os.Getuid() == 0 {
		t.Log("root can read any file: one that may not be read is not tried")
		return
	}
	path := write(t, "closed", "s")
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(sourcesOf(t, []string{"--dir", "d", "--replicaof", "h:1", "--masterauth-file", path})); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("%v", err)
	}
}

func TestVariablesThatBelongToNoKey(t *testing.T) {
	args := []string{"--dir", "d", "--replicaof", "h:1"}
	environ := []string{
		"REPLICAD_SEGMENTSIZE=1mb", "HOME=/", "REPLICAD_REQUIRE_REDIS=1", "REPLICAD_SOAK=1", "REPLICAD_RACE_BINARY=1", "REPLICAD_TEST_BINARY=b",
		"REPLICAD_PORT=tcp://10.0.0.1:6379", "REPLICAD_PORT_6379_TCP_ADDR=10.0.0.1", "REPLICAD_SERVICE_HOST=10.0.0.1",
	}
	src := sourcesOf(t, args, environ...)
	c, err := Load(src)
	if err != nil || len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "did you mean REPLICAD_SEGMENT_SIZE?") {
		t.Errorf("%v %v", c, err)
	}
	src.Strict = true
	_, err = Load(src)
	var p Problems
	if !errors.As(err, &p) || len(p) != 1 || p[0].Origin != (Origin{Layer: Environment, Name: "REPLICAD_SEGMENTSIZE"}) {
		t.Errorf("%v", err)
	}
}

func TestMastersCantShareWhatEachMustHaveForItself(t *testing.T) {
	master := func(name string, line int, own bool, port string) Followed {
		at := Origin{File, "f.yml", line + 1}
		of := layer{"port": given{[]string{port}, at}}
		f := Followed{Target: replica.Master{Name: name}, section: section{line: line}, reading: new(loader).read([]layer{of})}
		if own {
			f.own = of
		}
		return f
	}
	for name, c := range map[string]struct {
		masters []Followed
		want    string
	}{
		"one of them":  {[]Followed{master("a", 0, false, "7000")}, ""},
		"different":    {[]Followed{master("a", 3, true, "7000"), master("b", 6, true, "7001")}, ""},
		"none":         {[]Followed{master("a", 3, true, "0"), master("b", 6, false, "0")}, ""},
		"the same":     {[]Followed{master("a", 3, true, "7000"), master("b", 6, true, "7000")}, "f.yml:7: two masters have the port \"7000\", this one and a"},
		"one for all":  {[]Followed{master("a", 3, false, "7000"), master("b", 6, false, "7000")}, "f.yml:7: two masters have the port"},
		"on the flags": {[]Followed{master("a", 0, false, "7000"), master("b", 0, false, "7000")}, "two masters have the port"},
	} {
		l := &loader{cfg: &Config{Masters: c.masters}}
		l.checkUnique()
		if got := l.problems.Error(); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestReloadTakesTheLogLevelAndPasswordsAndNamesWhatElseDiffers(t *testing.T) {
	secret := write(t, "secret", "before")
	pass := write(t, "pass", "sentinel-before")
	text := `dir: d
loglevel: notice
masterauth-file: ` + secret + `
masters:
  - name: a
    replicaof: h:1
  - name: b
    replicaof: h:2
    masterauth: own
  - name: s
    sentinel: h:3
    master-name: m
    sentinel-pass-file: ` + pass + `
`
	file := write(t, "replicad.yml", text)
	c := loaded(t, []string{"--config", file, "--keep-for", "3d"})
	rewrite := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	asks := c.Daemon(slog.New(slog.DiscardHandler)).Sentinel["s"].Credentials

	rewrite(secret, "after")
	rewrite(pass, "sentinel-after")
	rewrite(file, strings.Replace(text, "notice", "debug", 1))
	now, restart, err := c.Reload()
	if err != nil || len(restart) != 0 || now.LogLevel != logs.LevelDebug || c.LogLevel != logs.LevelNotice {
		t.Fatalf("%+v, %q, %v", now, restart, err)
	}
	passwords := map[string]string{}
	for _, m := range now.Masters {
		passwords[m.Target.Name] = m.Target.Password
	}
	if want := map[string]string{"a": "after", "b": "own", "s": "after"}; !maps.Equal(passwords, want) {
		t.Errorf("%q, want %q", passwords, want)
	}
	if _, p := asks(); p != "sentinel-after" {
		t.Errorf("the Sentinels are told %q", p)
	}

	// What a flag says stays; a master may move, come and go.
	rewrite(file, strings.NewReplacer("h:2", "h:20", "dir: d", "dir: e\nsegment-size: 1mb\nkeep-for: 5d\nbind-source-addr: 127.0.0.1", "name: s", "name: t").Replace(text))
	now, restart, err = c.Reload()
	if want := []string{"bind-source-addr", "dir", "segment-size"}; err != nil || !slices.Equal(restart, want) {
		t.Errorf("%q, %v, want %q", restart, err, want)
	}
	var follows []string
	for _, m := range now.Masters {
		follows = append(follows, m.Target.Name+" "+m.Target.Address()+" "+fmt.Sprint(m.Link.Source.Addr))
	}
	if want := []string{"a h:1 invalid IP", "b h:20 invalid IP", "t  127.0.0.1"}; !slices.Equal(follows, want) {
		t.Errorf("%q, want %q", follows, want)
	}

	// From Sentinels to an address: the master of before stays.
	rewrite(file, strings.NewReplacer("sentinel: h:3\n    master-name: m\n    sentinel-pass-file: "+pass, "replicaof: h:3").Replace(text))
	now, restart, err = c.Reload()
	if want := []string{"replicaof of s"}; err != nil || !slices.Equal(restart, want) {
		t.Errorf("%q, %v, want %q", restart, err, want)
	}
	if s := now.Masters[2]; s.Target.Name != "s" || s.Target.Address() != "" || s.asks == nil {
		t.Errorf("%+v", s.Target)
	}

	rewrite(file, text+"nonsense: 1\n")
	if _, _, err := c.Reload(); err == nil || !strings.Contains(err.Error(), `unknown key "nonsense"`) {
		t.Errorf("%v", err)
	}
	rewrite(file, text)
	if err := os.Remove(secret); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Reload(); err == nil || !strings.Contains(err.Error(), "masterauth-file") {
		t.Errorf("%v", err)
	}
	if _, p := asks(); p != "sentinel-after" {
		t.Errorf("a reading that failed changed %q", p)
	}
}

// example is what users begin with.
const example = "../../cmd/replicad/replicad.yml"

func TestTheExampleHasEveryKeyAndNoOther(t *testing.T) {
	b, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]*Key{mastersKey: {}}
	for _, k := range Keys() {
		keys[k.Name] = k
	}
	seen := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^(#?)([a-z][a-z-]*):(?: +(.*))?$`).FindAllStringSubmatch(string(b), -1) {
		shown, name, v := m[1] == "", m[2], m[3]
		k, ok := keys[name]
		if !ok || seen[name] {
			t.Errorf("%q is no key, or comes twice", name)
			continue
		}
		seen[name] = true
		if name == mastersKey {
			continue
		}
		if def := k.value.String(); !shown && def != "" && v != def {
			t.Errorf("%s: the example says %q, the default is %q", name, v, def)
		}
		if err := k.value.Set(v); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if v == "" {
			t.Errorf("%s shows no value", name)
		}
	}
	for name := range keys {
		if !seen[name] {
			t.Errorf("%s is not in %s", name, example)
		}
	}
	c := loaded(t, []string{"--config", example})
	if len(c.Masters) != 1 || len(c.Warnings) != 0 {
		t.Errorf("%+v", c)
	}
	// What is shown for a second master is taken too.
	more := regexp.MustCompile(`(?m)^# ([- ] (?:name|replicaof): )`).ReplaceAllString(string(b), "  $1")
	if c := loaded(t, []string{"--config", write(t, "more.yml", more)}); len(c.Masters) != 2 {
		t.Errorf("%+v", c.Masters)
	}
}

func TestKeysHaveAHelpAndAGroup(t *testing.T) {
	for _, k := range Keys() {
		if k.Help == "" || k.Group == "" || strings.ContainsAny(k.Name, "._ ") {
			t.Errorf("%+v", k)
		}
	}
}

func TestAValueThatIsShownIsReadAgain(t *testing.T) {
	for _, s := range []string{"", "*", "***", "a: b", "a #b", "no", "1", "null", "~", " x ", "a\nb", "- a", "\"", "'", "ü", "[a", "!x", "%", "@x", "`x", strings.Repeat("long words ", 30)} {
		path := write(t, "f.yml", "dir: d\nreplicaof: h:1\nmasteruser: "+scalar(s)+"\nmasterauth: x\n")
		c, err := Load(sourcesOf(t, []string{"--config", path}))
		if err != nil || c.MasterUser != s {
			t.Errorf("%q became %s: %v", s, scalar(s), err)
		}
	}
}

func FuzzFile(f *testing.F) {
	b, err := os.ReadFile(example)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(b))
	for _, s := range []string{
		"", "---\n---\n", "dir: d\nreplicaof: h:1\n", "dir: d\nreplicaof: [a=h:1, b=h:2]\n", "masters:\n  - name: a\n    replicaof: h:1\n  - sentinel: h:1\n    master-name: m\n",
		"dir: &d x\nmasteruser: *d\n", "a: &a [*a]\n", "<<: {dir: x}\n", "? [a]\n: b\n", "dir: !!binary aGk=\n", "masters: {}\nmasters: []\n", "masters:\n  - *x\n", "dir: |\n  x\n",
		"tls: maybe\nport: -1\n", "masterauth: hunter2\nmasterauth-file: /dev/null\n", "- a\n", "dir: d\n\tx", "\xff\xfe", "dir: ''\nreplicaof: redis://u:hunter2@h:1\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		// No file but the one is opened, whatever it names.
		text = strings.ReplaceAll(text, "-file", "-fi1e")
		path := write(t, "f.yml", text)
		c, err := Load(sourcesOf(t, []string{"--config", path}))
		var p Problems
		switch {
		case err == nil && len(c.Masters) == 0:
			t.Error("nothing to follow, and no error")
		case err == nil:
			c.Daemon(slog.New(slog.DiscardHandler))
			var shown strings.Builder
			if err := c.Show(&shown); err != nil {
				t.Error(err)
			}
			again, err := Load(sourcesOf(t, []string{"--config", write(t, "g.yml", shown.String())}))
			if err != nil || len(again.Masters) != len(c.Masters) || again.Dir != c.Dir {
				t.Errorf("it is shown as\n%s\nwhich is read as %v", shown.String(), err)
			}
		case !errors.As(err, &p) || len(p) == 0:
			t.Errorf("%T: %v", err, err)
		default:
			for _, one := range p {
				if one.Origin.Layer != File || strings.ContainsAny(one.String(), "\n\r") || one.Origin.Line > strings.Count(text, "\n")+strings.Count(text, "\r")+2 {
					t.Errorf("%+v: %q", one, one.String())
				}
			}
		}
	})
}

func TestOtherCommandsTakeWhatRunWouldForTheFlagsThatTheyHave(t *testing.T) {
	file := write(t, "f.yml", "dir: of-the-file\nkeep-for: 3d\nkeep-generations: 5\nmax-bytes: 1gb\n")
	fl := pflag.NewFlagSet("prune", pflag.ContinueOnError)
	name := fl.String("name", "", "")
	s := Register(fl, "dir", "keep-for", "keep-generations", "max-bytes")
	if err := fl.Parse([]string{"--config", file, "--keep-for", "1d"}); err != nil {
		t.Fatal(err)
	}
	if err := Fill(fl, []string{"REPLICAD_MAX_BYTES=2gb", "REPLICAD_NAME=x"}); err != nil {
		t.Fatal(err)
	}
	if want := (archive.Retention{KeepFor: 24 * time.Hour, KeepGenerations: 5, MaxBytes: 2 << 30}); s.Dir != "of-the-file" || *name != "" || s.Retention != want {
		t.Errorf("%q %q %+v", s.Dir, *name, s.Retention)
	}
	if err := Fill(fl, []string{"REPLICAD_MAX_BYTES=much"}); err == nil || !strings.Contains(err.Error(), "REPLICAD_MAX_BYTES: ") {
		t.Errorf("%v", err)
	}
}

func TestACommandThatSpeaksToAMasterHasTheKeysOfAConnection(t *testing.T) {
	connect := func(address string, args []string, environ ...string) (replica.Config, []string, error) {
		t.Helper()
		fl := pflag.NewFlagSet("probe", pflag.ContinueOnError)
		RegisterConnect(fl)
		if err := fl.Parse(args); err != nil {
			t.Fatal(err)
		}
		var warnings []string
		cfg, err := Connect(Sources{Flags: fl, Environ: environ}, address, func(s string) { warnings = append(warnings, s) })
		return cfg, warnings, err
	}
	cfg, w, err := connect("h:1", []string{"--masteruser", "u", "--bind-source-addr", "10.0.0.9"}, "REPLICAD_MASTERAUTH=s", "REPLICAD_DIR=x", "REPLICAD_TLS=on", "REPLICAD_TLS_SERVER_NAME=n")
	if err != nil || len(w) != 0 || cfg.Master != (replica.Master{Name: "h-1", Host: "h", Port: 1, User: "u", Password: "s", TLS: true}) ||
		cfg.Source.Addr.String() != "10.0.0.9" || cfg.TLS.ServerName != "n" {
		t.Errorf("%+v %q %v", cfg, w, err)
	}
	if _, w, err := connect("redis://u:hunter2@h:1", nil); err != nil || len(w) != 1 || strings.Contains(w[0], "hunter2") {
		t.Errorf("%q %v", w, err)
	}
	for address, want := range map[string]string{"h": "not a master's address", "h:1": `user "u" for h-1 (h:1) has no password`} {
		if _, _, err := connect(address, []string{"--masteruser", "u"}); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
