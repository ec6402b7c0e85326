package probe

import (
	"errors"
	"io"
	"math"
	"net"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"

	"replicad/replica"
	"replicad/replica/resp"
)

// told are the facts of a sound master with other values: fields of INFO,
// directives, and what was made of them; "" takes one out.
func told(bytesPerSecond float64, pairs ...string) *facts {
	f := &facts{info: parseInfo(infoText), config: soundConfig(), made: map[string]string{"reach": "local", "rate.by": "measured over 3 s"}}
	if bytesPerSecond >= 0 {
		f.make("write.rate", bytesPerSecond)
	}
	for i := 0; i < len(pairs); i += 2 {
		in := f.info
		if _, ok := f.config[pairs[i]]; ok || strings.Contains(pairs[i], "-") {
			in = f.config
		} else if strings.Contains(pairs[i], ".") || pairs[i] == "reach" || pairs[i] == "password" {
			in = f.made
		}
		if in[pairs[i]] = pairs[i+1]; pairs[i+1] == "" {
			delete(in, pairs[i])
		}
	}
	f.derive()
	f.quotient("disk.share", "used_memory", "disk.free")
	return f
}

// outcome judges the check of that name.
func (f *facts) outcome(name string) Check {
	for _, row := range checks() {
		if row.Name == name {
			c := f.judge(row.Rules)
			c.Name = name
			return c
		}
	}
	return Check{Name: name + " is unknown"}
}

