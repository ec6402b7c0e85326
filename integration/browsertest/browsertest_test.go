package browsertest_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"replicad/integration/browsertest"
)

func TestWhatABrowserComplainsAboutIsSeen(t *testing.T) {
	browsertest.Path(t)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			http.NotFound(w, r)
			return
		}
		w.Write([]byte(`<!DOCTYPE html><title>t</title><link rel=icon href=data:,><img src=missing>
<script>console.error("from the console"); setTimeout(() => { throw new Error("uncaught") })</script>`))
	}))
	defer s.Close()
	p := browsertest.Open(t, s.URL+"/", 390, 800)
	var width int
	p.Eval("innerWidth", &width)
	if width != 390 {
		t.Errorf("the window is %d wide", width)
	}
	all := strings.Join(p.Errors(), "\n")
	for _, want := range []string{"from the console", "uncaught", "404"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not among the errors\n%s", want, all)
		}
	}
	if got := p.Requests(); len(got) != 2 || !strings.HasSuffix(got[1], "/missing") {
		t.Errorf("requests %q", got)
	}
	if png := p.Screenshot(); !strings.HasPrefix(string(png), "\x89PNG") {
		t.Errorf("a screenshot of %d bytes", len(png))
	}
}
