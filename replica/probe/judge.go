package probe

import (
	"strconv"
	"strings"
)

// check is a row of the table of checks. Steps of the handshake and questions to
// the master have no rules: what they came to is found on the way.
type check struct {
	name    string
	needs   need
	refusal string // begins the error reply to PING that this check is to blame for
	rules   []rule
}

// need is what a check needs beside its facts.
type need int

const (
	answers       need = iota // a master that answers
	connection                // to the master
	fullInfo                  // INFO
	configuration             // CONFIG GET
	folder                    // Options.Dir
)

// rule is a verdict, and the condition of [facts.holds] under which it holds: of
// the rules of a check the first counts, and without one the check is skipped,
// for the master does not tell what they need. Detail and remedy are templates of
// [facts.text]; an empty detail is that of the check's next rule.
type rule struct {
	when   string
	status Status
	detail string
	remedy string
}

// holds says whether all terms of a condition hold. Of a term, a=b and a!=b
// compare text, a<b and a>b numbers, and a? wants a number, a!? none. b is
// another value's name, or stands for itself.
func (f *facts) holds(condition string) bool {
	for term := range strings.FieldsSeq(condition) {
		at := strings.IndexAny(term, "=!<>?")
		name, op := term[:at], term[at:]
		right := strings.TrimLeft(op, "=!<>?")
		op = strings.TrimSuffix(op, right)
		a, isNumber := f.number(name)
		b, named := f.number(right)
		if !named {
			b, _ = strconv.ParseFloat(right, 64)
		}
		holds := map[string]bool{
			"=": f.value(name) == right, "!=": f.value(name) != right,
			"<": isNumber && a < b, ">": isNumber && a > b,
			"?": isNumber, "!?": !isNumber,
		}
		if !holds[op] {
			return false
		}
	}
	return true
}

// judge applies the first rule that holds.
func (f *facts) judge(rules []rule) Check {
	for i, r := range rules {
		if !f.holds(r.when) {
			continue
		}
		for r.detail == "" && i < len(rules)-1 {
			i++
			r.detail = rules[i].detail
		}
		return Check{Status: r.status, Detail: f.text(r.detail), Remedy: f.text(r.remedy)}
	}
	return Check{Status: Skip, Detail: "the master does not tell"}
}