func TestWhatAMasterToldIsJudged(t *testing.T) {
	const mib, gib = 1 << 20, "1073741824"
	backlog := func(f *facts) Check { return f.outcome("repl-backlog-size") }
	buffer := func(f *facts) Check { return f.outcome("client-output-buffer-limit") }
	sync := func(f *facts) Check { return f.outcome("full sync") }
	for name, c := range map[string]struct {
		got            Check
		status         Status
		detail, remedy string
	}{
		"a backlog for a while":           {backlog(told(10 << 10)), Pass, "1.0 MiB hold 1 min 42 s of writes at 10.0 KiB/s (measured over 3 s)", ""},
		"a backlog too small":             {backlog(told(mib)), Warn, "1.0 MiB hold 1 s of writes at 1.0 MiB/s", "CONFIG SET repl-backlog-size 512mb, for cuts of up to 5 min"},
		"a backlog far too small":         {backlog(told(20 * mib)), Warn, "hold less than 1 s", "CONFIG SET repl-backlog-size 8gb"},
		"a backlog and no writes":         {backlog(told(0)), Pass, "nothing was written", ""},
		"a backlog that INFO alone tells": {backlog(told(mib, "repl-backlog-size", "")), Warn, "1.0 MiB hold 1 s", "CONFIG SET"},
		"a backlog that nobody tells":     {backlog(told(0, "repl-backlog-size", "", "repl_backlog_size", "")), Skip, "does not tell", ""},
		"a backlog, the rate not known":   {backlog(told(-1)), Warn, "not known without the write rate", "Probe it again"},
		"a backlog that is freed first":   {backlog(told(1, "repl-backlog-ttl", "60")), Pass, "freed after 1 min (repl-backlog-ttl)", ""},

		"a buffer for all":                {buffer(told(mib)), Pass, "256.0 MiB, or 64.0 MiB for 1 min, for replicas (0 is no limit): a full sync of about 1 s bears 256.0 MiB/s of writes, and there are 1.0 MiB/s", ""},
		"a buffer too small, hard":        {buffer(told(10*mib, "used_memory", "10737418240")), Fail, "about 1 min 42 s bears 1.5 MiB/s of writes, and there are 10.0 MiB/s", `CONFIG SET client-output-buffer-limit "replica 4gb 2gb 60"`},
		"a buffer near its end":           {buffer(told(mib, "used_memory", "10737418240")), Warn, "bears 1.5 MiB/s", `"replica 512mb 256mb 60"`},
		"a buffer too small, before 5.0":  {buffer(told(10*mib, "used_memory", "10737418240", "redis_version", "4.0.14")), Fail, "bears", `"slave 4gb 2gb 60"`},
		"a buffer as large as a backlog":  {buffer(told(10*mib, "used_memory", "10737418240", "repl-backlog-size", "17179869184")), Pass, "bears 160.0 MiB/s", ""},
		"but before 7.0 it does not help": {buffer(told(10*mib, "used_memory", "10737418240", "repl-backlog-size", "17179869184", "redis_version", "6.2.1")), Fail, "bears 1.5 MiB/s", "CONFIG SET"},
		"a soft limit too small":          {buffer(told(mib, "client-output-buffer-limit", "replica 104857600 16384 0", "repl-backlog-size", "16384")), Fail, "or 16.0 KiB for 0 s", `"replica 256mb 64mb 60"`},
		"a buffer without a hard limit":   {buffer(told(10*mib, "used_memory", "10737418240", "client-output-buffer-limit", "replica 0 67108864 60")), Fail, "bears", `"replica 0 2gb 60"`},
		"no buffer limit":                 {buffer(told(mib, "client-output-buffer-limit", "normal 0 0 0 replica 0 0 0")), Pass, "none for replicas", ""},
		"a hard limit alone":              {buffer(told(mib, "client-output-buffer-limit", "replica 1073741824 0 0")), Pass, "1.0 GiB, or 0 B", ""},
		"a buffer limit that is none":     {buffer(told(mib, "client-output-buffer-limit", "replica x 0 0")), Skip, "does not tell", ""},
		"a buffer limit that is cut":      {buffer(told(mib, "client-output-buffer-limit", "replica 1 0")), Skip, "does not tell", ""},
		"a buffer, the rate not known":    {buffer(told(-1)), Pass, "not known without the write rate", ""},

		"a full sync, diskless":          {sync(told(0, "used_memory", "10737418240")), Pass, "about 1 min 42 s: 10.0 GiB in memory, which an RDB seldom exceeds, at an assumed 100 MiB/s", ""},
		"a full sync, saves are slow":    {sync(told(0, "used_memory", "10737418240", "rdb_last_bgsave_time_sec", "300")), Pass, "about 5 min", ""},
		"a full sync by the disk":        {sync(told(0, "used_memory", "10737418240", "repl-diskless-sync", "no")), Pass, "about 3 min 24 s", ""},
		"a full sync by a disk known":    {sync(told(0, "used_memory", "10737418240", "repl-diskless-sync", "no", "rdb_last_bgsave_time_sec", "30")), Pass, "about 2 min 12 s", ""},
		"a full sync that takes an hour": {sync(told(0, "used_memory", "1099511627776")), Warn, "about 2 h 54 min", "repl-bgsave-timeout"},
		"a full sync of who knows what":  {sync(told(0, "used_memory", "-1")), Skip, "does not tell", ""},

		"clients":                     {told(0).outcome("maxclients"), Pass, "3 of 10000 connections are used", ""},
		"clients before 6.2":          {told(0, "maxclients", "50").outcome("maxclients"), Pass, "3 of 50", ""},
		"few clients are left":        {told(0, "maxclients", "12").outcome("maxclients"), Warn, "3 of 12", "CONFIG SET maxclients 100"},
		"hardly a client is left":     {told(0, "connected_clients", "9500").outcome("maxclients"), Warn, "9500 of 10000", "CONFIG SET maxclients 20000"},
		"more clients than there are": {told(0, "connected_clients", "9223372036854775807").outcome("maxclients"), Warn, "", "CONFIG SET"},

		"loaded":                          {told(0).outcome("loading"), Pass, "loaded", ""},
		"loading beside":                  {told(0, "async_loading", "1").outcome("loading"), Fail, "still reading", "wait"},
		"a chain":                         {told(0, "role", "slave", "master_host", "h", "master_port", "7", "master_link_status", "up").outcome("role"), Pass, "a replica of h:7, whose link is up", ""},
		"a chain that is broken":          {told(0, "role", "slave", "master_host", "h", "master_port", "7", "master_link_status", "down", "master_link_down_since_seconds", "-1").outcome("role"), Fail, "lost its master h:7", "follow h:7 instead"},
		"a chain that begins":             {told(0, "role", "slave", "master_host", "h", "master_port", "7", "master_link_status", "down", "master_sync_in_progress", "1").outcome("role"), Fail, "itself in a full sync", "wait for it"},
		"a Sentinel":                      {told(0, "role", "sentinel").outcome("role"), Warn, "sentinel", "Sentinel"},
		"Valkey":                          {told(0, "valkey_version", "8.0.1").outcome("version"), Pass, "Valkey 8.0.1: PSYNC2", ""},
		"Redis 6":                         {told(0, "redis_version", "6.2.1").outcome("version"), Pass, "Redis 6.2.1: PSYNC2; the archive is loaded by 7.0", ""},
		"Redis 3":                         {told(0, "redis_version", "3.2.13").outcome("version"), Warn, "without PSYNC2", "upgrade to 4.0"},
		"Redis 2.6":                       {told(0, "redis_version", "2.6.17").outcome("version"), Warn, "without PSYNC each", "upgrade"},
		"a version that is none":          {told(0, "redis_version", "x").outcome("version"), Warn, "Redis x", "form"},
		"a password":                      {told(0, "password", "given", "reach", "public").outcome("requirepass"), Pass, "has a password", ""},
		"no password, from afar":          {told(0, "reach", "private").outcome("requirepass"), Warn, "whoever reaches the port", "CONFIG SET requirepass"},
		"no password, from here":          {told(0).outcome("requirepass"), Pass, "from this host", ""},
		"protected mode":                  {told(0, "protected-mode", "yes").outcome("protected-mode"), Pass, "refuses connections from other hosts", ""},
		"a BGSAVE":                        {told(0, "rdb_last_bgsave_time_sec", "7").outcome("BGSAVE"), Pass, "took 7 s", ""},
		"a BGSAVE that failed":            {told(0, "rdb_last_bgsave_status", "err", "repl-diskless-sync", "no").outcome("BGSAVE"), Fail, "the last one failed", "overcommit_memory"},
		"one that failed, and diskless":   {told(0, "rdb_last_bgsave_status", "err").outcome("BGSAVE"), Warn, "the last one failed", "overcommit_memory"},
		"no memory for a fork":            {told(0, "used_memory_rss", "6442450944").outcome("BGSAVE"), Warn, "6.0 GiB of its host's 8.0 GiB", "more memory"},
		"a BGSAVE under way":              {told(0, "rdb_bgsave_in_progress", "1").outcome("BGSAVE"), Pass, "would wait", ""},
		"an AOF rewrite under way":        {told(0, "aof_rewrite_in_progress", "1").outcome("BGSAVE"), Pass, "rewrite of the AOF", ""},
		"diskless":                        {told(0).outcome("repl-diskless-sync"), Pass, "5 s after the first has asked", ""},
		"a long delay":                    {told(0, "repl-diskless-sync-delay", "600").outcome("repl-diskless-sync"), Warn, "10 min after", "CONFIG SET repl-diskless-sync-delay 5"},
		"by the disk":                     {told(0, "repl-diskless-sync", "no").outcome("repl-diskless-sync"), Pass, "the master's disk first", ""},
		"no diskless":                     {told(0, "repl-diskless-sync", "").outcome("repl-diskless-sync"), Skip, "does not know it", ""},
		"timeouts":                        {told(0).outcome("repl-timeout"), Pass, "silent for 1 min, and pings each 10 s (repl-ping-replica-period)", ""},
		"pings too rare for us":           {told(0, "repl-ping-slave-period", "3600", "repl-timeout", "7200").outcome("repl-timeout"), Warn, "replicad gives up", "CONFIG SET repl-ping-replica-period 10"},
		"pings too rare, of old":          {told(0, "redis_version", "4.0.14", "repl-ping-slave-period", "90").outcome("repl-timeout"), Warn, "repl-ping-slave-period", "CONFIG SET repl-ping-slave-period 10"},
		"a timeout below the pings":       {told(0, "repl-timeout", "10").outcome("repl-timeout"), Warn, "silent for 10 s", "must be above repl-ping-replica-period"},
		"a short timeout":                 {told(0, "repl-timeout", "5", "repl-ping-slave-period", "1").outcome("repl-timeout"), Warn, "5 s", "CONFIG SET repl-timeout 60"},
		"no timeout":                      {told(0, "repl-timeout", "").outcome("repl-timeout"), Skip, "does not tell", ""},
		"writes without replicas":         {told(0).outcome("min-replicas-to-write"), Pass, "0", ""},
		"writes with replicas":            {told(0, "min-slaves-to-write", "2", "min_slaves_good_slaves", "1").outcome("min-replicas-to-write"), Warn, "fewer than 2 replicas (min-replicas-to-write) whose lag is 10 s or less; now there are 1, and replicad will count", "CONFIG SET min-replicas-to-write 3"},
		"writes with replicas, of old":    {told(0, "redis_version", "4.0.14", "min-slaves-to-write", "1", "min-slaves-max-lag", "7").outcome("min-replicas-to-write"), Warn, "1 replica (min-slaves-to-write) whose lag is 7 s", "CONFIG SET min-slaves-to-write 2"},
		"longest argument, the default":   {told(0).outcome("proto-max-bulk-len"), Pass, "at most 512.0 MiB", ""},
		"longest argument, larger":        {told(0, "proto-max-bulk-len", "1073741824").outcome("proto-max-bulk-len"), Warn, "may have 1.0 GiB", "a proto-max-bulk-len of 1073741824"},
		"longest argument, not known":     {told(0, "proto-max-bulk-len", "").outcome("proto-max-bulk-len"), Skip, "before 4.0", ""},
		"before there were such":          {told(0, "min-slaves-to-write", "").outcome("min-replicas-to-write"), Skip, "before 2.8", ""},
		"a large disk":                    {told(0, "disk.dir", "/d", "disk.free", gib).outcome("disk"), Pass, "1.0 GiB are free in /d, and the master uses 1.0 MiB", ""},
		"a disk for one base":             {told(0, "disk.dir", "/d", "disk.free", "1048576").outcome("disk"), Warn, "1.0 MiB are free", "three times"},
		"a disk too small":                {told(0, "disk.dir", "/d", "disk.free", "100").outcome("disk"), Fail, "100 B are free", "larger disk"},
		"a disk that is full":             {told(0, "disk.dir", "/d", "disk.free", "0").outcome("disk"), Fail, "0 B are free", "larger disk"},
		"a full disk, the rest not known": {told(0, "used_memory", "", "disk.dir", "/d", "disk.free", "0").outcome("disk"), Fail, "0 B are free", "larger disk"},
		"a disk, and the rest not known":  {told(0, "used_memory", "", "disk.dir", "/d", "disk.free", gib).outcome("disk"), Pass, "not known", ""},
	} {
		t.Run(name, func(t *testing.T) { expect(t, c.got, c.status, c.detail, c.remedy) })
	}
}

