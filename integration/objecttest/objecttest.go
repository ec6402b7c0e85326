// Package objecttest gives tests object storage in memory, behind a handler that
// may misbehave.
package objecttest

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// Bucket is the name of the one bucket, and Key and Secret are its credentials.
const (
	Bucket = "bucket"
	Key    = "key"
	Secret = "hunter2"
)

// Store is object storage.
type Store struct {
	URL string // the endpoint

	t       testing.TB
	backend *s3mem.Backend
	mu      sync.Mutex
	fault   Fault
}

// Fault answers a request in the store's place. It may have serve do so.
type Fault func(w http.ResponseWriter, r *http.Request, serve http.Handler)

// New starts a store that ends with the test.
func New(t testing.TB) *Store {
	t.Helper()
	s := &Store{t: t, backend: s3mem.New()}
	if err := s.backend.CreateBucket(Bucket); err != nil {
		t.Fatal(err)
	}
	serve := gofakes3.New(s.backend).Server()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		fault := s.fault
		s.mu.Unlock()
		if fault != nil {
			fault(w, r, serve)
			return
		}
		serve.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	s.URL = srv.URL
	return s
}

// Misbehave has each request answered by a fault; nil mends the store.
func (s *Store) Misbehave(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// Objects are the keys that begin with a prefix, with their sizes.
func (s *Store) Objects(prefix string) map[string]int64 {
	s.t.Helper()
	all := map[string]int64{}
	l, err := s.backend.ListBucket(Bucket, &gofakes3.Prefix{HasPrefix: true, Prefix: prefix}, gofakes3.ListBucketPage{})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, o := range l.Contents {
		all[o.Key] = o.Size
	}
	return all
}

// Get gives an object's bytes, and its metadata.
func (s *Store) Get(key string) (p []byte, meta map[string]string) {
	s.t.Helper()
	o, err := s.backend.GetObject(Bucket, key, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(o.Contents); err != nil {
		s.t.Fatal(err)
	}
	return b.Bytes(), o.Metadata
}

// Put writes an object, whatever is there.
func (s *Store) Put(key string, p []byte, meta map[string]string) {
	s.t.Helper()
	if _, err := s.backend.PutObject(Bucket, key, meta, bytes.NewReader(p), int64(len(p)), nil); err != nil {
		s.t.Fatal(err)
	}
}

// Delete removes an object.
func (s *Store) Delete(key string) {
	s.t.Helper()
	if _, err := s.backend.DeleteObject(Bucket, key); err != nil {
		s.t.Fatal(err)
	}
}
