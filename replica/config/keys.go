package config

import (
	"log/slog"
	"math"
	"slices"
	"strings"
	"time"

	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/daemon"
	"replicad/replica/daemon/sentinel"
	"replicad/replica/logs"
	"replicad/replica/relay"
	"replicad/replica/remote"
	"replicad/replica/resp"
	"replicad/replica/respport"
)

// Settings are the values of all keys.
type Settings struct {
	ReplicaOf []string // empty where the file has masters
	Dir       string

	Sentinel    sentinel.Config
	SentinelTLS bool
	MasterUser  string
	MasterAuth  string
	TLS         bool

	Link      replica.Config // the settings of a link; not its Master
	Archive   archive.Options
	Rebase    daemon.Rebase
	Retention archive.Retention
	Remote    remote.Config
	RESP      respport.Config // the settings of a RESP port
	Relay     relay.Config    // of each archive, where RESP.Relay is set
	HTTP      string          // host:port; "" for no HTTP port
	LogLevel  slog.Level
	LogFormat string
}

// Key is one row of the table of settings.
type Key struct {
	Name    string // of the flag, and in the file
	Group   string // a heading for people
	Help    string
	Master  bool     // a master may have a value of its own
	Secret  bool     // the value is a password, and never shown
	Reload  bool     // SIGHUP takes a new value; other keys need a restart
	List    bool     // the key takes several values
	Choices []string // the words that the key takes; nil where it takes others

	value setting
	file  *Key // names the file that may hold the password, of a Secret
}

// Prefix is how the names of all variables begin.
const Prefix = "REPLICAD_"

// Variable is the name of the key as a variable.
func (k Key) Variable() string { return variable(k.Name) }

func variable(key string) string {
	return Prefix + strings.ToUpper(strings.ReplaceAll(key, "-", "_"))
}

// Keys lists all settings, with their defaults, in the order in which people
// read them.
func Keys() []*Key { return new(Settings).keys() }

// A segment below minSegmentSize would make a file of every few commands;
// minBulk is redis.conf's bound. A rebase is a full sync of the master: minRebase
// keeps rebases apart.
const (
	minSegmentSize = 64 << 10
	minBulk        = 1 << 20
	minRebase      = time.Minute
)

// connectGroup and tlsGroup hold the keys of every command that connects to a
// master. No two
// masters may have the same value of a key of portGroup, except 0 for none.
const (
	connectGroup = "How to connect, and as whom"
	tlsGroup     = "TLS"
	portGroup    = "The RESP port, for redis-cli, Sentinel and the like"
)

