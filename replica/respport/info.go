package respport

import (
	"fmt"
	"strings"

	"replicad/replica/archive"
)

// section is a part of INFO.
type section struct {
	name  string
	title string
	usual bool // shown without being asked for, as in Redis
	all   bool // shown by INFO all
	write func(*Server, *fields)
}

// sections are in Redis' order (genRedisInfoString); archive is our own.
func sections() []section {
	return []section{
		{"server", "Server", true, true, (*Server).infoServer},
		{"clients", "Clients", true, true, (*Server).infoClients},
		{"memory", "Memory", true, true, (*Server).infoMemory},
		{"persistence", "Persistence", true, true, (*Server).infoPersistence},
		{"stats", "Stats", true, true, (*Server).infoStats},
		{"replication", "Replication", true, true, (*Server).infoReplication},
		{"archive", "Archive", true, true, (*Server).infoArchive},
		{"cpu", "CPU", true, true, (*Server).infoCPU},
		{"modules", "Modules", true, false, func(*Server, *fields) {}},
		{"commandstats", "Commandstats", false, true, (*Server).infoCommandstats},
		{"errorstats", "Errorstats", true, true, (*Server).infoErrorstats},
		{"cluster", "Cluster", true, true, func(_ *Server, f *fields) { f.set("cluster_enabled", 0) }},
		{"keyspace", "Keyspace", true, true, func(*Server, *fields) {}},
	}
}

// fields is the text of INFO as it grows.
type fields struct {
	b strings.Builder
	q *request

	asked bool // for the archive: once, for a disk may be slow
	m     archive.Master
	err   error
}

// archive is what is on disk.
func (f *fields) archive() (archive.Master, error) {
	if !f.asked {
		f.asked = true
		f.q.waiting(func() { f.m, f.err = f.q.s.archiveNow() })
	}
	return f.m, f.err
}

// newest is the newest generation that is complete; the zero value where there
// is none.
func (f *fields) newest() (g archive.Generation) {
	m, _ := f.archive()
	for _, one := range m.Generations {
		if one.Complete {
			g = one
		}
	}
	return g
}

// lastSave is when the newest generation's base was complete, in unix seconds;
// 0 where there is none.
func (f *fields) lastSave() int64 {
	if g := f.newest(); !g.From.IsZero() {
		return g.From.Unix()
	}
	return 0
}

func (f *fields) set(name string, value any) { fmt.Fprintf(&f.b, "%s:%v\r\n", name, value) }

// flag is 1 or 0, as INFO has truth.
func (f *fields) flag(name string, value bool) {
	n := 0
	if value {
		n = 1
	}
	f.set(name, n)
}

// info is INFO [section ...].
func info(q *request) {
	wanted := map[string]bool{}
	for _, a := range q.args[1:] {
		wanted[lower(a)] = true
	}
	usual := len(q.args) == 1 || wanted["default"]
	all, everything := wanted["all"] || wanted["everything"], wanted["everything"]
	f := fields{q: q}
	for _, s := range sections() {
		if !(wanted[s.name] || usual && s.usual || all && s.all || everything) {
			continue
		}
		if f.b.Len() > 0 {
			f.b.WriteString("\r\n")
		}
		f.b.WriteString("# " + s.title + "\r\n")
		s.write(q.s, &f)
	}
	q.text(f.b.String())
}
