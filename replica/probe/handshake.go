package probe

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"replicad/anet"
	"replicad/anet/tunnel"
	"replicad/eventloop"
	"replicad/replica"
)

// nowhere is a [replica.Store] that keeps nothing. The link that uses it asks
// for a partial resync where at has a replication id.
type nowhere struct{ at replica.Position }

func (s nowhere) Position() (replica.Position, bool) { return s.at, s.at.ReplID != "" }
func (s nowhere) Progress() replica.Progress         { return replica.Progress{Stored: s.at.Offset} }
func (nowhere) Continue(string)                      {}
func (nowhere) Buffer() []byte                       { return nil }
func (nowhere) Commit(int, replica.Boundary)         {}
func (nowhere) Notify(func())                        {}
func (nowhere) Room() error                          { return nil }
func (nowhere) Reset() error                         { return nil }
func (nowhere) BeginBase(replica.FullSync) (replica.Base, error) {
	return nil, errors.New("a probe takes no full sync")
}

// follow runs a link until it has stopped, on the caller's goroutine. observe
// gets the link's events until it returns true, which stops the link. Where the
// probe's time is up first, it gets a Failed that says so. The error is the
// loop's.
func (p *prober) follow(cfg replica.Config, store replica.Store, observe func(replica.Event) bool) error {
	loop, err := eventloop.New()
	if err != nil {
		return err
	}
	var link *replica.Link
	enough := false
	begun := time.Now()
	cfg.Observer = replica.ObserverFunc(func(e replica.Event) {
		if !enough && observe(e) {
			enough = true
			loop.Post(func() { link.Stop(nil) })
		}
		if e.Kind == replica.Stopped {
			enough = true
			loop.Stop()
		}
	})
	link = replica.NewLink(loop, store, cfg)
	expire := func() {
		state, phase := link.State()
		cause := p.late(time.Since(begun))
		if state == replica.None && cause != errInterrupted {
			cause = fmt.Errorf("%w: %w", replica.ErrResolve, cause)
		}
		cfg.Observer.Observe(replica.Event{Kind: replica.Failed, Err: &replica.LinkError{State: state, Phase: phase, Cause: cause}})
		link.Stop(nil)
	}
	loop.Post(link.Start)
	defer context.AfterFunc(p.ctx, func() { loop.Post(expire) })()
	return loop.Run()
}

// config is that of a link to the master. Only the probe's own time ends the
// waits that are not the handshake's.
func (p *prober) config() replica.Config {
	long := 2 * p.opt.Timeout
	return replica.Config{
		Master: p.opt.Master, Source: p.opt.Source, TLS: p.opt.TLS, AnnounceIP: p.opt.AnnounceIP, AnnouncePort: p.opt.AnnouncePort,
		Resolve: p.opt.Resolve, ResolveTimeout: long, ReplTimeout: long, ReplBGSaveTimeout: long, ReplSyncioTimeout: p.stepLimit(),
	}
}

// stepLimit is how long a connect, or an answer in the handshake, may take: a
// second address must have its time, too.
func (p *prober) stepLimit() time.Duration {
	return min(replica.DefaultReplSyncioTimeout, p.opt.Timeout/2)
}

// steps are the names of the handshake's steps.
func steps() map[replica.Phase]string {
	return map[replica.Phase]string{
		replica.Auth: "AUTH", replica.Port: "REPLCONF listening-port", replica.IP: "REPLCONF ip-address",
		replica.Capa: "REPLCONF capa", replica.Version: "REPLCONF version",
	}
}

// watcher makes checks of the events of a link's handshake.
type watcher struct {
	*prober
	begun    time.Time
	resolved bool
	trying   string // the address that connect(2) was called for
	called   time.Time
	missed   error         // why the address before failed
	pong     string        // the first line of the answer to PING
	noted    string        // the error reply to a REPLCONF, passed over
	last     replica.Event // the one by which NONE was entered
}

