package study

// Key names a step of the protocol: which places in the sources of Redis and
// Valkey do the same, and which versions know it.
type Key string

// The keys.
const (
	keyNone       Key = ""
	keyResolve    Key = "resolve"
	keyConnect    Key = "connect"
	keyRegister   Key = "register"
	keyEvent      Key = "event"
	keySOError    Key = "so_error"
	keyState      Key = "state"
	keyPing       Key = "ping"
	keyPong       Key = "pong"
	keyAuth       Key = "auth"
	keyPort       Key = "listening-port"
	keyIP         Key = "ip-address"
	keyCapa       Key = "capa"
	keyVersion    Key = "version"
	keyReply      Key = "reply"
	keyPsync      Key = "psync"
	keySync       Key = "sync"
	keyFullResync Key = "fullresync"
	keyContinue   Key = "continue"
	keyNewline    Key = "newline"
	keyLength     Key = "length"
	keyEOF        Key = "eof"
	keyRDB        Key = "rdb"
	keyMark       Key = "mark"
	keyTransfer   Key = "transfer"
	keyStream     Key = "stream"
	keyStreamPing Key = "stream-ping"
	keySelect     Key = "select"
	keyGetAck     Key = "getack"
	keyAck        Key = "ack"
	keyFack       Key = "fack"
	keyFailed     Key = "failed"
)

// Place is where sources do the same.
type Place struct {
	Versions string `json:"versions"` // "Redis 6.0 to 7.0"
	File     string `json:"file"`
	Function string `json:"function"`
}

// String writes a place in one line.
func (p Place) String() string { return p.Function + " in " + p.File + " (" + p.Versions + ")" }

// Knowledge is what is known of a step beyond this program.
type Knowledge struct {
	Known  string  `json:"known"` // the server versions that know it
	Places []Place `json:"places"`
}

const (
	every    = "every version of Redis and Valkey"
	since28  = "Redis 2.8 and later, every Valkey"
	valkey8  = "Valkey 8.0 and later"
	valkey72 = "Redis, and Valkey 7.2"
)

// handshake is syncWithMaster, which does all of it up to PSYNC.
func handshake(versions string) Place {
	return Place{versions, "replication.c", "syncWithMaster"}
}

func primary() Place { return Place{valkey8, "replication.c", "syncWithPrimary"} }

