package respport

import (
	"crypto/tls"
	"errors"
	"sync/atomic"

	"replicad/anet/tunnel"
)

// TLSFiles are redis.conf's tls-* directives for a port.
type TLSFiles struct {
	// Files has the port's certificate, and in CACert who may sign the
	// certificates of clients.
	tunnel.Files
	// AuthClients is tls-auth-clients: yes, no or optional; yes where it is
	// empty, as in Redis.
	AuthClients string
}

// Config reads the files.
func (t TLSFiles) Config() (*tls.Config, error) {
	files, wanted := t.Files, t.AuthClients != "no"
	switch {
	case t.Cert == "" || t.Key == "":
		return nil, errors.New("tls-port needs a certificate: set tls-cert-file and tls-key-file")
	case !wanted:
		files.CACert = ""
	case t.CACert == "":
		return nil, errors.New("tls-port asks clients for a certificate: set tls-ca-cert-file to verify them by, or tls-auth-clients no")
	}
	cfg, err := files.Config("")
	if err != nil || !wanted {
		return cfg, err
	}
	cfg.ClientCAs, cfg.RootCAs = cfg.RootCAs, nil
	cfg.ClientAuth = tls.RequireAndVerifyClientCert
	if t.AuthClients == "optional" {
		cfg.ClientAuth = tls.VerifyClientCertIfGiven
	}
	return cfg, nil
}

// certificates reads the files for each client, so that a renewed certificate
// needs no restart. Files that can't be read, or do not fit each other while they
// are being replaced, leave the last good ones in force.
type certificates struct {
	files TLSFiles
	warn  func(error) // of files that can't be used
	good  atomic.Pointer[tls.Config]
}

// current is what the next client is served with.
func (c *certificates) current(*tls.ClientHelloInfo) (*tls.Config, error) {
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
