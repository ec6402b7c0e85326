package replica_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"replicad/anet"
	"replicad/eventloop"
	"replicad/replica"
)

// rig is a link on a loop of its own, with a store and an observer that record
// everything and check what must always hold.
type rig struct {
	t       testing.TB
	w       *watch
	cfg     replica.Config
	store   *memStore
	loop    *eventloop.Loop
	link    *replica.Link
	ran     chan error
	secrets []string
	hook    func(replica.Event) // on the loop's thread, after the event is recorded; set before start

	// Below, w.mu.
	events   []replica.Event
	state    replica.State
	phase    replica.Phase
	failures []replica.Event
	replies  int64 // bytes received in the handshake of this connection
	sent     int64 // bytes sent, in all
	advanced int64 // as told last
	stopped  bool
}

// newRig makes a link that has not started. What cfg leaves open is set for
// tests: a fast backoff, and addr as the only address.
func newRig(t testing.TB, cfg replica.Config, opt storeOptions, addr net.Addr) *rig {
	t.Helper()
	r := &rig{t: t, w: newWatch(t), ran: make(chan error, 1)}
	r.store = newMemStore(t, r.w, opt)
	loop, err := eventloop.New()
	if err != nil {
		t.Fatal(err)
	}
	r.loop = loop
	if cfg.Master.Name == "" {
		cfg.Master.Name = "m"
	}
	if addr != nil {
		ep := netip.MustParseAddrPort(addr.String())
		if cfg.Master.Host == "" && cfg.Master.Path == "" {
			cfg.Master.Host, cfg.Master.Port = "master.test", 6379
		}
		if cfg.Resolve == nil {
			cfg.Resolve = func(context.Context, string, int) ([]anet.Endpoint, error) {
				return []anet.Endpoint{anet.TCP(ep)}, nil
			}
		}
	}
	if cfg.Backoff == (replica.Backoff{}) {
		cfg.Backoff = replica.Backoff{Min: time.Millisecond, Max: 5 * time.Millisecond}
	}
	if cfg.Master.Password != "" {
		r.secrets = append(r.secrets, cfg.Master.Password)
	}
	cfg.Observer = replica.ObserverFunc(r.observe)
	r.cfg = cfg
	var store replica.Store = r.store
	if opt.fork != nil {
		store = forkStore{r.store}
	}
	r.link = replica.NewLink(loop, store, cfg)
	go func() { r.ran <- loop.Run() }()
	return r
}

func (r *rig) start() { r.loop.Post(r.link.Start) }

// on runs f on the loop's thread and waits for it.
func (r *rig) on(f func()) {
	done := make(chan struct{})
	if r.loop.Post(func() { f(); close(done) }) {
		<-done
	}
}

// stop stops the link, then the loop, and waits for both.
func (r *rig) stop() {
	r.t.Helper()
	done := make(chan struct{})
	r.loop.Post(func() { r.link.Stop(func() { close(done) }) })
	select {
	case <-done:
	case <-time.After(patience):
		r.t.Errorf("the link does not stop\n%s", r.story())
	}
	r.loop.Stop()
	if err := <-r.ran; err != nil {
		r.t.Errorf("the loop ended with %v", err)
	}
	if n := r.store.busy.Load(); n != 0 {
		r.t.Errorf("after Stop %d calls of the store are under way", n)
	}
}

// wait waits until ok, which is called with the lock held.
func (r *rig) wait(what string, ok func() bool) bool {
	r.t.Helper()
	if r.w.until(ok) {
		return true
	}
	r.t.Errorf("waited in vain for %s\n%s", what, r.story())
	return false
}

func (r *rig) waitPlace(place string) bool {
	r.t.Helper()
	return r.wait("place "+place, func() bool { return r.place() == place })
}

func (r *rig) waitFailures(n int) bool {
	r.t.Helper()
	return r.wait(fmt.Sprintf("failure %d", n), func() bool { return len(r.failures) >= n })
}

func (r *rig) waitEvent(k replica.EventKind, n int) bool {
	r.t.Helper()
	return r.wait(fmt.Sprintf("event %d, %d times", k, n), func() bool { return r.count(k) >= n })
}

