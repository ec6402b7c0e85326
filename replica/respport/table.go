package respport

import (
	_ "embed"
	"strconv"
	"strings"
)

//go:embed commands.txt
var commandsText string

// command is one of Redis' commands, or a subcommand of one.
type command struct {
	name     string // container|subcommand, in small letters
	arity    int    // with the name; negative: at least
	first    int
	last     int
	step     int
	flags    []string
	acl      []string
	subs     []*command // of a container
	index    int        // in table.all
	served   *served    // nil where it is not
	writes   bool
	noAuth   bool
	noMulti  bool
	readonly bool
}

// served is what the port has for a command.
type served struct {
	run     handler
	group   string
	since   string
	summary string
	// args are shown by redis-cli behind what is typed.
	args []argSpec
}

// argSpec is an argument, as COMMAND DOCS tells of it.
type argSpec struct {
	name, kind, token string
	optional, many    bool
}

// table are the commands that a client may send, served or not.
type table struct {
	all  []*command
	top  []*command // without subcommands
	find map[string]*command
}

func newTable() *table {
	t := &table{find: map[string]*command{}}
	own := handlers()
	for line := range strings.Lines(commandsText) {
		if f := strings.Fields(line); len(f) == 7 && f[0] != "#" {
			t.add(f, own)
		}
	}
	return t
}

func (t *table) add(f []string, own map[string]*served) {
	c := &command{name: f[0], arity: atoi(f[1]), first: atoi(f[2]), last: atoi(f[3]), step: atoi(f[4]), flags: list(f[5]), acl: list(f[6])}
	c.served, c.index = own[c.name], len(t.all)
	for _, flag := range c.flags {
		switch flag {
		case "write":
			c.writes = true
		case "readonly":
			c.readonly = true
		case "no_auth":
			c.noAuth = true
		case "no_multi":
			c.noMulti = true
		}
	}
	t.all = append(t.all, c)
	t.find[c.name] = c
	container, _, sub := strings.Cut(c.name, "|")
	if !sub {
		t.top = append(t.top, c)
		return
	}
	parent := t.find[container]
	parent.subs = append(parent.subs, c)
}

func atoi(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

func list(s string) []string {
	if s == "-" {
		return nil
	}
	return strings.Split(s, ",")
}

// lookup finds what a client asks for, and the container of it: nil, nil where
// there is no such command, and nil and the container for a subcommand that it
// does not have (server.c, lookupCommandLogic).
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

// maxName is longer than any name.
const maxName = 64

// fits says whether a command may have so many arguments, its name among them.
func (c *command) fits(n int) bool { return n == c.arity || c.arity < 0 && n >= -c.arity }
