package study

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"replicad/anet"
	"replicad/replica"
	"replicad/replica/units"
)

// Study is a conversation, explained step by step. All renderers work on it.
type Study struct {
	Of       string // the master's address, or the file
	Recorded bool   // from a transcript, which has no kernel and no states
	Steps    []Step
	Failure  *replica.LinkError // why it ended, where it failed
	Dropped  int64              // events that were only counted
}

// Kind says what a step tells.
type Kind string

// The kinds of steps.
const (
	KindKernel  Kind = "kernel"  // what a system call said
	KindState   Kind = "state"   // a state or phase was entered
	KindMessage Kind = "message" // bytes went over the wire
	KindSync    Kind = "sync"    // a full or partial resync, and its progress
	KindNote    Kind = "note"
	KindFailure Kind = "failure"
)

// Step is one thing that happened.
type Step struct {
	Number int // from 1 on
	At     time.Duration
	Conn   int
	Kind   Kind
	State  replica.State // in force after it
	Phase  replica.Phase
	Title  string
	Text   string
	Key    Key

	// Of KindState. Inferred: from the bytes, as a recording has no states.
	From      replica.State
	FromPhase replica.Phase
	Took      time.Duration // how long the former one lasted
	Inferred  bool

	// Of KindMessage.
	ToMaster bool
	Bytes    int64
	Items    []Item
}

// Place joins state and phase.
func (s Step) Place() string { return replica.Place(s.State, s.Phase) }

// Direction is R>M or M>R for a message, "" for what is none.
func (s Step) Direction() string {
	switch {
	case s.Kind != KindMessage:
		return ""
	case s.ToMaster:
		return toMaster
	}
	return toReplica
}

// Alternative is the step as one sentence, for who can't see a picture.
func (s Step) Alternative() string {
	text := fmt.Sprintf("%.4f s, ", s.At.Seconds())
	switch {
	case s.Kind != KindMessage:
		text += s.Title
	case s.ToMaster:
		text += fmt.Sprintf("replica to master, %s: %s", units.Count(s.Bytes, "byte"), s.Title)
	default:
		text += fmt.Sprintf("master to replica, %s: %s", units.Count(s.Bytes, "byte"), s.Title)
	}
	return text
}

// Explain turns records into a study.
func Explain(of string, records []Record) *Study {
	e := &explainer{study: &Study{Of: of, Recorded: true}, parts: take(records)}
	for _, r := range records {
		if k := r.Event.Kind; k == replica.StateEntered || k == replica.PhaseEntered {
			e.study.Recorded = false
		}
	}
	for i, r := range records {
		e.record(i, r)
	}
	return e.study
}

// take cuts all that was sent and received, connection by connection, and gives
// the items of each record.
func take(records []Record) map[int][]Item {
	type wire struct {
		sent, received flow
		s, r           []int // the records
	}
	var order []int
	wires := map[int]*wire{}
	for i, r := range records {
		w := wires[r.Conn]
		if w == nil {
			w = &wire{}
			wires[r.Conn] = w
			order = append(order, r.Conn)
		}
		switch r.Event.Kind {
		case replica.Sent:
			w.sent.addRecord(r)
			w.s = append(w.s, i)
		case replica.Received:
			w.received.addRecord(r)
			w.r = append(w.r, i)
		}
	}
	all := map[int][]Item{}
	var h history
	for _, conn := range order {
		w := wires[conn]
		items, commands := cutSent(&w.sent)
		deal(records, w.s, items, all)
		deal(records, w.r, cutReceived(&w.received, commands, &h), all)
	}
	return all
}

// deal gives each record the parts that lie in it.
func deal(records []Record, of []int, items []Item, all map[int][]Item) {
	at := int64(0)
	for _, i := range of {
		end := at + records[i].Bytes()
		for len(items) > 0 {
			item := items[0]
			last := item.Parts[len(item.Parts)-1]
			if item.Parts[0].at >= end {
				break
			}
			if last.at+last.Bytes <= end {
				all[i] = append(all[i], item)
				items = items[1:]
				continue
			}
			here, rest := item.split(end)
			all[i] = append(all[i], here)
			items[0] = rest
			break
		}
		at = end
	}
}

