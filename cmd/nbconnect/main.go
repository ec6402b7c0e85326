// Command nbconnect makes one non-blocking TCP connection and prints every
// event of it. It is the smallest program on anet and eventloop, and shows the
// first step of every replication link.
//
//	$ nc -l 8888 &
//	$ nbconnect localhost 8888
//
// It exits with 0 when the connection was made, 1 when it was not, and 2 when
// it was called wrongly.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"time"

	"replicad/anet"
)

const usage = `usage: nbconnect [-source IP] [-timeout D] HOST PORT

Makes one non-blocking TCP connection and prints every event of it, with the time
since the start.

  -source IP    connect from this address of this machine
  -timeout D    how long to wait for the resolver, and for each address (default 5s)
  -h, --help    print this text

example:
  nc -l 8888 &
  nbconnect -timeout 2s localhost 8888

exit status: 0 connection done, 1 no connection, 2 wrong usage
`

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is the command without its process: arguments in, exit status out.
func run(args []string, stdout, stderr io.Writer) int {
	l := lesson{out: stdout, start: time.Now(), resolve: anet.Resolve}
	err := l.parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "nbconnect: %v\n\n%s", err, usage)
		return 2
	}
	if err := l.run(); err != nil {
		l.say("failed: %v", err)
		return 1
	}
	l.say("connection done.")
	return 0
}

// parse reads the command line into the lesson.
func (l *lesson) parse(args []string) error {
	flags := flag.NewFlagSet("nbconnect", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // run prints errors and usage itself
	flags.TextVar(&l.source, "source", netip.Addr{}, "")
	flags.DurationVar(&l.timeout, "timeout", 5*time.Second, "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 2 {
		return fmt.Errorf("want HOST and PORT, got %d arguments", flags.NArg())
	}
	if l.timeout <= 0 {
		return fmt.Errorf("the timeout must be longer than 0, it is %s", l.timeout)
	}
	port, err := strconv.ParseUint(flags.Arg(1), 10, 16)
	if err != nil || port == 0 {
		return fmt.Errorf("the port must be a number from 1 to 65535, it is %q", flags.Arg(1))
	}
	l.host, l.port = flags.Arg(0), int(port)
	if l.host == "" {
		return errors.New("the host is empty")
	}
	return nil
}
