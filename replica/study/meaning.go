package study

import (
	"fmt"
	"strconv"
	"strings"
)

// meaning is what a command or a reply means.
type meaning struct {
	title  string
	text   string
	key    Key
	detail string                            // of a reply's text or error code
	names  func(arg int) (name, text string) // of a command's arguments; nil for the plain ones
}

func (m meaning) argument(i int) (name, text string) {
	if m.names != nil {
		if name, text = m.names(i); name != "" {
			return name, text
		}
	}
	if i == 0 {
		return "command", "the command's name; upper and lower case are the same"
	}
	return "argument", "argument " + strconv.Itoa(i)
}

// names makes the explanation of arguments from pairs of name and text.
func names(pairs ...string) func(int) (string, string) {
	return func(i int) (string, string) {
		if 2*i+1 < len(pairs) {
			return pairs[2*i], pairs[2*i+1]
		}
		return "", ""
	}
}

func upper(args [][]byte, i int) string {
	if i < len(args) {
		return strings.ToUpper(string(args[i]))
	}
	return ""
}

func isAck(args [][]byte) bool { return upper(args, 0) == "REPLCONF" && upper(args, 1) == "ACK" }

func argument(args [][]byte, i int) string {
	if i < len(args) {
		return string(args[i])
	}
	return ""
}

// words writes a command for a title, cut where it is long.
func words(args [][]byte) string {
	var all []string
	for i, a := range args {
		if i == 5 && len(args) > 6 {
			all = append(all, fmt.Sprintf("and %d more", len(args)-i))
			break
		}
		s := escape(a[:min(len(a), 48)])
		if len(a) > 48 {
			s += "..."
		}
		if s == "" {
			s = `""`
		}
		all = append(all, s)
	}
	return strings.Join(all, " ")
}

// meaningOfSent is what a command of the replica says.
func meaningOfSent(args [][]byte) meaning {
	m := meaning{title: words(args), key: keyNone, text: "A command that this replica does not send in a handshake."}
	switch upper(args, 0) {
	case "PING":
		m.key = keyPing
		m.text = "Is that a Redis, and does it answer? The answer also tells whether a password is needed."
		m.names = names("command", "any server answers it, before the handshake proper")
	case "AUTH":
		m.key = keyAuth
		m.text = "The password (masterauth), with masteruser as that user's. What stands here is masked."
		m.names = names("command", "authenticates the connection")
		if len(args) == 3 {
			m.names = names("command", "authenticates the connection", "user", "masteruser, an ACL user (Redis 6.0 and later)", "password", "masked: as many stars as it has bytes")
		} else {
			m.names = names("command", "authenticates the connection as the default user", "password", "masked: as many stars as it has bytes")
		}
	case "PSYNC":
		m.psync(args)
	case "SYNC":
		m.key, m.text = keySync, "A full sync in the old form, without replication id and offset: the payload follows at once, and no partial resync is ever possible."
		m.names = names("command", "all that masters before 2.8 know")
	case "REPLCONF":
		m.replconf(args)
	}
	if m.title == "" {
		m.title = "the beginning of a command"
	}
	return m
}

func (m *meaning) psync(args [][]byte) {
	m.key = keyPsync
	id, offset := argument(args, 1), argument(args, 2)
	if id == "?" {
		m.text = "Nothing is here to go on with: a full sync, please, with its replication id and offset."
		m.names = names("command", "asks for the replication stream", "replication id", "? asks for whatever history the master has", "offset", "-1 goes with the ?")
		return
	}
	m.text = fmt.Sprintf("Please go on with this history at offset %s, the first byte that is not here.", offset)
	m.names = names("command", "asks for the replication stream", "replication id", "of the history that is held here", "offset", "of the next byte wanted: the last one held, plus 1")
}

func (m *meaning) replconf(args [][]byte) {
	option := strings.ToLower(argument(args, 1))
	value := argument(args, 2)
	const command = "tells the master something about its replica"
	switch option {
	case "listening-port":
		m.key, m.text = keyPort, "The port on which this replica serves clients; INFO and ROLE on the master show it, and Sentinel goes there."
		if value == "0" {
			m.text = "This replica serves no clients: its port is 0. INFO and ROLE on the master show it."
		}
		m.names = names("command", command, "option", "the port that this replica listens on", "port", "0 means none")
	case "ip-address":
		m.key, m.text = keyIP, "The address that the master shows for this replica (replica-announce-ip), where it is not the one that the connection comes from."
		m.names = names("command", command, "option", "the address of this replica", "address", "replica-announce-ip")
	case "capa":
		m.key, m.text = keyCapa, "What this replica can take: eof, a payload whose length is not known before; psync2, +CONTINUE with a new replication id."
		m.names = func(i int) (string, string) {
			switch {
			case i == 0:
				return "command", command
			case i%2 == 1:
				return "option", "one capability follows"
			}
			switch argument(args, i) {
			case "eof":
				return "capability", "takes $EOF:<mark> before a payload: diskless sync"
			case "psync2":
				return "capability", "takes +CONTINUE <new id>: the history goes on after a failover"
			}
			return "capability", "a capability that masters which don't know it pass over"
		}
	case "version":
		m.key, m.text = keyVersion, "Which version this replica speaks for; a Valkey master chooses by it what it may send."
		if value == "255.255.255" {
			m.text = "Valkey masters choose by it what a replica can take. 255.255.255 is what unreleased builds say: it stands above all, as this replica stores any payload as it comes."
		}
		m.names = names("command", command, "option", "the version of the replica", "version", "three numbers")
	case "ack":
		m.ack(args, value)
	}
}