// split cuts an item in two at a position inside.
func (i Item) split(at int64) (before, after Item) {
	before, after = i, i
	before.Parts, after.Parts = nil, nil
	before.Continues, after.Continued = true, true
	for _, p := range i.Parts {
		switch {
		case p.at+p.Bytes <= at:
			before.Parts = append(before.Parts, p)
		case p.at >= at:
			after.Parts = append(after.Parts, p)
		default:
			n := at - p.at
			first := p
			first.Bytes, first.Data = n, p.Data[:min(n, int64(len(p.Data)))]
			before.Parts = append(before.Parts, first)
			after.Parts = append(after.Parts, p.after(n))
		}
	}
	return before, after
}

type explainer struct {
	study *Study
	parts map[int][]Item
	state replica.State
	phase replica.Phase
	since time.Duration
}

func (e *explainer) add(s Step) {
	s.Number = len(e.study.Steps) + 1
	if s.Kind != KindState {
		s.State, s.Phase = e.state, e.phase
	}
	e.study.Steps = append(e.study.Steps, s)
}

// record adds the steps of a record.
func (e *explainer) record(i int, r Record) {
	ev := r.Event
	s := Step{At: r.At, Conn: r.Conn, Kind: KindKernel}
	switch ev.Kind {
	case replica.StateEntered, replica.PhaseEntered:
		e.enter(r, ev.State, ev.Phase, ev.Took, false)
		return
	case replica.Sent, replica.Received:
		e.message(i, r)
		return
	case replica.Resolved:
		s.Title, s.Key = "the name's addresses: "+ev.Text, keyResolve
		s.Text = "getaddrinfo(3) may block for seconds, so it runs beside the loop. Every address is tried before the attempt counts as failed."
	case replica.ConnectCalled:
		e.connect(&s, ev)
	case replica.FileEvent:
		s.Title, s.Key = fmt.Sprintf("epoll_wait: fd %d is %s", ev.FD, ev.Mask.EpollNames()), keyEvent
		s.Text = fmt.Sprintf("Registered for it is %s. %s", ev.Registered.EpollNames(), fileEvent(e.state))
	case replica.SocketError:
		s.Title, s.Key = "getsockopt(SO_ERROR) = "+errno(ev.Err), keySOError
		s.Text = "0: the connection stands. Being writable alone does not say so: a failed connect makes a socket writable too."
		if ev.Err != nil {
			s.Text = "The connect failed: " + ev.Err.Error() + ". The next address of the name is tried, where there is one."
		}
	case replica.Registered:
		s.Title, s.Key = "epoll_ctl: registered is "+ev.Registered.EpollNames(), keyRegister
		s.Text = registered(e.state)
	default:
		if !e.other(&s, r) {
			return
		}
	}
	e.add(s)
}

func (e *explainer) connect(s *Step, ev replica.Event) {
	s.Key = keyConnect
	to := ev.Endpoint
	switch {
	case ev.FD < 0:
		s.Title, s.Text = "connect() failed at once: "+errno(ev.Err), ev.Err.Error()
	case ev.Err == nil:
		s.Title = fmt.Sprintf("connect(fd %d, %s) = 0", ev.FD, to)
		s.Text = "Connected at once, as unix sockets do. The write event tells it all the same, in the next turn of the loop."
	default:
		s.Title = fmt.Sprintf("connect(fd %d, %s) = -1 %s", ev.FD, to, errno(ev.Err))
		s.Text = "The socket doesn't block: the kernel shakes hands with the master while the loop serves others. The write event tells the outcome."
	}
}

func errno(err error) string {
	if err == nil {
		return "0"
	}
	if name := anet.ErrorName(err); name != "" {
		return name
	}
	return err.Error()
}

func fileEvent(s replica.State) string {
	if s == replica.Connecting {
		return "Writable while CONNECTING: the connect has its outcome, good or bad. SO_ERROR says which."
	}
	return "Readable: an answer is here, or the end of the connection."
}

func registered(s replica.State) string {
	switch s {
	case replica.Connecting:
		return "Writable tells the outcome of connect(2); readable is registered with it."
	case replica.ReceivePong:
		return "The write event is dropped: a connected socket is nearly always writable, and the loop would never sleep."
	case replica.Sync:
		return "The socket is the loop's: what comes now is the stream."
	}
	return "What the kernel is to tell of."
}

