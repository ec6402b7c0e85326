package respport

import (
	"maps"
	"slices"
	"strconv"
	"sync"
)

// The kinds of subscription: to a channel, to channels by a pattern, to a shard
// channel.
const (
	channel = iota
	pattern
	shard
	kinds
)

// maxSubscriptions is how many one client may have.
const maxSubscriptions = 4096

// subscriptions are a client's own.
type subscriptions [kinds]map[string]struct{}

func (s *subscriptions) count() int { return len(s[channel]) + len(s[pattern]) + len(s[shard]) }

// pubsub knows who subscribed to what.
type pubsub struct {
	mu  sync.Mutex
	all [kinds]map[string]map[*client]struct{}
}

func (p *pubsub) add(kind int, name string, c *client) {
	if p.all[kind] == nil {
		p.all[kind] = map[string]map[*client]struct{}{}
	}
	if p.all[kind][name] == nil {
		p.all[kind][name] = map[*client]struct{}{}
	}
	p.all[kind][name][c] = struct{}{}
}

func (p *pubsub) remove(kind int, name string, c *client) {
	who := p.all[kind][name]
	delete(who, c)
	if len(who) == 0 {
		delete(p.all[kind], name)
	}
}

// publish gives a message to the subscribers, and tells how many there were.
func (p *pubsub) publish(kind int, name string, message []byte) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := int64(0)
	word := "message"
	if kind == shard {
		word = "smessage"
	}
	for c := range p.all[kind][name] {
		c.deliver(message, word, name)
		n++
	}
	if kind == shard {
		return n
	}
	for by, who := range p.all[pattern] {
		if !glob(by, name) {
			continue
		}
		for c := range who {
			c.deliver(message, "pmessage", by, name)
			n++
		}
	}
	return n
}

// deliver queues a message; the words stand before it.
func (c *client) deliver(message []byte, words ...string) {
	c.mu.Lock()
	r := reply{resp3: c.resp3}
	c.mu.Unlock()
	r.push(len(words) + 1)
	for _, w := range words {
		r.bulk(w)
	}
	r.bytes(message)
	c.out.Load().push(r.b, false)
}

// names are those of a kind that match a pattern; "" for all.
func (p *pubsub) names(kind int, by string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for name := range p.all[kind] {
		if by == "" || glob(by, name) {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

func (p *pubsub) subscribers(kind int, name string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.all[kind][name])
}

func (p *pubsub) count(kind int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.all[kind])
}

// leave forgets a client that is gone.
func (p *pubsub) leave(c *client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for kind := range c.subs {
		for name := range c.subs[kind] {
			p.remove(kind, name, c)
		}
	}
}

// subscribe is SUBSCRIBE, PSUBSCRIBE and SSUBSCRIBE. What is said about each name
// is a reply of its own.
func subscribe(kind int, word string) handler {
	return func(q *request) {
		if q.c.out.Load() == nil {
			q.c.flush(q.conn) // what redcon holds goes first
			q.c.out.Store(newOutbox(q.c))
		}
		for _, a := range q.args[1:] {
			if refusal := q.subscribe(kind, word, string(a)); refusal != "" {
				q.error(refusal)
				return
			}
		}
	}
}

func (q *request) subscribe(kind int, word, name string) (refusal string) {
	c, p := q.c, &q.s.pubsub
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, has := c.subs[kind][name]; !has {
		if c.subs.count() >= maxSubscriptions {
			return "ERR too many subscriptions: one client may have " + strconv.Itoa(maxSubscriptions)
		}
		if !c.memory.take(subscriptionSize(name)) {
			return "ERR " + errMemory.Error()
		}
		if c.subs[kind] == nil {
			c.subs[kind] = map[string]struct{}{}
		}
		c.subs[kind][name] = struct{}{}
		p.add(kind, name, c)
	}
	q.told(kind, word, &name)
	return ""
}

func subscriptionSize(name string) int64 { return int64(len(name) + 256) }

// unsubscribe is UNSUBSCRIBE, PUNSUBSCRIBE and SUNSUBSCRIBE.
func unsubscribe(kind int, word string) handler {
	return func(q *request) {
		c, p := q.c, &q.s.pubsub
		p.mu.Lock()
		defer p.mu.Unlock()
		names := words(q.args[1:])
		if len(names) == 0 {
			names = slices.Sorted(maps.Keys(c.subs[kind]))
		}
		if len(names) == 0 {
			q.told(kind, word, nil)
		}
		for _, name := range names {
			p.drop(c, kind, name)
			q.told(kind, word, &name)
		}
	}
}

// drop ends a subscription. The caller holds mu.
func (p *pubsub) drop(c *client, kind int, name string) {
	if _, has := c.subs[kind][name]; has {
		delete(c.subs[kind], name)
		p.remove(kind, name, c)
		c.memory.give(subscriptionSize(name))
	}
}

// told answers about one name, in the place where no message can overtake it.
func (q *request) told(kind int, word string, name *string) {
	c := q.c
	c.mu.Lock()
	for k := range c.subs {
		c.nsubs[k] = len(c.subs[k])
	}
	c.mu.Unlock()
	r := reply{resp3: q.resp3}
	r.push(3)
	r.bulk(word)
	if name == nil {
		r.null()
	} else {
		r.bulk(*name)
	}
	if kind == shard {
		r.int(int64(len(c.subs[shard])))
	} else {
		r.int(int64(len(c.subs[channel]) + len(c.subs[pattern])))
	}
	if o := c.out.Load(); o != nil {
		o.push(r.b, false)
		return
	}
	q.raw(r.b)
}

// unsubscribeAll is what RESET does.
func (c *client) unsubscribeAll() {
	p := &c.s.pubsub
	p.mu.Lock()
	defer p.mu.Unlock()
	for kind := range c.subs {
		for name := range c.subs[kind] {
			p.drop(c, kind, name)
		}
	}
	c.mu.Lock()
	c.nsubs = [kinds]int{}
	c.mu.Unlock()
}

func publish(kind int) handler {
	return func(q *request) { q.int(q.s.pubsub.publish(kind, string(q.args[1]), q.args[2])) }
}

func names(kind int) handler {
	return func(q *request) {
		by := ""
		switch {
		case len(q.args) == 3:
			by = string(q.args[2])
		case len(q.args) > 3:
			q.arity()
			return
		}
		q.strings(q.s.pubsub.names(kind, by))
	}
}

func subscribers(kind int) handler {
	return func(q *request) {
		q.array(2 * (len(q.args) - 2))
		for _, name := range words(q.args[2:]) {
			q.bulk(name)
			q.int(int64(q.s.pubsub.subscribers(kind, name)))
		}
	}
}

func numpat(q *request) { q.int(int64(q.s.pubsub.count(pattern))) }
