package integration

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"replicad/integration/browsertest"
	"replicad/integration/redistest"
	"replicad/replica"
	"replicad/replica/daemon"
	"replicad/replica/httpport"
	"replicad/replica/httpport/statuspage"
	"replicad/replica/minimaster"
)

// pageMaster is a master of the page's tests.
type pageMaster interface {
	address() string
	write(n int) // some commands
	away()       // the master goes
	back()       // and comes at the same address
}

type miniPage struct {
	t *testing.T
	m *minimaster.Master
}

func newMiniPage(t *testing.T) *miniPage {
	p := &miniPage{t: t}
	p.start("")
	t.Cleanup(func() { p.m.Close() })
	return p
}

func (p *miniPage) start(addr string) {
	p.t.Helper()
	m, err := minimaster.Start(minimaster.Config{Addr: addr})
	if err != nil {
		p.t.Fatal(err)
	}
	p.m = m
}

func (p *miniPage) address() string { return p.m.Addr() }
func (p *miniPage) away()           { p.m.Close() }
func (p *miniPage) back()           { p.start(p.m.Addr()) }
func (p *miniPage) write(n int) {
	for i := range n {
		if _, err := p.m.Do("SET", fmt.Sprint("key", i), strings.Repeat("x", 200)); err != nil {
			p.t.Error(err)
		}
	}
}

type redisPage struct{ *redistest.Server }

func (p redisPage) address() string { return p.Addr() }
func (p redisPage) away()           { p.Shutdown("NOSAVE") }
func (p redisPage) back()           { p.Start() }
func (p redisPage) write(n int) {
	var all [][]any
	for i := range n {
		all = append(all, []any{"SET", fmt.Sprint("key", i), strings.Repeat("x", 200)})
	}
	p.Pipe(0, all...)
}

// servePage runs a daemon that follows masters, and serves its page.
func servePage(t *testing.T, masters ...string) (address string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "data") // a short path, for pictures
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	var shows struct{ *statuspage.Page } // nothing is told before Run, and by then there is a page
	cfg := daemon.Config{Dir: dir, Observer: &shows}
	for _, m := range masters {
		parsed, err := replica.ParseMaster(m)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Masters = append(cfg.Masters, parsed)
	}
	d, err := daemon.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	shown := statuspage.Config{Version: "test"}
	for _, h := range d.Handles() {
		shown.Masters = append(shown.Masters, h)
	}
	shows.Page = statuspage.New(shown)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	l, err := httpport.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := httpport.Serve(l, httpport.Config{Metrics: http.NotFoundHandler(), Page: shows.Page})
	t.Cleanup(func() {
		shows.Page.Close()
		s.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String() + "/"
}

// awaitPage waits until an expression is true in the page.
func awaitPage(t *testing.T, b *browsertest.Page, what, expression string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		var is bool
		if b.Eval(expression, &is); is {
			return
		}
		if time.Now().After(deadline) {
			var text string
			b.Eval(`document.body.innerText`, &text)
			t.Fatalf("waited a minute for %s; the page says\n%s", what, text)
		}
	}
}

// keepPicture keeps a picture in the folder that REPLICAD_SCREENSHOTS names.
func keepPicture(t *testing.T, b *browsertest.Page, name string) {
	t.Helper()
	if dir := os.Getenv("REPLICAD_SCREENSHOTS"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, name+".png"), b.Screenshot(), 0o600); err != nil {
			t.Error(err)
		}
	}
}

func TestTheStatusPageFollowsALinkThatIsCutWithoutBeingLoadedAgain(t *testing.T) {
	t.Parallel()
	browsertest.Path(t)
	t.Run("minimaster", func(t *testing.T) {
		t.Parallel()
		testPage(t, newMiniPage(t))
	})
	t.Run("redis-server", func(t *testing.T) {
		t.Parallel()
		testPage(t, redisPage{redistest.Start(t)})
	})
}

func testPage(t *testing.T, m pageMaster) {
	address := servePage(t, "main="+m.address())
	b := browsertest.Open(t, address, 1280, 900)
	const (
		place    = `document.querySelector("#machine .place b").textContent`
		lit      = `[...document.querySelectorAll("#machine .lit text")].map(e => e.textContent).join()`
		word     = `document.querySelector("#verdict .pill").textContent`
		received = `document.querySelector("#graphs .graph .curve").getAttribute("d")`
		rate     = `document.querySelector("#graphs .graph .now").textContent`
	)
	b.Run(chromedp.Evaluate(`window.opened = true`, nil)) // a page that was loaded again has it no more
	awaitPage(t, b, "the stream to be lit", place+` === "SYNC/STREAM" && `+lit+` === "SYNC,STREAM" && `+word+` === "Sound"`)
	awaitPage(t, b, "the command that restores", `document.querySelector("#restore").textContent.includes("replicad restore --dir")`)

	awaitPage(t, b, "a graph", `document.querySelector("#graphs .graph .curve") !== null`)

	var before, offset string
	b.Eval(received, &before)
	b.Eval(`document.querySelector("#link .value").textContent`, &offset)
	loaded := false
	for deadline := time.Now().Add(time.Minute); !loaded && time.Now().Before(deadline); {
		m.write(500)
		b.Eval(fmt.Sprintf(`%s !== %q && %s !== "0 B/s" && /[1-9]/.test(%s) && document.querySelector("#link .value").textContent !== %q`, received, before, rate, rate, offset), &loaded)
	}
	if !loaded {
		t.Fatal("the graph does not move under load")
	}
	keepPicture(t, b, "live-loaded-"+filepath.Base(t.Name()))

	m.away()
	awaitPage(t, b, "the cut", place+` === "NONE" && `+lit+` === "NONE"`)
	awaitPage(t, b, "what is the matter", word+` === "Link down" && document.querySelector("#verdict").textContent.includes("connection refused")`)
	awaitPage(t, b, "the event", `document.querySelector("#notices").textContent.includes("ECONNREFUSED") || document.querySelector("#notices").textContent.includes("connection refused")`)
	awaitPage(t, b, "the graph to show the cut", `document.querySelector("#graphs .down") !== null`)
	awaitPage(t, b, "the title", `document.title === "Link down: main - replicad"`)
	keepPicture(t, b, "live-cut-"+filepath.Base(t.Name()))

	m.back()
	awaitPage(t, b, "the way back", place+` === "SYNC/STREAM" && `+word+` === "Sound"`)
	keepPicture(t, b, "live-back-"+filepath.Base(t.Name()))
	var still bool
	if b.Eval(`window.opened === true`, &still); !still {
		t.Error("the page was loaded again")
	}
	if errs := b.Errors(); len(errs) > 0 {
		t.Errorf("on the console:\n%s", strings.Join(errs, "\n"))
	}
	for _, r := range b.Requests() {
		if !strings.HasPrefix(r, address) {
			t.Errorf("a request to %s", r)
		}
	}
}
