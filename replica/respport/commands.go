package respport

import (
	_ "embed"
	"slices"
	"strconv"
	"strings"
)

//go:embed commands.txt
var commandsText string

// handler answers a command. The arguments are good until it returns.
type handler func(q *request)

// command is one of Redis' commands, or a subcommand of one, as commands.txt has
// it.
type command struct {
	name      string // container|subcommand, in small letters
	arity     int    // with the name; negative: at least
	traits    []string
	container bool    // it has subcommands
	run       handler // nil if the command is not served
	refusal   string  // why it is not served
}

// is tells whether a command has a trait that commands.txt explains.
func (c *command) is(trait string) bool { return slices.Contains(c.traits, trait) }

// handlers are the commands that are served.
func handlers() map[string]handler {
	return map[string]handler{
		"ping":   ping,
		"echo":   func(q *request) { q.bytes(q.args[1]) },
		"hello":  hello,
		"auth":   auth,
		"select": selectDB,
		"quit":   quit,
		"reset":  reset,

		"client|setname": clientSetName,
		"client|getname": clientGetName,
		"client|setinfo": clientSetInfo,
		"client|id":      clientID,
		"client|info":    clientInfo,
		"client|list":    clientList,
		"client|kill":    clientKill,

		"command":       empty, // redis-cli shows no hints then
		"command|count": zero,
		"command|info":  empty,
		"command|docs":  emptyDict,

		"config|get":       configGet,
		"config|rewrite":   okay, // an order is durable when it is answered
		"config|resetstat": resetStat,

		"info":         info,
		"role":         role,
		"lastsave":     lastSave,
		"bgsave":       rebase("Background saving started"),
		"bgrewriteaof": rebase("Background append only file rewriting started"),
		"replicaof":    replicaOf,
		"slaveof":      replicaOf,
		"shutdown":     shutdown,

		// With relay yes.
		"replconf": replconf,
		"psync":    psync,
		"sync":     psync,

		"multi":   multi,
		"exec":    exec,
		"discard": discard,
		"watch":   okay, // no key ever changes here
		"unwatch": okay,

		"subscribe":    subscribe(channel),
		"psubscribe":   subscribe(pattern),
		"unsubscribe":  unsubscribe(channel),
		"punsubscribe": unsubscribe(pattern),
		"publish":      publish,

		// What exporters and dashboards ask for, and what is nothing here.
		"acl|whoami":        func(q *request) { q.bulk("default") },
		"module|list":       empty,
		"slowlog|get":       empty,
		"slowlog|len":       zero,
		"slowlog|reset":     okay,
		"latency|latest":    empty,
		"latency|history":   empty,
		"latency|histogram": emptyDict,
		"latency|reset":     zero,
	}
}

func okay(q *request)      { q.ok() }
func zero(q *request)      { q.int(0) }
func empty(q *request)     { q.array(0) }
func emptyDict(q *request) { q.dict(0) }

// refusals say of a command, or of all commands of a container, why replicad
// does not have it. NAME stands for the command.
func refusals() map[string]string {
	const (
		wait    = "NAME cannot be used with replica instances. Send it to the master, which counts replicad among its replicas."
		sync    = "replicad has no replicas of its own: follow its master instead, or start replicad with --relay yes"
		cluster = "This instance has cluster support disabled"
		other   = "NAME is not offered by replicad"
		dataset = "NAME is not offered by replicad, a replica that keeps no dataset in memory"
	)
	return map[string]string{
		"wait": wait, "waitaof": wait,
		"sync": sync, "psync": sync, "replconf": sync,
		"cluster": cluster, "readonly": cluster, "readwrite": cluster, "asking": cluster,
		"debug": dataset, "module": dataset, "failover": dataset, "monitor": dataset,
		"client": other, "config": other, "latency": other, "memory": other, "slowlog": other, "command": other, "commandlog": other,
		"time": other, "pubsub": other, "spublish": other, "ssubscribe": other, "sunsubscribe": other,
		"config|set": "NAME is not offered: replicad reads its settings when it starts",
		"acl":        "replicad has no ACL: its only user is default, whose password is requirepass",
		"save":       "replicad has no dataset in memory to save: everything is on disk already. BGSAVE begins a new generation",
	}
}

// table are the commands that a client may send, served or not, by their names.
type table map[string]*command

func newTable() table {
	t := table{}
	own, refused := handlers(), refusals()
	for line := range strings.Lines(commandsText) {
		f := strings.Fields(line)
		if f[0] == "#" {
			continue
		}
		arity, _ := strconv.Atoi(f[1])
		c := &command{name: f[0], arity: arity, traits: f[2:], run: own[f[0]]}
		c.refusal = c.refuse(refused)
		t[c.name] = c
		if container, _, sub := strings.Cut(c.name, "|"); sub {
			t[container].container = true
		}
	}
	return t
}

// refuse is the error reply for a command that is not served.
func (c *command) refuse(refused map[string]string) string {
	container, _, _ := strings.Cut(c.name, "|")
	text, known := refused[c.name]
	if !known && !c.is("readonly") {
		text, known = refused[container]
	}
	if !known {
		text = "replicad keeps no dataset in memory and cannot answer '" + c.name + "': read from the master, or restore the archive " +
			"with 'replicad restore' and start redis-server on the result"
	}
	return "ERR " + strings.ReplaceAll(text, "NAME", strings.ToUpper(strings.ReplaceAll(c.name, "|", " ")))
}

// maxName is longer than the name of any command.
const maxName = 64

// lookup finds the command that a client sent, and its container: nil, nil if
// there is no such command, and nil and the container for a subcommand that the
// container does not have (lookupCommandLogic in Redis' server.c).
func (t table) lookup(args [][]byte) (c, container *command) {
	if len(args[0]) > maxName {
		return nil, nil
	}
	c = t[lower(args[0])]
	if c == nil || strings.Contains(c.name, "|") {
		return nil, nil
	}
	if !c.container || len(args) == 1 {
		return c, c
	}
	if len(args[1]) > maxName {
		return nil, c
	}
	return t[c.name+"|"+lower(args[1])], c
}
