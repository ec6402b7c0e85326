package probe

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/units"
)

// facts are what the master told, and what was measured. The checks that judge
// them ask nothing.
type facts struct {
	user         string
	acl          bool // the master has ACLs
	noPsync      bool // it does not know PSYNC
	noSync       bool // nor SYNC
	noMasterLink *replica.ReplyError
	oddPsync     *replica.ReplyError // PSYNC was refused for what is not known here

	info     info // nil where it was not told; then
	noInfo   string
	asked    time.Time
	config   info
	noConfig string
	later    info // the second INFO, or the first once more
	rate     rate
	far      distance
	password bool // the probe has used one
}

// What is assumed, or advised.
const (
	assumedRate  = 100 << 20 // bytes a second of a full sync: a 1 Gbit/s network, or one core that saves
	shortCut     = 60.0      // seconds of a cut that a backlog should survive: a restart, a switch that reboots
	goodCut      = 300.0     // seconds that are advised
	scarceOfMax  = 0.9       // of maxclients
	scarceLeft   = 10        // clients
	longDelay    = 60        // seconds of repl-diskless-sync-delay
	shortTimeout = 10        // seconds of repl-timeout
	defaultHard  = 256 << 20 // of client-output-buffer-limit replica, in bytes
	defaultSoft  = 64 << 20
	bgsaveLimit  = replica.DefaultReplBGSaveTimeout
	pingLimit    = replica.DefaultReplTimeout
)

// judge makes the checks that need what the master told; between them it
// measures.
func (p *prober) judge() {
	f := &p.facts
	f.later = f.info
	f.far, f.password = reach(p.endpoint), p.opt.Master.Password != ""
	for _, c := range []Check{f.protectedMode(), f.maxClients(), f.loading(), f.role(), f.version(), f.requirePass(), f.bgsave()} {
		p.add(c)
	}
	p.measure()
	backlog, cut := f.backlog()
	need, sync := f.fullSync()
	for _, c := range []Check{backlog, f.outputBuffer(need), f.diskless(), f.timeout(), f.minReplicas(), p.disk(), sync} {
		p.add(c)
	}
	p.figures(cut, need)
}

// measure waits and reads INFO again.
func (p *prober) measure() {
	f := &p.facts
	if f.info == nil {
		return
	}
	end, _ := p.ctx.Deadline()
	wait := min(p.opt.For, time.Until(end)/2) // and leave time for the rest
	if p.opt.Measuring != nil {
		p.opt.Measuring(wait)
	}
	t := time.NewTimer(time.Until(f.asked.Add(wait)))
	defer t.Stop()
	select {
	case <-t.C:
	case <-p.ctx.Done():
		return
	}
	now := time.Now()
	r, err := p.conn.do("INFO")
	if err != nil || r.kind != '$' {
		return // the rate stays unknown, and the checks say so
	}
	f.later = parseInfo(r.text)
	f.rate = measure(f.info, f.later, now.Sub(f.asked))
}

// figures puts what was measured where programs find it.
func (p *prober) figures(cut, sync float64) {
	f, fig := &p.facts, &p.report.Figures
	if f.rate.known {
		fig.WriteRate = &f.rate.bytes
	}
	if n, ok := f.backlogSize(); ok {
		fig.Backlog = &n
	}
	if !math.IsInf(cut, 0) && cut > 0 {
		fig.LongestCut = &cut
	}
	if n, ok := f.later.number("used_memory"); ok {
		fig.UsedMemory = &n
		fig.FullSync = &sync
	}
}

// needsInfo and needsConfig give a check that is skipped for want of an answer.
func (f *facts) needsInfo(name string) (Check, bool) {
	return Check{Name: name, Status: Skip, Detail: f.noInfo}, f.info != nil
}

func (f *facts) needsConfig(name string) (Check, bool) {
	return Check{Name: name, Status: Skip, Detail: f.noConfig}, f.config != nil
}

