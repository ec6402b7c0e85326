package replica_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"replicad/anet"
	"replicad/replica"
)

// byPort resolves a master's port to the listener that plays it, for as long as
// the name is no black hole's.
func byPort(t *testing.T, hang string, all map[int]net.Listener) func(context.Context, string, int) ([]anet.Endpoint, error) {
	hole := blackHole(t)
	return func(ctx context.Context, host string, port int) ([]anet.Endpoint, error) {
		switch {
		case host == "nowhere" && hang == "resolving":
			<-ctx.Done()
			return nil, ctx.Err()
		case host == "nowhere":
			return []anet.Endpoint{hole}, nil
		}
		return []anet.Endpoint{endpointOf(all[port].Addr())}, nil
	}
}

func TestFollowLeadsFromEveryStateAndPhaseThroughNoneToTheNewMaster(t *testing.T) {
	type where struct{ name, place, said string }
	all := []where{{"resolving", "NONE", ""}, {"connecting", "CONNECTING", ""}}
	for _, s := range stops {
		all = append(all, where{s.place + fmt.Sprint(len(s.said)), s.place, s.said})
	}
	for _, s := range all {
		for _, to := range []string{"another master", "nobody, then another"} {
			t.Run(s.name+"/"+to, func(t *testing.T) {
				t.Parallel()
				first, second := listen(t), listen(t)
				cfg := everyStop()
				cfg.Master.Host, cfg.Master.Port = "first", 1
				if s.said == "" && s.place != "RECEIVE_PONG" {
					cfg.Master.Host = "nowhere"
				}
				cfg.Resolve = byPort(t, s.name, map[int]net.Listener{1: first, 2: second})
				r := newRig(t, cfg, storeOptions{splice: true}, nil)
				r.start()
				if cfg.Master.Host == "first" {
					accept(t, first).say(s.said)
				}
				if strings.Contains(s.said, "\r\nREDIS") && s.place == "SYNC/TRANSFER" {
					r.wait("the payload", func() bool { return r.store.baseSize == 5 })
				} else if s.place != "NONE" {
					r.waitPlace(s.place)
				}
				if to != "another master" {
					r.on(func() { r.link.Follow(cfg.Master.Nobody()) })
					r.waitEvent(replica.Repointed, 1)
					r.on(func() {
						if state, _ := r.link.State(); state != replica.None {
							t.Errorf("following nobody it is in %s", state)
						}
					})
				}
				r.on(func() { r.link.Follow(cfg.Master.At("second", 2)) })
				k := accept(t, second)
				k.say(stops[6].said)
				want := "? -1"
				if s.place == "SYNC/STREAM" {
					want = replID + " 1001" // a common history is asked for
				}
				if got := strings.Join(k.hear("PSYNC")[1:], " "); got != want {
					t.Errorf("PSYNC %s, want %s", got, want)
				}
				k.say(fullSync)
				k.hearAck(1000)
				r.waitPlace("SYNC/STREAM")
				r.stop()
				r.checkPath()
				r.checkRepointed()
				if len(r.failures) > 0 {
					t.Errorf("an order is no failure: %v", r.failures[0].Err)
				}
				if r.store.begun != r.store.aborted+r.store.commits {
					t.Errorf("%d bases begun, %d aborted, %d committed", r.store.begun, r.store.aborted, r.store.commits)
				}
			})
		}
	}
}

// checkRepointed: each order finds the link in NONE, and what comes next is the
// way from there.
func (r *rig) checkRepointed() {
	r.t.Helper()
	for i, e := range r.events {
		if e.Kind != replica.Repointed {
			continue
		}
		if e.State != replica.None {
			r.t.Errorf("the order to follow %q came in %s", e.Endpoint, replica.Place(e.State, e.Phase))
		}
		if e.Endpoint == "" && r.events[i+1].Kind != replica.Repointed {
			r.t.Errorf("following nobody, event %d was told", r.events[i+1].Kind)
		}
	}
}

func TestALinkThatFollowsNobodyStartsAndStopsInNone(t *testing.T) {
	t.Parallel()
	r := newRig(t, replica.Config{Master: replica.Master{Name: "m"}}, storeOptions{}, nil)
	r.start()
	r.on(func() {})
	r.stop()
	if len(r.events) != 1 || r.events[0].Kind != replica.Stopped {
		t.Errorf("%d events were told, want Stopped alone", len(r.events))
	}
}

func TestFollowAfterStopAndBeforeStartChangesOnlyTheAddress(t *testing.T) {
	t.Parallel()
	ln := listen(t)
	r := newRig(t, replica.Config{Master: replica.Master{Name: "m"}, Resolve: addresses(endpointOf(ln.Addr()))}, storeOptions{}, nil)
	r.on(func() { r.link.Follow(replica.Master{Host: "h", Port: 1}) })
	r.start()
	accept(t, ln).say(everyStep + fullSync)
	r.wait("STREAM, and no order told", func() bool { return r.place() == "SYNC/STREAM" && r.count(replica.Repointed) == 0 })
	done := make(chan struct{})
	r.loop.Post(func() {
		r.link.Stop(func() { close(done) })
		r.link.Follow(replica.Master{Host: "h", Port: 2})
	})
	<-done
	r.stop()
	r.checkPath()
}
