package redisserver

import (
	"bytes"
	"regexp"
	"strings"
	"sync"
)

// words are what a server says, in constant memory. The zero value is ready.
type words struct {
	sync.Mutex
	part []byte   // of a line
	last []string // the last lines; in a crash the one that names the cause

	command string // the error of the first command that failed during the load
	scripts int64  // scripts that ended with an error of their own
	script  string // the error of the first of those
}

const (
	mostLast = 3
	mostLine = 1 << 10 // bytes of a line that are kept
)

// failedForm is what afterErrorReply in Redis' networking.c logs.
var failedForm = regexp.MustCompile(`an error to its AOF-loading-client: '(.*)' after processing the command '(.*)'`)

// Write takes what the server writes.
func (w *words) Write(p []byte) (int, error) {
	w.Lock()
	defer w.Unlock()
	for rest := p; len(rest) > 0; {
		line, behind, whole := bytes.Cut(rest, []byte("\n"))
		w.part = append(w.part, line[:min(len(line), mostLine-len(w.part))]...)
		if rest = behind; whole {
			w.line(string(bytes.TrimSpace(w.part)))
			w.part = w.part[:0]
		}
	}
	return len(p), nil
}

// line takes a line. A crash is told in hundreds of them.
func (w *words) line(s string) {
	if crashed := len(w.last) == 1 && strings.Contains(w.last[0], "crashed by"); s != "" && !crashed {
		w.last = append(w.last[max(0, len(w.last)-mostLast+1):], s)
		if strings.Contains(s, "crashed by") {
			w.last = []string{s}
		}
	}
	m := failedForm.FindStringSubmatch(s)
	if m == nil {
		return
	}
	what := m[2] + ": " + m[1]
	lost := strings.Contains(m[1], "NOSCRIPT") || strings.Contains(strings.ToLower(m[1]), "unknown")
	switch {
	case strings.HasPrefix(m[2], "eval") && !lost:
		if w.scripts++; w.script == "" {
			w.script = what
		}
	case w.command == "":
		w.command = what
	}
}
