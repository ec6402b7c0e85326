package probe

import (
	"strconv"
	"strings"
	"time"
)

// info is what INFO said, or CONFIG GET: names and values.
type info map[string]string

// parseInfo reads the text of INFO. Lines that are no field are passed over.
func parseInfo(text string) info {
	fields := info{}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if name, value, ok := strings.Cut(line, ":"); ok && name != "" && name[0] != '#' {
			fields[name] = value
		}
	}
	return fields
}

// text is a field, for a message: not longer than a name or a version may be.
func (i info) text(name string) string {
	const most = 80
	s := i[name]
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

// first is the first field of those that is there: names change with versions.
func (i info) first(names ...string) (name, value string) {
	for _, name = range names {
		if v, ok := i[name]; ok {
			return name, v
		}
	}
	return names[0], ""
}

// number is a field as a number of zero or more; false where it is none.
func (i info) number(names ...string) (int64, bool) {
	_, s := i.first(names...)
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && n >= 0
}

// is says whether a field has that value.
func (i info) is(name, value string) bool { return i[name] == value }

// outputLimit is client-output-buffer-limit of one class; 0 is no limit.
type outputLimit struct {
	hard, soft, seconds int64
}

// parseOutputLimit finds the replicas' class in the value of
// client-output-buffer-limit: "normal 0 0 0 slave 268435456 67108864 60 pubsub
// 33554432 8388608 60".
func parseOutputLimit(value string) (l outputLimit, ok bool) {
	f := strings.Fields(value)
	for ; len(f) >= 4; f = f[4:] {
		if f[0] != "replica" && f[0] != "slave" {
			continue
		}
		ok = true
		for i, n := range []*int64{&l.hard, &l.soft, &l.seconds} {
			var err error
			*n, err = strconv.ParseInt(f[i+1], 10, 64)
			ok = ok && err == nil && *n >= 0
		}
		return l, ok
	}
	return l, false
}

// version is the first two numbers of a version.
type version struct{ major, minor int }

func parseVersion(s string) (version, bool) {
	major, rest, ok := strings.Cut(s, ".")
	minor, _, _ := strings.Cut(rest, ".")
	var v version
	var err, err2 error
	v.major, err = strconv.Atoi(major)
	v.minor, err2 = strconv.Atoi(minor)
	return v, ok && err == nil && err2 == nil && v.major >= 0 && v.minor >= 0
}

func (v version) before(major, minor int) bool {
	return v.major < major || v.major == major && v.minor < minor
}

// rate is how fast the replication stream grows.
type rate struct {
	known  bool
	bytes  float64 // a second
	source string  // how it is known
}

// measure compares two INFOs, the second of which came that much later.
func measure(a, b info, apart time.Duration) rate {
	if apart <= 0 || a["run_id"] != b["run_id"] {
		return rate{} // another process answers
	}
	grown := func(field string) (float64, bool) {
		from, ok := a.number(field)
		to, ok2 := b.number(field)
		return float64(to-from) / apart.Seconds(), ok && ok2 && to >= from
	}
	over := "measured over " + span(apart.Seconds())
	if a.is("repl_backlog_active", "1") && b.is("repl_backlog_active", "1") {
		if n, ok := grown("master_repl_offset"); ok {
			return rate{true, n, over}
		}
	}
	// Without a backlog the offset stands still (replicationFeedSlaves).
	if n, ok := grown("rdb_changes_since_last_save"); ok && n == 0 && a["rdb_last_save_time"] == b["rdb_last_save_time"] {
		return rate{true, 0, over}
	}
	if a.is("aof_enabled", "1") && a["aof_base_size"] == b["aof_base_size"] {
		if n, ok := grown("aof_current_size"); ok {
			return rate{true, n, "by what the AOF grew by, " + over}
		}
	}
	if n, ok := grown("total_net_input_bytes"); ok {
		return rate{true, n, "at most: what clients sent, " + over + ", for without a backlog the master does not count writes alone"}
	}
	return rate{}
}
