package minimaster

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
)

// databases is the number of databases, the default of redis.conf.
const databases = 16

// maxExpiry is the latest expiry that the engine can hold, in Unix milliseconds
// (the year 2262): miniredis keeps an expiry as nanoseconds since 1970 in 63
// bits. Redis goes further; a later expiry is an error here.
const maxExpiry = math.MaxInt64 / int64(time.Millisecond)

// engine is a dataset that executes commands, without any network. Its methods
// want the caller to hold replication.mu.
type engine struct {
	mini  *miniredis.Miniredis
	peer  *server.Peer // a client of miniredis that lives in this process
	reply bytes.Buffer // what miniredis answers to it
	db    int          // the database that it has selected
	now   int64        // Unix ms, read once per command or transaction
	next  int64        // Unix ms: no key expires before
}

// newEngine makes an empty engine. It opens no port. Close it to free its
// goroutines.
func newEngine() (*engine, error) {
	e := &engine{mini: miniredis.NewMiniRedis(), next: math.MaxInt64}
	e.mini.SetTime(time.Unix(0, 0)) // see "Time" in the package comment
	// Dial is what starts a miniredis without a listener. The connection itself
	// is not needed: commands go in by Dispatch.
	c, err := e.mini.Dial()
	if err != nil {
		return nil, fmt.Errorf("minimaster: starting the engine: %w", err)
	}
	c.Close()
	e.peer = server.NewPeer(bufio.NewWriter(&e.reply))
	return e, nil
}

func (e *engine) close() { e.mini.Close() }

// call executes args in a database as miniredis understands them, and returns the
// reply as RESP2. No rule of commands.go applies.
func (e *engine) call(db int, args ...string) []byte {
	if db != e.db {
		e.mini.Server().Dispatch(e.peer, []string{"SELECT", strconv.Itoa(db)})
		e.db = db
	}
	e.peer.Flush()
	e.reply.Reset()
	e.mini.Server().Dispatch(e.peer, args)
	e.peer.Flush()
	return bytes.Clone(e.reply.Bytes())
}

// expireAt is a key's expiry in Unix ms, 0 when it has none.
func (e *engine) expireAt(db int, key string) int64 {
	return e.mini.DB(db).TTL(key).Milliseconds()
}

// setExpire gives a key its expiry in Unix ms, which must lie within
// (0, maxExpiry].
func (e *engine) setExpire(db int, key string, at int64) {
	e.mini.DB(db).SetTTL(key, time.Duration(at)*time.Millisecond)
	e.next = min(e.next, at)
}

// expireDue deletes every key whose time is over and returns the DELs to
// propagate: the work of activeExpireCycle and expireIfNeeded (expire.c, db.c) in
// one. As there, a key lives through the very millisecond of its expiry. Done
// before each command it leaves no command a stale key to see.
func (e *engine) expireDue() []effect {
	if e.now <= e.next {
		return nil
	}
	e.next = math.MaxInt64
	var gone []effect
	for db := range databases {
		for _, key := range e.mini.DB(db).Keys() {
			switch at := e.expireAt(db, key); {
			case at == 0:
			case at < e.now:
				e.call(db, "DEL", key)
				gone = append(gone, effect{db, []string{"DEL", key}})
			default:
				e.next = min(e.next, at)
			}
		}
	}
	return gone
}
