package study_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"replicad/integration/browsertest"
	"replicad/replica/study"
)

var screenshots = flag.String("screenshots", "", "keep a picture of each page in this folder")

// recordedStudy explains a recorded conversation.
func recordedStudy(t *testing.T, name string) *study.Study {
	t.Helper()
	return study.Explain(name, recordings(t, "recorded")[name])
}

func TestWhatAMasterSaysIsNoMarkup(t *testing.T) {
	const evil = `<img src=x onerror=alert(1)>`
	r, err := study.ReadTranscript(strings.NewReader(fmt.Sprintf("R>M \"PING\\r\\n\"\nM>R \"-ERR %s\\r\\n\"\n", evil)))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := study.HTML(&b, study.Explain(evil, r)); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "<img") {
		t.Error("what the master said stands in the page as it is")
	}
}

// openPage opens the page of a study in a browser.
func openPage(t *testing.T, s *study.Study, width int64) *browsertest.Page {
	t.Helper()
	browsertest.Path(t)
	path := filepath.Join(t.TempDir(), "study.html")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := study.HTML(f, s); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return browsertest.Open(t, "file://"+path, width, 900)
}

// quiet: the page made no error, and asked for nothing but itself.
func quiet(t *testing.T, p *browsertest.Page) {
	t.Helper()
	for _, e := range p.Errors() {
		t.Errorf("on the console: %s", e)
	}
	for i, r := range p.Requests() {
		if i > 0 && !strings.HasPrefix(r, "data:") || i == 0 && !strings.HasPrefix(r, "file:") {
			t.Errorf("the page asks for %s", r)
		}
	}
	if len(p.Requests()) == 0 {
		t.Error("no request was seen, not even the page's own")
	}
}

func TestMessagesUnfoldByMouseAndByKeyboard(t *testing.T) {
	s := recordedStudy(t, "redis-5.0.14")
	p := openPage(t, s, 1280)
	isOpen := func(n int) (open bool) {
		p.Eval(fmt.Sprintf("document.getElementById('step-%d').open", n), &open)
		return open
	}
	n := 0
	for _, x := range s.Steps {
		if x.Kind == study.KindMessage {
			n = x.Number
			break
		}
	}
	summary := fmt.Sprintf("#step-%d > summary", n)
	if isOpen(n) {
		t.Fatal("a step is unfolded from the beginning")
	}
	p.Run(chromedp.Click(summary, chromedp.ByQuery))
	if !isOpen(n) {
		t.Error("a click does not unfold")
	}
	p.Run(chromedp.Click(summary, chromedp.ByQuery))
	if isOpen(n) {
		t.Error("a second click does not fold")
	}
	for _, key := range []string{kb.Enter, " "} {
		p.Run(chromedp.Focus(summary, chromedp.ByQuery), chromedp.KeyEvent(key))
		if !isOpen(n) {
			t.Errorf("key %q does not unfold", key)
		}
		p.Run(chromedp.KeyEvent(key))
		if isOpen(n) {
			t.Errorf("key %q does not fold", key)
		}
	}
	p.Run(chromedp.Click("#unfold", chromedp.ByQuery))
	var folded int
	p.Eval("document.querySelectorAll('details.step:not([open])').length", &folded)
	if folded != 0 {
		t.Errorf("after Unfold all %d steps are folded", folded)
	}
	p.Run(chromedp.Click("#fold", chromedp.ByQuery))
	// A link of the diagram leads to its step, and unfolds it.
	p.Run(chromedp.Evaluate(fmt.Sprintf("document.querySelector('.sequence a[data-step=\"%d\"]').dispatchEvent(new MouseEvent('click', {bubbles: true, cancelable: true}))", n), nil),
		chromedp.Poll(fmt.Sprintf("document.getElementById('step-%d').open", n), nil))
	quiet(t, p)
}

