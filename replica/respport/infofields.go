package respport

import (
	"cmp"
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"replicad/replica"
)

// computed are the sections of INFO that have values to compute.
func computed() map[string]func(*view) values {
	return map[string]func(*view) values{
		"server":       (*view).server,
		"clients":      (*view).clients,
		"memory":       (*view).memory,
		"persistence":  (*view).persistence,
		"stats":        (*view).stats,
		"replication":  (*view).replication,
		"archive":      (*view).stored,
		"cpu":          (*view).cpu,
		"commandstats": (*view).commandStats,
		"errorstats":   (*view).errorStats,
	}
}

func (v *view) server() values {
	var u unix.Utsname
	_ = unix.Uname(&u)
	now := time.Now()
	up := int64(now.Sub(v.s.started).Seconds())
	executable, _ := os.Executable()
	text := unix.ByteSliceToString
	return values{
		"redis_version":     RedisVersion,
		"replicad_version":  v.s.cfg.Version,
		"os":                fmt.Sprintf("%s %s %s", text(u.Sysname[:]), text(u.Release[:]), text(u.Machine[:])),
		"arch_bits":         32 << (^uint(0) >> 63),
		"go_version":        runtime.Version(),
		"process_id":        os.Getpid(),
		"run_id":            v.s.runID,
		"tcp_port":          v.s.cfg.Port,
		"server_time_usec":  now.UnixMicro(),
		"uptime_in_seconds": up,
		"uptime_in_days":    up / 86400,
		"lru_clock":         now.Unix() & (1<<24 - 1),
		"executable":        executable,
		"config_file":       "",
	}
}

func (v *view) clients() values {
	all := v.s.connected()
	waiting, subscribers := 0, 0
	for _, c := range all {
		if seen := c.snapshot(); seen.subscribed() {
			subscribers++
		}
		if o := c.out.Load(); o != nil {
			waiting = max(waiting, o.waiting())
		}
	}
	return values{
		"connected_clients":               len(all),
		"maxclients":                      v.s.cfg.MaxClients,
		"client_recent_max_output_buffer": waiting,
		"pubsub_clients":                  subscribers,
	}
}

func (v *view) memory() values {
	m := readMemory()
	peak := max(m.used, v.s.peak.Load())
	all := values{
		"used_memory_peak_perc":   fmt.Sprintf("%.2f%%", 100*ratio(m.used, peak)),
		"used_memory_overhead":    m.used,
		"allocator_allocated":     m.heap,
		"allocator_active":        m.used,
		"allocator_resident":      m.rss,
		"allocator_frag_ratio":    ratio(m.used, m.heap),
		"allocator_frag_bytes":    max(0, m.used-m.heap),
		"allocator_rss_ratio":     ratio(m.rss, m.used),
		"allocator_rss_bytes":     m.rss - m.used,
		"mem_fragmentation_ratio": ratio(m.rss, m.used),
		"mem_fragmentation_bytes": m.rss - m.used,
		"mem_clients_normal":      v.s.memory.used.Load(),
		"mem_allocator":           runtime.Version(),
	}
	for name, n := range map[string]int64{"used_memory": m.used, "used_memory_rss": m.rss, "used_memory_peak": peak, "total_system_memory": m.total} {
		all[name], all[name+"_human"] = n, human(n)
	}
	return all
}

