package statuspage_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"replicad/integration/browsertest"
	"replicad/integration/poll"
	"replicad/replica"
	"replicad/replica/httpport/statuspage"
)

// screenshots names the folder in which the pictures of the tests are kept.
const screenshots = "REPLICAD_SCREENSHOTS"

// serve serves a page of fakes, closed with the test.
func serve(t *testing.T, cfg statuspage.Config) (*statuspage.Page, string) {
	t.Helper()
	p := statuspage.New(cfg)
	s := httptest.NewServer(p)
	t.Cleanup(s.Close)
	t.Cleanup(p.Close)
	return p, s.URL + "/"
}

func keep(t *testing.T, name string, p *browsertest.Page) {
	t.Helper()
	if dir := os.Getenv(screenshots); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, name+".png"), p.Screenshot(), 0o600); err != nil {
			t.Error(err)
		}
	}
}

// crowding is JavaScript that says what lies over something else, or outside of
// the window or of its own box.
const crowding = `(() => {
	const wrong = [], texts = [];
	const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	for (let n; (n = walker.nextNode());) {
		const e = n.parentElement;
		if (!n.nodeValue.trim() || ["TITLE", "NOSCRIPT", "SCRIPT"].includes(e.nodeName.toUpperCase()) || !e.checkVisibility()) continue;
		const range = document.createRange();
		range.selectNodeContents(n);
		for (const r of range.getClientRects()) if (r.width > 0.5) texts.push({ r, n, s: n.nodeValue.trim().slice(0, 40) });
	}
	const over = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1.5 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3.5;
	texts.forEach((a, i) => {
		if (a.r.right > innerWidth + 0.5 || a.r.left < -0.5) wrong.push("outside the window: " + a.s);
		const card = a.n.parentElement.closest(".card");
		if (card && a.r.right > card.getBoundingClientRect().right) wrong.push("outside its card: " + a.s);
		for (let k = i + 1; k < texts.length; k++) if (texts[k].n !== a.n && over(a.r, texts[k].r)) wrong.push("overlap: " + a.s + " | " + texts[k].s);
		const svg = a.n.parentElement.closest("g");
		if (svg) {
			const box = svg.querySelector("rect").getBoundingClientRect();
			if (a.r.left < box.left || a.r.right > box.right) wrong.push("outside its box: " + a.s);
		}
	});
	if (document.documentElement.scrollWidth > innerWidth) wrong.push("the page is " + document.documentElement.scrollWidth + " wide");
	return { wrong, texts: texts.length };
})()`

type crowd struct {
	Wrong []string `json:"wrong"`
	Texts int      `json:"texts"`
}

// contrast is JavaScript that says which texts differ too little from what is
// behind them (WCAG 2, 4.5:1).
const contrast = `(() => {
	const parse = c => (c.match(/[\d.]+/g) || []).map(Number);
	const lum = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
	const wrong = [];
	for (const e of document.querySelectorAll("body *")) {
		if (!e.checkVisibility() || ![...e.childNodes].some(n => n.nodeType === 3 && n.nodeValue.trim()) || ["TITLE", "NOSCRIPT", "SCRIPT"].includes(e.nodeName.toUpperCase())) continue;
		const style = getComputedStyle(e), text = e.nodeName === "text";
		let ink = parse(text ? style.fill : style.color), ground = null;
		if (text) ground = parse(getComputedStyle(e.parentElement.querySelector("rect")).fill);
		for (let x = e; (!ground || ground.length < 3 || ground[3] === 0) && x; x = x.parentElement) ground = parse(getComputedStyle(x).backgroundColor);
		const a = lum(ink), b = lum(ground), ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
		if (ratio < 4.5) wrong.push(ratio.toFixed(2) + " " + e.nodeName + "." + e.className + ": " + e.textContent.slice(0, 30));
	}
	return wrong;
})()`

func scheme(name string) chromedp.Action {
	return emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}})
}

// worst is a master in trouble whose texts are as long as they get, and hostile.
func worst() *fake {
	f := streaming("orders-eu-west-1-secondary-with-a-long-name")
	f.status.State, f.status.Phase = replica.None, replica.NoPhase
	f.status.DownSince = f.status.Entered
	f.status.NextAttempt = f.status.Entered.AddDate(1, 0, 0)
	f.status.LastFailureAt = f.status.DownSince.AddDate(0, 0, 1)
	f.status.LastFailure = `PSYNC was answered -` + hostile + strings.Repeat("x", 300)
	f.disk.Archive.Generations[2].Problem = "timeline is damaged: line 3 " + strings.Repeat("y", 120)
	f.disk.Archive.Generations[4].Damaged = 2
	return f
}

