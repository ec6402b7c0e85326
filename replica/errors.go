package replica

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"replicad/anet"
	"replicad/anet/tunnel"
	"replicad/replica/resp"
)

// What a link can fail with; test with errors.Is. The error that an observer
// gets is a [*LinkError] around one of these or around an errno.
var (
	// ErrReply: the master answered with an error. See [ReplyError].
	ErrReply = errors.New("the master refused")
	// ErrUnexpected: the server answered with what no master answers. See
	// [UnexpectedError].
	ErrUnexpected = errors.New("unexpected answer")
	// ErrClosed: the master closed the connection.
	ErrClosed = errors.New("the master closed the connection")
	// ErrCut: Cut closed the connection. It wraps ErrClosed.
	ErrCut = fmt.Errorf("%w (cut on purpose)", ErrClosed)
	// ErrDeadline: something took too long.
	ErrDeadline = errors.New("timed out")
	// ErrResolve: the master's name has no address.
	ErrResolve = errors.New("name resolution failed")
	// ErrStore: the store can't go on.
	ErrStore = errors.New("the archive can't take the data")
	// ErrNoRoom: the disk is too small for a full sync.
	ErrNoRoom = errors.New("not enough room for a full sync")
	// ErrChecksum: the RDB of a full sync is damaged.
	ErrChecksum = errors.New("the RDB of the full sync is damaged")
	// ErrNotRDB: the payload of a full sync is no RDB.
	ErrNotRDB = errors.New("what the master sent is no RDB")
	// ErrBacklog: the master does not have the bytes that a history needs which
	// has begun beside its RDB.
	ErrBacklog = errors.New("the master's backlog does not reach back to the log that has begun beside the RDB")
	// ErrNoSync: the server knows neither PSYNC nor SYNC.
	ErrNoSync = errors.New("the server can't replicate")
	// ErrNoHello: the server did not answer the first message of TLS in time.
	ErrNoHello = errors.New("the TLS handshake had no answer")
)

// ReplyError is an error reply of a master. errors.Is(err, ErrReply) holds.
type ReplyError struct {
	Command string // what was asked: "PING", "AUTH", "PSYNC" ...
	Text    string // the reply without its leading '-'
}

func (e *ReplyError) Error() string {
	text, dots := shorten(e.Text)
	return fmt.Sprintf("%s was answered -%s%s", e.Command, text, dots)
}

// Is makes errors.Is(err, ErrReply) true.
func (e *ReplyError) Is(target error) bool { return target == ErrReply }

// Auth says whether the server wants other credentials.
func (e *ReplyError) Auth() bool {
	return e.Command == "AUTH" || strings.HasPrefix(e.Text, "NOAUTH") || strings.HasPrefix(e.Text, "WRONGPASS")
}

// unknownCommand matches what servers say to a command that they do not have:
// Redis, and with other words proxies, managed services, and other servers that
// speak the protocol.
var unknownCommand = regexp.MustCompile(`(?i)\bunknown\b.*\bcommand|\bunsupported\b|\bnot support`)

// UnknownCommand says that the server does not have the command.
func (e *ReplyError) UnknownCommand() bool { return unknownCommand.MatchString(e.Text) }

// UnexpectedError is an answer that no master gives. errors.Is(err,
// ErrUnexpected) holds.
type UnexpectedError struct {
	Command string // what was asked, as in ReplyError
	Line    []byte // the answer without its line end
}

// unexpected keeps a copy of the answer.
func unexpected(command string, line []byte) error {
	return &UnexpectedError{command, bytes.Clone(line)}
}

func (e *UnexpectedError) Error() string {
	text, dots := shorten(string(e.Line))
	return fmt.Sprintf("%v to %s: %q%s", ErrUnexpected, e.Command, text, dots)
}

// Is makes errors.Is(err, ErrUnexpected) true.
func (e *UnexpectedError) Is(target error) bool { return target == ErrUnexpected }

