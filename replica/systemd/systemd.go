// Package systemd tells a service manager how the daemon stands, by sd_notify(3):
// READY=1, STATUS=, WATCHDOG=1, RELOADING=1 and STOPPING=1. Where NOTIFY_SOCKET
// is not set no manager asked for that, and the package does nothing.
//
// Ready means that the archives are open and the loop runs. Ready does not wait
// for a master: a master that is down would hold up the boot, and replicad is
// there to wait for it.
//
// WATCHDOG=1 is sent only after the loop has run a function that was posted to
// it. So a loop that hangs is found, and restarted.
package systemd

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"replicad/replica"
	"replicad/replica/daemon/status"
	"replicad/replica/units"
)

// Service is the daemon as the manager is to see it.
type Service struct {
	Post   func(func()) bool      // runs a function on the loop's thread; false when the loop has ended
	Status func() []status.Status // how the link to each master stands
	Log    *slog.Logger           // gets one line when the manager can't be reached
}

const (
	statusEvery = time.Second // the least time between two STATUS=
	// A manager that does not read its socket must not keep the daemon from
	// ending: lastWords bounds Stop.
	lastWords = time.Second

	lastState = sd.SdNotifyStopping + "\nSTATUS=storing and fsyncing what was received"
)

// Notifier speaks to the manager. Make it by Start.
type Notifier struct {
	s       Service
	done    chan struct{} // closed when nothing more is sent
	stop    context.CancelFunc
	failing bool   // the last send failed; run's own
	said    string // the last STATUS=; run's own

	reloading sync.Mutex // what a reload sends stays together
}

// Start begins to notify: READY=1 as soon as the loop answers, and STOPPING=1
// when ctx is done or Stop is called.
func Start(ctx context.Context, s Service) *Notifier {
	quit, stop := context.WithCancel(context.WithoutCancel(ctx))
	n := &Notifier{s: s, stop: stop, done: make(chan struct{})}
	if os.Getenv("NOTIFY_SOCKET") == "" {
		close(n.done)
		return n
	}
	watchdog, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		n.warn(err)
	}
	go n.run(ctx, quit, watchdog)
	return n
}

// Stop says STOPPING=1, unless that was said, and ends the notifying. It is
// called when the daemon has ended.
func (n *Notifier) Stop() {
	n.stop()
	select {
	case <-n.done:
	case <-time.After(lastWords):
	}
}

// Reload says RELOADING=1, calls do, and says READY=1, whether do succeeded or
// not: after a configuration that can't be read the one before stays in force.
func (n *Notifier) Reload(do func()) {
	n.reloading.Lock()
	defer n.reloading.Unlock()
	// Type=notify-reload wants the time; Type=notify ignores it.
	_, _ = sd.SdNotify(false, sd.SdNotifyReloading+"\n"+sd.SdNotifyMonotonicUsec())
	do()
	_, _ = sd.SdNotify(false, sd.SdNotifyReady)
}

// run sends from a goroutine of its own: a write to the socket may wait, and the
// loop's thread never does. ctx ends the daemon, quit the notifying.
func (n *Notifier) run(ctx, quit context.Context, watchdog time.Duration) {
	defer close(n.done)
	var feed <-chan time.Time // twice in the time that the watchdog allows
	if watchdog > 0 {
		feed = time.Tick(max(watchdog/2, time.Millisecond))
	}
	statusTick := time.Tick(statusEvery)
	answered := make(chan struct{}, 1)                            // one question at a time: there is room
	ask := func() { n.s.Post(func() { answered <- struct{}{} }) } // does the loop run?
	ask()
	ready, asked := false, true
	for ctx.Err() == nil && quit.Err() == nil {
		select {
		case <-answered:
			asked = false
			if ready {
				n.send(sd.SdNotifyWatchdog)
				continue
			}
			ready = true
			n.send(sd.SdNotifyReady + "\n" + n.status())
		case <-feed:
			if !asked {
				asked = true
				ask()
			}
		case <-statusTick:
			if before := n.said; ready && n.status() != before {
				n.send(n.said)
			}
		case <-ctx.Done():
		case <-quit.Done():
		}
	}
	n.send(lastState)
	// The loop ends before the last fsync does. How long that may take is for
	// TimeoutStopSec to say.
	for {
		select {
		case <-feed:
			n.send(sd.SdNotifyWatchdog)
		case <-quit.Done():
			return
		}
	}
}

func (n *Notifier) status() string {
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

// maxLine bounds what systemctl status shows, in characters.
const maxLine = 500

// Line says how the links stand, for systemctl status: one printable line.
func Line(all []status.Status) string {
	var parts []string
	up := 0
	for _, s := range all {
		if s.Up() {
			up++
		}
		parts = append(parts, s.Name+": "+link(s))
	}
	line := strings.Join(parts, "; ")
	if len(all) > 1 {
		line = fmt.Sprintf("%d of %d links stream; %s", up, len(all), line)
	}
	return units.Printable(line, maxLine)
}

func link(s status.Status) string {
	switch {
	case s.Stalled != "":
		return fmt.Sprintf("can't write since %s: %s", s.StalledSince.Format(time.DateTime), s.Stalled)
	case s.Up():
		rebase := ""
		if s.Rebase.Running {
			rebase = ", rebase under way" + progress(s.Rebase.Transfer)
		}
		return fmt.Sprintf("follows %s, offset %d, fsynced up to %d%s", s.Address, s.Received, s.Durable, rebase)
	case s.Transfer.Running():
		return "full sync from " + s.Address + progress(s.Transfer)
	case !s.Wanted():
		return "follows nobody (REPLICAOF NO ONE)"
	case !s.Following():
		return "no Sentinel has named the master yet"
	case s.State == replica.Sync:
		return fmt.Sprintf("%s with %s", replica.Place(s.State, s.Phase), s.Address)
	case s.LastFailure != "":
		return fmt.Sprintf("no stream from %s since %s: %s", s.Address, s.DownSince.Format(time.DateTime), s.LastFailure)
	}
	return "connecting to " + s.Address
}

func progress(t status.Transfer) string {
	switch {
	case t.Storing:
		return ", being made durable"
	case t.Running() && t.Total > 0:
		return fmt.Sprintf(", %d %%", 100*t.Bytes/t.Total)
	case t.Bytes > 0:
		return fmt.Sprintf(", %d bytes", t.Bytes)
	}
	return ""
}
