package replica_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"replicad/replica"
)

func TestParseMasterTakesTheseAddresses(t *testing.T) {
	for in, want := range map[string]replica.Master{
		"127.0.0.1:6379":                     {Name: "127.0.0.1-6379", Host: "127.0.0.1", Port: 6379},
		" 127.0.0.1 6379 ":                   {Name: "127.0.0.1-6379", Host: "127.0.0.1", Port: 6379},
		"db1=redis.example.com:7000":         {Name: "db1", Host: "redis.example.com", Port: 7000},
		"[::1]:6379":                         {Name: "__1-6379", Host: "::1", Port: 6379},
		"[::1] 6379":                         {Name: "__1-6379", Host: "::1", Port: 6379},
		"fe80::1%eth0 6379":                  {Name: "fe80__1_eth0-6379", Host: "fe80::1%eth0", Port: 6379},
		"rediss://h":                         {Name: "h-6379", Host: "h", Port: 6379, TLS: true},
		"rediss://u:p@h:6380":                {Name: "h-6380", Host: "h", Port: 6380, User: "u", Password: "p", TLS: true},
		"redis://h":                          {Name: "h-6379", Host: "h", Port: 6379},
		"redis://h/":                         {Name: "h-6379", Host: "h", Port: 6379},
		"redis://[::1]:1":                    {Name: "__1-1", Host: "::1", Port: 1},
		"redis://:pw@h:65535":                {Name: "h-65535", Host: "h", Port: 65535, Password: "pw"},
		"redis://u:p%40%3A%2Fw@h":            {Name: "h-6379", Host: "h", Port: 6379, User: "u", Password: "p@:/w"},
		"redis://u@h":                        {Name: "h-6379", Host: "h", Port: 6379, User: "u"},
		"n=redis://u:p=w@h":                  {Name: "n", Host: "h", Port: 6379, User: "u", Password: "p=w"},
		"unix:///run/redis/redis.sock":       {Name: "run_redis_redis.sock", Path: "/run/redis/redis.sock"},
		"unix:///run/redis@1.sock":           {Name: "run_redis_1.sock", Path: "/run/redis@1.sock"},
		"cache=unix:///s":                    {Name: "cache", Path: "/s"},
		"unix:///.hidden":                    {Name: "hidden", Path: "/.hidden"},
		"unix:///---":                        {Name: "master", Path: "/---"},
		"_x.y-z=h:1":                         {Name: "_x.y-z", Host: "h", Port: 1},
		strings.Repeat("h", 130) + ":1":      {Name: strings.Repeat("h", 126) + "-1", Host: strings.Repeat("h", 130), Port: 1},
		strings.Repeat("n", 128) + "=[::]:1": {Name: strings.Repeat("n", 128), Host: "::", Port: 1},
	} {
		got, err := replica.ParseMaster(in)
		if err != nil || got != want {
			t.Errorf("%q: got %#v, %v\nwant %#v", in, got, err, want)
		}
	}
}

