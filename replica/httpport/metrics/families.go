package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/daemon/status"
)

// families are all metrics that are made during a scrape.
func families() []family {
	all := []family{
		// The link.
		flag("link_up", "1 while the master's replication stream is received (master_link_status:up), else 0.",
			func(m *moment) bool { return m.Up() }),
		flag("link_wanted", "1 while a master is to be followed, 0 after REPLICAOF NO ONE: a link that is down then is no trouble.",
			func(m *moment) bool { return m.Wanted() }),
		choice("link_state", "Where the link stands: 1 for the state that it is in, 0 for the others. The names are those of Redis' replication.c; SYNC is all that follows the first PONG.",
			"state", names(replica.None, replica.Sync), func(m *moment) string { return m.State.String() }),
		choice("link_phase", "Where a link in state SYNC stands: 1 for the phase that it is in, 0 for the others; AUTH to PSYNC are the handshake, TRANSFER is a full sync, STREAM the normal case.",
			"phase", names(replica.Auth, replica.Stream), func(m *moment) string { return m.Phase.String() }),
		gauge("link_last_byte_timestamp_seconds", "When the last byte came from the master, in unix seconds; 0 before the first. An idle master pings each 10 seconds.",
			func(m *moment) float64 { return seconds(m.LastByte) }),
		flag("link_paused", "1 while nothing is read from the master because the disk is behind and the buffer full, else 0.",
			func(m *moment) bool { return m.Paused }),
		counters("link_failures_total", "Connection attempts and links that ended, by cause; each is followed by a reconnect.",
			"cause", replica.Causes(), func(m *moment) map[string]int64 { return m.Failures }),
		counter("received_bytes_total", "Bytes that came from the master: handshakes, full syncs and the stream, those of rebases too.",
			func(m *moment) int64 { return m.BytesIn }),
		counter("sent_bytes_total", "Bytes that went to the master: handshakes and acknowledgements.",
			func(m *moment) int64 { return m.BytesOut }),
		counter("commands_total", "Commands that came in the replication stream.",
			func(m *moment) int64 { return m.Commands }),

		// Offsets.
		gauge("offset_received_bytes", "Replication offset of the last byte that was received; compare master_repl_offset of the master's INFO.",
			func(m *moment) float64 { return float64(m.Received) }),
		gauge("offset_stored_bytes", "Replication offset of the last byte that was written to the archive: it outlives the end of this process.",
			func(m *moment) float64 { return float64(m.Stored) }),
		gauge("offset_fsynced_bytes", "Replication offset of the last byte that was fsynced: it outlives a power cut.",
			func(m *moment) float64 { return float64(m.Durable) }),
		gauge("offset_acknowledged_bytes", "Replication offset that the master was last told by REPLCONF ACK, which WAIT on the master counts.",
			func(m *moment) float64 { return float64(m.Acked) }),
		gauge("lag_bytes", "Bytes that were received and not fsynced yet: what a power cut would lose, until the master sends it again.",
			func(m *moment) float64 { return float64(m.LagBytes()) }),
		gauge("lag_seconds", "For how long the oldest byte has waited that was received and not fsynced, in seconds; 0 when none waits. With appendfsync everysec about 1 at most.",
			func(m *moment) float64 { return m.Lag(m.now).Seconds() }),

		// Replicas of the archive.
		replicas("relay_replica_behind_bytes", "Bytes that are stored and that a replica of this archive has not acknowledged, for each replica that is connected (relay yes). A replica that loads the base has acknowledged nothing.",
			func(r status.Replica) float64 { return float64(r.Behind) }),
		counter("relay_full_syncs_total", "Full syncs that replicas of this archive began.",
			func(m *moment) int64 { return m.Syncs.SyncFull }),
		counter("relay_partial_syncs_total", "Partial resyncs that replicas of this archive were granted.",
			func(m *moment) int64 { return m.Syncs.SyncPartialOK }),

		// Full and partial syncs.
		counters("full_syncs_total", "Full syncs that the master began, by cause: initial (nothing to continue), backlog (away for longer than the master's backlog holds), ahead (the master lost the end of the history), history (another history), no_psync (a master without PSYNC). Those of rebases are not among them.",
			"cause", replica.SyncCauses(), func(m *moment) map[string]int64 { return m.FullSyncs }),
		counter("full_syncs_completed_total", "Full syncs whose base is complete and fsynced.",
			func(m *moment) int64 { return m.FullSyncsDone }),
		counter("partial_syncs_total", "Links that continued where the last one ended: nothing was lost, nothing sent twice.",
			func(m *moment) int64 { return m.PartialSyncs }),
		transfer("transfer_bytes", "Bytes that are here of the full sync that is under way; 0 while none is. link is main, or rebase for that of a rebase.",
			func(t status.Transfer) (int64, bool) { return t.Bytes, true }),
		transfer("transfer_size_bytes", "Size of the full sync that is under way; missing while none is, or where the master does not say (diskless).",
			func(t status.Transfer) (int64, bool) { return t.Total, t.Running() && t.Total >= 0 }),
		flag("rebase_running", "1 while a rebase (a short link takes a new base beside the first) runs, else 0.",
			func(m *moment) bool { return m.Rebase.Running }),
		counters("rebases_total", "Rebases that ended, by result: done or failed.",
			"result", []string{"done", "failed"}, func(m *moment) map[string]int64 {
				return map[string]int64{"done": m.Rebase.Done, "failed": m.Rebase.Failed}
			}),

		// Writing the archive.
		flag("archive_stalled", "1 while the archive can't be written (disk full, for example), else 0; it goes on by itself as soon as it can.",
			func(m *moment) bool { return m.Stalled != "" }),
		flag("archive_overfull", "1 while the archive is larger than max-bytes and holds nothing that may go, else 0.",
			func(m *moment) bool { return m.Overfull }),
		counter("archive_resets_total", "How often the archive was opened anew because an fsync failed or the base proved damaged.",
			func(m *moment) int64 { return m.StoreResets }),
		counter("segments_sealed_total", "Segments (files of the stream) that were completed.",
			func(m *moment) int64 { return m.SegmentsSealed }),
		counter("segments_verified_total", "Completed segments that were read again and are what was written.",
			func(m *moment) int64 { return m.SegmentsVerified }),
		counter("segments_damaged_total", "Completed segments that were read again and are not what was written.",
			func(m *moment) int64 { return m.SegmentsDamaged }),
		counter("bases_verified_total", "Bases (results of full syncs) that were read again and are what the master sent.",
			func(m *moment) int64 { return m.BasesVerified }),
		counter("generations_pruned_total", "Generations that were removed because keep-for or max-bytes let them go.",
			func(m *moment) int64 { return m.GenerationsPruned }),

		// The remote.
		remotely("remote_restorable", "1 while the remote has a base and the log behind it, so that the archive outlives the loss of this machine, else 0.",
			func(m *moment) float64 { return one(m.Remote.Generation > 0) }),
		remotely("remote_offset_bytes", "Replication offset up to which the remote has the stream.",
			func(m *moment) float64 { return float64(m.Remote.Offset) }),
		remotely("remote_lag_bytes", "Bytes of the stream that are stored and not in the remote: what the loss of this machine would lose.",
			func(m *moment) float64 { return float64(m.Remote.Missing) }),
		remotely("remote_lag_seconds", "For how long the oldest byte has waited that is stored and not in the remote, in seconds; 0 when none waits.",
			func(m *moment) float64 { return m.Remote.Lag(m.now).Seconds() }),
		remotely("remote_failing", "1 while the remote can't be written to, else 0.",
			func(m *moment) float64 { return one(m.Remote.Failure != "") }),
		counter("remote_failures_total", "How often the copy to the remote failed, and was begun again.",
			func(m *moment) int64 { return m.Remote.Failures }),
		counter("remote_contradictions_total", "Objects of the remote that have other bytes than the archive, for the same range of the same history.",
			func(m *moment) int64 { return m.Remote.Conflicts }),
		counter("remote_objects_total", "Objects that were created in the remote.",
			func(m *moment) int64 { return m.Remote.Objects }),
		counter("remote_bytes_total", "Bytes of the objects that were created in the remote.",
			func(m *moment) int64 { return m.Remote.Bytes }),

		// What lies on the disk.
		flag("archive_readable", "1 if the archive's folder can be read, 0 if that fails, hangs, or was not done yet: then the metrics disk_... and archive_... that tell of the folder are missing.",
			(*moment).readable),
		onDisk("disk_free_bytes", "Bytes that may still be written to the archive's file system.",
			func(d status.Disk) (float64, bool) { return float64(d.Free), true }),
		onDisk("disk_size_bytes", "Size of the archive's file system.",
			func(d status.Disk) (float64, bool) { return float64(d.Size), true }),
		total("archive_bytes", "Size of the archive: all its bases and segments. A file that generations share counts once.",
			func(g archive.Generation) int64 { return g.Frees }),
		total("archive_generations", "Complete generations in the archive: a full sync each, and the stream behind it.",
			func(g archive.Generation) int64 { return int64(one(g.Complete)) }),
		total("archive_segments", "Segments (files of the stream) in the archive.",
			func(g archive.Generation) int64 { return int64(g.Segments) }),
		total("archive_damaged_segments", "Segments in the archive that were read again and are not what was written: what they hold, and what follows them in their generation, is not to be trusted.",
			func(g archive.Generation) int64 { return int64(g.Damaged) }),
		onDisk("archive_oldest_restorable_timestamp_seconds", "The oldest moment that can be restored, in unix seconds; missing while there is none.",
			func(d status.Disk) (float64, bool) {
				_, from, _ := status.Restorable(d.Archive.Generations)
				return seconds(from), !from.IsZero()
			}),
		onDisk("archive_newest_restorable_timestamp_seconds", "The newest moment that can be restored, in unix seconds; missing while there is none. While the link is up it is never long ago, for the master's pings come in the stream.",
			func(d status.Disk) (float64, bool) {
				_, _, to := status.Restorable(d.Archive.Generations)
				return seconds(to), !to.IsZero()
			}),
	}
	for i := range all {
		f := &all[i]
		f.desc = prometheus.NewDesc(namespace+f.name, f.help, append([]string{"master"}, f.labels...), nil)
	}
	return all
}

// names are those of all states, or all phases, from first to last.
func names[T interface {
	~uint8
	String() string
}](first, last T) (all []string) {
	for x := first; x <= last; x++ {
		all = append(all, x.String())
	}
	return all
}