func TestTheWriteRateIsMeasuredByWhatThereIs(t *testing.T) {
	a := "run_id:a\r\nrepl_backlog_active:1\r\nmaster_repl_offset:1000\r\nrdb_changes_since_last_save:5\r\naof_enabled:1\r\naof_current_size:10\r\ntotal_net_input_bytes:100\r\n"
	change := func(pairs ...string) string { return strings.NewReplacer(pairs...).Replace(a) }
	noBacklog := strings.NewReplacer("active:1", "active:0").Replace
	for name, c := range map[string]struct {
		first, second string
		want          float64 // below zero: not known
		source        string
	}{
		"by the offset":               {a, change("offset:1000", "offset:3000"), 1000, "measured over 2 s"},
		"nothing is written":          {a, a, 0, "measured over 2 s"},
		"another process":             {a, change("run_id:a", "run_id:b"), -1, ""},
		"no key, without a backlog":   {noBacklog(a), noBacklog(change("bytes:100", "bytes:900")), 0, "measured over 2 s"},
		"by what clients sent":        {noBacklog(a), noBacklog(change("save:5", "save:9", "size:10", "size:1", "bytes:100", "bytes:900")), 400, "at most"},
		"an offset that went back":    {change("enabled:1", "enabled:0"), change("offset:1000", "offset:1", "save:5", "save:1", "bytes:100", "bytes:1"), -1, ""},
		"a backlog that was made now": {noBacklog(a), a, 0, "measured over 2 s"},
		"nothing":                     {"", "", -1, ""},
	} {
		f := &facts{info: parseInfo(c.first), made: map[string]string{}}
		f.measure(parseInfo(c.second), 2)
		got, known := f.number("write.rate")
		if known != (c.want >= 0) || known && got != c.want || known && !strings.Contains(f.made["rate.by"], c.source) {
			t.Errorf("%s: %g, %v, %q", name, got, known, f.made["rate.by"])
		}
	}
}

