package study

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"replicad/replica"
)

// Explain turns records into a study.
func Explain(of string, records []Record) *Study {
	e := &explainer{study: &Study{Of: of, Recorded: true, taken: map[[2]string]int{}}, book: texts(), now: replica.None.String()}
	for _, r := range records {
		if k := r.Event.Kind; k == replica.StateEntered || k == replica.PhaseEntered {
			e.study.Recorded = false
		}
	}
	items := cutAll(records, e.book)
	for i, r := range records {
		e.record(r, items[i])
	}
	return e.study
}

// cutAll takes all bytes apart, connection by connection, and returns the items
// of each record.
func cutAll(records []Record, b *book) map[int][]Item {
	all := map[int][]Item{}
	h := &history{}
	for i := 0; i < len(records); {
		conn := records[i].Conn
		sent := &cutter{book: b, records: all}
		answers := &received{cutter: cutter{book: b, records: all}, history: h}
		for ; i < len(records) && records[i].Conn == conn; i++ {
			switch records[i].Event.Kind {
			case replica.Sent:
				sent.addRecord(i, records[i])
			case replica.Received:
				answers.addRecord(i, records[i])
			}
		}
		answers.cut(sent.cutSent())
	}
	return all
}

// explainer makes steps of records, in order.
type explainer struct {
	*book
	study *Study
	now   string        // state and phase
	since time.Duration // when they were entered
}

// add adds a step of a record.
func (e *explainer) add(r Record, s Step) {
	s.Number, s.At, s.Connection, s.State = len(e.study.Steps)+1, r.At.Seconds(), r.Conn, e.now
	e.study.Steps = append(e.study.Steps, s)
}

// say makes a step of a thing that texts.yaml knows.
func (e *explainer) say(name string, facts any) Step {
	t := e.Things[name]
	return Step{Kind: t.Kind, Title: e.fill(t.Title, facts), Text: e.fill(t.Text, facts), Sources: e.Sources[t.Key]}
}

// thingOf names events as texts.yaml does. What it lacks is told elsewhere, or
// not at all.
func thingOf() map[replica.EventKind]string {
	return map[replica.EventKind]string{
		replica.Resolved:         "resolved",
		replica.ConnectCalled:    "connect",
		replica.FileEvent:        "file-event",
		replica.SocketError:      "so-error",
		replica.Registered:       "register",
		replica.ReplyNoted:       "reply-noted",
		replica.Waiting:          "waiting",
		replica.FullSyncBegun:    "full-sync-begun",
		replica.TransferBegun:    "transfer-begun",
		replica.TransferProgress: "transfer-progress",
		replica.TransferReceived: "transfer-received",
		replica.FullSyncDone:     "full-sync-done",
		replica.Resumed:          "resumed",
		replica.Forked:           "forked",
		replica.Paused:           "paused",
		replica.Unpaused:         "unpaused",
		replica.Stalled:          "archive",
		replica.Healed:           "archive",
		replica.StoreReset:       "archive",
		replica.Failed:           "failed",
		replica.Stopped:          "stopped",
	}
}

// eventFacts are what the texts about an event may name.
type eventFacts struct {
	replica.Event
	Now    string             // state and phase
	Link   *replica.LinkError // of Failed, if it is one
	Remedy string
}

// record adds the steps of a record.
func (e *explainer) record(r Record, items []Item) {
	ev := r.Event
	switch ev.Kind {
	case replica.StateEntered, replica.PhaseEntered:
		e.enter(r, replica.Place(ev.State, ev.Phase), ev.Took, false)
		return
	case replica.Sent, replica.Received:
		e.message(r, items)
		return
	}
	name, known := thingOf()[ev.Kind]
	if r.Verified {
		name, known = "base-verified", true
	}
	if !known {
		return
	}
	facts := eventFacts{Event: ev, Now: e.now}
	if errors.As(ev.Err, &facts.Link) {
		facts.Now, facts.Remedy = replica.Place(facts.Link.State, facts.Link.Phase), facts.Link.Remedy
		if errors.Is(ev.Err, replica.ErrCut) {
			name = "cut"
		}
	}
	e.add(r, e.say(name, facts))
	if ev.Kind == replica.Failed {
		e.infer(r, replica.None.String())
	}
}

// enter adds the step of a change of state or phase.
func (e *explainer) enter(r Record, to string, took time.Duration, inferred bool) {
	before, _, _ := strings.Cut(e.now, "/")
	after, phase, _ := strings.Cut(to, "/")
	why := e.Phases[phase]
	if before != after || e.now == to {
		e.study.taken[[2]string{before, after}]++
		for _, t := range replica.Transitions() {
			if t.From.String() == before && t.To.String() == after {
				why = fmt.Sprintf("Because: %s. Then: %s.", t.Event, t.Action)
				break
			}
		}
	}
	s := e.say("state", map[string]any{"From": e.now, "Now": to, "Why": why, "Took": took})
	s.Change = &Change{From: e.now, Took: took.Seconds(), Inferred: inferred}
	e.now, e.since = to, r.At
	e.add(r, s)
}

// infer enters a state that follows from the bytes of a recording.
func (e *explainer) infer(r Record, to string) {
	if e.study.Recorded && to != e.now {
		e.enter(r, to, r.At-e.since, true)
	}
}

// message adds the step of bytes that went over the wire.
func (e *explainer) message(r Record, items []Item) {
	if e.now == replica.None.String() {
		e.since = r.At // nothing is known of the time before
		e.infer(r, replica.Connecting.String())
	}
	var titles, texts []string
	for _, i := range items {
		titles, texts = append(titles, i.Title), append(texts, i.Text)
	}
	s := e.say("message", map[string]any{"Titles": strings.Join(shorten(titles, 3), ", "), "Texts": texts, "Payload": r.Payload})
	s.Direction, s.Bytes, s.Items = ToReplica, r.Bytes(), items
	if len(items) > 0 {
		s.Sources = items[0].Sources
	}
	if r.Event.Kind == replica.Sent {
		s.Direction = ToMaster
		e.inferFrom(r, items)
	}
	e.add(r, s)
	if r.Event.Kind == replica.Received {
		e.inferFrom(r, items)
	}
}

// inferFrom infers the states of a recording from the items of a message. Of
// several commands of a handshake the answer to the first one is awaited.
func (e *explainer) inferFrom(r Record, items []Item) {
	for _, item := range items {
		if item.state == "" || item.state == "SYNC/STREAM" && item.Continues && item.First == 0 {
			continue // the payload is not whole
		}
		e.infer(r, item.state)
		if r.Event.Kind == replica.Sent && item.state != "RECEIVE_PONG" {
			return
		}
	}
}
