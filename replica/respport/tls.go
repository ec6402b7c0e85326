package respport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
)

// TLSFiles are redis.conf's tls-* directives for a port.
type TLSFiles struct {
	Cert string // tls-cert-file
	Key  string // tls-key-file
	// CACert is tls-ca-cert-file: who may sign the certificates of clients.
	CACert string
	// AuthClients is tls-auth-clients: yes, no or optional; yes where it is
	// empty, as in Redis.
	AuthClients string
}

// Config reads the files.
func (t TLSFiles) Config() (*tls.Config, error) {
	switch {
	case t.Cert == "" || t.Key == "":
		return nil, errors.New("tls-port needs a certificate: set tls-cert-file and tls-key-file")
	case t.AuthClients != "" && t.AuthClients != "yes" && t.AuthClients != "no" && t.AuthClients != "optional":
		return nil, fmt.Errorf("tls-auth-clients %q: want yes, no or optional", t.AuthClients)
	case t.wantsClients() && t.CACert == "":
		return nil, errors.New("tls-port asks clients for a certificate: set tls-ca-cert-file to verify them by, or tls-auth-clients no")
	}
	cert, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, fmt.Errorf("tls-cert-file %s, tls-key-file %s: %w", t.Cert, t.Key, err)
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}
	if !t.wantsClients() {
		return cfg, nil
	}
	pem, err := os.ReadFile(t.CACert)
	if err != nil {
		return nil, fmt.Errorf("tls-ca-cert-file: %w", err)
	}
	cfg.ClientCAs = x509.NewCertPool()
	if !cfg.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("tls-ca-cert-file: %s holds no certificate", t.CACert)
	}
	cfg.ClientAuth = tls.RequireAndVerifyClientCert
	if t.AuthClients == "optional" {
		cfg.ClientAuth = tls.VerifyClientCertIfGiven
	}
	return cfg, nil
}

func (t TLSFiles) wantsClients() bool { return t.AuthClients != "no" }

// certificates reads the files for each client, so that a renewed certificate
// needs no restart. Files that can't be read, or do not fit each other while they
// are being replaced, leave the last good ones in force.
type certificates struct {
	files TLSFiles
	warn  func(error) // of files that can't be used
	good  atomic.Pointer[tls.Config]
}

// config is what a listener uses.
func (c *certificates) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.current() }}
}

func (c *certificates) current() (*tls.Config, error) {
	cfg, err := c.files.Config()
	if err == nil {
		c.good.Store(cfg)
		return cfg, nil
	}
	good := c.good.Load()
	if good == nil {
		return nil, err
	}
	c.warn(err)
	return good, nil
}
