package metrics

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/daemon/status"
)

// families are all metrics that are made when somebody asks.
func families() []family {
	return slices.Concat(ofLinks(), ofOffsets(), ofSyncs(), ofWriting(), ofDisks())
}

func ofLinks() []family {
	return []family{
		gauge("link_up", "1 while the master's replication stream is received (master_link_status:up), else 0.",
			func(at *moment) float64 { return one(at.Up()) }),
		gauge("link_wanted", "1 while a master is to be followed, 0 after REPLICAOF NO ONE: a link that is down then is no trouble.",
			func(at *moment) float64 { return one(at.Wanted()) }),
		choice("link_state", "Where the link stands: 1 for the state that it is in, 0 for the others. The names are those of Redis' replication.c; SYNC is all that follows the first PONG.",
			"state", states(), func(at *moment) string { return at.State.String() }),
		choice("link_phase", "Where a link in state SYNC stands: 1 for the phase that it is in, 0 for the others; AUTH to PSYNC are the handshake, TRANSFER is a full sync, STREAM the normal case.",
			"phase", phases(), func(at *moment) string { return at.Phase.String() }),
		gauge("link_last_byte_timestamp_seconds", "When the last byte came from the master, in unix seconds; 0 before the first. An idle master pings each 10 seconds.",
			func(at *moment) float64 { return seconds(at.LastByte) }),
		gauge("link_paused", "1 while nothing is read from the master because the disk is behind and the buffer full, else 0.",
			func(at *moment) float64 { return one(at.Paused) }),
		counters("link_failures_total", "Connection attempts and links that ended, by cause; each is followed by a reconnect.",
			replica.Causes(), func(at *moment) map[string]int64 { return at.Failures }),
		counter("received_bytes_total", "Bytes that came from the master: handshakes, full syncs and the stream, those of rebases too.",
			func(at *moment) int64 { return at.BytesIn }),
		counter("sent_bytes_total", "Bytes that went to the master: handshakes and acknowledgements.",
			func(at *moment) int64 { return at.BytesOut }),
		counter("commands_total", "Commands that came in the replication stream.",
			func(at *moment) int64 { return at.Commands }),
	}
}

func ofOffsets() []family {
	return []family{
		gauge("offset_received_bytes", "Replication offset of the last byte that was received; compare master_repl_offset of the master's INFO.",
			func(at *moment) float64 { return float64(at.Received) }),
		gauge("offset_stored_bytes", "Replication offset of the last byte that was written to the archive: it outlives the end of this process.",
			func(at *moment) float64 { return float64(at.Stored) }),
		gauge("offset_fsynced_bytes", "Replication offset of the last byte that was fsynced: it outlives a power cut.",
			func(at *moment) float64 { return float64(at.Durable) }),
		gauge("offset_acknowledged_bytes", "Replication offset that the master was last told by REPLCONF ACK, which WAIT on the master counts.",
			func(at *moment) float64 { return float64(at.Acked) }),
		gauge("lag_bytes", "Bytes that were received and not fsynced yet: what a power cut would lose, until the master sends it again.",
			func(at *moment) float64 { return float64(at.LagBytes()) }),
		gauge("lag_seconds", "Since when the oldest byte waits that was received and not fsynced, in seconds; 0 when none waits. With appendfsync everysec about 1 at most.",
			func(at *moment) float64 {
				if at.lagSince.IsZero() {
					return 0
				}
				return max(0, at.now.Sub(at.lagSince).Seconds())
			}),
	}
}

func ofSyncs() []family {
	return []family{
		counters("full_syncs_total", "Full syncs that the master began, by cause: initial (nothing to continue), backlog (away for longer than the master's backlog holds), history (another history), no_psync (a master without PSYNC). Those of rebases are not among them.",
			replica.SyncCauses(), func(at *moment) map[string]int64 { return at.FullSyncs }),
		counter("full_syncs_completed_total", "Full syncs whose base is complete and fsynced.",
			func(at *moment) int64 { return at.FullSyncsDone }),
		counter("partial_syncs_total", "Links that continued where the last one ended: nothing was lost, nothing sent twice.",
			func(at *moment) int64 { return at.PartialSyncs }),
		transfer("transfer_bytes", "Bytes that are here of the full sync that is under way; 0 while none is. link is main, or rebase for that of a rebase.",
			func(t status.Transfer) (float64, bool) { return float64(t.Bytes), true }),
		transfer("transfer_size_bytes", "Size of the full sync that is under way; missing while none is, or where the master does not say (diskless).",
			func(t status.Transfer) (float64, bool) { return float64(t.Total), t.Running() && t.Total >= 0 }),
		gauge("rebase_running", "1 while a rebase (a second link that takes a new full sync beside the first) runs, else 0.",
			func(at *moment) float64 { return one(at.Rebase.Running) }),
		{name: "rebases_total", help: "Rebases that ended, by result: done or failed.", kind: prometheus.CounterValue, labels: []string{"result"},
			collect: func(at *moment, _ *reading, put put) {
				put(float64(at.Rebase.Done), "done")
				put(float64(at.Rebase.Failed), "failed")
			}},
	}
}