// other explains what is neither of the kernel nor a message; false for what is
// told elsewhere.
func (e *explainer) other(s *Step, r Record) bool {
	ev := r.Event
	s.Kind, s.Key = KindSync, keyTransfer
	if r.Base != nil {
		s.Title = "the base was read again, and is what the master sent" + took(r.Base.Took)
		s.Text = "Its CRC-64 is right."
		return true
	}
	switch ev.Kind {
	case replica.ReplyNoted:
		s.Kind, s.Key = KindNote, keyReply
		s.Title, s.Text = "noted: "+ev.Text, "An optional command that this master does not know. It is passed over."
	case replica.FullSyncBegun:
		s.Key = keyFullResync
		s.Title, s.Text = fmt.Sprintf("a full sync begins at offset %d", ev.Offset), "Nothing was asked for that the master could go on with."
		if ev.Text != "" {
			s.Text = "Why: " + ev.Text + "."
		}
	case replica.TransferBegun:
		s.Title = "the payload begins: " + units.Count(ev.Total, "byte")
		if ev.Total < 0 {
			s.Title = "the payload begins: of unknown length"
		}
		s.Text = "From here the socket is lent to a thread that moves the bytes to the disk by splice(2): they never enter this process."
	case replica.TransferProgress:
		s.Title, s.Text = units.Count(ev.Bytes, "byte")+" are here", "The transfer goes on."
		if ev.Total > 0 {
			s.Title = fmt.Sprintf("%d of %s are here", ev.Bytes, units.Count(ev.Total, "byte"))
		}
	case replica.TransferReceived:
		s.Title = "the payload is complete: " + units.Count(ev.Bytes, "byte") + took(ev.Took)
		s.Text = "It is being made durable: fsync of the file, rename, fsync of its folder."
	case replica.FullSyncDone:
		s.Title = fmt.Sprintf("the base is durable, at offset %d", ev.Offset)
		s.Text = "A crash from here on loses nothing of it."
	case replica.Resumed:
		s.Key = keyContinue
		s.Title = fmt.Sprintf("resumed behind offset %d", ev.Offset)
		s.Text = "The history goes on without a gap. Nothing is repeated, not even a SELECT."
		if ev.Text != "" {
			s.Text += " It goes on under a new replication id; the former one was " + ev.Text + "."
		}
	case replica.Paused, replica.Unpaused:
		s.Kind = KindNote
		s.Title, s.Text = "the disk is behind: the read event is dropped", "TCP's window closes, and slows the master down."
		if ev.Kind == replica.Unpaused {
			s.Title, s.Text = "the disk has caught up: the read event is back", "The stream goes on."
		}
	case replica.Stalled, replica.Healed, replica.StoreReset:
		s.Kind = KindNote
		s.Title, s.Text = "the archive", errno(ev.Err)
	case replica.Failed:
		e.failed(s, ev)
		if e.study.Recorded {
			e.add(*s)
			e.enter(r, replica.None, replica.NoPhase, r.At-e.since, true)
			return false
		}
	case replica.Stopped:
		s.Kind, s.Key = KindNote, keyNone
		s.Title, s.Text = "the study ends", "The connection was closed by this side."
	default:
		return false
	}
	return true
}

func took(d time.Duration) string {
	if d <= 0 {
		return ""
	}
	return ", in " + d.Round(10*time.Microsecond).String()
}

func (e *explainer) failed(s *Step, ev replica.Event) {
	s.Kind, s.Key = KindFailure, keyFailed
	s.Title = fmt.Sprint(ev.Err)
	s.Text = "The connection is closed, and another attempt follows."
	var le *replica.LinkError
	if !errors.As(ev.Err, &le) {
		return
	}
	s.Title = fmt.Sprintf("failed in %s: %v", replica.Place(le.State, le.Phase), le.Cause)
	if errors.Is(le, replica.ErrCut) {
		s.Kind = KindNote
		s.Title, s.Text = "the link is cut on purpose", "As a network would. What is here ends at some byte; the next connection asks for the one behind it."
		return
	}
	if le.Remedy != "" {
		s.Text = "What helps: " + Advice(le.Remedy)
	}
}

// Advice puts a remedy of the daemon's into the words of a study, whose archive is
// a temporary one.
func Advice(remedy string) string {
	return strings.ReplaceAll(remedy, "below dir", "below TMPDIR")
}

