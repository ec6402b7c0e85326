package anet_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"replicad/anet"
)

// waitWritable waits as an event loop would, for one descriptor.
func waitWritable(fd int) {
	if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, -1); err != nil {
		log.Fatal(err)
	}
}

func ExampleNonBlockConnect() {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // the server, to connect to
	if err != nil {
		log.Fatal(err)
	}
	defer ln.Close()

	// 1. socket(2), connect(2)
	fd, connected, err := anet.NonBlockConnect(anet.TCP(netip.MustParseAddrPort(ln.Addr().String())))
	if err != nil {
		log.Fatal(err)
	}
	defer anet.Close(fd)
	fmt.Println("connected at once:", connected) // no: EINPROGRESS

	// 2. until the outcome is known
	waitWritable(fd)

	// 3. the outcome
	fmt.Println("SO_ERROR:", anet.SocketError(fd))
	fmt.Println("at the other end:", anet.PeerAddr(fd) == ln.Addr().String())

	// 4. read and write
	n, err := anet.Write(fd, []byte("PING\r\n"))
	fmt.Println(n, err)
	_, err = anet.Read(fd, make([]byte, 16))
	fmt.Println(err) // the server has not answered
	// Output:
	// connected at once: false
	// SO_ERROR: <nil>
	// at the other end: true
	// 6 <nil>
	// anet: the operation would block
}

func ExampleConnector() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer ln.Close()
	port := ln.Addr().(*net.TCPAddr).Port

	// Two addresses of one name: nobody listens at the first one.
	var endpoints []anet.Endpoint
	for _, host := range []string{"127.0.0.2", "127.0.0.1"} {
		eps, err := anet.Resolve(context.Background(), host, port)
		if err != nil {
			log.Fatal(err)
		}
		endpoints = append(endpoints, eps...)
	}
	c := anet.NewConnector(endpoints, anet.Source{})
	for {
		attempt, err := c.Next()
		if err != nil {
			log.Fatal(err) // each address, and why it failed
		}
		if !attempt.Connected {
			waitWritable(attempt.FD)
		}
		err = anet.SocketError(attempt.FD)
		if err == nil {
			fmt.Println("connected")
			anet.Close(attempt.FD)
			return
		}
		fmt.Println(err)
		c.Failed(err)
		anet.Close(attempt.FD)
	}
	// Output:
	// connection refused
	// connected
}
