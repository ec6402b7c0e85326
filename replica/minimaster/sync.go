package minimaster

import (
	"bytes"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tidwall/redcon"
)

// The states of a replica here, as server.h names them: SLAVE_STATE_WAIT_BGSAVE_START and so on.
type replicaState int

const (
	stateWaitSaveStart replicaState = iota // diskless: waits for others; the snapshot is still to be taken
	stateWaitSaveEnd                       // snapshot taken, +FULLRESYNC sent or about to be
	stateSendBulk                          // snapshot being sent
	stateOnline                            // follows the stream
)

// String is the word that INFO has for the state.
func (s replicaState) String() string {
	return [...]string{"wait_bgsave", "wait_bgsave", "send_bulk", "online"}[s]
}

// handshake is what REPLCONF tells before PSYNC.
type handshake struct {
	port    int
	ip      string
	capa    []string
	version string
	rdbOnly bool
}

func (h *handshake) has(capa string) bool {
	for _, c := range h.capa {
		if c == capa {
			return true
		}
	}
	return false
}

// replica is one connected replica. Two goroutines serve it: reading takes its acknowledgements, writing sends
// what is in out.
type replica struct {
	m    *Master
	conn redcon.DetachedConn
	link *link
	hand handshake
	out  *outbox

	// Under Master.mu.
	state     replicaState
	rdbOnly   bool // wants the snapshot and nothing else (redis-cli --rdb)
	full      bool // came by a full sync
	ack, fack int64
	ackTime   time.Time
	ackEarly  bool // an ACK came while the last bytes of the snapshot were being handed to the kernel
}

// ReplicaInfo describes a connected replica, as the slaveN line of INFO does and a bit more.
type ReplicaInfo struct {
	Addr    string   // its end of the connection
	IP      string   // as announced, else of the connection
	Port    int      // listening-port, 0 when it named none
	Capa    []string // REPLCONF capa, in order: eof, psync2
	Version string   // REPLCONF version, which Valkey 8 and later send
	State   string   // wait_bgsave, send_bulk or online
	Full    bool     // true when it began with a full sync, false with +CONTINUE
	Ack     int64    // offset acknowledged (REPLCONF ACK)
	Fack    int64    // offset acknowledged as fsynced (FACK), 0 when never said
	Lag     time.Duration
	Queued  int // bytes that wait to be sent
}

// Replicas lists the replicas connected now, in no order.
func (m *Master) Replicas() []ReplicaInfo {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := []ReplicaInfo{}
	for r := range m.replicas {
		list = append(list, r.info())
	}
	return list
}

func (r *replica) info() ReplicaInfo {
	ip, _, _ := net.SplitHostPort(r.link.RemoteAddr().String())
	if r.hand.ip != "" {
		ip = r.hand.ip
	}
	return ReplicaInfo{
		Addr: r.link.RemoteAddr().String(), IP: ip, Port: r.hand.port, Capa: append([]string(nil), r.hand.capa...),
		Version: r.hand.version, State: r.state.String(), Full: r.full, Ack: r.ack, Fack: r.fack,
		Lag: time.Since(r.ackTime), Queued: r.out.len(),
	}
}

// tryPartialSync decides whether a replica can go on at offset with the history id: the bytes it lacks, false when they
// are not all there (replication.c, masterTryPartialResynchronization). The caller holds mu.
func (m *Master) tryPartialSync(id string, offset int64) ([]byte, bool) {
	if !strings.EqualFold(id, m.replid) || m.backlog == nil || !m.backlog.has(offset) {
		return nil, false
	}
	return m.backlog.from(offset), true
}

// continueReply grants a partial sync. A replica without psync2 does not expect an id behind the word.
func (m *Master) continueReply(h handshake) []byte {
	if h.has("psync2") {
		return []byte("+CONTINUE " + m.replid + "\r\n")
	}
	return []byte("+CONTINUE\r\n")
}

