package respport

import (
	"crypto/sha256"
	"crypto/subtle"
	"strconv"
	"strings"
	"time"
)

func ping(q *request) {
	switch {
	case len(q.args) > 2:
		q.arity()
	case q.c.subs.count() > 0 && !q.resp3:
		q.array(2)
		q.bulk("pong")
		q.bulk(string(append([]byte(nil), argument2(q.args)...)))
	case len(q.args) == 2:
		q.bytes(q.args[1])
	default:
		q.status("PONG")
	}
}

func argument2(args [][]byte) []byte {
	if len(args) < 2 {
		return nil
	}
	return args[1]
}

func echo(q *request) { q.bytes(q.args[1]) }

func quit(q *request) {
	q.ok()
	q.c.closing = true
}

func (q *request) selectDB() {
	n, err := strconv.ParseInt(string(q.args[1]), 10, 32)
	switch {
	case err != nil:
		q.error("ERR value is not an integer or out of range")
	case n < 0 || n >= databases:
		q.error("ERR DB index is out of range")
	default:
		q.c.mu.Lock()
		q.c.db = int(n)
		q.c.mu.Unlock()
		q.ok()
	}
}

// databases is redis.conf's default. No database has anything here.
const databases = 16

// reset makes the connection what it was at the start (resetCommand).
func reset(q *request) {
	c := q.c
	c.endTransaction()
	c.unsubscribeAll()
	c.authed = !q.s.password.Load().set
	c.silent, c.skip = false, 0
	c.mu.Lock()
	c.name, c.db, c.resp3, c.noEvict, c.noTouch = "", 0, false, false, false
	c.mu.Unlock()
	q.resp3 = false
	q.status("RESET")
}

const wrongPass = "WRONGPASS invalid username-password pair or user is disabled."

func (q *request) auth() {
	switch {
	case len(q.args) > 3:
		q.syntax()
	case len(q.args) == 2 && !q.s.password.Load().set:
		q.error("ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?")
	case len(q.args) == 2 && q.admits("default", q.args[1]), len(q.args) == 3 && q.admits(string(q.args[1]), q.args[2]):
		q.ok()
	default:
		q.error(wrongPass)
	}
}

// admits says whether a password is the user's; then the client is let in. A
// user without a password, as default is where none is set, takes any.
func (q *request) admits(user string, password []byte) bool {
	sum := sha256.Sum256(password)
	right := subtle.ConstantTimeCompare(sum[:], q.s.password.Load().sum[:]) == 1
	if user != "default" || q.s.password.Load().set && !right {
		q.s.stats.denied.Add(1)
		q.s.log(infoLevel, "a client gave a wrong user or password", "addr", q.c.RemoteAddr().String())
		return false
	}
	q.c.authed = true
	return true
}

// hello is helloCommand of networking.c.
func hello(q *request) {
	c := q.c
	version, next := 0, 1
	if len(q.args) > 1 {
		n, err := strconv.ParseInt(string(q.args[1]), 10, 64)
		if err != nil {
			q.error("ERR Protocol version is not an integer or out of range")
			return
		}
		if n < 2 || n > 3 {
			q.error("NOPROTO unsupported protocol version")
			return
		}
		version, next = int(n), 2
	}
	name, named := "", false
	for i := next; i < len(q.args); i++ {
		left := len(q.args) - 1 - i
		switch option := lower(q.args[i]); {
		case option == "auth" && left >= 2:
			if !q.admits(string(q.args[i+1]), q.args[i+2]) {
				q.error(wrongPass)
				return
			}
			i += 2
		case option == "setname" && left >= 1:
			if name, named = string(q.args[i+1]), true; !validName(name) {
				q.error(badName)
				return
			}
			i++
		default:
			q.error("ERR Syntax error in HELLO option '" + printableName(q.args[i]) + "'")
			return
		}
	}
	if !c.authed {
		q.error("NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time")
		return
	}
	c.mu.Lock()
	if named {
		c.name = name
	}
	if version != 0 {
		c.resp3 = version == 3
	}
	q.resp3 = c.resp3
	c.mu.Unlock()
	q.greet()
}

func (q *request) greet() {
	proto := int64(2)
	if q.resp3 {
		proto = 3
	}
	q.dict(7)
	q.bulk("server")
	q.bulk("redis")
	q.bulk("version")
	q.bulk(RedisVersion)
	q.bulk("proto")
	q.int(proto)
	q.bulk("id")
	q.int(q.c.id)
	q.bulk("mode")
	q.bulk("standalone")
	q.bulk("role")
	q.bulk("replica")
	q.bulk("modules")
	q.array(0)
}

// serverTime is TIME.
func serverTime(q *request) {
	now := time.Now()
	q.array(2)
	q.bulk(strconv.FormatInt(now.Unix(), 10))
	q.bulk(strconv.Itoa(now.Nanosecond() / 1000))
}

const badName = "ERR Client names cannot contain spaces, newlines or special characters."

// validName says whether a name may stand in CLIENT LIST (validateClientAttr).
func validName(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < '!' || r > '~' })
}