func TestTheLadderFollowsTheReadingAndLinksBothWays(t *testing.T) {
	s := recordedStudy(t, "redis-7.0.15-diskless")
	p := openPage(t, s, 1280)
	last := s.Steps[len(s.Steps)-1].Number
	p.Run(chromedp.Click("#unfold", chromedp.ByQuery))
	for _, n := range []int{last / 2, last - 1, 2} {
		p.Run(chromedp.Evaluate(fmt.Sprintf("document.documentElement.style.scrollBehavior = 'auto'; document.getElementById('step-%d').scrollIntoView({block: 'start'})", n), nil))
		p.Run(chromedp.Poll(`(() => {
			const all = [...document.querySelectorAll('.sequence a.current')], line = innerHeight / 3;
			const read = [...document.querySelectorAll('details.step')].filter(d => d.getBoundingClientRect().top <= line).pop();
			const box = document.querySelector('.sequence').getBoundingClientRect(), at = all.length === 1 && all[0].getBoundingClientRect();
			return at && all[0].id === 'row-' + read.id.slice(5) && at.top >= box.top && at.bottom <= box.bottom + 1;
		})()`, nil))
	}
	p.Run(chromedp.Evaluate(fmt.Sprintf("document.querySelector('#step-%d .to-row a').click()", last/2), nil),
		chromedp.Poll(fmt.Sprintf("document.activeElement.id === 'row-%d'", last/2), nil))
	quiet(t, p)
}

func TestKernelStepsAndKeepAlivesCanBeHidden(t *testing.T) {
	s := recordedStudy(t, "redis-7.0.15-diskless")
	alive := 0
	for _, x := range s.Steps {
		if x.KeepAlive() {
			alive++
		}
	}
	p := openPage(t, s, 390)
	const shown = "[...document.querySelectorAll('details.step')].filter(d => d.checkVisibility()).length"
	const rows = "[...document.querySelectorAll('.sequence a[data-step]')].filter(d => d.checkVisibility()).length"
	const height = "document.querySelector('.sequence svg').getBoundingClientRect().height"
	var steps, links int
	var before, after float64
	p.Eval(height, &before)
	p.Run(chromedp.Click("#alive", chromedp.ByQuery))
	p.Eval(shown, &steps)
	p.Eval(rows, &links)
	p.Eval(height, &after)
	if alive == 0 || steps != len(s.Steps)-alive || links != steps || after >= before {
		t.Errorf("of %d steps, %d of them keep-alives, %d are shown, and %d in the ladder, which is %.0f high and was %.0f", len(s.Steps), alive, steps, links, after, before)
	}
	looked(t, p, "390-hidden")
	p.Run(chromedp.Click("#alive", chromedp.ByQuery))
	if p.Eval(height, &after); after != before {
		t.Errorf("shown again, the ladder is %.0f high, and was %.0f", after, before)
	}
	quiet(t, p)
}

func TestAnIdleMasterIsToldToBeWrittenTo(t *testing.T) {
	for _, c := range []struct {
		stream string
		idle   bool
	}{{"*1\\r\\n$4\\r\\nPING\\r\\n", true}, {"*3\\r\\n$3\\r\\nSET\\r\\n$1\\r\\nk\\r\\n$1\\r\\nv\\r\\n", false}} {
		id := strings.Repeat("a", 40)
		r, err := study.ReadTranscript(strings.NewReader("R>M \"PING\\r\\n\"\nM>R \"+PONG\\r\\n\"\nR>M \"*3\\r\\n$5\\r\\nPSYNC\\r\\n$40\\r\\n" + id + "\\r\\n$1\\r\\n7\\r\\n\"\nM>R \"+CONTINUE\\r\\n" + c.stream + "\"\n"))
		if err != nil {
			t.Fatal(err)
		}
		var text, page bytes.Buffer
		s := study.Explain("it", r)
		if err := errors.Join(study.Text(&text, s, study.TextOptions{}), study.HTML(&page, s)); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text.String(), "write something now") != c.idle || strings.Contains(page.String(), "write something now") != c.idle {
			t.Errorf("%s: idle should be %v\n%s", c.stream, c.idle, text.String())
		}
	}
}

func TestRepliesBehindAWrongPasswordAreExplainedAsWhatTheyAre(t *testing.T) {
	r, err := study.ReadTranscript(strings.NewReader(`R>M "PING\r\n"
M>R "-NOAUTH Authentication required.\r\n"
R>M "*2\r\n$4\r\nAUTH\r\n$3\r\n***\r\n*3\r\n$8\r\nREPLCONF\r\n$14\r\nlistening-port\r\n$1\r\n0\r\n"
M>R "-WRONGPASS invalid username-password pair or user is disabled.\r\n-NOAUTH Authentication required.\r\n"
`))
	if err != nil {
		t.Fatal(err)
	}
	items := study.Explain("it", r).Steps
	last := items[len(items)-1].Items
	for _, step := range items {
		if len(step.Items) == 2 && step.Direction == study.ToReplica {
			last = step.Items
		}
	}
	if len(last) != 2 || !strings.Contains(last[0].Text, "wrong user or password") || !strings.Contains(last[1].Text, "refused the password before") || strings.Contains(last[1].Text, "goes on") {
		t.Errorf("%+v", last)
	}
}

