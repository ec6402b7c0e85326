package daemon

import (
	"replicad/replica"
	"replicad/replica/archive"
)

// Observer is told everything that happens to the links and the archives, on
// the loop's thread and in the order in which it happened: it must not wait.
type Observer interface {
	replica.Observer
	archive.Observer
}

// Observers tells each event to all of them, in order.
type Observers []Observer

// Observe implements [replica.Observer].
func (o Observers) Observe(e replica.Event) {
	for _, x := range o {
		x.Observe(e)
	}
}

// ObserveArchive implements [archive.Observer].
func (o Observers) ObserveArchive(e archive.Event) {
	for _, x := range o {
		x.ObserveArchive(e)
	}
}
