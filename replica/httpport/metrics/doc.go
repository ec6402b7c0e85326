// Package metrics shows Prometheus how the masters are followed: the collector
// asks each for its [status.Status] when it is scraped, so that one scrape is
// one moment, and nothing is counted twice.
//
// What lies on the disk is read by a goroutine, at most once a second, and
// nobody waits long for it: a disk that hangs must not hang the scrape that would
// tell of it.
//
//	m := metrics.New(metrics.Build{Version: "1.2.3"})
//	m.Follow(masters...)
//	http.Handle("/metrics", m.Handler(log))
package metrics
