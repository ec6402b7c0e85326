package replica

// State is where a link stands; the names are those of Redis 2.8's
// replication.c (REDIS_REPL_NONE, _CONNECTING, _RECEIVE_PONG). SYNC stands for
// all that follows the PONG; [Phase] tells its parts.
type State uint8

// The four states.
const (
	None        State = iota // no connection; an attempt may be waiting for its time
	Connecting               // connect(2) is under way
	ReceivePong              // PING is sent, its answer awaited
	Sync                     // handshake, transfer, stream
)

// String gives the state's name as the sources of Redis write it.
func (s State) String() string {
	return name(int(s), "NONE", "CONNECTING", "RECEIVE_PONG", "SYNC")
}

// Phase is a part of the SYNC state. In every other state it is NoPhase.
type Phase uint8

// The phases, in the order in which a link passes them. AUTH to VERSION are
// sent in one write; the phase then says which reply is awaited. AUTH and IP
// are passed over where they are not configured.
const (
	NoPhase  Phase = iota
	Auth           // AUTH [user] password
	Port           // REPLCONF listening-port
	IP             // REPLCONF ip-address
	Capa           // REPLCONF capa eof capa psync2; and rdb-only 1, for a base alone
	Version        // REPLCONF version
	Psync          // PSYNC, or SYNC for a master that does not know PSYNC
	Transfer       // the RDB: from the reply to PSYNC until the base is on disk
	Stream         // the replication stream
)

// String gives the phase's name in capitals, "" for NoPhase.
func (p Phase) String() string {
	return name(int(p), "", "AUTH", "PORT", "IP", "CAPA", "VERSION", "PSYNC", "TRANSFER", "STREAM")
}

func name(i int, names ...string) string {
	if i < len(names) {
		return names[i]
	}
	return "UNKNOWN"
}

// Place joins state and phase as errors and log lines name them: "SYNC/PSYNC".
func Place(s State, p Phase) string {
	if p == NoPhase {
		return s.String()
	}
	return s.String() + "/" + p.String()
}

// Transition is one arrow of the state machine.
type Transition struct {
	From, To State
	Event    string // what must happen
	Action   string // what the link does then
}

// Transitions is the state machine as data: every change of state that a link
// makes is one of these.
func Transitions() []Transition {
	return []Transition{
		{None, Connecting, "an attempt is due and connect(2) says EINPROGRESS or 0", "register READABLE|WRITABLE"},
		{Connecting, Connecting, "SO_ERROR is set and the name has another address", "close, connect(2) to the next address"},
		{Connecting, ReceivePong, "EPOLLOUT and SO_ERROR is 0", "drop the write event, PING"},
		{Connecting, None, "no address is left, a deadline passed, or the link was stopped or repointed", "close, back off"},
		{ReceivePong, Sync, "EPOLLIN and the answer is +PONG, -NOAUTH, -NOPERM, -MISCONF or -ERR operation not permitted", "AUTH and REPLCONFs in one write"},
		{ReceivePong, None, "another answer, end of file, a deadline passed, or the link was stopped or repointed", "close, back off"},
		{Sync, None, "an error, end of file, a deadline passed, or the link was stopped or repointed", "close, back off"},
	}
}
