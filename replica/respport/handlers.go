package respport

// handlers are the commands that are served, with what COMMAND DOCS says of
// them.
func handlers() map[string]*served {
	const (
		connection = "connection"
		admin      = "server"
		messages   = "pubsub"
		atomicity  = "transactions"
	)
	arg := func(name string) argSpec { return argSpec{name: name, kind: "string"} }
	opt := func(name string) argSpec { return argSpec{name: name, kind: "string", optional: true} }
	many := func(name string) argSpec { return argSpec{name: name, kind: "string", many: true} }
	any := func(name string) argSpec { return argSpec{name: name, kind: "string", optional: true, many: true} }
	m := map[string]*served{
		"ping":   {ping, connection, "1.0.0", "Answers, so that one knows the port lives", []argSpec{opt("message")}},
		"echo":   {echo, connection, "1.0.0", "Gives a message back", []argSpec{arg("message")}},
		"hello":  {hello, connection, "6.0.0", "Chooses the protocol, 2 or 3", []argSpec{any("protover")}},
		"auth":   {(*request).auth, connection, "1.0.0", "Lets a client in", []argSpec{opt("username"), arg("password")}},
		"select": {(*request).selectDB, connection, "1.0.0", "Chooses a database; none has anything here", []argSpec{{name: "index", kind: "integer"}}},
		"quit":   {quit, connection, "1.0.0", "Closes the connection", nil},
		"reset":  {reset, connection, "6.2.0", "Makes the connection what it was at the start", nil},
		"time":   {serverTime, admin, "2.6.0", "Tells the time", nil},

		"client|setname":  {clientSetName, connection, "2.6.9", "Names the connection", []argSpec{arg("connection-name")}},
		"client|getname":  {clientGetName, connection, "2.6.9", "Tells the connection's name", nil},
		"client|id":       {clientID, connection, "5.0.0", "Tells the connection's id", nil},
		"client|setinfo":  {clientSetInfo, connection, "7.2.0", "Notes the client's library", []argSpec{arg("attribute"), arg("value")}},
		"client|info":     {clientInfo, connection, "6.2.0", "Describes the connection", nil},
		"client|list":     {clientList, connection, "2.4.0", "Describes the connections", []argSpec{any("filter")}},
		"client|kill":     {clientKill, connection, "2.4.0", "Closes connections", []argSpec{many("filter")}},
		"client|reply":    {clientReply, connection, "3.2.0", "Turns replies off or on", []argSpec{arg("ON|OFF|SKIP")}},
		"client|no-evict": {onOff(func(c *client, on bool) { c.noEvict = on }), connection, "7.0.0", "Is noted, and changes nothing here", []argSpec{arg("ON|OFF")}},
		"client|no-touch": {onOff(func(c *client, on bool) { c.noTouch = on }), connection, "7.2.0", "Is noted, and changes nothing here", []argSpec{arg("ON|OFF")}},
		"client|getredir": {constant(-1), connection, "6.0.0", "Says that nothing is tracked", nil},
		"client|unblock":  {constant(0), connection, "5.0.0", "Unblocks nobody: no command blocks here", []argSpec{arg("client-id")}},
		"client|help":     {help, connection, "5.0.0", "Lists the subcommands", nil},

		"command":                 {commandAll, admin, "2.8.13", "Describes Redis' commands", nil},
		"command|count":           {commandCount, admin, "2.8.13", "Counts Redis' commands", nil},
		"command|docs":            {commandDocs, admin, "7.0.0", "Documents the commands that are served", []argSpec{any("command-name")}},
		"command|info":            {commandInfo, admin, "2.8.13", "Describes commands", []argSpec{any("command-name")}},
		"command|list":            {commandList, admin, "7.0.0", "Lists commands", []argSpec{any("filter")}},
		"command|getkeys":         {commandGetKeys, admin, "2.8.13", "Is refused: there are no keys here", []argSpec{many("command")}},
		"command|getkeysandflags": {commandGetKeys, admin, "7.0.0", "Is refused: there are no keys here", []argSpec{many("command")}},
		"command|help":            {help, admin, "5.0.0", "Lists the subcommands", nil},

		"config|get":       {configGet, admin, "2.0.0", "Tells the settings that match patterns", []argSpec{many("parameter")}},
		"config|set":       {configSet, admin, "2.0.0", "Is refused: settings hold from start to end", []argSpec{many("parameter-value")}},
		"config|rewrite":   {okay, admin, "2.8.0", "Succeeds: the last REPLICAOF is durable already", nil},
		"config|resetstat": {resetStat, admin, "2.0.0", "Sets the counters of INFO to 0", nil},
		"config|help":      {help, admin, "5.0.0", "Lists the subcommands", nil},

		"info":         {info, admin, "1.0.0", "Tells how the replica, its link and its archive stand", []argSpec{any("section")}},
		"role":         {role, admin, "2.8.12", "Tells the master and the state of the link", nil},
		"lastsave":     {lastSave, admin, "1.0.0", "Tells when the newest generation's base was complete", nil},
		"bgsave":       {rebase("Background saving started"), admin, "1.0.0", "Begins a new generation beside the stream", []argSpec{opt("SCHEDULE")}},
		"bgrewriteaof": {rebase("Background append only file rewriting started"), admin, "1.0.0", "Begins a new generation beside the stream", nil},
		"replicaof":    {replicaOf, admin, "5.0.0", "Follows another master, or nobody: NO ONE", []argSpec{arg("host"), arg("port")}},
		"slaveof":      {replicaOf, admin, "1.0.0", "REPLICAOF, by its old name", []argSpec{arg("host"), arg("port")}},
		"shutdown":     {shutdown, admin, "1.0.0", "Ends the daemon when all it received is stored", []argSpec{any("option")}},

		"multi":   {multi, atomicity, "1.2.0", "Begins a transaction", nil},
		"exec":    {exec, atomicity, "1.2.0", "Executes a transaction", nil},
		"discard": {discard, atomicity, "2.0.0", "Gives a transaction up", nil},
		"watch":   {watch, atomicity, "2.2.0", "Succeeds: no key changes here", []argSpec{many("key")}},
		"unwatch": {okay, atomicity, "2.2.0", "Succeeds: nothing is watched", nil},

		"subscribe":            {subscribe(channel, "subscribe"), messages, "2.0.0", "Listens to channels", []argSpec{many("channel")}},
		"psubscribe":           {subscribe(pattern, "psubscribe"), messages, "2.0.0", "Listens to the channels that match patterns", []argSpec{many("pattern")}},
		"ssubscribe":           {subscribe(shard, "ssubscribe"), messages, "7.0.0", "Listens to shard channels", []argSpec{many("shardchannel")}},
		"unsubscribe":          {unsubscribe(channel, "unsubscribe"), messages, "2.0.0", "Listens no more", []argSpec{any("channel")}},
		"punsubscribe":         {unsubscribe(pattern, "punsubscribe"), messages, "2.0.0", "Listens no more", []argSpec{any("pattern")}},
		"sunsubscribe":         {unsubscribe(shard, "sunsubscribe"), messages, "7.0.0", "Listens no more", []argSpec{any("shardchannel")}},
		"publish":              {publish(channel), messages, "2.0.0", "Sends a message to who listens at this port", []argSpec{arg("channel"), arg("message")}},
		"spublish":             {publish(shard), messages, "7.0.0", "Sends a message to who listens at this port", []argSpec{arg("shardchannel"), arg("message")}},
		"pubsub|channels":      {names(channel), messages, "2.8.0", "Lists the channels that somebody listens to", []argSpec{opt("pattern")}},
		"pubsub|shardchannels": {names(shard), messages, "7.0.0", "Lists the shard channels that somebody listens to", []argSpec{opt("pattern")}},
		"pubsub|numsub":        {subscribers(channel), messages, "2.8.0", "Counts who listens to channels", []argSpec{any("channel")}},
		"pubsub|shardnumsub":   {subscribers(shard), messages, "7.0.0", "Counts who listens to shard channels", []argSpec{any("shardchannel")}},
		"pubsub|numpat":        {numpat, messages, "2.8.0", "Counts the patterns", nil},
		"pubsub|help":          {help, messages, "6.2.0", "Lists the subcommands", nil},

		"acl|whoami":        {func(q *request) { q.bulk("default") }, admin, "6.0.0", "Names the only user", nil},
		"acl|users":         {func(q *request) { q.strings([]string{"default"}) }, admin, "6.0.0", "Lists the only user", nil},
		"module|list":       {empty, admin, "4.0.0", "Lists nothing: there are no modules", nil},
		"slowlog|get":       {empty, admin, "2.2.12", "Lists nothing: no command here is slow", []argSpec{opt("count")}},
		"slowlog|len":       {constant(0), admin, "2.2.12", "Counts nothing", nil},
		"slowlog|reset":     {okay, admin, "2.2.12", "Succeeds", nil},
		"latency|latest":    {empty, admin, "2.8.13", "Lists nothing: latencies are not watched", nil},
		"latency|history":   {empty, admin, "2.8.13", "Lists nothing", []argSpec{arg("event")}},
		"latency|histogram": {emptyDict, admin, "7.0.0", "Lists nothing", []argSpec{any("command")}},
		"latency|reset":     {constant(0), admin, "2.8.13", "Resets nothing", []argSpec{any("event")}},
		"latency|doctor":    {text("replicad does not watch latencies: see INFO archive for how far the disk is behind.\n"), admin, "2.8.13", "Says where to look", nil},
		"memory|doctor":     {text("replicad keeps no dataset in memory: see INFO memory for what it uses.\n"), admin, "4.0.0", "Says where to look", nil},
		"memory|purge":      {okay, admin, "4.0.0", "Succeeds: there is nothing to purge", nil},
		"memory|stats":      {memoryStats, admin, "4.0.0", "Tells what is used", nil},
	}
	return m
}
