package replica

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"replicad/anet"
	"replicad/eventloop"
	"replicad/replica/resp"
)

// replIDLen is CONFIG_RUN_ID_SIZE, the length of a replication id and of the
// mark that ends an $EOF payload.
const replIDLen = 40

// tlsAlert is the first byte of a record of type alert (RFC 8446, 5.1), which a
// TLS server sends to a client that does not begin with a ClientHello. No reply
// of a master begins with this byte. The record may have no newline.
const tlsAlert = 0x15

// readReplies reads what is there and gives each line to the phase that awaits
// it. Bytes behind the last line of the handshake begin the payload or the
// stream.
func (l *Link) readReplies(c *conn) {
	n, err := anet.Read(c.fd, l.in)
	switch {
	case errors.Is(err, anet.ErrWouldBlock):
		return
	case errors.Is(err, io.EOF):
		l.fail(ErrClosed)
		return
	case err != nil:
		l.fail(err)
		return
	}
	p := l.in[:n]
	c.lastByte = time.Now()
	l.emit(Event{Kind: Received, Data: l.shown(c, p), Bytes: int64(n)})
	if l.phase == Psync || l.phase == Transfer {
		l.armWait(c) // a newline too keeps the connection alive
	}
	if l.state == ReceivePong && p[0] == tlsAlert {
		l.fail(unexpected("PING", p))
		return
	}
	for len(p) > 0 {
		if c.info != nil {
			if p = p[l.takeInfo(c, p):]; l.conn != c {
				return
			}
			continue
		}
		line, k, err := c.lines.Read(p)
		p = p[k:]
		if err != nil {
			l.fail(fmt.Errorf("%w: %w", ErrUnexpected, err))
			return
		}
		if line == nil {
			return
		}
		if done := l.handleReply(c, line, p); done || l.conn != c {
			return
		}
	}
}

// shown is what observers see of received bytes. Of a reply to AUTH that is not
// positive they see the first word only: a server on which AUTH is renamed quotes
// the arguments in the error ("unknown command 'AUTH', with args beginning
// with: ...", since Redis 5).
func (l *Link) shown(c *conn, p []byte) []byte {
	if l.phase != Auth {
		return p
	}
	p = bytes.Clone(p)
	for i, b := range p {
		switch {
		case c.authReply == 0:
			c.authReply = b
		case c.authHidden && b != '\r' && b != '\n':
			p[i] = '*'
		case b == ' ':
			c.authHidden = c.authReply != '+'
		}
	}
	return p
}

// HidePassword is an error reply to AUTH without the password that it may quote.
func HidePassword(text, password string) string {
	text, _, _ = strings.Cut(text, ", with args beginning with:") // may be cut short by the server
	if password == "" {
		return text
	}
	return strings.ReplaceAll(text, password, "***")
}

// handleReply takes one line of the handshake. It returns true when the
// handshake is over and rest, which was read behind the line, is taken too.
func (l *Link) handleReply(c *conn, line, rest []byte) bool {
	switch {
	case len(c.besides) > 0:
		return l.handleBeside(c, line, rest)
	case l.state == ReceivePong:
		l.handlePong(c, line)
	case l.phase == Psync:
		return l.handlePsync(c, line, rest)
	case l.phase == Transfer:
		return l.handlePreamble(c, line, rest)
	default:
		l.handleStep(c, line)
	}
	return false
}

