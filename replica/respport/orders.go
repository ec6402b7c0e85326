package respport

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"replicad/replica"
	"replicad/replica/daemon/status"
	"replicad/replica/resp"
)

// replicaOf is REPLICAOF and SLAVEOF (replicaofCommand in Redis' replication.c).
func replicaOf(q *request) {
	if !q.inExec {
		q.waiting(q.s.orders.Lock)
		defer q.s.orders.Unlock()
	}
	host, port := string(q.args[1]), string(q.args[2])
	if strings.EqualFold(host, "no") && strings.EqualFold(port, "one") {
		q.order("REPLICAOF NO ONE", q.s.backend.NoOne)
		return
	}
	n, ok := resp.ParseInteger(q.args[2])
	if !ok || n < 1 || n > 65535 {
		q.error("ERR Invalid master port")
		return
	}
	if h, p := q.s.backend.Status().HostPort(); strings.EqualFold(h, host) && p == int(n) {
		q.status("OK Already connected to specified master")
		return
	}
	q.order("REPLICAOF "+host+" "+port, func() error { return q.s.backend.ReplicaOf(host, port) })
}

func (q *request) order(order string, give func() error) {
	var err error
	q.waiting(func() { err = give() })
	switch {
	case errors.Is(err, replica.ErrAddress):
		q.error("ERR Invalid master host: " + err.Error())
	case err != nil:
		q.error("ERR " + err.Error())
	default:
		q.s.cfg.Log.Warn("order obeyed", "order", order, "client", q.c.addr(), "client_name", q.c.snapshot().name)
		q.ok()
	}
}

// role is roleCommand of Redis' replication.c.
func role(q *request) {
	st := q.s.backend.Status()
	if st.Frozen {
		q.array(3)
		q.bulk("master")
		q.int(st.Stored)
		q.array(len(st.Replicas))
		for _, r := range st.Replicas {
			q.array(3)
			q.bulk(r.Host)
			q.bulk(strconv.Itoa(r.Port))
			q.bulk(strconv.FormatInt(r.Ack, 10))
		}
		return
	}
	host, port := st.HostPort()
	offset := int64(-1)
	if st.Up() {
		offset = st.Stored
	}
	q.array(5)
	q.bulk("slave")
	q.bulk(host)
	q.int(int64(port))
	q.bulk(roleState(st))
	q.int(offset)
}

func roleState(st status.Status) string {
	switch {
	case !st.Following():
		return "none"
	case st.State == replica.None:
		return "connect"
	case st.State == replica.Connecting:
		return "connecting"
	case st.Phase == replica.Transfer:
		return "sync"
	case st.Phase == replica.Stream:
		return "connected"
	}
	return "handshake"
}

// rebase is BGSAVE and BGREWRITEAOF: a new generation beside the stream. started
// is what Redis answers.
func rebase(started string) handler {
	return func(q *request) {
		if len(q.args) > 2 || len(q.args) == 2 && lower(q.args[1]) != "schedule" {
			q.syntax()
			return
		}
		var err error
		q.waiting(func() { err = q.s.backend.Rebase(strings.ToUpper(q.cmd.name) + " from " + q.c.addr()) })
		if err != nil {
			q.error("ERR " + err.Error())
			return
		}
		q.status(started)
	}
}

func lastSave(q *request) { q.int(newView(q).LastSave()) }

// shutdown is SHUTDOWN, with any of Redis' options: the daemon stores and fsyncs
// everything that it received, and ends. The client is not answered, but cut.
func shutdown(q *request) {
	if len(q.args) == 2 && lower(q.args[1]) == "abort" {
		q.error("ERR No shutdown in progress.")
		return
	}
	for _, a := range q.args[1:] {
		if !slices.Contains([]string{"save", "nosave", "now", "force"}, lower(a)) {
			q.syntax()
			return
		}
	}
	q.s.cfg.Log.Warn("SHUTDOWN", "client", q.c.addr(), "client_name", q.c.snapshot().name)
	q.c.closing = true
	q.s.cfg.Shutdown()
}

// resetStat is CONFIG RESETSTAT.
func resetStat(q *request) {
	q.s.resetStats()
	q.ok()
}