// shorten cuts what a master said for a log line.
func shorten(s string) (short, dots string) {
	const most = 160
	if len(s) > most {
		return s[:most], "..."
	}
	return s, ""
}

// LinkError says why a link or an attempt ended: where it stood, with which
// master, the cause, and what to do about it.
type LinkError struct {
	Master string // name and address
	State  State
	Phase  Phase
	Cause  error
	Remedy string // "" where there is nothing to advise
}

func (e *LinkError) Error() string {
	s := fmt.Sprintf("%s in state %s: %v", e.Master, Place(e.State, e.Phase), e.Cause)
	if e.Remedy != "" {
		s += ": " + e.Remedy
	}
	return s
}

func (e *LinkError) Unwrap() error { return e.Cause }

// Causes that [Cause] tells apart.
const (
	CauseResolve  = "resolve"  // the master's name has no address
	CauseConnect  = "connect"  // connect(2) failed
	CauseTLS      = "tls"      // TLS failed, or its files
	CauseRefused  = "refused"  // an error reply
	CauseProtocol = "protocol" // what came is not what a master sends
	CauseClosed   = "closed"   // the connection ended
	CauseTimeout  = "timeout"  // a deadline passed
	CauseArchive  = "archive"  // the store failed, or has no room
	CauseOther    = "other"
)

// Causes are all that [Cause] returns.
func Causes() []string {
	return []string{CauseResolve, CauseConnect, CauseTLS, CauseRefused, CauseProtocol, CauseClosed, CauseTimeout, CauseArchive, CauseOther}
}

// causes says which errors each cause stands for; the first that fits counts.
var causes = []struct {
	cause string
	fits  test
}{
	{CauseResolve, is(ErrResolve)},
	{CauseProtocol, is(ErrUnexpected, ErrNotRDB, resp.ErrProtocol)},
	{CauseArchive, is(ErrStore, ErrNoRoom, ErrChecksum)},
	{CauseTLS, is(tunnel.ErrTLS, tunnel.ErrFiles, ErrNoHello)},
	{CauseRefused, is(ErrReply, ErrNoSync, ErrBacklog)},
	{CauseTimeout, is(ErrDeadline, anet.ErrTimeout, syscall.ETIMEDOUT)},
	{CauseClosed, is(ErrClosed, syscall.ECONNRESET, syscall.EPIPE)},
	{CauseConnect, as(func(e *LinkError) bool { return e.State == Connecting || e.State == None })},
}

// Cause is one word for why a link or an attempt ended, for counting.
func Cause(err error) string {
	for _, c := range causes {
		if c.fits(err) {
			return c.cause
		}
	}
	return CauseOther
}

// test says whether an error is of some kind.
type test func(error) bool

// is tests whether errors.Is finds one of the targets.
func is(targets ...error) test {
	return func(err error) bool {
		return slices.ContainsFunc(targets, func(t error) bool { return errors.Is(err, t) })
	}
}

// as tests whether errors.As finds an E that passes.
func as[E error](passes func(E) bool) test {
	return func(err error) bool {
		var e E
		return errors.As(err, &e) && passes(e)
	}
}

