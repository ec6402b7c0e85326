package study_test

import (
	"bytes"
	"errors"
	"flag"
	"html"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"replicad/replica/study"
)

var update = flag.Bool("update", false, "write the golden files")

// recordings are the recorded conversations, which belong to package replica, or
// those that are written by hand there.
func recordings(t testing.TB, folder string) map[string][]study.Record {
	t.Helper()
	files, err := filepath.Glob("../testdata/" + folder + "/*.txt")
	if err != nil || len(files) < 14 {
		t.Fatalf("%d conversations: %v", len(files), err)
	}
	all := map[string][]study.Record{}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		r, err := study.ReadTranscript(bytes.NewReader(b))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all[strings.TrimSuffix(filepath.Base(name), ".txt")] = r
	}
	return all
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what it was; look at the difference after -update", path)
	}
}

// inAllForms are the recordings whose text and page have golden files; the others
// have one for their JSON, which says the same.
func inAllForms(name string) bool { return name == "redis-2.6.17" || name == "valkey-8.1-dev" }

func TestTheRecordedConversationsAreToldAsTheyWere(t *testing.T) {
	for name, records := range recordings(t, "recorded") {
		s := study.Explain(name, records)
		var text, lines, page bytes.Buffer
		if err := study.Text(&text, s, study.TextOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := study.JSON(&lines, s); err != nil {
			t.Fatal(err)
		}
		if err := study.HTML(&page, s); err != nil {
			t.Fatal(err)
		}
		golden(t, name+".json", lines.Bytes())
		if inAllForms(name) {
			golden(t, name+".txt", text.Bytes())
			golden(t, name+".html", page.Bytes())
		}
		shown := html.UnescapeString(page.String())
		for _, step := range s.Steps {
			if !strings.Contains(shown, step.Alternative()) {
				t.Errorf("the page of %s does not tell step %d", name, step.Number)
			}
			words, _, _ := strings.Cut(step.Title, " ")
			if !strings.Contains(text.String(), words) {
				t.Errorf("the text of %s does not tell step %d", name, step.Number)
			}
		}
	}
}

// covered counts the bytes of the messages of a study, and checks that each is in
// exactly one part that explains it.
func covered(t testing.TB, name string, records []study.Record) (n int64) {
	t.Helper()
	s := study.Explain(name, records)
	i := 0
	next := func() study.Record { // the next record with bytes
		for ; i < len(records); i++ {
			if k := records[i]; k.Bytes() > 0 {
				i++
				return k
			}
		}
		t.Fatalf("%s: more messages than records", name)
		return study.Record{}
	}
	for _, step := range s.Steps {
		if step.Title == "" || step.Alternative() == "" {
			t.Errorf("%s: step %d has no title", name, step.Number)
		}
		if step.Kind != study.KindMessage || step.Bytes == 0 {
			continue
		}
		r := next()
		var told []byte
		var bytes, left int64
		for _, item := range step.Items {
			if len(item.Parts) == 0 || item.Title == "" || item.Text == "" {
				t.Errorf("%s: step %d has an empty item %+v", name, step.Number, item)
			}
			for _, p := range item.Parts {
				if p.Bytes <= 0 || p.Name == "" || p.Text == "" {
					t.Errorf("%s: step %d has an empty part %+v", name, step.Number, p)
				}
				if len(p.Data) > 0 && int64(len(p.Data)) != p.Bytes {
					t.Errorf("%s: step %d: a part of %d bytes shows %d", name, step.Number, p.Bytes, len(p.Data))
				}
				if len(p.Data) == 0 {
					left += p.Bytes
				}
				bytes += p.Bytes
				told = append(told, p.Data...)
			}
		}
		if want := string(r.Data) + string(r.Tail); string(told) != want || bytes != r.Bytes() || left != r.Gap {
			t.Errorf("%s: step %d explains %d bytes %.200q, %d left out; the message is %d bytes %.200q, %d left out", name, step.Number, bytes, told, left, r.Bytes(), want, r.Gap)
		}
		n += bytes
	}
	for ; i < len(records); i++ {
		if records[i].Bytes() > 0 {
			t.Errorf("%s: record %d is in no step", name, i)
		}
	}
	return n
}

func TestEveryByteOfEveryRecordedMessageIsExplainedOnce(t *testing.T) {
	var n int64
	var files int
	for _, folder := range []string{"recorded", "conversations"} {
		for name, records := range recordings(t, folder) {
			n += covered(t, name, records)
			files++
		}
	}
	t.Logf("%d bytes of %d conversations, each explained once", n, files)
	if n < 20_000 {
		t.Errorf("only %d bytes were looked at", n)
	}
}

func TestColoursAreAllThatColourAdds(t *testing.T) {
	s := study.Explain("x", recordings(t, "recorded")["redis-7.2.6"])
	var plain, coloured bytes.Buffer
	if err := study.Text(&plain, s, study.TextOptions{Width: 80}); err != nil {
		t.Fatal(err)
	}
	if err := study.Text(&coloured, s, study.TextOptions{Width: 80, Color: true}); err != nil {
		t.Fatal(err)
	}
	stripped := regexp.MustCompile("\x1b\\[[0-9]+m").ReplaceAll(coloured.Bytes(), nil)
	if !bytes.Equal(stripped, plain.Bytes()) || coloured.Len() == plain.Len() {
		t.Error("with colours the text is another")
	}
	for _, line := range strings.Split(plain.String(), "\n")[2:] {
		if len(line) > 100 { // a long first part may stand alone
			t.Errorf("a line of %d columns: %s", len(line), line)
		}
	}
}

func TestATranscriptThatIsNoneIsRefusedWithItsLine(t *testing.T) {
	for text, want := range map[string]string{
		"":                              "no message",
		"# only a comment\n":            "no message",
		"hello\n":                       "line 1: it begins with",
		"R>M \"PING\\r\\n\"\nR<M \"x\"": "line 2: it begins with",
		"R>M PING\n":                    "in quotes are missing",
		"R>M \"\\q\"\n":                 "line 1: the bytes in quotes",
		"R>M 0.1 \"x\"\n":               "want direction, seconds, bytes",
		"R>M soon 1 \"x\"\n":            "no number of seconds",
		"R>M NaN 1 \"x\"\n":             "no number of seconds",
		"R>M 0.1 2 \"x\"\n":             "there are 1 bytes",
	} {
		_, err := study.ReadTranscript(strings.NewReader(text))
		if !errors.Is(err, study.ErrTranscript) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestATranscriptIsWrittenAsItIsRead(t *testing.T) {
	for name, records := range recordings(t, "recorded") {
		var b bytes.Buffer
		if whole, err := study.WriteTranscript(&b, records); err != nil || !whole {
			t.Fatalf("%s: %v, %v", name, whole, err)
		}
		again, err := study.ReadTranscript(&b)
		if err != nil {
			t.Fatal(err)
		}
		if len(again) != len(records) {
			t.Fatalf("%s: %d of %d records", name, len(again), len(records))
		}
		for i := range records {
			if again[i].At != records[i].At || !bytes.Equal(again[i].Data, records[i].Data) || again[i].Event.Kind != records[i].Event.Kind {
				t.Errorf("%s: record %d is %v, was %v", name, i, again[i], records[i])
			}
		}
	}
}
