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

	"replicad/replica/units"
)

// The paths that Get asks for.
const (
	Live  = "/healthz" // the process and its loop answer
	Ready = "/readyz"  // and each archive is what it is there for
)

// ErrFailed is wrapped by the error for a daemon that answers, but not by 200.
var ErrFailed = errors.New("not healthy")

// maxAnswer bounds the answer that is read and printed, in bytes.
const maxAnswer = 1000

// Get asks the daemon that listens at addr, as given to --http, how it does; path
// is Live or Ready. Get returns the answer as one line, at the latest when ctx is
// done. It asks no proxy, and follows no redirect.
func Get(ctx context.Context, addr, path string) (string, error) {
	where := url.URL{Scheme: "http", Host: addr, Path: path}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, where.String(), nil)
	if err != nil {
		return "", err
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return "", fmt.Errorf("no answer from %s: %w: does replicad run with --http?", addr, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return "", err
	}
	lines := strings.ReplaceAll(strings.TrimSpace(string(body)), "\n", "; ")
	answer := units.Printable(lines, maxAnswer)
	if resp.StatusCode != http.StatusOK {
		return answer, fmt.Errorf("%w: %s: %s", ErrFailed, resp.Status, answer)
	}
	return answer, nil
}

// CheckAddr says what is wrong with an address for Get: it wants host:port, where
// no host, 0.0.0.0 and :: mean this machine (see net.Dial).
func CheckAddr(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q: want host:port, for example 127.0.0.1:9121", addr)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q: the port must be a number from 1 to 65535", addr)
	}
	return nil
}