func (f *facts) protectedMode() Check {
	c := Check{Name: "protected-mode", Status: Pass, Detail: "it lets this connection in"}
	if f.config.is("protected-mode", "yes") && !f.password && f.far == local {
		c.Detail += "; it is on, and without a password refuses connections from other hosts"
	}
	return c
}

func (f *facts) maxClients() Check {
	c, ok := f.needsInfo("maxclients")
	if !ok {
		return c
	}
	c.Status = Pass
	used, ok := f.info.number("connected_clients")
	most, ok2 := f.info.number("maxclients") // since 6.2
	if !ok2 {
		most, ok2 = f.config.number("maxclients")
	}
	if !ok || !ok2 {
		c.Detail = "there was room for this connection; the limit is not known"
		return c
	}
	c.Detail = fmt.Sprintf("%d of %d connections are used", used, most)
	if most-used < scarceLeft || float64(used) > scarceOfMax*float64(most) {
		c.Status = Warn
		c.Remedy = fmt.Sprintf("on the master, CONFIG SET maxclients %d: where none is left a link can't come back", max(min(2*most, 1_000_000), 100))
	}
	return c
}

func (f *facts) loading() Check {
	c, ok := f.needsInfo("loading")
	if !ok {
		return c
	}
	c.Status, c.Detail = Pass, "its dataset is loaded"
	if f.info.is("loading", "0") && !f.info.is("async_loading", "1") {
		return c
	}
	if _, ok := f.info["loading"]; !ok {
		c.Status, c.Detail = Skip, "INFO does not tell"
		return c
	}
	c.Status, c.Detail = Fail, "it is still reading its dataset"
	if s := f.info.text("loading_loaded_perc"); s != "" {
		c.Detail += ": " + s + " % are read"
	}
	if n, ok := f.info.number("loading_eta_seconds"); ok {
		c.Detail += ", about " + span(float64(n)) + " are left by its own estimate"
	}
	c.Remedy = "wait for it; a link tries again by itself"
	return c
}

func (f *facts) role() Check {
	c, ok := f.needsInfo("role")
	if re := f.noMasterLink; !ok && re != nil {
		return Check{Name: c.Name, Status: Fail, Detail: re.Error(), Remedy: replica.Remedy(replica.Sync, replica.Psync, re)}
	}
	if !ok {
		return c
	}
	c.Status, c.Detail = Pass, "a master, with "+units.Count(count(f.info, "connected_slaves"), "replica")
	if f.info.is("role", "master") {
		return c
	}
	if !f.info.is("role", "slave") {
		c.Status, c.Detail = Warn, fmt.Sprintf("INFO has the role %q", f.info.text("role"))
		c.Remedy = "is that a Redis or Valkey server, and no Sentinel?"
		return c
	}
	master := f.info.text("master_host") + ":" + f.info.text("master_port")
	switch {
	case f.info.is("master_sync_in_progress", "1"):
		c.Status, c.Detail = Fail, "a replica that is itself in a full sync with its master "+master
		c.Remedy = "wait for it, or follow " + master
	case !f.info.is("master_link_status", "up"):
		c.Status, c.Detail = Fail, "a replica that has lost its master "+master+", and refuses PSYNC until it is back"
		if n, ok := f.info.number("master_link_down_since_seconds"); ok {
			c.Detail += "; it went " + span(float64(n)) + " ago"
		}
		c.Remedy = "bring its master back (its log says why the link is down), or follow " + master + " instead"
	default:
		c.Detail = "a replica of " + master + ", whose link is up: what it has, and passes on, is as old as that link is behind"
	}
	return c
}

// count is a field that counts; 0 where it is none.
func count(i info, field string) int64 {
	n, _ := i.number(field)
	return n
}

