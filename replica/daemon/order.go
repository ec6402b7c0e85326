package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"replicad/replica"
	"replicad/replica/archive"
)

// An order is a REPLICAOF given at run time. It outlives the process, as CONFIG
// REWRITE has it in Redis, in a file beside the generations:
//
//	configured 10.0.0.1:6379
//	replicaof 10.0.0.2:6379
//
// The first line is what the configuration said at that time: an order against
// a configuration that has been changed since is void.
const orderName = "replicaof"

// nobody stands for NO ONE.
const nobody = "no one"

// errOrder is what errors about the file wrap.
var errOrder = errors.New("the order of the last REPLICAOF can't be read")

// readOrder gives the master to follow: the configured one, or who was ordered
// since. ordered says which of both; void is an order that no longer holds.
func readOrder(dir, origin string, configured replica.Master) (m replica.Master, ordered bool, void string, err error) {
	path := filepath.Join(dir, orderName)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return configured, false, "", nil
	}
	if err != nil {
		return configured, false, "", fmt.Errorf("%w: %w", errOrder, err)
	}
	facts := map[string]string{}
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		facts[key] = value
	}
	to, known := facts["replicaof"]
	if _, ok := facts["configured"]; !ok || !known {
		return configured, false, "", fmt.Errorf("%w: %s says neither what was configured nor whom to follow: remove it, and the configuration counts", errOrder, path)
	}
	if facts["configured"] != origin {
		return configured, false, to, nil
	}
	if to == nobody {
		return configured.Nobody(), true, "", nil
	}
	o, err := replica.ParseMaster(to)
	if err == nil && (o.Address() != to || o.Path != "") {
		err = fmt.Errorf("%q is not host:port", to)
	}
	if err != nil {
		return configured, false, "", fmt.Errorf("%w: %s: %w: remove it, and the configuration counts", errOrder, path, err)
	}
	return configured.At(o.Host, o.Port), true, "", nil
}

// writeOrder makes an order durable. It waits for the disk, and is called by one
// goroutine at a time.
func writeOrder(dir, origin string, to replica.Master) (err error) {
	who := to.Address()
	if who == "" {
		who = nobody
	}
	text := "# written by REPLICAOF; without this file the configuration counts\n" +
		"configured " + origin + "\nreplicaof " + who + "\n"
	tmp := filepath.Join(dir, orderName+".tmp")
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(tmp)
		}
	}()
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err = os.Rename(tmp, filepath.Join(dir, orderName)); err != nil {
		return err
	}
	return archive.SyncPath(dir)
}
