package study

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"replicad/replica"
	"replicad/replica/units"
)

// Study is a conversation, explained step by step. [Text], [JSON] and [HTML]
// print it.
type Study struct {
	Of       string // the master's address, or the name of the file
	Recorded bool   // from a transcript, which has no kernel and no states
	Steps    []Step
	Failure  *replica.LinkError // why it ended, if it failed
	Dropped  int64              // events that were only counted

	taken map[[2]string]int // how often each change of state was made
}

// Kind says what a step tells.
type Kind string

// The kinds of steps.
const (
	KindKernel  Kind = "kernel"  // what a system call said
	KindState   Kind = "state"   // the link entered a state or phase
	KindMessage Kind = "message" // bytes went over the wire
	KindSync    Kind = "sync"    // a full or partial resync, and its progress
	KindNote    Kind = "note"
	KindFailure Kind = "failure"
)

// Directions of a message, as a transcript writes them.
const (
	ToMaster  = "R>M"
	ToReplica = "M>R"
)

// Step is one thing that happened. Its fields are those of the JSON, which the
// package comment describes.
type Step struct {
	Number     int     `json:"number"`     // from 1 on
	At         float64 `json:"at"`         // seconds since the first step
	Connection int     `json:"connection"` // from 1 on, 0 before the first
	Kind       Kind    `json:"kind"`
	State      string  `json:"state"` // state or state/phase, in force after the step
	Title      string  `json:"title"`
	Text       string  `json:"text"`
	Sources
	*Change
	Direction string `json:"direction,omitempty"` // of a message: ToMaster or ToReplica
	Bytes     int64  `json:"bytes,omitempty"`     // of a message
	Items     []Item `json:"items,omitempty"`     // of a message
}

// Change is what a step of [KindState] has besides.
type Change struct {
	From     string  `json:"from"`               // the state before
	Took     float64 `json:"took"`               // seconds that From lasted
	Inferred bool    `json:"inferred,omitempty"` // it follows from the bytes of a recording
}

// Item is a unit of the protocol: a command, a reply, a keep-alive, what frames a
// payload, or the payload. If its bytes came in several messages, each message
// has an Item with its share of the parts.
type Item struct {
	Title string `json:"title"`
	Text  string `json:"text"`
	Sources
	// First and Last are the replication offsets of its bytes in this message,
	// 0 for none.
	First     int64  `json:"first_offset,omitempty"`
	Last      int64  `json:"last_offset,omitempty"`
	Continued bool   `json:"continued,omitempty"` // its first bytes came in an earlier message
	Continues bool   `json:"continues,omitempty"` // more bytes come in a later message
	Parts     []Part `json:"parts"`

	state string // that the link enters with it
}

// Part is a piece of an item, explained. The parts of a message are all of its
// bytes, each byte in one part.
type Part struct {
	Name   string `json:"name"`
	Text   string `json:"text"`
	Bytes  int64  `json:"bytes"`
	Offset int64  `json:"offset,omitempty"` // replication offset of its first byte, 0 for none
	Data   Data   `json:"data,omitempty"`   // empty if the bytes were not kept
}

// Data is bytes that are printed with C escapes, as in a transcript.
type Data []byte

// String gives the bytes with C escapes.
func (d Data) String() string { return escape(d) }

// MarshalText implements [encoding.TextMarshaler].
func (d Data) MarshalText() ([]byte, error) { return []byte(escape(d)), nil }

const continued = " (continued)"

// Heading is the title of the item, which says if its first bytes came earlier.
func (i Item) Heading() string {
	if i.Continued {
		return i.Title + continued
	}
	return i.Title
}

// Alternative is the step as one sentence: the text of the diagram for screen
// readers.
func (s Step) Alternative() string {
	text := fmt.Sprintf("%.6f s, ", s.At)
	if s.Kind == KindMessage {
		way := map[string]string{ToMaster: "replica to master", ToReplica: "master to replica"}[s.Direction]
		text += way + ", " + units.Count(s.Bytes, "byte") + ": "
	}
	return text + s.Title
}

// KeepAlive says whether a step only keeps the link alive: a PING of the stream,
// an empty line, or an acknowledgement.
func (s Step) KeepAlive() bool {
	for _, i := range s.Items {
		if i.Title != "keep-alive" && !strings.HasPrefix(i.Title, "REPLCONF ACK ") && (i.First == 0 || !strings.EqualFold(i.Title, "ping")) {
			return false
		}
	}
	return s.Kind == KindMessage && len(s.Items) > 0
}

// Idle says whether the stream began, and brought nothing but keep-alives. Of a
// recording that has no offsets this is not known.
func (s *Study) Idle() bool {
	streams, known := false, !s.Recorded
	for _, step := range s.Steps {
		streams = streams || step.State == "SYNC/STREAM"
		for _, i := range step.Items {
			if step.Direction != ToReplica || i.First == 0 {
				continue
			}
			known = true
			if !strings.EqualFold(i.Title, "ping") && !strings.HasPrefix(i.Title, "REPLCONF GETACK") {
				return false
			}
		}
	}
	return streams && known
}

// Summary says in one sentence what a study holds.
func (s *Study) Summary() string {
	conns, messages, bytes := 0, 0, map[string]int64{}
	for _, step := range s.Steps {
		conns = max(conns, step.Connection)
		if step.Kind == KindMessage {
			messages++
			bytes[step.Direction] += step.Bytes
		}
	}
	from := "seen live: kernel, states and bytes"
	if s.Recorded {
		from = "from a recording: it holds the bytes; the states follow from the bytes, and the kernel's part is not known"
	}
	return fmt.Sprintf("%s, %s: %s to the master, %s from it (%s).",
		units.Count(int64(conns), "connection"), units.Count(int64(messages), "message"),
		units.Count(bytes[ToMaster], "byte"), units.Count(bytes[ToReplica], "byte"), from)
}

// JSON writes a study in the form that the package comment describes.
func JSON(w io.Writer, s *Study) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	for _, step := range s.Steps {
		if err := e.Encode(step); err != nil {
			return err
		}
	}
	end := struct {
		Of       string `json:"of"`
		Recorded bool   `json:"recorded"`
		Failure  string `json:"failure,omitempty"`
		Remedy   string `json:"remedy,omitempty"`
		Dropped  int64  `json:"dropped"`
	}{Of: s.Of, Recorded: s.Recorded, Dropped: s.Dropped}
	if s.Failure != nil {
		end.Failure, end.Remedy = s.Failure.Error(), s.Failure.Remedy
	}
	return e.Encode(end)
}
