package tunnel

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// Files are redis.conf's tls-* directives of a client.
type Files struct {
	CACert     string // tls-ca-cert-file: whom to trust; "" for the system's roots
	Cert, Key  string // tls-cert-file, tls-key-file: shown to a server that asks; both or none
	ServerName string // the name that the server's certificate must have; "" for the host that was connected to
}

// ErrFiles is what errors of [Files.Config] wrap.
var ErrFiles = errors.New("TLS files")

// Config reads the files. It is called for each connection, so that a
// certificate that was renewed on disk is used by the next one.
func (f Files) Config(host string) (*tls.Config, error) {
	cfg := &tls.Config{ServerName: f.ServerName, MinVersion: tls.VersionTLS12}
	if cfg.ServerName == "" {
		cfg.ServerName = host
	}
	if (f.Cert == "") != (f.Key == "") {
		return nil, fmt.Errorf("%w: tls-cert-file and tls-key-file belong together", ErrFiles)
	}
	if f.CACert != "" {
		pem, err := os.ReadFile(f.CACert)
		if err != nil {
			return nil, fmt.Errorf("%w: tls-ca-cert-file: %w", ErrFiles, err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%w: tls-ca-cert-file: %s holds no PEM certificate", ErrFiles, f.CACert)
		}
	}
	if f.Cert != "" {
		cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return nil, fmt.Errorf("%w: tls-cert-file %s, tls-key-file %s: %w", ErrFiles, f.Cert, f.Key, err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	return cfg, nil
}