// count is how many events of a kind there were; with the lock held.
func (r *rig) count(k replica.EventKind) int {
	n := 0
	for _, e := range r.events {
		if e.Kind == k {
			n++
		}
	}
	return n
}

// failure is the i-th Failed event's error.
func (r *rig) failure(i int) *replica.LinkError {
	r.t.Helper()
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	if i >= len(r.failures) {
		r.t.Fatalf("there were %d failures, not %d", len(r.failures), i+1)
	}
	return r.failures[i].Err.(*replica.LinkError)
}

// place is where the link stands, as errors name it: with the lock held.
func (r *rig) place() string { return replica.Place(r.state, r.phase) }

// observe runs on the loop's thread.
func (r *rig) observe(e replica.Event) {
	e.Data = slices.Clone(e.Data)
	r.w.do(func() {
		r.events = append(r.events, e)
		r.state, r.phase = e.State, e.Phase
		switch e.Kind {
		case replica.ConnectCalled:
			r.replies = 0
		case replica.Received:
			if e.Phase != replica.Stream {
				r.replies += e.Bytes
			}
		case replica.Sent:
			r.sent += e.Bytes
		case replica.Advanced:
			r.advanced = e.Offset
		case replica.Failed:
			r.failures = append(r.failures, e)
		case replica.Stopped:
			r.stopped = true
		case replica.Acknowledged:
			r.checkAck(e)
		}
		r.checkSecrets(e)
	})
	if r.hook != nil {
		r.hook(e)
	}
}

// checkAck: no ACK runs ahead of what the store has. While the base becomes
// durable ACK says 0, so that the master starts its stream.
func (r *rig) checkAck(e replica.Event) {
	most := r.store.stored
	switch {
	case e.Phase == replica.Transfer:
		most = 0
	case r.cfg.AckDurable:
		most = r.store.durable
	}
	if e.Offset > most {
		r.t.Errorf("ACK %d in %s, but only %d is safe", e.Offset, replica.Place(e.State, e.Phase), most)
	}
	if e.Durable > r.store.durable || e.Durable > e.Offset && !r.cfg.AckDurable {
		r.t.Errorf("ACK %d FACK %d, but only %d is durable", e.Offset, e.Durable, r.store.durable)
	}
}

func (r *rig) checkSecrets(e replica.Event) {
	for _, s := range r.secrets {
		for _, where := range []string{string(e.Data), e.Text, e.Endpoint, fmt.Sprint(e.Err), fmt.Sprintf("%v %+v", e, e)} {
			if strings.Contains(where, s) {
				r.t.Errorf("a secret shows in event %d: %s", e.Kind, where)
			}
		}
	}
}

