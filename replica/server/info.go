package server

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"replicad/replica/archive"
	"replicad/replica/status"
)

// redisVersion is the version whose answers these are: clients and tools choose
// by it what they ask.
const redisVersion = "7.0.15"

const noReplID = "0000000000000000000000000000000000000000"

// cached is what the archive looked like a moment ago.
type cached struct {
	mu sync.Mutex
	at time.Time
	m  archive.Master
	ok bool
}

const archiveEvery = time.Second

// onDisk describes the archive. Clients that ask at the same time wait for one
// reading.
func (s *Server) onDisk() (archive.Master, bool) {
	c := &s.archive
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); c.at.IsZero() || now.Sub(c.at) >= archiveEvery || now.Before(c.at) {
		m, err := s.backend.Archive()
		c.m, c.ok, c.at = m, err == nil, time.Now()
		if err != nil {
			s.cfg.Log.Warn("the archive can't be described", "error", err)
		}
	}
	return c.m, c.ok
}

// newest is the last complete generation.
func (s *Server) newest() (archive.Generation, bool) {
	m, _ := s.onDisk()
	for i := len(m.Generations) - 1; i >= 0; i-- {
		if m.Generations[i].Complete {
			return m.Generations[i], true
		}
	}
	return archive.Generation{}, false
}

func (s *Server) lastSave() time.Time {
	if g, ok := s.newest(); ok && !g.From.IsZero() {
		return g.From
	}
	return s.started
}

// section is a part of INFO.
type section struct {
	name   string // as asked for
	title  string
	always bool // in the default set
	write  func(s *Server, f *fields)
}

// sections gives INFO's parts, in Redis' order, and one of replicad's own.
func sections() []section {
	return []section{
		{"server", "Server", true, infoServer},
		{"clients", "Clients", true, infoClients},
		{"memory", "Memory", true, infoMemory},
		{"persistence", "Persistence", true, infoPersistence},
		{"stats", "Stats", true, infoStats},
		{"replication", "Replication", true, infoReplication},
		{"cpu", "CPU", true, infoCPU},
		{"modules", "Modules", true, func(*Server, *fields) {}},
		{"commandstats", "Commandstats", false, func(*Server, *fields) {}},
		{"errorstats", "Errorstats", true, func(*Server, *fields) {}},
		{"latencystats", "Latencystats", false, func(*Server, *fields) {}},
		{"cluster", "Cluster", true, func(_ *Server, f *fields) { f.add("cluster_enabled", 0) }},
		{"keyspace", "Keyspace", true, func(*Server, *fields) {}},
		{"archive", "Archive", true, infoArchive},
	}
}

// fields collects lines.
type fields struct{ b strings.Builder }

func (f *fields) add(name string, v any) { fmt.Fprintf(&f.b, "%s:%v\r\n", name, v) }

func (f *fields) flag(name string, on bool) {
	n := 0
	if on {
		n = 1
	}
	f.add(name, n)
}

// unix is a time in seconds, 0 for none.
func (f *fields) unix(name string, t time.Time) {
	n := int64(0)
	if !t.IsZero() {
		n = t.Unix()
	}
	f.add(name, n)
}

func info(c *client, args [][]byte) {
	wanted := map[string]bool{}
	for _, a := range args[1:] {
		wanted[lower(a)] = true
	}
	all := wanted["all"] || wanted["everything"]
	byDefault := len(wanted) == 0 || wanted["default"]
	var f fields
	for _, s := range sections() {
		if !all && !wanted[s.name] && !(byDefault && s.always) {
			continue
		}
		if f.b.Len() > 0 {
			f.b.WriteString("\r\n")
		}
		f.b.WriteString("# " + s.title + "\r\n")
		s.write(c.s, &f)
	}
	c.reply.text(f.b.String())
}

func infoServer(s *Server, f *fields) {
	up := time.Since(s.started)
	f.add("redis_version", redisVersion)
	f.add("redis_mode", "standalone")
	f.add("replicad_version", s.cfg.Version)
	f.add("os", kernel())
	f.add("arch_bits", strconv.IntSize)
	f.add("multiplexing_api", "epoll")
	f.add("go_version", runtime.Version())
	f.add("process_id", os.Getpid())
	f.add("process_supervised", "no")
	f.add("run_id", s.runID)
	port := s.cfg.Port
	if port == 0 {
		port = s.cfg.TLSPort
	}
	f.add("tcp_port", port)
	f.add("server_time_usec", time.Now().UnixMicro())
	f.add("uptime_in_seconds", seconds(up))
	f.add("uptime_in_days", int64(up/(24*time.Hour)))
	exe, _ := os.Executable()
	f.add("executable", exe)
}

func kernel() string {
	var u syscall.Utsname
	if syscall.Uname(&u) != nil {
		return runtime.GOOS
	}
	return chars(u.Sysname[:]) + " " + chars(u.Release[:]) + " " + chars(u.Machine[:])
}

