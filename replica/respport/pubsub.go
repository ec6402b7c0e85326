package respport

import (
	"slices"
	"strconv"
	"sync"
)

// kind is a kind of subscription: to a channel, or to all channels that match a
// pattern.
type kind int

const (
	channel kind = iota
	pattern
	kinds
)

// word is a word of the protocol, for a kind.
func (k kind) word(s string) string {
	if k == pattern {
		return "p" + s
	}
	return s
}

// maxSubscriptions is how many subscriptions one client may have.
const maxSubscriptions = 4096

// topic is what a client subscribes to.
type topic struct {
	kind kind
	name string
}

// size is how many bytes a client is charged with for a subscription.
func (t topic) size() int64 { return int64(len(t.name) + 256) }

// pubsub knows who subscribed to what. Its lock also guards client.subs.
type pubsub struct {
	mu  sync.Mutex
	all map[topic]map[*client]struct{}
}

// add begins a subscription. The caller holds mu.
func (p *pubsub) add(t topic, c *client) {
	if p.all[t] == nil {
		p.all[t] = map[*client]struct{}{}
	}
	p.all[t][c], c.subs[t] = struct{}{}, struct{}{}
	c.change(func(v *seen) { v.nsubs[t.kind]++ })
}

// drop ends a subscription, if there is one. The caller holds mu.
func (p *pubsub) drop(t topic, c *client) {
	if _, has := c.subs[t]; !has {
		return
	}
	delete(c.subs, t)
	delete(p.all[t], c)
	if len(p.all[t]) == 0 {
		delete(p.all, t)
	}
	c.change(func(v *seen) { v.nsubs[t.kind]-- })
	c.memory.give(t.size())
}

// leave ends all subscriptions of a client.
func (p *pubsub) leave(c *client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for t := range c.subs {
		p.drop(t, c)
	}
}

// publish gives a message to the subscribers of a channel, and tells how many
// subscriptions there were.
func (p *pubsub) publish(name string, message []byte) (n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.all[topic{channel, name}] {
		c.deliver(message, "message", name)
		n++
	}
	for t, subscribed := range p.all {
		if t.kind != pattern || !glob(t.name, name) {
			continue
		}
		for c := range subscribed {
			c.deliver(message, "pmessage", t.name, name)
			n++
		}
	}
	return n
}

// deliver queues a message, with the words before it.
func (c *client) deliver(message []byte, words ...string) {
	r := reply{resp3: c.snapshot().protocol == 3}
	r.push(len(words) + 1)
	for _, w := range words {
		r.bulk(w)
	}
	r.bytes(message)
	c.out.message(r.b)
}

// names are those of a kind that have subscribers and match a pattern.
func (p *pubsub) names(k kind, by string) (all []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for t := range p.all {
		if t.kind == k && glob(by, t.name) {
			all = append(all, t.name)
		}
	}
	slices.Sort(all)
	return all
}

// subscribe is SUBSCRIBE and PSUBSCRIBE. Each name has a reply of its own.
func subscribe(k kind) handler {
	return func(q *request) {
		for _, a := range q.args[1:] {
			if refusal := q.subscribe(topic{k, string(a)}); refusal != "" {
				q.error(refusal)
				return
			}
		}
	}
}

func (q *request) subscribe(t topic) (refusal string) {
	c, p := q.c, &q.s.pubsub
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, has := c.subs[t]; !has {
		if len(c.subs) >= maxSubscriptions {
			return "ERR too many subscriptions: one client may have " + strconv.Itoa(maxSubscriptions)
		}
		if !c.memory.take(t.size()) {
			return "ERR " + errMemory.Error()
		}
		p.add(t, c)
	}
	q.told(t.kind.word("subscribe"), &t.name)
	return ""
}