// handlePong takes the answer to PING. "We accept only two replies as valid, a
// positive +PONG reply or an authentication error." (syncWithMaster; it takes
// any answer that begins with + as positive, but no master sends another.)
func (l *Link) handlePong(c *conn, line []byte) {
	s := string(line)
	switch {
	case s == "+PONG",
		strings.HasPrefix(s, "-NOAUTH"),
		strings.HasPrefix(s, "-NOPERM"),
		strings.HasPrefix(s, "-ERR operation not permitted"):
		l.sendHandshake(c)
	case strings.HasPrefix(s, "-MISCONF"):
		// Redis' replicas give up here. But a master whose disk refuses to
		// save serves PSYNC all the same, and then this copy counts most.
		re := &ReplyError{Command: "PING", Text: s[1:]}
		l.note("PING was answered "+s, errors.New(Remedy(l.state, l.phase, re)))
		l.sendHandshake(c)
	case strings.HasPrefix(s, "-"):
		l.fail(&ReplyError{Command: "PING", Text: s[1:]})
	default:
		l.fail(unexpected("PING", line))
	}
}

// note tells that a refusal was passed over; without says what the link must do
// without, nil for nothing that matters.
func (l *Link) note(text string, without error) {
	l.emit(Event{Kind: ReplyNoted, Text: text, Err: without})
}

// HandshakeStep is a command between PING and PSYNC.
type HandshakeStep struct {
	Phase Phase
	Name  string   // for messages: "REPLCONF capa"
	Args  []string // what is sent; the last one of AUTH is the password
}

// handshakeSteps are the commands between PING and PSYNC, in the order in which
// they are sent. Only an error reply to AUTH ends the attempt. info asks for the
// master's histories, too; channels offers a full sync on two connections.
func handshakeSteps(cfg Config, info, channels bool) []HandshakeStep {
	m := cfg.Master
	var steps []HandshakeStep
	add := func(p Phase, name string, args ...string) {
		steps = append(steps, HandshakeStep{p, name, args})
	}
	switch {
	case m.Password != "" && m.User != "":
		add(Auth, "AUTH", "AUTH", m.User, m.Password)
	case m.Password != "":
		add(Auth, "AUTH", "AUTH", m.Password)
	}
	add(Port, "REPLCONF listening-port", "REPLCONF", "listening-port", strconv.Itoa(cfg.AnnouncePort))
	if cfg.AnnounceIP != "" {
		add(IP, "REPLCONF ip-address", "REPLCONF", "ip-address", cfg.AnnounceIP)
	}
	capa := []string{"REPLCONF", "capa", "eof", "capa", "psync2"}
	if channels {
		capa = append(capa, twoChannels...)
	}
	add(Capa, "REPLCONF capa", capa...)
	if cfg.Until == Transfer {
		// Refused before 6.2: then the full sync is an ordinary one.
		add(Capa, "REPLCONF rdb-only", "REPLCONF", "rdb-only", "1")
	}
	add(Version, "REPLCONF version", "REPLCONF", "version", announcedVersion)
	if info {
		add(Version, "INFO replication", infoStep...)
	}
	return steps
}

// sendHandshake writes all steps at once and enters the phase of the first one.
func (l *Link) sendHandshake(c *conn) {
	var out, shown []byte
	c.password = l.cfg.Master.Password
	c.steps = handshakeSteps(l.cfg, l.known && l.forker != nil && l.channel == nil && !l.noInfo, l.offersChannels())
	if l.side != nil {
		c.steps = slices.DeleteFunc(c.steps, func(s HandshakeStep) bool { return s.Phase != Auth })
		c.steps = append(c.steps, l.channelStep())
	}
	c.asked = time.Now()
	for _, s := range c.steps {
		out = resp.AppendCommand(out, s.Args...)
		if last := len(s.Args) - 1; s.Phase == Auth {
			s.Args[last] = strings.Repeat("*", len(s.Args[last]))
		}
		shown = resp.AppendCommand(shown, s.Args...)
	}
	l.enterStep(c)
	l.write(c, out, shown)
}

func (l *Link) enterStep(c *conn) {
	l.enter(Sync, c.steps[0].Phase)
	c.deadline.Reset(l.cfg.ReplSyncioTimeout)
	if c.steps[0].Args[0] == infoStep[0] {
		c.deadline.Reset(min(infoWithin, l.cfg.ReplSyncioTimeout))
	}
}

