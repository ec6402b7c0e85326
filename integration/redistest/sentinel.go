package redistest

import (
	"context"
	"fmt"
	"testing"
)

// sentinelDefaults stand before the directives of a Sentinel.
var sentinelDefaults = []string{"bind 127.0.0.1", "protected-mode no", "daemonize no"}

// MasterName is what the Sentinels of StartSentinel call the master.
const MasterName = "mymaster"

// StartSentinel starts a redis-sentinel (redis-server --sentinel) that watches a
// master, finds it down after two seconds, and needs nobody's consent to fail
// over. Directives are lines of sentinel.conf.
func StartSentinel(t testing.TB, master *Server, directives ...string) *Server {
	t.Helper()
	s := New(t, t.TempDir(), append([]string{
		fmt.Sprintf("sentinel monitor %s %s %d 1", MasterName, master.Host, master.Port),
		"sentinel down-after-milliseconds " + MasterName + " 2000",
		"sentinel failover-timeout " + MasterName + " 2000",
		"sentinel parallel-syncs " + MasterName + " 10",
	}, directives...)...)
	s.sentinel = true
	s.Start()
	// How often Sentinel asks for INFO, in ms; before 7.0 that stays at 10 s.
	_ = s.Client(0).Do(context.Background(), "SENTINEL", "DEBUG", "info-period", 1000).Err()
	return s
}

// MasterOf asks a Sentinel where the master is: host:port.
func (s *Server) MasterOf(name string) string {
	s.t.Helper()
	v, err := s.Client(0).Do(context.Background(), "SENTINEL", "GET-MASTER-ADDR-BY-NAME", name).StringSlice()
	if err != nil || len(v) != 2 {
		s.t.Fatalf("SENTINEL GET-MASTER-ADDR-BY-NAME %s: %v, %v", name, v, err)
	}
	return v[0] + ":" + v[1]
}

// Sentinel gives what SENTINEL MASTERS, or REPLICAS or SENTINELS and a master's
// name, say: an instance a map.
func (s *Server) Sentinel(words ...any) []map[string]string {
	s.t.Helper()
	v, err := s.Client(0).Do(context.Background(), append([]any{"SENTINEL"}, words...)...).Slice()
	if err != nil {
		s.t.Fatalf("SENTINEL %v: %v", words, err)
	}
	var all []map[string]string
	for _, one := range v {
		fields, ok := one.([]any)
		if !ok {
			s.t.Fatalf("SENTINEL %v: %v", words, v)
		}
		m := map[string]string{}
		for i := 0; i+1 < len(fields); i += 2 {
			m[fmt.Sprint(fields[i])] = fmt.Sprint(fields[i+1])
		}
		all = append(all, m)
	}
	return all
}
