package minimaster

import (
	"fmt"
	"net"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/redcon"
)

// Version is the version of Redis this master behaves like and says it is.
const Version = "7.0.15"

// Client is one client of the master: its database, its transaction, its place in the stream. Those who connect
// by network have one each; NewClient makes one in this process. Its fields belong to the holder of Master.mu.
type Client struct {
	m      *Master
	id     int64
	name   string
	db     int
	authed bool
	hand   handshake // what REPLCONF told
	woff   int64     // offset after its last write: what WAIT waits for

	multi bool
	dirty bool // a command was refused while queuing: EXEC will refuse them all
	queue [][]string

	watch        *peer // knows the versions of the keys WATCHed; nil for none
	watchFlushes int64
}

// NewClient makes a client in this process. It needs no AUTH.
func (m *Master) NewClient() *Client {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clientID++
	return &Client{m: m, id: m.clientID, authed: true}
}

// Do executes a command and returns the reply as nil, string, int64 or []any, or as an Error. What it writes
// goes to the replicas. PSYNC, SYNC and QUIT need a connection and are refused.
func (c *Client) Do(args ...string) (any, error) {
	if len(args) == 0 {
		return nil, Error("ERR empty command")
	}
	switch strings.ToUpper(args[0]) {
	case "PSYNC", "SYNC", "QUIT":
		return nil, Error("ERR " + args[0] + " needs a connection")
	}
	return parseReply(c.m.process(c, args))
}

// Do executes a command in a client that all callers of Do share: see Client.Do. It begins in database 0.
func (m *Master) Do(args ...string) (any, error) { return m.local.Do(args...) }

func stringArgs(cmd redcon.Command) []string {
	args := make([]string, len(cmd.Args))
	for i, a := range cmd.Args {
		args[i] = string(a)
	}
	return args
}

// step names what a replica does with this command, as the keys of Faults.Replies do; false when no replica sends it
// before it is one.
func step(args []string) (string, bool) {
	switch name := strings.ToUpper(args[0]); name {
	case "PING", "AUTH", "PSYNC", "SYNC":
		return name, true
	case "REPLCONF":
		if len(args) > 1 {
			name += " " + strings.ToLower(args[1])
		}
		return name, true
	}
	return "", false
}

// handle is what redcon calls for each command, on the connection's own goroutine.
func (m *Master) handle(conn redcon.Conn, cmd redcon.Command) {
	k := conn.NetConn().(*link)
	c, ok := conn.Context().(*Client)
	if !ok {
		c = m.NewClient()
		c.authed = m.cfg.RequirePass == ""
		conn.SetContext(c)
	}
	args := stringArgs(cmd)
	name, ok := step(args)
	if !ok {
		k.client.Store(true)
	}
	if !k.client.Load() {
		f := m.faults.Load()
		if f.Delay > 0 {
			_ = redcon.BaseWriter(conn).Flush() // an error shows again at the next
			select {
			case <-time.After(f.Delay):
			case <-m.done:
			}
		}
		if raw, ok := f.Replies[name]; ok {
			conn.WriteRaw([]byte(raw))
			return
		}
	}
	switch strings.ToUpper(args[0]) {
	case "PSYNC", "SYNC":
		m.sync(conn, k, c, args)
	case "QUIT":
		conn.WriteRaw(replyOK)
		conn.Close()
	default:
		conn.WriteRaw(m.process(c, args))
	}
}

// sync is PSYNC and SYNC (replication.c, syncCommand): here a connection becomes a replica.
func (m *Master) sync(conn redcon.Conn, k *link, c *Client, args []string) {
	offset, refusal := m.maySync(c, args)
	if refusal != nil {
		conn.WriteRaw(refusal)
		return
	}
	// From here on the connection is ours, not redcon's. What was answered before PSYNC is still in the buffer.
	detached := conn.Detach()
	if err := detached.Flush(); err != nil {
		k.Close()
		return
	}
	psync := strings.EqualFold(args[0], "PSYNC")
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		k.Close()
		return
	}
	var missing []byte
	partial := false
	if psync {
		missing, partial = m.tryPartialSync(args[1], offset)
		if !partial && args[1] != "?" {
			m.stats.SyncPartialErr++
		}
	}
	m.log.Info("replica arrived", "addr", k.RemoteAddr().String(), "asked", strings.Join(args, " "), "partial", partial)
	m.adopt(detached, k, c.hand, missing, partial, psync)
}