// persistence puts the archive into Redis' terms: the base of a generation is its
// RDB, the stream its AOF, a rebase its rewrite.
func (v *view) persistence() values {
	st, g := &v.st, v.newest()
	saved, running, took := "ok", int64(-1), int64(-1)
	if st.Rebase.LastFailure != "" && st.Rebase.Failed > 0 {
		saved = "err"
	}
	if st.Rebase.Running {
		running = ago(st.Rebase.Began)
	}
	if st.Rebase.Done > 0 {
		took = int64(st.Rebase.LastTook.Seconds())
	}
	written := "ok"
	if st.Stalled != "" {
		written = "err"
	}
	return values{
		"rdb_bgsave_in_progress":       st.Rebase.Running,
		"rdb_last_save_time":           v.lastSave(),
		"rdb_last_bgsave_status":       saved,
		"rdb_last_bgsave_time_sec":     took,
		"rdb_current_bgsave_time_sec":  running,
		"rdb_saves":                    st.FullSyncsDone + st.Rebase.Done,
		"aof_rewrite_in_progress":      st.Rebase.Running,
		"aof_last_rewrite_time_sec":    took,
		"aof_current_rewrite_time_sec": running,
		"aof_last_bgrewrite_status":    saved,
		"aof_rewrites":                 st.Rebase.Done,
		"aof_last_write_status":        written,
		"aof_current_size":             g.Bytes,
		"aof_base_size":                g.BaseBytes,
		"aof_buffer_length":            st.LagBytes(),
	}
}

func (v *view) stats() values {
	k, r := v.s.count(), v.s.rates.Load()
	kib := func(n int64) float64 { return float64(n) / 1024 }
	return values{
		"total_connections_received":                k.connections.Load(),
		"total_commands_processed":                  k.commands.Load(),
		"instantaneous_ops_per_sec":                 r.commands,
		"total_net_input_bytes":                     k.in.Load(),
		"total_net_output_bytes":                    k.out.Load(),
		"total_net_repl_input_bytes":                v.st.BytesIn,
		"total_net_repl_output_bytes":               v.st.BytesOut,
		"instantaneous_input_kbps":                  kib(r.in),
		"instantaneous_output_kbps":                 kib(r.out),
		"instantaneous_input_repl_kbps":             kib(r.replIn),
		"instantaneous_output_repl_kbps":            kib(r.replOut),
		"rejected_connections":                      k.rejected.Load(),
		"pubsub_channels":                           v.s.pubsub.count(channel),
		"pubsub_patterns":                           v.s.pubsub.count(pattern),
		"total_error_replies":                       k.errors.Load(),
		"total_reads_processed":                     k.reads.Load(),
		"total_writes_processed":                    k.writes.Load(),
		"acl_access_denied_auth":                    k.denied.Load(),
		"client_query_buffer_limit_disconnections":  k.protocolErrors.Load(),
		"client_output_buffer_limit_disconnections": k.unread.Load(),
	}
}

const noReplID = "0000000000000000000000000000000000000000"

// replication is what Sentinel reads.
func (v *view) replication() values {
	st := &v.st
	host, port := st.HostPort()
	all := values{
		"master_host":                host,
		"master_port":                port,
		"master_link_status":         "down",
		"master_last_io_seconds_ago": -1,
		"master_sync_in_progress":    st.Phase == replica.Transfer,
		"slave_read_repl_offset":     st.Received,
		"slave_repl_offset":          st.Stored,
		"master_replid":              cmp.Or(st.ReplID, noReplID),
		"master_replid2":             cmp.Or(st.FormerReplID, noReplID),
		"master_repl_offset":         st.Stored,
		"second_repl_offset":         -1,
	}
	if st.SecondOffset >= 0 {
		all["second_repl_offset"] = st.SecondOffset + 1 // the first offset that is not of the former history
	}
	if st.Up() {
		all["master_link_status"], all["master_last_io_seconds_ago"] = "up", ago(st.LastByte)
	} else {
		all["master_link_down_since_seconds"] = ago(st.DownSince)
	}
	if st.Phase == replica.Transfer {
		total := max(0, st.Transfer.Total) // -1: a master that streams its RDB does not say
		all["master_sync_total_bytes"] = total
		all["master_sync_read_bytes"] = st.Transfer.Bytes
		all["master_sync_left_bytes"] = max(0, total-st.Transfer.Bytes)
		all["master_sync_last_io_seconds_ago"] = ago(st.Transfer.Changed)
		all["master_sync_perc"] = 0.0
		if total > 0 {
			all["master_sync_perc"] = 100 * ratio(st.Transfer.Bytes, total)
		}
	}
	return all
}

