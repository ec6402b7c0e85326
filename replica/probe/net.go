package probe

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"time"

	"replicad/anet"
)

// How far a connection goes.
type distance int

const (
	public distance = iota
	private
	local
)

// reach tells how far from here an address is.
func reach(ep anet.Endpoint) distance {
	if ep.Network() == "unix" {
		return local
	}
	ap, err := netip.ParseAddrPort(ep.String())
	switch a := ap.Addr(); {
	case err != nil:
		return public
	case a.IsLoopback():
		return local
	case a.IsPrivate(), a.IsLinkLocalUnicast():
		return private
	}
	return public
}

// soonExpired is how long before its end a certificate is warned of.
const soonExpired = 14 * 24 * time.Hour

// certificate judges a TLS connection that was made.
func certificate(s tls.ConnectionState, took time.Duration, now time.Time) Check {
	c := Check{Name: "TLS", Status: Pass, Took: took, Detail: tls.VersionName(s.Version) + ", " + tls.CipherSuiteName(s.CipherSuite)}
	if len(s.PeerCertificates) == 0 {
		return c
	}
	cert := s.PeerCertificates[0]
	left := cert.NotAfter.Sub(now)
	c.Detail += fmt.Sprintf("; the certificate of %q is valid until %s", cert.Subject.CommonName, cert.NotAfter.UTC().Format(time.DateTime))
	if left < soonExpired {
		c.Status = Warn
		c.Detail += ", which is " + span(left.Seconds()) + " from now"
		c.Remedy = "renew the master's certificate in time: a link reconnects with the one that is there then"
	}
	return c
}