func TestTheTableHasTheLinksOwnLimits(t *testing.T) {
	if resp.DefaultMaxBulk != 536870912 || replica.DefaultReplTimeout != time.Minute || replica.DefaultReplBGSaveTimeout != time.Hour {
		t.Error("the rules of proto-max-bulk-len, repl-timeout and full sync name other limits")
	}
}

func TestConditionsCompareTextNumbersAndOtherValues(t *testing.T) {
	f := &facts{info: map[string]string{"role": "slave", "lag": "7", "limit": "5", "odd": "-1"}, made: map[string]string{}}
	for condition, want := range map[string]bool{
		"": true, "role=slave": true, "role=master": false, "role!=slave": false, "none!=slave": true, "none=": true, "role=slave lag>6": true, "role=slave lag>7": false,
		"lag<7.5": true, "lag>limit": true, "lag<limit": false, "lag?": true, "role?": false, "role!?": true, "odd?": false, "none<1": false, "none!?": true,
	} {
		if f.holds(condition) != want {
			t.Errorf("%q is %v", condition, !want)
		}
	}
}

func TestSizesAndTimesArePrintedForAReader(t *testing.T) {
	f := &facts{info: map[string]string{}, made: map[string]string{}}
	for _, c := range []struct {
		template string
		n        float64
		want     string
	}{
		{"${size:n}", 1.5 * (1 << 20), "1.5 MiB"}, {"${span:n}", 0, "0 s"}, {"${span:n}", 0.05, "less than 1 s"}, {"${span:n}", 119, "1 min 59 s"},
		{"${setting:n}", 0, "0"}, {"${setting:n}", 1, "1mb"}, {"${setting:n}", 1<<20 + 1, "2mb"}, {"${setting:n}", 1 << 30, "1gb"},
		{"${replicas:n} of ${n}", 1, "1 replica of 1"}, {"${none}", 1, ""},
	} {
		if f.make("n", c.n); f.text(c.template) != c.want {
			t.Errorf("%s of %g is %q, want %q", c.template, c.n, f.text(c.template), c.want)
		}
	}
	for _, n := range []float64{math.Inf(1), math.MaxFloat64} {
		if f.make("n", n); !strings.HasSuffix(f.text("${setting:n}"), "gb") || strings.HasPrefix(f.text("${size:n}${span:n}"), "-") {
			t.Errorf("%g is %q", n, f.text("${setting:n} ${size:n} ${span:n}"))
		}
	}
}