// maySync checks a PSYNC or SYNC before anything is done for it, and reads the offset asked for.
func (m *Master) maySync(c *Client, args []string) (offset int64, refusal []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	want := 1
	if strings.EqualFold(args[0], "PSYNC") {
		want = 3
	}
	switch {
	case !c.authed:
		return 0, errorReply("NOAUTH Authentication required.")
	case len(args) != want:
		return 0, wrongArity(args[0])
	case c.multi:
		c.dirty = true
		return 0, errorReply("ERR %s inside MULTI is not allowed", strings.ToUpper(args[0]))
	}
	if want == 3 {
		var ok bool
		if offset, ok = parseInt(args[2]); !ok {
			return 0, errorReply(msgNotInt)
		}
	}
	return offset, nil
}

// process executes one command for a client and returns the reply.
func (m *Master) process(c *Client, args []string) []byte {
	name := strings.ToUpper(args[0])
	m.mu.Lock()
	if (name == "WAIT" || name == "WAITAOF") && c.authed && !c.multi {
		target := c.woff
		m.mu.Unlock()
		return m.waitCommand(name, target, args, true)
	}
	defer m.mu.Unlock()
	m.expire()
	return m.dispatch(c, name, args)
}

// dispatch is processCommand (server.c): who may, and whether now or at EXEC. The caller holds mu.
func (m *Master) dispatch(c *Client, name string, args []string) []byte {
	switch {
	case name == "AUTH":
		return m.auth(c, args)
	case name == "HELLO":
		return m.hello(c, args)
	case !c.authed:
		return errorReply("NOAUTH Authentication required.")
	}
	switch name {
	case "MULTI":
		if c.multi {
			return errorReply("ERR MULTI calls can not be nested")
		}
		c.multi, c.dirty, c.queue = true, false, nil
		return replyOK
	case "EXEC":
		return m.exec(c)
	case "DISCARD":
		if !c.multi {
			return errorReply("ERR DISCARD without MULTI")
		}
		c.multi, c.queue, c.watch = false, nil, nil
		return replyOK
	case "WATCH":
		return m.watch(c, args)
	}
	if c.multi {
		if !isControl(name) {
			if _, refusal := m.engine.lookup(args); refusal != nil {
				c.dirty = true
				return refusal
			}
		}
		c.queue = append(c.queue, args)
		return replyQueued
	}
	reply, effects := m.execute(c, name, args)
	m.commit(c, effects)
	return reply
}

// commit propagates what a client has done and notes its place in the stream.
func (m *Master) commit(c *Client, effects []effect) {
	if len(effects) > 0 {
		m.propagate(effects)
		c.woff = m.offset
	}
}

// exec is EXEC: everything queued, in one go, for the replicas, too.
func (m *Master) exec(c *Client) []byte {
	if !c.multi {
		return errorReply("ERR EXEC without MULTI")
	}
	queue, watch := c.queue, c.watch
	c.multi, c.queue, c.watch = false, nil, nil
	if c.dirty {
		return errorReply("EXECABORT Transaction discarded because of previous errors.")
	}
	if watch != nil {
		// The engine keeps the versions of keys: an empty transaction of its own tells whether one has changed.
		watch.call(m.engine.srv, "MULTI")
		if isNil(watch.call(m.engine.srv, "EXEC")) || c.watchFlushes != m.engine.flushes {
			return []byte("*-1\r\n")
		}
	}
	reply := redcon.AppendArray(nil, len(queue))
	var effects []effect
	for _, args := range queue {
		r, x := m.execute(c, strings.ToUpper(args[0]), args)
		reply = append(reply, r...)
		effects = append(effects, x...)
	}
	m.commit(c, effects)
	return reply
}

func (m *Master) watch(c *Client, args []string) []byte {
	switch {
	case len(args) < 2:
		return wrongArity("watch")
	case c.multi:
		return errorReply("ERR WATCH inside MULTI is not allowed")
	}
	if c.watch == nil {
		c.watch = newPeer()
		c.watchFlushes = m.engine.flushes
	}
	c.watch.call(m.engine.srv, "SELECT", strconv.Itoa(c.db))
	return c.watch.call(m.engine.srv, args...)
}

