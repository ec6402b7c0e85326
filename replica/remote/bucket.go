package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// Config says where the remote is. The zero value is none.
type Config struct {
	URL      string // s3://BUCKET/PREFIX; "" for no remote
	Endpoint string // https://HOST:PORT; "" for Amazon's
	Region   string // "" for the one that the store names
	// Every is the least time between two tails of an archive; 0 means
	// DefaultEvery.
	Every time.Duration
	// CloseAfter is the age at which what has come becomes a closed segment,
	// however little that is; 0 means DefaultCloseAfter.
	CloseAfter time.Duration
	// SingleWriter: nobody else writes below the prefix, and the store need not
	// create objects conditionally.
	SingleWriter bool
}

// The defaults of Config.
const (
	DefaultEvery      = time.Second
	DefaultCloseAfter = time.Hour
)

// Scheme begins the URL of a remote.
const Scheme = "s3://"

// Errors of this package, for errors.Is.
var (
	ErrURL = errors.New("want s3://BUCKET or s3://BUCKET/PREFIX")
	// ErrUnconditional: the store writes over an object, though it is asked to
	// create it.
	ErrUnconditional = errors.New("the store ignores If-None-Match: *, so two writers would write over each other")
	// ErrContradiction: two objects say different things about the same bytes.
	ErrContradiction = errors.New("two objects contradict each other")
	ErrDamaged       = errors.New("the object is damaged")
	ErrMissing       = errors.New("the remote has no such archive")

	errExists = errors.New("there is an object by that name")
)

// Remote is a place in object storage.
type Remote struct {
	cfg    Config
	client *minio.Client
	bucket string
	prefix string // "" or with a slash at the end
	piece  int64  // pieceSize, but in tests
	proved atomic.Bool
}

// Open makes a Remote, and connects to nothing. Credentials come from the
// variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws/credentials, or
// the machine's role.
func Open(cfg Config) (*Remote, error) {
	if cfg.Every == 0 {
		cfg.Every = DefaultEvery
	}
	if cfg.CloseAfter == 0 {
		cfg.CloseAfter = DefaultCloseAfter
	}
	r := &Remote{cfg: cfg, piece: pieceSize}
	var err error
	if r.bucket, r.prefix, err = ParseURL(cfg.URL); err != nil {
		return nil, err
	}
	at, err := ParseEndpoint(cfg.Endpoint)
	if err != nil {
		return nil, err
	}
	r.client, err = minio.New(at.Host, &minio.Options{
		Creds: credentials.NewChainCredentials([]credentials.Provider{
			&credentials.EnvAWS{}, &credentials.EnvMinio{}, &credentials.FileAWSCredentials{}, &credentials.IAM{},
		}),
		Secure: at.Scheme == "https",
		Region: cfg.Region,
		// The writer tries again by itself, and says so.
		MaxRetries: 1,
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.URL, err)
	}
	return r, nil
}

// ParseURL takes the URL of a remote apart. The error wraps ErrURL.
func ParseURL(s string) (bucket, prefix string, err error) {
	rest, ok := strings.CutPrefix(s, Scheme)
	bucket, prefix, _ = strings.Cut(rest, "/")
	prefix = strings.Trim(prefix, "/")
	if !ok || bucket == "" || strings.ContainsAny(rest, "?#@") {
		return "", "", fmt.Errorf("%q: %w", s, ErrURL)
	}
	if prefix != "" {
		prefix += "/"
	}
	return bucket, prefix, nil
}

// ParseEndpoint reads the address of a store; "" means Amazon's.
func ParseEndpoint(s string) (*url.URL, error) {
	if s == "" {
		s = "https://s3.amazonaws.com"
	}
	at, err := url.Parse(s)
	if err != nil || at.Host == "" || at.Scheme != "http" && at.Scheme != "https" || strings.Trim(at.Path, "/") != "" || at.User != nil {
		return nil, fmt.Errorf("%q is no endpoint: want https://HOST or http://HOST:PORT", s)
	}
	return at, nil
}

// String is the URL.
func (r *Remote) String() string { return strings.TrimSuffix(Scheme+r.bucket+"/"+r.prefix, "/") }

// entry is an object of a listing.
type entry struct {
	key      string // below the prefix
	size     int64
	modified time.Time // by the store's clock
}

