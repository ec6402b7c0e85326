package redisserver

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// Report says what a redis-server found in a folder.
type Report struct {
	Version   string     `json:"redis_version"`
	Databases []Database `json:"databases"` // that have keys
	Keys      int64      `json:"keys"`
	Digest    string     `json:"digest"`       // DEBUG DIGEST; "" where the server does not allow it
	Seconds   float64    `json:"load_seconds"` // from the start of the process
}

// Database is a line of INFO keyspace.
type Database struct {
	DB      int   `json:"db"`
	Keys    int64 `json:"keys"`
	Expires int64 `json:"expires"` // how many of the keys have a time to live
}

// Check loads a folder strictly: a file that ends inside a command is an error,
// too. The server may write to dir, which must be a copy. The directives are
// those of [Binary.Load]: a dump.rdb needs "--appendonly", "no". The error wraps
// ErrLoad where the server refused the files.
func (b Binary) Check(ctx context.Context, dir string, directives ...string) (Report, error) {
	s, err := b.Load(ctx, dir, append(directives, "--aof-load-truncated", "no")...)
	if err != nil {
		return Report{}, err
	}
	defer s.Stop()
	r := Report{Version: b.Version, Seconds: s.Took.Seconds()}
	if r.Databases, err = s.keyspace(ctx); err != nil {
		return Report{}, s.lost(ctx, err)
	}
	for _, d := range r.Databases {
		r.Keys += d.Keys
	}
	r.Digest, err = s.Digest(ctx)
	var refused redis.Error
	if err != nil && !errors.As(err, &refused) {
		return Report{}, s.lost(ctx, err)
	}
	return r, nil
}

// Save loads a folder's AOF strictly, and has the server write the dataset to a
// dump.rdb in the same folder. It returns the file's path.
func (b Binary) Save(ctx context.Context, dir string) (path string, err error) {
	s, err := b.Load(ctx, dir, "--aof-load-truncated", "no", "--dbfilename", dumpName)
	if err != nil {
		return "", err
	}
	defer s.Stop()
	if err := s.Client.Save(ctx).Err(); err != nil {
		return "", fmt.Errorf("SAVE: %w", s.lost(ctx, err))
	}
	return filepath.Join(dir, dumpName), nil
}

const dumpName = "dump.rdb"

// lost ends the server, and adds to a client's error what the server said last.
// Where ctx is done, the error is ctx's.
func (s *Server) lost(ctx context.Context, err error) error {
	s.Stop() // until then it may write to its log
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return fmt.Errorf("%w; it said last: %s", err, lastLines(s.log.Bytes(), 3))
}

var keyspaceForm = regexp.MustCompile(`(?m)^db(\d+):keys=(\d+),expires=(\d+)`)

// keyspace asks how many keys there are.
func (s *Server) keyspace(ctx context.Context) ([]Database, error) {
	info, err := s.Client.Info(ctx, "keyspace").Result()
	if err != nil {
		return nil, err
	}
	all := []Database{}
	for _, m := range keyspaceForm.FindAllStringSubmatch(info, -1) {
		var d Database
		if d.DB, err = strconv.Atoi(m[1]); err != nil {
			return nil, err
		}
		d.Keys, _ = strconv.ParseInt(m[2], 10, 64) // digits
		d.Expires, _ = strconv.ParseInt(m[3], 10, 64)
		all = append(all, d)
	}
	return all, nil
}
