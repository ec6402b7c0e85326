// Package systemd tells a service manager how the daemon stands, by sd_notify(3):
// READY=1, STATUS=, WATCHDOG=1, RELOADING=1 and STOPPING=1. Where no manager
// asked for it (NOTIFY_SOCKET is not set), it does nothing.
//
// Ready means that the archives are open and the loop runs. It does not wait
// for a master: one that is away would hold up the boot, and replicad is there
// to wait for it.
//
// The watchdog is fed by the loop: a function is posted on it, and only when it
// has run is WATCHDOG=1 sent. A loop that hangs is thus found and restarted,
// however well the rest of the process does.
package systemd

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"replicad/replica/daemon/status"
)

// Service is the daemon as the manager is to see it.
type Service struct {
	// Post runs a function on the loop's thread; false when there is none any
	// more.
	Post func(func()) bool
	// Status gives how the link to each master stands.
	Status func() []status.Status
	// Log is told once when the manager can't be reached.
	Log *slog.Logger
}

const (
	statusEvery = time.Second // at most
	// A manager that does not read its socket must not keep the daemon from
	// ending.
	lastWords = time.Second
)

// Notifier speaks to the manager. Make it by Start.
type Notifier struct {
	s       Service
	enabled bool
	done    chan struct{} // closed when run has ended
	quit    chan struct{}
	stop    sync.Once
	failing bool // run's own
	said    string

	mu sync.Mutex // of reloads: what they say stays together
}

// Start begins to notify: READY=1 as soon as the loop answers, and STOPPING=1
// when ctx is done or Stop is called.
func Start(ctx context.Context, s Service) *Notifier {
	n := &Notifier{s: s, enabled: os.Getenv("NOTIFY_SOCKET") != "", done: make(chan struct{}), quit: make(chan struct{})}
	if !n.enabled {
		return n
	}
	watchdog, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		n.warn(err)
	}
	go n.run(ctx, watchdog)
	return n
}

// Stop says STOPPING=1, if that was not said, and ends the notifying. It is
// called when the daemon has ended.
func (n *Notifier) Stop() {
	if !n.enabled {
		return
	}
	n.stop.Do(func() { close(n.quit) })
	select {
	case <-n.done:
	case <-time.After(lastWords):
	}
}

// Reload says RELOADING=1, does it, and says READY=1, whether it succeeded or
// not: a configuration that can't be read leaves the one before in force.
func (n *Notifier) Reload(do func()) {
	if !n.enabled {
		do()
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	// Type=notify-reload wants the time, Type=notify passes it over.
	_, _ = sd.SdNotify(false, sd.SdNotifyReloading+"\n"+sd.SdNotifyMonotonicUsec())
	defer func() { _, _ = sd.SdNotify(false, sd.SdNotifyReady) }()
	do()
}

// run is the goroutine that sends: a write to the socket may wait, and the
// loop's thread never does.
func (n *Notifier) run(ctx context.Context, watchdog time.Duration) {
	defer close(n.done)
	answered := make(chan struct{}, 1)
	ask := func() { n.s.Post(func() { answered <- struct{}{} }) } // one at a time: there is room
	ask()
	ready, asked, stopping := false, true, false
	statusTick := time.NewTicker(statusEvery)
	defer statusTick.Stop()
	feed := ticks(watchdog)
	defer feed.Stop()
	end := ctx.Done()
	for {
		select {
		case <-answered:
			asked = false
			switch {
			case stopping: // was fed without it
			case ready:
				n.send(sd.SdNotifyWatchdog)
			default:
				ready = true
				n.send(sd.SdNotifyReady + "\n" + n.statusLine())
			}
		case <-feed.C:
			switch {
			case stopping:
				// The loop ends before the last fsync does. How long that
				// may take is for TimeoutStopSec to say.
				n.send(sd.SdNotifyWatchdog)
			case !asked:
				asked = true
				ask()
			}
		case <-statusTick.C:
			if ready && !stopping {
				n.sendStatus()
			}
		case <-end:
			end, stopping = nil, true
			n.sayStopping()
		case <-n.quit:
			if !stopping {
				n.sayStopping()
			}
			return
		}
	}
}

// ticks ticks twice in the time that the watchdog allows, or never.
func ticks(watchdog time.Duration) *time.Ticker {
	if watchdog == 0 {
		t := time.NewTicker(time.Hour)
		t.Stop()
		return t
	}
	return time.NewTicker(max(watchdog/2, time.Millisecond))
}

func (n *Notifier) sayStopping() {
	n.send(sd.SdNotifyStopping + "\nSTATUS=storing and fsyncing what was received")
}

// sendStatus sends how things stand, where that has changed.
func (n *Notifier) sendStatus() {
	if before := n.said; n.statusLine() != before {
		n.send(n.said)
	}
}

func (n *Notifier) statusLine() string {
	n.said = "STATUS=" + Line(n.s.Status())
	return n.said
}

func (n *Notifier) send(state string) {
	_, err := sd.SdNotify(false, state)
	if err != nil && !n.failing {
		n.warn(err)
	}
	n.failing = err != nil
}

func (n *Notifier) warn(err error) {
	n.s.Log.Warn("the service manager can't be told", "socket", os.Getenv("NOTIFY_SOCKET"), "error", err)
}
