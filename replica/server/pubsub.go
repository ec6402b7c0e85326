package server

import (
	"path"
	"strings"
	"sync"
)

const (
	maxMail          = 1024    // messages that wait for a subscriber
	maxMailBytes     = 8 << 20 // as the soft limit of client-output-buffer-limit pubsub
	maxSubscriptions = 1024    // of one client
)

// broker knows who is subscribed to what. Sentinels find each other by it: they
// publish themselves on __sentinel__:hello of each replica.
type broker struct {
	mu       sync.Mutex
	channels map[string]map[*client]bool
	patterns map[string]map[*client]bool
}

// matches says whether a name fits a glob pattern as Redis has them
// (stringmatchlen in util.c).
func matches(pattern, name string) bool {
	const slash = "\x00" // path.Match has a meaning of its own for it
	ok, err := path.Match(strings.ReplaceAll(pattern, "/", slash), strings.ReplaceAll(name, "/", slash))
	return ok && err == nil
}

func (b *broker) of(pattern bool) map[string]map[*client]bool {
	if pattern {
		return b.patterns
	}
	return b.channels
}

// join subscribes a client; false when it has too many subscriptions.
func (b *broker) join(c *client, name string, pattern bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.of(pattern)
	if all[name][c] {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.subs+c.psubs >= maxSubscriptions {
		return false
	}
	if all[name] == nil {
		all[name] = map[*client]bool{}
	}
	all[name][c] = true
	if pattern {
		c.psubs++
	} else {
		c.subs++
	}
	return true
}

func (b *broker) part(c *client, name string, pattern bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.remove(c, name, pattern)
}

func (b *broker) remove(c *client, name string, pattern bool) {
	all := b.of(pattern)
	if !all[name][c] {
		return
	}
	delete(all[name], c)
	if len(all[name]) == 0 {
		delete(all, name)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if pattern {
		c.psubs--
	} else {
		c.subs--
	}
}

// names are what a client is subscribed to.
func (b *broker) names(c *client, pattern bool) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var names []string
	for name, who := range b.of(pattern) {
		if who[c] {
			names = append(names, name)
		}
	}
	return names
}

// leave forgets a client.
func (b *broker) leave(c *client) {
	for _, pattern := range []bool{false, true} {
		for _, name := range b.names(c, pattern) {
			b.part(c, name, pattern)
		}
	}
}

// publish delivers a message and says to how many. It waits for nobody: who does
// not read is cut.
func (b *broker) publish(channel, message string) (n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.channels[channel] {
		c.deliver("message", channel, message)
		n++
	}
	for pattern, who := range b.patterns {
		if !matches(pattern, channel) {
			continue
		}
		for c := range who {
			c.deliver("pmessage", pattern, channel, message)
			n++
		}
	}
	return n
}

// deliver puts a message into a subscriber's mail.
func (c *client) deliver(parts ...string) {
	c.mu.Lock()
	r := reply{proto: c.proto}
	c.mu.Unlock()
	r.push(len(parts))
	for _, p := range parts {
		r.bulk(p)
	}
	if c.mailBytes.Add(int64(len(r.b))) <= maxMailBytes {
		select {
		case c.mail <- r.b:
			return
		default:
		}
	}
	c.s.cutOutput.Add(1)
	c.kill()
}

// openMail begins to deliver. The client's own goroutine calls it.
func (c *client) openMail() {
	if c.mail != nil {
		return
	}
	c.mail = make(chan []byte, maxMail)
	go func() {
		for {
			select {
			case <-c.done:
				return
			case m := <-c.mail:
				c.answer(func(r *reply) { r.raw(m) })
				c.mailBytes.Add(-int64(len(m)))
				if (len(c.mail) == 0 || c.full()) && c.flush() != nil {
					c.kill()
					return
				}
			}
		}
	}()
}

// channelsLike are the channels with subscribers.
func (b *broker) channelsLike(pattern string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []string
	for name := range b.channels {
		if pattern == "" || matches(pattern, name) {
			all = append(all, name)
		}
	}
	return all
}

func (b *broker) count(channel string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.channels[channel])
}

func (b *broker) patternCount() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.patterns)
}