// FuzzTheJudgeSurvivesWhateverAMasterTells: INFO twice and CONFIG GET, with
// anything in them. Each check must have a status and a text, and no figure may
// be below zero.
func FuzzTheJudgeSurvivesWhateverAMasterTells(f *testing.F) {
	config := ""
	for name, value := range soundConfig() {
		config += name + ":" + value + "\r\n"
	}
	f.Add(infoText, infoText, config)
	f.Add(strings.ReplaceAll(infoText, "10", "9223372036854775807"), infoText, strings.ReplaceAll(config, "60", "99"))
	f.Add("redis_version:-1.-1\nused_memory:9223372036854775807\nrole:slave\nloading:1", "used_memory:0\n:\n::", "\n:")
	f.Add("run_id:a\nrepl_backlog_active:1\nmaster_repl_offset:0", "run_id:a\nrepl_backlog_active:1\nmaster_repl_offset:9223372036854775807\nused_memory:9223372036854775807", config)
	f.Fuzz(func(t *testing.T, first, second, config string) {
		fa := &facts{info: parseInfo(first), config: parseInfo(config), made: map[string]string{}}
		fa.derive()
		fa.measure(parseInfo(second), 1)
		fa.derive()
		for name, n := range fa.figures() {
			if n < 0 || math.IsNaN(n) || math.IsInf(n, 0) {
				t.Errorf("%s is %g", name, n)
			}
		}
		for _, row := range checks() {
			if row.Rules == nil {
				continue
			}
			c := fa.judge(row.Rules)
			if c.Status == "" || c.Detail == "" && row.Name != "disk" || strings.Contains(c.Detail+c.Remedy, "%!") || (c.Status == Pass || c.Status == Skip) == (c.Remedy != "") {
				t.Errorf("%s: %+v", row.Name, c)
			}
		}
	})
}