func (f *facts) version() Check {
	c, ok := f.needsInfo("version")
	if !ok {
		return c
	}
	c.Status, c.Detail = Pass, serverName(f.info)
	v, ok := parseVersion(f.info["redis_version"])
	switch {
	case !ok:
		c.Status, c.Remedy = Warn, "is that a Redis or Valkey server? Its version is not of their form"
	case v.before(2, 8):
		c.Status, c.Remedy = Warn, "upgrade to 4.0 or later"
		c.Detail += ": without PSYNC each reconnect is a full sync, and there is no offset to acknowledge"
	case v.before(4, 0):
		c.Status, c.Remedy = Warn, "upgrade to 4.0 or later"
		c.Detail += ": without PSYNC2 a failover, and a restart of the master, cost a full sync"
	case v.before(7, 0):
		c.Detail += ": PSYNC2; the archive is loaded by 7.0 and later, or, restored as one AOF, by this version"
	default:
		c.Detail += ": PSYNC2; the archive is loaded by this version and later"
	}
	return c
}

func (f *facts) requirePass() Check {
	c := Check{Name: "requirepass", Status: Pass}
	switch {
	case f.password:
		c.Detail = "this user has a password"
	case f.far == local:
		c.Detail = "no password is asked for, from this host"
	default:
		c.Status, c.Detail = Warn, "no password is asked for: whoever reaches the port reads and writes all data"
		c.Remedy = "on the master, CONFIG SET requirepass, or ACL SETUSER replicad on >PASSWORD +psync +replconf +ping, and give replicad the password"
	}
	return c
}

// bgsave judges whether the save that a full sync needs would work.
func (f *facts) bgsave() Check {
	c, ok := f.needsInfo("BGSAVE")
	if !ok {
		return c
	}
	c.Status, c.Detail = Pass, "nothing is known against it"
	used, total := count(f.info, "used_memory_rss"), count(f.info, "total_system_memory")
	switch {
	case f.info.is("rdb_last_bgsave_status", "err"):
		c.Status, c.Detail = Fail, "the last one failed, and a full sync needs one"
		if f.config.is("repl-diskless-sync", "yes") {
			c.Status = Warn // it may have been the disk, which a diskless one does not use
		}
		c.Remedy = "its log says why: a full disk, or fork (vm.overcommit_memory); then BGSAVE there shows whether it is mended"
	case total > 0 && used > total/2:
		c.Status, c.Detail = Warn, fmt.Sprintf("it uses %s of its host's %s: the fork of a full sync may need as much again while clients write", size(float64(used)), size(float64(total)))
		c.Remedy = "give the host more memory, or follow a replica of this master"
	case f.info.is("rdb_bgsave_in_progress", "1"):
		c.Detail = "one is under way: a full sync would wait for its end"
	case f.info.is("aof_rewrite_in_progress", "1"):
		c.Detail = "a rewrite of the AOF is under way: a full sync would wait for its end"
	case f.info.is("rdb_last_bgsave_status", "ok"):
		if n, ok := f.info.number("rdb_last_bgsave_time_sec"); ok {
			c.Detail = "the last one was well, and took " + span(float64(n))
			if n == 0 {
				c.Detail = "the last one was well, and took less than a second"
			}
		}
	}
	return c
}

func (f *facts) backlogSize() (int64, bool) {
	if n, ok := f.config.number("repl-backlog-size"); ok {
		return n, true
	}
	return f.later.number("repl_backlog_size")
}

// backlog tells for how many seconds a cut is survived; +Inf where nothing is
// written, 0 where it is not known.
func (f *facts) backlog() (Check, float64) {
	c, _ := f.needsInfo("repl-backlog-size")
	n, ok := f.backlogSize()
	switch {
	case !ok && f.info == nil:
		return c, 0
	case !ok:
		c.Detail = "neither INFO nor CONFIG GET tells"
		return c, 0
	case !f.rate.known:
		c.Detail = size(float64(n)) + "; for how long a cut that is enough is not known without the write rate"
		if f.info != nil {
			c.Status, c.Remedy = Warn, "was the master restarted meanwhile, or did it stop to answer? Probe it again"
		}
		return c, 0
	}
	c.Status = Pass
	if f.rate.bytes == 0 {
		c.Detail = fmt.Sprintf("%s; nothing was written (%s)", size(float64(n)), f.rate.source)
		return c, math.Inf(1)
	}
	cut := float64(n) / f.rate.bytes
	c.Detail = fmt.Sprintf("%s hold %s of writes at %s/s (%s): a link that is cut for longer needs a full sync", size(float64(n)), span(cut), size(f.rate.bytes), f.rate.source)
	if cut < shortCut {
		c.Status = Warn
		c.Remedy = fmt.Sprintf("on the master, CONFIG SET repl-backlog-size %s, for cuts of up to %s at this rate; it takes as much of its memory", sizeSetting(f.rate.bytes*goodCut), span(goodCut))
	} else if ttl, ok := f.config.number("repl-backlog-ttl"); ok && ttl > 0 && cut > float64(ttl) {
		c.Detail += fmt.Sprintf("; with no replica at all it is freed after %s (repl-backlog-ttl)", span(float64(ttl)))
	}
	return c, cut
}

