package minimaster

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidwall/redcon"
)

// Config says what master to start. The zero value is one on a free port of the loopback, open to everybody.
type Config struct {
	Addr string // host:port to listen on; "127.0.0.1:0" when empty

	// RequirePass is the password that AUTH must bring. With MasterUser it is that user's, and nobody
	// else can log in: a replica must send AUTH user pass then.
	RequirePass, MasterUser string

	ReplPingPeriod    time.Duration // repl-ping-replica-period; 10 s when 0
	BacklogSize       int           // repl-backlog-size in bytes; 1 MiB when 0
	Diskless          bool          // repl-diskless-sync: $EOF:<40 bytes> framing for replicas with capa eof, else $<length>
	DisklessSyncDelay time.Duration // repl-diskless-sync-delay: how long a replica waits for others to arrive before +FULLRESYNC
	KeepAlive         time.Duration // between the newlines sent to a replica that waits; 1 s when 0, as replicationCron has it

	// OutputLimit is the hard limit of client-output-buffer-limit replica, in bytes: a replica whose queue
	// grows beyond is disconnected. 256 MiB when 0. The snapshot is not counted.
	OutputLimit int

	Faults Faults
	Log    *slog.Logger // nil: silent
}

// Faults make a master misbehave, for tests of replicas. They hit only connections that have sent nothing but what
// a replica sends before it is one (PING, AUTH, REPLCONF, PSYNC, SYNC): a client that did anything else is safe.
type Faults struct {
	// CutAfter closes the connection once so many bytes were sent to it, counted from its connect. 0: never.
	CutAfter int64

	// Delay passes before each reply.
	Delay time.Duration

	// Replies replaces replies: raw bytes by step. A step is the command in upper case, for REPLCONF followed by
	// its first argument in lower case: "PING", "AUTH", "REPLCONF listening-port", "REPLCONF capa",
	// "REPLCONF version", "PSYNC", "SYNC". The command itself is not executed. The step "RDB" is what
	// replaces the payload of a full sync with its framing; the connection is closed after it.
	Replies map[string]string

	// ByteAtATime sends every byte in a write of its own (and TCP_NODELAY is on).
	ByteAtATime bool

	// SaveTime is how long the snapshot of a full sync pretends to take, after +FULLRESYNC. While a disk-based one
	// (the $<length> framing) lasts there are newlines; a diskless one is silent, as in Redis.
	SaveTime time.Duration

	// CorruptRDB flips a bit in the middle of each snapshot sent; its checksum is the one of the original.
	CorruptRDB bool
}

// Master is a running master. Its methods may be called from any goroutine.
type Master struct {
	cfg    Config
	log    *slog.Logger
	faults atomic.Pointer[Faults]
	ln     *listener
	server *redcon.Server
	done   chan struct{} // closed by Close
	wg     sync.WaitGroup
	local  *Client // the client of Do

	mu       sync.Mutex // the one lock: see the package comment
	engine   *Engine
	replid   string
	offset   int64    // master_repl_offset: bytes of stream produced
	backlog  *backlog // nil until the first replica, as in Redis: until then nothing is counted
	streamDB int      // slaveseldb: the database in force in the stream, -1 for none known
	replicas map[*replica]struct{}
	acked    chan struct{} // closed, and replaced, at each acknowledgement: WAIT waits for it
	stats    Stats
	clientID int64
	closed   bool
}

// Stats counts what INFO shows under the same names, since Start.
type Stats struct {
	SyncFull       int64 // full syncs begun
	SyncPartialOK  int64 // partial syncs granted
	SyncPartialErr int64 // partial syncs asked for and not granted
}

