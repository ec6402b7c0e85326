package respport

import (
	"cmp"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"replicad/replica"
	"replicad/replica/daemon/status"
)

func (s *Server) infoServer(f *fields) {
	var u unix.Utsname
	_ = unix.Uname(&u)
	now := time.Now()
	up := int64(now.Sub(s.started).Seconds())
	executable, _ := os.Executable()
	f.set("redis_version", RedisVersion)
	f.set("redis_git_sha1", "00000000")
	f.set("redis_git_dirty", 0)
	f.set("redis_build_id", "0")
	f.set("redis_mode", "standalone")
	f.set("replicad_version", s.cfg.Version)
	f.set("os", fmt.Sprintf("%s %s %s", unix.ByteSliceToString(u.Sysname[:]), unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Machine[:])))
	f.set("arch_bits", 32<<(^uint(0)>>63))
	f.set("monotonic_clock", "POSIX clock_gettime")
	f.set("multiplexing_api", "epoll")
	f.set("atomicvar_api", "go-atomic")
	f.set("gcc_version", "0.0.0")
	f.set("go_version", runtime.Version())
	f.set("process_id", os.Getpid())
	f.set("process_supervised", "no")
	f.set("run_id", s.runID)
	f.set("tcp_port", s.cfg.Port)
	f.set("server_time_usec", now.UnixMicro())
	f.set("uptime_in_seconds", up)
	f.set("uptime_in_days", up/86400)
	f.set("hz", 1)
	f.set("configured_hz", 1)
	f.set("lru_clock", now.Unix()&(1<<24-1))
	f.set("executable", executable)
	f.set("config_file", "")
	f.set("io_threads_active", 0)
}

func (s *Server) infoClients(f *fields) {
	all := s.connected()
	waiting, subscribers := 0, 0
	for _, c := range all {
		if v := c.snapshot(); v.subscribed() {
			subscribers++
		}
		if o := c.out.Load(); o != nil {
			waiting = max(waiting, o.waiting())
		}
	}
	f.set("connected_clients", len(all))
	f.set("cluster_connections", 0)
	f.set("maxclients", s.cfg.MaxClients)
	f.set("client_recent_max_input_buffer", 0)
	f.set("client_recent_max_output_buffer", waiting)
	f.set("blocked_clients", 0)
	f.set("tracking_clients", 0)
	f.set("clients_in_timeout_table", 0)
	f.set("pubsub_clients", subscribers)
}

func (s *Server) infoMemory(f *fields) {
	m := readMemory()
	s.stats.mu.Lock()
	s.stats.peak = max(s.stats.peak, m.used)
	peak := s.stats.peak
	s.stats.mu.Unlock()
	sized := func(name string, n int64) {
		f.set(name, n)
		f.set(name+"_human", human(n))
	}
	sized("used_memory", m.used)
	sized("used_memory_rss", m.rss)
	sized("used_memory_peak", peak)
	f.set("used_memory_peak_perc", percent(m.used, peak))
	f.set("used_memory_overhead", m.used)
	f.set("used_memory_startup", 0)
	f.set("used_memory_dataset", 0)
	f.set("used_memory_dataset_perc", "0.00%")
	f.set("allocator_allocated", m.heap)
	f.set("allocator_active", m.used)
	f.set("allocator_resident", m.rss)
	sized("total_system_memory", m.total)
	f.set("used_memory_lua", 0)
	f.set("used_memory_vm_eval", 0)
	f.set("used_memory_lua_human", human(0))
	f.set("used_memory_scripts_eval", 0)
	f.set("number_of_cached_scripts", 0)
	f.set("number_of_functions", 0)
	f.set("number_of_libraries", 0)
	f.set("used_memory_vm_functions", 0)
	sized("used_memory_vm_total", 0)
	f.set("used_memory_functions", 0)
	sized("used_memory_scripts", 0)
	sized("maxmemory", 0)
	f.set("maxmemory_policy", "noeviction")
	f.set("allocator_frag_ratio", ratio(m.used, m.heap))
	f.set("allocator_frag_bytes", max(0, m.used-m.heap))
	f.set("allocator_rss_ratio", ratio(m.rss, m.used))
	f.set("allocator_rss_bytes", m.rss-m.used)
	f.set("rss_overhead_ratio", "1.00")
	f.set("rss_overhead_bytes", 0)
	f.set("mem_fragmentation_ratio", ratio(m.rss, m.used))
	f.set("mem_fragmentation_bytes", m.rss-m.used)
	f.set("mem_not_counted_for_evict", 0)
	f.set("mem_replication_backlog", 0)
	f.set("mem_total_replication_buffers", 0)
	f.set("mem_clients_slaves", 0)
	f.set("mem_clients_normal", s.memory.used.Load())
	f.set("mem_cluster_links", 0)
	f.set("mem_aof_buffer", 0)
	f.set("mem_allocator", runtime.Version())
	f.set("active_defrag_running", 0)
	f.set("lazyfree_pending_objects", 0)
	f.set("lazyfreed_objects", 0)
}