// story tells the events, for a test that failed.
func (r *rig) story() string {
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	var b strings.Builder
	from := max(0, len(r.events)-60)
	for _, e := range r.events[from:] {
		fmt.Fprintf(&b, "\t%-16s kind %d", replica.Place(e.State, e.Phase), e.Kind)
		if e.Data != nil {
			fmt.Fprintf(&b, " %.200q", e.Data)
		}
		if e.Text != "" {
			fmt.Fprintf(&b, " %s", e.Text)
		}
		if e.Err != nil {
			fmt.Fprintf(&b, " %v", e.Err)
		}
		if e.Offset != 0 || e.Durable != 0 {
			fmt.Fprintf(&b, " offset %d durable %d", e.Offset, e.Durable)
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "\tstore: %d taken, %d stored, %d durable, %d bytes of base\n", r.store.taken(), r.store.stored, r.store.durable, r.store.baseSize)
	return b.String()
}

// checkPath: every change of state is an arrow of Transitions, every attempt
// goes the way of the states, and phases follow each other in their order.
func (r *rig) checkPath() {
	r.t.Helper()
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	type arrow struct{ from, to replica.State }
	arrows := map[arrow]bool{}
	for _, tr := range replica.Transitions() {
		arrows[arrow{tr.From, tr.To}] = true
	}
	state, phase := replica.None, replica.NoPhase
	for _, e := range r.events {
		if e.Kind == replica.Registered || e.Kind == replica.FileEvent {
			want := eventloop.Readable // the write event is dropped once connected
			if e.State == replica.Connecting {
				want |= eventloop.Writable
			}
			if e.Registered != want {
				r.t.Errorf("event %d in %s: %s is registered, want %s", e.Kind, replica.Place(e.State, e.Phase), e.Registered, want)
			}
		}
		if e.Kind != replica.StateEntered && e.Kind != replica.PhaseEntered {
			if e.State != state || e.Phase != phase {
				r.t.Errorf("event %d says %s, but the last one that entered a place %s", e.Kind, replica.Place(e.State, e.Phase), replica.Place(state, phase))
			}
			continue
		}
		if e.From != state || e.FromPhase != phase {
			r.t.Errorf("%s was entered from %s, where the link was not", replica.Place(e.State, e.Phase), replica.Place(e.From, e.FromPhase))
		}
		switch {
		case e.Kind == replica.StateEntered && !arrows[arrow{state, e.State}]:
			r.t.Errorf("%s -> %s is none of Transitions()", state, e.State)
		case e.Kind == replica.StateEntered && e.State == replica.Sync:
			first := replica.Port
			if r.cfg.Master.Password != "" {
				first = replica.Auth
			}
			if e.Phase != first {
				r.t.Errorf("SYNC begins with %s, want %s", e.Phase, first)
			}
		case e.Kind == replica.PhaseEntered:
			if want := r.nextPhases(phase); !slices.Contains(want, e.Phase) {
				r.t.Errorf("phase %s follows %s, want one of %v", e.Phase, phase, want)
			}
		}
		state, phase = e.State, e.Phase
	}
}

func (r *rig) nextPhases(p replica.Phase) []replica.Phase {
	switch p {
	case replica.Port:
		if r.cfg.AnnounceIP == "" {
			return []replica.Phase{replica.Capa}
		}
	case replica.Psync:
		return []replica.Phase{replica.Transfer, replica.Stream}
	}
	return []replica.Phase{p + 1}
}

// listen opens a port of the loopback that is closed with the test.
func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// cutter says where the bytes that the scripted master sends are cut. at is
// how many it has sent before, in all of the conversation.
type cutter func(at, n int, s step) (pieces []int)

func whole(_, n int, _ step) []int { return []int{n} }

// cutAt cuts once, before byte i of the conversation.
func cutAt(i int) cutter {
	return func(at, n int, _ step) []int {
		if at < i && i < at+n {
			return []int{i - at, at + n - i}
		}
		return []int{n}
	}
}

// bytewise makes every byte its own write.
func bytewise(_, n int, _ step) []int {
	return slices.Repeat([]int{1}, n)
}

// random cuts at random places, into pieces of every order of magnitude.
func random(rng *rand.Rand) cutter {
	return func(_, n int, _ step) []int {
		var pieces []int
		for n > 0 {
			k := min(n, 1+rng.IntN(1<<rng.IntN(10)))
			pieces = append(pieces, k)
			n -= k
		}
		return pieces
	}
}

// player is the scripted master: it plays the master's part of a conversation
// to a real link over the loopback. It keeps the order of cause and effect: what
// the master said after it had heard something is sent once that was heard. The
// times of a recording mean nothing.
type player struct {
	*rig
	conv  conversation
	want  outcome
	ln    net.Listener
	cut   cutter
	paced bool // the link has read one piece before the next is sent

	conn     net.Conn
	at       int // bytes sent in the conversation
	failedAt int // failures before this connection
	// Bytes sent on this connection: replies, payload; and stream bytes, in all.
	replies, payload, stream int64

	// Below, w.mu.
	heard    [][]string // commands but ACK, not yet played
	acks     []ack      // on this connection, not yet heard
	acked    bool       // there was one
	received int64      // bytes, in all
	gone     bool       // the replica has closed
	due      []int64    // GETACKs to be answered with these offsets
	dueFrom  int        // in acks
	over     bool       // the script has been played
}

type ack struct{ offset, durable int64 }

// play plays a conversation and checks everything that it can.
func play(t testing.TB, conv conversation, opt storeOptions, cut cutter, paced bool) {
	t.Helper()
	if conv.store.position != nil {
		opt.position = conv.store.position
	}
	opt.byHand = conv.store.byHand
	opt.largest = conv.store.largest
	p := &player{conv: conv, cut: cut, paced: paced, ln: listen(t)}
	p.conv.steps = slices.Clone(conv.steps)
	p.want = p.conv.analyse()
	p.rig = newRig(t, conv.cfg, opt, p.ln.Addr())
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.script()
		p.w.do(func() { p.over = true })
	}()
	p.start()
	p.wait("the end of the script", func() bool { return p.over })
	p.expect()
	p.stop()
	p.checkPath()
	p.checkTold()
	p.ln.Close()
	if p.conn != nil {
		p.conn.Close()
	}
	<-done
}

