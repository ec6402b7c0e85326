package replica

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"replicad/anet"
	"replicad/anet/tunnel"
	"replicad/replica/resp"
)

// What a link can fail with; test with errors.Is. The error that an observer
// gets is a [*LinkError] around one of these or around an errno.
var (
	// ErrReply: the master answered with an error. See ReplyError.
	ErrReply = errors.New("the master refused")
	// ErrUnexpected: the master answered with what no master answers.
	ErrUnexpected = errors.New("unexpected answer")
	// ErrClosed: the master closed the connection.
	ErrClosed = errors.New("the master closed the connection")
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
	// ErrNotRDB: the payload of a full sync is none.
	ErrNotRDB = errors.New("what the master sent is no RDB")
	// ErrNoSync: the server knows neither PSYNC nor SYNC.
	ErrNoSync = errors.New("the server can't replicate")
	// ErrNoHello: the other side did not answer TLS' first message in time.
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

// shorten cuts what a master said for a log line.
func shorten(s string) (short, dots string) {
	const most = 160
	if len(s) > most {
		return s[:most], "..."
	}
	return s, ""
}

// Is makes errors.Is(err, ErrReply) true.
func (e *ReplyError) Is(target error) bool { return target == ErrReply }

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

// Cause is one word for why a link or an attempt ended, for counting.
func Cause(err error) string {
	var le *LinkError
	for _, c := range []struct {
		cause string
		is    []error
	}{
		{CauseResolve, []error{ErrResolve}},
		{CauseProtocol, []error{ErrUnexpected, ErrNotRDB, resp.ErrProtocol}},
		{CauseArchive, []error{ErrStore, ErrNoRoom, ErrChecksum}},
		{CauseTLS, []error{tunnel.ErrTLS, tunnel.ErrFiles, ErrNoHello}},
		{CauseRefused, []error{ErrReply, ErrNoSync}},
		{CauseTimeout, []error{ErrDeadline, syscall.ETIMEDOUT}},
		{CauseClosed, []error{ErrClosed, syscall.ECONNRESET, syscall.EPIPE}},
	} {
		for _, e := range c.is {
			if errors.Is(err, e) {
				return c.cause
			}
		}
	}
	if errors.As(err, &le) && (le.State == Connecting || le.State == None) {
		return CauseConnect
	}
	return CauseOther
}

// replyRemedies says what helps against an error reply, by its first word or
// words; the first that fits counts.
var replyRemedies = []struct{ prefix, remedy string }{
	{"NOAUTH", "the master wants a password: set REPLICAD_MASTERAUTH or --masterauth-file (and --masteruser for an ACL user)"},
	{"ERR operation not permitted", "the master wants a password: set REPLICAD_MASTERAUTH or --masterauth-file"}, // before 2.8
	{"WRONGPASS", "wrong user or password: check --masteruser and the password in REPLICAD_MASTERAUTH or --masterauth-file"},
	{"NOPERM", "the ACL user lacks a command: on the master, ACL SETUSER <user> +psync +replconf +ping"},
	{"NOMASTERLINK", "the master is itself a replica and has lost its own master: wait for it, or name its master instead"},
	{"MASTERDOWN", "the master is itself a replica without its master and serves no stale data: wait for it, or name its master instead"},
	{"LOADING", "the master is still reading its dataset: wait for it"},
	{"DENIED", "the master is in protected mode: set bind and requirepass there, or run replicad on its host"},
	{"ERR max number of clients reached", "raise maxclients on the master"},
	{"ERR invalid password", "wrong password: check REPLICAD_MASTERAUTH or --masterauth-file"},
	{"ERR Client sent AUTH, but no password is set", "the master has no password: remove REPLICAD_MASTERAUTH or --masterauth-file"},
	{"ERR AUTH <password> called without any password configured", "the master has no password: remove REPLICAD_MASTERAUTH or --masterauth-file"},
	{"ERR wrong number of arguments for 'auth' command", "this master is older than ACLs (6.0): remove --masteruser"},
	{"ERR Replica can't interact with the keyspace", "the master is a replica that serves no stale data: name its master instead"},
	{"ERR unknown command", "is that a Redis or Valkey server, and are its replication commands not renamed?"},
	{"MISCONF", "the master's disk refuses to save: look at its log"},
}

// Remedy says what to do about the cause of a failure in a state and phase, ""
// when there is nothing to say.
func Remedy(state State, phase Phase, cause error) string {
	var re *ReplyError
	switch {
	case errors.As(cause, &re):
		for _, r := range replyRemedies {
			if strings.HasPrefix(re.Text, r.prefix) {
				return r.remedy
			}
		}
		return "look at the master's log"
	case errors.Is(cause, tunnel.ErrTLS), errors.Is(cause, tunnel.ErrFiles), errors.Is(cause, ErrNoHello):
		return tlsRemedy(cause)
	case errors.Is(cause, ErrResolve):
		return "check the name, and the resolver of this host"
	case errors.Is(cause, ErrNoRoom):
		return "free some room below --dir, or move the archive to a larger disk"
	case errors.Is(cause, ErrChecksum):
		return "the base is discarded and a full sync asked for; if it comes back, test the memory and the network of both hosts"
	case errors.Is(cause, ErrNotRDB):
		return "is that a Redis or Valkey server, and nothing in between that changes the data? Look at its log"
	case errors.Is(cause, ErrNoSync):
		return "name a Redis or Valkey server instead"
	case errors.Is(cause, resp.ErrProtocol):
		switch s := cause.Error(); {
		case strings.Contains(s, "longer than allowed"):
			return "raise --proto-max-bulk-len to what the master has"
		case strings.Contains(s, "more arguments than allowed"):
			return "raise --max-arguments"
		}
		return "the history is cut at the last good command and asked for again"
	case errors.Is(cause, ErrStore):
		return "check the disk below --dir"
	case errors.Is(cause, ErrUnexpected):
		return unexpectedRemedy(cause)
	}
	if state == Connecting || state == None {
		return connectRemedy(cause)
	}
	if errors.Is(cause, ErrClosed) || anet.ErrorName(cause) == "ECONNRESET" {
		switch phase {
		case Transfer:
			return "look at the master's log: client-output-buffer-limit replica was reached, or its BGSAVE failed"
		case Stream:
			return "" // a cut; the link resumes
		case NoPhase:
			return "look at the master's log; a port that expects TLS closes like this too (--tls)"
		}
		return "look at the master's log"
	}
	if errors.Is(cause, ErrDeadline) {
		switch phase {
		case Psync:
			return "the master takes too long to answer PSYNC: look at its log, and raise --repl-timeout if it is only slow"
		case Transfer:
			return "the master or the network stands still; raise --repl-timeout if it is only slow"
		case Stream:
			return "no byte within --repl-timeout, though the master pings every repl-ping-replica-period"
		}
		return "something accepts connections there but does not answer like a Redis master; a port that expects TLS behaves like this too (--tls)"
	}
	return ""
}

func connectRemedy(cause error) string {
	switch {
	case errors.Is(cause, syscall.ECONNREFUSED):
		return "is redis-server running there, on that port, and bound to that address?"
	case errors.Is(cause, syscall.EHOSTUNREACH), errors.Is(cause, syscall.ENETUNREACH):
		return "there is no route to the master: check the address and the network"
	case errors.Is(cause, syscall.ENOENT):
		return "there is no such unix socket: check unixsocket in the master's configuration"
	case errors.Is(cause, syscall.EACCES), errors.Is(cause, syscall.EPERM):
		return "not permitted: check unixsocketperm, or the firewall"
	case errors.Is(cause, syscall.EADDRNOTAVAIL):
		return "no local address or port is free for that: check --bind-source-addr and net.ipv4.ip_local_port_range"
	case errors.Is(cause, ErrDeadline), errors.Is(cause, syscall.ETIMEDOUT):
		return "no answer: a firewall may be dropping packets, or the host is down"
	}
	return ""
}

func tlsRemedy(cause error) string {
	var (
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
	)
	switch {
	case errors.Is(cause, tunnel.ErrNotTLS), errors.Is(cause, ErrNoHello):
		return "is that the master's tls-port? For its plain port leave --tls out, and write redis:// for rediss://"
	case errors.Is(cause, tunnel.ErrFiles):
		return "check the --tls-... flags; the files are read again at each connect"
	case errors.As(cause, &unknown):
		return "name the authority that signed the master's certificate in --tls-ca-cert-file"
	case errors.As(cause, &name):
		return "connect by a name that the certificate has, or say which one it has by --tls-server-name"
	case errors.As(cause, &invalid) && invalid.Reason == x509.Expired:
		return "renew the master's certificate, or check the clocks of both hosts"
	case errors.Is(cause, tunnel.ErrRefused):
		return "does the master want a certificate (tls-auth-clients) that its authority has signed? See --tls-cert-file and --tls-key-file"
	}
	return "check the certificates on both sides, and the master's log"
}

func unexpectedRemedy(cause error) string {
	s := strings.ToLower(cause.Error())
	switch {
	case strings.Contains(s, "http/"), strings.Contains(s, "<html"), strings.Contains(s, "<!doctype html"):
		return "that port speaks HTTP, not the Redis protocol: check the port"
	case strings.Contains(s, "ssh-"):
		return "that port speaks SSH, not the Redis protocol: check the port"
	case strings.Contains(s, `"\x15`):
		return "that port speaks TLS: use rediss:// or --tls"
	}
	return "is that port a Redis or Valkey server?"
}

// unexpected wraps ErrUnexpected around an answer, cut short for a log line.
func unexpected(command string, line []byte) error {
	text, dots := shorten(string(line))
	return fmt.Errorf("%w to %s: %q%s", ErrUnexpected, command, text, dots)
}
