package study

import (
	"encoding/json"
	"io"
)

type jsonStep struct {
	Number     int        `json:"number"`
	At         float64    `json:"at"`
	Connection int        `json:"connection"`
	Kind       Kind       `json:"kind"`
	State      string     `json:"state"`
	Title      string     `json:"title"`
	Text       string     `json:"text"`
	Known      string     `json:"known,omitempty"`
	Places     []Place    `json:"places,omitempty"`
	From       string     `json:"from,omitempty"`
	Took       *float64   `json:"took,omitempty"`
	Inferred   bool       `json:"inferred,omitempty"`
	Direction  string     `json:"direction,omitempty"`
	Bytes      int64      `json:"bytes,omitempty"`
	Items      []jsonItem `json:"items,omitempty"`
}

type jsonItem struct {
	Title     string     `json:"title"`
	Text      string     `json:"text"`
	Known     string     `json:"known,omitempty"`
	Places    []Place    `json:"places,omitempty"`
	First     int64      `json:"first_offset,omitempty"`
	Last      int64      `json:"last_offset,omitempty"`
	Continued bool       `json:"continued,omitempty"`
	Continues bool       `json:"continues,omitempty"`
	Parts     []jsonPart `json:"parts"`
}

type jsonPart struct {
	Name   string `json:"name"`
	Text   string `json:"text"`
	Bytes  int64  `json:"bytes"`
	Offset int64  `json:"offset,omitempty"`
	Data   string `json:"data,omitempty"`
}

type jsonEnd struct {
	Of       string `json:"of"`
	Recorded bool   `json:"recorded"`
	Failure  string `json:"failure,omitempty"`
	Remedy   string `json:"remedy,omitempty"`
	Dropped  int64  `json:"dropped"`
}

// JSON writes a study in the form that the package comment describes.
func JSON(w io.Writer, s *Study) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	for _, step := range s.Steps {
		if err := e.Encode(jsonOf(step)); err != nil {
			return err
		}
	}
	end := jsonEnd{Of: s.Of, Recorded: s.Recorded, Dropped: s.Dropped}
	if s.Failure != nil {
		end.Failure, end.Remedy = s.Failure.Error(), s.Failure.Remedy
	}
	return e.Encode(end)
}

func jsonOf(s Step) jsonStep {
	k := Knows(s.Key)
	j := jsonStep{
		Number: s.Number, At: s.At.Seconds(), Connection: s.Conn, Kind: s.Kind, State: s.Place(),
		Title: s.Title, Text: s.Text, Known: k.Known, Places: k.Places,
	}
	switch s.Kind {
	case KindState:
		took := s.Took.Seconds()
		j.From, j.Took, j.Inferred = Step{State: s.From, Phase: s.FromPhase}.Place(), &took, s.Inferred
	case KindMessage:
		j.Direction, j.Bytes = s.Direction(), s.Bytes
		for _, item := range s.Items {
			j.Items = append(j.Items, item.json())
		}
	}
	return j
}

func (i Item) json() jsonItem {
	k := Knows(i.Key)
	j := jsonItem{
		Title: i.Title, Text: i.Text, Known: k.Known, Places: k.Places,
		First: i.First, Last: i.Last, Continued: i.Continued, Continues: i.Continues,
	}
	for _, p := range i.Parts {
		j.Parts = append(j.Parts, jsonPart{p.Name, p.Text, p.Bytes, p.Offset, p.Escaped()})
	}
	return j
}

// Escaped is the part's bytes with C escapes, as a transcript writes them.
func (p Part) Escaped() string { return escape(p.Data) }
