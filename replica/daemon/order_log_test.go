package daemon

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"replicad/replica"
)

func TestAnOrderIsWarnedOfOnlyWhereItDiffersFromTheConfiguration(t *testing.T) {
	configured := replica.Master{Name: "main", Host: "10.0.0.1", Port: 6379}
	for host, warned := range map[string]bool{"10.0.0.1": false, "10.0.0.2": true} {
		var out bytes.Buffer
		ordered := configured
		ordered.Host = host
		logOrder(slog.New(slog.NewTextHandler(&out, nil)), configured.Address(), configured, ordered, "")
		if got := out.String(); strings.Contains(got, "it counts, not the configuration") != warned {
			t.Errorf("%s: %q", host, got)
		}
	}
}
