package replica

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"replicad/eventloop"
)

// Replication is what INFO replication of a master tells of its histories: the
// two lines that a partial resync can continue (genRedisInfoString in Redis'
// server.c). The zero value is that of a master that did not tell.
type Replication struct {
	Role    string // role: "master", or "slave" of another one
	ReplID  string // master_replid
	Offset  int64  // master_repl_offset: where that history ends now
	ReplID2 string // master_replid2: the id before; "" where there is none
	Offset2 int64  // second_repl_offset - 1: where the id before ends
	Backlog int64  // repl_backlog_first_byte_offset; 0 where there is no backlog
	Host    string // master_host and master_port: the master of the master
	Port    int
}

// Lines are the histories that the master can continue: an id, and the offset of
// the last byte that it names.
func (r Replication) Lines() []Position {
	var all []Position
	if r.ReplID != "" {
		all = append(all, Position{ReplID: r.ReplID, Offset: r.Offset})
	}
	if r.ReplID2 != "" {
		all = append(all, Position{ReplID: r.ReplID2, Offset: r.Offset2})
	}
	return all
}

// Has says whether a place lies in one of the histories.
func (r Replication) Has(p Position) bool {
	for _, line := range r.Lines() {
		if line.ReplID == p.ReplID && p.Offset <= line.Offset {
			return true
		}
	}
	return false
}

