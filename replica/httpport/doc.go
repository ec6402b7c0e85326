// Package web is what a daemon shows by HTTP, to read only:
//
//	/metrics  for Prometheus
//	/healthz  200 while the process and its event loop answer, else 503
//	/readyz   200 while each archive is what it is there for, else 503 and why
//	/         the status page, where there is one; else these paths
//
// Ready means that nothing is missing: the loop answers, each link that should
// follow a master receives its stream, and each archive can be written. A link
// that nobody is to be followed by (REPLICAOF NO ONE) misses nothing; one whose
// first full sync is still on its way, or whose Sentinels have named no master,
// does. Restart a daemon by /healthz, never by /readyz: a master that is down
// is none of its faults.
//
// There is no password, and no TLS: listen at a loopback address, or behind a
// proxy that has both.
package httpport