// checkTold: observers are told every byte of the stream, also those that were
// read together with a reply or behind a payload.
func (p *player) checkTold() {
	var stream, told []byte
	for _, s := range p.conv.steps {
		switch s.kind {
		case masterCloses:
			stream = nil
		case fromMaster:
			stream = append(stream, s.data[s.replies+s.payload:]...)
		}
	}
	for _, e := range p.events {
		if e.Kind == replica.Received {
			told = append(told, e.Data...)
		}
	}
	if !p.t.Failed() && !bytes.HasSuffix(told, stream) {
		p.problem("the stream %q was told as %q", stream, told)
	}
}

func (p *player) problem(format string, args ...any) {
	p.t.Errorf("%s\n%s", fmt.Sprintf(format, args...), p.story())
}

// script plays all steps; it returns early after a problem.
func (p *player) script() {
	connected := false
	for i, s := range p.conv.steps {
		if !connected {
			if !p.accept() {
				return
			}
			connected = true
		}
		ok := true
		switch s.kind {
		case fromReplica:
			ok = p.hear(s)
		case fromMaster:
			ok = p.say(s)
		case masterCloses:
			p.hangUp()
			connected = false
		case diskSyncs:
			ok = p.wait("the stream to be stored", func() bool { return p.store.total >= p.stream })
			p.store.fsync()
		}
		if !ok {
			p.t.Errorf("in line %d of %s, step %d", s.line, p.conv.name, i)
			return
		}
	}
	p.answered()
}

func (p *player) accept() bool {
	if l, ok := p.ln.(*net.TCPListener); ok {
		l.SetDeadline(time.Now().Add(patience))
	}
	conn, err := p.ln.Accept()
	if err != nil {
		p.problem("accept: %v", err)
		return false
	}
	p.conn = conn
	p.replies, p.payload = 0, 0
	p.w.do(func() {
		p.heard, p.acks, p.acked, p.due, p.dueFrom, p.gone = nil, nil, false, nil, 0, false
		p.failedAt = len(p.failures)
	})
	go p.listenTo(conn)
	return true
}

// listenTo reads what the replica sends until it closes.
func (p *player) listenTo(conn net.Conn) {
	defer p.w.do(func() { p.gone = true })
	var held []byte
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		held = append(held, buf[:n]...)
		p.w.do(func() { p.received += int64(n) })
		for len(held) > 0 {
			cmd, k, bad := parseCommand(held)
			if bad != nil {
				p.problem("the replica sends what is no command: %v", bad)
				return
			}
			if k == 0 {
				break
			}
			held = held[k:]
			p.take(cmd)
		}
		if err != nil {
			return
		}
	}
}

func (p *player) take(cmd []string) {
	p.w.do(func() {
		a, isAck := ackOf(cmd)
		if !isAck {
			p.heard = append(p.heard, cmd)
			return
		}
		p.acks, p.acked = append(p.acks, a), true
	})
}

// ackOf reads REPLCONF ACK <offset> [FACK <offset>]; durable is -1 without FACK.
func ackOf(cmd []string) (ack, bool) {
	if len(cmd) < 3 || cmd[0] != "REPLCONF" || cmd[1] != "ACK" {
		return ack{}, false
	}
	a := ack{durable: -1}
	var err error
	if a.offset, err = strconv.ParseInt(cmd[2], 10, 64); err == nil && len(cmd) == 5 && cmd[3] == "FACK" {
		a.durable, err = strconv.ParseInt(cmd[4], 10, 64)
	}
	return a, err == nil
}