// isControl: the commands that execute answers itself.
func isControl(name string) bool {
	return slices.Contains([]string{
		"PING", "ECHO", "SELECT", "UNWATCH", "INFO", "ROLE", "REPLCONF", "CLIENT", "CONFIG", "COMMAND",
		"REPLICAOF", "SLAVEOF", "WAIT", "WAITAOF",
	}, name)
}

// execute executes one command now. What does not concern the data is answered here, the rest by the engine.
func (m *Master) execute(c *Client, name string, args []string) (reply []byte, effects []effect) {
	arity := func(least, most int) bool { return len(args) >= least && len(args) <= most }
	switch name {
	case "PING":
		switch {
		case !arity(1, 2):
			reply = wrongArity(name)
		case len(args) == 2:
			reply = bulkReply(args[1])
		default:
			reply = []byte("+PONG\r\n")
		}
	case "ECHO":
		if reply = wrongArity(name); arity(2, 2) {
			reply = bulkReply(args[1])
		}
	case "SELECT":
		if reply = wrongArity(name); arity(2, 2) {
			reply = m.selectDB(c, args[1])
		}
	case "UNWATCH":
		c.watch = nil
		reply = replyOK
	case "INFO":
		reply = bulkReply(m.info(args[1:]))
	case "ROLE":
		reply = m.role()
	case "REPLCONF":
		reply = m.replconf(c, args)
	case "CLIENT":
		reply = m.client(c, args)
	case "CONFIG":
		reply = m.config(args)
	case "COMMAND":
		reply = []byte("*0\r\n") // redis-cli asks for documentation, and does without
	case "REPLICAOF", "SLAVEOF":
		reply = errorReply("ERR minimaster is a master and stays one")
	case "WAIT", "WAITAOF": // within MULTI they do not wait
		reply = m.waitCommand(name, c.woff, args, false)
	default:
		return m.engine.exec(c.db, args)
	}
	return reply, nil
}

func (m *Master) selectDB(c *Client, arg string) []byte {
	if !isInteger(arg) {
		return errorReply(msgNotInt)
	}
	db, ok := database(arg)
	if !ok {
		return errorReply(msgDBRange)
	}
	c.db = db
	return replyOK
}

// login checks a password. With MasterUser set there is that user only.
func (m *Master) login(user, pass string) bool {
	want := m.cfg.MasterUser
	if want == "" {
		want = "default"
	}
	return user == want && pass == m.cfg.RequirePass
}

const wrongPass = "WRONGPASS invalid username-password pair or user is disabled."

// auth is AUTH [user] password (acl.c, authCommand).
func (m *Master) auth(c *Client, args []string) []byte {
	user := "default"
	switch {
	case len(args) == 3:
		user = args[1]
	case len(args) != 2:
		return wrongArity("auth")
	case m.cfg.RequirePass == "":
		return errorReply("ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?")
	}
	if m.cfg.RequirePass == "" && user == "default" { // nopass: any password will do
		return replyOK
	}
	if !m.login(user, args[len(args)-1]) {
		return errorReply(wrongPass)
	}
	c.authed = true
	return replyOK
}

// hello is HELLO [2 [AUTH user pass] [SETNAME name]]; RESP3 is not spoken here.
func (m *Master) hello(c *Client, args []string) []byte {
	authed, name := c.authed, c.name
	if len(args) > 1 && args[1] != "2" {
		return errorReply("NOPROTO unsupported protocol version")
	}
	for i := 2; i < len(args); i++ {
		switch option := strings.ToUpper(args[i]); {
		case option == "AUTH" && i+2 < len(args):
			if m.cfg.RequirePass != "" && !m.login(args[i+1], args[i+2]) {
				return errorReply(wrongPass)
			}
			authed = true
			i += 2
		case option == "SETNAME" && i+1 < len(args):
			name = args[i+1]
			i++
		default:
			return errorReply("ERR Syntax error in HELLO option '%s'", args[i])
		}
	}
	if !authed {
		return errorReply("NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time")
	}
	c.authed, c.name = authed, name
	b := redcon.AppendArray(nil, 14)
	for _, s := range []string{"server", "redis", "version", Version} {
		b = redcon.AppendBulkString(b, s)
	}
	b = redcon.AppendInt(redcon.AppendBulkString(b, "proto"), 2)
	b = redcon.AppendInt(redcon.AppendBulkString(b, "id"), c.id)
	for _, s := range []string{"mode", "standalone", "role", "master", "modules"} {
		b = redcon.AppendBulkString(b, s)
	}
	return redcon.AppendArray(b, 0)
}

