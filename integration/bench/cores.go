package main

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// cores binds the calling goroutine's thread, and what it starts, to one core
// at a time. On a machine with one core it does nothing.
type cores struct {
	before unix.CPUSet
	list   []int // those that we may use
}

// useCores locks the goroutine to its thread until release.
func useCores() *cores {
	c := &cores{}
	runtime.LockOSThread()
	if unix.SchedGetaffinity(0, &c.before) == nil {
		for i := range len(c.before) * 64 {
			if c.before.IsSet(i) {
				c.list = append(c.list, i)
			}
		}
	}
	return c
}

// pin moves the thread to the nth core that there is.
func (c *cores) pin(n int) {
	if len(c.list) < 2 {
		return
	}
	var one unix.CPUSet
	one.Set(c.list[n])
	_ = unix.SchedSetaffinity(0, &one) // without it the figures are only noisier
}

func (c *cores) release() {
	_ = unix.SchedSetaffinity(0, &c.before)
	runtime.UnlockOSThread()
}