// write sends a command of the handshake by a bounded synchronous write; shown
// is what observers see of it.
func (l *Link) write(c *conn, p, shown []byte) {
	l.emit(Event{Kind: Sent, Data: shown, Bytes: int64(len(p))})
	if _, err := anet.SyncWrite(c.fd, p, pingTimeout); err != nil {
		l.fail(err)
		return
	}
	l.answerSoon()
}

// send writes one command of the handshake.
func (l *Link) send(c *conn, args ...string) {
	cmd := resp.AppendCommand(nil, args...)
	l.write(c, cmd, cmd)
}

// handleStep takes the reply to the step that is awaited. Only AUTH is critical:
// where an old master refuses another step, the link goes on without it.
func (l *Link) handleStep(c *conn, line []byte) {
	if len(c.steps) == 0 { // nothing is asked: the store looks for a fork
		l.fail(unexpected("nothing", line))
		return
	}
	s := c.steps[0]
	switch {
	case s.Args[0] == infoStep[0]:
		l.handleInfo(c, line)
		return
	case len(line) > 0 && line[0] == '+':
	case len(line) > 0 && line[0] == '-':
		if s.Phase == Auth || l.side != nil {
			l.fail(&ReplyError{Command: s.Name, Text: HidePassword(string(line[1:]), c.password)})
			return
		}
		re := &ReplyError{Command: s.Name, Text: string(line[1:])}
		if s.Phase == Port && (re.UnknownCommand() || strings.HasPrefix(re.Text, "NOPERM")) {
			c.mute = true
		}
		l.note(s.Name+" was answered "+string(line), nil)
	default:
		if s.Phase == Auth {
			line = []byte(HidePassword(string(line), c.password))
		}
		l.fail(unexpected(s.Name, line))
		return
	}
	l.nextStep(c)
}

// errMute: the link goes on without acknowledgements.
var errMute = errors.New("the link is kept alive by newlines, and WAIT, WAITAOF and min-replicas-to-write can't count this archive: permit REPLCONF (+replconf) to the user, and rename it nowhere")

// nextStep goes on behind a step that was answered.
func (l *Link) nextStep(c *conn) {
	c.steps = c.steps[1:]
	switch {
	case len(c.steps) > 0:
		l.enterStep(c)
	case l.cfg.Until == Version:
		l.Stop(l.onStop)
	case l.known:
		l.resume(c)
	case l.side != nil && l.side.client == "": // Valkey
		l.enter(Sync, Psync)
		c.useSync = true
		l.beginWait(c)
		l.send(c, "SYNC")
	default:
		l.sendPsync(c, "?", -2)
	}
}

// sendPsync asks for what is behind an offset of a history, or, with "?" and -2,
// for a full sync. (slaveTryPartialResynchronization)
func (l *Link) sendPsync(c *conn, id string, offset int64) {
	l.enter(Sync, Psync)
	l.beginWait(c)
	l.send(c, "PSYNC", id, strconv.FormatInt(offset+1, 10))
}

// beginWait starts the clock for a master that prepares a sync.
func (l *Link) beginWait(c *conn) {
	c.waited = time.Now()
	c.lastByte = c.waited
	c.silence.Reset(waitToldAfter)
	l.armWait(c)
}

const (
	waitToldAfter = 3 * time.Second
	waitToldEvery = time.Minute
)

// tellWait tells what the link waits for: a master may save for an hour, or wait
// for other replicas (repl-diskless-sync-delay), before it sends anything.
func (l *Link) tellWait() {
	c := l.conn
	text := "the answer to PSYNC"
	if l.phase == Transfer {
		text = "the payload: the master is saving"
	}
	l.emit(Event{Kind: Waiting, Text: text, Took: time.Since(c.waited)})
	c.silence.Reset(waitToldEvery)
}