// replconf is REPLCONF before PSYNC (replication.c, replconfCommand): pairs of an option and a value. After PSYNC it
// is (*replica).read that hears it.
func (m *Master) replconf(c *Client, args []string) []byte {
	if len(args)%2 == 0 {
		return errorReply(msgSyntax)
	}
	for i := 1; i+1 < len(args); i += 2 {
		value := args[i+1]
		switch option := strings.ToLower(args[i]); option {
		case "listening-port":
			port, ok := parseInt(value)
			if !ok {
				return errorReply(msgNotInt)
			}
			c.hand.port = int(port)
		case "ip-address":
			c.hand.ip = value
		case "capa":
			// One it does not know is no error: a replica may know more than its master.
			c.hand.capa = append(c.hand.capa, strings.ToLower(value))
		case "version":
			c.hand.version = value
		case "rdb-only":
			c.hand.rdbOnly = value == "1"
		case "ack", "getack":
			return nil // neither is ever answered
		default:
			return errorReply("ERR Unrecognized REPLCONF option: %s", args[i])
		}
	}
	return replyOK
}

func (m *Master) client(c *Client, args []string) []byte {
	if len(args) < 2 {
		return wrongArity("client")
	}
	switch sub := strings.ToUpper(args[1]); {
	case sub == "ID" && len(args) == 2:
		return intReply(c.id)
	case sub == "GETNAME" && len(args) == 2:
		if c.name == "" {
			return replyNil
		}
		return bulkReply(c.name)
	case sub == "SETNAME" && len(args) == 3:
		c.name = args[2]
		return replyOK
	case sub == "SETINFO" && len(args) == 4:
		return replyOK
	case sub == "KILL" && len(args) == 4 && strings.EqualFold(args[2], "TYPE"):
		if t := strings.ToLower(args[3]); t != "replica" && t != "slave" {
			return errorReply("ERR minimaster kills clients of TYPE replica only")
		}
		n := len(m.replicas)
		for r := range m.replicas {
			m.drop(r, "CLIENT KILL")
		}
		return intReply(int64(n))
	}
	return errorReply("ERR unknown subcommand or wrong number of arguments for '%s'. Try CLIENT HELP.", args[1])
}