// keys is the table of all settings. A key's Set changes s. The keys of the
// groups with master set may differ between masters.
func (s *Settings) keys() []*Key {
	link, archives, port := &s.Link, &s.Archive, &s.RESP
	groups := []struct {
		name   string
		master bool
		keys   []*Key
	}{
		{"What to follow, and where to keep it", false, []*Key{
			key(&s.ReplicaOf, "replicaof", nil, masters(), "the master to follow, as [NAME=]ADDR; may repeat"),
			key(&s.Dir, "dir", "", text("DIR"), "where the archives are kept, a folder for each master"),
		}},
		{"Sentinels that say where the master is, in place of replicaof", true, []*Key{
			key(&s.Sentinel.Addresses, "sentinel", nil, sentinels(), "follow the master that these Sentinels name, in place of replicaof: host:port[,host:port...]"),
			key(&s.Sentinel.MasterName, "master-name", "", text("NAME"), "what the Sentinels call the master; also the name of the archive"),
			key(&s.Sentinel.User, "sentinel-user", "", text("USER"), "ACL user for the Sentinels").reloaded(),
			secret(&s.Sentinel.Password, "sentinel-pass", "the Sentinels' password"),
			key(&s.SentinelTLS, "sentinel-tls", false, yesno(), "speak TLS with the Sentinels, with the tls-... files"),
		}},
		{connectGroup, true, []*Key{
			key(&s.MasterUser, "masteruser", "", text("USER"), "ACL user to authenticate as").reloaded(),
			secret(&s.MasterAuth, "masterauth", "the master's password"),
			key(&link.Source, "bind-source-addr", link.Source, source(), "address to connect from; where it can't be bound another one is used, as in Redis"),
		}},
		{tlsGroup, true, []*Key{
			key(&s.TLS, "tls", false, yesno(), "speak TLS with every master, as rediss:// does with one"),
			key(&link.TLS.CACert, "tls-ca-cert-file", "", text("FILE"), "authorities that may sign a master's certificate; the system's where not given"),
			key(&link.TLS.Cert, "tls-cert-file", "", text("FILE"), "certificate to show to a master that asks for one"),
			key(&link.TLS.Key, "tls-key-file", "", text("FILE"), "private key of the certificate"),
			key(&link.TLS.ServerName, "tls-server-name", "", text("NAME"), "name that the master's certificate must have; the host of ADDR where not given"),
		}},
		{portGroup, true, []*Key{
			key(&port.Port, "port", respport.DefaultPort, number(0, 65535), "port that answers as a replica does; 0 for none; of several masters each has its own, in the file"),
			key(&port.TLSPort, "tls-port", 0, number(0, 65535), "the same with TLS, with tls-cert-file and tls-key-file; 0 for none"),
		}},
		{"What the master is told", true, []*Key{
			key(&link.AnnounceIP, "replica-announce-ip", "", text("IP"), "address to tell the master"),
			key(&link.AnnouncePort, "replica-announce-port", 0, number(0, 65535), "port to tell the master, in place of port"),
		}},
		{"The link", false, []*Key{
			key(&link.ReplTimeout, "repl-timeout", replica.DefaultReplTimeout, age(positive, false), "give up a link after this time without a byte"),
			key(&link.ReplSyncioTimeout, "repl-syncio-timeout", replica.DefaultReplSyncioTimeout, age(positive, false), "limit for the connect and for each step of the handshake"),
			key(&link.ReplBGSaveTimeout, "repl-bgsave-timeout", replica.DefaultReplBGSaveTimeout, age(positive, false), "how long a master may prepare a full sync while it sends only keep-alives"),
			key(&link.Limits.MaxBulk, "proto-max-bulk-len", resp.DefaultMaxBulk, size[int64](minBulk), "longest argument of a command in the stream"),
			key(&link.Limits.MaxArgs, "max-arguments", resp.DefaultMaxArgs, number(1, resp.DefaultMaxArgs), "most arguments of a command in the stream"),
		}},
		{"The archive", false, []*Key{
			key(&archives.AppendFsync, "appendfsync", archive.Everysec, choice(archive.ParsePolicy, archive.Policy.String, "always", "everysec", "no"), "when to fsync; with always ACK, and so WAIT, waits for the fsync"),
			key(&archives.SegmentSize, "segment-size", archive.DefaultSegmentSize, size[int64](minSegmentSize), "size at which the next file of the stream begins"),
			key(&archives.TimelineResolution, "timeline-resolution", archive.DefaultTimelineResolution, age(time.Millisecond, false), "how exact restore --to TIME is: the least time between two marks"),
		}},
		{"Rebases: when a new base is taken beside the running link", false, []*Key{
			key(&s.Rebase.Percentage, "auto-aof-rewrite-percentage", daemon.DefaultRebasePercentage, number(0, math.MaxInt), "rebase (take a new base beside the running link) when the stream has this percentage of the base's size; 0 for never"),
			key(&s.Rebase.MinSize, "auto-aof-rewrite-min-size", daemon.DefaultRebaseMinSize, size[int64](0), "no rebase by percentage while the stream is smaller"),
			key(&s.Rebase.Every, "rebase-every", 0, age(minRebase, true), "rebase when the base has this age; 0s for never"),
		}},
		{"Retention: what stays restorable", false, []*Key{
			key(&s.Retention.KeepFor, "keep-for", archive.DefaultKeepFor, age(0, false), "window in which every time stays restorable (12h, 7d)"),
			key(&s.Retention.KeepGenerations, "keep-generations", archive.DefaultKeepGenerations, number(archive.DefaultKeepGenerations, math.MaxInt), "number of generations that stay however old they are; at least 2"),
			key(&s.Retention.MaxBytes, "max-bytes", 0, size[int64](0), "bound of each archive, as redis.conf writes sizes (100gb); 0 for none"),
		}},
		{"The remote: a copy in object storage", false, []*Key{
			key(&s.Remote.URL, "remote", "", text("URL"), "copy each archive to s3://BUCKET/PREFIX as it grows; the credentials are those of the aws command"),
			key(&s.Remote.Endpoint, "remote-endpoint", "", text("URL"), "address of the store, as https://HOST:PORT; Amazon's where not given"),
			key(&s.Remote.Region, "remote-region", "", text("REGION"), "region of the bucket; the store is asked where not given"),
			key(&s.Remote.Every, "remote-every", remote.DefaultEvery, age(time.Millisecond, false), "least time between two objects of what has come; more is cheaper, less loses less"),
			key(&s.Remote.CloseAfter, "remote-close-after", remote.DefaultCloseAfter, age(time.Second, false), "time after which what has come becomes a segment of the remote, though it is below 64 MiB"),
			key(&s.Remote.SingleWriter, "remote-single-writer", false, yesno(), "take a store that ignores If-None-Match: nobody else writes below the prefix"),
		}},
		{"All RESP ports", false, []*Key{
			key(&port.Bind, "bind", strings.Fields(respport.DefaultBind), words(), "addresses to listen on, separated by spaces; * for all; one with - before it may be missing"),
			key(&port.ProtectedMode, "protected-mode", true, yesno(), "without a password serve only the loopback, as Redis does"),
			secret(&port.RequirePass, "requirepass", "the password that clients must give"),
			key(&port.MaxClients, "maxclients", respport.DefaultMaxClients, number(1, 1<<20), "most clients of a port"),
			key(&port.Timeout, "timeout", 0, age(0, false), "close a client that is idle for this time; 0s for never"),
			key(&port.QueryBufferLimit, "client-query-buffer-limit", respport.DefaultQueryBufferLimit, size[int](respport.MinQueryBufferLimit), "largest query"),
			key(&port.MaxMemoryClients, "maxmemory-clients", respport.DefaultMaxMemoryClients, size[int64](respport.MinMaxMemoryClients), "most memory that the clients of a port may take together; a client that needs more is cut"),
			key(&port.TCPKeepAlive, "tcp-keepalive", respport.DefaultTCPKeepAlive, age(0, false), "time between TCP keep-alives; 0s for none"),
			key(&port.TLS.AuthClients, "tls-auth-clients", "yes", oneOf("yes", "no", "optional"), "whether clients of tls-port must show a certificate that tls-ca-cert-file's authority has signed"),
		}},
		{"The relay: replicas of the master are fed from the archive", false, []*Key{
			key(&port.Relay, "relay", false, yesno(), "answer PSYNC on the RESP ports, so that any Redis can be a replica of the archive; beyond the loopback it needs requirepass"),
			key(&s.Relay.MaxBaseAge, "relay-max-base-age", relay.DefaultMaxBaseAge, age(0, false), "how old the base may be that redis-cli --rdb gets; 0s for any age"),
			key(&s.Relay.Hold, "relay-hold", relay.DefaultHold, age(positive, true), "how long retention waits for a replica that lags, before the replica is cut"),
		}},
		{"Metrics and health", false, []*Key{
			key(&s.HTTP, "http", "", listen(), "serve the status page, /metrics, /healthz and /readyz at this host:port; not served where not given"),
		}},
		{"Logs", false, []*Key{
			key(&s.LogLevel, "loglevel", logs.LevelNotice, choice(logs.ParseLevel, logs.LevelName, "debug", "verbose", "notice", "warning"), "the least level that is logged").reloaded(),
			key(&s.LogFormat, "log-format", "auto", oneOf("auto", "text", "json"), "text is key=value; auto is short lines on a terminal, and text elsewhere"),
		}},
	}
	var all []*Key
	for _, g := range groups {
		for _, k := range g.keys {
			if k.Secret {
				all = append(all, k.file)
			}
			all = append(all, k)
		}
		for _, k := range all {
			if k.Group == "" {
				k.Group, k.Master = g.name, g.master
			}
		}
	}
	return all
}

// key makes a row of the table: a value in to, which people write as v says.
func key[T any](to *T, name string, def T, v value[T], help string) *Key {
	*to = def
	v.to = to
	return &Key{Name: name, Help: help, Choices: v.choices, List: v.add != nil, value: v}
}

// secret makes the key of a password, and that of the file that may hold it.
func secret(to *string, name, what string) *Key {
	k := key(to, name, "", text("PASSWORD"), what+" (visible to every user of this host: prefer the file or the variable)").reloaded()
	k.Secret = true
	k.file = key(new(string), name+"-file", "", text("FILE"), "file that holds "+what).reloaded()
	return k
}

func (k *Key) reloaded() *Key {
	k.Reload = true
	return k
}

// connects says whether a command that connects to a master has the key.
func (k *Key) connects() bool { return k.Group == connectGroup || k.Group == tlsGroup }

// find returns the key of that name, or nil.
func find(keys []*Key, name string) *Key {
	i := slices.IndexFunc(keys, func(k *Key) bool { return k.Name == name })
	if i < 0 {
		return nil
	}
	return keys[i]
}
