package replica_test

import (
	"fmt"
	"os"

	"replicad/eventloop"
	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/minimaster"
)

// The shortest program: a link takes a full sync of a master into an archive,
// and stops when it streams.
func ExampleNewLink() {
	server, _ := minimaster.Start(minimaster.Config{}) // or redis-server
	defer server.Close()
	dir, _ := os.MkdirTemp("", "replica-example-")
	defer os.RemoveAll(dir)
	store, _ := archive.Open(dir, archive.Options{})
	defer store.Close()

	loop, _ := eventloop.New()
	defer loop.Close()
	master, _ := replica.ParseMaster(server.Addr())
	var link *replica.Link
	link = replica.NewLink(loop, store, replica.Config{
		Master: master,
		Observer: replica.ObserverFunc(func(e replica.Event) {
			if e.Kind != replica.StateEntered && e.Kind != replica.PhaseEntered {
				return
			}
			fmt.Println(replica.Place(e.State, e.Phase))
			if e.Phase == replica.Stream {
				loop.Post(func() { link.Stop(loop.Stop) })
			}
		}),
	})
	loop.Post(link.Start)
	_ = loop.Run()
	// Output:
	// CONNECTING
	// RECEIVE_PONG
	// SYNC/PORT
	// SYNC/CAPA
	// SYNC/VERSION
	// SYNC/PSYNC
	// SYNC/TRANSFER
	// SYNC/STREAM
	// NONE
}
