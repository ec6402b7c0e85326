package probe

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"replicad/replica"
	"replicad/replica/units"
)

// unknownCommand says whether an error is that of a command that is not there:
// too old a server, one that is no Redis, or rename-command.
func unknownCommand(r reply) bool {
	return r.kind == '-' && strings.HasPrefix(strings.ToLower(r.text), "err unknown command")
}

// askACL finds out who the probe is, and whether that user may do what a link
// must.
func (p *prober) askACL() bool {
	begun := time.Now()
	// Too few arguments, and one too many: which of the two commands there are
	// is said before anything else is looked at (processCommand).
	r, err := p.conn.pipeline([]string{"ACL", "WHOAMI"}, []string{"PSYNC"}, []string{"SYNC", "x"})
	if err != nil {
		p.fail("ACL", replica.Sync, replica.Capa, err, time.Since(begun))
		return false
	}
	f := &p.facts
	f.acl = !unknownCommand(r[0])
	f.user = p.opt.Master.User
	if r[0].kind == '$' || r[0].kind == '+' {
		f.user = cut(r[0].text)
	}
	if f.user == "" {
		f.user = "default"
	}
	c := Check{Name: "ACL", Took: time.Since(begun)}
	switch {
	case unknownCommand(r[1]) && unknownCommand(r[2]):
		err := fmt.Errorf("%w: it knows neither PSYNC nor SYNC: %w", replica.ErrNoSync, &replica.ReplyError{Command: "PSYNC", Text: r[1].text})
		p.fail("ACL", replica.Sync, replica.Psync, err, c.Took)
		f.noSync = true
		return true
	case unknownCommand(r[1]):
		c.Status, c.Detail = Warn, "the server does not know PSYNC: a link falls back to SYNC, and each reconnect is a full sync"
		c.Remedy = "upgrade the master to 2.8 or later, or take back its rename-command of PSYNC"
		p.add(c)
		f.noPsync = true
		return true
	}
	denied, known, err := p.dryRun(f.user)
	how := "ACL DRYRUN"
	if err == nil && !known {
		how = "a PSYNC behind a PING was refused for its place alone"
		var text string
		if denied, text, err = p.behindPing(); err == nil && text != "" {
			how = text
		}
	}
	c.Took = time.Since(begun)
	switch who := "user " + f.user; {
	case err != nil:
		p.fail(c.Name, replica.Sync, replica.Capa, err, c.Took)
		return false
	case len(denied) > 0 && f.acl:
		c.Status, c.Detail = Fail, fmt.Sprintf("%s may not run %s (%s)", who, strings.Join(denied, ", "), how)
		c.Remedy = fmt.Sprintf("on the master, ACL SETUSER %s +%s", f.user, strings.Join(denied, " +"))
	case len(denied) > 0:
		c.Status, c.Detail = Fail, fmt.Sprintf("%s may not be run (%s)", strings.Join(denied, ", "), how)
		c.Remedy = replica.Remedy(replica.Sync, replica.Psync, &replica.ReplyError{Text: "NOAUTH"})
	case f.oddPsync != nil:
		c.Status, c.Detail = Fail, f.oddPsync.Error()
		c.Remedy = replica.Remedy(replica.Sync, replica.Psync, f.oddPsync)
	default:
		if !f.acl {
			who = "the master has no ACLs (before 6.0): who may connect"
		}
		c.Status, c.Detail = Pass, who+" may run psync, replconf and ping ("+how+")"
	}
	p.add(c)
	return true
}

// dryRun asks for the rights as such; known is false where that is not
// permitted, or not known to the master.
func (p *prober) dryRun(user string) (denied []string, known bool, err error) {
	if !p.facts.acl {
		return nil, false, nil
	}
	names := []string{"psync", "replconf", "ping"}
	replies, err := p.conn.pipeline(
		[]string{"ACL", "DRYRUN", user, "psync", "?", "-1"},
		[]string{"ACL", "DRYRUN", user, "replconf", "ack", "0"},
		[]string{"ACL", "DRYRUN", user, "ping"})
	if err != nil {
		return nil, false, err
	}
	for i, r := range replies {
		switch {
		case r.kind == '+' && r.text == "OK":
		case r.kind == '$':
			denied = append(denied, names[i])
		default:
			return nil, false, nil
		}
	}
	return denied, true, nil
}