// Start starts a master. Close it to stop it.
func Start(cfg Config) (*Master, error) {
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	if cfg.ReplPingPeriod == 0 {
		cfg.ReplPingPeriod = 10 * time.Second
	}
	if cfg.BacklogSize == 0 {
		cfg.BacklogSize = 1 << 20
	}
	if cfg.KeepAlive == 0 {
		cfg.KeepAlive = time.Second
	}
	if cfg.OutputLimit == 0 {
		cfg.OutputLimit = 256 << 20
	}
	if cfg.BacklogSize < 0 || cfg.ReplPingPeriod < 0 || cfg.KeepAlive < 0 || cfg.OutputLimit < 0 {
		return nil, fmt.Errorf("minimaster: negative BacklogSize, ReplPingPeriod, KeepAlive or OutputLimit")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	engine, err := NewEngine()
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", cfg.Addr)
	if err != nil {
		engine.Close()
		return nil, fmt.Errorf("minimaster: %w", err)
	}
	m := &Master{
		cfg:      cfg,
		log:      cfg.Log,
		done:     make(chan struct{}),
		engine:   engine,
		replid:   randomHex(),
		streamDB: -1,
		replicas: map[*replica]struct{}{},
		acked:    make(chan struct{}),
	}
	m.SetFaults(cfg.Faults)
	m.ln = &listener{Listener: ln, m: m, links: map[*link]struct{}{}}
	m.local = m.NewClient()
	m.server = redcon.NewServer(cfg.Addr, m.handle, nil, nil)
	m.wg.Add(2)
	go func() {
		defer m.wg.Done()
		// It ends when the listener is closed, and has nothing else to say.
		_ = m.server.Serve(m.ln)
	}()
	go func() {
		defer m.wg.Done()
		m.cron()
	}()
	return m, nil
}

// randomHex is what Redis makes for a run id, a replication id, an EOF mark: 40 hex digits (util.c, getRandomHexChars).
func randomHex() string {
	var b [20]byte
	_, _ = rand.Read(b[:]) // it never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// Addr is where it listens, host:port.
func (m *Master) Addr() string { return m.ln.Addr().String() }

// SetFaults changes the faults; connections that are open see the change, too.
func (m *Master) SetFaults(f Faults) { m.faults.Store(&f) }

// ReplID is the replication id, 40 hex digits. It never changes.
func (m *Master) ReplID() string { return m.replid }

// Offset is master_repl_offset: how many bytes the stream has had. It stays 0 until the first replica comes.
func (m *Master) Offset() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.offset
}

// Stats counts syncs.
func (m *Master) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stats
}

// Dump is the whole content as it is now. What has expired is not in it.
func (m *Master) Dump() Dump {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expire()
	return m.engine.dump()
}

// CutReplicas closes the connection of every replica, as CLIENT KILL TYPE replica does, and returns how many there were.
func (m *Master) CutReplicas() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := len(m.replicas)
	for r := range m.replicas {
		m.drop(r, "killed")
	}
	return n
}

// Close closes every connection, stops and waits for everything it started. The data are gone.
func (m *Master) Close() error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil
	}
	m.closed = true
	close(m.done)
	for r := range m.replicas {
		m.drop(r, "the master is closing")
	}
	m.mu.Unlock()
	err := m.ln.Close()
	m.wg.Wait()
	m.ln.wait()
	m.engine.Close()
	if err != nil {
		return fmt.Errorf("minimaster: %w", err)
	}
	return nil
}

// expire deletes what is due and tells the replicas. The caller holds mu.
func (m *Master) expire() {
	m.engine.tick()
	for _, gone := range m.engine.expireDue() {
		m.propagate([]effect{gone})
	}
}

// cron is what replicationCron and serverCron do here: ten times a second whatever has expired goes, and every
// repl-ping-replica-period the replicas get a PING, so that they know a silent master from a dead link.
func (m *Master) cron() {
	expiry := time.NewTicker(100 * time.Millisecond) // hz 10
	defer expiry.Stop()
	ping := time.NewTicker(m.cfg.ReplPingPeriod)
	defer ping.Stop()
	for {
		select {
		case <-m.done:
			return
		case <-expiry.C:
			m.mu.Lock()
			m.expire()
			m.mu.Unlock()
		case <-ping.C:
			m.mu.Lock()
			if len(m.replicas) > 0 {
				m.feed(appendCommand(nil, "PING"))
			}
			m.mu.Unlock()
		}
	}
}