// hear waits for the commands of an R>M line.
func (p *player) hear(s step) bool {
	for _, want := range s.commands {
		if a, ok := ackOf(want); ok {
			// The ACKs of a recorded replica, without FACK, came with its
			// clock and told what it had by then: not ours to repeat.
			if a.durable >= 0 && !p.hearAck(a) {
				return false
			}
			continue
		}
		for {
			var got []string
			if !p.wait(fmt.Sprintf("%q", want), func() bool { return len(p.heard) > 0 || p.gone }) {
				return false
			}
			p.w.do(func() {
				if len(p.heard) > 0 {
					got, p.heard = p.heard[0], p.heard[1:]
				}
			})
			if got == nil {
				p.problem("the replica closed, %q was awaited", want)
				return false
			}
			if sameMeaning(want, got) {
				break
			}
			answer := unknownHere(want, got)
			if answer == "" {
				p.problem("the replica says %q, %q was awaited", got, want)
				return false
			}
			if !p.say(step{kind: fromMaster, data: []byte(answer), replies: len(answer)}) {
				return false
			}
		}
	}
	return true
}

func (p *player) hearAck(want ack) bool {
	return p.wait(fmt.Sprintf("ACK %d FACK %d", want.offset, want.durable), func() bool {
		i := slices.Index(p.acks, want)
		if i < 0 {
			return false
		}
		p.acks = p.acks[i+1:]
		p.dueFrom = max(0, p.dueFrom-i-1)
		if len(p.due) > 0 && p.due[0] == want.offset {
			p.due = p.due[1:]
		}
		return true
	})
}

// sameMeaning compares a command with the recorded one: what names the replica
// (its port, what it can do, its version) is its own.
func sameMeaning(want, got []string) bool {
	if len(want) < 2 || !strings.EqualFold(want[0], "REPLCONF") {
		return slices.EqualFunc(want, got, strings.EqualFold) && caseOfIDs(want, got)
	}
	return len(got) >= 2 && strings.EqualFold(got[0], "REPLCONF") && strings.EqualFold(want[1], got[1]) &&
		(want[1] != "ip-address" || slices.Equal(want, got))
}

// caseOfIDs: names of commands have no case, their arguments do.
func caseOfIDs(want, got []string) bool { return slices.Equal(want[1:], got[1:]) }

// unknownHere is what the recorded server answers to a command of ours that
// the recorded replica did not send, because it was older; "" when that can't be.
func unknownHere(want, got []string) string {
	switch {
	case len(got) > 2 && got[0] == "REPLCONF" && (got[1] == "capa" || got[1] == "version"):
		return "-ERR Unrecognized REPLCONF option: " + got[1] + "\r\n"
	case want[0] == "SYNC" && got[0] == "PSYNC":
		return "-ERR unknown command 'PSYNC'\r\n"
	}
	return ""
}

// say sends the bytes of an M>R line.
func (p *player) say(s step) bool {
	if s.stream > 0 && s.payload == 0 && !p.beforeStream() {
		return false
	}
	p.noteGetAcks(s)
	at := 0
	for _, n := range p.cut(p.at, len(s.data), s) {
		// A link that has had enough closes; then it tells why.
		if _, err := p.conn.Write(s.data[at : at+n]); err != nil && !p.wait(fmt.Sprintf("the failure behind %v", err), p.hasFailed) {
			return false
		}
		p.replies += int64(overlap(at, at+n, 0, s.replies))
		p.payload += int64(overlap(at, at+n, s.replies, s.replies+s.payload))
		p.stream += int64(overlap(at, at+n, s.replies+s.payload, len(s.data)))
		at += n
		p.at += n
		if p.paced && at < len(s.data) && !p.pace() {
			return false
		}
	}
	return true
}

// overlap is how many numbers of [a, b) are in [c, d).
func overlap(a, b, c, d int) int { return max(0, min(b, d)-max(a, c)) }

// hasFailed tells whether this connection has; with the lock held.
func (p *player) hasFailed() bool { return len(p.failures) > p.failedAt }

// pace waits until the link has read all that was sent, so that the next piece
// comes alone.
func (p *player) pace() bool {
	return p.wait("the bytes to be read", func() bool {
		if p.hasFailed() || p.gone {
			return true
		}
		switch {
		case p.stream > 0:
			return p.store.total >= p.stream
		case p.payload > 0:
			return p.store.baseSize >= p.payload || p.phase == replica.Stream
		}
		return p.replies == 0 || p.rig.replies >= p.replies
	})
}