// behindPing sends PSYNC where it is refused for its place if for nothing else;
// see the package's comment. PING and REPLCONF were tried before. text tells of
// an answer that was none of the refusals that are known.
func (p *prober) behindPing() (denied []string, text string, err error) {
	replies, err := p.conn.pipeline([]string{"PING"}, []string{"PSYNC", "?", "-1"})
	if err != nil {
		return nil, "", err
	}
	ping, psync := replies[0], replies[1]
	re := &replica.ReplyError{Command: "PSYNC", Text: psync.text}
	word, _, _ := strings.Cut(psync.text, " ")
	switch {
	case psync.kind != '-':
		// A replica now, which was not wanted.
		p.conn.close()
		return nil, "the server took a PSYNC that was to be refused, with " + quote([]byte(psync.text)) + ", and was cut; a BGSAVE may have begun", p.reopen()
	case strings.Contains(psync.text, "pending"):
	case word == "NOPERM", word == "NOAUTH":
		denied = append(denied, "psync")
		text = "-" + cut(psync.text)
	case word == "NOMASTERLINK":
		p.facts.noMasterLink = re
		text = re.Error()
	case word == "LOADING", word == "MASTERDOWN": // the rights were looked at before
		text = re.Error()
	default:
		p.facts.oddPsync = re
	}
	if strings.HasPrefix(ping.text, "NOPERM") {
		denied = append(denied, "ping")
	}
	return denied, text, nil
}

// reopen makes the connection once more, as far as AUTH.
func (p *prober) reopen() error {
	var nc net.Conn
	nc, err := connect(p.ctx, p.endpoint, p.opt.Source, limit(p.ctx))
	if err != nil {
		return err
	}
	if p.opt.Master.TLS {
		c, err := encrypt(p.ctx, nc, p.opt.TLS, p.opt.Master.Host)
		if err != nil {
			nc.Close()
			return err
		}
		nc = c
	}
	p.conn = newConn(p.ctx, nc)
	for _, s := range replica.HandshakeSteps(p.opt.Master, "", 0) {
		if s.Phase != replica.Auth {
			continue
		}
		if _, err := p.conn.do(s.Args...); err != nil {
			return err
		}
	}
	return nil
}

// askInfo reads INFO.
func (p *prober) askInfo() bool {
	f := &p.facts
	f.asked = time.Now()
	r, err := p.conn.do("INFO")
	c := Check{Name: "INFO", Status: Pass, Took: time.Since(f.asked)}
	if err != nil {
		p.fail(c.Name, replica.Sync, replica.Capa, err, c.Took)
		return false
	}
	if f.info = parseInfo(r.text); r.kind != '$' || f.info["redis_version"] == "" {
		f.info = nil
		f.noInfo = p.refused(&c, r, "+info", "loading, role, version, memory and the write rate are not checked")
		p.add(c)
		return true
	}
	p.report.Server = printable(serverName(f.info))
	c.Detail = units.Count(int64(len(f.info)), "field")
	p.add(c)
	return true
}

// serverName is "Redis 7.0.15" or "Valkey 8.0.1".
func serverName(i info) string {
	if v := i.text("valkey_version"); v != "" {
		return "Valkey " + v
	}
	return "Redis " + i.text("redis_version")
}

// refused makes a warning of a question that was not answered, and returns what
// other checks are skipped for.
func (p *prober) refused(c *Check, r reply, right, lost string) (why string) {
	c.Status = Warn
	switch {
	case r.kind == '-' && strings.HasPrefix(r.text, "NOPERM"):
		c.Detail = "not permitted: " + lost
		c.Remedy = fmt.Sprintf("for the time of the probe, on the master, ACL SETUSER %s %s; replication does not need it", p.facts.user, right)
		return c.Name + " is not permitted"
	case r.kind == '-':
		c.Detail = "answered -" + cut(r.text) + ": " + lost
	default:
		c.Detail = "the answer is none of Redis': " + lost
	}
	if unknownCommand(r) {
		c.Remedy = "has the master renamed it, or its provider taken it away? Check those by other means"
	}
	return c.Name + " was not answered"
}