// infoPersistence puts the archive into Redis' terms: the base of a generation
// is its RDB, the stream its AOF, a rebase its rewrite.
func (s *Server) infoPersistence(f *fields) {
	st := s.state.get()
	g := f.newest()
	failed := "ok"
	if st.Rebase.LastFailure != "" && st.Rebase.Failed > 0 {
		failed = "err"
	}
	write := "ok"
	if st.Stalled != "" {
		write = "err"
	}
	running, took := int64(-1), int64(-1)
	if st.Rebase.Running {
		running = seconds(st.Rebase.Began)
	}
	if st.Rebase.Done > 0 {
		took = int64(st.Rebase.LastTook.Seconds())
	}
	f.set("loading", 0)
	f.set("async_loading", 0)
	f.set("current_cow_peak", 0)
	f.set("current_cow_size", 0)
	f.set("current_cow_size_age", 0)
	f.set("current_fork_perc", "0.00")
	f.set("current_save_keys_processed", 0)
	f.set("current_save_keys_total", 0)
	f.set("rdb_changes_since_last_save", 0)
	f.flag("rdb_bgsave_in_progress", st.Rebase.Running)
	f.set("rdb_last_save_time", f.lastSave())
	f.set("rdb_last_bgsave_status", failed)
	f.set("rdb_last_bgsave_time_sec", took)
	f.set("rdb_current_bgsave_time_sec", running)
	f.set("rdb_saves", st.FullSyncsDone+st.Rebase.Done)
	f.set("rdb_last_cow_size", 0)
	f.set("rdb_last_load_keys_expired", 0)
	f.set("rdb_last_load_keys_loaded", 0)
	f.set("aof_enabled", 1)
	f.flag("aof_rewrite_in_progress", st.Rebase.Running)
	f.set("aof_rewrite_scheduled", 0)
	f.set("aof_last_rewrite_time_sec", took)
	f.set("aof_current_rewrite_time_sec", running)
	f.set("aof_last_bgrewrite_status", failed)
	f.set("aof_rewrites", st.Rebase.Done)
	f.set("aof_rewrites_consecutive_failures", 0)
	f.set("aof_last_write_status", write)
	f.set("aof_last_cow_size", 0)
	f.set("module_fork_in_progress", 0)
	f.set("module_fork_last_cow_size", 0)
	f.set("aof_current_size", g.Bytes)
	f.set("aof_base_size", g.BaseBytes)
	f.set("aof_pending_rewrite", 0)
	f.set("aof_buffer_length", st.LagBytes())
	f.set("aof_pending_bio_fsync", 0)
	f.set("aof_delayed_fsync", 0)
}

