package replica_test

import (
	"io"
	"net"
	"testing"
	"time"

	"replicad/replica"
	"replicad/replica/resp"
)

// FuzzTheLinkSurvivesWhateverAMasterSays: a master says anything, in two pieces,
// and hangs up. The link must end that attempt, in NONE, with a failure that
// names its place, and have stored nothing that it should not have.
func FuzzTheLinkSurvivesWhateverAMasterSays(f *testing.F) {
	for _, c := range append(loadConversations(f, "recorded"), loadConversations(f, "conversations")...) {
		var said []byte
		for _, s := range c.steps {
			if s.kind == masterCloses {
				break
			}
			said = append(said, s.data...)
		}
		f.Add(said, uint16(len(said)/2), c.store.position != nil, c.cfg.Master.Password != "")
	}
	f.Add([]byte(everyStep+"+FULLRESYNC "+replID+" 9223372036854775807\r\n$9223372036854775807\r\n"), uint16(5), false, false)
	f.Add([]byte(everyStep+"+FULLRESYNC "+replID+" 1000\r\n$EOF:"+eofMark+"\r\n"+eofMark+eofMark), uint16(99), false, false)
	f.Fuzz(func(t *testing.T, said []byte, cut uint16, history, password bool) {
		ln := listen(t)
		cfg := replica.Config{Backoff: replica.Backoff{Min: time.Hour, Max: time.Hour}, Limits: resp.Limits{MaxBulk: 1 << 20, MaxArgs: 1 << 10}}
		opt := storeOptions{buffer: 100, splice: cut%2 == 0, largest: 1 << 30}
		if history {
			opt.position = &replica.Position{ReplID: replID, Offset: 500}
		}
		if password {
			cfg.Master.Password = "s3cr3t-pass"
		}
		r := newRig(t, cfg, opt, ln.Addr())
		r.secrets = nil // a master that invents it has not learned it from us
		r.start()
		conn, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		ln.Close() // the attempt after this one is refused, and then it waits
		heard := make(chan struct{})
		go func() {
			defer close(heard)
			io.Copy(io.Discard, conn)
		}()
		n := min(int(cut), len(said))
		if _, err := conn.Write(said[:n]); err == nil {
			conn.Write(said[n:])
		}
		conn.(*net.TCPConn).CloseWrite()
		r.waitFailures(1)
		<-heard
		conn.Close()
		r.wait("NONE", func() bool { return r.place() == "NONE" || len(r.failures) > 1 })
		r.stop()
		r.checkPath()
		e := r.failure(0)
		if e.State == replica.None || e.State == replica.Connecting || e.Cause == nil || len(e.Error()) > 2000 {
			t.Errorf("it ended in %s with %v", replica.Place(e.State, e.Phase), e)
		}
		s := r.store
		if s.begun != s.commits+s.aborted {
			t.Errorf("%d bases begun, %d committed, %d aborted", s.begun, s.commits, s.aborted)
		}
		if s.total > int64(len(said)) || s.begun > 1 {
			t.Errorf("%d stream bytes and %d full syncs from %d bytes", s.total, s.begun, len(said))
		}
	})
}
