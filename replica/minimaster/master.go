package minimaster

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/tidwall/redcon"
)

// Version is the version of Redis that this master behaves like and says it is.
const Version = "7.0.15"

// Config says what master to start. The zero value is one on a free port of the
// loopback, open to everybody.
type Config struct {
	Addr        string // host:port to listen on; "127.0.0.1:0" when empty
	RequirePass string // the password that AUTH must bring; "" for none

	ReplPingPeriod time.Duration // repl-ping-replica-period; 10 s when 0
	BacklogSize    int           // repl-backlog-size in bytes; 1 MiB when 0
	Diskless       bool          // repl-diskless-sync: $EOF:<40 bytes> framing for replicas with capa eof, else $<length>
	Channels       Dialect       // offers a full sync on two connections; "" for not
	KeepAlive      time.Duration // between the newlines sent to a replica that waits; 1 s when 0, as replicationCron has it

	// OutputLimit is the hard limit of client-output-buffer-limit replica, in
	// bytes: a replica whose queue grows beyond is disconnected. 256 MiB when 0.
	// The payload of a full sync is not counted.
	OutputLimit int

	// OnSnapshot is told the RDB file of each full sync, and the offset that the
	// file stands for. The function must not change rdb nor call the master. May
	// be nil.
	OnSnapshot func(offset int64, rdb []byte)

	Faults Faults
}

// Dialect is how a master sends RDB and stream on two connections. Its replica
// must know the capability.
type Dialect string

// The dialects. Both need Diskless.
const (
	RDBChannel  Dialect = "rdb-channel-repl" // Redis 8
	DualChannel Dialect = "dual-channel"     // Valkey 8
)

// Master is a running master. Its methods may be called from any goroutine.
type Master struct {
	replication
	faults atomic.Pointer[Faults]
	ln     net.Listener
	local  *Client // the client of Do
	table  map[string]command

	// Under mu.
	engine   *engine
	streamDB int // slaveseldb: the database in force in the stream, -1 for none known
}

// Start starts a master. Close it to stop it.
func Start(cfg Config) (*Master, error) {
	cfg.Addr = cmp.Or(cfg.Addr, "127.0.0.1:0")
	cfg.ReplPingPeriod = cmp.Or(cfg.ReplPingPeriod, 10*time.Second)
	cfg.BacklogSize = cmp.Or(cfg.BacklogSize, 1<<20)
	cfg.KeepAlive = cmp.Or(cfg.KeepAlive, time.Second)
	cfg.OutputLimit = cmp.Or(cfg.OutputLimit, 256<<20)
	engine, err := newEngine()
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", cfg.Addr)
	if err != nil {
		engine.close()
		return nil, fmt.Errorf("minimaster: %w", err)
	}
	m := &Master{
		replication: replication{
			cfg:     cfg,
			done:    make(chan struct{}),
			replid:  randomHex(),
			streams: map[*stream]struct{}{},
			mains:   map[int64]*stream{},
			acked:   make(chan struct{}),
		},
		engine:   engine,
		table:    commandTable(),
		streamDB: -1,
	}
	m.snapshot = m.takeSnapshot
	m.replicas.KeepAlive, m.replicas.Acked = cfg.KeepAlive, m.heardAck
	m.SetFaults(cfg.Faults)
	m.ln = listener{ln, &m.faults}
	m.local = m.NewClient()
	server := redcon.NewServer(cfg.Addr, m.handle, nil, nil)
	// It ends when the listener is closed, and has nothing else to say.
	m.wg.Go(func() { _ = server.Serve(m.ln) })
	m.wg.Go(m.cron)
	return m, nil
}

// randomHex is what Redis makes for a replication id and an EOF mark: 40 hex
// digits (util.c, getRandomHexChars).
func randomHex() string {
	var b [20]byte
	_, _ = rand.Read(b[:]) // it never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// Addr is where the master listens, host:port.
func (m *Master) Addr() string { return m.ln.Addr().String() }

// SetFaults changes the faults, also those of open connections.
func (m *Master) SetFaults(f Faults) { m.faults.Store(&f) }

// Close closes every connection, stops and waits for everything that Start
// started. The data are gone.
func (m *Master) Close() error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil
	}
	m.closed = true
	close(m.done)
	m.mu.Unlock()
	m.replicas.Close()
	err := m.ln.Close()
	m.wg.Wait()
	m.engine.close()
	if err != nil {
		return fmt.Errorf("minimaster: %w", err)
	}
	return nil
}

// takeSnapshot makes the payload of a full sync. The next write opens with
// SELECT, since the replica's stream is a new one:
// replicationSetupReplicaForFullResync sets slaveseldb to -1 for the same
// reason. The caller holds mu.
func (m *Master) takeSnapshot() ([]byte, error) {
	m.expire()
	rdb, err := m.engine.rdb(m.replid, m.offset)
	if err != nil {
		return nil, err
	}
	m.streamDB = -1
	if m.cfg.OnSnapshot != nil {
		m.cfg.OnSnapshot(m.offset, rdb)
	}
	return rdb, nil
}

// propagate turns effects into bytes of the stream and feeds them (server.c,
// propagatePendingCommands). Several effects of one transaction go as
// MULTI ... EXEC, in one piece: a replica never stands between two of them. One
// alone needs no wrapping. SELECT is said when the database is another than the
// stream's. The caller holds mu.
func (m *Master) propagate(effects []effect) {
	if len(effects) == 0 {
		return
	}
	var b []byte
	selectDB := func(db int) {
		if db != m.streamDB {
			b = appendCommand(b, "SELECT", strconv.Itoa(db))
			m.streamDB = db
		}
	}
	if len(effects) > 1 {
		selectDB(effects[0].db)
		b = appendCommand(b, "MULTI")
	}
	for _, x := range effects {
		selectDB(x.db)
		b = appendCommand(b, x.args...)
	}
	if len(effects) > 1 {
		b = appendCommand(b, "EXEC")
	}
	m.feed(b)
}

// expire reads the clock, deletes what is due and tells the replicas. The caller
// holds mu.
func (m *Master) expire() {
	m.engine.now = time.Now().UnixMilli()
	for _, gone := range m.engine.expireDue() {
		m.propagate([]effect{gone})
	}
}

// cron is what replicationCron and serverCron do here: ten times a second it
// deletes what has expired, and every repl-ping-replica-period the replicas get a
// PING, so that they know a silent master from a dead link.
func (m *Master) cron() {
	tick := time.NewTicker(min(100*time.Millisecond, m.cfg.ReplPingPeriod)) // hz 10
	defer tick.Stop()
	for pinged := time.Now(); ; {
		select {
		case <-m.done:
			return
		case <-tick.C:
		}
		m.mu.Lock()
		m.expire()
		if time.Since(pinged) >= m.cfg.ReplPingPeriod && m.Replicas() > 0 {
			m.feed(appendCommand(nil, "PING"))
			pinged = time.Now()
		}
		m.mu.Unlock()
	}
}
