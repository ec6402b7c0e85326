package config

import (
	"log/slog"
	"math"
	"time"

	"github.com/spf13/pflag"

	"replicad/anet/tunnel"
	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/daemon"
	"replicad/replica/logs"
	"replicad/replica/resp"
	"replicad/replica/respport"
)

// Settings are all keys.
type Settings struct {
	ReplicaOf []string // empty where the file has masters
	Dir       string
	Master    // for masters that have none of their own; see Followed

	AppendFsync        archive.Policy
	SegmentSize        int64
	TimelineResolution time.Duration
	Rebase             daemon.Rebase
	Retain

	ReplTimeout       time.Duration
	ReplSyncioTimeout time.Duration
	ReplBGSaveTimeout time.Duration
	Limits            resp.Limits

	Serve
	HTTP string // "" for none

	LogLevel  slog.Level
	LogFormat string
}

// minSegmentSize keeps the stream from falling into a file for each command;
// minBulk is redis.conf's. A rebase is a full sync of the master: minRebase
// keeps them apart.
const (
	minSegmentSize = 64 << 10
	minBulk        = 1 << 20
	minRebase      = time.Minute
)

func (s *Settings) declare(d *declarations) {
	d.group = "What to follow, and where to keep it"
	declareList(d, &s.ReplicaOf, "replicaof", nil, "the master to follow, as [NAME=]ADDR; may repeat")
	declare(d, &s.Dir, "dir", text(), "", "where the archives are kept, a folder for each master")

	s.Master.declare(d)

	d.group = "The link"
	declare(d, &s.ReplTimeout, "repl-timeout", age(positive, false), replica.DefaultReplTimeout, "give a link up after so long without a byte")
	declare(d, &s.ReplSyncioTimeout, "repl-syncio-timeout", age(positive, false), replica.DefaultReplSyncioTimeout, "limit for the connect and for each step of the handshake")
	declare(d, &s.ReplBGSaveTimeout, "repl-bgsave-timeout", age(positive, false), replica.DefaultReplBGSaveTimeout, "how long a master may prepare a full sync, sending only keep-alives")
	declare(d, &s.Limits.MaxBulk, "proto-max-bulk-len", size(minBulk), resp.DefaultMaxBulk, "longest argument of a command in the stream")
	declare(d, &s.Limits.MaxArgs, "max-arguments", number(1, math.MaxInt), resp.DefaultMaxArgs, "most arguments of a command in the stream")

	d.group = "The archive"
	declare(d, &s.AppendFsync, "appendfsync", policy(), archive.Everysec, "when to fsync: always, everysec or no; always makes ACK, and so WAIT, wait for the fsync")
	declare(d, &s.SegmentSize, "segment-size", size(minSegmentSize), archive.DefaultSegmentSize, "start the next file of the stream at this size")
	declare(d, &s.TimelineResolution, "timeline-resolution", age(time.Millisecond, false), archive.DefaultTimelineResolution, "how exact restore --to TIME is: write down which offset was reached when at most so often")
	declare(d, &s.Rebase.Percentage, "auto-aof-rewrite-percentage", number(0, math.MaxInt), daemon.DefaultRebasePercentage, "rebase (take a new full sync beside the running link) when the stream has so many percent of the base; 0 for never")
	declare(d, &s.Rebase.MinSize, "auto-aof-rewrite-min-size", size(0), daemon.DefaultRebaseMinSize, "but not while the stream is smaller")
	declare(d, &s.Rebase.Every, "rebase-every", age(minRebase, true), 0, "rebase when the base is so old; 0s for never")
	s.Retain.declare(d)

	s.Serve.declare(d)
	d.group = "Metrics and health"
	declare(d, &s.HTTP, "http", listen(), "", "serve /metrics, /healthz and /readyz at this host:port; off where not given")

	d.group = "Logs"
	declare(d, &s.LogLevel, "loglevel", level(), logs.LevelNotice, "debug, verbose, notice or warning", reloaded)
	declare(d, &s.LogFormat, "log-format", oneOf("text", "json"), "text", "text or json")
}

// Master are the keys that masters may differ in.
type Master struct {
	Sentinel Sentinel
	Connect
	Port         int
	TLSPort      int
	AnnounceIP   string
	AnnouncePort int
}

func (m *Master) declare(d *declarations) {
	d.master = true
	defer func() { d.master = false }()
	m.Sentinel.declare(d)
	m.Connect.declare(d)
	d.group = "The RESP port, for redis-cli, Sentinel and the like"
	declare(d, &m.Port, "port", number(0, 65535), respport.DefaultPort, "port that answers as a replica does; 0 for none; with several masters each has its own, named in the file", unique)
	declare(d, &m.TLSPort, "tls-port", number(0, 65535), 0, "likewise, spoken to by TLS with tls-cert-file and tls-key-file", unique)
	d.group = "What the master is told"
	declare(d, &m.AnnounceIP, "replica-announce-ip", text(), "", "address to tell the master")
	declare(d, &m.AnnouncePort, "replica-announce-port", number(0, 65535), 0, "port to tell the master, in place of port")
}

