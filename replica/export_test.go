package replica

// What the tests of package replica_test see of a link's inside. On the loop's
// thread, as everything of a link.

// Queue puts bytes before whatever is to be written next, as an ACK that the
// kernel took only in part.
func (l *Link) Queue(p string) { l.conn.out = append(l.conn.out, p...) }

// Ticking tells whether the ACK of each second is due.
func (l *Link) Ticking() bool { return l.conn != nil && l.conn.cron.Armed() }

// FD is the descriptor of the connection, -1 without one.
func (l *Link) FD() int {
	if l.conn == nil {
		return -1
	}
	return l.conn.fd
}

// Tick does what is done each second.
func (l *Link) Tick() { l.everySecond() }
