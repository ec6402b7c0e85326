package respport

import (
	_ "embed"
	"strconv"
	"strings"
)

//go:embed commands.txt
var commandsText string

// handler answers a command. The arguments are good until it returns.
type handler func(q *request)

// command is one of Redis' commands, or a subcommand of one.
type command struct {
	name    string // container|subcommand, in small letters
	arity   int    // with the name; negative: at least
	keys    [3]int // first key, last key, step
	flags   []string
	subs    []*command // of a container
	index   int        // in table.all
	run     handler    // nil if the command is not served
	traits  trait
	refusal string // why it is not served
}

// trait is what processCommand must know of a command.
type trait uint8

const (
	writes         trait = 1 << iota // refused with READONLY
	noAuth                           // needs no password
	notInMulti                       // refused between MULTI and EXEC
	atOnce                           // executed between MULTI and EXEC, not queued
	forSubscribers                   // allowed to a subscriber that speaks RESP2
)

func (c *command) is(t trait) bool { return c.traits&t != 0 }

// fits tells whether a command may have so many arguments, its name included.
func (c *command) fits(n int) bool { return n == c.arity || c.arity < 0 && n >= -c.arity }

// served is what the port has for a command of commands.txt.
type served struct {
	run    handler
	traits trait
}

// handlers are the commands that are served.
func handlers() map[string]served {
	const asSubscriber = notInMulti | forSubscribers
	return map[string]served{
		"ping":   {ping, forSubscribers},
		"echo":   {echo, 0},
		"hello":  {hello, notInMulti},
		"auth":   {auth, 0},
		"select": {selectDB, 0},
		"quit":   {quit, atOnce | forSubscribers},
		"reset":  {reset, atOnce | forSubscribers},
		"time":   {serverTime, 0},

		"client|setname": {clientSetName, 0},
		"client|getname": {clientGetName, 0},
		"client|setinfo": {clientSetInfo, 0},
		"client|id":      {clientID, 0},
		"client|info":    {clientInfo, 0},
		"client|list":    {clientList, 0},
		"client|kill":    {clientKill, 0},

		"command":       {commandAll, 0},
		"command|count": {commandCount, 0},
		"command|info":  {commandInfo, 0},
		"command|docs":  {emptyDict, 0}, // redis-cli shows no hints then

		"config|get":       {configGet, 0},
		"config|rewrite":   {okay, 0}, // an order is durable when it is answered
		"config|resetstat": {resetStat, 0},

		"info":         {info, 0},
		"role":         {role, 0},
		"lastsave":     {lastSave, 0},
		"bgsave":       {rebase("Background saving started"), 0},
		"bgrewriteaof": {rebase("Background append only file rewriting started"), 0},
		"replicaof":    {replicaOf, 0},
		"slaveof":      {replicaOf, 0},
		"shutdown":     {shutdown, 0},

		"multi":   {multi, atOnce},
		"exec":    {exec, atOnce},
		"discard": {discard, atOnce},
		"watch":   {watch, atOnce},
		"unwatch": {okay, 0}, // no key is watched: none ever changes here

		"subscribe":       {subscribe(channel), asSubscriber},
		"psubscribe":      {subscribe(pattern), asSubscriber},
		"unsubscribe":     {unsubscribe(channel), asSubscriber},
		"punsubscribe":    {unsubscribe(pattern), asSubscriber},
		"publish":         {publish, 0},
		"pubsub|channels": {channels, 0},
		"pubsub|numsub":   {subscribers, 0},
		"pubsub|numpat":   {patterns, 0},

		// What exporters and dashboards ask for, and what is nothing here.
		"acl|whoami":        {func(q *request) { q.bulk("default") }, 0},
		"module|list":       {empty, 0},
		"slowlog|get":       {empty, 0},
		"slowlog|len":       {zero, 0},
		"slowlog|reset":     {okay, 0},
		"latency|latest":    {empty, 0},
		"latency|history":   {empty, 0},
		"latency|histogram": {emptyDict, 0},
		"latency|reset":     {zero, 0},
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
		sync    = "replicad has no replicas of its own: follow its master instead"
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
		"pubsub": other, "spublish": other, "ssubscribe": other, "sunsubscribe": other,
		"config|set": "NAME is not offered: replicad reads its settings when it starts",
		"acl":        "replicad has no ACL: its only user is default, whose password is requirepass",
		"save":       "replicad has no dataset in memory to save: everything is on disk already. BGSAVE begins a new generation",
	}
}

