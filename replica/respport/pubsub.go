package respport

import (
	"path"
	"slices"
	"strconv"
	"strings"
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

// pubsub has the subscribers of each channel and pattern. Its lock also guards
// client.subs.
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

// count is how many names of a kind have subscribers.
func (p *pubsub) count(k kind) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for t := range p.all {
		if t.kind == k {
			n++
		}
	}
	return n
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

// glob tells whether a name matches a pattern, nearly as in Redis
// (stringmatchlen in util.c): *, ?, [set], [^set], [a-z], and \ to take the next
// character as it is.
func glob(pattern, name string) bool {
	slash := strings.NewReplacer("/", "\x00") // path.Match's * and ? stop at a slash
	ok, _ := path.Match(slash.Replace(pattern), slash.Replace(name))
	return ok
}
