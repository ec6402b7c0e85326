package replica

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strings"
	"syscall"
	"testing"
	"time"

	"replicad/anet"
	"replicad/anet/tunnel"
	"replicad/replica/resp"
)

func TestALinkErrorNamesMasterStateCauseAndRemedy(t *testing.T) {
	for _, c := range []struct {
		e    LinkError
		want string
	}{
		{LinkError{Master: "m (h:1)", State: Connecting, Cause: syscall.ECONNREFUSED, Remedy: "start it"}, "m (h:1) in state CONNECTING: connection refused: start it"},
		{LinkError{Master: "m (h:1)", State: Sync, Phase: Psync, Cause: ErrClosed}, "m (h:1) in state SYNC/PSYNC: the master closed the connection"},
		{LinkError{Master: "m (h:1)", State: Sync, Phase: Auth, Cause: &ReplyError{"AUTH", "WRONGPASS x"}}, "m (h:1) in state SYNC/AUTH: AUTH was answered -WRONGPASS x"},
	} {
		if got := c.e.Error(); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
		if !errors.Is(&c.e, c.e.Cause) {
			t.Errorf("%v does not wrap its cause", &c.e)
		}
	}
	if err := error(&LinkError{Cause: &ReplyError{"PING", "x"}}); !errors.Is(err, ErrReply) || errors.Is(err, ErrClosed) {
		t.Error("an error reply is to be found with errors.Is(err, ErrReply), and as nothing else")
	}
}

func TestEveryRemedyIsGivenForItsCauseAndState(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("in some way: %w", err) }
	for _, c := range []struct {
		state State
		phase Phase
		cause error
		want  string // "": none
	}{
		{ReceivePong, NoPhase, &ReplyError{"PING", "LOADING x"}, "still reading"},
		{Sync, Psync, &ReplyError{"PSYNC", "SOMETHING new"}, "look at the master's log"},
		{Sync, Psync, &ReplyError{"PSYNC", "MISCONF x"}, "disk refuses to save"},
		{Sync, Psync, wrap(fmt.Errorf("%w: %w", ErrNoSync, &ReplyError{"PSYNC", "ERR x"})), "no proxy"},
		{Sync, Auth, &ReplyError{"AUTH", "ERR AUTH <password> called without any password configured for the default user."}, "remove masterauth"},
		{Sync, Psync, &ReplyError{"PSYNC", "ERR Replica can't interact with the keyspace"}, "name its master"},
		{None, NoPhase, wrap(ErrResolve), "the resolver of this host"},
		{Sync, Transfer, wrap(ErrNoRoom), "free some room"},
		{Sync, Transfer, fmt.Errorf("%w: %w", ErrStore, ErrNoRoom), "free some room"},
		{Sync, Transfer, fmt.Errorf("%w: %w", ErrStore, syscall.EIO), "check the disk"},
		{Sync, Stream, fmt.Errorf("%w: %w", ErrStore, ErrChecksum), "test the memory"},
		{Sync, Psync, wrap(ErrNoSync), "is that a Redis or Valkey server"},
		{Sync, Port, ErrClosed, "is that a proxy?"},
		{Sync, Stream, wrap(&resp.ProtocolError{}), "cut at the last good command"},
		{Sync, Stream, wrap(&resp.ProtocolError{Limit: resp.ErrLongArgument}), "raise proto-max-bulk-len"},
		{Sync, Stream, wrap(&resp.ProtocolError{Limit: resp.ErrManyArguments}), "raise max-arguments"},
		{ReceivePong, NoPhase, wrap(tunnel.ErrNotTLS), "tls-port"},
		{ReceivePong, NoPhase, fmt.Errorf("%w: %w", ErrDeadline, ErrNoHello), "tls-port"},
		{ReceivePong, NoPhase, wrap(tunnel.ErrFiles), "read again at each connect"},
		{ReceivePong, NoPhase, fmt.Errorf("%w: %w", tunnel.ErrTLS, x509.UnknownAuthorityError{}), "tls-ca-cert-file"},
		{ReceivePong, NoPhase, fmt.Errorf("%w: %w", tunnel.ErrTLS, x509.HostnameError{}), "tls-server-name"},
		{ReceivePong, NoPhase, fmt.Errorf("%w: %w", tunnel.ErrTLS, x509.CertificateInvalidError{Reason: x509.Expired}), "renew"},
		{ReceivePong, NoPhase, fmt.Errorf("%w: %w", tunnel.ErrTLS, x509.CertificateInvalidError{}), "certificates on both sides"},
		{ReceivePong, NoPhase, wrap(tunnel.ErrRefused), "tls-auth-clients"},
		{ReceivePong, NoPhase, wrap(ErrUnexpected), "Redis or Valkey server?"},
		{ReceivePong, NoPhase, unexpected("PING", []byte("HTTP/1.1 400 Bad Request")), "HTTP"},
		{ReceivePong, NoPhase, unexpected("PING", []byte("SSH-2.0-x")), "SSH"},
		{ReceivePong, NoPhase, unexpected("PING", []byte("\x15\x03\x01\x00\x02\x02")), "TLS"},
		{ReceivePong, NoPhase, unexpected("PING", []byte("hello")), "Redis or Valkey server?"},
		{Connecting, NoPhase, wrap(syscall.ECONNREFUSED), "is redis-server running there"},
		{Connecting, NoPhase, wrap(syscall.EHOSTUNREACH), "no route"},
		{Connecting, NoPhase, wrap(syscall.ENETUNREACH), "no route"},
		{None, NoPhase, wrap(syscall.ENOENT), "no such unix socket"},
		{None, NoPhase, wrap(syscall.EACCES), "unixsocketperm"},
		{None, NoPhase, wrap(fs.ErrPermission), ""},
		{None, NoPhase, wrap(syscall.EADDRNOTAVAIL), "check bind-source-addr"},
		{Connecting, NoPhase, wrap(ErrDeadline), "firewall"},
		{Connecting, NoPhase, wrap(syscall.ETIMEDOUT), "firewall"},
		{Connecting, NoPhase, ErrClosed, ""},
		{ReceivePong, NoPhase, ErrClosed, "TLS"},
		{ReceivePong, NoPhase, wrap(syscall.ECONNRESET), "TLS"},
		{Sync, Capa, ErrClosed, "look at the master's log"},
		{Sync, Transfer, wrap(ErrClosed), "client-output-buffer-limit"},
		{Sync, Transfer, wrap(syscall.ECONNRESET), "client-output-buffer-limit"},
		{Sync, Stream, ErrClosed, ""},
		{ReceivePong, NoPhase, wrap(ErrDeadline), "does not answer like a Redis master"},
		{Sync, Psync, wrap(ErrDeadline), "answer PSYNC"},
		{Sync, Transfer, wrap(ErrDeadline), "raise repl-timeout"},
		{Sync, Stream, wrap(ErrDeadline), "repl-ping-replica-period"},
		{Sync, Stream, wrap(syscall.EPIPE), ""},
	} {
		got := Remedy(c.state, c.phase, c.cause)
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s, %v: got %q, want %q", Place(c.state, c.phase), c.cause, got, c.want)
		}
	}
	for _, r := range remedies {
		if strings.Contains(r.remedy, "--") || strings.Contains(r.remedy, "REPLICAD_") {
			t.Errorf("%q names a flag or variable of the command", r.remedy)
		}
	}
	for _, r := range replyRemedies {
		if got := Remedy(Sync, Psync, wrap(&ReplyError{"X", r.prefix + " ..."})); got != r.remedy {
			t.Errorf("%s: %q, want %q: an entry before it hides it", r.prefix, got, r.remedy)
		}
	}
}

