package respport

import (
	"crypto/tls"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"replicad/anet/tunnel"
	"replicad/anet/tunnel/tunneltest"
	"replicad/integration/poll"
)

// secured starts a port that speaks TLS, and gives its files.
func secured(t *testing.T, a *tunneltest.Authority, authClients string, l *logged) (*port, TLSFiles) {
	t.Helper()
	cert, key := a.SignFiles("server", time.Now().Add(time.Hour))
	files := TLSFiles{Files: tunnel.Files{Cert: cert, Key: key, CACert: a.CA()}, AuthClients: authClients}
	return startWith(t, Config{TLS: files, Log: logInto(l)}, true), files
}

func (p *port) dialTLS(cfg *tls.Config) (*raw, error) {
	c, err := tls.Dial("tcp", p.addr, cfg)
	if err != nil {
		return nil, err
	}
	return wrap(p.t, c), nil
}

// serial is that of the certificate that the port shows.
func (r *raw) serial() string {
	return r.Conn.(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.String()
}

func TestClientsOfTheTLSPortShowACertificateWhereOneIsWanted(t *testing.T) {
	a, other := tunneltest.NewAuthority(t), tunneltest.NewAuthority(t)
	hour := time.Now().Add(time.Hour)
	none, good := &tls.Config{RootCAs: a.Pool()}, &tls.Config{RootCAs: a.Pool(), Certificates: []tls.Certificate{a.Sign("me", hour)}}
	expired := &tls.Config{RootCAs: a.Pool(), Certificates: []tls.Certificate{a.Sign("me", time.Now().Add(-time.Minute))}}
	// crypto/tls sends no certificate of an authority that the server does not
	// name, unless it is made to.
	stranger := other.Sign("me", hour)
	strange := &tls.Config{RootCAs: a.Pool(), GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &stranger, nil }}
	for _, c := range []struct {
		auth   string
		cfg    *tls.Config
		served bool
	}{
		{"", good, true}, {"", none, false}, {"yes", good, true}, {"yes", expired, false}, {"yes", strange, false},
		{"optional", none, true}, {"optional", good, true}, {"optional", strange, false}, {"no", none, true}, {"no", strange, true},
	} {
		var l logged
		p, _ := secured(t, a, c.auth, &l)
		got, err := "", error(nil)
		if k, e := p.dialTLS(c.cfg); e == nil {
			_, _ = io.WriteString(k, "PING\r\n") // since TLS 1.3 the refusal comes with the first reply
			got, err = k.read()
		} else {
			err = e
		}
		if served := err == nil && got == "+PONG\r\n"; served != c.served {
			t.Errorf("tls-auth-clients %q: served %v, %q, %v", c.auth, served, got, err)
		}
		if !c.served {
			poll.Until(t, "a line in the log", func() bool { return strings.Contains(l.text(), "a TLS handshake failed") })
		}
	}
}

func TestARenewedCertificateIsUsedAtTheNextConnectAndABrokenOneNever(t *testing.T) {
	a := tunneltest.NewAuthority(t)
	var l logged
	p, files := secured(t, a, "no", &l)
	cfg := &tls.Config{RootCAs: a.Pool()}
	first, err := p.dialTLS(cfg)
	if err != nil {
		t.Fatal(err)
	}
	a.SignFiles("server", time.Now().Add(2*time.Hour)) // in the place of the first one
	second, err := p.dialTLS(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if first.serial() == second.serial() {
		t.Error("the certificate is the same")
	}
	first.wants("PING", "+PONG")
	second.wants("PING", "+PONG")
	if err := os.WriteFile(files.Cert, []byte("half a fi"), 0o600); err != nil {
		t.Fatal(err)
	}
	third, err := p.dialTLS(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if third.serial() != second.serial() {
		t.Error("another certificate is shown")
	}
	if !strings.Contains(l.text(), "the changed TLS files can't be used") {
		t.Errorf("the log: %s", l.text())
	}
}

func TestPlainToTheTLSPortAndTLSToThePlainOneGetAHint(t *testing.T) {
	a := tunneltest.NewAuthority(t)
	var l logged
	p, _ := secured(t, a, "no", &l)
	c := p.dial()
	c.send("PING\r\n")
	if got := c.ended(); got != "-ERR this port speaks TLS (tls-port): connect with redis-cli --tls, or to the plain port\r\n" {
		t.Errorf("%q", got)
	}
	plain := start(t, Config{Log: logInto(&l)})
	_, err := plain.dialTLS(&tls.Config{RootCAs: a.Pool()})
	if err == nil || !strings.Contains(err.Error(), "first record does not look like a TLS handshake") {
		t.Errorf("%v", err)
	}
	for _, want := range []string{"a client speaks plain RESP to tls-port", "a client speaks TLS to the plain port"} {
		poll.Until(t, "the log's "+want, func() bool { return strings.Contains(l.text(), want) })
	}
}

func TestTLSFilesThatCantBeUsedAreAnErrorThatSaysWhich(t *testing.T) {
	a := tunneltest.NewAuthority(t)
	cert, key := a.SignFiles("server", time.Now().Add(time.Hour))
	_, otherKey := a.SignFiles("other", time.Now().Add(time.Hour))
	for want, f := range map[string]TLSFiles{
		"set tls-cert-file and tls-key-file":          {},
		"set tls-ca-cert-file to verify them by":      {Files: tunnel.Files{Cert: cert, Key: key}},
		"private key does not match":                  {Files: tunnel.Files{Cert: cert, Key: otherKey}, AuthClients: "no"},
		"no such file":                                {Files: tunnel.Files{Cert: cert, Key: key, CACert: "missing.pem"}},
		"holds no PEM certificate":                    {Files: tunnel.Files{Cert: cert, Key: key, CACert: key}},
		"tls-cert-file missing.pem, tls-key-file x: ": {Files: tunnel.Files{Cert: "missing.pem", Key: "x"}, AuthClients: "no"},
	} {
		if _, err := f.Config(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", f, err, want)
		}
	}
	good := TLSFiles{Files: tunnel.Files{Cert: cert, Key: key, CACert: a.CA()}}
	if cfg, err := good.Config(); err != nil || cfg.ClientAuth != tls.RequireAndVerifyClientCert || !cfg.ClientCAs.Equal(a.Pool()) {
		t.Errorf("%v", err)
	}
}
