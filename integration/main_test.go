// Package integration proves replicad against real servers: the built binary
// runs as a process of its own, so that kill -9 is one, and what it wrote is
// loaded by a second redis-server whose DEBUG DIGEST must be the master's.
//
// Without a redis-server on the PATH most tests are skipped, with a line that
// says so; REPLICAD_REQUIRE_REDIS=1 makes that a failure. REPLICAD_SOAK=1 runs
// the full numbers; each test prints the number that it ran.
// REPLICAD_RACE_BINARY=1 builds the binary with the race detector.
package integration

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// binaryVariable passes the path of the built binary from TestMain to the
// tests.
const binaryVariable = "REPLICAD_TEST_BINARY"

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

// atOnce is how many tests run beside each other, unless -parallel says so. They
// wait for servers most of the time, so they are more than there are cores.
const atOnce = "12"

func testMain(m *testing.M) int {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		_ = f.Value.Set(atOnce)
	}
	dir, err := os.MkdirTemp("", "replicad-integration-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "replicad")
	// Without -race, for memory and time are measured; with it on request.
	args := []string{"build", "-o", binary, "replicad/cmd/replicad"}
	if raceBinary() {
		args = []string{"build", "-race", "-o", binary, "replicad/cmd/replicad"}
	}
	build := exec.Command("go", args...)
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "building replicad:", err)
		return 1
	}
	os.Setenv(binaryVariable, binary)
	return m.Run()
}

// raceBinary says whether the binary is built with -race.
func raceBinary() bool { return os.Getenv("REPLICAD_RACE_BINARY") == "1" }

// soak says whether the full numbers are wanted.
func soak() bool { return os.Getenv("REPLICAD_SOAK") == "1" }

// count is how often to do something: full in a soak run, else few. It prints
// which.
func count(t *testing.T, what string, few, full int) int {
	t.Helper()
	n := few
	if soak() {
		n = full
	}
	t.Logf("%s: %d (REPLICAD_SOAK=1: %d)", what, n, full)
	return n
}
