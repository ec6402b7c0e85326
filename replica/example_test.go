package replica_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/redis/go-redis/v9"

	"replicad/eventloop"
	"replicad/replica"
	"replicad/replica/archive"
	"replicad/replica/archive/restore"
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

// A test of one's own service with its backup: the service writes to a master in
// this process, Wait says that the archive has the write, and a restore has it.
func Example_serviceInATest() {
	server, _ := minimaster.Start(minimaster.Config{}) // the service's Redis is at server.Addr()
	defer server.Close()
	dir, _ := os.MkdirTemp("", "replica-example-")
	defer os.RemoveAll(dir)
	store, _ := archive.Open(filepath.Join(dir, "main"), archive.Options{})
	defer store.Close()
	master, _ := replica.ParseMaster(server.Addr())

	loop, _ := eventloop.New()
	defer loop.Close()
	streams := make(chan bool, 1)
	link := replica.NewLink(loop, store, replica.Config{
		Master: master,
		Observer: replica.ObserverFunc(func(e replica.Event) {
			if e.Kind == replica.PhaseEntered && e.Phase == replica.Stream {
				streams <- true
			}
		}),
	})
	loop.Post(link.Start)
	ended := make(chan error)
	go func() { ended <- loop.Run() }()
	<-streams

	service := redis.NewClient(&redis.Options{Addr: server.Addr(), DisableIdentity: true})
	defer service.Close()
	fmt.Println(service.Set(context.Background(), "order:17", "paid", 0).Result())
	fmt.Println("replicas that have it:", server.Wait(1, 10*time.Second))

	loop.Post(func() { link.Stop(loop.Stop) })
	<-ended
	_ = store.Close()
	done, err := restore.Run(context.Background(), restore.Options{Dir: filepath.Join(dir, "main"), Out: filepath.Join(dir, "restored")})
	stream, _ := os.ReadFile(filepath.Join(dir, "restored/appendonlydir/appendonly.aof.1.incr.aof"))
	fmt.Println(done.Format, err, bytes.Contains(stream, []byte("order:17\r\n$4\r\npaid")))
	// Output:
	// OK <nil>
	// replicas that have it: 1
	// multipart <nil> true
}
