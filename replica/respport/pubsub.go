package respport

import (
	"maps"
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

// subscriptions are a client's own.
type subscriptions [kinds]map[string]struct{}

func (s *subscriptions) count() int { return len(s[channel]) + len(s[pattern]) }

// pubsub knows who subscribed to what.
type pubsub struct {
	mu  sync.Mutex
	all [kinds]map[string]map[*client]struct{}
}

// add begins a subscription. The caller holds mu.
func (p *pubsub) add(k kind, name string, c *client) {
	if p.all[k] == nil {
		p.all[k] = map[string]map[*client]struct{}{}
	}
	if p.all[k][name] == nil {
		p.all[k][name] = map[*client]struct{}{}
	}
	if c.subs[k] == nil {
		c.subs[k] = map[string]struct{}{}
	}
	p.all[k][name][c], c.subs[k][name] = struct{}{}, struct{}{}
}

// drop ends a subscription. The caller holds mu.
func (p *pubsub) drop(k kind, name string, c *client) {
	if _, has := c.subs[k][name]; !has {
		return
	}
	delete(c.subs[k], name)
	delete(p.all[k][name], c)
	if len(p.all[k][name]) == 0 {
		delete(p.all[k], name)
	}
	c.memory.give(subscriptionSize(name))
}

// leave ends all subscriptions of a client.
func (p *pubsub) leave(c *client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k := range kinds {
		for name := range c.subs[k] {
			p.drop(k, name, c)
		}
	}
	c.countSubscriptions()
}

// publish gives a message to the subscribers of a channel, and tells how many
// subscriptions there were.
func (p *pubsub) publish(name string, message []byte) (n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.all[channel][name] {
		c.deliver(message, "message", name)
		n++
	}
	for by, subscribed := range p.all[pattern] {
		if !glob(by, name) {
			continue
		}
		for c := range subscribed {
			c.deliver(message, "pmessage", by, name)
			n++
		}
	}
	return n
}

// deliver queues a message, with the words before it.
func (c *client) deliver(message []byte, words ...string) {
	r := reply{resp3: c.snapshot().resp3}
	r.push(len(words) + 1)
	for _, w := range words {
		r.bulk(w)
	}
	r.bytes(message)
	c.out.message(r.b)
}

// count is how many names of a kind have subscribers.
func (p *pubsub) count(k kind) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.all[k])
}

// subscribe is SUBSCRIBE and PSUBSCRIBE. Each name has a reply of its own.
func subscribe(k kind) handler {
	return func(q *request) {
		for _, a := range q.args[1:] {
			if refusal := q.subscribe(k, string(a)); refusal != "" {
				q.error(refusal)
				return
			}
		}
	}
}

func (q *request) subscribe(k kind, name string) (refusal string) {
	c, p := q.c, &q.s.pubsub
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, has := c.subs[k][name]; !has {
		if c.subs.count() >= maxSubscriptions {
			return "ERR too many subscriptions: one client may have " + strconv.Itoa(maxSubscriptions)
		}
		if !c.memory.take(subscriptionSize(name)) {
			return "ERR " + errMemory.Error()
		}
		p.add(k, name, c)
	}
	q.told(k.word("subscribe"), &name)
	return ""
}

func subscriptionSize(name string) int64 { return int64(len(name) + 256) }

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
			names = slices.Sorted(maps.Keys(c.subs[k]))
		}
		if len(names) == 0 {
			q.told(k.word("unsubscribe"), nil)
		}
		for _, name := range names {
			p.drop(k, name, c)
			q.told(k.word("unsubscribe"), &name)
		}
	}
}

// told answers about one name. The caller holds pubsub.mu, so that no message
// overtakes the answer.
func (q *request) told(word string, name *string) {
	q.c.countSubscriptions()
	r := reply{resp3: q.resp3}
	r.push(3)
	r.bulk(word)
	if name == nil {
		r.null()
	} else {
		r.bulk(*name)
	}
	r.int(int64(q.c.subs.count()))
	q.c.out.message(r.b)
}

func (c *client) countSubscriptions() {
	n := [kinds]int{len(c.subs[channel]), len(c.subs[pattern])}
	c.change(func(v *seen) { v.nsubs = n })
}

func publish(q *request) { q.int(q.s.pubsub.publish(string(q.args[1]), q.args[2])) }

// channels is PUBSUB CHANNELS [pattern].
func channels(q *request) {
	if len(q.args) > 3 {
		q.arity()
		return
	}
	by := "*"
	if len(q.args) == 3 {
		by = string(q.args[2])
	}
	p := &q.s.pubsub
	p.mu.Lock()
	defer p.mu.Unlock()
	names := slices.Sorted(maps.Keys(p.all[channel]))
	q.strings(slices.DeleteFunc(names, func(name string) bool { return !glob(by, name) }))
}

// subscribers is PUBSUB NUMSUB [channel ...].
func subscribers(q *request) {
	p := &q.s.pubsub
	p.mu.Lock()
	defer p.mu.Unlock()
	q.array(2 * (len(q.args) - 2))
	for _, name := range q.args[2:] {
		q.bytes(name)
		q.int(int64(len(p.all[channel][string(name)])))
	}
}

// patterns is PUBSUB NUMPAT.
func patterns(q *request) { q.int(int64(q.s.pubsub.count(pattern))) }