// armWait sets the deadline for the reply to PSYNC or the payload. Every byte,
// also a newline that keeps the connection alive, gives the master another
// ReplTimeout, up to ReplBGSaveTimeout in all.
func (l *Link) armWait(c *conn) {
	c.deadline.Reset(min(l.cfg.ReplTimeout, time.Until(c.waited.Add(l.cfg.ReplBGSaveTimeout))))
}

// handlePsync takes the reply to PSYNC, or to SYNC.
// (slaveTryPartialResynchronization)
func (l *Link) handlePsync(c *conn, line, rest []byte) bool {
	s := string(line)
	verb, args, _ := strings.Cut(s, " ")
	switch {
	case s == "": // a keep-alive
	case l.side != nil && c.useSync && strings.HasPrefix(s, "$ENDOFF:"):
		l.handleEndOffset(c, line)
	case verb == "+RDBCHANNELSYNC" && l.offersChannels():
		l.openChannel(c, line, cmp.Or(strings.TrimSpace(args), "none"), rest)
		return true
	case s == "+DUALCHANNELSYNC" && l.offersChannels():
		l.openChannel(c, line, "", rest)
		return true
	case c.useSync && l.side == nil && s[0] == '$':
		l.emit(Event{Kind: FullSyncBegun, Text: "the master does not know PSYNC", Cause: SyncNoPsync})
		l.enter(Sync, Transfer)
		return l.handlePreamble(c, line, rest)
	case c.useSync && s[0] == '-':
		re := &ReplyError{Command: "SYNC", Text: s[1:]}
		if re.UnknownCommand() {
			l.fail(fmt.Errorf("%w: it knows neither PSYNC nor SYNC: %w", ErrNoSync, re))
		} else {
			l.fail(re)
		}
	case verb == "+FULLRESYNC" && !c.useSync:
		l.handleFullResync(c, line, args)
	case verb == "+CONTINUE" && l.known && !c.useSync:
		return l.handleContinue(c, line, strings.TrimSpace(args), rest)
	case s[0] == '-':
		switch re := (&ReplyError{Command: "PSYNC", Text: s[1:]}); {
		case re.UnknownCommand():
			l.sendSync(c, s)
		case strings.Contains(s, "wrong number of arguments"):
			l.fail(fmt.Errorf("%w: its PSYNC is not that of Redis: %w", ErrNoSync, re))
		default:
			l.fail(re)
		}
	case c.useSync:
		l.fail(unexpected("SYNC", line))
	default:
		l.fail(unexpected("PSYNC", line))
	}
	return false
}

// sendSync falls back to SYNC, for a master before 2.8.
func (l *Link) sendSync(c *conn, why string) {
	l.note("PSYNC was answered "+why+": falling back to SYNC", nil)
	c.useSync = true
	l.beginWait(c)
	l.send(c, "SYNC")
}

// handleFullResync takes +FULLRESYNC <replication id> <offset>. The preamble and
// the payload follow.
func (l *Link) handleFullResync(c *conn, line []byte, args string) {
	id, offset, ok := strings.Cut(args, " ")
	n, err := strconv.ParseInt(strings.TrimSpace(offset), 10, 64)
	if !ok || !isReplID(id) || err != nil || n < 0 || n > math.MaxInt64/2 {
		l.fail(unexpected("PSYNC", line))
		return
	}
	if l.channel != nil { // the log that has begun can't be continued
		l.giveUpChannel()
		l.fail(ErrBacklog)
		return
	}
	if l.distrust(c) {
		return
	}
	if c.noRoom != nil {
		l.fail(c.noRoom)
		return
	}
	c.full = FullSync{ReplID: id, Offset: n}
	why, cause := "", SyncInitial
	switch {
	case l.poisoned:
		cause = SyncPoisoned
		why = fmt.Sprintf("twice the stream broke the protocol behind offset %d: the master holds bytes there that are no command; "+
			"the generation before keeps what came before them", l.poison)
	case l.known && id == l.pos.ReplID && n < l.taken():
		cause = SyncAhead
		why = fmt.Sprintf("the archive is ahead: it holds this history up to offset %d, and the master stands at %d; "+
			"the master has lost what lies between, as after a restart from an older RDB, and the generation before keeps it", l.taken(), n)
	case l.known && id == l.pos.ReplID:
		cause = SyncBacklog
		why = fmt.Sprintf("the master's backlog does not reach back to offset %d: raise repl-backlog-size above write rate x longest cut", l.taken()+1)
	case l.known:
		cause = SyncHistory
		why = fmt.Sprintf("the master has another history (asked for %s from offset %d)", l.pos.ReplID, l.taken()+1)
	}
	if l.known {
		why += l.whyNoFork(c)
	}
	l.emit(Event{Kind: FullSyncBegun, ReplID: id, Offset: n, Text: why, Cause: cause})
	l.poisoned = false
	l.enter(Sync, Transfer)
	l.armWait(c)
}

