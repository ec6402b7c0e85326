package integration

import (
	"fmt"
	"net"
	"strconv"
	"testing"
	"time"

	"replicad/anet/tunnel/tunneltest"
	"replicad/integration/redistest"
)

// startTLS starts a master with a tls-port beside its plain one, and returns the
// address of that.
func startTLS(t *testing.T, a *tunneltest.Authority, until time.Time, more ...string) (*redistest.Server, string) {
	t.Helper()
	cert, key := a.SignFiles("server", until)
	port := redistest.FreePort(t, "127.0.0.1")
	s := redistest.Start(t, append([]string{largeBacklog, "tls-port " + strconv.Itoa(port), "tls-cert-file " + cert, "tls-key-file " + key,
		"tls-ca-cert-file " + a.CA(), "tls-auth-clients no"}, more...)...)
	return s, net.JoinHostPort(s.Host, strconv.Itoa(port))
}

func TestOverTLSTheArchiveIsTheMastersDataset(t *testing.T) {
	t.Parallel()
	for _, diskless := range []string{"yes", "no"} {
		t.Run("repl-diskless-sync "+diskless, func(t *testing.T) {
			a := tunneltest.NewAuthority(t)
			master, addr := startTLS(t, a, time.Now().Add(time.Hour), "repl-diskless-sync "+diskless)
			everyType(master, 0)
			dir := t.TempDir()
			d := run(t, dir, "--replicaof", "main=rediss://"+addr, "--tls-ca-cert-file", a.CA())
			d.waitLog(`msg="full sync done"`)
			load := startLoad(t, master, loadRate)
			const cuts = 5
			for range cuts {
				n := len(d.log.from(0))
				if killReplicas(master) != 1 {
					t.Error("no replica was cut")
				}
				d.waitLogAfter(n, `msg="partial resync"`)
			}
			load.stop(t)
			equal(t, master, dir, "main")
			if n := d.matches(`msg="full sync done"`); n != 1 {
				t.Errorf("%d full syncs", n)
			}
			d.stop()
			t.Logf("cuts: %d", cuts)
		})
	}
}

func TestAMasterThatWantsACertificateGetsOneAndARenewedOneAtTheNextConnect(t *testing.T) {
	t.Parallel()
	a := tunneltest.NewAuthority(t)
	master, addr := startTLS(t, a, time.Now().Add(time.Hour), "tls-auth-clients yes")
	cert, key := a.SignFiles("client", time.Now().Add(time.Hour))
	dir := t.TempDir()
	d := run(t, dir, "--replicaof", "main="+addr, "--tls", "--tls-ca-cert-file", a.CA(), "--tls-cert-file", cert, "--tls-key-file", key)
	d.waitLog(`msg="full sync done"`)
	master.Do("SET", "k", "v")
	caughtUp(t, master, dir, "main")

	a.SignFiles("client", time.Now().Add(-time.Minute)) // in the place of the good one
	n := len(d.log.from(0))
	killReplicas(master)
	d.waitLogAfter(n, `the server refuses the connection: remote error: tls: .*tls-auth-clients`)
	a.SignFiles("client", time.Now().Add(time.Hour))
	d.waitLogAfter(n, `msg="partial resync"`)
	master.Do("SET", "k", "w")
	equal(t, master, dir, "main")
	d.stop()
}

func TestWhatIsWrongWithTLSIsSaidWithTheRemedy(t *testing.T) {
	t.Parallel()
	a, other := tunneltest.NewAuthority(t), tunneltest.NewAuthority(t)
	master, addr := startTLS(t, a, time.Now().Add(time.Hour))
	_, strict := startTLS(t, a, time.Now().Add(time.Hour), "tls-auth-clients yes")
	_, expired := startTLS(t, a, time.Now().Add(-time.Minute))
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close() // the kernel accepts, and nobody answers
	for _, c := range []struct {
		name, want string
		args       []string
	}{
		{"an unknown authority", "signed by unknown authority.*tls-ca-cert-file", []string{"--replicaof", "rediss://" + addr}},
		{"another authority", "signed by unknown authority.*tls-ca-cert-file", []string{"--replicaof", "rediss://" + addr, "--tls-ca-cert-file", other.CA()}},
		{"another name", "not somebody.*tls-server-name", []string{"--replicaof", "rediss://" + addr, "--tls-ca-cert-file", a.CA(), "--tls-server-name", "somebody"}},
		{"an expired certificate", "expired.*renew the master's certificate", []string{"--replicaof", "rediss://" + expired, "--tls-ca-cert-file", a.CA()}},
		{"no certificate for a master that wants one", "refuses the connection.*tls-cert-file", []string{"--replicaof", "rediss://" + strict, "--tls-ca-cert-file", a.CA()}},
		{"plain to a TLS port", "TLS.*rediss://", []string{"--replicaof", addr}},
		{"TLS to a plain port", "leave tls out", []string{"--replicaof", master.Addr(), "--tls", "--tls-ca-cert-file", a.CA(), "--repl-syncio-timeout", "1s"}},
		{"TLS to a silent port", "the TLS handshake had no answer.*tls-port", []string{"--replicaof", silent.Addr().String(), "--tls", "--tls-ca-cert-file", a.CA(), "--repl-syncio-timeout", "300ms"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := run(t, t.TempDir(), c.args...)
			d.waitLog(fmt.Sprintf(`state RECEIVE_PONG.*%s`, c.want))
			d.stop()
		})
	}
}
