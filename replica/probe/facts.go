package probe

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"replicad/replica/archive"
	"replicad/replica/units"
)

// facts are what the master told, and what was made of that, by name. What was
// made has names with dots.
type facts struct {
	info   map[string]string // of the last INFO
	config map[string]string // of CONFIG GET
	made   map[string]string
	asked  time.Time // when INFO was asked first
}

// parseInfo reads the text of INFO. Lines that are no field are passed over.
func parseInfo(text string) map[string]string {
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ":"); ok && !strings.HasPrefix(name, "#") {
			fields[name] = value
		}
	}
	return fields
}

// value is what is known by a name.
func (f *facts) value(name string) string {
	for _, known := range []map[string]string{f.made, f.config, f.info} {
		if v, ok := known[name]; ok {
			return v
		}
	}
	return ""
}

// number is a value as a number of zero or more, and of 2^62 at most; false
// where it is none.
func (f *facts) number(name string) (float64, bool) {
	n, err := strconv.ParseFloat(f.value(name), 64)
	if err != nil || !(n >= 0) { // a NaN is neither
		return 0, false
	}
	return min(n, 1<<62), true
}

// make notes a number.
func (f *facts) make(name string, n float64) { f.made[name] = strconv.FormatFloat(n, 'f', -1, 64) }

// quotient notes a/b where both are known and b is above zero.
func (f *facts) quotient(name, a, b string) {
	x, ok := f.number(a)
	y, ok2 := f.number(b)
	if ok && ok2 && y > 0 {
		f.make(name, x/y)
	}
}

// text fills in the ${} of a template: ${role} is a value, ${size:used_memory}
// one of bytes, ${span:repl-timeout} one of seconds, ${replicas:connected_slaves}
// a count, and ${setting:backlog.wanted} a power of two bytes as redis.conf has
// them, of no less than a MiB; 0 means no limit and stays.
func (f *facts) text(template string) string {
	return os.Expand(template, func(field string) string {
		form, name, _ := strings.Cut(field, ":")
		n, _ := f.number(name)
		switch {
		case form == "size":
			return units.Size(int64(n))
		case form == "span" && n > 0 && n < 1:
			return "less than 1 s"
		case form == "span":
			return units.Span(time.Duration(min(n, 1e9) * 1e9))
		case form == "replicas":
			return units.Count(int64(n), "replica")
		case form == "setting" && n > 0:
			return units.FormatSize(1 << int(math.Ceil(math.Log2(max(n, 1<<20)))))
		case form == "setting":
			return "0"
		}
		return units.Printable(f.value(field), 300)
	})
}

// derive makes what rules compare of what the master told.
func (f *facts) derive() {
	f.made["server"], f.made["class"] = "Redis "+f.info["redis_version"], "replica"
	if v := f.info["valkey_version"]; v != "" {
		f.made["server"] = "Valkey " + v
	}
	var major, minor int
	if _, err := fmt.Sscanf(f.info["redis_version"], "%d.%d", &major, &minor); err == nil {
		f.make("version", float64(1000*major+minor))
	}
	if f.holds("version<5000") {
		f.made["class"] = "slave"
	}
	for _, name := range []string{"repl_backlog_size", "repl-backlog-size"} {
		if n, ok := f.number(name); ok {
			f.make("backlog", n)
		}
	}
	rate, _ := f.number("write.rate")
	clients, _ := f.number("connected_clients")
	most, _ := f.number("maxclients")
	replicas, _ := f.number("min-slaves-to-write")
	f.make("backlog.wanted", rate*300) // for a cut of 5 minutes
	f.make("maxclients.wanted", max(2*most, 100))
	f.make("clients.left", max(most-clients, 0))
	f.make("replicas.wanted", replicas+1)
	f.quotient("cut", "backlog", "write.rate")
	f.quotient("clients.share", "connected_clients", "maxclients")
	f.quotient("memory.share", "used_memory_rss", "total_system_memory")
	if used, ok := f.number("used_memory"); ok {
		transfer := used / (100 << 20) // a second: a network of 1 Gbit/s, or one core that saves
		save, _ := f.number("rdb_last_bgsave_time_sec")
		save = cmp.Or(save, transfer)
		sync := transfer + save // without the delay of a diskless one
		if f.holds("repl-diskless-sync=yes") {
			sync = max(transfer, save)
		}
		f.make("sync", max(sync, 1))
		f.deriveBuffer(rate, max(sync, 1))
	}
}