func (s *Server) infoStats(f *fields) {
	st, k := s.state.get(), &s.stats
	r := k.perSecond()
	kbps := func(n int64) string { return fmt.Sprintf("%.2f", float64(n)/1024) }
	f.set("total_connections_received", k.connections.Load())
	f.set("total_commands_processed", k.commands.Load())
	f.set("instantaneous_ops_per_sec", r.per.commands)
	f.set("total_net_input_bytes", k.in.Load())
	f.set("total_net_output_bytes", k.out.Load())
	f.set("total_net_repl_input_bytes", st.BytesIn)
	f.set("total_net_repl_output_bytes", st.BytesOut)
	f.set("instantaneous_input_kbps", kbps(r.per.in))
	f.set("instantaneous_output_kbps", kbps(r.per.out))
	f.set("instantaneous_input_repl_kbps", kbps(r.replIn))
	f.set("instantaneous_output_repl_kbps", kbps(r.replOut))
	f.set("rejected_connections", k.rejected.Load())
	for _, name := range []string{"sync_full", "sync_partial_ok", "sync_partial_err", "expired_keys"} {
		f.set(name, 0)
	}
	f.set("expired_stale_perc", "0.00")
	for _, name := range []string{"expired_time_cap_reached_count", "expire_cycle_cpu_milliseconds", "evicted_keys", "evicted_clients",
		"total_eviction_exceeded_time", "current_eviction_exceeded_time", "keyspace_hits", "keyspace_misses"} {
		f.set(name, 0)
	}
	f.set("pubsub_channels", s.pubsub.count(channel))
	f.set("pubsub_patterns", s.pubsub.count(pattern))
	f.set("pubsubshard_channels", s.pubsub.count(shard))
	for _, name := range []string{"latest_fork_usec", "total_forks", "migrate_cached_sockets", "slave_expires_tracked_keys", "active_defrag_hits",
		"active_defrag_misses", "active_defrag_key_hits", "active_defrag_key_misses", "total_active_defrag_time", "current_active_defrag_time",
		"tracking_total_keys", "tracking_total_items", "tracking_total_prefixes"} {
		f.set(name, 0)
	}
	f.set("unexpected_error_replies", 0)
	f.set("total_error_replies", k.errors.Load())
	f.set("dump_payload_sanitizations", 0)
	f.set("total_reads_processed", k.reads.Load())
	f.set("total_writes_processed", k.writes.Load())
	// These are 7.2's.
	f.set("client_query_buffer_limit_disconnections", k.protocolErrors.Load())
	f.set("client_output_buffer_limit_disconnections", k.unread.Load())
	f.set("acl_access_denied_auth", k.denied.Load())
	for _, name := range []string{"io_threaded_reads_processed", "io_threaded_writes_processed", "reply_buffer_shrinks", "reply_buffer_expands"} {
		f.set(name, 0)
	}
}

const noReplID = "0000000000000000000000000000000000000000"

// infoReplication is what Sentinel reads.
func (s *Server) infoReplication(f *fields) {
	st := s.state.get()
	host, port := st.HostPort()
	link, lastIO := "down", int64(-1)
	if st.Up() {
		link, lastIO = "up", seconds(st.LastByte)
	}
	syncing := st.Phase == replica.Transfer
	second := int64(-1)
	if st.SecondOffset >= 0 {
		second = st.SecondOffset + 1 // Redis gives the first offset that is not the former history's
	}
	f.set("role", "slave")
	f.set("master_host", host)
	f.set("master_port", port)
	f.set("master_link_status", link)
	f.set("master_last_io_seconds_ago", lastIO)
	f.flag("master_sync_in_progress", syncing)
	f.set("slave_read_repl_offset", st.Received)
	f.set("slave_repl_offset", st.Stored)
	if syncing {
		infoTransfer(f, st.Transfer)
	}
	if !st.Up() {
		f.set("master_link_down_since_seconds", seconds(st.DownSince))
	}
	f.set("slave_priority", 0)
	f.set("slave_read_only", 1)
	f.set("replica_announced", 0)
	f.set("connected_slaves", 0)
	f.set("master_failover_state", "no-failover")
	f.set("master_replid", cmp.Or(st.ReplID, noReplID))
	f.set("master_replid2", cmp.Or(st.FormerReplID, noReplID))
	f.set("master_repl_offset", st.Stored)
	f.set("second_repl_offset", second)
	f.set("repl_backlog_active", 0)
	f.set("repl_backlog_size", 0)
	f.set("repl_backlog_first_byte_offset", 0)
	f.set("repl_backlog_histlen", 0)
}

func infoTransfer(f *fields, t status.Transfer) {
	total, left, perc := t.Total, t.Total-t.Bytes, "0.00"
	if total <= 0 { // a master that streams its RDB does not say
		total, left = 0, 0
	} else {
		perc = fmt.Sprintf("%.2f", 100*float64(t.Bytes)/float64(total))
	}
	f.set("master_sync_total_bytes", total)
	f.set("master_sync_read_bytes", t.Bytes)
	f.set("master_sync_left_bytes", max(0, left))
	f.set("master_sync_perc", perc)
	f.set("master_sync_last_io_seconds_ago", seconds(t.Changed))
}

