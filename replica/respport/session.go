package respport

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"log/slog"
	"strconv"
	"strings"
)

// databases is redis.conf's default. No database has anything in it here.
const databases = 16

func ping(q *request) {
	switch {
	case len(q.args) > 2:
		q.error(q.arity())
	case len(q.c.subs) > 0 && !q.resp3:
		q.array(2)
		q.bulk("pong")
		if len(q.args) < 2 {
			q.bulk("")
			return
		}
		q.bytes(q.args[1])
	case len(q.args) == 2:
		q.bytes(q.args[1])
	default:
		q.status("PONG")
	}
}

func quit(q *request) {
	q.ok()
	q.c.closing = true
}

func selectDB(q *request) {
	n, err := strconv.ParseInt(string(q.args[1]), 10, 32)
	switch {
	case err != nil:
		q.error("ERR value is not an integer or out of range")
	case n < 0 || n >= databases:
		q.error("ERR DB index is out of range")
	default:
		q.c.change(func(v *seen) { v.db = int(n) })
		q.ok()
	}
}

// reset makes the connection what it was at the start (resetCommand in Redis'
// networking.c).
func reset(q *request) {
	c := q.c
	c.endTransaction()
	q.s.pubsub.leave(c)
	c.authed = !q.s.password.Load().set
	c.change(func(v *seen) { v.name, v.db, v.protocol = "", 0, 2 })
	q.resp3 = false
	q.status("RESET")
}

const wrongPass = "WRONGPASS invalid username-password pair or user is disabled."

func auth(q *request) {
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

// secret is a password to compare with.
type secret struct {
	set bool
	sum [sha256.Size]byte
}

// SetRequirePass changes the password; "" means none. Clients that gave the
// former password stay.
func (s *Server) SetRequirePass(password string) {
	s.password.Store(&secret{password != "", sha256.Sum256([]byte(password))})
}

// admits tells whether a password is the user's, and lets the client in if it
// is. The user default without a password takes any.
func (q *request) admits(user string, password []byte) bool {
	want, sum := q.s.password.Load(), sha256.Sum256(password)
	right := subtle.ConstantTimeCompare(sum[:], want.sum[:]) == 1
	if user != "default" || want.set && !right {
		q.s.count().Denied.Add(1)
		q.s.log(slog.LevelInfo, "a client gave a wrong user or password", "addr", q.c.addr())
		return false
	}
	q.c.authed = true
	return true
}

// hello is helloCommand of Redis' networking.c.
func hello(q *request) {
	options := q.args[1:]
	version := 0
	if len(options) > 0 {
		n, err := strconv.ParseInt(string(options[0]), 10, 64)
		if err != nil {
			q.error("ERR Protocol version is not an integer or out of range")
			return
		}
		if n < 2 || n > 3 {
			q.error("NOPROTO unsupported protocol version")
			return
		}
		version, options = int(n), options[1:]
	}
	var name *string
	for len(options) > 0 {
		switch option := lower(options[0]); {
		case option == "auth" && len(options) > 2:
			if !q.admits(string(options[1]), options[2]) {
				q.error(wrongPass)
				return
			}
			options = options[3:]
		case option == "setname" && len(options) > 1:
			if name = new(string(options[1])); !validName(*name) {
				q.error(badName)
				return
			}
			options = options[2:]
		default:
			q.error("ERR Syntax error in HELLO option '" + printableName(options[0]) + "'")
			return
		}
	}
	if !q.c.authed {
		q.error("NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time")
		return
	}
	q.c.change(func(v *seen) {
		if name != nil {
			v.name = *name
		}
		v.protocol = cmp.Or(version, v.protocol)
		version = v.protocol
	})
	q.greet(version)
}

// greet is the answer to HELLO, in the protocol that it chose.
func (q *request) greet(protocol int) {
	q.resp3 = protocol == 3
	word := func(name, value string) {
		q.bulk(name)
		q.bulk(value)
	}
	q.dict(7)
	word("server", "redis")
	word("version", RedisVersion)
	q.bulk("proto")
	q.int(int64(protocol))
	q.bulk("id")
	q.int(q.c.id)
	word("mode", "standalone")
	word("role", "replica")
	q.bulk("modules")
	q.array(0)
}

const badName = "ERR Client names cannot contain spaces, newlines or special characters."

// validName tells whether a name may stand in CLIENT LIST (validateClientAttr in
// Redis' networking.c).
func validName(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < '!' || r > '~' })
}