// remedies says what helps against a failure; the first that fits counts. Error
// replies and unexpected answers have tables of their own.
var remedies = []struct {
	fits   test
	at     string // the place, as Place gives it; "" for anywhere
	remedy string
}{
	{is(tunnel.ErrNotTLS, ErrNoHello), "", "is that the master's tls-port? Name its plain port by redis:// instead of rediss://, and leave tls out"},
	{is(tunnel.ErrFiles), "", "check the files that tls-cert-file, tls-key-file and tls-ca-cert-file name; they are read again at each connect"},
	{as(func(x509.UnknownAuthorityError) bool { return true }), "", "name the authority that signed the master's certificate in tls-ca-cert-file"},
	{as(func(x509.HostnameError) bool { return true }), "", "connect by a name that is in the certificate, or say in tls-server-name which name is"},
	{as(func(e x509.CertificateInvalidError) bool { return e.Reason == x509.Expired }), "", "renew the master's certificate, or check the clocks of both hosts"},
	{is(tunnel.ErrRefused), "", "does the master want a certificate (tls-auth-clients) that its authority has signed? See tls-cert-file and tls-key-file"},
	{is(tunnel.ErrTLS), "", "check the certificates on both sides, and the master's log"},
	{is(ErrResolve), "", "check the name, and the resolver of this host"},
	{is(ErrNoRoom), "", "free some room below dir, or move the archive to a larger disk"},
	{is(ErrChecksum), "", "the base is discarded and a full sync asked for; if this happens again, test the memory and the network of both hosts"},
	{is(ErrNotRDB), "", "is that a Redis or Valkey server, and nothing in between that changes the data? Look at its log"},
	{is(ErrNoSync), "", notRedis},
	{is(ErrBacklog), "", "raise repl-backlog-size; a full sync begins"},
	{is(ErrUnexpected), "", "is that port a Redis or Valkey server?"},
	{is(resp.ErrLongArgument), "", "raise proto-max-bulk-len to what the master has"},
	{is(resp.ErrManyArguments), "", "raise max-arguments"},
	{is(resp.ErrProtocol), "", "the history is cut at the last good command and asked for again"},
	{is(ErrStore), "", "check the disk below dir"},

	{is(syscall.ECONNREFUSED), "CONNECTING", "is redis-server running there, on that port, and bound to that address?"},
	{is(syscall.EHOSTUNREACH, syscall.ENETUNREACH), "CONNECTING", "there is no route to the master: check the address and the network"},
	{is(syscall.ENOENT), "CONNECTING", "there is no such unix socket: check unixsocket in the master's configuration"},
	{is(syscall.EACCES, syscall.EPERM), "CONNECTING", "not permitted: check unixsocketperm, or the firewall"},
	{is(syscall.EADDRNOTAVAIL), "CONNECTING", "no local address or port is free for that: check bind-source-addr and net.ipv4.ip_local_port_range"},
	{is(ErrDeadline, syscall.ETIMEDOUT), "CONNECTING", "no answer: a firewall may be dropping packets, or the host is down"},

	{is(ErrClosed, syscall.ECONNRESET), "CONNECTING", ""},
	{is(ErrClosed, syscall.ECONNRESET), "RECEIVE_PONG", "look at the master's log; a port that expects TLS closes like this too, and is named by rediss://"},
	{is(ErrClosed, syscall.ECONNRESET), "SYNC/TRANSFER", "look at the master's log: client-output-buffer-limit replica was reached, or its BGSAVE failed"},
	{is(ErrClosed, syscall.ECONNRESET), "SYNC/STREAM", ""}, // a cut; the link resumes
	{is(ErrClosed, syscall.ECONNRESET), "SYNC/PORT", "is that a proxy? One that knows no replication answers PING and closes at REPLCONF: name the Redis server behind it"},
	{is(ErrClosed, syscall.ECONNRESET), "", "look at the master's log; a proxy that knows no replication closes like this too"},

	{is(ErrDeadline), "SYNC/PSYNC", "the master takes too long to answer PSYNC: look at its log, and raise repl-timeout if it is only slow"},
	{is(ErrDeadline), "SYNC/TRANSFER", "the master or the network stands still; raise repl-timeout if it is only slow"},
	{is(ErrDeadline), "SYNC/STREAM", "no byte within repl-timeout, though the master pings every repl-ping-replica-period"},
	{is(ErrDeadline), "", "something accepts connections there but does not answer like a Redis master; a port that expects TLS, and is named by rediss://, behaves like this too"},
}

// byPrefix says what helps by what an answer begins with; the first that fits
// counts.
type byPrefix []struct{ prefix, remedy string }