// fullSync estimates the seconds of a full sync without the delay of a diskless
// one, and judges them.
func (f *facts) fullSync() (seconds float64, c Check) {
	c, ok := f.needsInfo("full sync")
	used, known := f.later.number("used_memory")
	if !ok {
		return 0, c
	}
	if !known {
		c.Detail = "INFO does not tell used_memory"
		return 0, c
	}
	transfer := float64(used) / assumedRate
	save, saved := f.later.number("rdb_last_bgsave_time_sec")
	how := fmt.Sprintf("%s in memory, which an RDB seldom exceeds, at an assumed %s/s", size(float64(used)), size(assumedRate))
	seconds = transfer
	switch {
	case f.config.is("repl-diskless-sync", "yes"):
		seconds = max(transfer, float64(save))
		if delay, ok := f.config.number("repl-diskless-sync-delay"); ok {
			how += fmt.Sprintf(", after a delay of %s", span(float64(delay)))
		}
	case saved && save > 0:
		seconds += float64(save)
		how += ", after they are saved"
	default:
		seconds *= 2
		how += ", after they are saved at the same rate"
	}
	if saved && save > 0 {
		how += fmt.Sprintf("; the last BGSAVE took %s", span(float64(save)))
	}
	seconds = max(seconds, 0.1)
	c.Status, c.Detail = Pass, fmt.Sprintf("about %s: %s", span(seconds), how)
	if seconds > bgsaveLimit.Seconds() {
		c.Status = Warn
		c.Remedy = fmt.Sprintf("give replicad run a --repl-bgsave-timeout above its default of %v, and follow the master at a quiet time", bgsaveLimit)
	}
	return seconds, c
}

// outputBuffer judges client-output-buffer-limit replica: what is written while
// a full sync runs waits there.
func (f *facts) outputBuffer(sync float64) Check {
	c, ok := f.needsConfig("client-output-buffer-limit")
	if !ok {
		return c
	}
	l, ok := parseOutputLimit(f.config["client-output-buffer-limit"])
	if !ok {
		c.Detail = "CONFIG GET does not tell the one for replicas"
		return c
	}
	c.Status = Pass
	if l.hard == 0 && (l.soft == 0 || l.seconds == 0) {
		c.Detail = "none for replicas: a slow one may fill the master's memory"
		return c
	}
	limits := []string{}
	if l.hard > 0 {
		limits = append(limits, size(float64(l.hard)))
	}
	if l.soft > 0 {
		limits = append(limits, fmt.Sprintf("%s for %s", size(float64(l.soft)), span(float64(l.seconds))))
	}
	c.Detail = strings.Join(limits, ", or ") + " for replicas"
	if !f.rate.known || f.info == nil {
		c.Detail += "; whether that is enough for a full sync is not known without the write rate"
		return c
	}
	bears := f.bears(l, sync)
	need := f.rate.bytes * sync
	c.Detail += fmt.Sprintf(": a full sync of about %s bears %s/s of writes", span(sync), size(bears))
	if f.rate.bytes > 0 {
		c.Detail += fmt.Sprintf(", and there are %s/s", size(f.rate.bytes))
	}
	switch {
	case f.rate.bytes > bears:
		c.Status = Fail
	case f.rate.bytes > bears/2:
		c.Status = Warn
	default:
		return c
	}
	v, _ := parseVersion(f.info["redis_version"])
	class := "replica"
	if v.before(5, 0) {
		class = "slave"
	}
	c.Remedy = fmt.Sprintf(`on the master, CONFIG SET client-output-buffer-limit "%s %s %s 60": else it cuts the link before the full sync is over`,
		class, wider(l.hard, 4*need, defaultHard), wider(l.soft, 2*need, defaultSoft))
	return c
}

