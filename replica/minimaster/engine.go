package minimaster

import (
	"bufio"
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
)

// Databases is the number of databases, as the directive of redis.conf has it by default.
const Databases = 16

// maxExpiry is the latest expiry the engine can hold, in Unix milliseconds (the year 2262): it keeps
// expiries as nanoseconds since 1970 in 63 bits. Redis goes further; what is beyond is refused by name.
const maxExpiry = int64(1<<63-1) / int64(time.Millisecond)

// Engine is a dataset that executes commands, without any network. A Master has one; a test makes another
// with NewEngine to replay what a replica stored and compares the two with Dump.
//
// The exported methods may be called from any goroutine. The unexported ones want the caller to hold a
// lock: Engine.mu when the engine stands alone, Master.mu when it is a master's.
type Engine struct {
	mu   sync.Mutex
	mini *miniredis.Miniredis
	srv  *server.Server

	writes  map[string]command // commandTable
	refused map[string]string  // refusals

	peers   map[int]*peer // a miniredis client for each database in use, already SELECTed there
	now     int64         // Unix ms, read once per command or transaction
	due     expiryHeap    // hints: which key may expire when
	flushes int64         // FLUSHALL, FLUSHDB and SWAPDB so far; WATCH has to notice them

	// replaying: commands come from a stream that was executed elsewhere. As on a Redis replica nothing
	// expires by the clock then, and an expiry in the past is stored, not turned into a DEL
	// (expire.c, checkAlreadyExpired).
	replaying bool
}

// NewEngine makes an empty engine. It opens no port. Close it to free its goroutines.
func NewEngine() (*Engine, error) {
	mini := miniredis.NewMiniRedis()
	mini.SetTime(time.Unix(0, 0)) // see "Time" in the package comment
	// Dial is what starts a miniredis without a listener. The connection itself is not needed:
	// commands go in by Dispatch.
	c, err := mini.Dial()
	if err != nil {
		return nil, fmt.Errorf("minimaster: starting the engine: %w", err)
	}
	c.Close()
	return &Engine{mini: mini, srv: mini.Server(), peers: map[int]*peer{}, writes: commandTable(), refused: refusals()}, nil
}

// Close frees the engine. It cannot be used afterwards.
func (e *Engine) Close() { e.mini.Close() }

// tick reads the clock for the command that follows.
func (e *Engine) tick() { e.now = time.Now().UnixMilli() }

// A peer is a client of miniredis that lives in this process: what it is told to execute leaves the
// reply in a buffer.
type peer struct {
	p   *server.Peer
	buf bytes.Buffer
}

func newPeer() *peer {
	p := &peer{}
	p.p = server.NewPeer(bufio.NewWriter(&p.buf))
	return p
}

// call executes and returns the reply as RESP2.
func (p *peer) call(srv *server.Server, args ...string) []byte {
	p.buf.Reset()
	srv.Dispatch(p.p, args)
	p.p.Flush()
	return bytes.Clone(p.buf.Bytes())
}

// call executes args in a database as miniredis understands them: no rules of effects.go apply.
func (e *Engine) call(db int, args ...string) []byte {
	p, ok := e.peers[db]
	if !ok {
		p = newPeer()
		p.call(e.srv, "SELECT", strconv.Itoa(db))
		e.peers[db] = p
	}
	return p.call(e.srv, args...)
}

// databases lists the databases that have been touched, in order.
func (e *Engine) databases() []int {
	dbs := make([]int, 0, len(e.peers))
	for db := range e.peers {
		dbs = append(dbs, db)
	}
	slices.Sort(dbs)
	return dbs
}

// db gives miniredis' direct access to a database.
func (e *Engine) db(db int) *miniredis.RedisDB {
	if _, ok := e.peers[db]; !ok {
		e.call(db, "PING") // from now on databases() knows it
	}
	return e.mini.DB(db)
}

func (e *Engine) exists(db int, key string) bool { return e.db(db).Exists(key) }

// typeOf is the type of a key as TYPE names it, "" when there is none.
func (e *Engine) typeOf(db int, key string) string { return e.db(db).Type(key) }