const hostile = `ERR <script>alert(1)</script><img src="http://192.0.2.1/x" onerror=alert(2)>"'}]` + "\u202e\x00\x1b[31m\xff"

func TestThePageFitsAPhoneAndADeskInLightAndDark(t *testing.T) {
	browsertest.Path(t)
	main, bad := streaming("main"), worst()
	main.pace = 1_300_000
	all := []statuspage.Master{main, bad}
	for i := range 101 {
		f := streaming(fmt.Sprintf("cache-%d", i))
		switch i {
		case 7:
			f.status.State, f.status.Phase = replica.None, replica.NoPhase
			f.status.DownSince = f.status.Entered
			f.status.LastFailure, f.status.LastFailureAt = "connection refused", f.status.Entered
		case 11:
			f.status.Overfull = true
		}
		all = append(all, f)
	}
	p, address := serve(t, statuspage.Config{Masters: all, Version: "v1.2.3 (0123456)"})
	p.Fill("main", minutes(190, 22))
	p.Fill(bad.name, minutes(40, 1000))
	for _, m := range []string{"main", bad.name} {
		tell(p, story(m))
	}
	b := browsertest.Open(t, address, 1280, 900)
	for _, show := range []struct {
		name, query, ready string
		texts              int
	}{
		{"main", "?master=main", "#notices .lines", 150},
		{"worst", "?master=" + bad.name, "#notices .lines", 150},
		{"overview", "", ".wrong", 40},
	} {
		fits(t, b, show.name, address+show.query, show.ready, show.texts)
	}
	clean(t, b, address)
}

// fits shows a page on windows of several widths, in light and dark, and looks
// for what lies over something else or is hard to read.
func fits(t *testing.T, b *browsertest.Page, shown, address, ready string, texts int) {
	t.Helper()
	b.Run(chromedp.Navigate(address))
	for _, width := range []int64{1280, 800, 390, 320} {
		for _, colours := range []string{"light", "dark"} {
			name := fmt.Sprintf("%s-%d-%s", shown, width, colours)
			b.Run(chromedp.EmulateViewport(width, 900), scheme(colours), page.Reload(), chromedp.WaitVisible("#live.yes"), chromedp.WaitVisible(ready))
			keep(t, name, b)
			for _, open := range []string{"closed", "open"} {
				var c crowd
				b.Eval(crowding, &c)
				if len(c.Wrong) > 0 || c.Texts < texts {
					t.Errorf("%s, details %s: of %d texts\n%s", name, open, c.Texts, strings.Join(c.Wrong, "\n"))
				}
				b.Run(chromedp.Evaluate(`document.querySelectorAll("details").forEach(d => d.open = true)`, nil))
			}
			keep(t, name+"-open", b)
			var pale []string
			b.Eval(contrast, &pale)
			if len(pale) > 0 {
				t.Errorf("%s: too little contrast:\n%s", name, strings.Join(pale, "\n"))
			}
		}
	}
}

// clean fails where the browser complained, or asked elsewhere.
func clean(t *testing.T, b *browsertest.Page, address string) {
	t.Helper()
	if errs := b.Errors(); len(errs) > 0 {
		t.Errorf("on the console:\n%s", strings.Join(errs, "\n"))
	}
	for _, r := range b.Requests() {
		if !strings.HasPrefix(r, address) {
			t.Errorf("a request to %s", r)
		}
	}
}