// isReplID says whether s has the form of getRandomHexChars. It must be checked,
// for the archive writes the replication id into text files.
func isReplID(s string) bool {
	return len(s) == replIDLen && strings.Trim(s, "0123456789abcdefABCDEF") == ""
}

// handleContinue continues the stored history, maybe under a new replication id.
func (l *Link) handleContinue(c *conn, line []byte, id string, rest []byte) bool {
	if id != "" && !isReplID(id) {
		l.fail(unexpected("PSYNC", line))
		return false
	}
	l.doubted = false
	c.leftover = bytes.Clone(rest)
	if c.fork != nil {
		l.goBack(c, id)
		return true
	}
	l.continued(c, id)
	return true
}

// continued goes on with the history, under the id that +CONTINUE named, if it
// named one.
func (l *Link) continued(c *conn, id string) {
	former := ""
	if id != "" && id != l.pos.ReplID {
		former = l.pos.ReplID
		l.pos.ReplID = id
		l.store.Continue(id)
	}
	l.emit(Event{Kind: Resumed, ReplID: l.pos.ReplID, Offset: l.taken(), Text: former})
	l.beginStream(c, true, nil)
}

// handlePreamble takes the line before the payload: $<len> or $EOF:<mark>.
// (readSyncBulkPayload)
func (l *Link) handlePreamble(c *conn, line, rest []byte) bool {
	s := string(line)
	switch {
	case s == "": // the master saves, and keeps the link alive
		return false
	case s[0] == '-':
		l.fail(&ReplyError{Command: "PSYNC", Text: s[1:]})
		return false
	case len(s) == len("$EOF:")+replIDLen && strings.HasPrefix(s, "$EOF:"):
		c.full.Size = -1
		l.lend(c, s[len("$EOF:"):], rest)
		return true
	case s[0] == '$':
		n, err := strconv.ParseInt(s[1:], 10, 64)
		if err == nil && n >= 0 && n <= math.MaxInt64/2 {
			c.full.Size = n
			l.lend(c, "", rest)
			return true
		}
	}
	l.fail(unexpected("PSYNC, in place of the payload", line))
	return false
}

// lend takes the socket from the loop and gives it to a transfer.
func (l *Link) lend(c *conn, mark string, prefix []byte) {
	c.deadline.Stop()
	c.silence.Stop()
	if err := l.loop.DeleteFileEvent(c.fd, eventloop.Readable|eventloop.Writable); err != nil {
		l.fail(err)
		return
	}
	l.emit(Event{Kind: TransferBegun, Total: c.full.Size, ReplID: c.full.ReplID, Offset: c.full.Offset})
	c.transfer = &transfer{
		fd: c.fd, full: c.full, mark: []byte(mark), prefix: bytes.Clone(prefix),
		timeout: l.cfg.ReplTimeout, began: time.Now(),
	}
	l.busy = true
	c.progress.Reset(progressEvery)
	go c.transfer.run(l.store, l.loop.Post, func() { l.transferReceived(c) }, func() { l.transferEnded(c) })
}