func TestEveryStepHasATextAlternativeInTheDiagramAndInTheList(t *testing.T) {
	s := recordedStudy(t, "valkey-8.1-dev")
	p := openPage(t, s, 1280)
	var links, summaries []string
	p.Eval("Array.from(document.querySelectorAll('.sequence a[data-step]')).map(a => a.getAttribute('aria-label') === a.querySelector('title').textContent ? a.getAttribute('aria-label') : '')", &links)
	p.Eval("Array.from(document.querySelectorAll('details.step > summary')).map(s => s.getAttribute('aria-label'))", &summaries)
	if len(links) != len(s.Steps) || len(summaries) != len(s.Steps) {
		t.Fatalf("%d links and %d summaries for %d steps", len(links), len(summaries), len(s.Steps))
	}
	for i, x := range s.Steps {
		if links[i] != x.Alternative() || summaries[i] != x.Alternative() || links[i] == "" {
			t.Errorf("step %d is %q in the diagram and %q in the list, want %q", x.Number, links[i], summaries[i], x.Alternative())
		}
	}
	var svgs int
	p.Eval("Array.from(document.querySelectorAll('body svg')).filter(s => !s.getAttribute('aria-label') && !s.getAttribute('aria-labelledby')).length", &svgs)
	if svgs != 0 {
		t.Errorf("%d pictures have no name", svgs)
	}
	quiet(t, p)
}

// TestNothingIsCutOffOrCovered looks at each page folded and unfolded, in light
// and dark, at the width of a telephone and of a screen.
func TestNothingIsCutOffOrCoveredOnATelephoneAndOnAScreen(t *testing.T) {
	for _, width := range []int64{390, 1280} {
		p := openPage(t, recordedStudy(t, "redis-7.0.15-diskless"), width)
		for _, scheme := range []string{"light", "dark"} {
			p.Run(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}))
			for _, button := range []string{"#fold", "#unfold"} {
				p.Run(chromedp.Evaluate("document.querySelector('"+button+"').click()", nil))
				looked(t, p, fmt.Sprintf("%d%s-%s", width, strings.ReplaceAll(button, "#", "-"), scheme))
			}
		}
		quiet(t, p)
	}
}

// looked checks that no text lies outside the window, or of the picture it is
// in, and no two texts of a picture on each other.
func looked(t *testing.T, p *browsertest.Page, name string) {
	t.Helper()
	var wide []string
	p.Eval(`(() => {
		const out = [], w = document.documentElement.clientWidth;
		if (document.documentElement.scrollWidth > w) out.push('the page is ' + document.documentElement.scrollWidth + ' wide');
		for (const e of document.querySelectorAll('body *')) {
			if (e.closest('svg') && e.tagName !== 'svg') continue;
			const r = e.getBoundingClientRect();
			if (r.width > 0 && (r.right > w + 1 || r.left < -1)) out.push(e.tagName + '.' + e.getAttribute('class') + ' ' + r.left + ' to ' + r.right);
			if (e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0 && getComputedStyle(e).display !== 'inline') out.push(e.tagName + '.' + e.getAttribute('class') + ' holds more than its width');
		}
		for (const svg of document.querySelectorAll('svg')) {
			const s = svg.getBoundingClientRect(), boxes = [];
			for (const e of svg.querySelectorAll('text')) {
				const r = e.getBoundingClientRect();
				if (!e.checkVisibility()) continue;
				if (r.right > s.right + 1 || r.left < s.left - 1 || r.bottom > s.bottom + 1) out.push('outside of its picture: ' + e.textContent);
				for (const [q, text] of boxes)
					if (r.left < q.right - 1 && q.left < r.right - 1 && r.top < q.bottom - 2 && q.top < r.bottom - 2) out.push('on each other: ' + text + ' / ' + e.textContent);
				boxes.push([r, e.textContent]);
			}
		}
		return out.slice(0, 20);
	})()`, &wide)
	for _, x := range wide {
		t.Errorf("%s: %s", name, x)
	}
	if *screenshots != "" {
		if err := os.WriteFile(filepath.Join(*screenshots, name+".png"), p.Screenshot(), 0o644); err != nil {
			t.Error(err)
		}
	}
}