// beforeStream waits where a master would: one that sent an EOF mark streams
// only after the first ACK; and a GETACK must be answered before we go on, which
// is our own rule, as the order of the recording depended on the clock.
func (p *player) beforeStream() bool {
	if p.marked() && !p.wait("the first ACK", func() bool { return p.acked || p.gone }) {
		return false
	}
	return p.answered()
}

// marked tells whether a payload with an EOF mark was the last that was sent.
func (p *player) marked() bool {
	return p.payload > 0 && p.want.full.Size < 0 && p.stream == 0
}

// noteGetAcks finds the GETACKs in what is about to be sent, and with which
// offset each must be answered: the one before it.
func (p *player) noteGetAcks(s step) {
	if p.cfg.AckDurable || s.stream == 0 {
		return
	}
	stream := s.data[len(s.data)-s.stream:]
	offset := p.offsetOf(p.stream)
	for len(stream) > 0 {
		cmd, n, err := parseCommand(stream)
		if n == 0 || err != nil {
			return
		}
		if len(cmd) == 3 && strings.EqualFold(cmd[0], "REPLCONF") && strings.EqualFold(cmd[1], "GETACK") {
			p.w.do(func() {
				if len(p.due) == 0 {
					p.dueFrom = len(p.acks)
				}
				p.due = append(p.due, offset)
			})
		}
		stream = stream[n:]
		offset += int64(n)
	}
}

// offsetOf is the replication offset behind n stream bytes of the conversation.
// It is right for conversations with GETACK, which have at most one full sync.
func (p *player) offsetOf(n int64) int64 { return p.want.start + n }

// answered waits for the answers to GETACKs. Of several that come in one piece
// the answer to a later one serves for those before it.
func (p *player) answered() bool {
	return p.wait(fmt.Sprintf("answers %v to GETACK", p.due), func() bool {
		if p.gone {
			return true
		}
		from := p.dueFrom
		for len(p.due) > 0 {
			i := slices.IndexFunc(p.acks[from:], func(a ack) bool { return slices.Contains(p.due, a.offset) })
			if i < 0 {
				return false
			}
			p.due = p.due[slices.Index(p.due, p.acks[from+i].offset)+1:]
			from += i + 1
			p.dueFrom = from
		}
		return true
	})
}

// hangUp ends the connection as a master does that exits, without losing bytes
// that are on their way: a close with unread ACKs would send a reset.
func (p *player) hangUp() {
	if c, ok := p.conn.(*net.TCPConn); ok {
		_ = c.CloseWrite()
	}
	p.wait("the replica to close", func() bool { return p.gone })
	p.conn.Close()
}

// expect checks the conversation's expectations, and what follows from its
// bytes.
func (p *player) expect() {
	if p.t.Failed() {
		return
	}
	failures := 0
	for _, x := range p.conv.expects {
		if x.what == "failed" {
			failures++
			if !p.waitFailures(failures) {
				return
			}
		}
		if err := p.meets(x, failures-1); err != nil {
			p.problem("line %d of %s: expect %s %q: %v", x.line, p.conv.name, x.what, x.args, err)
		}
	}
	p.checkStored()
	p.w.mu.Lock()
	n := len(p.failures)
	p.w.mu.Unlock()
	if failures == 0 && n > 0 {
		p.problem("it failed with %v", p.failure(0))
	}
}

var errExpectation = errors.New("it is not so")