// handshake has a real link make the handshake up to VERSION.
func (p *prober) handshake() {
	w := &watcher{prober: p, begun: time.Now()}
	cfg := p.config()
	cfg.Until = replica.Version
	if err := p.follow(cfg, nowhere{}, w.observe); err != nil {
		w.failed(replica.None, replica.NoPhase, err, 0)
	}
	if p.refused != nil && (strings.HasPrefix(p.refused.Text, "LOADING") || strings.HasPrefix(p.refused.Text, "MASTERDOWN")) {
		p.tell("REPLCONF version")
		p.lacks[answers] = "" // the master answers, and its next answers tell how long to wait
	}
}

func (w *watcher) observe(e replica.Event) (enough bool) {
	var le *replica.LinkError
	switch {
	case e.Kind == replica.Resolved:
		w.resolved = true
		w.found["name resolution"] = Check{Status: Pass, Detail: strings.ReplaceAll(e.Text, " ", ", "), Took: e.Time.Sub(w.begun).Seconds()}
		w.tell("name resolution")
	case e.Kind == replica.ConnectCalled:
		w.connecting(e)
	case e.Kind == replica.SocketError && e.Err != nil:
		w.trying, w.missed = "", &anet.Error{Step: "connect to " + e.Endpoint, Err: e.Err}
	case e.Kind == replica.Received && e.State == replica.ReceivePong && w.pong == "":
		line, _, _ := bytes.Cut(e.Data, []byte("\n"))
		w.pong = string(bytes.TrimRight(line, "\r"))
	case e.Kind == replica.ReplyNoted:
		w.noted = e.Text
	case e.Kind == replica.Stopped:
		w.passed(w.last.FromPhase, w.last.Took)
	case e.Kind == replica.Failed && errors.As(e.Err, &le):
		w.failed(le.State, le.Phase, le.Cause, w.last.Took)
	case e.Kind != replica.StateEntered && e.Kind != replica.PhaseEntered:
	case e.State == replica.None:
		w.last = e
	case e.State == replica.ReceivePong:
		w.connected(e)
	case e.From == replica.ReceivePong:
		w.ponged(e.Took)
	case e.State == replica.Sync:
		w.passed(e.FromPhase, e.Took)
	}
	return w.lacks[answers] != ""
}

// connecting notes the next address. The one before did not answer if it is
// still being tried.
func (w *watcher) connecting(e replica.Event) {
	if w.trying != "" {
		w.missed = &anet.Error{Step: "connect to " + w.trying, Err: w.late(e.Time.Sub(w.called))}
	}
	w.trying, w.called = e.Endpoint, e.Time
	if e.FD < 0 && !errors.Is(e.Err, syscall.ENETUNREACH) { // a host without IPv6 loses no time by such addresses
		w.missed = e.Err
	}
}

func (w *watcher) connected(e replica.Event) {
	w.endpoint = e.Endpoint
	w.facts.made["reach"] = reach(e.Endpoint)
	c := Check{Status: Pass, Detail: e.Endpoint, Took: e.Time.Sub(w.called).Seconds()}
	if w.missed != nil {
		c.Status, c.Detail = Warn, fmt.Sprintf("%s; before that, %v", e.Endpoint, w.missed)
		c.Remedy = fmt.Sprintf("a link tries the addresses one after the other, up to %v each: %s",
			replica.DefaultReplSyncioTimeout, replica.Remedy(replica.Connecting, replica.NoPhase, w.missed))
	}
	w.found["connect"] = c
	w.tell("connect")
}

// ponged takes the answer to PING with which the handshake goes on.
func (w *watcher) ponged(took time.Duration) {
	c := Check{Status: Pass, Detail: w.pong, Took: took.Seconds()}
	if w.pong != "+PONG" {
		c.Detail = "answered " + w.pong + ": the handshake goes on"
	}
	w.found["PING"] = c
	switch {
	case w.opt.Master.Password != "":
	case w.pong == "+PONG", strings.HasPrefix(w.pong, "-NOPERM"):
		w.found["AUTH"] = Check{Status: Pass, Detail: "no password was given, and none is asked for"}
	default:
		w.failed(replica.Sync, replica.Auth, &replica.ReplyError{Command: "PING", Text: w.pong[1:]}, 0)
	}
}

