package probe

import (
	"maps"
	"math"
	"replicad/replica/units"
	"strings"
	"testing"
	"time"
)

// told are the facts of a sound master with other fields in INFO and other
// directives; "" takes one out.
func told(bytesPerSecond float64, pairs ...string) *facts {
	f := &facts{user: "me", acl: true, info: parseInfo(infoText), config: maps.Clone(soundConfig()), far: local,
		rate: rate{known: true, bytes: bytesPerSecond, source: "measured over 3 s"}}
	for i := 0; i < len(pairs); i += 2 {
		in := f.info
		if _, ok := f.config[pairs[i]]; ok || strings.Contains(pairs[i], "-") {
			in = f.config
		}
		if in[pairs[i]] = pairs[i+1]; pairs[i+1] == "" {
			delete(in, pairs[i])
		}
	}
	f.later = f.info
	return f
}

func TestWhatAMasterToldIsJudged(t *testing.T) {
	const mib, gib = 1 << 20, 1 << 30
	backlog := func(f *facts) Check { c, _ := f.backlog(); return c }
	buffer := func(f *facts) Check { s, _ := f.fullSync(); return f.outputBuffer(s) }
	sync := func(f *facts) Check { _, c := f.fullSync(); return c }
	with := func(f *facts, change func(*facts)) *facts { change(f); return f }
	for name, c := range map[string]struct {
		got            Check
		status         Status
		detail, remedy string
	}{
		"a backlog for a while":           {backlog(told(10 << 10)), Pass, "1 MiB hold 102 s of writes at 10 KiB/s (measured over 3 s)", ""},
		"a backlog too small":             {backlog(told(mib)), Warn, "1 MiB hold 1 s of writes at 1 MiB/s", "CONFIG SET repl-backlog-size 512mb, for cuts of up to 5 min"},
		"a backlog far too small":         {backlog(told(20 * mib)), Warn, "hold 50 ms", "CONFIG SET repl-backlog-size 8gb"},
		"a backlog and no writes":         {backlog(told(0)), Pass, "nothing was written", ""},
		"a backlog that INFO alone tells": {backlog(told(mib, "repl-backlog-size", "")), Warn, "1 MiB hold 1 s", "CONFIG SET"},
		"a backlog that nobody tells":     {backlog(told(0, "repl-backlog-size", "", "repl_backlog_size", "")), Skip, "neither INFO nor CONFIG GET", ""},
		"a backlog, the rate not known":   {backlog(with(told(0), func(f *facts) { f.rate = rate{} })), Warn, "not known without the write rate", "Probe it again"},
		"a backlog that is freed first":   {backlog(told(1, "repl-backlog-ttl", "60")), Pass, "freed after 60 s (repl-backlog-ttl)", ""},

		"a buffer for all":                {buffer(told(mib)), Pass, "256 MiB, or 64 MiB for 60 s for replicas: a full sync of about 0.1 s bears 256 MiB/s of writes, and there are 1 MiB/s", ""},
		"a buffer too small, hard":        {buffer(told(10*mib, "used_memory", "10737418240")), Fail, "about 102 s bears 1.5 MiB/s of writes, and there are 10 MiB/s", `CONFIG SET client-output-buffer-limit "replica 4gb 2gb 60"`},
		"a buffer near its end":           {buffer(told(mib, "used_memory", "10737418240")), Warn, "bears 1.5 MiB/s", `"replica 512mb 256mb 60"`},
		"a buffer too small, before 5.0":  {buffer(told(10*mib, "used_memory", "10737418240", "redis_version", "4.0.14")), Fail, "bears", `"slave 4gb 2gb 60"`},
		"a buffer as large as a backlog":  {buffer(told(10*mib, "used_memory", "10737418240", "repl-backlog-size", "17179869184")), Pass, "bears 160 MiB/s", ""},
		"but before 7.0 it does not help": {buffer(told(10*mib, "used_memory", "10737418240", "repl-backlog-size", "17179869184", "redis_version", "6.2.1")), Fail, "bears 1.5 MiB/s", "CONFIG SET"},
		"a soft limit too small":          {buffer(told(mib, "client-output-buffer-limit", "replica 104857600 16384 0", "repl-backlog-size", "16384")), Fail, "or 16 KiB for 0 s", `"replica 256mb 64mb 60"`},
		"a buffer without a hard limit":   {buffer(told(10*mib, "used_memory", "10737418240", "client-output-buffer-limit", "replica 0 67108864 60")), Fail, "bears", `"replica 0 2gb 60"`},
		"no buffer limit":                 {buffer(told(mib, "client-output-buffer-limit", "normal 0 0 0 replica 0 0 0")), Pass, "none for replicas", ""},
		"a hard limit alone":              {buffer(told(mib, "client-output-buffer-limit", "replica 1073741824 0 0")), Pass, "1 GiB for replicas", ""},
		"a buffer limit that is none":     {buffer(told(mib, "client-output-buffer-limit", "replica x 0 0")), Skip, "does not tell", ""},
		"a buffer limit that is cut":      {buffer(told(mib, "client-output-buffer-limit", "replica 1 0")), Skip, "does not tell", ""},
		"a buffer, the rate not known":    {buffer(with(told(0), func(f *facts) { f.rate = rate{} })), Pass, "not known without the write rate", ""},

		"a full sync, diskless":          {sync(told(0, "used_memory", "10737418240")), Pass, "about 102 s: 10 GiB in memory, which an RDB seldom exceeds, at an assumed 100 MiB/s, after a delay of 5 s", ""},
		"a full sync, saves are slow":    {sync(told(0, "used_memory", "10737418240", "rdb_last_bgsave_time_sec", "300")), Pass, "about 5 min", ""},
		"a full sync by the disk":        {sync(told(0, "used_memory", "10737418240", "repl-diskless-sync", "no")), Pass, "about 3 min", ""},
		"a full sync by a disk known":    {sync(told(0, "used_memory", "10737418240", "repl-diskless-sync", "no", "rdb_last_bgsave_time_sec", "30")), Pass, "about 2 min: 10 GiB in memory, which an RDB seldom exceeds, at an assumed 100 MiB/s, after they are saved; the last BGSAVE took 30 s", ""},
		"a full sync that takes an hour": {sync(told(0, "used_memory", "1099511627776")), Warn, "about 2.9 h", "--repl-bgsave-timeout"},
		"a full sync of who knows what":  {sync(told(0, "used_memory", "-1")), Skip, "used_memory", ""},

		"clients":                     {told(0).maxClients(), Pass, "3 of 10000 connections are used", ""},
		"clients before 6.2":          {told(0, "maxclients", "50").maxClients(), Pass, "3 of 10000", ""},
		"few clients are left":        {with(told(0), func(f *facts) { f.info["maxclients"] = "12" }).maxClients(), Warn, "3 of 12", "CONFIG SET maxclients 100"},
		"hardly a client is left":     {with(told(0), func(f *facts) { f.info["connected_clients"] = "9500" }).maxClients(), Warn, "9500 of 10000", "CONFIG SET maxclients 20000"},
		"more clients than there are": {with(told(0), func(f *facts) { f.info["connected_clients"] = "9223372036854775807" }).maxClients(), Warn, "", "CONFIG SET"},

		"loaded":                         {told(0).loading(), Pass, "loaded", ""},
		"loading beside":                 {told(0, "async_loading", "1").loading(), Fail, "still reading", "wait"},
		"a chain":                        {told(0, "role", "slave", "master_host", "h", "master_port", "7", "master_link_status", "up").role(), Pass, "a replica of h:7, whose link is up", ""},
		"a chain that is broken":         {told(0, "role", "slave", "master_host", "h", "master_port", "7", "master_link_status", "down", "master_link_down_since_seconds", "-1").role(), Fail, "lost its master h:7", "follow h:7 instead"},
		"a chain that begins":            {told(0, "role", "slave", "master_host", "h", "master_port", "7", "master_link_status", "down", "master_sync_in_progress", "1").role(), Fail, "itself in a full sync", "wait for it"},
		"a Sentinel":                     {told(0, "role", "sentinel").role(), Warn, "sentinel", "Sentinel"},
		"Valkey":                         {told(0, "valkey_version", "8.0.1").version(), Pass, "Valkey 8.0.1: PSYNC2", ""},
		"Redis 6":                        {told(0, "redis_version", "6.2.1").version(), Pass, "Redis 6.2.1: PSYNC2; the archive is loaded by 7.0", ""},
		"Redis 3":                        {told(0, "redis_version", "3.2.13").version(), Warn, "without PSYNC2", "upgrade to 4.0"},
		"Redis 2.6":                      {told(0, "redis_version", "2.6.17").version(), Warn, "without PSYNC each", "upgrade"},
		"a version that is none":         {told(0, "redis_version", "x").version(), Warn, "Redis x", "form"},
		"a password":                     {with(told(0), func(f *facts) { f.password, f.far = true, public }).requirePass(), Pass, "has a password", ""},
		"no password, from afar":         {with(told(0), func(f *facts) { f.far = private }).requirePass(), Warn, "whoever reaches the port", "CONFIG SET requirepass"},
		"no password, from here":         {told(0).requirePass(), Pass, "from this host", ""},
		"protected mode":                 {told(0, "protected-mode", "yes").protectedMode(), Pass, "refuses connections from other hosts", ""},
		"a BGSAVE":                       {told(0, "rdb_last_bgsave_time_sec", "7").bgsave(), Pass, "took 7 s", ""},
		"a BGSAVE that failed":           {told(0, "rdb_last_bgsave_status", "err", "repl-diskless-sync", "no").bgsave(), Fail, "the last one failed", "overcommit_memory"},
		"one that failed, and diskless":  {told(0, "rdb_last_bgsave_status", "err").bgsave(), Warn, "the last one failed", "overcommit_memory"},
		"no memory for a fork":           {told(0, "used_memory_rss", "6442450944").bgsave(), Warn, "6 GiB of its host's 8 GiB", "more memory"},
		"a BGSAVE under way":             {told(0, "rdb_bgsave_in_progress", "1").bgsave(), Pass, "would wait", ""},
		"an AOF rewrite under way":       {told(0, "aof_rewrite_in_progress", "1").bgsave(), Pass, "rewrite of the AOF", ""},
		"diskless":                       {told(0).diskless(), Pass, "5 s after the first has asked", ""},
		"a long delay":                   {told(0, "repl-diskless-sync-delay", "600").diskless(), Warn, "10 min after", "CONFIG SET repl-diskless-sync-delay 5"},
		"by the disk":                    {told(0, "repl-diskless-sync", "no").diskless(), Pass, "the master's disk first", ""},
		"no diskless":                    {told(0, "repl-diskless-sync", "").diskless(), Skip, "does not know it", ""},
		"timeouts":                       {told(0).timeout(), Pass, "silent for 60 s, and pings each 10 s (repl-ping-replica-period)", ""},
		"pings too rare for us":          {told(0, "repl-ping-replica-period", "3600", "repl-timeout", "7200").timeout(), Warn, "replicad run gives up", "CONFIG SET repl-ping-replica-period 10"},
		"pings too rare, of old":         {told(0, "repl-ping-replica-period", "", "repl-ping-slave-period", "90").timeout(), Warn, "repl-ping-slave-period", "CONFIG SET repl-ping-slave-period 10"},
		"a timeout below the pings":      {told(0, "repl-timeout", "10").timeout(), Warn, "silent for 10 s", "must be above repl-ping-replica-period"},
		"a short timeout":                {told(0, "repl-timeout", "5", "repl-ping-replica-period", "1").timeout(), Warn, "5 s", "CONFIG SET repl-timeout 60"},
		"no timeout":                     {told(0, "repl-timeout", "").timeout(), Skip, "does not tell", ""},
		"writes without replicas":        {told(0).minReplicas(), Pass, "0", ""},
		"writes with replicas":           {told(0, "min-replicas-to-write", "2", "min_slaves_good_slaves", "1").minReplicas(), Warn, "fewer than 2 replicas (min-replicas-to-write) whose lag is 10 s or less; now there are 1, and replicad will count", "CONFIG SET min-replicas-to-write 3"},
		"writes with replicas, of old":   {told(0, "min-replicas-to-write", "", "min-slaves-to-write", "1", "min-replicas-max-lag", "", "min-slaves-max-lag", "7").minReplicas(), Warn, "1 replica (min-slaves-to-write) whose lag is 7 s", "CONFIG SET min-slaves-to-write 2"},
		"before there were such":         {told(0, "min-replicas-to-write", "").minReplicas(), Skip, "before 2.8", ""},
		"a large disk":                   {told(0).disk("/d", gib), Pass, "1 GiB are free in /d, and the master uses 1 MiB", ""},
		"a disk for one base":            {told(0).disk("/d", mib), Warn, "1 MiB are free", "have 3 MiB"},
		"a disk too small":               {told(0).disk("/d", 100), Fail, "100 B are free", "larger disk"},
		"a disk, and the rest not known": {told(0, "used_memory", "").disk("/d", gib), Pass, "not known", ""},
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
		"by the AOF":                  {noBacklog(a), noBacklog(change("save:5", "save:9", "size:10", "size:410")), 200, "AOF"},
		"by what clients sent":        {noBacklog(a), noBacklog(change("save:5", "save:9", "size:10", "size:1", "bytes:100", "bytes:900")), 400, "at most"},
		"an offset that went back":    {change("enabled:1", "enabled:0"), change("offset:1000", "offset:1", "save:5", "save:1", "bytes:100", "bytes:1"), -1, ""},
		"a backlog that was made now": {noBacklog(a), a, 0, "measured over 2 s"},
		"nothing":                     {"", "", -1, ""},
	} {
		got := measure(parseInfo(c.first), parseInfo(c.second), 2*time.Second)
		if got.known != (c.want >= 0) || got.known && got.bytes != c.want || !strings.Contains(got.source, c.source) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if measure(parseInfo(a), parseInfo(a), 0).known {
		t.Error("a rate was measured in no time")
	}
}

func TestSizesAndTimesArePrintedForAReader(t *testing.T) {
	for want, got := range map[string]string{
		"0 B": size(0), "1023 B": size(1023), "1 KiB": size(1024), "1.5 MiB": size(1.5 * (1 << 20)), "1 MiB": size(1<<20 - 1), "16 EiB": size(math.MaxUint64),
		"0 s": span(0), "50 ms": span(0.05), "0.1 s": span(0.0999), "1 ms": span(1e-9), "9.9 s": span(9.94), "10 s": span(9.96), "119 s": span(119), "2 min": span(120), "2 h": span(7200), "3 days": span(3 * 86400), "years": span(1e30),
		"1mb": sizeSetting(1), "2mb": sizeSetting(1<<20 + 1), "1gb": sizeSetting(1 << 30),
		"1 field": units.Count(1, "field"), "0 fields": units.Count(0, "field"),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for _, f := range []float64{math.Inf(1), math.MaxFloat64} {
		if s := sizeSetting(f); !strings.HasSuffix(s, "gb") || strings.HasPrefix(s, "-") {
			t.Errorf("sizeSetting(%g) is %q", f, s)
		}
	}
}

// FuzzTheJudgeSurvivesWhateverAMasterTells: INFO twice and CONFIG GET, with
// anything in them. Each check must have a status and a text, and no figure may
// be below zero.
func FuzzTheJudgeSurvivesWhateverAMasterTells(f *testing.F) {
	config := ""
	for name, value := range soundConfig() {
		config += pair(name, value)
	}
	f.Add(infoText, infoText, config)
	f.Add(strings.ReplaceAll(infoText, "10", "9223372036854775807"), infoText, strings.ReplaceAll(config, "60", "99"))
	f.Add("redis_version:-1.-1\nused_memory:9223372036854775807\nrole:slave\nloading:1", "used_memory:0\n:\n::", "*-1\r\n*2\r\n$1\r\n")
	f.Add("run_id:a\nrepl_backlog_active:1\nmaster_repl_offset:0", "run_id:a\nrepl_backlog_active:1\nmaster_repl_offset:9223372036854775807\nused_memory:9223372036854775807", config)
	f.Fuzz(func(t *testing.T, first, second, config string) {
		fa := &facts{info: parseInfo(first), later: parseInfo(second)}
		in := newReplyReader(strings.NewReader(config))
		var replies []reply
		for range 100 {
			r, err := in.read()
			if err != nil {
				break
			}
			replies = append(replies, r)
		}
		fa.config = parseConfig(replies)
		fa.rate = measure(fa.info, fa.later, time.Second)
		backlog, cut := fa.backlog()
		seconds, sync := fa.fullSync()
		if cut < 0 || seconds < 0 || fa.rate.bytes < 0 || math.IsNaN(cut) || math.IsNaN(seconds) || math.IsNaN(fa.rate.bytes) {
			t.Errorf("a cut of %g, a full sync of %g, %g bytes a second", cut, seconds, fa.rate.bytes)
		}
		for _, c := range []Check{fa.protectedMode(), fa.maxClients(), fa.loading(), fa.role(), fa.version(), fa.requirePass(), fa.bgsave(), backlog,
			fa.outputBuffer(seconds), fa.diskless(), fa.timeout(), fa.minReplicas(), fa.disk("/d", 1<<40), sync} {
			if c.Name == "" || c.Status == "" || c.Detail == "" || strings.Contains(c.Detail+c.Remedy, "%!") || (c.Status == Pass || c.Status == Skip) == (c.Remedy != "") {
				t.Errorf("%+v", c)
			}
		}
	})
}

// FuzzAnAnswerNeverCostsMoreThanItsLimit reads anything as answers.
func FuzzAnAnswerNeverCostsMoreThanItsLimit(f *testing.F) {
	for _, s := range []string{"+OK\r\n", "-ERR x\r\n", ":1\r\n", "$3\r\nabc\r\n", "$-1\r\n", "*2\r\n$1\r\na\r\n+b\r\n", "*-1\r\n", "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n", "$99999999\r\n", "$3\r\nabcdef", "\x15\x03\x01", "\r\n", "HTTP/1.1 400\r\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		in := newReplyReader(strings.NewReader(s))
		for n := 0; ; n++ {
			r, err := in.read()
			if err != nil {
				return
			}
			if n > len(s) {
				t.Fatal("more answers than bytes")
			}
			if total(r) > len(s) {
				t.Fatalf("%q became %+v", s, r)
			}
		}
	})
}

func total(r reply) int {
	n := len(r.text)
	for _, i := range r.items {
		n += total(i)
	}
	return n
}
