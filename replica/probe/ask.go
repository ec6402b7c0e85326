package probe

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"replicad/replica"
	"replicad/replica/units"
)

// client makes one connection to the master, beside the link's.
func (p *prober) client() *redis.Client {
	m := p.opt.Master
	return redis.NewClient(&redis.Options{
		Addr: p.endpoint, Username: m.User, Password: m.Password, Protocol: 2, Dialer: p.dial, ContextTimeoutEnabled: true,
		DisableIdentity: true, MaxRetries: -1, PoolSize: 1, PipelinePoolSize: 1, DialerRetries: 1, ConnMaxIdleTime: -1,
		DialTimeout: p.stepLimit(), ReadTimeout: replica.DefaultReplSyncioTimeout, WriteTimeout: replica.DefaultReplSyncioTimeout,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// dial connects to where the link did.
func (p *prober) dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	d := tls.Dialer{NetDialer: &net.Dialer{}}
	connect := d.NetDialer.DialContext
	if p.opt.Master.TLS {
		connect = d.DialContext
		if d.Config, err = p.opt.TLS.Config(p.opt.Master.Host); err != nil {
			return nil, err
		}
	}
	if p.opt.Master.Path != "" {
		network, address = "unix", p.opt.Master.Path
	} else if a := p.opt.Source.Addr; a.IsValid() {
		d.NetDialer.LocalAddr = &net.TCPAddr{IP: a.AsSlice(), Zone: a.Zone()}
	}
	c, err = connect(ctx, network, address)
	if err != nil && p.opt.Source.BestEffort {
		d.NetDialer.LocalAddr = nil
		c, err = connect(ctx, network, address)
	}
	if err != nil {
		return nil, err
	}
	if t, ok := c.(*tls.Conn); ok {
		state := t.ConnectionState()
		p.session.Store(&state)
	}
	return guard(c), nil
}

// certificate notes what a rule compares of a TLS session.
func (f *facts) certificate(s *tls.ConnectionState) {
	f.made["tls"] = tls.VersionName(s.Version) + ", " + tls.CipherSuiteName(s.CipherSuite)
	if len(s.PeerCertificates) > 0 {
		cert := s.PeerCertificates[0]
		f.made["tls.name"], f.made["tls.until"] = cert.Subject.CommonName, cert.NotAfter.UTC().Format(time.DateTime)
		f.make("tls.left", time.Until(cert.NotAfter).Seconds())
	}
}

// reply is an answer: a text, the name:value lines of a list, or an error reply
// without its '-'.
type reply struct{ text, refusal string }

// is says whether the master answered with an error that begins so.
func (r reply) is(refusal string) bool { return strings.HasPrefix(r.refusal, refusal) }

// unknown says whether the server does not know the command: it is too old or no
// Redis, or has renamed the command.
func (r reply) unknown() bool {
	return (&replica.ReplyError{Text: r.refusal}).UnknownCommand()
}

// pipeline sends commands in one write and reads their answers. Where the
// conversation breaks the answers are empty, and p.broken says why.
func (p *prober) pipeline(c *redis.Client, commands ...string) []reply {
	begun := time.Now()
	all, _ := c.Pipelined(p.ctx, func(pipe redis.Pipeliner) error {
		for _, command := range commands {
			var args []any
			for _, word := range strings.Fields(command) {
				args = append(args, word)
			}
			pipe.Do(p.ctx, args...)
		}
		return nil
	})
	replies := make([]reply, len(commands))
	for i, cmd := range all {
		if refusal, ok := cmd.Err().(redis.Error); ok {
			replies[i].refusal = refusal.Error()
		} else if err := cmd.Err(); err != nil {
			p.broken = p.trouble(commands[i], err, time.Since(begun))
			return replies
		}
		switch v := cmd.(*redis.Cmd).Val().(type) {
		case string:
			replies[i].text = v
		case []any:
			for ; len(v) > 1; v = v[2:] {
				replies[i].text += fmt.Sprintf("%v:%v\n", v[0], v[1])
			}
		}
	}
	return replies
}

// trouble turns an error of the client into what a link would say.
func (p *prober) trouble(command string, err error, took time.Duration) error {
	switch {
	case p.ctx.Err() != nil, errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return p.late(took)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return replica.ErrClosed
	}
	return fmt.Errorf("%w to %s: %s", replica.ErrUnexpected, command, replica.HidePassword(err.Error(), p.opt.Master.Password))
}

// ask asks what the user may ask, measures, and has all of it judged.
func (p *prober) ask() {
	c := p.client()
	defer c.Close()
	defer context.AfterFunc(p.ctx, func() { c.Close() })() // the client reads on when ctx is done
	for _, question := range []struct {
		name string
		ask  func(*redis.Client) Check
	}{{"ACL", p.askACL}, {"INFO", p.askInfo}, {"CONFIG GET", p.askConfig}, {"commands", p.askCommands}} {
		begun := time.Now()
		found := question.ask(c)
		if s := p.session.Load(); s != nil {
			p.facts.certificate(s)
		}
		if p.broken != nil {
			p.end(question.name, failure(replica.Sync, replica.Capa, p.broken, time.Since(begun)))
			return
		}
		found.Took = time.Since(begun).Seconds()
		p.found[question.name] = found
		p.tell(question.name)
	}
	p.facts.derive()
	p.tell("BGSAVE")
	p.measure(c)
	p.tell("full sync")
	if _, known := p.found["PSYNC"]; p.opt.Psync && !known {
		p.psync()
	}
}

// askACL finds out who the probe is, and whether that user may do what a link
// must.
func (p *prober) askACL(c *redis.Client) Check {
	// PSYNC has too few arguments here and SYNC one too many, so neither is
	// executed. A server that does not know the command says that before it looks
	// at the arguments (processCommand in Redis' server.c).
	r := p.pipeline(c, "ACL WHOAMI", "PSYNC", "SYNC x")
	p.user = units.Printable(cmp.Or(r[0].text, p.opt.Master.User, "default"), 80)
	if r[1].unknown() {
		p.found["PSYNC"] = Check{Status: Skip, Detail: "the server does not know it: a link falls back to SYNC, which is not tried"}
		found := Check{Status: Warn, Detail: "the server does not know PSYNC: a link falls back to SYNC, and each reconnect is a full sync",
			Remedy: "upgrade the master to 2.8 or later, or take back its rename-command of PSYNC"}
		if r[2].unknown() {
			re := &replica.ReplyError{Command: "PSYNC", Text: r[1].refusal}
			found = failure(replica.Sync, replica.Psync, fmt.Errorf("%w: it knows neither PSYNC nor SYNC: %w", replica.ErrNoSync, re), 0)
		}
		return found
	}
	if r[0].unknown() {
		return p.behindPing("the master has no ACLs (before 6.0): every client")
	}
	return p.dryRun(c, "user "+p.user)
}

// rights judges what may not be run, and how that is known.
func (p *prober) rights(who string, denied []string, how string) Check {
	if len(denied) == 0 {
		return Check{Status: Pass, Detail: who + " may run psync, replconf and ping (" + how + ")"}
	}
	return Check{Status: Fail, Detail: fmt.Sprintf("%s may not run %s (%s)", who, strings.Join(denied, ", "), how),
		Remedy: fmt.Sprintf("on the master, ACL SETUSER %s +%s", p.user, strings.Join(denied, " +"))}
}

// dryRun asks for the rights as such, where the user may ask that and the master
// knows it.
func (p *prober) dryRun(c *redis.Client, who string) Check {
	dry := "ACL DRYRUN " + p.user + " "
	replies := p.pipeline(c, dry+"psync ? -1", dry+"replconf ack 0", dry+"ping")
	var denied []string
	for i, command := range []string{"psync", "replconf", "ping"} {
		if replies[i].refusal != "" {
			return p.behindPing(who)
		}
		if replies[i].text != "OK" {
			denied = append(denied, command)
		}
	}
	return p.rights(who, denied, "ACL DRYRUN")
}

// behindPing sends PSYNC where the master refuses it for its place if for nothing
// else; see the package's comment. It has a connection of its own, which is cut
// where the master does not refuse.
func (p *prober) behindPing(who string) Check {
	c := p.client()
	defer c.Close()
	replies := p.pipeline(c, "PING", "PSYNC ? -1")
	ping, psync := replies[0], replies[1]
	re := &replica.ReplyError{Command: "PSYNC", Text: psync.refusal}
	how := re.Error()
	var denied []string
	switch {
	case psync.refusal == "":
		how = fmt.Sprintf("the server took a PSYNC that was to be refused, with %q, and was cut; a BGSAVE may have begun", psync.text)
	case strings.Contains(psync.refusal, "pending"):
		how = "a PSYNC behind a PING was refused for its place alone"
	case psync.is("NOPERM"), psync.is("NOAUTH"):
		denied, how = []string{"psync"}, "-"+psync.refusal
	case psync.is("NOMASTERLINK"):
		p.found["role"] = failure(replica.Sync, replica.Psync, re, 0) // unless INFO tells more
	case !psync.is("LOADING") && !psync.is("MASTERDOWN"): // the master looks at the rights before these
		return failure(replica.Sync, replica.Psync, re, 0)
	}
	if ping.is("NOPERM") {
		denied = append(denied, "ping")
	}
	return p.rights(who, denied, how)
}

// askInfo reads INFO.
func (p *prober) askInfo(c *redis.Client) Check {
	p.facts.asked = time.Now()
	r := p.pipeline(c, "INFO")
	info := parseInfo(r[0].text)
	if info["redis_version"] == "" {
		return p.unanswered("INFO", fullInfo, r[0], "+info", "loading, role, version, memory and the write rate are not checked")
	}
	delete(p.found, "role")
	p.facts.info = info
	p.facts.derive()
	p.report.Server = units.Printable(p.facts.made["server"], 80)
	return Check{Status: Pass, Detail: units.Count(int64(len(info)), "field")}
}

// written are commands that write, of every master that has COMMAND INFO (2.8.13).
const written = "append bitop decr decrby del eval evalsha expire expireat flushall flushdb hdel hincrby hincrbyfloat hmset hset hsetnx incr incrby " +
	"incrbyfloat linsert lpop lpush lpushx lrem lset ltrim migrate move mset msetnx persist pexpire pexpireat psetex publish rename renamenx restore rpop " +
	"rpoplpush rpush rpushx sadd sdiffstore set setbit setex setnx setrange sinterstore smove sort spop srem sunionstore zadd zincrby zinterstore zrem " +
	"zremrangebyrank zremrangebyscore zunionstore"

// askCommands asks for what the stream may have that a plain server does not
// load: a command that the master does not know by its name is renamed, or
// disabled.
func (p *prober) askCommands(c *redis.Client) Check {
	var lost, modules []string
	names := strings.Fields(written)
	found, err := p.list(c, append([]string{"COMMAND", "INFO"}, names...))
	if p.broken != nil {
		return Check{}
	}
	if err != nil || len(found) != len(names) {
		return Check{Status: Skip, Detail: "the master does not say which commands it has"}
	}
	for i, is := range found {
		if is == nil {
			lost = append(lost, names[i])
		}
	}
	loaded, _ := p.list(c, []string{"MODULE", "LIST"}) // refused before 4.0, and to many a user
	for _, m := range loaded {
		if fields, _ := m.([]any); len(fields) > 1 {
			modules = append(modules, units.Printable(fmt.Sprint(fields[1]), 40))
		}
	}
	var has []string
	if len(lost) > 0 {
		has = append(has, "it has renamed or disabled "+strings.Join(lost, ", "))
	}
	if len(modules) > 0 {
		has = append(has, "it has loaded "+units.Count(int64(len(modules)), "module")+" ("+strings.Join(modules, ", ")+")")
	}
	if len(has) == 0 {
		return Check{Status: Pass, Detail: "those that write have their names"}
	}
	return Check{Status: Warn, Detail: strings.Join(has, ", and ") + ": a plain server may not load what comes of that",
		Remedy: "have a redis.conf with the same rename-command and loadmodule lines for restore --redis-config"}
}

// list asks for an array. The error is the master's; p.broken says where the
// conversation broke.
func (p *prober) list(c *redis.Client, args []string) ([]any, error) {
	begun := time.Now()
	var all []any
	for _, a := range args {
		all = append(all, a)
	}
	v, err := c.Do(p.ctx, all...).Slice()
	var refused redis.Error
	if err != nil && !errors.As(err, &refused) {
		p.broken = p.trouble(args[0], err, time.Since(begun))
	}
	return v, err
}

// unanswered makes a warning of a question that was not answered.
func (p *prober) unanswered(name string, what need, r reply, right, lost string) Check {
	p.lacks[what] = name + " was not answered"
	c := Check{Status: Warn, Detail: fmt.Sprintf("%s (answered %q)", lost, cmp.Or(r.refusal, r.text))}
	if r.is("NOPERM") {
		c.Remedy = fmt.Sprintf("for the time of the probe, on the master, ACL SETUSER %s %s; replication does not need it", p.user, right)
	} else if r.unknown() {
		c.Remedy = "has the master renamed it, or its provider taken it away? Check those by other means"
	}
	return c
}

// askConfig reads the directives that matter to replication; none of them is
// secret. The names with "slave" are those of before 5.0, which each master
// knows.
func (p *prober) askConfig(c *redis.Client) Check {
	directives := []string{
		"maxclients", "protected-mode", "repl-backlog-size", "repl-backlog-ttl", "client-output-buffer-limit", "repl-diskless-sync",
		"repl-diskless-sync-delay", "repl-timeout", "repl-ping-slave-period", "min-slaves-to-write", "min-slaves-max-lag", "proto-max-bulk-len",
	}
	replies := p.pipeline(c, strings.Split("CONFIG GET "+strings.Join(directives, "\nCONFIG GET "), "\n")...)
	config := map[string]string{}
	for _, r := range replies {
		maps.Copy(config, parseInfo(r.text))
	}
	if len(config) == 0 {
		return p.unanswered("CONFIG GET", configuration, replies[0], "+config|get", "the directives that matter to replication are not checked")
	}
	p.facts.config = config
	return Check{Status: Pass, Detail: units.Count(int64(len(config)), "directive")}
}

// measure waits and reads INFO again. Where there is no answer the rate stays
// unknown, and the checks say so.
func (p *prober) measure(c *redis.Client) {
	if p.lacks[fullInfo] != "" {
		return
	}
	end, _ := p.ctx.Deadline()
	wait := min(p.opt.For, time.Until(end)/2) // and leave time for the rest
	if p.opt.Measuring != nil {
		p.opt.Measuring(wait)
	}
	select {
	case <-time.After(time.Until(p.facts.asked.Add(wait))):
	case <-p.ctx.Done():
		return
	}
	apart := time.Since(p.facts.asked).Seconds()
	if r := p.pipeline(c, "INFO"); r[0].text != "" {
		p.facts.measure(parseInfo(r[0].text), apart)
		p.facts.derive()
	}
}

// guarded is a connection that ends where a server answers what no master does.
// go-redis makes as much room as a header announces, and goes one call deeper
// for each list in a list; so the connection looks at headers first. No line of
// INFO looks like a header.
type guarded struct {
	net.Conn
	odd          *regexp.Regexp
	bytes, lists int
	line         []byte // the beginning of the line under way
}

// guard refuses strings of 10 MB, lists of 1000, and RESP3.
func guard(c net.Conn) *guarded {
	return &guarded{Conn: c, odd: regexp.MustCompile(`(?m)^(\$[^\n]{9}|\*[^\n]{5}|[(=!%~|>,_])`)}
}

// Read implements net.Conn.
func (g *guarded) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	seen := append(g.line, p[:n]...)
	g.bytes += n
	g.lists += bytes.Count(p[:n], []byte("*"))
	if g.bytes > 4<<20 || g.lists > 2000 || g.odd.Match(seen) {
		return 0, fmt.Errorf("%w: %q", replica.ErrUnexpected, p[:min(n, 160)])
	}
	seen = seen[bytes.LastIndexByte(seen, '\n')+1:]
	g.line = slices.Clone(seen[:min(len(seen), 16)])
	return n, err
}
