package server

import (
	_ "embed"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// command is one that replicad serves.
type command struct {
	name            string
	arity           int  // with the name; negative: at least so many (COMMAND INFO)
	open            bool // before AUTH, too
	now             bool // inside MULTI it is not queued
	notInMulti      bool
	whileSubscribed bool // in RESP2
	container       bool
	subcommands     []string
	group, summary  string
	do              func(c *client, args [][]byte)
}

func (c *command) takes(n int) bool { return takes(c.arity, n) }

func takes(arity, n int) bool {
	if arity < 0 {
		return n >= -arity
	}
	return n == arity
}

func (c *command) has(sub string) bool {
	return slices.Contains(c.subcommands, strings.ToLower(sub))
}

// known is a command as Redis has it, served here or not.
type known struct {
	arity             int
	first, last, step int // of its keys
	flags             []string
}

func (k known) takes(n int) bool { return takes(k.arity, n) }

//go:embed commands.txt
var commandsText string

// knownCommands reads the table of Redis' commands.
func knownCommands() map[string]known {
	all := map[string]known{}
	for line := range strings.Lines(commandsText) {
		f := strings.Fields(line)
		if strings.HasPrefix(line, "#") || len(f) != 6 {
			continue
		}
		var n [4]int
		for i := range n {
			n[i], _ = strconv.Atoi(f[i+1])
		}
		k := known{arity: n[0], first: n[1], last: n[2], step: n[3]}
		if f[5] != "-" {
			k.flags = strings.Split(f[5], ",")
		}
		all[f[0]] = k
	}
	return all
}

// table is what replicad serves.
func (s *Server) table() map[string]*command {
	subs := func(names string) []string { return strings.Fields(names) }
	all := []*command{
		{name: "ping", arity: -1, whileSubscribed: true, group: "connection", summary: "Returns PONG, or the argument.", do: ping},
		{name: "echo", arity: 2, group: "connection", summary: "Returns the argument.", do: echo},
		{name: "quit", arity: -1, open: true, now: true, whileSubscribed: true, group: "connection", summary: "Closes the connection.", do: quit},
		{name: "reset", arity: 1, open: true, now: true, whileSubscribed: true, group: "connection", summary: "Makes the connection as good as new.", do: reset},
		{name: "hello", arity: -1, open: true, notInMulti: true, group: "connection", summary: "Chooses RESP2 or RESP3, and logs in.", do: hello},
		{name: "auth", arity: -2, open: true, notInMulti: true, group: "connection", summary: "Logs in.", do: auth},
		{name: "select", arity: 2, group: "connection", summary: "Selects a database; none holds a key.", do: selectDB},
		{name: "client", arity: -2, container: true, subcommands: subs("setname getname id setinfo info list kill no-evict no-touch reply help"), group: "connection", summary: "Tells of clients, and closes them.", do: clientCommand},
		{name: "command", arity: -1, container: true, subcommands: subs("count docs info list help"), group: "server", summary: "Tells of commands.", do: commandCommand},
		{name: "config", arity: -2, container: true, subcommands: subs("get set rewrite resetstat help"), group: "server", summary: "Tells the settings.", do: configCommand},
		{name: "info", arity: -1, group: "server", summary: "Tells how replicad stands, in Redis' words.", do: info},
		{name: "role", arity: 1, group: "server", summary: "Tells the replica's master, state and offset.", do: role},
		{name: "lastsave", arity: 1, group: "server", summary: "When the newest generation's base was taken.", do: lastSave},
		{name: "bgsave", arity: -1, group: "server", summary: "Begins a rebase: a new full sync beside the running link.", do: bgSave},
		{name: "bgrewriteaof", arity: 1, group: "server", summary: "Begins a rebase, as BGSAVE.", do: bgSave},
		{name: "replicaof", arity: 3, group: "server", summary: "Follows another master, or none.", do: replicaOf},
		{name: "slaveof", arity: 3, group: "server", summary: "As REPLICAOF.", do: replicaOf},
		{name: "time", arity: 1, group: "server", summary: "Returns the time.", do: timeCommand},
		{name: "shutdown", arity: -1, notInMulti: true, group: "server", summary: "Ends replicad when all is stored and fsynced.", do: shutdown},
		{name: "multi", arity: 1, now: true, notInMulti: false, group: "transactions", summary: "Begins a transaction.", do: multi},
		{name: "exec", arity: 1, now: true, group: "transactions", summary: "Executes it.", do: exec},
		{name: "discard", arity: 1, now: true, group: "transactions", summary: "Forgets it.", do: discard},
		{name: "watch", arity: -2, now: true, group: "transactions", summary: "Does nothing: no key changes here.", do: watch},
		{name: "unwatch", arity: 1, group: "transactions", summary: "Does nothing.", do: okay},
		{name: "subscribe", arity: -2, whileSubscribed: true, notInMulti: true, group: "pubsub", summary: "Listens to channels.", do: subscribe},
		{name: "psubscribe", arity: -2, whileSubscribed: true, notInMulti: true, group: "pubsub", summary: "Listens to channels by patterns.", do: subscribe},
		{name: "unsubscribe", arity: -1, whileSubscribed: true, notInMulti: true, group: "pubsub", summary: "Listens no more.", do: unsubscribe},
		{name: "punsubscribe", arity: -1, whileSubscribed: true, notInMulti: true, group: "pubsub", summary: "Listens no more.", do: unsubscribe},
		{name: "publish", arity: 3, group: "pubsub", summary: "Posts a message to this port's subscribers.", do: publish},
		{name: "pubsub", arity: -2, container: true, subcommands: subs("channels numsub numpat help"), group: "pubsub", summary: "Tells of subscriptions.", do: pubsubCommand},
		{name: "slowlog", arity: -2, container: true, subcommands: subs("get len reset help"), group: "server", summary: "Is empty: no command is slow here.", do: slowlog},
		{name: "latency", arity: -2, container: true, subcommands: subs("latest history histogram reset help"), group: "server", summary: "Is empty.", do: latency},
		{name: "module", arity: -2, container: true, subcommands: subs("list help"), group: "server", summary: "Lists no modules.", do: module},
		{name: "acl", arity: -2, container: true, subcommands: subs("whoami users help"), group: "server", summary: "Tells who is logged in.", do: acl},
		refusing("wait", -3, "ERR WAIT cannot be used with replica instances."),
		refusing("waitaof", 4, "ERR WAITAOF cannot be used with replica instances."),
		refusing("save", 1, "ERR replicad saves all the time: BGSAVE begins a rebase"),
		refusing("psync", -3, noReplicas),
		refusing("sync", 1, noReplicas),
		refusing("replconf", -1, noReplicas),
		refusing("failover", -1, "ERR FAILOVER is for masters, and replicad is a replica that is never promoted"),
		refusing("monitor", 1, "ERR MONITOR is not offered: what happens is in the log"),
		refusing("cluster", -2, noCluster),
		refusing("readonly", 1, noCluster),
		refusing("readwrite", 1, noCluster),
		refusing("asking", 1, noCluster),
	}
	table := map[string]*command{}
	for _, c := range all {
		table[c.name] = c
	}
	return table
}

const (
	noReplicas = "ERR replicad has no replicas of its own: point them at its master"
	noCluster  = "ERR This instance has cluster support disabled"
)

// refusing is a command that has an answer of its own, which is an error.
func refusing(name string, arity int, text string) *command {
	return &command{name: name, arity: arity, group: "server", summary: "Is refused.", do: func(c *client, _ [][]byte) { c.reply.err(text) }}
}

func sortedNames[T any](m map[string]T) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}