// table are the commands that a client may send, served or not.
type table struct {
	all  []*command
	top  []*command // without subcommands
	find map[string]*command
}

func newTable() *table {
	t := &table{find: map[string]*command{}}
	own, refused := handlers(), refusals()
	for line := range strings.Lines(commandsText) {
		f := strings.Fields(line)
		if f[0] == "#" {
			continue
		}
		c := &command{name: f[0], arity: atoi(f[1]), keys: [3]int{atoi(f[2]), atoi(f[3]), atoi(f[4])}, index: len(t.all)}
		if f[5] != "-" {
			c.flags = strings.Split(f[5], ",")
		}
		c.serve(own, refused)
		t.add(c)
	}
	return t
}

// serve says what the port does with a command.
func (c *command) serve(own map[string]served, refused map[string]string) {
	c.run, c.traits = own[c.name].run, own[c.name].traits
	readonly := false
	for _, flag := range c.flags {
		switch flag {
		case "write":
			c.traits |= writes
		case "no_auth":
			c.traits |= noAuth
		case "no_multi":
			c.traits |= notInMulti
		case "readonly":
			readonly = true
		}
	}
	container, _, _ := strings.Cut(c.name, "|")
	text, known := refused[c.name]
	if !known && !readonly {
		text, known = refused[container]
	}
	if !known {
		text = "replicad keeps no dataset in memory and cannot answer '" + c.name + "': read from the master, or restore the archive " +
			"with 'replicad restore' and start redis-server on the result"
	}
	c.refusal = "ERR " + strings.ReplaceAll(text, "NAME", strings.ToUpper(strings.ReplaceAll(c.name, "|", " ")))
}

func (t *table) add(c *command) {
	t.all = append(t.all, c)
	t.find[c.name] = c
	if container, _, sub := strings.Cut(c.name, "|"); sub {
		parent := t.find[container]
		parent.subs = append(parent.subs, c)
		return
	}
	t.top = append(t.top, c)
}

func atoi(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

// maxName is longer than the name of any command.
const maxName = 64

// lookup finds the command that a client sent, and its container: nil, nil if
// there is no such command, and nil and the container for a subcommand that the
// container does not have (lookupCommandLogic in Redis' server.c).
func (t *table) lookup(args [][]byte) (c, container *command) {
	if len(args[0]) > maxName {
		return nil, nil
	}
	c = t.find[lower(args[0])]
	if c == nil || strings.Contains(c.name, "|") {
		return nil, nil
	}
	if len(c.subs) == 0 || len(args) == 1 {
		return c, c
	}
	if len(args[1]) > maxName {
		return nil, c
	}
	return t.find[c.name+"|"+lower(args[1])], c
}

// commandAll is COMMAND.
func commandAll(q *request) {
	top := q.s.commands.top
	q.array(len(top))
	for _, c := range top {
		q.describe(c)
	}
}

// commandInfo is COMMAND INFO [name ...].
func commandInfo(q *request) {
	if len(q.args) == 2 {
		commandAll(q)
		return
	}
	q.array(len(q.args) - 2)
	for _, a := range q.args[2:] {
		q.describe(q.s.commands.find[lower(a)])
	}
}

// describe is an entry of COMMAND (addReplyCommandInfo in Redis' server.c),
// without ACL categories, tips, key specifications and subcommands.
func (q *request) describe(c *command) {
	if c == nil {
		q.null()
		return
	}
	q.array(10)
	q.bulk(c.name)
	q.int(int64(c.arity))
	q.set(len(c.flags))
	for _, f := range c.flags {
		q.status(f)
	}
	for _, n := range c.keys {
		q.int(int64(n))
	}
	q.set(0)
	q.array(0)
	q.set(0)
	q.array(0)
}

func commandCount(q *request) { q.int(int64(len(q.s.commands.top))) }
