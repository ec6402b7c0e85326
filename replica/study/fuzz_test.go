package study_test

import (
	"testing"
	"time"

	"replicad/replica"
	"replicad/replica/study"
)

// FuzzExplain: whatever either side says, however it is cut, and wherever bytes
// were not kept, each byte is in exactly one part. The recorded conversations are
// the corpus.
func FuzzExplain(f *testing.F) {
	for _, folder := range []string{"recorded", "conversations"} {
		for _, records := range recordings(f, folder) {
			var sent, received []byte
			for _, r := range records {
				if r.Event.Kind == replica.Sent {
					sent = append(sent, r.Data...)
				} else {
					received = append(received, r.Data...)
				}
			}
			f.Add(sent, received, uint16(7), uint16(3), false)
			f.Add(sent, received, uint16(1000), uint16(40), true)
		}
	}
	f.Fuzz(func(t *testing.T, sent, received []byte, size, gap uint16, twice bool) {
		var records []study.Record
		add := func(kind replica.EventKind, conn int, p []byte) {
			for n := 0; len(p) > 0; n++ {
				k := min(len(p), 1+int(size)%2000)
				r := study.Record{Conn: conn, Event: replica.Event{Kind: kind}, Data: p[:k]}
				if n%3 == 1 && kind == replica.Received { // head, gap, tail
					r.Data, r.Tail, r.Gap = p[:k/3], p[k/3:k], int64(gap%100)
				}
				records = append(records, r)
				p = p[k:]
			}
		}
		add(replica.Sent, 1, sent)
		add(replica.Received, 1, received)
		if twice {
			add(replica.Sent, 2, sent)
			add(replica.Received, 2, received)
		}
		covered(t, "fuzz", records)
	})
}

// However TCP cuts a conversation, its explanation is the same: titles, texts and
// offsets of the parts.
func TestWhereAConversationIsCutDoesNotChangeWhatItMeans(t *testing.T) {
	n := 0
	for name, records := range recordings(t, "recorded") {
		want := meanings(study.Explain(name, records))
		for _, size := range []int{1, 2, 3, 5, 17, 64, 1 << 20} {
			n++
			if got := meanings(study.Explain(name, cut(records, size))); got != want {
				t.Errorf("%s in pieces of %d means\n%.2000s\nwant\n%.2000s", name, size, got, want)
			}
		}
	}
	t.Logf("%d conversations cut", n)
}

// cut makes of each record several.
func cut(records []study.Record, size int) []study.Record {
	var all []study.Record
	for _, r := range records {
		for p := r.Data; len(p) > 0; {
			k := min(size, len(p))
			x := r
			x.Data, p = p[:k], p[k:]
			all = append(all, x)
		}
	}
	return all
}

// meanings is what a study says of its items, without where messages end.
func meanings(s *study.Study) string {
	said := ""
	for _, direction := range []string{study.ToMaster, study.ToReplica} {
		for _, step := range s.Steps {
			if step.Kind != study.KindMessage || step.Direction != direction {
				continue
			}
			for _, i := range step.Items {
				if !i.Continued {
					said += "\n" + i.Title + ": " + i.Text
				}
				for _, p := range i.Parts {
					said += string(p.Data)
				}
			}
		}
	}
	return said
}

func TestALongStreamIsCountedAndNotKept(t *testing.T) {
	r := &study.Recorder{Keep: 100}
	now := time.Now()
	tell := func(e replica.Event) {
		now = now.Add(time.Millisecond)
		e.Time, e.State, e.Phase = now, replica.Sync, replica.Stream
		r.Observe(e)
	}
	tell(replica.Event{Kind: replica.Resolved})
	command := []byte("*3\r\n$3\r\nset\r\n$3\r\nfoo\r\n$3\r\nbar\r\n")
	const times = 100_000
	for range times {
		tell(replica.Event{Kind: replica.Received, Data: command})
	}
	for range times {
		tell(replica.Event{Kind: replica.Sent, Data: []byte("*1\r\n$4\r\nPING\r\n")})
		tell(replica.Event{Kind: replica.Acknowledged})
	}
	records, dropped := r.Records()
	if len(records) > 21_000 || dropped < times {
		t.Errorf("%d records, %d dropped", len(records), dropped)
	}
	var received, kept int64
	for _, x := range records {
		if x.Event.Kind == replica.Received {
			received += x.Bytes()
			kept += int64(len(x.Data) + len(x.Tail))
		}
	}
	if received != times*int64(len(command)) || kept != 100 {
		t.Errorf("%d bytes counted, %d kept", received, kept)
	}
	covered(t, "a long stream", records)
}

