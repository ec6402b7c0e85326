// Package browsertest opens pages in a headless Chromium, and keeps what a
// browser complains about.
//
//	page := browsertest.Open(t, "file:///...", 1280, 800)
//	page.Run(chromedp.Click("summary"))
//	page.Errors(), page.Requests()
//
// The browser is the chromium of the PATH; where there is none the test is
// skipped with a line that says so, or fails when REPLICAD_REQUIRE_CHROMIUM is 1.
package browsertest

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"replicad/integration/poll"
)

// RequireVariable names the variable that turns the skipping of tests without a
// browser into a failure.
const RequireVariable = "REPLICAD_REQUIRE_CHROMIUM"

// patience is how long a page may take for all that is done with it.
const patience = 3 * time.Minute

// Path finds chromium. Without one it skips the test, or fails it.
func Path(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	const text = "there is no chromium on the PATH: nothing was tested here"
	if os.Getenv(RequireVariable) == "1" {
		t.Fatalf("%s, and %s is 1", text, RequireVariable)
	}
	t.Skip(text)
	return ""
}

// Page is a page in a browser of its own, which ends with the test. Its methods
// fail the test.
type Page struct {
	// Context is for chromedp.Run, where Run is not enough.
	Context context.Context

	t        testing.TB
	mu       sync.Mutex
	errors   []string
	requests []string
}

// Open opens an address in a window of that size, in CSS pixels. Everything the
// page does from its first byte on is seen.
func Open(t testing.TB, address string, width, height int64) *Page {
	t.Helper()
	path := Path(t)
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.NoSandbox, // or it does not start as root
		chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.UserDataDir(profile(t)),
		chromedp.WSURLReadTimeout(patience),
	)
	alloc, endAlloc := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, end := chromedp.NewContext(alloc)
	ctx, endTime := context.WithTimeout(ctx, patience)
	t.Cleanup(func() {
		endTime()
		end()
		endAlloc()
	})
	p := &Page{Context: ctx, t: t}
	chromedp.ListenTarget(ctx, p.listen)
	p.Run(
		network.Enable(),
		log.Enable(),
		chromedp.EmulateViewport(width, height),
		chromedp.Navigate(address),
	)
	return p
}

// profile is a folder for a browser, removed after the test; not t.TempDir, for a
// browser that was told to end may write on for a moment.
func profile(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "replicad-browser-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		poll.Until(t, "the browser's folder to be removed", func() bool { return os.RemoveAll(dir) == nil })
	})
	return dir
}

func (p *Page) listen(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.APITypeError || e.Type == runtime.APITypeAssert {
			text := "console." + string(e.Type)
			for _, a := range e.Args {
				text += " " + string(a.Value) + a.Description
			}
			p.errors = append(p.errors, text)
		}
	case *runtime.EventExceptionThrown:
		p.errors = append(p.errors, e.ExceptionDetails.Error())
	case *log.EventEntryAdded:
		if e.Entry.Level == log.LevelError {
			p.errors = append(p.errors, e.Entry.Text+" "+e.Entry.URL)
		}
	case *network.EventRequestWillBeSent:
		p.requests = append(p.requests, e.Request.URL)
	}
}

// Run runs actions.
func (p *Page) Run(actions ...chromedp.Action) {
	p.t.Helper()
	if err := chromedp.Run(p.Context, actions...); err != nil {
		p.t.Fatalf("chromium: %v", err)
	}
}

// Eval evaluates an expression of JavaScript and stores its value in v, a
// pointer.
func (p *Page) Eval(expression string, v any) {
	p.t.Helper()
	p.Run(chromedp.Evaluate(expression, v))
}

// Screenshot is the whole page as a PNG, also what lies below the window.
func (p *Page) Screenshot() []byte {
	p.t.Helper()
	var b []byte
	p.Run(chromedp.FullScreenshot(&b, 100))
	return b
}

// Errors are the errors on the console so far, uncaught exceptions and resources
// that were not found among them.
func (p *Page) Errors() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.errors)
}

// Requests are the addresses that were asked for so far, the page's own first.
func (p *Page) Requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.requests)
}
