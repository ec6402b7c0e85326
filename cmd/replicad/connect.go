package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"replicad/anet/tunnel"
	"replicad/replica"
)

// masterauthVariable holds the password, so that it need not stand on the
// command line, where every user of the host can read it.
const masterauthVariable = "REPLICAD_MASTERAUTH"

// connectFlags say how a master is connected to, and who is there; every
// command that speaks to one has them.
type connectFlags struct {
	masteruser     string
	masterauth     string
	masterauthFile string
	source         string
	tls            bool
	files          tunnel.Files
	filesServe     bool // the files serve another purpose than TLS with masters, too
}

func (f *connectFlags) register(fl *pflag.FlagSet) {
	fl.StringVar(&f.masteruser, "masteruser", "", "ACL user to authenticate as")
	fl.StringVar(&f.masterauthFile, "masterauth-file", "", "file that holds the master's password")
	fl.StringVar(&f.masterauth, "masterauth", "", "the master's password (visible to every user of this host: prefer the file or the variable)")
	fl.StringVar(&f.source, "bind-source-addr", "", "address to connect from; as in Redis, another one is used where it can't be bound")
	fl.BoolVar(&f.tls, "tls", false, "speak TLS with each master, as rediss:// does with one")
	fl.StringVar(&f.files.CACert, "tls-ca-cert-file", "", "authorities that a master's certificate may be signed by; the system's where not given")
	fl.StringVar(&f.files.Cert, "tls-cert-file", "", "certificate to show to a master that asks for one")
	fl.StringVar(&f.files.Key, "tls-key-file", "", "its private key")
	fl.StringVar(&f.files.ServerName, "tls-server-name", "", "the name that the master's certificate must have; the host of ADDR where not given")
}

// masters reads addresses and gives each user, password and TLS. Warnings are
// told through warn.
func (f *connectFlags) masters(addresses []string, warn func(string)) ([]replica.Master, error) {
	var all []replica.Master
	for _, s := range addresses {
		m, err := replica.ParseMaster(s)
		if err != nil {
			return nil, fmt.Errorf("--replicaof: %w", err)
		}
		all = append(all, m)
	}
	return all, f.complete(all, warn)
}

// complete gives masters what their addresses do not say: user, password, TLS.
func (f *connectFlags) complete(all []replica.Master, warn func(string)) error {
	password, err := f.password(warn)
	if err != nil {
		return err
	}
	for i := range all {
		m := &all[i]
		if m.Password != "" {
			warn("a password on the command line is visible to every user of this host: prefer --masterauth-file or " + masterauthVariable)
		}
		if m.User == "" && m.Password == "" {
			m.User, m.Password = f.masteruser, password
		} else if m.Password == "" {
			m.Password = password
		}
		if m.User != "" && m.Password == "" {
			return fmt.Errorf("user %q for %s has no password: set --masterauth-file or %s", m.User, m, masterauthVariable)
		}
		m.TLS = m.TLS || f.tls
	}
	return f.checkTLS(all)
}

// config tells a link what to connect from, and the TLS files.
func (f *connectFlags) config(cfg *replica.Config) error {
	source, err := replica.ParseSource(f.source)
	if err != nil {
		return fmt.Errorf("--%w", err)
	}
	source.BestEffort = true
	cfg.Source, cfg.TLS = source, f.files
	return nil
}

// checkTLS reads the files once, so that a wrong one is known at once.
func (f *connectFlags) checkTLS(masters []replica.Master) error {
	used := false
	for _, m := range masters {
		if m.TLS && m.Path != "" {
			return fmt.Errorf("--tls with the unix socket %s: Redis speaks no TLS there", m.Address())
		}
		used = used || m.TLS
	}
	if !used && !f.filesServe {
		if f.files != (tunnel.Files{}) {
			return errors.New("flags --tls-... without TLS: add --tls, or follow a master by rediss://")
		}
		return nil
	}
	_, err := f.files.Config("")
	return err
}

func (f *connectFlags) password(warn func(string)) (string, error) {
	switch {
	case f.masterauth != "" && f.masterauthFile != "":
		return "", errors.New("--masterauth and --masterauth-file exclude each other")
	case f.masterauth != "":
		warn("--masterauth is visible to every user of this host: prefer --masterauth-file or " + masterauthVariable)
		return f.masterauth, nil
	case f.masterauthFile != "":
		return secretFile("masterauth-file", f.masterauthFile)
	}
	return os.Getenv(masterauthVariable), nil
}

// secretFile reads a password from a file; flag is the one that named it.
func secretFile(flag, path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("--%s: %w", flag, err)
	}
	p := strings.TrimRight(string(b), "\r\n")
	if p == "" {
		return "", fmt.Errorf("--%s: %s is empty", flag, path)
	}
	return p, nil
}