func ofWriting() []family {
	return []family{
		gauge("archive_stalled", "1 while the archive can't be written (disk full, for example), else 0; it goes on by itself as soon as it can.",
			func(at *moment) float64 { return one(at.Stalled != "") }),
		gauge("archive_overfull", "1 while the archive is larger than max-bytes and holds nothing that may go, else 0.",
			func(at *moment) float64 { return one(at.Overfull) }),
		counter("archive_resets_total", "How often the archive was opened anew because an fsync failed or the base proved damaged.",
			func(at *moment) int64 { return at.StoreResets }),
		counter("segments_sealed_total", "Segments (files of the stream) that were completed.",
			func(at *moment) int64 { return at.SegmentsSealed }),
		counter("segments_verified_total", "Completed segments that were read again and are what was written.",
			func(at *moment) int64 { return at.SegmentsVerified }),
		counter("segments_damaged_total", "Completed segments that were read again and are not what was written.",
			func(at *moment) int64 { return at.SegmentsDamaged }),
		counter("bases_verified_total", "Bases (results of full syncs) that were read again and are what the master sent.",
			func(at *moment) int64 { return at.BasesVerified }),
		counter("generations_pruned_total", "Generations that were removed because keep-for or max-bytes let them go.",
			func(at *moment) int64 { return at.GenerationsPruned }),
	}
}

func ofDisks() []family {
	return []family{
		{name: "archive_readable", help: "1 if the archive's folder can be read, 0 if that fails, hangs, or was not done yet: then the metrics disk_... and archive_... that tell of it are missing.", kind: prometheus.GaugeValue,
			collect: func(_ *moment, r *reading, put put) { put(one(r != nil)) }},
		onDisk("disk_free_bytes", "Bytes that may still be written to the archive's file system.",
			func(r *reading) (float64, bool) { return float64(r.free), true }),
		onDisk("disk_size_bytes", "Size of the archive's file system.",
			func(r *reading) (float64, bool) { return float64(r.size), true }),
		onDisk("archive_bytes", "Size of the archive: all its bases and segments.",
			func(r *reading) (float64, bool) {
				return sum(r, func(g archive.Generation) int64 { return g.Bytes }), true
			}),
		onDisk("archive_generations", "Complete generations in the archive: a full sync each, and the stream behind it.",
			func(r *reading) (float64, bool) {
				return sum(r, func(g archive.Generation) int64 { return int64(one(g.Complete)) }), true
			}),
		onDisk("archive_segments", "Segments (files of the stream) in the archive.",
			func(r *reading) (float64, bool) {
				return sum(r, func(g archive.Generation) int64 { return int64(g.Segments) }), true
			}),
		onDisk("archive_damaged_segments", "Segments in the archive that were read again and are not what was written: what they hold, and what follows them in their generation, is not to be trusted.",
			func(r *reading) (float64, bool) {
				return sum(r, func(g archive.Generation) int64 { return int64(g.Damaged) }), true
			}),
		onDisk("archive_oldest_restorable_timestamp_seconds", "The oldest moment that can be restored, in unix seconds; missing while there is none.",
			func(r *reading) (float64, bool) { from, _ := window(r); return seconds(from), !from.IsZero() }),
		onDisk("archive_newest_restorable_timestamp_seconds", "The newest moment that can be restored, in unix seconds; missing while there is none. While the link is up it is never long ago, for the master's pings come in the stream.",
			func(r *reading) (float64, bool) { _, to := window(r); return seconds(to), !to.IsZero() }),
	}
}

func sum(r *reading, of func(archive.Generation) int64) float64 {
	n := int64(0)
	for _, g := range r.archive.Generations {
		n += of(g)
	}
	return float64(n)
}

// window is from when to when moments can be restored. Not each between them
// can, where a link was down for long.
func window(r *reading) (from, to time.Time) {
	for _, g := range r.archive.Generations {
		if !g.Complete || g.From.IsZero() {
			continue
		}
		if from.IsZero() || g.From.Before(from) {
			from = g.From
		}
		if g.To.After(to) {
			to = g.To
		}
	}
	return from, to
}