func (t byPrefix) find(answer, otherwise string) string {
	for _, r := range t {
		if strings.HasPrefix(answer, r.prefix) {
			return r.remedy
		}
	}
	return otherwise
}

// Remedies that stand in more than one place.
const (
	noMasterLink = "the master is itself a replica and has lost its own master: wait for it, or name its master instead"
	cannotSave   = "the master can't save: its disk is full or its memory does not bear a fork (vm.overcommit_memory); look at its log"
	notRedis     = "is that a Redis or Valkey server, no proxy or managed service in between, and are its replication commands not renamed?"
)

// replyRemedies are for error replies.
var replyRemedies = byPrefix{
	{"NOAUTH", "the master wants a password: set masterauth (and masteruser for an ACL user)"},
	{"ERR operation not permitted", "the master wants a password: set masterauth"}, // before 2.8
	{"WRONGPASS", "wrong user or password: check masteruser and masterauth"},
	{"NOPERM", "the ACL user lacks a command: on the master, ACL SETUSER <user> +psync +replconf +ping"},
	{"NOMASTERLINK", noMasterLink},
	{"ERR Can't SYNC while not connected", noMasterLink}, // before 4.0
	{"MASTERDOWN", "the master is itself a replica without its master and serves no stale data: wait for it, or name its master instead"},
	{"LOADING", "the master is still reading its dataset: wait for it"},
	{"DENIED", "the master is in protected mode: set bind and requirepass there, or run replicad on its host"},
	{"ERR max number of clients", "raise maxclients on the master"},
	{"BUSY", "a script or function runs there for too long: wait for it, or stop it by SCRIPT KILL or FUNCTION KILL"},
	{"ERR BGSAVE failed", cannotSave},
	{"ERR Unable to perform background save", cannotSave},                                             // before 4.0
	{"ERR invalid username-password pair", "wrong user or password: check masteruser and masterauth"}, // before 6.0.10
	{"ERR invalid password", "wrong password: check masterauth"},
	{"ERR Client sent AUTH, but no password is set", "the master has no password: remove masterauth"},
	{"ERR AUTH <password> called without any password configured", "the master has no password: remove masterauth"},
	{"ERR wrong number of arguments for 'auth' command", "this master is older than ACLs (6.0): remove masteruser"},
	{"ERR Replica can't interact with the keyspace", "the master is a replica that serves no stale data: name its master instead"},
	{"MISCONF", "the master's disk refuses to save: look at its log"},
}

// answerRemedies are for unexpected answers, in small letters.
var answerRemedies = byPrefix{
	{"http/", "that port speaks HTTP, not the Redis protocol: check the port"},
	{"<html", "that port speaks HTTP, not the Redis protocol: check the port"},
	{"<!doctype html", "that port speaks HTTP, not the Redis protocol: check the port"},
	{"ssh-", "that port speaks SSH, not the Redis protocol: check the port"},
	{string(rune(tlsAlert)), "that port speaks TLS: name it by rediss://"},
}

// Remedy says what to do about the cause of a failure in a state and phase, ""
// when there is nothing to say. It names directives as redis.conf does
// (masterauth, repl-timeout); how they are set is the caller's to know.
func Remedy(state State, phase Phase, cause error) string {
	var reply *ReplyError
	var answer *UnexpectedError
	switch {
	case errors.Is(cause, ErrNoSync): // it wraps a reply
	case errors.As(cause, &reply) && reply.UnknownCommand():
		return notRedis
	case errors.As(cause, &reply):
		return replyRemedies.find(reply.Text, "look at the master's log")
	case errors.As(cause, &answer):
		return answerRemedies.find(strings.ToLower(string(answer.Line)), "is that port a Redis or Valkey server?")
	}
	at := Place(state, phase)
	if state == None { // no connection yet
		at = Connecting.String()
	}
	for _, r := range remedies {
		if (r.at == "" || r.at == at) && r.fits(cause) {
			return r.remedy
		}
	}
	return ""
}
