package daemon

import (
	"errors"
	"fmt"
	"slices"

	"replicad/replica"
)

// Changed names the masters that Change changed.
type Changed struct {
	Followed  []string // are new
	Repointed []string // have another address
	Left      []string // are not followed any more; their archives stay
}

// Change has the daemon follow the masters of another configuration; what stands
// in both does not notice. Of a master that is followed already only the address
// and the credentials are taken, and those of one that Sentinels name are only the
// credentials. Change is called while the daemon runs.
//
// Change first opens the archives of the new masters. Where that fails nothing has
// changed, and the error wraps ErrSetup. Change returns when the links of those
// that are followed no more have stopped and their archives are closed.
func (d *Daemon) Change(masters Config) (is Changed, err error) {
	d.changing.Lock()
	defer d.changing.Unlock()
	if err := masters.check(); err != nil {
		return is, fmt.Errorf("%w: %w", ErrSetup, err)
	}
	cfg := d.cfg
	cfg.Masters, cfg.Sentinel, cfg.PerMaster = masters.Masters, masters.Sentinel, masters.PerMaster
	known := map[string]*follower{}
	for _, f := range d.following() {
		known[f.name] = f
	}
	unknown := slices.DeleteFunc(slices.Clone(cfg.Masters), func(m replica.Master) bool { return known[m.Name] != nil })
	opened, err := d.open(cfg, unknown)
	if err != nil {
		return is, fmt.Errorf("%w: %w", ErrSetup, errors.Join(err, closeAll(opened)))
	}
	fresh := map[string]*follower{}
	for _, f := range opened {
		fresh[f.name] = f
		is.Followed = append(is.Followed, f.name)
	}
	done := make(chan error, 1)
	var gone []*follower
	if !d.loop.Post(func() {
		if d.stopping {
			done <- ErrStopped
			return
		}
		gone = d.exchange(cfg, known, fresh, &is)
		stopAll(gone, func() { done <- nil })
	}) {
		return is, errors.Join(ErrStopped, closeAll(opened))
	}
	select {
	case err = <-done:
	case <-d.ended: // the daemon closes all that it follows
		select {
		case err = <-done:
		default:
			return is, ErrStopped
		}
	}
	if err != nil {
		return is, errors.Join(err, closeAll(opened))
	}
	err = closeAll(gone)
	d.mu.Lock()
	d.leaving = nil
	d.mu.Unlock()
	return is, err
}

// exchange sets the followers to those of a configuration, and returns the
// followers that are not among them. It runs on the loop.
func (d *Daemon) exchange(cfg Config, known, fresh map[string]*follower, is *Changed) (gone []*follower) {
	var now []*follower
	for _, m := range cfg.Masters {
		f := known[m.Name]
		if f == nil {
			f = fresh[m.Name]
			d.begin(f)
		} else if delete(known, m.Name); f.configure(m) {
			is.Repointed = append(is.Repointed, m.Name)
		}
		now = append(now, f)
	}
	for _, f := range d.following() {
		if known[f.name] != nil {
			gone = append(gone, f)
			is.Left = append(is.Left, f.name)
		}
	}
	d.mu.Lock()
	d.followers, d.leaving = now, gone
	d.mu.Unlock()
	return gone
}

// stopAll stops links, and calls done when all have stopped. It runs on the loop.
func stopAll(all []*follower, done func()) {
	left := len(all)
	if left == 0 {
		done()
	}
	for _, f := range all {
		f.stop(func() {
			if left--; left == 0 {
				done()
			}
		})
	}
}