// A payload that never passed through memory is read again, and of a large one
// the middle is left out.
func TestAPayloadIsReadAgainAndOfALargeOneTheMiddleIsLeftOut(t *testing.T) {
	const mark = "e0f7afda7855d3ea82f653217889d7ee246301f7"
	for name, c := range map[string]struct {
		preamble string // with what of the payload came with it
		size     int64
		mark     string
		gap      bool
	}{
		"nothing came with the preamble": {"$100\r\n", 100, "", false},
		"a part came with it":            {"$100\r\n" + payload(0, 30), 100, "", false},
		"all of it came with it":         {"$100\r\n" + payload(0, 100), 100, "", false},
		"a large one":                    {"\n\n$1000000\r\n", 1_000_000, "", true},
		"a large one with a mark":        {"$EOF:" + mark + "\r\n" + payload(0, 5000), 1_000_000, mark, true},
		"a mark":                         {"$EOF:" + mark + "\r\n", 50, mark, false},
		"a mark of which a part came":    {"$EOF:" + mark + "\r\n" + payload(0, 50) + mark[:11], 50, mark, false},
		"a mark that came":               {"$EOF:" + mark + "\r\n" + payload(0, 50) + mark, 50, mark, false},
	} {
		at := func(k replica.EventKind) study.Record {
			return study.Record{Conn: 1, Event: replica.Event{Kind: k, State: replica.Sync, Phase: replica.Transfer}}
		}
		asked, said, done := at(replica.Sent), at(replica.Received), at(replica.TransferReceived)
		asked.Data = []byte("*3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n")
		said.Data = []byte("+FULLRESYNC 1f7c9b4f9be120e8d6513d80deffc596506747ff 0\r\n" + c.preamble)
		done.Event.Bytes = c.size
		stream := at(replica.Received)
		stream.Data = []byte("*1\r\n$4\r\nPING\r\n")
		records, err := study.AddPayloads([]study.Record{asked, said, done, stream}, 0, func(_ int, p []byte, at int64) error {
			copy(p, payload(at, at+int64(len(p))))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		var n, gap int64
		for _, r := range records {
			if r.Event.Kind == replica.Received {
				n, gap = n+r.Bytes(), gap+r.Gap
			}
		}
		want := int64(len("+FULLRESYNC 1f7c9b4f9be120e8d6513d80deffc596506747ff 0\r\n")) + c.size + int64(len(c.mark)+len(stream.Data))
		want += int64(len(c.preamble)) - told(c.preamble)
		if n != want || (gap > 0) != c.gap {
			t.Errorf("%s: %d bytes, %d left out; want %d", name, n, gap, want)
		}
		covered(t, name, records)
		steps := study.Explain(name, records).Steps
		last := steps[len(steps)-1]
		if len(last.Items) != 1 || last.Items[0].First != 1 || last.Items[0].Last != 14 {
			t.Errorf("%s: the stream behind it has offsets %d to %d, want 1 to 14", name, last.Items[0].First, last.Items[0].Last)
		}
	}
}

// payload are bytes of one that has the form of an RDB at its beginning.
func payload(from, to int64) string {
	p := make([]byte, to-from)
	for i := range p {
		p[i] = byte(from+int64(i))%200 + 1
		if at := from + int64(i); at < 9 {
			p[i] = "REDIS0011"[at]
		}
	}
	return string(p)
}

// told is how many bytes behind the preamble's line are of the payload or its
// mark.
func told(preamble string) int64 {
	for i := 1; i < len(preamble); i++ {
		if preamble[i-1] == '\r' && preamble[i] == '\n' {
			return int64(len(preamble) - i - 1)
		}
	}
	return 0
}
