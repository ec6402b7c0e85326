package minimaster

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
)

// Dump is the content of every database that has keys, by number and key, in a form that compares: two datasets
// are equal when their Dumps are.
type Dump map[int]map[string]Value

// Value is one key's type, value and expiry.
type Value struct {
	Type   string // string, list, set, zset, hash, stream
	Expire int64  // Unix ms, 0 for none

	// Items is the value: the string; the list's elements in order; the set's members, sorted; the
	// hash's fields and values by field; the sorted set's members and scores by member; of a stream, for each entry
	// its id, the number of strings that follow, and those: fields and values.
	Items []string
}

// Dump is the engine's content.
func (e *Engine) Dump() Dump {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.dump()
}

func (e *Engine) dump() Dump {
	d := Dump{}
	for _, db := range e.databases() {
		keys := e.db(db).Keys()
		if len(keys) == 0 {
			continue
		}
		d[db] = make(map[string]Value, len(keys))
		for _, key := range keys {
			d[db][key] = e.value(db, key)
		}
	}
	return d
}

// value reads one key. The engine and its types are in our hands, so an error of these calls can only mean that the
// key has vanished, which the lock forbids.
func (e *Engine) value(db int, key string) Value {
	d := e.db(db)
	v := Value{Type: e.typeOf(db, key), Expire: e.expireAt(db, key)}
	switch v.Type {
	case "string":
		s, _ := d.Get(key)
		v.Items = []string{s}
	case "list":
		list, _ := d.List(key)
		v.Items = slices.Clone(list)
	case "set":
		v.Items, _ = d.Members(key)
	case "zset":
		scores, _ := d.SortedSet(key)
		for _, member := range slices.Sorted(maps.Keys(scores)) {
			v.Items = append(v.Items, member, formatScore(scores[member]))
		}
	case "hash":
		fields, _ := d.HKeys(key)
		for _, f := range fields {
			v.Items = append(v.Items, f, d.HGet(key, f))
		}
	case "stream":
		entries, _ := d.Stream(key)
		for _, x := range entries {
			v.Items = append(v.Items, x.ID, strconv.Itoa(len(x.Values)))
			v.Items = append(v.Items, x.Values...)
		}
	}
	return v
}

// Keys counts the keys of all databases.
func (d Dump) Keys() int {
	n := 0
	for _, keys := range d {
		n += len(keys)
	}
	return n
}

// Diff says in words where the two differ, one line a key, sorted; nil when they are equal.
func (d Dump) Diff(other Dump) []string {
	var lines []string
	for _, db := range union(d, other) {
		for _, key := range union(d[db], other[db]) {
			a, inA := d[db][key]
			b, inB := other[db][key]
			where := fmt.Sprintf("db%d %q: ", db, key)
			switch {
			case !inB:
				lines = append(lines, where+"only in the first, "+a.String())
			case !inA:
				lines = append(lines, where+"only in the second, "+b.String())
			case a.Type != b.Type:
				lines = append(lines, where+a.Type+", in the second "+b.Type)
			case !slices.Equal(a.Items, b.Items):
				lines = append(lines, where+a.String()+", in the second "+b.String()+firstDifference(a.Items, b.Items))
			case a.Expire != b.Expire:
				lines = append(lines, fmt.Sprintf("%sexpires at %d, in the second at %d", where, a.Expire, b.Expire))
			}
		}
	}
	return lines
}

func firstDifference(a, b []string) string {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf(" (first difference at item %d: %.40q, %.40q)", i, a[i], b[i])
		}
	}
	return fmt.Sprintf(" (the first %d items are equal)", min(len(a), len(b)))
}

// String shows the beginning of the value.
func (v Value) String() string {
	const show = 4
	s := fmt.Sprintf("%s of %d", v.Type, len(v.Items))
	for i, item := range v.Items {
		if i == show {
			s += " ..."
			break
		}
		s += fmt.Sprintf(" %.40q", item)
	}
	return s
}

func union[K int | string, V any](a, b map[K]V) []K {
	keys := slices.Collect(maps.Keys(a))
	for k := range b {
		if _, ok := a[k]; !ok {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}
