package respport

import (
	"errors"
	"strconv"
	"strings"

	"replicad/replica"
)

// replicaOf is REPLICAOF and SLAVEOF (replication.c, replicaofCommand).
func replicaOf(q *request) {
	if !q.exec { // EXEC holds them
		q.waiting(q.s.orders.Lock)
		defer q.s.orders.Unlock()
	}
	defer q.s.state.forget()
	host, port := string(q.args[1]), string(q.args[2])
	if strings.EqualFold(host, "no") && strings.EqualFold(port, "one") {
		q.order("REPLICAOF NO ONE", q.s.backend.NoOne)
		return
	}
	n, ok := integer(q.args[2])
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
	if q.waiting(func() { err = give() }); err != nil {
		text := "ERR " + err.Error()
		if errors.Is(err, replica.ErrAddress) {
			text = "ERR Invalid master host: " + err.Error()
		}
		q.error(text)
		return
	}
	q.s.cfg.Log.Warn("order obeyed", "order", order, "client", q.c.RemoteAddr().String(), "client_name", q.c.snapshot().name)
	q.ok()
}

// role is roleCommand of replication.c.
func role(q *request) {
	st := q.s.state.get()
	host, port := st.HostPort()
	offset := int64(-1)
	if st.Up() {
		offset = st.Stored
	}
	q.array(5)
	q.bulk("slave")
	q.bulk(host)
	q.int(int64(port))
	q.bulk(roleState(st.Following(), st.State, st.Phase))
	q.int(offset)
}

func roleState(following bool, s replica.State, p replica.Phase) string {
	switch {
	case !following:
		return "none"
	case s == replica.None:
		return "connect"
	case s == replica.Connecting:
		return "connecting"
	case p == replica.Transfer:
		return "sync"
	case p == replica.Stream:
		return "connected"
	}
	return "handshake"
}

// rebase is BGSAVE and BGREWRITEAOF: a new generation beside the stream. started
// is what Redis answers.
func rebase(started string) handler {
	return func(q *request) {
		if len(q.args) > 2 || len(q.args) == 2 && !strings.EqualFold(string(q.args[1]), "schedule") {
			q.syntax()
			return
		}
		var err error
		q.waiting(func() { err = q.s.backend.Rebase(strings.ToUpper(q.cmd.name) + " from " + q.c.RemoteAddr().String()) })
		if err != nil {
			q.error("ERR " + err.Error())
			return
		}
		q.s.state.forget()
		q.status(started)
	}
}

func lastSave(q *request) {
	f := fields{q: q}
	q.int(f.lastSave())
}

// shutdown is SHUTDOWN: all that was received is stored and fsynced before the
// daemon ends, whatever was asked. Who asked is not answered, but cut.
func shutdown(q *request) {
	abort := false
	for _, a := range q.args[1:] {
		switch lower(a) {
		case "save", "nosave", "now", "force":
		case "abort":
			abort = true
		default:
			q.syntax()
			return
		}
	}
	switch {
	case abort && len(q.args) > 2:
		q.syntax()
		return
	case abort:
		q.error("ERR No shutdown in progress.")
		return
	}
	q.s.cfg.Log.Warn("SHUTDOWN", "client", q.c.RemoteAddr().String(), "client_name", q.c.snapshot().name)
	q.c.closing = true
	q.s.cfg.Shutdown()
}

// slowlogGet has nothing to tell: no command here is slow.
func empty(q *request) { q.array(0) }

func emptyDict(q *request) { q.dict(0) }

func text(s string) handler { return func(q *request) { q.text(s) } }

// help lists what a container has.
func help(q *request) {
	container, _, _ := strings.Cut(q.cmd.name, "|")
	c := q.s.commands.find[container]
	lines := []string{strings.ToUpper(container) + " <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"}
	for _, sub := range c.subs {
		if sub.served != nil {
			_, name, _ := strings.Cut(sub.name, "|")
			lines = append(lines, strings.ToUpper(name), "    "+sub.served.summary+".")
		}
	}
	q.array(len(lines))
	for _, l := range lines {
		q.status(l)
	}
}

func resetStat(q *request) {
	q.s.stats.reset()
	q.ok()
}

func number(n int64) string { return strconv.FormatInt(n, 10) }
