// Package healthcheck asks a running replicad how it does, by the HTTP that
// replicad run --http serves. It is for a container's HEALTHCHECK: the image
// holds no curl, nor anything else but the binary.
package httpport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode"
)

// What is asked.
const (
	Live  = "/healthz" // the process and its loop answer
	Ready = "/readyz"  // and what it is there for, it does
)

// ErrFailed is wrapped by the error for a daemon that answers, but not by 200.
var ErrFailed = errors.New("not healthy")

// maxAnswer bounds what is read and printed, in bytes.
const maxAnswer = 1000

// Get asks the daemon that listens at addr, as given to --http: host:port,
// where no host and an unspecified one (0.0.0.0, ::) mean this machine. path is
// Live or Ready. It returns the answer as one line. How long it may take is ctx's
// to say.
func Get(ctx context.Context, addr, path string) (string, error) {
	host, err := Target(addr)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+path, nil)
	if err != nil {
		return "", err
	}
	// No proxy, whatever the environment says: this machine is asked.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		var ue *url.Error // says the method and the URL once more
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return "", fmt.Errorf("no answer from %s: %w: does replicad run with --http?", host, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return "", err
	}
	answer := oneLine(string(body))
	if resp.StatusCode != http.StatusOK {
		return answer, fmt.Errorf("%w: %s: %s", ErrFailed, resp.Status, answer)
	}
	return answer, nil
}

// Target is where to ask a daemon that listens at addr.
func Target(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("%q: want host:port, for example 127.0.0.1:9121", addr)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("%q: the port must be a number from 1 to 65535", addr)
	}
	ip := net.ParseIP(host)
	switch {
	case host == "", ip != nil && ip.IsUnspecified() && ip.To4() != nil:
		host = "127.0.0.1"
	case ip != nil && ip.IsUnspecified():
		host = "::1"
	}
	return net.JoinHostPort(host, port), nil
}

// oneLine joins lines, and lets no control character through to a terminal.
func oneLine(s string) string {
	var lines []string
	for line := range strings.Lines(s) {
		line = strings.TrimSpace(strings.Map(func(r rune) rune {
			if unicode.IsControl(r) {
				return ' '
			}
			return r
		}, line))
		if line != "" {
			lines = append(lines, line)
		}
	}
	return strings.ToValidUTF8(strings.Join(lines, "; "), "?")
}