// adopt makes a connection that sent PSYNC or SYNC a replica and starts its goroutines. missing, when not nil, is
// what a partial sync has to send; otherwise it gets a full sync, with +FULLRESYNC if it said PSYNC. The
// caller holds mu.
func (m *Master) adopt(conn redcon.DetachedConn, k *link, h handshake, missing []byte, partial, psync bool) {
	r := &replica{
		m: m, conn: conn, link: k, hand: h, out: newOutbox(m.cfg.OutputLimit),
		rdbOnly: h.rdbOnly, full: !partial, ackTime: time.Now(),
	}
	if m.backlog == nil {
		m.backlog = newBacklog(m.cfg.BacklogSize, m.offset)
	}
	if partial {
		m.stats.SyncPartialOK++
		r.state = stateOnline
		r.out.first(append(m.continueReply(h), missing...))
	} else {
		m.stats.SyncFull++
	}
	m.replicas[r] = struct{}{}
	m.wg.Add(2)
	go func() {
		defer m.wg.Done()
		r.read()
	}()
	go func() {
		defer m.wg.Done()
		if !partial {
			if err := r.fullSync(psync); err != nil {
				r.leave(err.Error())
				return
			}
		}
		r.write()
	}()
}

// drop closes a replica's connection and forgets it. The caller holds mu.
func (m *Master) drop(r *replica, why string) {
	if _, ok := m.replicas[r]; !ok {
		return
	}
	delete(m.replicas, r)
	m.log.Info("replica gone", "addr", r.link.RemoteAddr().String(), "cause", why)
	r.out.close()
	r.link.Close()
}

func (r *replica) leave(why string) {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	r.m.drop(r, why)
}

// read takes what the replica says: REPLCONF ACK, which has no answer. Everything else it may say is passed over,
// for an answer would land in the middle of the stream.
func (r *replica) read() {
	for {
		cmd, err := r.conn.ReadCommand()
		if err != nil {
			r.leave("connection closed by the replica: " + err.Error())
			return
		}
		args := stringArgs(cmd)
		if len(args) >= 3 && strings.EqualFold(args[0], "REPLCONF") && strings.EqualFold(args[1], "ACK") {
			r.acknowledge(args[1:])
		}
	}
}

// acknowledge takes ACK offset [FACK offset] (replication.c, replconfCommand).
func (r *replica) acknowledge(args []string) {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	for i := 0; i+1 < len(args); i += 2 {
		offset, ok := parseInt(args[i+1])
		switch {
		case !ok:
		case strings.EqualFold(args[i], "ACK"):
			r.ack = max(r.ack, offset)
		case strings.EqualFold(args[i], "FACK"):
			r.fack = max(r.fack, offset)
		}
	}
	r.ackTime = time.Now()
	// The end of a diskless payload is not announced, so the replica's own word that it has got it all is what
	// lets the stream begin (repl_start_cmd_stream_on_ack).
	switch r.state {
	case stateOnline:
		r.out.release()
	case stateSendBulk:
		r.ackEarly = true
	}
	close(r.m.acked)
	r.m.acked = make(chan struct{})
}

// write sends what the queue has until the connection ends.
func (r *replica) write() {
	for {
		b, ok := r.out.take()
		if !ok {
			return
		}
		if _, err := r.link.Write(b); err != nil {
			r.leave(err.Error())
			return
		}
	}
}

// beginFullSync takes the snapshot: from this instant the replica's queue collects the stream, and the two
// fit together at offset. The next write opens with SELECT, since the replica's stream is a new one
// (replication.c, replicationSetupReplicaForFullResync, which sets slaveseldb to -1 for the same reason).
func (r *replica) beginFullSync() (rdb []byte, offset int64, err error) {
	m := r.m
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expire()
	var b bytes.Buffer
	if err := m.engine.writeRDB(&b, m.replid, m.offset); err != nil {
		return nil, 0, err
	}
	m.streamDB = -1
	r.state = stateWaitSaveEnd
	return b.Bytes(), m.offset, nil
}