func TestParseMasterRefusesTheseAndQuotesNoPassword(t *testing.T) {
	for in, says := range map[string]string{
		"":                                    "empty",
		"  ":                                  "empty",
		"n=":                                  "empty",
		"h":                                   "missing port",
		"h:":                                  "port",
		":6379":                               "host is missing",
		"h:0":                                 "from 1 to 65535",
		"h:65536":                             "from 1 to 65535",
		"h:redis":                             "from 1 to 65535",
		"h:-1":                                "from 1 to 65535",
		"::1:6379":                            "too many colons",
		"a b c":                               "missing port",
		".n=h:1":                              "not start with dot",
		"a/b=h:1":                             "",
		strings.Repeat("n", 129) + "=h:1":     "the name",
		"http://h:1":                          "unknown scheme",
		"rediss://u:s3cr3t@h:0":               "from 1 to 65535",
		"redis://":                            "host is missing",
		"redis://u:s3cr3t@h/0":                "no database",
		"redis://u:s3cr3t@h?db=1":             "no database",
		"redis://u:s3cr3t@h#1":                "no database",
		"redis://u:s3cr3t@:1":                 "host is missing",
		"redis://u:s3cr3t@h:0":                "from 1 to 65535",
		"redis://u:s3cr3t%zz@h":               "%-encoded",
		"redis://u:s3cr3t /@h:1":              "%-encoded",
		"redis://u:@h":                        "the password is empty",
		"u:s3cr3t@h:1":                        "redis://user:password@host:port",
		"s3cr3t@h:1":                          "redis://user:password@host:port",
		"s3cr3t$=x@h:1":                       "redis://user:password@host:port",
		"n=u:s3cr3t@h:1":                      "redis://user:password@host:port",
		"valkey://u:s3cr3t@h:1":               "redis://user:password@host:port",
		"unix://u:s3cr3t@/run/redis.sock":     "redis://user:password@host:port",
		"unix://run/redis.sock":               "not absolute",
		"unix:///" + strings.Repeat("x", 120): "107",
	} {
		m, err := replica.ParseMaster(in)
		if err == nil {
			t.Errorf("%q is taken as %#v", in, m)
			continue
		}
		if !errors.Is(err, replica.ErrAddress) || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", in, err, says)
		}
		if strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%q: the error quotes the password: %v", in, err)
		}
		if m != (replica.Master{}) {
			t.Errorf("%q: with its error comes %#v", in, m)
		}
	}
}

func TestAHostOfREPLICAOFIsAHostAndNothingElse(t *testing.T) {
	for _, c := range []struct{ host, port, want string }{
		{"127.0.0.1", "1", "127.0.0.1:1"}, {"h", "65535", "h:65535"}, {"::1", "1", "[::1]:1"}, {"[::1]", "1", "[::1]:1"},
		{"x=127.0.0.1", "1", ""}, {"a b", "1", ""}, {"", "1", ""}, {"redis://127.0.0.1", "1", ""}, {"unix:///s", "1", ""},
		{"u:p@h", "1", ""}, {"h", "0", ""}, {"h", "65536", ""}, {"h", "x", ""},
	} {
		m, err := replica.ParseHostPort(c.host, c.port)
		if m.Address() != c.want || (err == nil) != (c.want != "") || err != nil && !errors.Is(err, replica.ErrAddress) {
			t.Errorf("%q %q: %q, %v", c.host, c.port, m.Address(), err)
		}
	}
}

func TestAMasterPrintsWithoutItsPassword(t *testing.T) {
	m, err := replica.ParseMaster("db=redis://u:s3cr3t@h:1")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{m.String(), m.Address(), fmt.Sprintf("%v %+v %s", m, m, m)} {
		if strings.Contains(s, "s3cr3t") {
			t.Errorf("it prints as %s", s)
		}
	}
	if m.String() != "db (h:1)" {
		t.Errorf("it prints as %s", m)
	}
	if u := (replica.Master{Name: "u", Path: "/s"}); u.String() != "u (unix:///s)" {
		t.Errorf("it prints as %s", u)
	}
}

func FuzzParseMasterGivesAMasterThatCanBeNamed(f *testing.F) {
	for _, s := range []string{"h:1", "n=h 1", "redis://u:p@h:1", "unix:///s", "[::1]:1", "x=redis://@h", "://", "a@b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := replica.ParseMaster(s)
		if err != nil {
			if !errors.Is(err, replica.ErrAddress) {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		if m.Name == "" || len(m.Name) > 128 || strings.ContainsAny(m.Name, "/\x00 ") || m.Name[0] == '.' || m.Name[0] == '-' {
			t.Errorf("%q: the name %q is no folder's", s, m.Name)
		}
		if m.Path == "" && (m.Host == "" || m.Port < 1 || m.Port > 65535) {
			t.Errorf("%q: %#v", s, m)
		}
	})
}
