package demo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"

	"replicad/replica/archive/redisserver"
	"replicad/replica/minimaster"
)

// load gives what a generation restores to: by a redis-server from the PATH,
// or where there is none by an engine of our own. how says which it was.
func load(ctx context.Context, generation string) (d minimaster.Dump, how string, err error) {
	b, err := redisserver.Find()
	if errors.Is(err, redisserver.ErrNotFound) || errors.Is(err, redisserver.ErrTooOld) {
		d, err = replay(generation)
		return d, "there is no redis-server 7.0 or later on the PATH, so a fresh engine replayed the archive", err
	}
	if err != nil {
		return nil, "", err
	}
	d, err = loadByRedis(ctx, b, generation)
	return d, "redis-server " + b.Version + " loaded a copy of the archive", err
}

func loadByRedis(ctx context.Context, b redisserver.Binary, generation string) (minimaster.Dump, error) {
	copied, err := os.MkdirTemp("", "replicad-proof-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(copied)
	if err := os.CopyFS(copied, os.DirFS(generation)); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s, err := b.Load(ctx, copied)
	if err != nil {
		return nil, err
	}
	defer s.Stop()
	info, err := s.Client.Info(ctx, "keyspace").Result()
	if err != nil {
		return nil, err
	}
	d := minimaster.Dump{}
	for _, m := range regexp.MustCompile(`(?m)^db(\d+):`).FindAllStringSubmatch(info, -1) {
		db, err := strconv.Atoi(m[1])
		if err != nil {
			return nil, err
		}
		if d[db], err = dumpDB(ctx, s.DB(db)); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// dumpDB reads every key of a database, and closes the client.
func dumpDB(ctx context.Context, c *redis.Client) (map[string]minimaster.Value, error) {
	defer c.Close()
	keys := map[string]minimaster.Value{}
	for scan := c.Scan(ctx, 0, "", 1000).Iterator(); ; {
		if !scan.Next(ctx) {
			return keys, scan.Err()
		}
		v, err := value(ctx, c, scan.Val())
		if err != nil {
			return nil, fmt.Errorf("%q: %w", scan.Val(), err)
		}
		keys[scan.Val()] = v
	}
}

// value reads a key as minimaster.Value describes it.
func value(ctx context.Context, c *redis.Client, key string) (v minimaster.Value, err error) {
	if v.Type, err = c.Type(ctx, key).Result(); err != nil {
		return v, err
	}
	at, err := c.Do(ctx, "PEXPIRETIME", key).Int64()
	if err != nil {
		return v, err
	}
	v.Expire = max(at, 0)
	switch v.Type {
	case "string":
		s, err := c.Get(ctx, key).Result()
		v.Items = []string{s}
		return v, err
	case "list":
		v.Items, err = c.LRange(ctx, key, 0, -1).Result()
	case "set":
		v.Items, err = c.SMembers(ctx, key).Result()
		slices.Sort(v.Items)
	case "hash":
		m, e := c.HGetAll(ctx, key).Result()
		for _, f := range slices.Sorted(maps.Keys(m)) {
			v.Items = append(v.Items, f, m[f])
		}
		err = e
	case "zset":
		zs, e := c.Do(ctx, "ZRANGE", key, "0", "-1", "WITHSCORES").StringSlice()
		scores := map[string]string{}
		for i := 0; i+1 < len(zs); i += 2 {
			scores[zs[i]] = zs[i+1]
		}
		for _, m := range slices.Sorted(maps.Keys(scores)) {
			v.Items = append(v.Items, m, scores[m])
		}
		err = e
	case "stream":
		err = streamItems(ctx, c, key, &v)
	default:
		err = fmt.Errorf("type %s is not known here", v.Type)
	}
	return v, err
}

// streamItems reads entries in their own order of fields, which XRange of the
// client library loses.
func streamItems(ctx context.Context, c *redis.Client, key string, v *minimaster.Value) error {
	entries, err := c.Do(ctx, "XRANGE", key, "-", "+").Slice()
	for _, x := range entries {
		entry, ok := x.([]any)
		if !ok || len(entry) != 2 {
			return fmt.Errorf("XRANGE answered %v", x)
		}
		fields, _ := entry[1].([]any)
		v.Items = append(v.Items, fmt.Sprint(entry[0]), strconv.Itoa(len(fields)))
		for _, f := range fields {
			v.Items = append(v.Items, fmt.Sprint(f))
		}
	}
	return err
}