// passed takes a step of the handshake that the link is through with. A link
// passes over the refusal of a REPLCONF. But without the right to REPLCONF it
// can't acknowledge anything, and the master cuts it.
func (w *watcher) passed(phase replica.Phase, took time.Duration) {
	name := steps()[phase]
	c := Check{Status: Pass, Detail: "+OK", Took: took.Seconds()}
	if phase == replica.Auth {
		c.Detail = "accepted, as " + cmp.Or(w.opt.Master.User, "the default user")
	}
	_, refusal, noted := strings.Cut(w.noted, " was answered -")
	w.noted = ""
	switch {
	case !noted:
	case phase == replica.Version && !strings.HasPrefix(refusal, "NO"):
		c.Detail = "the master does not know this, and need not: only Valkey 8.0 and later do"
	default:
		c = failure(replica.Sync, phase, &replica.ReplyError{Command: name, Text: refusal}, took)
		if !strings.HasPrefix(refusal, "NO") { // NOPERM or NOAUTH
			c.Status, c.Remedy = Warn, "a link goes on without it; "+c.Remedy
		}
	}
	w.found[name] = c
}

// failed takes what ended the link: the step under way failed.
func (w *watcher) failed(state replica.State, phase replica.Phase, cause error, took time.Duration) {
	name := steps()[phase]
	switch {
	case state == replica.None && !w.resolved:
		name, took = "name resolution", time.Since(w.begun)
	case state == replica.None, state == replica.Connecting:
		name, took = "connect", time.Since(w.called)
	case state == replica.ReceivePong:
		name = "PING"
		if errors.Is(cause, tunnel.ErrTLS) || errors.Is(cause, tunnel.ErrFiles) || errors.Is(cause, replica.ErrNoHello) {
			name = "TLS"
		}
		errors.As(cause, &w.refused)
	}
	w.end(name, failure(state, phase, cause, took))
}

// reach tells how far from here an address is: "local", "private" or "public".
func reach(endpoint string) string {
	ap, err := netip.ParseAddrPort(endpoint)
	switch a := ap.Addr(); {
	case err != nil, a.IsLoopback(): // no address is a unix socket
		return "local"
	case a.IsPrivate(), a.IsLinkLocalUnicast():
		return "private"
	}
	return "public"
}

// psync has a link send a real PSYNC, which asks to continue where the master
// stands if the master can, and stops the link with the reply.
func (p *prober) psync() {
	var store nowhere
	id := p.facts.info["master_replid"]
	offset, err := strconv.ParseInt(p.facts.info["master_repl_offset"], 10, 64)
	if err == nil && offset >= 0 && len(id) == 40 && p.facts.holds("repl_backlog_active=1") {
		store.at = replica.Position{ReplID: id, Offset: offset}
	}
	begun := time.Now()
	found := Check{Status: Pass}
	err = p.follow(p.config(), store, func(e replica.Event) bool {
		var le *replica.LinkError
		switch {
		case e.Kind == replica.FullSyncBegun:
			found.Detail = fmt.Sprintf("+FULLRESYNC %s %d, and the connection was cut: a BGSAVE may have begun on the master", e.ReplID, e.Offset)
		case e.Kind == replica.Resumed:
			found.Detail = fmt.Sprintf("+CONTINUE from offset %d, and the connection was cut: nothing was begun on the master", e.Offset+1)
		case e.Kind == replica.Failed && errors.As(e.Err, &le):
			found = failure(le.State, le.Phase, le.Cause, 0)
			delay, known := p.facts.number("repl-diskless-sync-delay")
			if known && le.Phase == replica.Psync && errors.Is(le.Cause, replica.ErrDeadline) && delay > time.Since(begun).Seconds()-1 {
				found = Check{Status: Warn, Detail: "not refused, and not answered by the end of --timeout: the master waits for other replicas first, and nothing was begun",
					Remedy: fmt.Sprintf("give the probe a --timeout that is longer by repl-diskless-sync-delay, %.0f s", delay)}
			}
		}
		return found.Detail != ""
	})
	if err != nil {
		found = failure(replica.None, replica.NoPhase, err, 0)
	}
	found.Took = time.Since(begun).Seconds()
	p.found["PSYNC"] = found
}