func (m *meaning) ack(args [][]byte, offset string) {
	m.key = keyAck
	m.text = fmt.Sprintf("Everything up to offset %s is here. Never answered; it comes each second, after a payload, and on GETACK. WAIT counts it.", offset)
	m.names = func(i int) (string, string) {
		switch i {
		case 0:
			return "command", "tells the master something about its replica"
		case 1:
			return "option", "acknowledges; has no answer, ever"
		case 2:
			return "offset", "the last byte of the stream that is stored"
		case 3:
			return "option", "and how far it is fsynced (Redis 7.2 and later; others pass it over)"
		}
		return "offset", "the last byte that is fsynced: WAITAOF counts it"
	}
	if upper(args, 3) == "FACK" {
		m.key = keyFack
		m.text = fmt.Sprintf("Everything up to offset %s is here, and up to %s it is fsynced. Never answered; it comes each second, after a payload, and on GETACK. WAIT counts the one, WAITAOF the other.", offset, argument(args, 4))
	}
}

// errorMeanings say what an error of a master means; the first that fits counts.
func errorMeanings() [][2]string {
	return [][2]string{
		{"NOAUTH", "a password is needed (requirepass, or an ACL user)"},
		{"WRONGPASS", "wrong user or password"},
		{"NOPERM", "the ACL user may not use this command"},
		{"NOMASTERLINK", "the master is itself a replica, and has lost its own master"},
		{"MASTERDOWN", "the master is itself a replica without its master, and serves no stale data"},
		{"LOADING", "the master still reads its dataset"},
		{"DENIED", "protected mode: no password is set, and the connection is not from its own host"},
		{"MISCONF", "the master's disk refuses to save"},
		{"ERR max number of clients", "maxclients is reached"},
		{"ERR operation not permitted", "a password is needed; so old servers say it"},
		{"ERR unknown command", "the server does not know this command, or it is renamed"},
		{"ERR Unrecognized REPLCONF", "the server is older than this option"},
	}
}

// meaningOfReply is what a line in answer to a command says.
func meaningOfReply(text string, asked [][]byte) meaning {
	m := meaning{title: text, key: keyReply, text: "An answer that no master gives here."}
	if len(text) > 60 {
		m.title = text[:60] + "..."
	}
	m.title = escape([]byte(m.title))
	name := upper(asked, 0)
	if name == "REPLCONF" {
		name += " " + argument(asked, 1)
	}
	if name == "" {
		name = "nothing that was asked"
	}
	switch text[0] {
	case '+':
		m.text, m.detail = "The answer to "+name+": accepted.", "accepted"
		if name == "PING" {
			m.key, m.text, m.detail = keyPong, "The master is there, and lets this connection speak.", "the answer to PING"
		}
	case '-':
		m.detail = "an error that has no special meaning here"
		for _, e := range errorMeanings() {
			if strings.HasPrefix(text[1:], e[0]) {
				m.detail = e[1]
				break
			}
		}
		m.text = "The answer to " + name + ": " + m.detail + "."
		m.consequence(text, name)
	default:
		m.detail = "no reply of the Redis protocol begins so"
	}
	return m
}

// consequence says what the replica makes of an error.
func (m *meaning) consequence(text, name string) {
	switch {
	case name == "PING":
		m.key = keyPong
		for _, ok := range []string{"-NOAUTH", "-NOPERM", "-ERR operation not permitted"} {
			if strings.HasPrefix(text, ok) {
				m.text += " The handshake goes on: AUTH comes next."
				return
			}
		}
		m.text += " The handshake ends here."
	case strings.HasPrefix(name, "REPLCONF"):
		m.text += " That is not critical, and is passed over."
	case name == "PSYNC" && strings.HasPrefix(text, "-ERR unknown command"):
		m.text += " The replica falls back to SYNC."
	default:
		m.text += " The handshake ends here."
	}
}

// meaningOfStream is what a command of the stream says. at is its first byte's
// offset; multi whether a transaction is open.
func meaningOfStream(args [][]byte, at int64, known bool, multi *bool) meaning {
	m := meaning{title: words(args), key: keyStream, text: "A write, as the master has carried it out. It is not executed here: its bytes are stored as they are."}
	if *multi {
		m.text = "A write inside the transaction."
	}
	switch upper(args, 0) {
	case "":
		m.title, m.text = "the beginning of a command", "The rest of it has not come."
	case "PING":
		m.key, m.text = keyStreamPing, "The master lives (repl-ping-replica-period, 10 s). No answer; its bytes count."
	case "SELECT":
		m.key, m.text = keySelect, "What follows is for database "+argument(args, 1)+". It comes before the first write, and where the database changes."
		m.names = names("command", "selects a database", "database", "its number")
	case "MULTI":
		*multi = true
		m.text = "A transaction begins. The stream may not be cut before its EXEC: a server refuses an AOF that ends inside."
	case "EXEC":
		*multi = false
		m.text = "The transaction ends, and is carried out as a whole."
	case "PUBLISH", "SPUBLISH":
		m.text = "A message for subscribers of replicas. It changes no key, but its bytes count."
	case "REPLCONF":
		if upper(args, 1) == "GETACK" {
			m.key = keyGetAck
			m.text = "The master asks for an ACK at once: a client waits in WAIT. Redis answers the offset before this command."
			if known {
				m.text = fmt.Sprintf("The master asks for an ACK at once: a client waits in WAIT. The answer names the offset before this command, %d; its own bytes count once they are passed.", at-1)
			}
			m.names = names("command", "the only command of the stream that is answered", "option", "please acknowledge", "argument", "always *")
		}
	}
	return m
}