// checks is the table of checks, in the order in which they are told.
func checks() []check {
	const top = "${master_host}:${master_port}"
	const look = "its log says why: a full disk, or fork (vm.overcommit_memory); then BGSAVE there shows whether it is mended"
	const holds = "${size:backlog} hold ${span:cut} of writes at ${size:write.rate}/s (${rate.by}): a link that is cut for longer needs a full sync"
	const bears = "${size:buffer.hard}, or ${size:buffer.soft} for ${span:buffer.seconds}, for replicas (0 is no limit): a full sync of about ${span:sync} bears ${size:buffer.bears}/s of writes, and there are ${size:write.rate}/s"
	const widen = `on the master, CONFIG SET client-output-buffer-limit "${class} ${setting:buffer.hard.wanted} ${setting:buffer.soft.wanted} 60": else it cuts the link before the full sync is over`
	const delay = "yes: an RDB goes from memory to the replicas, ${span:repl-diskless-sync-delay} after the first has asked (repl-diskless-sync-delay)"
	const period = "repl-ping-${class}-period"
	const pings = "the master cuts a replica that is silent for ${span:repl-timeout}, and pings each ${span:repl-ping-slave-period} (" + period + ")"
	const refuses = "the master refuses writes with fewer than ${replicas:min-slaves-to-write} (min-${class}s-to-write) whose lag is ${min-slaves-max-lag} s or less; now there are ${min_slaves_good_slaves}, and replicad will count as one"
	return []check{
		{name: "name resolution"},
		{name: "connect"},
		{"TLS", connection, "", []rule{
			{"tls.left<1209600", Warn, "${tls}; the certificate of \"${tls.name}\" is valid until ${tls.until}, which is ${span:tls.left} from now",
				"renew the master's certificate in time: a link reconnects with the certificate that is there then"},
			{"tls!=", Pass, "${tls}; the certificate of \"${tls.name}\" is valid until ${tls.until}", ""},
			{"reach=local", Pass, "none, and none needed: nothing leaves this host", ""},
			{"reach=private", Pass, "none: whoever listens on the private network on the way reads all data, and the password", ""},
			{"", Warn, "none, and the address is a public one: whoever listens on the way reads all data", "set tls-port on the master, and follow it by rediss:// or with --tls"},
		}},
		{name: "PING"},
		{name: "AUTH"},
		{name: "REPLCONF listening-port"},
		{name: "REPLCONF ip-address"},
		{name: "REPLCONF capa"},
		{name: "REPLCONF version"},
		{name: "ACL"},
		{name: "INFO"},
		{name: "CONFIG GET"},
		{"protected-mode", answers, "DENIED", []rule{
			{"protected-mode=yes reach=local password!=given", Pass, "it lets this connection in; it is on, and without a password refuses connections from other hosts", ""},
			{"", Pass, "it lets this connection in", ""},
		}},
		{"maxclients", fullInfo, "ERR max number of clients", []rule{
			{"clients.share!?", Pass, "there was room for this connection; the limit is not known", ""},
			{"clients.share<0.9 clients.left>9", Pass, "", ""},
			{"", Warn, "${connected_clients} of ${maxclients} connections are used", "on the master, CONFIG SET maxclients ${maxclients.wanted}: where none is left a link can't come back"},
		}},
		{"loading", fullInfo, "", []rule{
			{"loading=0 async_loading!=1", Pass, "its dataset is loaded", ""},
			{"loading_eta_seconds?", Fail, "it is still reading its dataset: ${loading_loaded_perc} % are read, about ${span:loading_eta_seconds} are left by its own estimate",
				"wait for it; a link tries again by itself"},
			{"loading?", Fail, "it is still reading its dataset", "wait for it; a link tries again by itself"},
		}},
		{"role", fullInfo, "", []rule{
			{"role=master", Pass, "a master, with ${replicas:connected_slaves}", ""},
			{"role!=slave", Warn, "INFO has the role \"${role}\"", "is that a Redis or Valkey server, and no Sentinel?"},
			{"master_sync_in_progress=1", Fail, "a replica that is itself in a full sync with its master " + top, "wait for it, or follow " + top},
			{"master_link_status!=up", Fail, "a replica that has lost its master " + top + ", and refuses PSYNC until it is back",
				"bring its master back (its log says why the link is down), or follow " + top + " instead"},
			{"", Pass, "a replica of " + top + ", whose link is up: its data is as old as that link is behind", ""},
		}},
		{"version", fullInfo, "", []rule{
			{"version!?", Warn, "${server}", "is that a Redis or Valkey server? Its version is not of their form"},
			{"version<2008", Warn, "${server}: without PSYNC each reconnect is a full sync, and there is no offset to acknowledge", "upgrade to 4.0 or later"},
			{"version<4000", Warn, "${server}: without PSYNC2 a failover, and a restart of the master, cost a full sync", "upgrade to 4.0 or later"},
			{"version<7000", Pass, "${server}: PSYNC2; the archive is loaded by 7.0 and later, or, restored as one AOF, by this version", ""},
			{"", Pass, "${server}: PSYNC2; the archive is loaded by this version and later", ""},
		}},
		{"requirepass", answers, "", []rule{
			{"password=given", Pass, "this user has a password", ""},
			{"reach=local", Pass, "no password is asked for, from this host", ""},
			{"", Warn, "no password is asked for: whoever reaches the port reads and writes all data",
				"on the master, CONFIG SET requirepass, or ACL SETUSER replicad on >PASSWORD +psync +replconf +ping, and give replicad the password (masterauth)"},
		}},
		{"BGSAVE", fullInfo, "", []rule{
			// It may have been the disk, which a diskless one does not use.
			{"rdb_last_bgsave_status=err repl-diskless-sync=yes", Warn, "", look},
			{"rdb_last_bgsave_status=err", Fail, "the last one failed, and a full sync needs one", look},
			{"memory.share>0.5", Warn, "it uses ${size:used_memory_rss} of its host's ${size:total_system_memory}: the fork of a full sync may need as much again while clients write",
				"give the host more memory, or follow a replica of this master"},
			{"rdb_bgsave_in_progress=1", Pass, "one is under way: a full sync would wait for its end", ""},
			{"aof_rewrite_in_progress=1", Pass, "a rewrite of the AOF is under way: a full sync would wait for its end", ""},
			{"rdb_last_bgsave_status=ok rdb_last_bgsave_time_sec?", Pass, "the last one was well, and took ${span:rdb_last_bgsave_time_sec}", ""},
			{"", Pass, "nothing is known against it", ""},
		}},
		{"repl-backlog-size", answers, "", []rule{
			{"backlog? redis_version= write.rate!?", Skip, "", ""},
			{"backlog? write.rate!?", Warn, "${size:backlog}; the longest cut that it survives is not known without the write rate",
				"was the master restarted meanwhile, or did it stop to answer? Probe it again"},
			{"backlog? cut!?", Pass, "${size:backlog}; nothing was written (${rate.by})", ""},
			{"cut<60", Warn, holds, "on the master, CONFIG SET repl-backlog-size ${setting:backlog.wanted}, for cuts of up to 5 min at this rate; it takes as much of its memory"},
			{"repl-backlog-ttl>0 cut>repl-backlog-ttl", Pass, holds + "; with no replica at all it is freed after ${span:repl-backlog-ttl} (repl-backlog-ttl)", ""},
			{"cut?", Pass, holds, ""},
		}},
		{"client-output-buffer-limit", configuration, "", []rule{
			{"buffer.hard=0 buffer.soft=0", Pass, "none for replicas: a slow one may fill the master's memory", ""},
			{"buffer.hard? buffer.share!?", Pass, "${size:buffer.hard}, or ${size:buffer.soft} for ${span:buffer.seconds}, for replicas; whether that is enough is not known without the write rate", ""},
			{"buffer.share>1", Fail, bears, widen},
			{"buffer.share>0.5", Warn, bears, widen},
			{"buffer.share?", Pass, bears, ""},
		}},
		{"repl-diskless-sync", configuration, "", []rule{
			{"repl-diskless-sync=yes repl-diskless-sync-delay>60", Warn, delay, "on the master, CONFIG SET repl-diskless-sync-delay 5: each full sync waits so long"},
			{"repl-diskless-sync=yes", Pass, delay, ""},
			{"repl-diskless-sync=no", Pass, "no: an RDB is written to the master's disk first, which needs the room, and sent then", ""},
			{"", Skip, "the master does not know it (before 2.8.18): an RDB is written to its disk first", ""},
		}},
		{"repl-timeout", configuration, "", []rule{
			{"repl-timeout? repl-ping-slave-period>59", Warn, pings + "; replicad gives up a link that is silent for 60 s",
				"on the master, CONFIG SET " + period + " 10, or give replicad a repl-timeout above ${repl-ping-slave-period} s"},
			{"repl-timeout<10", Warn, pings, "on the master, CONFIG SET repl-timeout 60: a short stop of the network or of a host cuts the link"},
			{"repl-ping-slave-period<repl-timeout", Pass, pings, ""},
			{"repl-timeout? repl-ping-slave-period?", Warn, pings, "on the master, CONFIG SET repl-timeout 60: it must be above " + period + ", or idle replicas that are Redis' own are cut"},
		}},
		{"min-replicas-to-write", configuration, "", []rule{
			{"min-slaves-to-write!?", Skip, "the master does not know it (before 2.8)", ""},
			{"min-slaves-to-write=0", Pass, "0: the master takes writes without replicas", ""},
			{"", Warn, refuses, "on the master, CONFIG SET min-${class}s-to-write ${replicas.wanted}, unless an archive is to keep it writing where a replica is lost"},
		}},
		{"disk", folder, "", []rule{
			{"disk.free!?", Fail, "${disk.trouble}", "name a --dir that this user may write to"},
			{"disk.share!? disk.free>0", Pass, "${size:disk.free} are free in ${disk.dir}; the master's used_memory is not known", ""},
			{"disk.free=0", Fail, "", "a larger disk is needed"},
			{"disk.share>2", Fail, "", "an RDB of that would not fit: a larger disk is needed"},
			{"disk.share>0.5", Warn, "", "have three times the memory free: a rebase writes the next RDB before the last one may go, and the stream comes on top"},
			{"", Pass, "${size:disk.free} are free in ${disk.dir}, and the master uses ${size:used_memory} of memory", ""},
		}},
		{"full sync", fullInfo, "", []rule{
			{"sync>3600", Warn, "", "raise replicad's repl-bgsave-timeout above its default of 1h, and follow the master at a quiet time"},
			{"sync?", Pass, "about ${span:sync}: ${size:used_memory} in memory, which an RDB seldom exceeds, at an assumed 100 MiB/s", ""},
		}},
		{name: "PSYNC"},
	}
}
