package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"replicad/anet"
	"replicad/anet/tunnel"
	"replicad/replica"
)

// Defaults of [Options].
const (
	DefaultFor     = 3 * time.Second
	DefaultTimeout = 30 * time.Second
)

// Options say what to probe.
type Options struct {
	Master replica.Master
	// Source is the address to connect from (bind-source-addr).
	Source anet.Source
	// TLS says how a Master with TLS is spoken to.
	TLS tunnel.Files
	// AnnounceIP and AnnouncePort are sent as a link sends them.
	AnnounceIP   string
	AnnouncePort int
	// Dir is where an archive would be kept; "" where that is not asked. It
	// need not exist.
	Dir string
	// For is how long the write rate is measured; 0 means DefaultFor.
	For time.Duration
	// Timeout bounds the probe; 0 means DefaultTimeout.
	Timeout time.Duration
	// Psync sends a real PSYNC, and cuts the connection after the reply.
	Psync bool
	// Tell is called with each check as soon as it is made; Measuring before
	// the write rate is. Either may be nil.
	Tell      func(Check)
	Measuring func(time.Duration)
	// Resolve replaces anet.Resolve, for tests.
	Resolve func(ctx context.Context, host string, port int) ([]anet.Endpoint, error)
}

// prober is a probe under way.
type prober struct {
	opt     Options
	ctx     context.Context
	report  Report
	pending []string // the checks that are still to come, in order

	endpoint anet.Endpoint
	conn     *conn
	denied   *replica.ReplyError // what PING was answered, where that was no PONG
	facts    facts
	room     chan roomFound
}

// order are the names of the checks, as the package's comment lists them.
func order(opt Options) []string {
	names := []string{"name resolution", "connect", "TLS", "PING", "AUTH"}
	for _, s := range replica.HandshakeSteps(replica.Master{}, opt.AnnounceIP, opt.AnnouncePort) {
		names = append(names, s.Name)
	}
	names = append(names, "ACL", "INFO", "CONFIG GET", "protected-mode", "maxclients", "loading", "role", "version", "requirepass", "BGSAVE",
		"repl-backlog-size", "client-output-buffer-limit", "repl-diskless-sync", "repl-timeout", "min-replicas-to-write", "disk", "full sync")
	if opt.Psync {
		names = append(names, "PSYNC")
	}
	return names
}

// Run probes a master. It takes no longer than Options.Timeout, and ends early
// with ctx; what was not checked by then is skipped. A probe always has a
// report: what fails is in it.
func Run(ctx context.Context, opt Options) Report {
	if opt.Timeout <= 0 {
		opt.Timeout = DefaultTimeout
	}
	if opt.For <= 0 {
		opt.For = DefaultFor
	}
	if opt.Resolve == nil {
		opt.Resolve = anet.Resolve
	}
	ctx, cancel := context.WithTimeout(ctx, opt.Timeout)
	defer cancel()
	p := &prober{opt: opt, ctx: ctx, report: Report{Master: opt.Master.Address()}, pending: order(opt)}
	if opt.Dir != "" {
		p.room = make(chan roomFound, 1)
		go func() { p.room <- findRoom(opt.Dir) }() // a network's file system may stand still
	}
	begun := time.Now()
	p.rest(p.run())
	if p.conn != nil {
		p.conn.close()
	}
	p.report.Took = time.Since(begun)
	return p.report
}

// run makes the checks until one of them leaves nothing to ask; it returns what
// the others are skipped for.
func (p *prober) run() (why string) {
	eps := p.resolve()
	if eps == nil {
		return "there is no address to connect to"
	}
	nc := p.connect(eps)
	if nc == nil {
		return "there is no connection"
	}
	if nc = p.encrypt(nc); nc == nil {
		return "TLS failed"
	}
	p.conn = newConn(p.ctx, nc)
	if !p.handshake() {
		return p.whyNot()
	}
	if !p.askACL() || !p.askInfo() || !p.askConfig() {
		return p.whyNot()
	}
	p.judge()
	p.psync()
	return ""
}

// whyNot says what kept the conversation from going on.
func (p *prober) whyNot() string {
	last := p.report.Checks[len(p.report.Checks)-1]
	if last.Status != Fail {
		return "the master does not go on"
	}
	return last.Name + " failed"
}