// said is a connection on which a server has said something.
type said struct {
	net.Conn
	r io.Reader
}

func (s said) Read(p []byte) (int, error) { return s.r.Read(p) }

// FuzzAGuardedConnectionNeverAnnouncesMoreThanItsLimits reads anything through
// the guard, cut anyhow.
func FuzzAGuardedConnectionNeverAnnouncesMoreThanItsLimits(f *testing.F) {
	for _, s := range []string{"+OK\r\n", "-ERR x\r\n", ":1\r\n", "$3\r\nabc\r\n", "$-1\r\n", "*2\r\n$1\r\na\r\n+b\r\n", "*-1\r\n", "$99999999\r\n", "*9999\r\n", "|1\r\n", "\r\n"} {
		f.Add(s, uint8(1))
	}
	f.Fuzz(func(t *testing.T, s string, size uint8) {
		g := guard(said{r: iotest.OneByteReader(strings.NewReader(s))})
		var got []byte
		p := make([]byte, 1+int(size))
		for {
			n, err := g.Read(p)
			got = append(got, p[:n]...)
			if err != nil {
				break
			}
		}
		if !strings.HasPrefix(s, string(got)) {
			t.Fatalf("%q became %q", s, got)
		}
		for line := range strings.Lines(string(got)) {
			line = strings.TrimRight(line, "\r\n")
			if strings.HasPrefix(line, "$") && utf8.RuneCountInString(line) > 9 || strings.HasPrefix(line, "*") && utf8.RuneCountInString(line) > 5 || strings.HasPrefix(line, "|") {
				t.Errorf("%q was let through", line)
			}
		}
	})
}

func TestAGuardedConnectionEndsWithTooMuchOfAnything(t *testing.T) {
	for name, s := range map[string]string{"bytes": strings.Repeat("+OK\r\n", 1<<20), "lists": strings.Repeat("*1\r\n", 2001), "a string": "$99999999\r\n", "a list": "*9999\r\n", "RESP3": "%1\r\n"} {
		n, err := io.Copy(io.Discard, guard(said{r: strings.NewReader(s)}))
		if !errors.Is(err, replica.ErrUnexpected) || n == int64(len(s)) {
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
	}
}