// meets checks one expectation; i is the failure that was named last.
func (p *player) meets(x expectation, i int) error {
	want := strings.Join(x.args, " ")
	differs := func(got any) error {
		if fmt.Sprint(got) == want {
			return nil
		}
		return fmt.Errorf("%w: %v", errExpectation, got)
	}
	switch x.what {
	case "failed":
		f := p.failure(i)
		text := strings.Join(x.args[1:], " ")
		if place := replica.Place(f.State, f.Phase); place != x.args[0] || !strings.Contains(f.Error(), text) {
			return fmt.Errorf("%w: in %s: %v", errExpectation, place, f)
		}
	case "remedy":
		f := p.failure(i)
		if f.Remedy == "" && want == "none" || want != "" && strings.Contains(f.Remedy, want) && strings.Contains(f.Error(), f.Remedy) {
			return nil
		}
		return differs(f.Remedy)
	case "state":
		if !p.waitPlace(want) {
			return errExpectation
		}
	case "noted":
		return p.meetsEvent(replica.ReplyNoted, func(e replica.Event) string { return e.Text }, want)
	case "fullsync":
		return p.meetsEvent(replica.FullSyncDone, func(e replica.Event) string {
			return fmt.Sprintf("%s %d, %d bytes", e.ReplID, e.Offset, e.Bytes)
		}, want)
	case "because":
		return p.meetsEvent(replica.FullSyncBegun, func(e replica.Event) string { return e.Text }, want)
	case "resumed":
		return p.meetsEvent(replica.Resumed, func(e replica.Event) string {
			s := fmt.Sprintf("%s %d", e.ReplID, e.Offset)
			if e.Text != "" {
				s += " formerly " + e.Text
			}
			return s
		}, want)
	case "offset":
		n, err := strconv.ParseInt(want, 10, 64)
		if err == nil && !p.wait("offset "+want, func() bool { return p.store.taken() >= n }) {
			return errExpectation
		}
		p.w.mu.Lock()
		defer p.w.mu.Unlock()
		return errors.Join(err, differs(p.store.taken()))
	case "boundary":
		p.w.mu.Lock()
		defer p.w.mu.Unlock()
		return differs(fmt.Sprintf("%d db %d", p.store.last.Offset, p.store.last.DB))
	case "aborted":
		p.w.mu.Lock()
		defer p.w.mu.Unlock()
		return differs(p.store.aborted)
	case "ids":
		p.w.mu.Lock()
		defer p.w.mu.Unlock()
		var ids []string
		for _, id := range p.store.ids {
			ids = append(ids, fmt.Sprintf("%s from %d", id.ReplID, id.Offset))
		}
		return differs(strings.Join(ids, ", "))
	default:
		return fmt.Errorf("unknown expectation")
	}
	return nil
}

func (p *player) meetsEvent(k replica.EventKind, text func(replica.Event) string, want string) error {
	var got []string
	found := p.w.until(func() bool {
		got = got[:0]
		for _, e := range p.events {
			if e.Kind == k {
				got = append(got, text(e))
			}
		}
		return slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, want) })
	})
	if !found {
		return fmt.Errorf("%w: %q", errExpectation, got)
	}
	return nil
}

// checkStored compares the store with what the master sent, byte by byte.
func (p *player) checkStored() {
	end := p.want.start + int64(len(p.want.stream))
	if !p.wait(fmt.Sprintf("offset %d", end), func() bool { return p.store.taken() >= end }) {
		return
	}
	if len(p.want.stream) > 0 && !p.wait(fmt.Sprintf("event Advanced %d", end), func() bool { return p.advanced == end }) {
		return
	}
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	s := p.store
	if string(s.payload) != string(p.want.payload) {
		p.t.Errorf("payload\n got %q\nwant %q", s.payload, p.want.payload)
	}
	if p.want.payload != nil && s.full != p.want.full {
		p.t.Errorf("full sync\n got %+v\nwant %+v", s.full, p.want.full)
	}
	if string(s.stream) != string(p.want.stream) {
		p.t.Errorf("stream\n got %q\nwant %q", s.stream, p.want.stream)
	}
	if s.start.Offset != p.want.start && s.has {
		p.t.Errorf("the history begins at %d, want %d", s.start.Offset, p.want.start)
	}
	cuts := boundaries(p.want.stream, p.want.start, s.start.DB)
	most := p.want.start
	for at := range cuts {
		most = max(most, at)
	}
	for _, b := range s.bounds {
		if db, ok := cuts[b.Offset]; !ok || db != b.DB {
			p.t.Errorf("boundary %+v: there is none, or it has database %d", b, db)
		}
	}
	if len(s.bounds) > 0 && s.last.Offset != most {
		p.t.Errorf("the last boundary is %d, want %d", s.last.Offset, most)
	}
	if s.begun != s.commits+s.aborted && p.phase == replica.Stream {
		p.t.Errorf("%d bases begun, %d committed, %d aborted", s.begun, s.commits, s.aborted)
	}
}
