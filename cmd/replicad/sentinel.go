package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"replicad/anet/tunnel"
	"replicad/replica"
	"replicad/replica/sentinel"
)

// sentinelPassVariable holds the Sentinels' password.
const sentinelPassVariable = "REPLICAD_SENTINEL_PASS"

// sentinelFlags say which Sentinels know where the master is.
type sentinelFlags struct {
	addresses  string
	masterName string
	user       string
	passFile   string
	tls        bool
}

func (f *sentinelFlags) register(fl *pflag.FlagSet) {
	fl.StringVar(&f.addresses, "sentinel", "", "follow the master that these Sentinels name, in place of --replicaof: host:port[,host:port...]")
	fl.StringVar(&f.masterName, "master-name", "", "what the Sentinels call the master; names the archive too")
	fl.StringVar(&f.user, "sentinel-user", "", "ACL user of the Sentinels")
	fl.StringVar(&f.passFile, "sentinel-pass-file", "", "file that holds the Sentinels' password; or the variable "+sentinelPassVariable)
	fl.BoolVar(&f.tls, "sentinel-tls", false, "speak TLS with the Sentinels, by the files of --tls-...")
}

// given says whether there is a Sentinel to ask.
func (f *sentinelFlags) given() bool { return f.addresses != "" || f.masterName != "" }

// config gives the master of which only the name is known, and whom to ask.
func (f *sentinelFlags) config(files tunnel.Files) (m replica.Master, c sentinel.Config, err error) {
	switch {
	case f.addresses == "":
		return m, c, errors.New("--master-name without --sentinel: which Sentinels know it? For example: --sentinel 10.0.0.1:26379,10.0.0.2:26379")
	case f.masterName == "":
		return m, c, errors.New("--sentinel without --master-name: what do the Sentinels call the master? For example: --master-name mymaster")
	}
	if m, err = replica.ParseName(f.masterName); err != nil {
		return m, c, fmt.Errorf("--master-name: %w", err)
	}
	c.MasterName, c.User = f.masterName, f.user
	if c.Addresses, err = sentinel.ParseAddresses(f.addresses); err != nil {
		return m, c, fmt.Errorf("--sentinel: %w", err)
	}
	c.Password = os.Getenv(sentinelPassVariable)
	if f.passFile != "" {
		if c.Password, err = secretFile("sentinel-pass-file", f.passFile); err != nil {
			return m, c, err
		}
	}
	if f.user != "" && c.Password == "" {
		return m, c, fmt.Errorf("--sentinel-user %s has no password: set --sentinel-pass-file or %s", f.user, sentinelPassVariable)
	}
	if f.tls {
		c.TLS = func(host string) (*tls.Config, error) { return files.Config(host) }
		if _, err := files.Config(""); err != nil {
			return m, c, err
		}
	}
	return m, c, nil
}
