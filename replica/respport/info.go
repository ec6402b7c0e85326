package respport

import (
	_ "embed"
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync"
	"text/template"
	"time"

	"golang.org/x/sys/unix"

	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/daemon/status"
	"replicad/replica/units"
)

//go:embed info.tmpl
var infoText string

// titles are those of the sections, in Redis' order (genRedisInfoString in
// server.c); Archive is replicad's own. Each is a template of info.tmpl.
const titles = "Server Clients Memory Persistence Stats Replication Archive CPU Cluster Keyspace"

// infoTemplate reads info.tmpl.
func infoTemplate() *template.Template {
	return template.Must(template.New("").Funcs(template.FuncMap{
		"ago":     ago,
		"flag":    func(b bool) int { return map[bool]int{true: 1}[b] },
		"human":   units.Size,
		"less":    func(a, b int64) int64 { return max(0, a-b) },
		"line":    func(s string) string { return units.Printable(s, 1<<10) },
		"now":     time.Now,
		"noid":    func() string { return strings.Repeat("0", 40) },
		"percent": func(a, b int64) string { return ratio(100*a, b) },
		"ratio":   ratio,
		"seconds": func(d time.Duration) int64 { return int64(d.Seconds()) },
	}).Parse(infoText))
}

// info is INFO [section ...].
func info(q *request) {
	wanted := map[string]bool{}
	for _, a := range q.args[1:] {
		wanted[lower(a)] = true
	}
	all := len(q.args) == 1 || wanted["default"] || wanted["all"] || wanted["everything"]
	v := newView(q)
	var b strings.Builder
	for _, title := range strings.Fields(titles) {
		if !all && !wanted[strings.ToLower(title)] {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		b.WriteString("# " + title + "\n")
		if err := q.s.info.ExecuteTemplate(&b, title, v); err != nil {
			q.error("ERR " + err.Error())
			return
		}
	}
	q.text(strings.ReplaceAll(b.String(), "\n", "\r\n"))
}

// view is what one INFO tells of. What it needs is read once. info.tmpl reads its
// fields and methods.
type view struct {
	status.Status
	Counts *counters
	Rates  *rates

	s       *Server
	archive func() (archive.Master, error)
}

func newView(q *request) *view {
	// A disk may be slow: others are answered meanwhile.
	read := func() (m archive.Master, err error) {
		q.waiting(func() { m, err = q.s.backend.Archive() })
		return m, err
	}
	return &view{q.s.backend.Status(), q.s.count(), q.s.rates.Load(), q.s, sync.OnceValues(read)}
}

// Process is what the section Server tells.
func (v *view) Process() map[string]any {
	var u unix.Utsname
	_ = unix.Uname(&u)
	now, text := time.Now(), unix.ByteSliceToString
	executable, _ := os.Executable()
	return map[string]any{
		"redis_version":     RedisVersion,
		"replicad_version":  v.s.cfg.Version,
		"os":                fmt.Sprintf("%s %s %s", text(u.Sysname[:]), text(u.Release[:]), text(u.Machine[:])),
		"arch_bits":         32 << (^uint(0) >> 63),
		"go_version":        runtime.Version(),
		"process_id":        os.Getpid(),
		"run_id":            v.s.runID,
		"tcp_port":          v.s.cfg.Port,
		"server_time_usec":  now.UnixMicro(),
		"uptime_in_seconds": ago(v.s.started),
		"uptime_in_days":    ago(v.s.started) / 86400,
		"lru_clock":         now.Unix() & (1<<24 - 1),
		"executable":        executable,
	}
}

// Clients is what the section Clients tells.
func (v *view) Clients() map[string]int {
	all := v.s.connected()
	n := map[string]int{"connected": len(all), "max": v.s.cfg.MaxClients, "waiting": 0, "subscribers": 0}
	for _, c := range all {
		if seen := c.snapshot(); seen.subscribed() {
			n["subscribers"]++
		}
		n["waiting"] = max(n["waiting"], c.out.waiting())
	}
	return n
}

// usage is the memory of the process, in bytes.
type usage struct {
	Used    int64 // what the Go runtime has of the system
	Heap    int64 // what objects have of that
	RSS     int64 // as the kernel counts
	Total   int64 // the host's
	Peak    int64 // the most that it was, as the kernel counts
	Clients int64 // what clients hold
}

// Memory is what the section Memory tells. The runtime is asked without being
// stopped.
func (v *view) Memory() usage {
	m := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(m)
	u := usage{Used: int64(m[0].Value.Uint64() - m[1].Value.Uint64()), Heap: int64(m[2].Value.Uint64()), Clients: v.s.memory.used.Load()}
	u.Peak = max(u.Used, v.CPU(false).Maxrss*1024)
	if b, err := os.ReadFile("/proc/self/statm"); err == nil {
		var size, resident int64 // pages
		_, _ = fmt.Sscan(string(b), &size, &resident)
		u.RSS = resident * int64(os.Getpagesize())
	}
	var s unix.Sysinfo_t
	if unix.Sysinfo(&s) == nil {
		u.Total = int64(s.Totalram) * int64(s.Unit)
	}
	return u
}

// Channels and Patterns are how many names have subscribers.
func (v *view) Channels() int { return v.s.pubsub.count(channel) }
func (v *view) Patterns() int { return v.s.pubsub.count(pattern) }

// Host and Port are the master's.
func (v *view) Host() string { host, _ := v.HostPort(); return host }
func (v *view) Port() int    { _, port := v.HostPort(); return port }

// Syncing tells whether a full sync is under way.
func (v *view) Syncing() bool { return v.Phase == replica.Transfer }

// Place is the state of the link.
func (v *view) Place() string { return replica.Place(v.State, v.Phase) }

// Saves counts the bases that are complete.
func (v *view) Saves() int64 { return v.FullSyncsDone + v.Rebase.Done }

// FirstForeign is the first offset that is not of the former history; -1 without
// one.
func (v *view) FirstForeign() int64 {
	if v.SecondOffset < 0 {
		return -1
	}
	return v.SecondOffset + 1
}

// Archive describes what is on disk; the zero value if it can't be read.
func (v *view) Archive() archive.Master {
	m, _ := v.archive()
	return m
}

// Problem is what is wrong with the archive; "" if nothing is.
func (v *view) Problem() string {
	if _, err := v.archive(); err != nil {
		return err.Error()
	}
	return v.Newest().Problem
}

// Newest is the newest complete generation; the zero value if there is none.
func (v *view) Newest() (g archive.Generation) {
	for _, one := range v.Archive().Generations {
		if one.Complete {
			g = one
		}
	}
	return g
}

// LastSave is when the base of the newest generation was complete, in unix
// seconds; 0 if there is none.
func (v *view) LastSave() int64 { return max(0, v.Newest().From.Unix()) }

// totals are those of all generations; times are in unix seconds, -1 if there is
// none.
type totals struct {
	Damaged               int
	Bytes, Oldest, Newest int64
}

// Totals sums the generations up.
func (v *view) Totals() totals {
	t := totals{Oldest: -1, Newest: -1}
	for _, g := range v.Archive().Generations {
		t.Bytes += g.Frees
		t.Damaged += g.Damaged
		if t.Oldest < 0 && g.Complete && !g.From.IsZero() {
			t.Oldest = g.From.Unix()
		}
		if g.Complete && !g.To.IsZero() {
			t.Newest = max(t.Newest, g.To.Unix())
		}
	}
	return t
}

// CPU is the processor time of the process, or of its children.
func (v *view) CPU(children bool) unix.Rusage {
	who := unix.RUSAGE_SELF
	if children {
		who = unix.RUSAGE_CHILDREN
	}
	var r unix.Rusage
	_ = unix.Getrusage(who, &r)
	return r
}

// ago is how many seconds ago something was; -1 if it never was.
func ago(t time.Time) int64 {
	if t.IsZero() {
		return -1
	}
	return max(0, int64(time.Since(t).Seconds()))
}

// ratio is how many b there are in a.
func ratio(a, b int64) string { return fmt.Sprintf("%.2f", float64(a)/float64(max(1, b))) }