func TestACommandThatAServerDoesNotHaveIsToldFromOneThatItRefuses(t *testing.T) {
	for text, unknown := range map[string]bool{
		"ERR unknown command 'PSYNC'":                                     true,
		"ERR unknown command `PSYNC`, with args beginning with: `?` `-1`": true,
		"ERR unknown or unsupported command 'psync\"":                     true,
		"ERR Unsupported command: psync ? -1":                             true,
		"unsupported command 'psync'":                                     true,
		"ERR command 'psync' not support for normal user":                 true,
		"ERR wrong number of arguments for 'psync' command":               false,
		"NOPERM this user has no permissions to run the 'psync' command":  false,
		"ERR Unrecognized REPLCONF option: version":                       false,
		"LOADING Redis is loading the dataset in memory":                  false,
	} {
		if got := (&ReplyError{"PSYNC", text}).UnknownCommand(); got != unknown {
			t.Errorf("%s: %v", text, got)
		}
	}
}

func TestALongAnswerIsCutShortInTheError(t *testing.T) {
	err := unexpected("PING", []byte(strings.Repeat("x", 5000)))
	if n := len(err.Error()); n > 200 || !strings.HasSuffix(err.Error(), `"...`) {
		t.Errorf("%d bytes: %v", n, err)
	}
	if !errors.Is(err, ErrUnexpected) {
		t.Error("it is not ErrUnexpected")
	}
}

