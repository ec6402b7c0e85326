package respport

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// directives are what CONFIG GET tells. Passwords are not among them: who may ask
// here need not know the master's.
func (s *Server) directives() map[string]string {
	yesNo := func(b bool) string {
		if b {
			return "yes"
		}
		return "no"
	}
	c := &s.cfg
	st := s.state.get()
	master := ""
	if host, port := st.HostPort(); st.Following() {
		master = host + " " + strconv.Itoa(port)
	}
	d := c.Directives()
	if d == nil {
		d = map[string]string{}
	}
	maps.Copy(d, map[string]string{
		"port": strconv.Itoa(c.Port), "tls-port": strconv.Itoa(c.TLSPort), "bind": strings.Join(c.Bind, " "),
		"protected-mode": yesNo(c.ProtectedMode), "maxclients": strconv.Itoa(c.MaxClients),
		"timeout": strconv.Itoa(int(c.Timeout.Seconds())), "tcp-keepalive": strconv.Itoa(int(c.TCPKeepAlive.Seconds())),
		"client-query-buffer-limit": strconv.Itoa(c.QueryBufferLimit), "maxmemory-clients": number(c.MaxMemoryClients),
		"tls-cert-file": c.TLS.Cert, "tls-key-file": c.TLS.Key, "tls-ca-cert-file": c.TLS.CACert,
		"tls-auth-clients": c.TLS.authClients(),
		"replicaof":        master,
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

func (t TLSFiles) authClients() string {
	if t.AuthClients == "" {
		return "yes"
	}
	return t.AuthClients
}

// configGet gives the directives that match any of the patterns.
func configGet(q *request) {
	d := q.s.directives()
	var names []string
	for _, name := range slices.Sorted(maps.Keys(d)) {
		if slices.ContainsFunc(q.args[2:], func(p []byte) bool { return glob(lower(p), name) }) {
			names = append(names, name)
		}
	}
	q.dict(len(names))
	for _, name := range names {
		q.bulk(name)
		q.bulk(d[name])
	}
}

func configSet(q *request) {
	q.error("ERR CONFIG SET is not offered: replicad reads its settings when it starts")
}