// add takes a check down: the first of those that are still to come.
func (p *prober) add(c Check) {
	p.pending = p.pending[1:]
	p.tell(c)
}

func (p *prober) tell(c Check) {
	c.Detail, c.Remedy = printable(c.Detail), printable(c.Remedy)
	p.report.Checks = append(p.report.Checks, c)
	if p.opt.Tell != nil {
		p.opt.Tell(c)
	}
}

// rest skips what is still to come; but what refused the connection has a check
// of its own, and the disk is there without a master.
func (p *prober) rest(why string) {
	for len(p.pending) > 0 {
		c := Check{Name: p.pending[0], Status: Skip, Detail: why}
		p.pending = p.pending[1:]
		switch {
		case errors.Is(p.ctx.Err(), context.Canceled):
			c.Detail = "interrupted"
		case p.denied != nil && refusedBy(*p.denied) == c.Name:
			c.Status, c.Detail = Fail, "it refuses this connection: -"+cut(p.denied.Text)
			c.Remedy = replica.Remedy(replica.ReceivePong, replica.NoPhase, p.denied)
		case c.Name == "disk":
			c = p.disk()
		}
		p.tell(c)
	}
}

// refusedBy is the check that an answer to PING belongs to.
func refusedBy(e replica.ReplyError) string {
	switch {
	case strings.HasPrefix(e.Text, "DENIED"):
		return "protected-mode"
	case strings.HasPrefix(e.Text, "ERR max number of clients"):
		return "maxclients"
	}
	return ""
}

