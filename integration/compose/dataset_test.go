package compose

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// readDataset reads the keys that match a pattern, with what they hold, in words
// that are the same for equal datasets: commands of any version, no DUMP, whose
// bytes depend on encodings, and no DEBUG DIGEST, which servers refuse.
func readDataset(ctx context.Context, c *redis.Client, pattern string) (map[string]string, error) {
	all := map[string]string{}
	for keys := c.Scan(ctx, 0, pattern, 1000).Iterator(); ; {
		if !keys.Next(ctx) {
			return all, keys.Err()
		}
		value, err := read(ctx, c, keys.Val())
		if err != nil {
			return nil, fmt.Errorf("%q: %w", keys.Val(), err)
		}
		all[keys.Val()] = value
	}
}

func read(ctx context.Context, c *redis.Client, key string) (string, error) {
	kind, err := c.Type(ctx, key).Result()
	if err != nil {
		return "", err
	}
	var value any
	switch kind {
	case "string":
		value, err = c.Get(ctx, key).Result()
	case "list":
		value, err = c.LRange(ctx, key, 0, -1).Result()
	case "set":
		var members []string
		members, err = c.SMembers(ctx, key).Result()
		slices.Sort(members)
		value = members
	case "hash":
		value, err = c.HGetAll(ctx, key).Result() // fmt prints maps in order
	case "zset":
		value, err = c.ZRangeWithScores(ctx, key, 0, -1).Result()
	case "stream":
		value, err = c.XRange(ctx, key, "-", "+").Result()
	default:
		return "", fmt.Errorf("type %s", kind)
	}
	if err != nil {
		return "", err
	}
	expires, err := c.Do(ctx, "PEXPIRETIME", key).Int64()
	if err != nil && strings.Contains(err.Error(), "unknown command") { // before 7.0
		expires, err = 0, nil
	}
	return fmt.Sprintf("%s %q expires %d", kind, value, expires), err
}

// differences names at most five keys that differ.
func differences(want, got map[string]string) error {
	var all []string
	for key, value := range want {
		if got[key] != value {
			all = append(all, fmt.Sprintf("%s: %.100q, want %.100q", key, got[key], value))
		}
	}
	for key, value := range got {
		if _, ok := want[key]; !ok {
			all = append(all, fmt.Sprintf("%s: %.100q, which should not be there", key, value))
		}
	}
	if len(all) == 0 {
		return nil
	}
	slices.Sort(all)
	return errors.New(fmt.Sprint(len(all), " keys differ:\n", strings.Join(all[:min(5, len(all))], "\n")))
}