// unsubscribe is UNSUBSCRIBE and PUNSUBSCRIBE.
func unsubscribe(k kind) handler {
	return func(q *request) {
		c, p := q.c, &q.s.pubsub
		p.mu.Lock()
		defer p.mu.Unlock()
		var names []string
		for _, a := range q.args[1:] {
			names = append(names, string(a))
		}
		if len(names) == 0 {
			for t := range c.subs {
				if t.kind == k {
					names = append(names, t.name)
				}
			}
			slices.Sort(names)
		}
		if len(names) == 0 {
			q.told(k.word("unsubscribe"), nil)
		}
		for _, name := range names {
			p.drop(topic{k, name}, c)
			q.told(k.word("unsubscribe"), &name)
		}
	}
}

// told answers about one name. The caller holds pubsub.mu, so that no message
// overtakes the answer.
func (q *request) told(word string, name *string) {
	r := reply{resp3: q.resp3}
	r.push(3)
	r.bulk(word)
	if name == nil {
		r.null()
	} else {
		r.bulk(*name)
	}
	r.int(int64(len(q.c.subs)))
	q.c.out.message(r.b)
}

func publish(q *request) { q.int(q.s.pubsub.publish(string(q.args[1]), q.args[2])) }

// channels is PUBSUB CHANNELS [pattern].
func channels(q *request) {
	switch len(q.args) {
	case 2:
		q.strings(q.s.pubsub.names(channel, "*"))
	case 3:
		q.strings(q.s.pubsub.names(channel, string(q.args[2])))
	default:
		q.arity()
	}
}

// subscribers is PUBSUB NUMSUB [channel ...].
func subscribers(q *request) {
	p := &q.s.pubsub
	p.mu.Lock()
	defer p.mu.Unlock()
	q.array(2 * (len(q.args) - 2))
	for _, name := range q.args[2:] {
		q.bytes(name)
		q.int(int64(len(p.all[topic{channel, string(name)}])))
	}
}

// patterns is PUBSUB NUMPAT.
func patterns(q *request) { q.int(int64(len(q.s.pubsub.names(pattern, "*")))) }

// glob tells whether a name matches a pattern as in Redis (stringmatchlen in
// util.c): *, ?, [set], [^set], [a-z], and \ to take the next character as it is.
// It goes back to the last * only, so that no pattern takes longer than
// len(pattern) times len(name).
func glob(pattern, name string) bool {
	starred, behindStar, unmatched := false, "", ""
	for {
		if pattern != "" && pattern[0] == '*' {
			pattern = pattern[1:]
			starred, behindStar, unmatched = true, pattern, name
			continue
		}
		if name == "" {
			return pattern == ""
		}
		if rest, ok := matchOne(pattern, name[0]); ok {
			pattern, name = rest, name[1:]
			continue
		}
		if !starred || unmatched == "" {
			return false
		}
		unmatched = unmatched[1:]
		pattern, name = behindStar, unmatched
	}
}

// matchOne matches one character with the first element of a pattern; rest is
// the pattern behind that element.
func matchOne(pattern string, c byte) (rest string, ok bool) {
	switch {
	case pattern == "":
		return "", false
	case pattern[0] == '?':
		return pattern[1:], true
	case pattern[0] == '[':
		return matchSet(pattern[1:], c)
	case pattern[0] == '\\' && len(pattern) > 1:
		pattern = pattern[1:]
	}
	return pattern[1:], pattern[0] == c
}

// matchSet matches one character with a set, of which [ is cut off. A set that is
// not closed ends with the pattern.
func matchSet(set string, c byte) (rest string, ok bool) {
	not := set != "" && set[0] == '^'
	if not {
		set = set[1:]
	}
	for set != "" && set[0] != ']' {
		low, high, size := set[0], set[0], 1
		switch {
		case low == '\\' && len(set) > 1:
			low, high, size = set[1], set[1], 2
		case len(set) > 2 && set[1] == '-':
			low, high, size = min(low, set[2]), max(low, set[2]), 3
		}
		ok = ok || low <= c && c <= high
		set = set[size:]
	}
	return set[min(1, len(set)):], ok != not
}
