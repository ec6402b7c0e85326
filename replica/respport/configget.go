package respport

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// directives are what CONFIG GET tells: the settings, with what holds in place of
// what was given. Passwords are not among them: a client
// of this port need not know the master's.
func (s *Server) directives() map[string]string {
	c := &s.cfg
	master := ""
	st := s.backend.Status()
	if host, port := st.HostPort(); st.Following() {
		master = host + " " + strconv.Itoa(port)
	}
	d := map[string]string{}
	maps.Copy(d, c.Directives())
	maps.Copy(d, map[string]string{
		"port": strconv.Itoa(c.Port), "tls-port": strconv.Itoa(c.TLSPort), "bind": strings.Join(c.Bind, " "),
		"maxclients": strconv.Itoa(c.MaxClients), "replicaof": master,
		// What a replica of this kind is, whatever is configured.
		"appendonly": "yes", "save": "", "replica-read-only": "yes", "replica-priority": "0", "replica-announced": "no",
		"databases": strconv.Itoa(databases), "maxmemory": "0", "maxmemory-policy": "noeviction", "aof-use-rdb-preamble": "yes",
		"appenddirname": "appendonlydir", "appendfilename": "appendonly.aof", "cluster-enabled": "no", "daemonize": "no",
		"slowlog-log-slower-than": "-1", "slowlog-max-len": "0", "latency-monitor-threshold": "0", "io-threads": "1",
	})
	for old, name := range map[string]string{
		"slaveof": "replicaof", "slave-read-only": "replica-read-only", "slave-priority": "replica-priority",
		"slave-announce-ip": "replica-announce-ip", "slave-announce-port": "replica-announce-port",
	} {
		if v, ok := d[name]; ok {
			d[old] = v
		}
	}
	return d
}

// configGet gives the directives that match any of the patterns.
func configGet(q *request) {
	d := q.s.directives()
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(d)), func(name string) bool {
		return !slices.ContainsFunc(q.args[2:], func(p []byte) bool { return glob(lower(p), name) })
	})
	q.dict(len(names))
	for _, name := range names {
		q.bulk(name)
		q.bulk(d[name])
	}
}