// enter adds the step of a change of state or phase.
func (e *explainer) enter(r Record, to replica.State, phase replica.Phase, took time.Duration, inferred bool) {
	if inferred && to == e.state && phase == e.phase {
		return
	}
	s := Step{At: r.At, Conn: r.Conn, Kind: KindState, Key: keyState, State: to, Phase: phase, From: e.state, FromPhase: e.phase, Took: took, Inferred: inferred}
	s.Title = replica.Place(s.From, s.FromPhase) + " -> " + s.Place()
	s.Text = entered(s)
	if took > 0 {
		s.Text += fmt.Sprintf(" %s lasted %s.", replica.Place(s.From, s.FromPhase), took.Round(time.Microsecond))
	}
	e.state, e.phase, e.since = to, phase, r.At
	e.add(s)
}

// entered says why a state or phase was entered: a state's reason is that of the
// transition table.
func entered(s Step) string {
	if s.State != s.From {
		for _, t := range replica.Transitions() {
			if t.From == s.From && t.To == s.State {
				return fmt.Sprintf("Because: %s. Then: %s.", t.Event, t.Action)
			}
		}
	}
	switch s.Phase {
	case replica.Auth:
		return "The answer to AUTH is awaited."
	case replica.Port:
		return "The answer to REPLCONF listening-port is awaited."
	case replica.IP:
		return "The answer to REPLCONF ip-address is awaited."
	case replica.Capa:
		return "The answer to REPLCONF capa is awaited."
	case replica.Version:
		return "The answer to REPLCONF version is awaited."
	case replica.Psync:
		return "All that comes before is said: now for the data."
	case replica.Transfer:
		return "A full sync: the RDB comes, or bare newlines while the master saves."
	case replica.Stream:
		return "Every byte from here on is part of the history, and has an offset."
	}
	return ""
}

// message adds the step of bytes that went over the wire.
func (e *explainer) message(i int, r Record) {
	s := Step{At: r.At, Conn: r.Conn, Kind: KindMessage, ToMaster: r.Event.Kind == replica.Sent, Bytes: r.Bytes(), Items: e.parts[i]}
	if e.study.Recorded && e.state == replica.None {
		e.enter(r, replica.Connecting, replica.NoPhase, 0, true)
	}
	if e.study.Recorded && s.ToMaster {
		e.inferSent(r, s.Items)
	}
	s.Title, s.Text = titleOf(s.Items)
	if len(s.Items) > 0 {
		s.Key = s.Items[0].Key
	}
	if r.Payload {
		s.Text += " These bytes went from the socket to the disk without passing through memory, and were read from there for this study."
	}
	e.add(s)
	if e.study.Recorded && !s.ToMaster {
		e.inferReceived(r, s.Items)
	}
}

// titleOf is the title of a message of these items.
func titleOf(items []Item) (title, text string) {
	for i, item := range items {
		if i == 3 && len(items) > 4 {
			title += fmt.Sprintf(", and %d more", len(items)-i)
			break
		}
		if i > 0 {
			title += ", "
		}
		title += item.Title
	}
	if len(items) == 1 {
		text = items[0].Text
	} else {
		text = units.Count(int64(len(items)), "unit") + " of the protocol in one piece, as TCP gave them: its borders mean nothing."
	}
	return title, text
}

// phaseOf says in which phase the answer to a command is awaited.
func phaseOf(k Key) (replica.Phase, bool) {
	p, ok := map[Key]replica.Phase{
		keyAuth: replica.Auth, keyPort: replica.Port, keyIP: replica.IP, keyCapa: replica.Capa,
		keyVersion: replica.Version, keyPsync: replica.Psync, keySync: replica.Psync,
	}[k]
	return p, ok
}

// inferSent infers states from what the replica says.
func (e *explainer) inferSent(r Record, items []Item) {
	for _, item := range items {
		if item.Key == keyPing {
			e.enter(r, replica.ReceivePong, replica.NoPhase, r.At-e.since, true)
			continue
		}
		if p, ok := phaseOf(item.Key); ok {
			e.enter(r, replica.Sync, p, r.At-e.since, true)
			return // the first one's answer is awaited
		}
	}
}

func (e *explainer) inferReceived(r Record, items []Item) {
	for _, item := range items {
		switch item.Key {
		case keyFullResync, keyLength, keyEOF:
			e.enter(r, replica.Sync, replica.Transfer, r.At-e.since, true)
		case keyContinue, keyStream, keyStreamPing, keySelect, keyGetAck:
			e.enter(r, replica.Sync, replica.Stream, r.At-e.since, true)
		case keyMark, keyRDB:
			if !item.Continues {
				e.enter(r, replica.Sync, replica.Stream, r.At-e.since, true)
			}
		}
	}
}
