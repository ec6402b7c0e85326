package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/daemon/status"
	"replicad/replica/relay"
)

// What the methods of a Handle return; test with errors.Is.
var (
	// ErrStopped: the daemon has stopped, or is about to.
	ErrStopped = errors.New("the daemon stops")
	// ErrNotStreaming: a rebase begins beside a stream, and there is none.
	ErrNotStreaming = errors.New("the link does not stream: a rebase begins beside a stream")
	// ErrRebasing: a rebase is under way.
	ErrRebasing = errors.New("a rebase is under way")
)

// Handle is one of the masters, for callers outside the loop. Its methods may be
// called from any goroutine but the loop's; before Run only where they say so.
type Handle struct {
	d *Daemon
	f *follower
}

// Handles gives a handle for each master that is followed now, in the order of
// Config.Masters. It may be called before Run.
func (d *Daemon) Handles() []*Handle {
	var all []*Handle
	for _, f := range d.following() {
		all = append(all, &Handle{d, f})
	}
	return all
}

// Statuses gives how each link stands, in the order of Config.Masters. Any
// goroutine may call it, before Run too.
func (d *Daemon) Statuses() []status.Status {
	var all []status.Status
	for _, h := range d.Handles() {
		all = append(all, h.Status())
	}
	return all
}

// Name is the master's name.
func (h *Handle) Name() string { return h.f.name }

// Dir is the master's folder.
func (h *Handle) Dir() string { return h.f.dir }

// Status is how the link stands. It may be called before Run.
func (h *Handle) Status() status.Status {
	s := h.f.status.Status()
	if h.f.remote != nil {
		s.Remote = h.f.remote.Status()
	}
	if h.f.relay != nil {
		h.f.relay.Describe(&s)
	}
	return s
}

// Relay feeds replicas from the archive; nil where there is none.
func (h *Handle) Relay() *relay.Relay { return h.f.relay }

// Disk is what was read of the master's folder lately: a second ago, or longer
// where reading takes long. It waits for a new reading as long as wait at most.
func (h *Handle) Disk(wait time.Duration) status.Disk { return h.f.disk.get(wait) }

// Archive is what [Handle.Disk] says is in the folder. It waits for 250 ms at
// most.
func (h *Handle) Archive() (archive.Master, error) {
	d := h.Disk(archiveWait)
	return d.Archive, d.Err
}

// Ping asks the loop for an answer: nil says that the loop is alive. Before Run
// it is not. The error is ErrStopped, or ctx's where no answer came in time.
func (h *Handle) Ping(ctx context.Context) error { return h.d.Ping(ctx) }

// Ping is [Handle.Ping]: all masters have one loop.
func (d *Daemon) Ping(ctx context.Context) error {
	pong, ok := d.ping()
	if !ok {
		return ErrStopped
	}
	select {
	case <-pong:
		return nil
	case <-d.ended:
		return ErrStopped
	case <-ctx.Done():
		return fmt.Errorf("the event loop does not answer: %w", ctx.Err())
	}
}

// ping posts a question to the loop, unless one waits there already: a loop that
// stands still must not get ever more to do.
func (d *Daemon) ping() (pong <-chan struct{}, ok bool) {
	d.pinging.Lock()
	defer d.pinging.Unlock()
	if d.pong == nil {
		p := make(chan struct{})
		if !d.loop.Post(func() {
			d.pinging.Lock()
			d.pong = nil
			d.pinging.Unlock()
			close(p)
		}) {
			return nil, false
		}
		d.pong = p
	}
	return d.pong, true
}

// ReplicaOf repoints the link, as REPLICAOF host port does: see
// [replica.Link.Follow]. When ReplicaOf returns the order is durable and obeyed.
// An error that wraps replica.ErrAddress says that host and port are no address.
func (h *Handle) ReplicaOf(host, port string) error {
	m, err := replica.ParseHostPort(host, port)
	if err != nil {
		return err
	}
	return h.order(func(now replica.Master) replica.Master { return now.At(m.Host, m.Port) })
}

// NoOne stops following and keeps the archive, as REPLICAOF NO ONE. The order
// holds, also after a restart, until ReplicaOf names a master.
func (h *Handle) NoOne() error { return h.order(replica.Master.Nobody) }

func (h *Handle) order(change func(now replica.Master) replica.Master) error {
	f := h.f
	f.ordering.Lock()
	defer f.ordering.Unlock()
	var m replica.Master
	if err := h.call(func() error { m = change(f.cfg.Master); return nil }); err != nil {
		return err
	}
	if err := writeOrder(f.dir, f.origin, m); err != nil {
		return fmt.Errorf("the order could not be written down, and nothing was changed: %w", err)
	}
	return h.call(func() error {
		f.noOne = m.Address() == ""
		f.status.Order(m.Address(), f.noOne)
		f.follow(change(f.cfg.Master)) // with the credentials of now
		return nil
	})
}

// sentinelNames follows the master that a Sentinel names. This is no order: the
// next start asks the Sentinels again. After REPLICAOF NO ONE no master is
// followed until another REPLICAOF names one.
func (h *Handle) sentinelNames(host string, port int) error {
	f := h.f
	return h.call(func() error {
		if !f.noOne {
			f.follow(f.cfg.Master.At(host, port))
		}
		return nil
	})
}

// SetCredentials changes masteruser and masterauth for the next connection to
// the master.
func (h *Handle) SetCredentials(user, password string) error {
	return h.call(func() error {
		h.f.setCredentials(user, password)
		return nil
	})
}

func (f *follower) setCredentials(user, password string) {
	f.cfg.Master.User, f.cfg.Master.Password = user, password
	f.link.SetCredentials(user, password)
	if f.rebase != nil && f.rebase.link != nil {
		f.rebase.link.SetCredentials(user, password)
	}
}

// reauth reads the credentials again, which the master has refused: a file may
// hold newer ones.
func (f *follower) reauth() {
	if f.credentials == nil || f.stopping {
		return
	}
	f.work.Go(func() {
		user, password, err := f.credentials(f.name)
		if err != nil {
			return // the refusal has been told
		}
		f.loop.Post(func() {
			if m := f.cfg.Master; !f.stopping && (m.User != user || m.Password != password) {
				f.setCredentials(user, password)
			}
		})
	})
}

// Rebase begins a rebase now, as BGSAVE does; why goes to the log.
func (h *Handle) Rebase(why string) error {
	f := h.f
	return h.call(func() error {
		if f.rebase != nil {
			return ErrRebasing
		}
		if _, phase := f.link.State(); phase != replica.Stream {
			return ErrNotStreaming
		}
		if p, _ := f.link.Position(); p.ReplID == "" {
			return errNoHistory
		}
		f.rebaseNow(why)
		return nil
	})
}

// call runs do on the loop's thread and waits for it.
func (h *Handle) call(do func() error) error {
	done := make(chan error, 1)
	if !h.d.loop.Post(func() {
		if h.f.stopping {
			done <- ErrStopped
			return
		}
		done <- do()
	}) {
		return ErrStopped
	}
	select {
	case err := <-done:
		return err
	case <-h.d.ended:
		return ErrStopped
	}
}