// cut shortens what a server said.
func cut(s string) string {
	const most = 160
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

// fail takes down a failed step of the handshake, with the link's own remedy.
func (p *prober) fail(name string, state replica.State, phase replica.Phase, err error, took time.Duration) {
	c := Check{Name: name, Status: Fail, Detail: err.Error(), Took: took}
	if errors.Is(err, context.Canceled) {
		c.Detail = "interrupted"
	} else {
		c.Remedy = replica.Remedy(state, phase, err)
	}
	p.add(c)
}

func (p *prober) resolve() []anet.Endpoint {
	const name = "name resolution"
	m := p.opt.Master
	if m.Path != "" {
		ep, err := anet.Unix(m.Path)
		if err != nil {
			p.fail(name, replica.None, replica.NoPhase, err, 0)
			return nil
		}
		p.add(Check{Name: name, Status: Pass, Detail: "a unix socket needs none"})
		return []anet.Endpoint{ep}
	}
	begun := time.Now()
	eps, err := p.opt.Resolve(p.ctx, m.Host, m.Port)
	took := time.Since(begun)
	if err == nil && len(eps) == 0 {
		err = errors.New("the name has no address")
	}
	if err != nil {
		p.fail(name, replica.None, replica.NoPhase, p.unresolved(err, took), took)
		return nil
	}
	if len(eps) == 1 && eps[0].String() == m.Address() {
		p.add(Check{Name: name, Status: Pass, Detail: m.Host + " is an address"})
		return eps
	}
	texts := make([]string, len(eps))
	for i, ep := range eps {
		texts[i] = host(ep)
	}
	p.add(Check{Name: name, Status: Pass, Detail: m.Host + " is " + strings.Join(texts, ", "), Took: took})
	return eps
}

func (p *prober) unresolved(err error, took time.Duration) error {
	if p.ctx.Err() != nil {
		err = late(p.ctx, took)
		if errors.Is(err, context.Canceled) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", replica.ErrResolve, err)
}

// host is an endpoint without its port.
func host(ep anet.Endpoint) string {
	h, _, err := net.SplitHostPort(ep.String())
	if err != nil {
		return ep.String()
	}
	return h
}

// maxAddresses bounds how many addresses of a name are tried.
const maxAddresses = 16

// connect tries all addresses at once, and goes on with the first in the
// resolver's order that answers. The link tries one after the other.
func (p *prober) connect(eps []anet.Endpoint) net.Conn {
	type attempt struct {
		nc   net.Conn
		err  error
		took time.Duration
	}
	left := max(0, len(eps)-maxAddresses)
	eps = eps[:len(eps)-left]
	most := limit(p.ctx)
	if end, ok := p.ctx.Deadline(); ok && len(eps) > 1 {
		most = min(most, time.Until(end)/2) // one that is silent must not cost the others their time
	}
	done := make([]chan attempt, len(eps))
	for i, ep := range eps {
		done[i] = make(chan attempt, 1)
		go func() {
			begun := time.Now()
			nc, err := connect(p.ctx, ep, p.opt.Source, most)
			done[i] <- attempt{nc, err, time.Since(begun)}
		}()
	}
	var chosen attempt
	var texts []string
	var failed, noRoute error
	var longest time.Duration
	for i, ep := range eps {
		a := <-done[i]
		text := ep.String()
		switch {
		case a.err != nil:
			text = strings.TrimPrefix(a.err.Error(), "connect to ")
			longest = max(longest, a.took)
			if errors.Is(a.err, syscall.ENETUNREACH) {
				noRoute = a.err
			} else if failed == nil {
				failed = a.err
			}
		case chosen.nc == nil:
			chosen, p.endpoint = a, ep
		default:
			a.nc.Close()
		}
		if len(eps) > 1 {
			text += " in " + short(a.took)
		}
		texts = append(texts, text)
	}
	if chosen.nc == nil {
		chosen.took = longest
		if failed == nil {
			failed = noRoute // else of no harm: a host without IPv6 passes over such addresses at once
		}
	}
	if left > 0 {
		texts = append(texts, strconv.Itoa(left)+" more are not tried")
	}
	c := Check{Name: "connect", Status: Pass, Detail: strings.Join(texts, "; "), Took: chosen.took}
	if failed != nil {
		c.Status, c.Remedy = Warn, replica.Remedy(replica.Connecting, replica.NoPhase, failed)
		if chosen.nc == nil {
			c.Status = Fail
		} else {
			c.Remedy = "a link tries the addresses one after the other, up to " + stepLimit.String() + " each: " + c.Remedy
		}
		if errors.Is(failed, context.Canceled) {
			c.Detail, c.Remedy = "interrupted", ""
		}
	}
	p.add(c)
	return chosen.nc
}

// encrypt makes the TLS handshake where the master speaks TLS.
func (p *prober) encrypt(nc net.Conn) net.Conn {
	if !p.opt.Master.TLS {
		p.add(p.plain())
		return nc
	}
	begun := time.Now()
	c, err := encrypt(p.ctx, nc, p.opt.TLS, p.opt.Master.Host)
	took := time.Since(begun)
	if err != nil {
		nc.Close()
		p.fail("TLS", replica.ReceivePong, replica.NoPhase, err, took)
		return nil
	}
	p.add(certificate(c.ConnectionState(), took, time.Now()))
	return c
}

// plain judges a connection without TLS.
func (p *prober) plain() Check {
	c := Check{Name: "TLS", Status: Pass}
	switch where := reach(p.endpoint); {
	case where == local:
		c.Detail = "none, and none needed: nothing leaves this host"
	case where == private:
		c.Detail = "none: who can listen on the private network on the way reads all data"
		if p.opt.Master.Password != "" {
			c.Detail += ", and the password"
		}
	default:
		c.Status, c.Detail = Warn, "none, and the address is a public one: who can listen on the way reads all data"
		c.Remedy = "set tls-port on the master, and follow it by rediss:// or with --tls"
	}
	return c
}

// handshake makes PING to REPLCONF version, one after the other: a link sends
// them in one write, but here each is timed. False where nothing can follow.
func (p *prober) handshake() bool {
	if !p.ping() {
		return false
	}
	for _, s := range replica.HandshakeSteps(p.opt.Master, p.opt.AnnounceIP, p.opt.AnnouncePort) {
		ok := false
		if s.Phase == replica.Auth {
			ok = p.auth(s)
		} else {
			ok = p.replconf(s)
		}
		if !ok {
			return false
		}
	}
	return true
}

func (p *prober) ping() bool {
	begun := time.Now()
	r, err := p.conn.do("PING")
	c := Check{Name: "PING", Status: Pass, Detail: "+PONG", Took: time.Since(begun)}
	if err == nil && r.kind != '-' && (r.kind != '+' || r.text != "PONG") {
		err = fmt.Errorf("%w to PING: %s", replica.ErrUnexpected, quote([]byte(string(r.kind)+r.text)))
	}
	if err != nil {
		p.fail(c.Name, replica.ReceivePong, replica.NoPhase, err, c.Took)
		return false
	}
	if r.kind == '+' {
		p.add(c)
		return p.needsNoPassword(nil)
	}
	re := &replica.ReplyError{Command: "PING", Text: r.text}
	switch prefix, _, _ := strings.Cut(r.text, " "); {
	case prefix == "NOAUTH", prefix == "NOPERM", strings.HasPrefix(r.text, "ERR operation not permitted"):
		c.Detail = "answered -" + cut(r.text) + ": the handshake goes on"
		p.add(c)
		return p.needsNoPassword(re)
	case prefix == "LOADING", prefix == "MASTERDOWN":
		// It answers, and what it answers next tells how long to wait.
		p.fail(c.Name, replica.ReceivePong, replica.NoPhase, re, c.Took)
		return p.needsNoPassword(nil)
	}
	p.denied = re
	p.fail(c.Name, replica.ReceivePong, replica.NoPhase, re, c.Took)
	return false
}

// needsNoPassword makes the check AUTH where there is no password to send.
func (p *prober) needsNoPassword(refused *replica.ReplyError) bool {
	switch {
	case p.opt.Master.Password != "":
		return true
	case refused != nil && !strings.HasPrefix(refused.Text, "NOPERM"):
		p.fail("AUTH", replica.Sync, replica.Auth, refused, 0)
		return false
	}
	p.add(Check{Name: "AUTH", Status: Pass, Detail: "no password was given, and none is asked for"})
	return true
}

func (p *prober) auth(s replica.HandshakeStep) bool {
	m := p.opt.Master
	begun := time.Now()
	r, err := p.conn.do(s.Args...)
	took := time.Since(begun)
	switch {
	case err == nil && r.kind == '-':
		err = &replica.ReplyError{Command: s.Name, Text: replica.HidePassword(r.text, m.Password)}
	case err == nil && r.kind != '+':
		err = fmt.Errorf("%w to AUTH: a value of kind %q", replica.ErrUnexpected, r.kind)
	case errors.Is(err, replica.ErrUnexpected):
		err = fmt.Errorf("%w to AUTH", replica.ErrUnexpected) // it may quote the password
	}
	if err != nil {
		p.fail(s.Name, replica.Sync, s.Phase, err, took)
		return false
	}
	user := m.User
	if user == "" {
		user = "the default user"
	}
	p.add(Check{Name: s.Name, Status: Pass, Detail: "accepted, as " + user, Took: took})
	return true
}

// replconf makes one of the REPLCONFs. A refusal does not stop a link; but
// without the right to REPLCONF there are no acknowledgements, without which the
// master cuts it, and waits for ever with a diskless sync's stream.
func (p *prober) replconf(s replica.HandshakeStep) bool {
	begun := time.Now()
	r, err := p.conn.do(s.Args...)
	c := Check{Name: s.Name, Status: Pass, Detail: "+" + cut(r.text), Took: time.Since(begun)}
	if err == nil && r.kind != '+' && r.kind != '-' {
		err = fmt.Errorf("%w to %s: a value of kind %q", replica.ErrUnexpected, s.Name, r.kind)
	}
	if err != nil {
		p.fail(s.Name, replica.Sync, s.Phase, err, c.Took)
		return false
	}
	if r.kind == '-' {
		re := &replica.ReplyError{Command: s.Name, Text: r.text}
		c.Detail = re.Error()
		switch {
		case strings.HasPrefix(r.text, "NOPERM"), strings.HasPrefix(r.text, "NOAUTH"):
			c.Status = Fail
			c.Remedy = replica.Remedy(replica.Sync, s.Phase, re)
		case s.Phase == replica.Version:
			c.Detail = "the master does not know this, and need not: only Valkey 8.0 and later do"
		default:
			c.Status = Warn
			c.Remedy = "a link goes on without it; " + replica.Remedy(replica.Sync, s.Phase, re)
		}
	}
	if s.Phase == replica.Port && c.Status == Pass {
		c.Detail += ", as port " + strconv.Itoa(p.opt.AnnouncePort)
	}
	p.add(c)
	return true
}