// list calls f with the objects below a key.
func (r *Remote) list(ctx context.Context, below string, f func(entry)) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	for o := range r.client.ListObjects(ctx, r.bucket, minio.ListObjectsOptions{Prefix: r.prefix + below, Recursive: true}) {
		if o.Err != nil {
			return r.wrap("LIST", below, o.Err)
		}
		f(entry{strings.TrimPrefix(o.Key, r.prefix), o.Size, o.LastModified})
	}
	return ctx.Err()
}

// names lists the archives.
func (r *Remote) names(ctx context.Context) (all []string, err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	for o := range r.client.ListObjects(ctx, r.bucket, minio.ListObjectsOptions{Prefix: r.prefix}) {
		if o.Err != nil {
			return nil, r.wrap("LIST", "", o.Err)
		}
		if name, ok := strings.CutSuffix(strings.TrimPrefix(o.Key, r.prefix), "/"); ok && name != probeDir {
			all = append(all, name)
		}
	}
	return all, ctx.Err()
}

// metaCRC is the metadata that has the CRC-32C of an object's plain bytes.
const metaCRC = "Crc32c"

// put creates an object. The error wraps errExists where there is one by that
// name, and the store creates conditionally.
func (r *Remote) put(ctx context.Context, key string, body io.Reader, size int64, crc string) error {
	opt := minio.PutObjectOptions{DisableMultipart: true, ContentType: "application/zstd"}
	if crc != "" {
		opt.UserMetadata = map[string]string{metaCRC: crc}
	} else {
		opt.ContentType = "application/json"
	}
	if !r.cfg.SingleWriter {
		opt.SetMatchETagExcept("*")
	}
	_, err := r.client.PutObject(ctx, r.bucket, r.prefix+key, body, size, opt)
	if minio.ToErrorResponse(err).StatusCode == http.StatusPreconditionFailed {
		return fmt.Errorf("%s: %w", key, errExists)
	}
	return r.wrap("PUT", key, err)
}

// crcOf is the metaCRC of an object.
func (r *Remote) crcOf(ctx context.Context, key string) (string, error) {
	o, err := r.client.StatObject(ctx, r.bucket, r.prefix+key, minio.StatObjectOptions{})
	if err != nil {
		return "", r.wrap("HEAD", key, err)
	}
	return o.UserMetadata[metaCRC], nil
}

// get reads size bytes of an object, from a place on; to its end with -1.
func (r *Remote) get(ctx context.Context, key string, from, size int64) ([]byte, error) {
	opt := minio.GetObjectOptions{}
	if size >= 0 {
		if err := opt.SetRange(from, from+size-1); err != nil {
			return nil, err
		}
	}
	o, err := r.client.GetObject(ctx, r.bucket, r.prefix+key, opt)
	if err != nil {
		return nil, r.wrap("GET", key, err)
	}
	defer o.Close()
	p, err := io.ReadAll(o)
	return p, r.wrap("GET", key, err)
}

func (r *Remote) remove(ctx context.Context, key string) error {
	return r.wrap("DELETE", key, r.client.RemoveObject(ctx, r.bucket, r.prefix+key, minio.RemoveObjectOptions{}))
}

// wrap says what failed, without what a URL or a header may hold.
func (r *Remote) wrap(verb, key string, err error) error {
	if err == nil {
		return nil
	}
	var failed *url.Error
	if errors.As(err, &failed) {
		err = failed.Err
	}
	return fmt.Errorf("%s %s/%s: %w", verb, r, key, err)
}

const probeDir = "probe"

// Probe finds out whether the store creates objects conditionally, unless that is
// proved already. The error wraps ErrUnconditional where it does not, and
// SingleWriter is not set.
func (r *Remote) Probe(ctx context.Context, writer string) error {
	if r.cfg.SingleWriter || r.proved.Load() {
		return nil
	}
	key := fmt.Sprintf("%s/%s.%d", probeDir, writer, time.Now().UnixNano())
	once := func() error { return r.put(ctx, key, strings.NewReader("{}"), 2, "") }
	if err := once(); err != nil {
		return err
	}
	second := once()
	if err := r.remove(ctx, key); err != nil && second == nil {
		return err
	}
	switch {
	case errors.Is(second, errExists):
		r.proved.Store(true)
		return nil
	case second == nil:
		return fmt.Errorf("%s: %w: --remote-single-writer takes the store where nobody else writes below the prefix", r, ErrUnconditional)
	}
	return second
}

// worthATry says whether the store may answer another way in a moment.
func worthATry(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	switch code := minio.ToErrorResponse(err).StatusCode; code {
	case http.StatusForbidden, http.StatusNotFound, http.StatusUnauthorized, http.StatusBadRequest:
		return false
	}
	return true
}