// Serve are the keys of the RESP ports of all masters.
type Serve struct {
	Bind             string
	ProtectedMode    bool
	RequirePass      Secret
	MaxClients       int
	Timeout          time.Duration
	QueryBufferLimit int64
	MaxMemoryClients int64
	TCPKeepAlive     time.Duration
	TLSAuthClients   string
}

func (s *Serve) declare(d *declarations) {
	d.group = "All RESP ports"
	declare(d, &s.Bind, "bind", text(), respport.DefaultBind, "addresses to listen on, separated by spaces; * for all; one with - before it may be missing")
	declare(d, &s.ProtectedMode, "protected-mode", yesno(), true, "without a password serve only the loopback, as Redis does")
	declareSecret(d, &s.RequirePass, "requirepass", "the password that clients must give")
	declare(d, &s.MaxClients, "maxclients", number(1, 1<<20), respport.DefaultMaxClients, "most clients of a port")
	declare(d, &s.Timeout, "timeout", age(0, false), 0, "close a client that was idle for so long; 0s for never")
	declare(d, &s.QueryBufferLimit, "client-query-buffer-limit", size(respport.MinQueryBufferLimit), respport.DefaultQueryBufferLimit, "largest query")
	declare(d, &s.MaxMemoryClients, "maxmemory-clients", size(respport.MinMaxMemoryClients), respport.DefaultMaxMemoryClients, "what the clients of a port together may have replicad hold; one that would need more is cut")
	declare(d, &s.TCPKeepAlive, "tcp-keepalive", age(0, false), respport.DefaultTCPKeepAlive, "between TCP keep-alives; 0s for none")
	declare(d, &s.TLSAuthClients, "tls-auth-clients", oneOf("yes", "no", "optional"), "yes", "whether clients of tls-port must show a certificate that tls-ca-cert-file's authority has signed")
}

// Sentinel says which Sentinels know where the master is, in place of an address.
type Sentinel struct {
	Addresses  []string
	MasterName string
	User       string
	Password   Secret
	TLS        bool
}

func (s *Sentinel) declare(d *declarations) {
	d.group = "Sentinels that say where the master is, in place of replicaof"
	declareList(d, &s.Addresses, "sentinel", nil, "follow the master that these Sentinels name, in place of --replicaof: host:port[,host:port...]")
	declare(d, &s.MasterName, "master-name", text(), "", "what the Sentinels call the master; names the archive too")
	declare(d, &s.User, "sentinel-user", text(), "", "ACL user of the Sentinels", reloaded)
	declareSecret(d, &s.Password, "sentinel-pass", "the Sentinels' password")
	declare(d, &s.TLS, "sentinel-tls", yesno(), false, "speak TLS with the Sentinels, by the files of --tls-...")
}

// Connect are the keys of every command that speaks to a master: how it is
// connected to, and who is there.
type Connect struct {
	User     string
	Password Secret
	Source   string
	TLS      bool
	Files    tunnel.Files
}

func (c *Connect) declare(d *declarations) {
	d.group = "How to connect, and as whom"
	declare(d, &c.User, "masteruser", text(), "", "ACL user to authenticate as", reloaded)
	declareSecret(d, &c.Password, "masterauth", "the master's password")
	declare(d, &c.Source, "bind-source-addr", address(), "", "address to connect from; as in Redis, another one is used where it can't be bound")
	declare(d, &c.TLS, "tls", yesno(), false, "speak TLS with each master, as rediss:// does with one")
	declare(d, &c.Files.CACert, "tls-ca-cert-file", text(), "", "authorities that a master's certificate may be signed by; the system's where not given")
	declare(d, &c.Files.Cert, "tls-cert-file", text(), "", "certificate to show to a master that asks for one")
	declare(d, &c.Files.Key, "tls-key-file", text(), "", "its private key")
	declare(d, &c.Files.ServerName, "tls-server-name", text(), "", "the name that the master's certificate must have; the host of ADDR where not given")
}

// Retain says what of an archive stays; run and prune have it.
type Retain struct{ Retention archive.Retention }

func (r *Retain) declare(d *declarations) {
	declare(d, &r.Retention.KeepFor, "keep-for", age(0, false), archive.DefaultKeepFor, "every time of so long a window stays restorable (12h, 7d)")
	declare(d, &r.Retention.KeepGenerations, "keep-generations", number(archive.DefaultKeepGenerations, math.MaxInt), archive.DefaultKeepGenerations, "so many generations stay however old they are; at least 2")
	declare(d, &r.Retention.MaxBytes, "max-bytes", size(0), 0, "bound of each archive, as redis.conf writes sizes (100gb); 0 for none")
}

// Register gives a command the flags of Retain alone.
func (r *Retain) Register(fl *pflag.FlagSet) { r.declare(newDeclarations(fl)) }

// RegisterMaxBulk gives a command the flag --proto-max-bulk-len alone.
func RegisterMaxBulk(fl *pflag.FlagSet, to *int64, help string) {
	declare(newDeclarations(fl), to, "proto-max-bulk-len", size(minBulk), resp.DefaultMaxBulk, help)
}