// wider is a limit that has room for so much, and is no lower than it was, nor
// than redis.conf's; 0 is none and stays so.
func wider(limit int64, need, least float64) string {
	if limit == 0 {
		return "0"
	}
	return sizeSetting(max(float64(limit), need, least))
}

// bears is the highest write rate, in bytes a second, that a full sync of so many
// seconds stands.
func (f *facts) bears(l outputLimit, sync float64) float64 {
	sync = max(sync, 1)
	bears := math.Inf(1)
	hard, soft := float64(l.hard), float64(l.soft)
	if v, ok := parseVersion(f.info["redis_version"]); ok && !v.before(7, 0) {
		// What the backlog holds anyway does not count (checkClientOutputBufferLimits).
		if n, ok := f.backlogSize(); ok {
			hard, soft = above(hard, float64(n)), above(soft, float64(n))
		}
	}
	if hard > 0 {
		bears = hard / sync
	}
	// Above soft for all of the seconds: soft is reached at soft/rate.
	if left := sync - float64(l.seconds); soft > 0 && left > 0 {
		bears = min(bears, soft/left)
	}
	return bears
}

// above is a limit that is at least n; 0 is none and stays so.
func above(limit, n float64) float64 {
	if limit == 0 {
		return 0
	}
	return max(limit, n)
}

func (f *facts) diskless() Check {
	c, ok := f.needsConfig("repl-diskless-sync")
	if !ok {
		return c
	}
	switch f.config["repl-diskless-sync"] {
	case "yes":
		delay := count(f.config, "repl-diskless-sync-delay")
		c.Status, c.Detail = Pass, fmt.Sprintf("yes: an RDB goes from memory to the replicas, %s after the first has asked (repl-diskless-sync-delay)", span(float64(delay)))
		if delay > longDelay {
			c.Status, c.Remedy = Warn, "on the master, CONFIG SET repl-diskless-sync-delay 5: each full sync waits so long"
		}
	case "no":
		c.Status, c.Detail = Pass, "no: an RDB is written to the master's disk first, which needs the room, and sent then"
	default:
		c.Detail = "the master does not know it (before 2.8.18): an RDB is written to its disk first"
	}
	return c
}

func (f *facts) timeout() Check {
	c, ok := f.needsConfig("repl-timeout")
	if !ok {
		return c
	}
	timeout, ok := f.config.number("repl-timeout")
	name, _ := f.config.first("repl-ping-replica-period", "repl-ping-slave-period")
	period, ok2 := f.config.number(name)
	if !ok || !ok2 {
		c.Detail = "CONFIG GET does not tell both repl-timeout and " + name
		return c
	}
	c.Status = Pass
	c.Detail = fmt.Sprintf("the master cuts a replica that is silent for %s, and pings each %s (%s)", span(float64(timeout)), span(float64(period)), name)
	switch {
	case float64(period) >= pingLimit.Seconds():
		c.Status = Warn
		c.Detail += fmt.Sprintf("; replicad run gives up a link that is silent for %v", pingLimit)
		c.Remedy = fmt.Sprintf("on the master, CONFIG SET %s 10, or give replicad run a --repl-timeout above %d s", name, period)
	case timeout <= period:
		c.Status = Warn
		c.Remedy = fmt.Sprintf("on the master, CONFIG SET repl-timeout 60: it must be above %s, or idle replicas that are Redis' own are cut", name)
	case timeout < shortTimeout:
		c.Status = Warn
		c.Remedy = "on the master, CONFIG SET repl-timeout 60: a short stop of the network or of a host cuts the link"
	}
	return c
}