// fullSync sends +FULLRESYNC and the snapshot in its framing.
func (r *replica) fullSync(psync bool) error {
	m := r.m
	diskless := m.cfg.Diskless && r.hand.has("eof")
	if diskless {
		if err := r.linger(m.cfg.DisklessSyncDelay, true); err != nil {
			return err
		}
	}
	rdb, offset, err := r.beginFullSync()
	if err != nil {
		return err
	}
	if psync {
		if err := r.send([]byte(fmt.Sprintf("+FULLRESYNC %s %d\r\n", m.replid, offset))); err != nil {
			return err
		}
	}
	f := *m.faults.Load()
	if err := r.linger(f.SaveTime, !diskless); err != nil {
		return err
	}
	if raw, ok := f.Replies["RDB"]; ok {
		_ = r.send([]byte(raw)) // the connection ends either way
		r.link.cut.Store(true)
		return fmt.Errorf("payload replaced by Faults.Replies")
	}
	if f.CorruptRDB {
		rdb[len(rdb)/2] ^= 0x10
	}
	m.mu.Lock()
	r.state = stateSendBulk
	m.mu.Unlock()
	payload := append([]byte("$"+strconv.Itoa(len(rdb))+"\r\n"), rdb...)
	if diskless {
		mark := randomHex()
		payload = append([]byte("$EOF:"+mark+"\r\n"), rdb...)
		payload = append(payload, mark...)
		r.out.hold()
	}
	if err := r.send(payload); err != nil {
		return err
	}
	if r.rdbOnly {
		r.link.cut.Store(true) // nothing follows: close after the last byte
		return fmt.Errorf("it wanted the snapshot only")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r.state = stateOnline
	if r.ackEarly {
		r.out.release()
	}
	return nil
}

func (r *replica) send(b []byte) error {
	_, err := r.link.Write(b)
	return err
}

// linger waits, with a newline to the replica every KeepAlive, so that it does not take the master for dead
// (replicationCron). It ends early when the replica is gone.
func (r *replica) linger(d time.Duration, newlines bool) error {
	if d <= 0 {
		return nil
	}
	end := time.NewTimer(d)
	defer end.Stop()
	tick := time.NewTicker(r.m.cfg.KeepAlive)
	defer tick.Stop()
	for {
		select {
		case <-end.C:
			return nil
		case <-r.out.gone:
			return net.ErrClosed
		case <-tick.C:
			if !newlines {
				continue
			}
			if err := r.send([]byte("\n")); err != nil {
				return err
			}
		}
	}
}

// outbox is the bounded queue between those who feed a replica and the goroutine that writes to it.
type outbox struct {
	gone chan struct{} // closed by close

	mu     sync.Mutex
	ready  sync.Cond
	buf    []byte
	limit  int
	held   bool // nothing may be taken yet
	closed bool
}

func newOutbox(limit int) *outbox {
	o := &outbox{limit: limit, gone: make(chan struct{})}
	o.ready.L = &o.mu
	return o
}

// put appends b, unless that makes the queue too long.
func (o *outbox) put(b []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.buf)+len(b) > o.limit {
		return false
	}
	o.buf = append(o.buf, b...)
	o.ready.Signal()
	return true
}

// first sets what is to be sent before anything else; the limit does not apply to it, since the backlog may be larger.
func (o *outbox) first(b []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf = b
	o.ready.Signal()
}

// take waits for bytes and takes them all; false when the replica is gone.
func (o *outbox) take() ([]byte, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for !o.closed && (o.held || len(o.buf) == 0) {
		o.ready.Wait()
	}
	b := o.buf
	o.buf = nil
	return b, !o.closed
}

func (o *outbox) hold() {
	o.mu.Lock()
	o.held = true
	o.mu.Unlock()
}

func (o *outbox) release() {
	o.mu.Lock()
	o.held = false
	o.mu.Unlock()
	o.ready.Signal()
}

func (o *outbox) len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.buf)
}

func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closed {
		o.closed = true
		close(o.gone)
		o.ready.Signal()
	}
}