// infoArchive tells what Redis has no words for. Times are in unix seconds; -1
// where there is none.
func (s *Server) infoArchive(f *fields) {
	st := s.state.get()
	g := f.newest()
	m, err := f.archive()
	var bytes int64
	oldest, newest := int64(-1), int64(-1)
	damaged := 0
	for _, one := range m.Generations {
		bytes += one.Bytes
		damaged += one.Damaged
		if oldest < 0 && one.Complete && !one.From.IsZero() {
			oldest = one.From.Unix()
		}
		if one.Complete && !one.To.IsZero() {
			newest = max(newest, one.To.Unix())
		}
	}
	f.set("archive_dir", oneLine(m.Dir))
	f.set("archive_state", replica.Place(st.State, st.Phase))
	f.set("archive_generations", len(m.Generations))
	f.set("archive_generation", g.Number)
	f.set("archive_bytes", bytes)
	f.set("archive_oldest_restorable_time", oldest)
	f.set("archive_newest_restorable_time", newest)
	f.set("archive_base_offset", g.BaseOffset)
	f.set("archive_base_bytes", g.BaseBytes)
	f.flag("archive_base_verified", g.BaseVerified)
	f.set("archive_segments", g.Segments)
	f.set("archive_segments_verified", g.Verified)
	f.set("archive_segments_damaged", damaged)
	f.set("archive_received_offset", st.Received)
	f.set("archive_stored_offset", st.Stored)
	f.set("archive_fsynced_offset", st.Durable)
	f.set("archive_lag_bytes", st.LagBytes())
	lag := 0.0
	if since := s.backend.LagSince(); !since.IsZero() {
		lag = max(0, time.Since(since).Seconds())
	}
	f.set("archive_lag_seconds", fmt.Sprintf("%.3f", lag))
	f.flag("archive_paused", st.Paused)
	f.flag("archive_stalled", st.Stalled != "")
	f.set("archive_stalled_reason", oneLine(st.Stalled))
	f.flag("archive_over_max_bytes", st.Overfull)
	f.flag("archive_rebase_in_progress", st.Rebase.Running)
	f.set("archive_rebases", st.Rebase.Done)
	f.set("archive_rebases_failed", st.Rebase.Failed)
	f.set("archive_generations_pruned", st.GenerationsPruned)
	f.set("archive_full_syncs", st.FullSyncsDone)
	f.set("archive_partial_syncs", st.PartialSyncs)
	f.set("archive_last_failure", oneLine(st.LastFailure))
	problem := ""
	if err != nil {
		problem = err.Error()
	}
	f.set("archive_problem", oneLine(cmp.Or(problem, g.Problem)))
}

func (s *Server) infoCPU(f *fields) {
	for _, u := range []struct {
		who  int
		tail string
	}{{unix.RUSAGE_SELF, ""}, {unix.RUSAGE_CHILDREN, "_children"}} {
		var r unix.Rusage
		_ = unix.Getrusage(u.who, &r)
		f.set("used_cpu_sys"+u.tail, fmt.Sprintf("%d.%06d", r.Stime.Sec, r.Stime.Usec))
		f.set("used_cpu_user"+u.tail, fmt.Sprintf("%d.%06d", r.Utime.Sec, r.Utime.Usec))
	}
}

func (s *Server) infoCommandstats(f *fields) {
	for _, c := range s.commands.all {
		k := &s.stats.calls[c.index]
		calls, rejected := k.calls.Load(), k.rejected.Load()
		if calls == 0 && rejected == 0 {
			continue
		}
		us := k.nanoseconds.Load() / 1000
		f.set("cmdstat_"+c.name, fmt.Sprintf("calls=%d,usec=%d,usec_per_call=%.2f,rejected_calls=%d,failed_calls=%d",
			calls, us, float64(us)/float64(max(1, calls)), rejected, k.failed.Load()))
	}
}

func (s *Server) infoErrorstats(f *fields) {
	codes, n := s.stats.errorCodes()
	for _, code := range codes {
		f.set("errorstat_"+code, fmt.Sprintf("count=%d", n[code]))
	}
}

// seconds is how long ago something was; -1 where it was not.
func seconds(t time.Time) int64 {
	if t.IsZero() {
		return -1
	}
	return max(0, int64(time.Since(t).Seconds()))
}

// oneLine keeps a text from looking like fields of INFO.
func oneLine(s string) string { return strings.NewReplacer("\r", " ", "\n", " ").Replace(s) }

// human is bytesToHuman of server.c.
func human(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%dB", n)
	}
	v, unit := float64(n), 0
	for v >= 1024 && unit < 5 {
		v, unit = v/1024, unit+1
	}
	return fmt.Sprintf("%.2f%c", v, " KMGTP"[unit])
}

func percent(n, of int64) string { return fmt.Sprintf("%.2f%%", 100*float64(n)/float64(max(1, of))) }

func ratio(a, b int64) string { return fmt.Sprintf("%.2f", float64(a)/float64(max(1, b))) }