func chars(p []int8) string {
	var b strings.Builder
	for _, c := range p {
		if c == 0 {
			break
		}
		b.WriteByte(byte(c))
	}
	return b.String()
}

func infoClients(s *Server, f *fields) {
	all, subscribers := s.all(), 0
	for _, c := range all {
		if c.subscribed() {
			subscribers++
		}
	}
	f.add("connected_clients", len(all))
	f.add("maxclients", s.cfg.MaxClients)
	f.add("client_recent_max_input_buffer", 0)
	f.add("client_recent_max_output_buffer", 0)
	f.add("blocked_clients", 0)
	f.add("pubsub_clients", subscribers)
}

func infoMemory(_ *Server, f *fields) {
	resident, peak := residentMemory()
	f.add("used_memory", resident)
	f.add("used_memory_human", human(resident))
	f.add("used_memory_rss", resident)
	f.add("used_memory_rss_human", human(resident))
	f.add("used_memory_peak", peak)
	f.add("used_memory_peak_human", human(peak))
	f.add("used_memory_dataset", 0)
	f.add("maxmemory", 0)
	f.add("maxmemory_human", human(0))
	f.add("maxmemory_policy", "noeviction")
	f.add("mem_fragmentation_ratio", "1.00")
	f.add("mem_allocator", "go")
}

// residentMemory reads VmRSS and VmHWM of proc(5), in bytes.
func residentMemory() (now, peak int64) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, 0
	}
	for line := range bytes.Lines(b) {
		for name, to := range map[string]*int64{"VmRSS:": &now, "VmHWM:": &peak} {
			if v, ok := bytes.CutPrefix(line, []byte(name)); ok {
				n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(string(v)), "kB")), 10, 64)
				*to = n << 10
			}
		}
	}
	return now, peak
}

// human is a size as INFO writes it (bytesToHuman in server.c).
func human(n int64) string {
	for _, u := range []struct {
		size int64
		name string
	}{{1 << 40, "T"}, {1 << 30, "G"}, {1 << 20, "M"}, {1 << 10, "K"}} {
		if n >= u.size {
			return fmt.Sprintf("%.2f%s", float64(n)/float64(u.size), u.name)
		}
	}
	return strconv.FormatInt(n, 10) + "B"
}

func infoPersistence(s *Server, f *fields) {
	st := s.backend.Status()
	g, _ := s.newest()
	f.add("loading", 0)
	f.add("async_loading", 0)
	f.add("rdb_changes_since_last_save", 0)
	f.flag("rdb_bgsave_in_progress", st.Rebase.Running)
	f.unix("rdb_last_save_time", s.lastSave())
	f.add("rdb_last_bgsave_status", okOr(st.Rebase.LastFailure == ""))
	f.add("rdb_last_bgsave_time_sec", lastTook(st.Rebase))
	f.add("rdb_current_bgsave_time_sec", current(st.Rebase))
	f.add("aof_enabled", 1)
	f.flag("aof_rewrite_in_progress", st.Rebase.Running)
	f.add("aof_rewrite_scheduled", 0)
	f.add("aof_last_rewrite_time_sec", lastTook(st.Rebase))
	f.add("aof_current_rewrite_time_sec", current(st.Rebase))
	f.add("aof_last_bgrewrite_status", okOr(st.Rebase.LastFailure == ""))
	f.add("aof_last_write_status", okOr(st.Stalled == ""))
	f.add("aof_current_size", g.Bytes)
	f.add("aof_base_size", g.BaseBytes)
	f.add("aof_pending_rewrite", 0)
	f.add("aof_buffer_length", max(0, st.Received-st.Stored))
	f.add("aof_pending_bio_fsync", 0)
	f.add("aof_delayed_fsync", 0)
}

func okOr(ok bool) string {
	if ok {
		return "ok"
	}
	return "err"
}

func lastTook(r status.Rebase) int64 {
	if r.Done == 0 {
		return -1
	}
	return seconds(r.LastTook)
}

func current(r status.Rebase) int64 {
	if !r.Running {
		return -1
	}
	return seconds(time.Since(r.Began))
}

func infoStats(s *Server, f *fields) {
	st := s.backend.Status()
	f.add("total_connections_received", s.connections.Load())
	f.add("total_commands_processed", s.processed.Load())
	f.add("total_net_input_bytes", s.bytesIn.Load())
	f.add("total_net_output_bytes", s.bytesOut.Load())
	f.add("total_net_repl_input_bytes", st.BytesIn)
	f.add("total_net_repl_output_bytes", st.BytesOut)
	f.add("rejected_connections", s.rejected.Load())
	f.add("sync_full", 0) // of replicas of its own, as the next two
	f.add("sync_partial_ok", 0)
	f.add("sync_partial_err", 0)
	f.add("expired_keys", 0)
	f.add("evicted_keys", 0)
	f.add("keyspace_hits", 0)
	f.add("keyspace_misses", 0)
	s.broker.mu.Lock()
	channels, patterns := len(s.broker.channels), len(s.broker.patterns)
	s.broker.mu.Unlock()
	f.add("pubsub_channels", channels)
	f.add("pubsub_patterns", patterns)
	f.add("total_error_replies", s.errors.Load())
	f.add("client_query_buffer_limit_disconnections", s.protocolFault.Load())
	f.add("client_output_buffer_limit_disconnections", s.cutOutput.Load())
	f.add("acl_access_denied_auth", s.authFailures.Load())
}