// take takes one line of INFO. Lines that say something else are passed over.
func (r *Replication) take(line string) {
	name, value, _ := strings.Cut(strings.TrimRight(line, "\r\n"), ":")
	id := func(s string) string {
		if !isReplID(s) || strings.Trim(s, "0") == "" { // clearReplicationId2
			return ""
		}
		return s
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < 0 {
		n = 0
	}
	switch name {
	case "role":
		r.Role = value
	case "master_host":
		r.Host = value
	case "master_port":
		r.Port = int(min(n, 1<<16))
	case "master_replid":
		r.ReplID = id(value)
	case "master_repl_offset":
		r.Offset = n
	case "master_replid2":
		r.ReplID2 = id(value)
	case "second_repl_offset":
		if r.Offset2 = n - 1; n < 1 {
			r.ReplID2 = ""
		}
	case "repl_backlog_first_byte_offset":
		r.Backlog = n
	}
}

// infoReply is the reply to INFO while it comes: a bulk string.
type infoReply struct {
	is   Replication
	left int64 // bytes that are still to come, with the CR LF behind the string
}

// The step that asks for the master's histories. It is sent where there is a
// history to continue, until a master has refused it.
var infoStep = []string{"INFO", "replication"}

// mostInfo is the longest answer to INFO replication that is read, in bytes: a
// line for each replica comes to much less.
const mostInfo = 16 << 20

// handleInfo takes the first line of the reply to INFO. A refusal is
// remembered, for a master whose ACL lacks +info would log each attempt.
func (l *Link) handleInfo(c *conn, line []byte) {
	s := string(line)
	n, err := strconv.ParseInt(strings.TrimPrefix(s, "$"), 10, 64)
	switch {
	case strings.HasPrefix(s, "-"), strings.HasPrefix(s, "+"):
		l.noInfo, c.master = true, Replication{} // what it told before is out of date
		l.note("INFO was answered "+s, errNoInfo)
		l.nextStep(c)
	case !strings.HasPrefix(s, "$") || err != nil || n < 0 || n > mostInfo:
		l.fail(unexpected("INFO", line))
	default:
		c.info = &infoReply{left: n + 2}
	}
}

var errNoInfo = errors.New("a failover that left this history before its end will cost a full sync: permit INFO (+info) to the user")

// infoWithin is how long after the reply before it the reply to INFO may take:
// both were asked for in one write.
const infoWithin = time.Second

// infoLate is the deadline of the reply to INFO: the link goes on without one.
// A master that was only busy is asked again at the connect after the next
// stream.
func (l *Link) infoLate(c *conn) {
	l.noInfo, l.late, c.master = true, true, Replication{}
	l.note(fmt.Sprintf("INFO was not answered within %v", infoWithin), errNoInfo)
	l.nextStep(c)
}

// takeInfo takes bytes of the reply to INFO, and returns how many.
func (l *Link) takeInfo(c *conn, p []byte) int {
	in := c.info
	p = p[:min(int64(len(p)), in.left)]
	line, n, err := c.lines.Read(p)
	if err != nil {
		l.fail(fmt.Errorf("%w: %w", ErrUnexpected, err))
		return n
	}
	if in.left -= int64(n); line != nil {
		in.is.take(string(line))
	}
	if in.left == 0 {
		c.master, c.info = in.is, nil
		if line == nil {
			l.fail(unexpected("INFO", []byte("a bulk string without its CR LF")))
			return n
		}
		if l.cfg.Accept != nil {
			if err := l.cfg.Accept(c.master); err != nil {
				l.fail(err)
				return n
			}
		}
		l.nextStep(c)
	}
	return n
}

// behindFor is how long a master that is itself a replica, in the same history,
// may be behind: its own link brings it on.
const behindFor = 10 * time.Second

// resume asks for what is behind the stored history, where the master has all of
// that, or does not tell. Else the two histories are the same only up to a fork:
// the store looks for that.
func (l *Link) resume(c *conn) {
	at := Position{ReplID: l.pos.ReplID, Offset: l.taken()}
	switch {
	case c.master.ReplID == "" || c.master.Has(at):
		l.sendPsync(c, at.ReplID, at.Offset)
	case c.master.Role == "slave" && c.master.ReplID == at.ReplID && time.Since(c.asked) < behindFor:
		c.again.Reset(tick) // behind, not forked
		c.deadline.Reset(l.cfg.ReplTimeout)
	default:
		l.busy = true
		c.deadline.Reset(l.cfg.ReplTimeout)
		store, master := l.forker, c.master
		go func() {
			p, ok := store.ForkAt(master)
			l.loop.Post(func() { l.forkFound(c, p, ok) })
		}()
	}
}

// askAgain asks for the master's histories once more.
func (l *Link) askAgain() {
	c := l.conn
	c.steps = []HandshakeStep{{Version, "INFO replication", infoStep}}
	l.enterStep(c)
	l.send(c, infoStep...)
}

// forkFound is posted when the store has looked for the fork. Where there is
// none, PSYNC names the end of the history all the same, and the master answers
// with a full sync.
func (l *Link) forkFound(c *conn, p Position, ok bool) {
	l.busy = false
	if l.conn != c {
		l.idle()
		return
	}
	if l.needReset { // the store failed meanwhile
		return
	}
	switch {
	case !ok && c.noRoom != nil:
		l.fail(c.noRoom)
	case !ok:
		l.sendPsync(c, l.pos.ReplID, l.taken())
	default:
		c.fork = &p
		l.sendPsync(c, p.ReplID, p.Offset)
	}
}

// goBack has the store go back to the fork, from which the master continues.
// Until that is done the link reads nothing, and acknowledges the fork: an
// offset of the history before would have the master believe that this replica
// has what it has not.
func (l *Link) goBack(c *conn, id string) {
	c.deadline.Stop()
	c.silence.Stop()
	l.loop.DeleteFileEvent(c.fd, eventloop.Readable)
	l.busy, c.goingBack = true, true
	c.cron.Reset(tick)
	l.sendAck(c)
	store, p := l.forker, *c.fork
	go func() {
		at, err := store.Fork(p)
		l.loop.Post(func() { l.wentBack(c, id, at, err) })
	}()
}

// wentBack is posted when the store stands at the fork, or could not go there.
func (l *Link) wentBack(c *conn, id string, at Position, err error) {
	l.busy, c.goingBack = false, false
	end := l.taken()
	if err == nil {
		l.setHistory(at, true)
		l.stored = l.store.Progress()
		l.told = l.stored
	}
	switch {
	case l.conn != c:
		l.idle()
	case err != nil:
		l.fail(storeError(err))
	default:
		l.emit(Event{Kind: Forked, ReplID: at.ReplID, Offset: at.Offset, Received: end, Text: id})
		l.continued(c, id)
	}
}

// distrust is called with a full sync in answer to PSYNC, where INFO had said
// that the master can continue: between the two a failover may have begun. It
// hangs up and asks once more, and says whether it did.
func (l *Link) distrust(c *conn) bool {
	at := Position{ReplID: l.pos.ReplID, Offset: l.taken()}
	if c.fork != nil {
		at = *c.fork
	}
	m := c.master
	if !l.known || l.doubted || !m.Has(at) || m.Backlog == 0 || at.Offset+1 < m.Backlog {
		l.doubted = false
		return false
	}
	l.doubted = true
	l.note(fmt.Sprintf("PSYNC for offset %d was answered with a full sync, though INFO says that the master can continue there", at.Offset+1),
		errors.New("the master is asked once more"))
	l.disconnect()
	l.enter(None, NoPhase)
	l.retry.Reset(0)
	return true
}

// whyNoFork says why no fork was continued, behind a text that says why there is
// no partial resync.
func (l *Link) whyNoFork(c *conn) string {
	switch {
	case l.noInfo:
		return "; INFO is not permitted, so that the place could not be looked for where the histories part"
	case c.fork != nil:
		return fmt.Sprintf("; the histories part at offset %d, and the master's backlog begins at %d", c.fork.Offset, c.master.Backlog)
	}
	return ""
}
