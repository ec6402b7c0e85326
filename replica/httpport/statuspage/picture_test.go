package statuspage_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"fmt"
	"hash/crc32"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"

	"replicad/integration/browsertest"
	"replicad/replica/httpport/statuspage"
)

var update = flag.Bool("update", false, "make page.png, the picture in the README, anew")

const picture = "page.png"

// TestMain has the clock of all tests stand in one zone: the picture shows times.
func TestMain(m *testing.M) {
	time.Local = time.UTC
	os.Exit(m.Run())
}

// The picture carries the text of the page that it was made of, and the sum of
// its style sheet. So no browser is needed to see that the picture is old.
func TestThePictureInTheREADMEIsOfThePageAsItIs(t *testing.T) {
	now := time.Date(2026, time.November, 27, 10, 15, 0, 0, time.UTC)
	main := streamingAt("main", now)
	main.still = true
	p := statuspage.New(statuspage.Config{Masters: []statuspage.Master{main}})
	defer p.Close()
	p.FillAt("main", minutesAt(190, 22, now), now)
	tell(p, storyAt("main", now))
	page, err := p.RenderAt(now)
	if err != nil {
		t.Fatal(err)
	}
	css, err := os.ReadFile("static/page.css")
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%s\npage.css: %x\n", textOf(t, page), sha256.Sum256(css))
	if *update {
		if err := os.WriteFile(picture, describe(photograph(t, p, page), want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(picture)
	if err != nil {
		t.Fatal(err)
	}
	if img, err := png.DecodeConfig(bytes.NewReader(b)); err != nil || img.Width != 1280 || img.Height < 1500 {
		t.Errorf("the picture is %d by %d: %v", img.Width, img.Height, err)
	}
	if got := description(b); got != want {
		t.Errorf("the page is not what the picture shows; make it anew by\n\tgo test ./replica/httpport/statuspage -run Picture -update\nfirst difference: %s", difference(got, want))
	}
}

// photograph is the page in Chromium.
func photograph(t *testing.T, p *statuspage.Page, page []byte) []byte {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			_, _ = w.Write(page)
			return
		}
		p.ServeHTTP(w, r)
	}))
	defer s.Close()
	b := browsertest.Open(t, s.URL+"/", 1280, 900)
	b.Run(scheme("light"), chromedp.WaitVisible("#live.yes"))
	return b.Screenshot()
}

// textOf is the text of a page, a line for each piece.
func textOf(t *testing.T, page []byte) string {
	t.Helper()
	doc, err := html.Parse(bytes.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for n := range doc.Descendants() {
		if n.Type == html.TextNode && n.Parent.DataAtom != atom.Noscript && strings.TrimSpace(n.Data) != "" {
			all = append(all, strings.Join(strings.Fields(n.Data), " "))
		}
	}
	return strings.Join(all, "\n")
}

// begins is how a chunk of a PNG with a text in UTF-8 begins: "Description", not
// compressed, in no language.
const begins = "iTXtDescription\x00\x00\x00\x00\x00"

// describe adds a text to a PNG, before its last chunk.
func describe(png []byte, text string) []byte {
	const end = 12
	chunk := []byte(begins + text)
	out := bytes.Clone(png[:len(png)-end])
	out = binary.BigEndian.AppendUint32(out, uint32(len(chunk)-4))
	out = append(out, chunk...)
	out = binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(chunk))
	return append(out, png[len(png)-end:]...)
}

// description is the text that describe has added; "" where there is none.
func description(png []byte) string {
	for rest := png[8:]; len(rest) >= 12; {
		n := int(binary.BigEndian.Uint32(rest))
		if n > len(rest)-12 {
			break
		}
		if text, ok := strings.CutPrefix(string(rest[4:8+n]), begins); ok {
			return text
		}
		rest = rest[12+n:]
	}
	return ""
}

// difference is the first line in which two texts differ.
func difference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		line := func(all []string) string {
			if i < len(all) {
				return all[i]
			}
			return ""
		}
		if line(g) != line(w) {
			return fmt.Sprintf("the picture has %q, the page %q", line(g), line(w))
		}
	}
	return "none"
}