func yesno(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func (m *Master) config(args []string) []byte {
	if len(args) < 3 || !strings.EqualFold(args[1], "GET") {
		return errorReply("ERR minimaster knows CONFIG GET only")
	}
	known := [][2]string{
		{"appendonly", "no"},
		{"databases", strconv.Itoa(Databases)},
		{"maxmemory", "0"},
		{"proto-max-bulk-len", strconv.Itoa(maxString)},
		{"repl-backlog-size", strconv.Itoa(m.cfg.BacklogSize)},
		{"repl-diskless-sync", yesno(m.cfg.Diskless)},
		{"repl-diskless-sync-delay", strconv.Itoa(int(m.cfg.DisklessSyncDelay / time.Second))},
		{"repl-ping-replica-period", strconv.Itoa(int(m.cfg.ReplPingPeriod / time.Second))},
		{"save", ""},
	}
	var found []string
	for _, kv := range known {
		for _, pattern := range args[2:] {
			if ok, err := path.Match(strings.ToLower(pattern), kv[0]); ok && err == nil {
				found = append(found, kv[0], kv[1])
				break
			}
		}
	}
	return appendCommand(nil, found...)
}

// waitCommand is WAIT numreplicas timeout, and WAITAOF numlocal numreplicas timeout of 7.2, which counts
// what is fsynced. block is false within MULTI, where the caller holds mu, and true elsewhere, where it does not.
func (m *Master) waitCommand(name string, target int64, args []string, block bool) []byte {
	aof := name == "WAITAOF"
	numbers := make([]int64, 0, 3)
	for _, a := range args[1:] {
		n, ok := parseInt(a)
		if !ok {
			return errorReply(msgNotInt)
		}
		numbers = append(numbers, n)
	}
	switch {
	case len(numbers) != 2 && !aof || len(numbers) != 3 && aof:
		return wrongArity(name)
	case aof && numbers[0] != 0:
		return errorReply("ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.")
	case numbers[len(numbers)-1] < 0:
		return errorReply("ERR timeout is negative")
	case numbers[len(numbers)-1] > maxExpiry:
		return errorReply("ERR timeout is out of range")
	}
	n, timeout := numbers[len(numbers)-2], time.Duration(numbers[len(numbers)-1])*time.Millisecond
	var got int
	if block {
		got = m.wait(target, int(n), timeout, aof)
	} else {
		got = m.countAcks(target, aof)
	}
	if aof {
		return append([]byte("*2\r\n:0\r\n"), intReply(int64(got))...)
	}
	return intReply(int64(got))
}

// role is ROLE of a master: its offset, and address and acknowledged offset of each replica.
func (m *Master) role() []byte {
	b := redcon.AppendArray(nil, 3)
	b = redcon.AppendBulkString(b, "master")
	b = redcon.AppendInt(b, m.offset)
	var online []ReplicaInfo
	for r := range m.replicas {
		if r.state == stateOnline {
			online = append(online, r.info())
		}
	}
	b = redcon.AppendArray(b, len(online))
	for _, r := range online {
		b = appendCommand(b, r.IP, strconv.Itoa(r.Port), strconv.FormatInt(r.Ack, 10))
	}
	return b
}

// info is INFO, with the sections a replica's operator looks at.
func (m *Master) info(sections []string) string {
	wants := func(name string) bool {
		return len(sections) == 0 || slices.ContainsFunc(sections, func(s string) bool {
			s = strings.ToLower(s)
			return s == name || s == "all" || s == "default" || s == "everything"
		})
	}
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\r\n", args...) }
	section := func(name string) bool {
		if !wants(strings.ToLower(name)) {
			return false
		}
		if b.Len() > 0 {
			line("")
		}
		line("# %s", name)
		return true
	}
	if section("Server") {
		_, port, _ := net.SplitHostPort(m.Addr())
		line("redis_version:%s", Version)
		line("redis_mode:standalone")
		line("server_name:minimaster")
		line("os:%s %s", runtime.GOOS, runtime.GOARCH)
		line("arch_bits:%d", strconv.IntSize)
		line("tcp_port:%s", port)
	}
	if section("Stats") {
		line("sync_full:%d", m.stats.SyncFull)
		line("sync_partial_ok:%d", m.stats.SyncPartialOK)
		line("sync_partial_err:%d", m.stats.SyncPartialErr)
	}
	if section("Replication") {
		line("role:master")
		line("connected_slaves:%d", len(m.replicas))
		i := 0
		for r := range m.replicas {
			x := r.info()
			line("slave%d:ip=%s,port=%d,state=%s,offset=%d,lag=%d", i, x.IP, x.Port, x.State, x.Ack, int(x.Lag/time.Second))
			i++
		}
		line("master_failover_state:no-failover")
		line("master_replid:%s", m.replid)
		line("master_replid2:%s", strings.Repeat("0", 40))
		line("master_repl_offset:%d", m.offset)
		line("second_repl_offset:-1")
		active, first, length := 0, int64(0), 0
		if m.backlog != nil {
			active, first, length = 1, m.backlog.off, m.backlog.len
		}
		line("repl_backlog_active:%d", active)
		line("repl_backlog_size:%d", m.cfg.BacklogSize)
		line("repl_backlog_first_byte_offset:%d", first)
		line("repl_backlog_histlen:%d", length)
	}
	if section("Keyspace") {
		for _, db := range m.engine.databases() {
			keys := m.engine.db(db).Keys()
			expires := 0
			for _, key := range keys {
				if m.engine.expireAt(db, key) != 0 {
					expires++
				}
			}
			if len(keys) > 0 {
				line("db%d:keys=%d,expires=%d,avg_ttl=0", db, len(keys), expires)
			}
		}
	}
	return b.String()
}