func infoReplication(s *Server, f *fields) {
	st := s.backend.Status()
	now := time.Now()
	host, port := st.HostPort()
	f.add("role", "slave")
	f.add("master_host", oneLine(host))
	f.add("master_port", port)
	link := "down"
	if st.Up() {
		link = "up"
	}
	f.add("master_link_status", link)
	io := int64(-1)
	if st.Up() && !st.LastByte.IsZero() {
		io = seconds(now.Sub(st.LastByte))
	}
	f.add("master_last_io_seconds_ago", io)
	f.flag("master_sync_in_progress", st.Transfer.Running())
	f.add("slave_read_repl_offset", st.Received)
	f.add("slave_repl_offset", st.Stored)
	if t := st.Transfer; t.Running() {
		f.add("master_sync_total_bytes", t.Total)
		f.add("master_sync_read_bytes", t.Bytes)
		f.add("master_sync_left_bytes", t.Total-t.Bytes)
		percent := 0.0
		if t.Total > 0 {
			percent = 100 * float64(t.Bytes) / float64(t.Total)
		}
		f.add("master_sync_perc", strconv.FormatFloat(percent, 'f', 2, 64))
		f.add("master_sync_last_io_seconds_ago", seconds(now.Sub(t.Changed)))
	}
	if !st.Up() {
		f.add("master_link_down_since_seconds", seconds(now.Sub(st.DownSince)))
	}
	f.add("slave_priority", 0)
	f.add("slave_read_only", 1)
	f.add("replica_announced", 0)
	f.add("connected_slaves", 0)
	f.add("master_failover_state", "no-failover")
	f.add("master_replid", orNone(st.ReplID))
	f.add("master_replid2", orNone(st.FormerReplID))
	f.add("master_repl_offset", st.Stored)
	f.add("second_repl_offset", st.SecondOffset)
	f.add("repl_backlog_active", 0)
	f.add("repl_backlog_size", 0)
	f.add("repl_backlog_first_byte_offset", 0)
	f.add("repl_backlog_histlen", 0)
}

func orNone(id string) string {
	if id == "" {
		return noReplID
	}
	return id
}

func infoCPU(_ *Server, f *fields) {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	f.add("used_cpu_sys", cpu(u.Stime))
	f.add("used_cpu_user", cpu(u.Utime))
}

func cpu(t syscall.Timeval) string { return fmt.Sprintf("%d.%06d", t.Sec, t.Usec) }

// infoArchive tells what is on disk and can be restored.
func infoArchive(s *Server, f *fields) {
	st := s.backend.Status()
	m, readable := s.onDisk()
	var oldest, newest time.Time
	var size, complete, damaged int64
	for _, g := range m.Generations {
		size += g.Bytes
		if g.Problem != "" {
			damaged++
		}
		if !g.Complete {
			continue
		}
		complete++
		if oldest.IsZero() {
			oldest = g.From
		}
		newest = g.To
	}
	f.flag("archive_readable", readable)
	f.add("archive_dir", oneLine(m.Dir))
	f.add("archive_bytes", size)
	f.add("archive_generations", complete)
	f.add("archive_generations_damaged", damaged)
	f.unix("archive_oldest_restorable_time", oldest)
	f.unix("archive_newest_restorable_time", newest)
	f.add("archive_received_offset", st.Received)
	f.add("archive_stored_offset", st.Stored)
	f.add("archive_fsynced_offset", st.Durable)
	f.add("archive_acked_offset", st.Acked)
	f.add("archive_lag_bytes", st.LagBytes())
	lag := int64(0)
	if since := s.backend.LagSince(); !since.IsZero() {
		lag = seconds(time.Since(since))
	}
	f.add("archive_lag_seconds", lag)
	f.flag("archive_stalled", st.Stalled != "")
	f.add("archive_full_syncs", st.FullSyncsDone)
	f.add("archive_partial_syncs", st.PartialSyncs)
	f.add("archive_commands", st.Commands)
	f.flag("archive_rebase_in_progress", st.Rebase.Running)
	f.add("archive_rebases_done", st.Rebase.Done)
	f.add("archive_rebases_failed", st.Rebase.Failed)
	f.add("archive_segments_damaged", st.SegmentsDamaged)
	f.flag("archive_overfull", st.Overfull)
	f.add("link_state", st.State.String())
	f.add("link_phase", st.Phase.String())
	f.add("link_last_failure", oneLine(st.LastFailure))
}
