package archive_test

import (
	"encoding/xml"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The README shows way.svg, which must be true: its files are those that an
// archive has, its rooms are packages, and its description names them all.
func TestTheDrawnWayOfTheDataNamesFilesAndRoomsThatThereAre(t *testing.T) {
	dir := t.TempDir()
	if err := write(dir); err != nil {
		t.Fatal(err)
	}
	stored := map[string]bool{}
	err := filepath.WalkDir(filepath.Join(dir, "generation-000001"), func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			stored[e.Name()] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("way.svg")
	if err != nil {
		t.Fatal(err)
	}
	var drawn struct {
		Desc  string `xml:"desc"`
		Texts []struct {
			Class string `xml:"class,attr"`
			Text  string `xml:",chardata"`
		} `xml:"text"`
	}
	if err := xml.Unmarshal(text, &drawn); err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, e := range drawn.Texts {
		count[e.Class]++
		switch e.Class {
		case "file":
			if !stored[e.Text] {
				t.Errorf("way.svg shows the file %s, and an archive has %v", e.Text, stored)
			}
		case "room":
			below := filepath.Join("..", e.Text) // of replica, or of the repository
			if e.Text == "replica" || e.Text == "eventloop" {
				below = filepath.Join("../..", e.Text)
			}
			if source, _ := filepath.Glob(filepath.Join(below, "*.go")); len(source) == 0 {
				t.Errorf("way.svg shows the room %s, and no package is there", e.Text)
			}
		default:
			continue
		}
		if !strings.Contains(drawn.Desc, e.Text) {
			t.Errorf("the description of way.svg does not name %s", e.Text)
		}
	}
	if count["file"] != len(stored)-1 || count["room"] == 0 { // all but the manifest
		t.Errorf("way.svg shows %v, and an archive has %v", count, stored)
	}
}
