package respport

import (
	"strings"
)

// commandInfo is one entry of COMMAND and COMMAND INFO (addReplyCommandInfo).
func (q *request) commandInfo(c *command) {
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
	q.int(int64(c.first))
	q.int(int64(c.last))
	q.int(int64(c.step))
	q.set(len(c.acl))
	for _, a := range c.acl {
		q.status(a)
	}
	q.array(0) // tips
	q.set(0)   // key specifications: no key is ever found here
	q.array(len(c.subs))
	for _, sub := range c.subs {
		q.commandInfo(sub)
	}
}

func commandAll(q *request) {
	top := q.s.commands.top
	q.array(len(top))
	for _, c := range top {
		q.commandInfo(c)
	}
}

func commandInfo(q *request) {
	if len(q.args) == 2 {
		commandAll(q)
		return
	}
	q.array(len(q.args) - 2)
	for _, a := range q.args[2:] {
		q.commandInfo(q.s.commands.find[strings.ToLower(printableName(a))])
	}
}

func commandCount(q *request) { q.int(int64(len(q.s.commands.top))) }

// commandList is COMMAND LIST [FILTERBY MODULE|ACLCAT|PATTERN value].
func commandList(q *request) {
	keep := func(*command) bool { return true }
	switch {
	case len(q.args) == 2:
	case len(q.args) == 5 && lower(q.args[2]) == "filterby":
		value := lower(q.args[4])
		switch lower(q.args[3]) {
		case "module":
			keep = func(*command) bool { return false }
		case "aclcat":
			keep = func(c *command) bool {
				for _, a := range c.acl {
					if a == "@"+value {
						return true
					}
				}
				return false
			}
		case "pattern":
			keep = func(c *command) bool { return glob(value, c.name) }
		default:
			q.syntax()
			return
		}
	default:
		q.syntax()
		return
	}
	var names []string
	for _, c := range q.s.commands.all {
		if keep(c) {
			names = append(names, c.name)
		}
	}
	q.strings(names)
}

// commandDocs tells of what is served: that is what redis-cli has hints for.
func commandDocs(q *request) {
	var all []*command
	if len(q.args) == 2 {
		for _, c := range q.s.commands.top {
			if c.documented() {
				all = append(all, c)
			}
		}
	}
	for _, a := range q.args[2:] {
		if c := q.s.commands.find[strings.ToLower(printableName(a))]; c != nil && c.documented() {
			all = append(all, c)
		}
	}
	q.dict(len(all))
	for _, c := range all {
		q.bulk(c.name)
		q.docs(c)
	}
}

// documented says whether a command, or a subcommand of it, is served.
func (c *command) documented() bool { return c.served != nil || len(c.servedSubs()) > 0 }

func (c *command) servedSubs() []*command {
	var all []*command
	for _, sub := range c.subs {
		if sub.served != nil {
			all = append(all, sub)
		}
	}
	return all
}

func (q *request) docs(c *command) {
	d := c.served
	subs := c.servedSubs()
	if d == nil {
		d = &served{group: subs[0].served.group, since: subs[0].served.since, summary: "A container for " + c.name + " commands"}
	}
	n := 3
	if len(d.args) > 0 {
		n++
	}
	if len(subs) > 0 {
		n++
	}
	q.dict(n)
	for _, pair := range [][2]string{{"summary", d.summary}, {"since", d.since}, {"group", d.group}} {
		q.bulk(pair[0])
		q.bulk(pair[1])
	}
	if len(d.args) > 0 {
		q.bulk("arguments")
		q.array(len(d.args))
		for _, a := range d.args {
			q.argument(a)
		}
	}
	if len(subs) > 0 {
		q.bulk("subcommands")
		q.dict(len(subs))
		for _, sub := range subs {
			q.bulk(sub.name)
			q.docs(sub)
		}
	}
}

func (q *request) argument(a argSpec) {
	var flags []string
	if a.optional {
		flags = append(flags, "optional")
	}
	if a.many {
		flags = append(flags, "multiple")
	}
	n := 2
	if a.token != "" {
		n++
	}
	if len(flags) > 0 {
		n++
	}
	q.dict(n)
	q.bulk("name")
	q.bulk(a.name)
	q.bulk("type")
	q.bulk(a.kind)
	if a.token != "" {
		q.bulk("token")
		q.bulk(a.token)
	}
	if len(flags) > 0 {
		q.bulk("flags")
		q.set(len(flags))
		for _, f := range flags {
			q.status(f)
		}
	}
}

// commandGetKeys finds no keys: there is no command here that has any.
func commandGetKeys(q *request) {
	c, _ := q.s.commands.lookup(q.args[2:])
	switch {
	case c == nil:
		q.error("ERR Invalid command specified")
	case !c.fits(len(q.args) - 2):
		q.error("ERR Invalid number of arguments specified for command")
	case c.first == 0:
		q.error("ERR The command has no key arguments")
	default:
		q.error("ERR COMMAND GETKEYS is not offered by replicad, which has no keys")
	}
}