// directives are what is read from the configuration; nothing secret is.
func directives() []string {
	return []string{
		"maxclients", "protected-mode", "repl-backlog-size", "repl-backlog-ttl", "client-output-buffer-limit", "repl-diskless-sync",
		"repl-diskless-sync-delay", "repl-timeout", "repl-ping-replica-period", "repl-ping-slave-period", "min-replicas-to-write",
		"min-slaves-to-write", "min-replicas-max-lag", "min-slaves-max-lag",
	}
}

// askConfig reads the directives. A master that does not know one has none of
// it.
func (p *prober) askConfig() bool {
	var commands [][]string
	for _, d := range directives() {
		commands = append(commands, []string{"CONFIG", "GET", d})
	}
	begun := time.Now()
	replies, err := p.conn.pipeline(commands...)
	c := Check{Name: "CONFIG GET", Status: Pass, Took: time.Since(begun)}
	if err != nil {
		p.fail(c.Name, replica.Sync, replica.Capa, err, c.Took)
		return false
	}
	f := &p.facts
	if f.config = parseConfig(replies); len(f.config) == 0 {
		f.config = nil
		f.noConfig = p.refused(&c, replies[0], "+config|get", "the directives that matter to replication are not checked")
		p.add(c)
		return true
	}
	c.Detail = units.Count(int64(len(f.config)), "directive")
	p.add(c)
	return true
}

// parseConfig reads answers of CONFIG GET: a list of name and value; an empty
// one for a name that is not known.
func parseConfig(replies []reply) info {
	fields := info{}
	known := directives()
	for _, r := range replies {
		for i := 0; i+1 < len(r.items); i += 2 {
			if name := strings.ToLower(r.items[i].text); slices.Contains(known, name) {
				fields[name] = r.items[i+1].text
			}
		}
	}
	return fields
}

// psync sends a real PSYNC where that was asked for, and cuts the connection.
func (p *prober) psync() {
	const name = "PSYNC"
	if !p.opt.Psync {
		return
	}
	id, offset := p.position()
	begun := time.Now()
	// A diskless master answers when the delay is over, and it has forked.
	end, _ := p.ctx.Deadline()
	p.conn.send(time.Until(end), []string{name, id, offset})
	line, err := p.conn.in.readLine()
	c := Check{Name: name, Status: Pass, Took: time.Since(begun)}
	p.conn.close()
	if err != nil {
		err = p.conn.why(name, begun, err)
		delay, known := p.facts.config.number("repl-diskless-sync-delay")
		if errors.Is(err, replica.ErrDeadline) && known && float64(delay) > c.Took.Seconds()-1 {
			c.Status, c.Detail = Warn, "not refused, and not answered by the end of --timeout: the master waits for other replicas first, and nothing was begun"
			c.Remedy = fmt.Sprintf("give the probe a --timeout that is longer by repl-diskless-sync-delay, %d s", delay)
			p.add(c)
			return
		}
		p.fail(name, replica.Sync, replica.Psync, err, c.Took)
		return
	}
	switch verb, _, _ := strings.Cut(line, " "); {
	case verb == "+FULLRESYNC":
		c.Detail = cut(line) + ", and the connection was cut: a BGSAVE may have begun on the master"
	case verb == "+CONTINUE" && id != "?":
		c.Detail = cut(line) + " from offset " + offset + ", and the connection was cut: nothing was begun on the master"
	case unknownCommand(reply{kind: line[0], text: line[1:]}) && !p.facts.noSync:
		c.Status, c.Detail = Warn, "the server does not know PSYNC: a link falls back to SYNC, which is not tried"
	case line[0] == '-':
		re := &replica.ReplyError{Command: name, Text: line[1:]}
		c.Status, c.Detail, c.Remedy = Fail, re.Error(), replica.Remedy(replica.Sync, replica.Psync, re)
	default:
		err := fmt.Errorf("%w to PSYNC: %s", replica.ErrUnexpected, quote([]byte(line)))
		c.Status, c.Detail, c.Remedy = Fail, err.Error(), replica.Remedy(replica.Sync, replica.Psync, err)
	}
	p.add(c)
}

// position is where the master stands, if it can continue from there; else what
// asks for a full sync.
func (p *prober) position() (id, offset string) {
	i := p.facts.later
	id = i["master_replid"]
	n, ok := i.number("master_repl_offset")
	if !ok || len(id) != 40 || !i.is("repl_backlog_active", "1") {
		return "?", "-1"
	}
	return id, strconv.FormatInt(n+1, 10)
}
