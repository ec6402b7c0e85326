package tables

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"replicad/replica/archive"
	"replicad/replica/archive/restore"
)

func TestTheTableShowsEachGeneration(t *testing.T) {
	var out bytes.Buffer
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.Local)
	id := strings.Repeat("abcdefgh", 5)
	err := Print(&out, Archives, "data", []archive.Master{{Name: "main", Running: true, Generations: []archive.Generation{
		{Number: 1, Complete: true, BaseVerified: true, BaseBytes: 1536, Bytes: 5 << 30, Alone: 1 << 20, BaseOffset: 100, EndOffset: 123_456_789_012,
			From: at, To: at.Add(time.Hour), Segments: 40, Verified: 39, Histories: []archive.History{{ReplID: "abc", From: 7}, {ReplID: id, From: 9}}},
		{Number: 2, Complete: true, Segments: 3, Verified: 1, Damaged: 1, Histories: []archive.History{{From: 0}}},
		{Number: 3, Problem: "no timeline"},
		{Number: 4, Needs: []archive.Need{{What: archive.NeedModule, Name: "ReJSON-RL"}, {What: archive.NeedCommand, Name: "x", Offset: 7}}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"main: a daemon writes to it", "2026-11-23 10:00:00  2026-11-23 11:00:00", "100-123456789012", "5.0 GiB, 1.0 MiB alone",
		"base, 39/40", "pending, 1/3, 1 damaged", "abcdefgh +1\n", "transferring", "none (SYNC)", "VERIFIED is what was read again", "generation 3 is damaged: no timeline", "generation 4 needs a server that has the module ReJSON-RL, the command x (since offset 7)\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, out.String())
		}
	}
	out.Reset()
	if Print(&out, Archives, "data", []archive.Master{}); out.String() != "no archive below data\n" {
		t.Errorf("without archives: %q", out.String())
	}
}

func TestTheTableFitsIn120Columns(t *testing.T) {
	var out bytes.Buffer
	g := archive.Generation{Number: 123, Complete: true, BaseVerified: true, BaseBytes: 1023 << 20, Bytes: 1023 << 30, Alone: 1023 << 30, BaseOffset: 1234567, EndOffset: 1234567890,
		From: time.Now(), To: time.Now(), Segments: 999, Verified: 998, Histories: []archive.History{{ReplID: strings.Repeat("a", 40)}}}
	if err := Print(&out, Archives, "data", []archive.Master{{Name: "main", Generations: []archive.Generation{g}}}); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if n := len(line) - 1; n > 120 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

func TestWhatIsPrunedIsToldWithTheTimesThatGo(t *testing.T) {
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.Local)
	p := archive.Plan{WindowStart: at, Bytes: 3 << 20, BytesAfter: 1 << 20, Warnings: []string{"beware"}, Removals: []archive.Removal{
		{Generation: 1, Bytes: 1 << 20, Reason: archive.TooOld, From: at, To: at.Add(time.Hour), Removed: true},
		{Generation: 2, Bytes: 1 << 20, Reason: archive.TooLarge, Removed: true},
		{Generation: 3, Held: true},
	}}
	for dry, wants := range map[bool][]string{
		false: {"generation 1 (1.0 MiB) is removed: later ones have all of the window since 2026-11-23 10:00:00; the times from 2026-11-23T10:00:00.000", "are no longer restorable",
			"generation 2 (1.0 MiB) is removed: the archive is too large; no time is lost", "generation 3 (0 B) stays for now", "main: warning: beware", "1.0 MiB of 3.0 MiB stay"},
		true: {"would be removed", "would no longer be restorable"},
	} {
		var out bytes.Buffer
		if err := Print(&out, Prunes, "data", []Prune{{"main", dry, p}}); err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(out.String(), want) {
				t.Errorf("dry run %v lacks %q:\n%s", dry, want, out.String())
			}
		}
	}
	var out bytes.Buffer
	if Print(&out, Prunes, "data", []Prune{{Name: "main"}}); !strings.HasPrefix(out.String(), "main: nothing to prune\n") {
		t.Errorf("without removals: %q", out.String())
	}
}

func TestAPlaceIsToldWithBothMomentsOfATimeThatCameTwice(t *testing.T) {
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.Local)
	var out bytes.Buffer
	err := Print(&out, Places, "data", []Place{
		{Name: "a", Point: &archive.Point{Generation: 2, Offset: 77, Time: at, Next: at.Add(time.Second), Twice: &archive.Moment{Time: at, Offset: 33}}},
		{Name: "b", Unavailable: "nothing there"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"a: generation 2, offset 77, as of 2026-11-23T10:00:00.000", "the next bytes came by 2026-11-23T10:00:01.000", "the first time was offset 33", "b: nothing there"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it lacks %q:\n%s", want, out.String())
		}
	}
}

func TestARebaseLeavesNoGapInTheTableAndACutLinkDoes(t *testing.T) {
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.Local)
	for rebased, want := range map[bool]string{true: "2026-11-23 10:00:00  2026-11-23 10:00:38", false: "2026-11-23 10:00:00  2026-11-23 10:00:30"} {
		var out bytes.Buffer
		err := Print(&out, Archives, "data", []archive.Master{{Name: "main", Generations: []archive.Generation{
			{Number: 1, Complete: true, From: at, To: at.Add(30 * time.Second)},
			{Number: 2, Complete: true, Rebased: rebased, From: at.Add(38 * time.Second), To: at.Add(time.Minute)},
		}}})
		if err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("rebased %v: %v, the table lacks %q:\n%s", rebased, err, want, out.String())
		}
	}
}

func TestWhatARestoreMeansIsSaidInWords(t *testing.T) {
	for want, r := range map[string]restore.Result{
		"3 commands for a node of a cluster are left out":                         {Meaning: restore.Meaning{Cluster: 3}},
		"the server needs the module ReJSON-RL, the command x (since offset 7)\n": {Meaning: restore.Meaning{Needs: []archive.Need{{What: archive.NeedModule, Name: "ReJSON-RL"}, {What: archive.NeedCommand, Name: "x", Offset: 7}}}},
		"keys have a time to live: a server drops those":                          {Meaning: restore.Meaning{Expires: true}},
		"about 7 keys of the base and 8 times in the stream:\n    a server":       {Meaning: restore.Meaning{Expires: true, BaseExpired: 7, StreamExpired: 8}},
		"8 times in the stream:\n    the file has such keys":                      {Meaning: restore.Meaning{StreamExpired: 8}, Format: restore.RDB},
		"start it: redis-server 'a b' --port 7000\n":                              {Start: []string{"redis-server", "a b", "--port", "7000"}},
	} {
		var out bytes.Buffer
		if err := Print(&out, Restore, "data", Restored{Result: r}); err != nil || !strings.Contains(out.String(), want) {
			t.Errorf("%v, it lacks %q:\n%s", err, want, out.String())
		}
	}
}
