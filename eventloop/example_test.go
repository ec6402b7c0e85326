package eventloop_test

import (
	"fmt"
	"log"
	"time"

	"golang.org/x/sys/unix"

	"replicad/eventloop"
)

func ExampleLoop() {
	loop, err := eventloop.New()
	if err != nil {
		log.Fatal(err)
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		log.Fatal(err)
	}

	// A file event: the pipe has something to read, or its writer is gone.
	err = loop.CreateFileEvent(pipe[0], eventloop.Readable, func(fd int, mask eventloop.Mask) {
		buf := make([]byte, 64)
		n, err := unix.Read(fd, buf)
		if n > 0 {
			fmt.Printf("file event: %s\n", buf[:n])
			return
		}
		fmt.Println("file event: the end,", err)
		loop.DeleteFileEvent(fd, eventloop.Readable) // first this,
		unix.Close(fd)                               // then close(2)
		loop.Stop()
	})
	if err != nil {
		log.Fatal(err)
	}

	// A time event, which ends what the file event reads.
	bye := loop.NewTimer(func() {
		fmt.Println("time event")
		unix.Close(pipe[1])
	})

	// A posted function: how another goroutine does something on the loop's
	// thread.
	go loop.Post(func() {
		fmt.Println("posted")
		unix.Write(pipe[1], []byte("hello"))
		bye.Reset(10 * time.Millisecond)
	})

	if err := loop.Run(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// posted
	// file event: hello
	// time event
	// file event: the end, <nil>
}