// stored is INFO archive: what Redis has no words for. Times are in unix seconds,
// -1 if there is none.
func (v *view) stored() values {
	st, g := &v.st, v.newest()
	m, err := v.archive()
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
	lag := 0.0
	if since := v.s.backend.LagSince(); !since.IsZero() {
		lag = max(0, time.Since(since).Seconds())
	}
	problem := g.Problem
	if err != nil {
		problem = err.Error()
	}
	return values{
		"archive_dir":                    m.Dir,
		"archive_state":                  replica.Place(st.State, st.Phase),
		"archive_generations":            len(m.Generations),
		"archive_generation":             g.Number,
		"archive_bytes":                  bytes,
		"archive_oldest_restorable_time": oldest,
		"archive_newest_restorable_time": newest,
		"archive_base_offset":            g.BaseOffset,
		"archive_base_bytes":             g.BaseBytes,
		"archive_base_verified":          g.BaseVerified,
		"archive_segments":               g.Segments,
		"archive_segments_verified":      g.Verified,
		"archive_segments_damaged":       damaged,
		"archive_received_offset":        st.Received,
		"archive_stored_offset":          st.Stored,
		"archive_fsynced_offset":         st.Durable,
		"archive_lag_bytes":              st.LagBytes(),
		"archive_lag_seconds":            fmt.Sprintf("%.3f", lag),
		"archive_paused":                 st.Paused,
		"archive_stalled":                st.Stalled != "",
		"archive_stalled_reason":         st.Stalled,
		"archive_over_max_bytes":         st.Overfull,
		"archive_rebase_in_progress":     st.Rebase.Running,
		"archive_rebases":                st.Rebase.Done,
		"archive_rebases_failed":         st.Rebase.Failed,
		"archive_generations_pruned":     st.GenerationsPruned,
		"archive_full_syncs":             st.FullSyncsDone,
		"archive_partial_syncs":          st.PartialSyncs,
		"archive_last_failure":           st.LastFailure,
		"archive_problem":                problem,
	}
}

func (v *view) cpu() values {
	all := values{}
	for tail, who := range map[string]int{"": unix.RUSAGE_SELF, "_children": unix.RUSAGE_CHILDREN} {
		var r unix.Rusage
		_ = unix.Getrusage(who, &r)
		all["used_cpu_sys"+tail] = fmt.Sprintf("%d.%06d", r.Stime.Sec, r.Stime.Usec)
		all["used_cpu_user"+tail] = fmt.Sprintf("%d.%06d", r.Utime.Sec, r.Utime.Usec)
	}
	return all
}

func (v *view) commandStats() values {
	all := values{}
	for _, c := range v.s.commands.all {
		k := &v.s.count().calls[c.index]
		calls, rejected := k.calls.Load(), k.rejected.Load()
		if calls == 0 && rejected == 0 {
			continue
		}
		us := k.nanoseconds.Load() / 1000
		all["cmdstat_"+c.name] = fmt.Sprintf("calls=%d,usec=%d,usec_per_call=%.2f,rejected_calls=%d,failed_calls=%d",
			calls, us, ratio(us, calls), rejected, k.failed.Load())
	}
	return all
}

func (v *view) errorStats() values {
	all := values{}
	for code, n := range v.s.count().errorCodes() {
		all["errorstat_"+code] = fmt.Sprintf("count=%d", n)
	}
	return all
}

// ago is how many seconds ago something was; -1 if it never was.
func ago(t time.Time) int64 {
	if t.IsZero() {
		return -1
	}
	return max(0, int64(time.Since(t).Seconds()))
}

// human is bytesToHuman of Redis' server.c.
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

func ratio(a, b int64) float64 { return float64(a) / float64(max(1, b)) }