// deriveBuffer finds the highest write rate that client-output-buffer-limit
// replica bears during a full sync of so many seconds.
func (f *facts) deriveBuffer(rate, sync float64) {
	// "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60"
	limits := regexp.MustCompile(`(?:replica|slave) (\d+) (\d+) (\d+)`).FindStringSubmatch(f.config["client-output-buffer-limit"])
	if limits == nil {
		return
	}
	f.made["buffer.hard"], f.made["buffer.soft"], f.made["buffer.seconds"] = limits[1], limits[2], limits[3]
	limit := func(name string, need, least float64) float64 {
		n, _ := f.number(name)
		if n == 0 { // no limit
			return 1 << 62
		}
		f.make(name+".wanted", max(n, need, least))
		return n
	}
	hard, soft := limit("buffer.hard", 4*rate*sync, 256<<20), limit("buffer.soft", 2*rate*sync, 64<<20)
	if f.holds("version>6999") {
		// What the backlog holds anyway does not count
		// (checkClientOutputBufferLimits in Redis' networking.c).
		backlog, _ := f.number("backlog")
		hard, soft = max(hard, backlog), max(soft, backlog)
	}
	bears := hard / sync
	// Above soft for all of the seconds: soft is reached at soft/rate.
	seconds, _ := f.number("buffer.seconds")
	if sync > seconds {
		bears = min(bears, soft/(sync-seconds))
	}
	f.make("buffer.bears", bears)
	f.quotient("buffer.share", "write.rate", "buffer.bears")
}

// measure compares a second INFO, which came so many seconds later, with the
// first, and notes how fast the replication stream grows.
func (f *facts) measure(later map[string]string, seconds float64) {
	before, after := facts{info: f.info}, facts{info: later}
	f.info = later
	same := func(name string) bool { return before.info[name] == later[name] }
	if seconds <= 0 || !same("run_id") {
		return // another process answers
	}
	grown := func(name string) bool {
		from, ok := before.number(name)
		to, ok2 := after.number(name)
		if ok = ok && ok2 && to >= from; ok {
			f.make("write.rate", (to-from)/seconds)
		}
		return ok
	}
	f.make("measured", seconds)
	f.made["rate.by"] = f.text("measured over ${span:measured}")
	switch {
	case before.holds("repl_backlog_active=1") && after.holds("repl_backlog_active=1") && grown("master_repl_offset"):
	// Without a backlog the offset stands still (replicationFeedSlaves in
	// Redis' replication.c).
	case same("rdb_last_save_time") && same("rdb_changes_since_last_save") && grown("rdb_changes_since_last_save"):
	case grown("total_net_input_bytes"):
		f.made["rate.by"] = "at most: all that clients sent, " + f.made["rate.by"] + ", for without a backlog the master does not count writes alone"
	}
}

// room tells what is free in dir, which need not exist: in the nearest folder
// above it that does.
func room(dir string) map[string]string {
	dir, _ = filepath.Abs(dir)
	for _, err := os.Stat(dir); os.IsNotExist(err) && dir != filepath.Dir(dir); _, err = os.Stat(dir) {
		dir = filepath.Dir(dir)
	}
	err := unix.Access(dir+"/.", unix.W_OK|unix.X_OK)
	free, err2 := archive.Free(dir)
	if err = cmp.Or(err, err2); err != nil {
		return map[string]string{"disk.trouble": fmt.Sprintf("%v: %s", err, dir)}
	}
	return map[string]string{"disk.dir": dir, "disk.free": strconv.FormatInt(free, 10)}
}
