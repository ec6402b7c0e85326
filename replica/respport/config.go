package respport

import (
	"cmp"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"replicad/replica/archive"
	"replicad/replica/daemon/status"
	"replicad/replica/relay"
)

// Defaults of [Config]: those of redis.conf, or less where this port needs less.
const (
	DefaultPort             = 6380
	DefaultBind             = "127.0.0.1"
	DefaultMaxClients       = 1000
	DefaultQueryBufferLimit = 1 << 20  // bytes
	DefaultMaxMemoryClients = 32 << 20 // bytes
	DefaultTCPKeepAlive     = 300 * time.Second
)

// RedisVersion is the version of Redis that the port answers like, and says it
// has.
const RedisVersion = "7.0.15"

// Config is what a port needs to know. Fields have redis.conf's names; zero
// sizes mean the defaults.
type Config struct {
	// Port is the plain port, 0 for none; TLSPort the one that speaks TLS.
	Port    int
	TLSPort int
	// Bind are the addresses to listen on, as redis.conf has them: an address
	// with - before it need not exist, * is all of IPv4, ::* all of IPv6.
	Bind []string
	// ProtectedMode serves only the loopback while there is no password.
	ProtectedMode bool
	// RequirePass is the password of the user default; "" for none.
	RequirePass string
	// MaxClients is how many connections are served at a time.
	MaxClients int
	// Timeout is how long a connection may be idle; 0 means for ever.
	Timeout time.Duration
	// Relay says that the backend has a relay: the port hands out the whole
	// dataset, and beyond the loopback needs a password.
	Relay bool
	// QueryBufferLimit is client-query-buffer-limit: the longest command, in
	// bytes.
	QueryBufferLimit int
	// MaxMemoryClients bounds the memory that all clients together make the port
	// hold, in bytes: unfinished commands, transactions, subscriptions, and
	// messages that are not yet read. A client that would need more is cut.
	MaxMemoryClients int64
	// TCPKeepAlive is the time without traffic after which a peer is probed; 0
	// means never.
	TCPKeepAlive time.Duration
	// TLS says how TLSPort speaks TLS.
	TLS TLSFiles
	// Version of replicad.
	Version string
	// Directives is more of what CONFIG GET tells, without secrets.
	Directives map[string]string
	// Shutdown ends the daemon; it must not wait.
	Shutdown func()
	// Log may be nil.
	Log *slog.Logger
}

// Backend is the master that the port tells of and gives orders to. Its methods
// are called from any goroutine. Status returns at once; the others may take
// their time.
type Backend interface {
	// Status is how the link stands.
	Status() status.Status
	// Archive describes the archive on disk. The description may be a moment old:
	// a disk that hangs must not hold the answer back.
	Archive() (archive.Master, error)
	// ReplicaOf follows another master from now on. The order is durable when
	// ReplicaOf returns.
	ReplicaOf(host, port string) error
	// NoOne follows nobody from now on. The order is durable, too.
	NoOne() error
	// Relay is what feeds replicas; nil for none.
	Relay() *relay.Relay
	// Rebase begins a new generation beside the stream; why goes to the log.
	Rebase(why string) error
}

// The least that the limits may be, in bytes.
const (
	MinQueryBufferLimit = 4 << 10
	MinMaxMemoryClients = 1 << 20
)

func (c *Config) fill() {
	if len(c.Bind) == 0 {
		c.Bind = []string{DefaultBind}
	}
	c.MaxClients = cmp.Or(c.MaxClients, DefaultMaxClients)
	c.QueryBufferLimit = cmp.Or(c.QueryBufferLimit, DefaultQueryBufferLimit)
	c.MaxMemoryClients = cmp.Or(c.MaxMemoryClients, DefaultMaxMemoryClients)
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
}

// directives are what CONFIG GET tells: the settings, with the value that holds
// in place of the one that was given. Passwords are not among them: a client of
// this port need not know the master's.
func (s *Server) directives() map[string]string {
	c := &s.cfg
	master := ""
	st := s.backend.Status()
	if host, port := st.HostPort(); st.Following() {
		master = host + " " + strconv.Itoa(port)
	}
	d := map[string]string{}
	maps.Copy(d, c.Directives)
	maps.Copy(d, map[string]string{
		"port": strconv.Itoa(c.Port), "tls-port": strconv.Itoa(c.TLSPort), "bind": strings.Join(c.Bind, " "),
		"maxclients": strconv.Itoa(c.MaxClients), "replicaof": master,
		// What a replica of this kind is, whatever is configured.
		"appendonly": "yes", "save": "", "replica-read-only": "yes", "replica-priority": "0", "replica-announced": "no",
		"databases": strconv.Itoa(databases), "maxmemory": "0", "maxmemory-policy": "noeviction", "aof-use-rdb-preamble": "yes",
		"appenddirname": "appendonlydir", "appendfilename": "appendonly.aof", "cluster-enabled": "no", "daemonize": "no",
		"slowlog-log-slower-than": "-1", "slowlog-max-len": "0", "latency-monitor-threshold": "0", "io-threads": "1",
	})
	for name, value := range maps.Clone(d) { // the old names
		if tail, ok := strings.CutPrefix(name, "replica"); ok {
			d["slave"+tail] = value
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