func (f *facts) minReplicas() Check {
	c, ok := f.needsConfig("min-replicas-to-write")
	if !ok {
		return c
	}
	name, _ := f.config.first("min-replicas-to-write", "min-slaves-to-write")
	want, ok := f.config.number(name)
	switch {
	case !ok:
		c.Detail = "the master does not know it (before 2.8)"
		return c
	case want == 0:
		c.Status, c.Detail = Pass, "0: the master takes writes without replicas"
		return c
	}
	_, lag := f.config.first("min-replicas-max-lag", "min-slaves-max-lag")
	good, known := f.later.number("min_slaves_good_slaves")
	c.Status, c.Detail = Warn, fmt.Sprintf("the master refuses writes with fewer than %s (%s) whose lag is %s s or less", units.Count(want, "replica"), name, (info{"": lag}).text(""))
	if known {
		c.Detail += fmt.Sprintf("; now there are %d", good)
	}
	c.Detail += ", and replicad will count as one"
	c.Remedy = fmt.Sprintf("on the master, CONFIG SET %s %d, unless an archive is to keep it writing where a replica is lost", name, min(want, math.MaxInt64-1)+1)
	return c
}

// disk judges the room below Options.Dir.
func (p *prober) disk() Check {
	c := Check{Name: "disk", Status: Skip, Detail: "without --dir there is nothing to look at"}
	if p.opt.Dir == "" {
		return c
	}
	var a roomFound
	select {
	case a = <-p.room:
	default:
		select {
		case a = <-p.room:
		case <-p.ctx.Done():
			a.err = fmt.Errorf("%w: the file system does not answer", replica.ErrDeadline)
		}
	}
	if a.err != nil {
		c.Status, c.Detail, c.Remedy = Fail, a.err.Error(), "name a --dir that this user may write to"
		return c
	}
	p.report.Figures.Free = &a.free
	return p.facts.disk(a.dir, a.free)
}

// roomFound is what is free where a folder is, or would be made.
type roomFound struct {
	dir  string
	free int64
	err  error
}

func findRoom(dir string) (r roomFound) {
	if r.dir, r.err = filepath.Abs(dir); r.err != nil {
		return r
	}
	var st fs.FileInfo
	for {
		st, r.err = os.Stat(r.dir)
		if up := filepath.Dir(r.dir); errors.Is(r.err, fs.ErrNotExist) && up != r.dir {
			r.dir = up
			continue
		}
		break
	}
	switch {
	case r.err != nil:
	case !st.IsDir():
		r.err = &fs.PathError{Op: "use", Path: r.dir, Err: unix.ENOTDIR}
	default:
		if r.err = unix.Access(r.dir, unix.W_OK|unix.X_OK); r.err != nil {
			r.err = &fs.PathError{Op: "write to", Path: r.dir, Err: r.err}
			return r
		}
		r.free, r.err = archive.Free(r.dir)
	}
	return r
}

func (f *facts) disk(dir string, free int64) Check {
	c := Check{Name: "disk", Status: Pass, Detail: fmt.Sprintf("%s are free in %s", size(float64(free)), dir)}
	used, ok := f.later.number("used_memory")
	switch {
	case !ok:
		c.Detail += "; used_memory is not known"
		return c
	case free < used/2:
		c.Status = Fail
	case free < 2*min(used, math.MaxInt64/2):
		c.Status = Warn
	}
	c.Detail += fmt.Sprintf(", and the master uses %s of memory", size(float64(used)))
	switch c.Status {
	case Fail:
		c.Remedy = "an RDB of that would not fit: a larger disk is needed"
	case Warn:
		c.Remedy = fmt.Sprintf("have %s: a rebase writes the next RDB before the last one may go, and the stream comes on top", size(3*float64(used)))
	}
	return c
}