func TestTheFirstRetryIsAtOnceAndTheOthersDoubleWithJitterUpToTheLimit(t *testing.T) {
	for _, b := range []Backoff{{}, {Min: 20 * time.Millisecond, Max: 300 * time.Millisecond}, {Min: time.Second, Max: time.Millisecond}} {
		lo, hi := b.Min, b.Max
		if b == (Backoff{}) {
			lo, hi = 100*time.Millisecond, 10*time.Second
		}
		for range 100 {
			for _, n := range []int{0, 1} {
				if d := b.delay(n); d != 0 {
					t.Fatalf("after failure %d it waits %v", n, d)
				}
			}
			for n := 2; n < 80; n++ {
				want := min(hi, time.Duration(min(float64(lo)*math.Pow(2, float64(n-2)), float64(hi))))
				if d := b.delay(n); d < want/2-1 || d > want {
					t.Fatalf("after failure %d it waits %v, want %v to %v", n, d, want/2, want)
				}
			}
		}
	}
	if d := (Backoff{}).delay(math.MaxInt); d > 10*time.Second || d < 5*time.Second {
		t.Errorf("after many failures it waits %v", d)
	}
	seen := map[time.Duration]bool{}
	for range 20 {
		seen[Backoff{}.delay(5)] = true
	}
	if len(seen) < 2 {
		t.Error("there is no jitter")
	}
}

func TestStatesAndPhasesHaveTheNamesOfTheSources(t *testing.T) {
	for s, want := range map[State]string{None: "NONE", Connecting: "CONNECTING", ReceivePong: "RECEIVE_PONG", Sync: "SYNC", 99: "UNKNOWN"} {
		if s.String() != want {
			t.Errorf("%d is %s, want %s", s, s, want)
		}
	}
	for i, want := range []string{"", "AUTH", "PORT", "IP", "CAPA", "VERSION", "PSYNC", "TRANSFER", "STREAM", "UNKNOWN"} {
		if p := Phase(i); p.String() != want {
			t.Errorf("%d is %s, want %s", i, p, want)
		}
	}
}

func TestTransitionsLeadFromEveryStateToNone(t *testing.T) {
	next := map[State][]State{}
	for _, tr := range Transitions() {
		if tr.Event == "" || tr.Action == "" {
			t.Errorf("%s -> %s says not when, or what then", tr.From, tr.To)
		}
		next[tr.From] = append(next[tr.From], tr.To)
	}
	for _, s := range []State{Connecting, ReceivePong, Sync} {
		back := false
		for _, to := range next[s] {
			back = back || to == None
		}
		if !back {
			t.Errorf("nothing leads from %s to NONE", s)
		}
	}
	if len(next[None]) != 1 || next[None][0] != Connecting {
		t.Errorf("from NONE it goes to %v", next[None])
	}
}

func TestCauseIsOneWordForEachWayToFail(t *testing.T) {
	at := func(s State, p Phase, cause error) error { return &LinkError{State: s, Phase: p, Cause: cause} }
	seen := map[string]bool{}
	for _, c := range []struct {
		err  error
		want string
	}{
		{at(None, NoPhase, fmt.Errorf("%w: %w", ErrResolve, errors.New("no such host"))), CauseResolve},
		{at(Connecting, NoPhase, syscall.ECONNREFUSED), CauseConnect},
		{at(Connecting, NoPhase, fmt.Errorf("%w after 5s", ErrDeadline)), CauseTimeout},
		{at(ReceivePong, NoPhase, fmt.Errorf("%w: %w", ErrDeadline, ErrNoHello)), CauseTLS},
		{at(ReceivePong, NoPhase, tunnel.ErrNotTLS), CauseTLS},
		{at(ReceivePong, NoPhase, &ReplyError{Command: "PING", Text: "LOADING"}), CauseRefused},
		{at(ReceivePong, NoPhase, unexpected("PING", []byte("HTTP/1.1"))), CauseProtocol},
		{at(Sync, Psync, fmt.Errorf("%w: %w", ErrNoSync, &ReplyError{})), CauseRefused},
		{at(Sync, Transfer, fmt.Errorf("%w: %w", ErrStore, ErrNoRoom)), CauseArchive},
		{at(Sync, Transfer, fmt.Errorf("%w: %w", ErrStore, ErrNotRDB)), CauseProtocol},
		{at(Sync, Stream, fmt.Errorf("%w: %w", ErrStore, ErrChecksum)), CauseArchive},
		{at(Sync, Stream, ErrClosed), CauseClosed},
		{at(Sync, Stream, syscall.ECONNRESET), CauseClosed},
		{at(Sync, Stream, syscall.ETIMEDOUT), CauseTimeout},
		{at(Sync, Psync, fmt.Errorf("write: %w after 100ms", anet.ErrTimeout)), CauseTimeout},
		{at(Sync, Stream, errors.New("what nobody thought of")), CauseOther},
	} {
		if got := Cause(c.err); got != c.want {
			t.Errorf("%v: %s, want %s", c.err, got, c.want)
		}
		seen[c.want] = true
	}
	for _, c := range Causes() {
		if !seen[c] {
			t.Errorf("nothing fails with %s", c)
		}
	}
}