func TestAClickOnTheBarFillsInTheMomentAndAButtonCopiesTheCommand(t *testing.T) {
	browsertest.Path(t)
	main := streaming("main")
	_, address := serve(t, statuspage.Config{Masters: []statuspage.Master{main}})
	b := browsertest.Open(t, address, 1280, 900)
	b.Run(chromedp.WaitVisible("#live.yes"))
	// moment is what stands behind --to, in seconds of Unix time.
	moment := func() (at int64) {
		b.Eval(`Date.parse(document.querySelector("#restore .moment").textContent) / 1000`, &at)
		return at
	}
	click := func(share float64) {
		var box struct{ Left, Top, Width, Height float64 }
		b.Eval(`(() => { const e = document.getElementById("moment"); e.scrollIntoView({block: "center"}); const {left, top, width, height} = e.getBoundingClientRect(); return {Left: left, Top: top, Width: width, Height: height} })()`, &box)
		b.Run(chromedp.MouseClickXY(box.Left+share*box.Width, box.Top+box.Height/2))
	}
	gens := main.disk.Archive.Generations
	oldest, now := gens[0].From, time.Now()
	click(0.3)
	if got, want := moment(), oldest.Unix()+int64(0.3*now.Sub(oldest).Seconds()); max(got-want, want-got) > 600 {
		t.Errorf("a click at 0.3 of the bar fills in %d, want about %d", got, want)
	}
	before := moment()
	b.Run(chromedp.KeyEvent(kb.ArrowRight))
	if got := moment(); got != before+1 {
		t.Errorf("an arrow key moves the moment from %d to %d", before, got)
	}
	// Between generation 9 and 10 nothing can be restored.
	gap := gens[1].To.Add(gens[2].From.Sub(gens[1].To) / 2)
	click(gap.Sub(oldest).Seconds() / now.Sub(oldest).Seconds())
	var says string
	b.Eval(`document.querySelector("#restore .chosen").textContent`, &says)
	if got := moment(); got != gens[1].To.Unix() || !strings.Contains(says, "from generation 9: the last moment before") {
		t.Errorf("a click into the gap fills in %d, want %d; it says %q", got, gens[1].To.Unix(), says)
	}
	// What was chosen stays when the page follows.
	main.set(func(f *fake) { f.status.Overfull = true })
	b.Run(chromedp.WaitVisible(".pill.warn"))
	if got := moment(); got != gens[1].To.Unix() {
		t.Errorf("when the page has followed it is %d", got)
	}

	b.Run(chromedp.ActionFunc(func(ctx context.Context) error {
		return browser.SetPermission(&browser.PermissionDescriptor{Name: "clipboard-read"}, browser.PermissionSettingGranted).WithOrigin(strings.TrimSuffix(address, "/")).Do(cdp.WithExecutor(ctx, chromedp.FromContext(ctx).Browser))
	}))
	var command, copied string
	b.Eval(`document.querySelectorAll("#restore code")[1].textContent.replace(/\s+/g, " ").trim()`, &command)
	for _, clipboard := range []string{"navigator.clipboard", "execCommand"} {
		b.Run(chromedp.Evaluate(`navigator.clipboard.writeText("")`, nil, awaited))
		if clipboard == "execCommand" {
			b.Run(chromedp.Evaluate(`navigator.clipboard.writeText = () => Promise.reject(); null`, nil))
		}
		b.Run(chromedp.Click(`#restore li:nth-child(2) .copy`), chromedp.Poll(`document.querySelector("#restore li:nth-child(2) .copy").textContent === "Copied"`, nil))
		b.Run(chromedp.Evaluate(`navigator.clipboard.readText()`, &copied, awaited))
		if copied != command || !strings.Contains(command, "--to 20") {
			t.Errorf("with %s the button copies %q, want %q", clipboard, copied, command)
		}
		b.Run(chromedp.Poll(`document.querySelector("#restore li:nth-child(2) .copy").textContent === "Copy"`, nil))
	}
	clean(t, b, address)
}

func awaited(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }

func TestEachTermIsExplainedUnderThePointerAndByTheKeyboard(t *testing.T) {
	browsertest.Path(t)
	main := worst()
	main.status.FormerReplID, main.status.SecondOffset, main.status.Paused = id, 1, true
	main.status.Rebase.LastFailure = "the disk is full"
	p, address := serve(t, statuspage.Config{Masters: []statuspage.Master{main}})
	p.Fill(main.name, minutes(0, 0))
	b := browsertest.Open(t, address, 1280, 900)
	for _, width := range []int64{1280, 390} {
		b.Run(chromedp.EmulateViewport(width, 900), page.Reload(), chromedp.WaitVisible("#live.yes"))
		var bare []string
		b.Eval(`[...document.querySelectorAll("dt, th[scope=col], .graph .title, .axis .key.base, .axis .key.rebase")].filter(e => e.checkVisibility() && !e.querySelector(".term")).map(e => e.textContent)`, &bare)
		if len(bare) > 0 {
			t.Errorf("%d wide: nothing explains %q", width, bare)
		}
		var terms int
		b.Eval(`document.querySelectorAll(".term").length`, &terms)
		seen := map[string]bool{}
		const tip = `(() => {
			const tips = [...document.querySelectorAll(".hint")].filter(e => e.checkVisibility());
			const of = document.activeElement.getAttribute("aria-describedby");
			return tips.map(e => { const r = e.getBoundingClientRect(); return (r.left < 0 || r.right > innerWidth ? "outside: " : e.id === of ? "" : "another: ") + e.id; });
		})()`
		for range 4 * terms {
			b.Run(chromedp.KeyEvent(kb.Tab))
			var shown []string
			b.Eval(tip, &shown)
			for _, s := range shown {
				if strings.Contains(s, ": ") || len(shown) > 1 {
					t.Errorf("%d wide: %q", width, shown)
				}
				seen[s] = true
			}
			if len(seen) == terms {
				break
			}
		}
		if len(seen) != terms || terms < 30 {
			t.Errorf("%d wide: the keyboard comes to %d of %d terms", width, len(seen), terms)
		}
		keep(t, fmt.Sprintf("term-%d", width), b)
		b.Run(chromedp.KeyEvent(kb.Escape))
		var left []string
		if b.Eval(tip, &left); len(left) > 0 {
			t.Errorf("%d wide: behind Escape %q is shown", width, left)
		}
	}
	b.Run(chromedp.EmulateViewport(1280, 900), chromedp.ActionFunc(func(ctx context.Context) error {
		var at struct{ X, Y float64 }
		if err := chromedp.Evaluate(`(() => { const e = document.querySelector("#link .term"); e.scrollIntoView({block: "center"}); const r = e.getBoundingClientRect(); return {X: r.left + 5, Y: r.top + 5} })()`, &at).Do(ctx); err != nil {
			return err
		}
		return input.DispatchMouseEvent(input.MouseMoved, at.X, at.Y).Do(ctx)
	}), chromedp.WaitVisible("#link .term .hint", chromedp.ByQuery))
	clean(t, b, address)
}

func TestWithoutJavaScriptThePageSaysTheSame(t *testing.T) {
	browsertest.Path(t)
	main := streaming("main")
	p, address := serve(t, statuspage.Config{Masters: []statuspage.Master{main}})
	p.Fill("main", minutes(190, 22))
	tell(p, story("main"))
	poll.Until(t, "the events to be noted", func() bool { return strings.Contains(get(t, address), "rebase done") })
	b := browsertest.Open(t, address, 390, 900)
	b.Run(chromedp.WaitVisible("#live.yes"))
	const text = `document.querySelector("main").innerText.replace(/[0-9.]+/g, "0")`
	var with string
	b.Eval(text, &with)
	b.Run(emulation.SetScriptExecutionDisabled(true), page.Reload(), chromedp.WaitVisible("noscript p"))
	keep(t, "page-390-without-javascript", b)
	var whole string
	b.Run(chromedp.Text("body", &whole))
	for _, want := range []string{"without JavaScript", "SYNC/STREAM", "Sound", "redis-main.internal.example:6379", "replicad restore --dir /var/lib/replicad --name main --to latest", "12,345,678,901", "rebase done", id} {
		if !strings.Contains(whole, want) {
			t.Errorf("%q is not on the page\n%s", want, whole)
		}
	}
	if !strings.Contains(with, "SYNC/STREAM") || strings.Contains(with, "without JavaScript") {
		t.Errorf("with JavaScript it says\n%s", with)
	}
	clean(t, b, address)
}

func TestWhatAMasterSaysIsTextAndNothingElse(t *testing.T) {
	browsertest.Path(t)
	_, address := serve(t, statuspage.Config{Masters: []statuspage.Master{worst()}})
	b := browsertest.Open(t, address, 1280, 900)
	b.Run(chromedp.WaitVisible("#live.yes"))
	var scripts, images int
	var shown string
	b.Eval(`document.scripts.length`, &scripts)
	b.Eval(`document.querySelectorAll("main img").length`, &images)
	b.Eval(`document.querySelector("main .reasons").textContent`, &shown)
	if scripts != 1 || images != 0 {
		t.Errorf("%d scripts, %d images", scripts, images)
	}
	for _, want := range []string{"<script>alert(1)</script>", `\u202e`, `\x00`, `\x1b`, `\xff`} {
		if !strings.Contains(shown, want) {
			t.Errorf("%q is not in %q", want, shown)
		}
	}
	clean(t, b, address)
}