// Knows gives what is known of a step. The names are those of the sources: where
// a function moved or was renamed there is a place for each.
func Knows(key Key) Knowledge {
	replconf := Place{"the master, Redis 2.8 and later, Valkey", "replication.c", "replconfCommand"}
	feed := []Place{
		{"the master, " + valkey72, "replication.c", "replicationFeedSlaves"},
		{"the master, " + valkey8, "replication.c", "replicationFeedReplicas"},
		{"the replica", "networking.c", "readQueryFromClient"},
	}
	switch key {
	case keyResolve:
		return Knowledge{every, []Place{{"Redis 2.8 and later, Valkey; it blocks there", "anet.c", "anetTcpGenericConnect"}}}
	case keyConnect:
		return Knowledge{every, []Place{
			{valkey72, "replication.c", "connectWithMaster"},
			{valkey8, "replication.c", "connectWithPrimary"},
			{"the call itself", "anet.c", "anetTcpGenericConnect"},
		}}
	case keyRegister:
		return Knowledge{every, []Place{
			{"Redis up to 5.0", "replication.c", "connectWithMaster"},
			{"Redis 6.0 to 7.0", "connection.c", "connSocketConnect"},
			{"Redis 7.2 and later, Valkey", "socket.c", "connSocketConnect"},
			{"every version", "ae_epoll.c", "aeApiAddEvent"},
		}}
	case keyEvent:
		return Knowledge{every, []Place{{"every version", "ae.c", "aeProcessEvents"}, {"every version", "ae_epoll.c", "aeApiPoll"}}}
	case keySOError:
		return Knowledge{every, []Place{
			handshake("Redis up to 5.0"),
			{"Redis 6.0 to 7.0", "connection.c", "connSocketEventHandler, by connGetSocketError"},
			{"Redis 7.2 and later, Valkey", "socket.c", "connSocketEventHandler, by anetGetError"},
		}}
	case keyState, keyReply:
		return Knowledge{every, []Place{handshake(valkey72), primary()}}
	case keyPing, keyPong:
		return Knowledge{every, []Place{handshake(valkey72), primary(), {"the master", "server.c, once redis.c", "pingCommand"}}}
	case keyAuth:
		return Knowledge{every + "; with a user name Redis 6.0 and later", []Place{
			handshake(valkey72), primary(),
			{"the master, Redis 6.0 and later, Valkey", "acl.c", "authCommand"},
		}}
	case keyPort:
		return Knowledge{every, []Place{handshake(valkey72), primary(), replconf}}
	case keyIP:
		return Knowledge{"Redis 4.0 and later, every Valkey", []Place{handshake(valkey72), primary(), replconf}}
	case keyCapa:
		return Knowledge{"eof: late 2.8 and all since; psync2: Redis 4.0 and later, every Valkey; others are passed over", []Place{handshake(valkey72), primary(), replconf}}
	case keyVersion:
		return Knowledge{valkey8 + "; others refuse it, and are not asked again", []Place{primary(), {"the master, " + valkey8, "replication.c", "replconfCommand"}}}
	case keyPsync:
		return Knowledge{since28, []Place{
			{"Redis 2.8 and later, Valkey 7.2", "replication.c", "slaveTryPartialResynchronization"},
			{valkey8, "replication.c", "replicaTryPartialResynchronization"},
			{"the master", "replication.c", "syncCommand"},
		}}
	case keySync:
		return Knowledge{every, []Place{handshake(valkey72), primary(), {"the master", "replication.c", "syncCommand"}}}
	case keyFullResync:
		return Knowledge{since28, []Place{
			{"the master, Redis 4.0 and later, Valkey 7.2", "replication.c", "replicationSetupSlaveForFullResync"},
			{"the master, " + valkey8, "replication.c", "replicationSetupReplicaForFullResync"},
			{"Redis 2.8 and later, Valkey 7.2", "replication.c", "slaveTryPartialResynchronization"},
			{valkey8, "replication.c", "replicaTryPartialResynchronization"},
		}}
	case keyContinue:
		return Knowledge{since28 + "; with a replication id Redis 4.0 and later", []Place{
			{"the master, Redis 2.8 and later, Valkey 7.2", "replication.c", "masterTryPartialResynchronization"},
			{"the master, " + valkey8, "replication.c", "primaryTryPartialResynchronization"},
		}}
	case keyNewline:
		return Knowledge{since28, []Place{
			{"the master", "replication.c", "replicationCron"},
			{"the replica, before the payload", "replication.c", "readSyncBulkPayload"},
		}}
	case keyLength:
		return Knowledge{every, []Place{
			{"the master, " + valkey72, "replication.c", "sendBulkToSlave"},
			{"the master, " + valkey8, "replication.c", "sendBulkToReplica"},
			{"the replica", "replication.c", "readSyncBulkPayload"},
		}}
	case keyEOF, keyMark:
		return Knowledge{"Redis 2.8.18 and later, every Valkey (repl-diskless-sync)", []Place{
			{"the master", "rdb.c", "rdbSaveRioWithEOFMark"},
			{"the replica", "replication.c", "readSyncBulkPayload"},
		}}
	case keyRDB:
		return Knowledge{every + "; aux fields Redis 3.2 and later", []Place{
			{"the master", "rdb.c", "rdbSaveRio"},
			{"aux fields", "rdb.c", "rdbSaveInfoAuxFields"},
		}}
	case keyTransfer:
		return Knowledge{every, []Place{{"the replica", "replication.c", "readSyncBulkPayload"}}}
	case keyStream:
		return Knowledge{every, feed}
	case keyStreamPing:
		return Knowledge{every, []Place{{"the master", "replication.c", "replicationCron"}, feed[2]}}
	case keySelect:
		return Knowledge{every, feed}
	case keyGetAck:
		return Knowledge{"Redis 3.0 and later, every Valkey (WAIT)", []Place{
			{"the master, Redis 3.0 and later", "server.c, once redis.c", "beforeSleep"},
			{"the replica", "replication.c", "replconfCommand"},
		}}
	case keyAck:
		return Knowledge{since28, []Place{{"the replica", "replication.c", "replicationSendAck"}, replconf}}
	case keyFack:
		return Knowledge{"ACK: " + since28 + "; FACK: Redis 7.2 and later, every Valkey", []Place{{"the replica", "replication.c", "replicationSendAck"}, replconf}}
	case keyFailed:
		return Knowledge{every, []Place{
			{valkey72, "replication.c", "cancelReplicationHandshake"},
			{"a link that streamed, Redis 2.8 and later, Valkey 7.2", "replication.c", "replicationCacheMaster"},
			{"tries again each second", "replication.c", "replicationCron"},
		}}
	}
	return Knowledge{}
}
