package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"replicad/anet"
	"replicad/anet/tunnel"
	"replicad/replica"
	"replicad/replica/units"
)

// Defaults of [Options].
const (
	DefaultFor     = 3 * time.Second
	DefaultTimeout = 30 * time.Second
)

var errInterrupted = errors.New("interrupted")

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
	// Tell is called with each check, in order, once it is made; Measuring
	// before the write rate is measured. Either may be nil.
	Tell      func(Check)
	Measuring func(time.Duration)
	// Resolve replaces anet.Resolve, for tests.
	Resolve func(ctx context.Context, host string, port int) ([]anet.Endpoint, error)
}

// prober is a probe under way.
type prober struct {
	opt    Options
	ctx    context.Context
	report Report
	table  []check          // the checks that are not told yet, in order
	found  map[string]Check // outcomes that were not told yet, by name
	lacks  map[need]string  // why checks that need something are skipped
	facts  facts
	room   chan map[string]string // what is free below Options.Dir

	endpoint string              // where the link connected to; "" where it did not
	refused  *replica.ReplyError // the answer to PING that ended the handshake
	user     string              // as the master names this client's user
	session  atomic.Pointer[tls.ConnectionState]
	broken   error // why the conversation behind the handshake broke off
}

// Run probes a master. It takes no longer than Options.Timeout, and ends early
// with ctx; the checks that were not made by then are skipped. A probe always
// has a report: a failure is part of it.
//
// It uses go-redis, which logs to stderr unless its logging is disabled.
func Run(ctx context.Context, opt Options) Report {
	if opt.Timeout <= 0 {
		opt.Timeout = DefaultTimeout
	}
	if opt.For <= 0 {
		opt.For = DefaultFor
	}
	ctx, cancel := context.WithTimeout(ctx, opt.Timeout)
	defer cancel()
	p := &prober{
		opt: opt, ctx: ctx, report: Report{Master: opt.Master.Address(), Verdict: Pass},
		found: map[string]Check{}, lacks: map[need]string{}, facts: facts{made: map[string]string{}}, room: make(chan map[string]string, 1),
	}
	p.table = slices.DeleteFunc(checks(), func(c check) bool {
		return c.Name == "PSYNC" && !opt.Psync || c.Name == "REPLCONF ip-address" && opt.AnnounceIP == ""
	})
	if opt.Dir == "" {
		p.lacks[folder] = "without --dir there is nothing to look at"
	} else {
		go func() { p.room <- room(opt.Dir) }() // a network's file system may stand still
	}
	if opt.Master.Password != "" {
		p.facts.made["password"] = "given"
	}
	begun := time.Now()
	p.handshake()
	if p.lacks[answers] == "" {
		p.ask()
	}
	p.tell("")
	p.report.Figures = p.facts.figures()
	p.report.Took = time.Since(begun).Seconds()
	return p.report
}

// tell makes and tells the checks up to the one of that name; all that are left
// for "".
func (p *prober) tell(last string) {
	for len(p.table) > 0 {
		row := p.table[0]
		p.table = p.table[1:]
		c, ok := p.found[row.Name]
		if !ok {
			c = p.make(row)
		}
		const most = 1000 // characters: they may be a server's words
		c.Name, c.Detail, c.Remedy = row.Name, units.Printable(c.Detail, most), units.Printable(c.Remedy, most)
		p.report.Checks = append(p.report.Checks, c)
		if c.Status == Fail || c.Status == Warn && p.report.Verdict == Pass {
			p.report.Verdict = c.Status
		}
		if p.opt.Tell != nil {
			p.opt.Tell(c)
		}
		if row.Name == last {
			return
		}
	}
}

// make judges by a row of the table.
func (p *prober) make(row check) Check {
	why := p.lacks[row.Needs]
	if why == "" && row.Needs != folder && row.Needs != connection {
		why = p.lacks[answers]
	}
	switch {
	case errors.Is(p.ctx.Err(), context.Canceled):
		why = errInterrupted.Error()
	case p.refused != nil && row.Refusal != "" && strings.HasPrefix(p.refused.Text, row.Refusal):
		return failure(replica.ReceivePong, replica.NoPhase, fmt.Errorf("it refuses this connection: %w", p.refused), 0)
	case why == "" && row.Needs == folder:
		p.facts.made["disk.trouble"] = "the file system does not answer in time"
		end, _ := p.ctx.Deadline()
		select {
		case r := <-p.room:
			maps.Copy(p.facts.made, r)
			p.facts.quotient("disk.share", "used_memory", "disk.free")
		case <-time.After(max(time.Until(end), 100*time.Millisecond)):
		}
	}
	if why != "" {
		return Check{Status: Skip, Detail: why}
	}
	return p.facts.judge(row.Rules)
}

// failure is the outcome of a step that failed, with the link's own remedy.
func failure(state replica.State, phase replica.Phase, err error, took time.Duration) Check {
	return Check{Status: Fail, Detail: err.Error(), Remedy: replica.Remedy(state, phase, err), Took: took.Seconds()}
}

// end notes the failure after which the master is asked no more.
func (p *prober) end(name string, c Check) {
	p.found[name] = c
	p.lacks[answers] = name + " failed"
	if p.endpoint == "" || p.opt.Master.TLS {
		p.lacks[connection] = p.lacks[answers]
	}
}

// late is the error of a step without an answer.
func (p *prober) late(took time.Duration) error {
	if errors.Is(p.ctx.Err(), context.Canceled) {
		return errInterrupted
	}
	return fmt.Errorf("%w: no answer within %v", replica.ErrDeadline, took.Round(time.Millisecond))
}

// figures are the values of the facts that [Report.Figures] has.
func (f *facts) figures() map[string]float64 {
	all := map[string]float64{}
	for name, fact := range map[string]string{
		"write_bytes_per_second": "write.rate", "repl_backlog_bytes": "backlog", "longest_cut_seconds": "cut",
		"used_memory_bytes": "used_memory", "full_sync_seconds": "sync", "free_bytes": "disk.free",
	} {
		if n, ok := f.number(fact); ok {
			all[name] = n
		}
	}
	return all
}
