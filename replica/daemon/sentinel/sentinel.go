// Package sentinel asks Redis Sentinels where a master is, and watches it move.
//
// Each Sentinel is asked by SENTINEL MASTER for the config-epoch, and by SENTINEL
// GET-MASTER-ADDR-BY-NAME for the address. The answer with the highest epoch
// counts: the epoch grows with each failover, so a Sentinel that was cut off, and
// still names the old master, never outvotes one that knows better. (The address
// of SENTINEL MASTER is the old one until the failover has ended, while the epoch
// is new as soon as the replica is promoted: sentinelGetCurrentMasterAddress in
// sentinel.c.) Of two addresses with one epoch, the one that is followed counts,
// unless the Sentinel says that it is down.
//
// A +switch-master or +promoted-slave of any of them is taken as a hint to ask
// again at once; that is also done every few seconds, for a message may be
// missed.
//
// The Sentinels that the named ones know (SENTINEL SENTINELS) are learned, and
// asked too, so that it is enough if one of those named is alive at the start. A
// learned Sentinel counts as long as a named one that answers still knows it, or
// no named one answers. Its id (SENTINEL MYID, since 6.2) must be the one that
// was learned: another deployment may have its address now.
//
// That works for a replica which the Sentinels cannot reach or do not know.
package sentinel

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// DefaultPort is Sentinel's port.
const DefaultPort = 26379

const (
	askEvery     = 10 * time.Second // as often as Sentinel asks its replicas by INFO
	retryFirst   = 500 * time.Millisecond
	answerIn     = 3 * time.Second
	othersIn     = 500 * time.Millisecond // after the first answer
	most         = 64                     // Sentinels that are asked
	tellEvery    = time.Minute            // that nobody answers
	believeAfter = time.Minute
	switched     = "+switch-master"  // <name> <old ip> <old port> <ip> <port>
	promoted     = "+promoted-slave" // slave <ip:port> <ip> <port> @ <name> <old ip> <old port>
)

// Config says whom to ask for what.
type Config struct {
	// Addresses of Sentinels, as host:port.
	Addresses []string
	// MasterName is what the Sentinels call the master.
	MasterName string
	// User and Password are the Sentinels' own, not the master's
	// (sentinel-user, sentinel-pass).
	User, Password string
	// Credentials, where it is not nil, is asked for User and Password at each
	// connection: they may change.
	Credentials func() (user, password string)
	// TLS gives the configuration for each connection to a Sentinel; nil for
	// none.
	TLS func(host string) (*tls.Config, error)
	Log *slog.Logger // nil: silent
}

// ErrConfig is what errors of [Config.Check] wrap.
var ErrConfig = errors.New("not a Sentinel's configuration")

// ErrUnknown: the Sentinels that answer know no master of that name.
var ErrUnknown = errors.New("the Sentinels know no master of that name")

// ParseAddresses reads host[:port][,host[:port]...].
func ParseAddresses(s string) ([]string, error) {
	var all []string
	for a := range strings.SplitSeq(s, ",") {
		a = strings.TrimSpace(a)
		host, port, err := net.SplitHostPort(a)
		if err != nil { // without a port
			host, port = strings.Trim(a, "[]"), strconv.Itoa(DefaultPort)
		}
		n, err := strconv.Atoi(port)
		if host == "" || strings.ContainsAny(host, "/@=?# \t") || err != nil || n < 1 || n > 65535 {
			return nil, fmt.Errorf("%w: %q is not host:port", ErrConfig, a)
		}
		if a = net.JoinHostPort(host, port); !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	return all, nil
}

// Check says whether Watch can work by it.
func (c Config) Check() error {
	switch {
	case len(c.Addresses) == 0:
		return fmt.Errorf("%w: no Sentinel is named", ErrConfig)
	case c.MasterName == "":
		return fmt.Errorf("%w: the master's name is missing", ErrConfig)
	}
	return nil
}

// answer is what a Sentinel says of the master.
type answer struct {
	host  string
	port  int
	epoch int64
	down  bool // the Sentinel takes the master for dead
}

func (a answer) address() string { return net.JoinHostPort(a.host, strconv.Itoa(a.port)) }

// before says whether an answer counts more than another one; told is the
// address that is followed.
func (a answer) before(b answer, told string) bool {
	switch at, bt := a.address(), b.address(); {
	case a.epoch != b.epoch:
		return a.epoch > b.epoch
	case a.down != b.down:
		return b.down
	case at == told || bt == told:
		return at == told && bt != told
	default: // always the same one
		return at < bt
	}
}

// Watch tells where the master is, at first and whenever that changes, until ctx
// is done. tell is called by one goroutine; an error of its is logged, and it is
// told again at the next look.
func Watch(ctx context.Context, c Config, tell func(host string, port int) error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	redis.SetLogger(libraryLog{c.Log}) // else it writes to stderr
	w := &watcher{cfg: c, hint: make(chan struct{}, 1), listening: map[string]context.CancelFunc{}}
	defer w.listeners.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w.run(ctx, tell)
}

type watcher struct {
	cfg       Config
	hint      chan struct{} // ask again
	listeners sync.WaitGroup
	listening map[string]context.CancelFunc // by the Sentinel's address
	learned   map[string]string             // Sentinels that are not named: address to id
	told      string                        // the address that is followed; "" for none yet
	epoch     int64                         // the highest that was heard
	behind    time.Time                     // since when only lower ones are
}

func (w *watcher) run(ctx context.Context, tell func(string, int) error) {
	var complained time.Time
	for failures := 0; ; {
		w.subscribe(ctx)
		a, err := w.ask(ctx)
		if ctx.Err() != nil {
			return
		}
		wait := askEvery
		if err == nil && a.address() != w.told {
			if err = tell(a.host, a.port); err == nil {
				w.cfg.Log.Info("Sentinel names the master", "master_name", w.cfg.MasterName, "address", a.address(), "epoch", a.epoch)
				w.told = a.address()
			}
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			wait = min(retryFirst<<min(failures, 10), askEvery)
			failures++
			if time.Since(complained) > tellEvery {
				complained = time.Now()
				w.cfg.Log.Warn("no Sentinel says where the master is: asking again", "master_name", w.cfg.MasterName, "error", err)
			}
		} else {
			failures, complained = 0, time.Time{}
		}
		select {
		case <-ctx.Done():
			return
		case <-w.hint:
		case <-time.After(wait):
		}
	}
}

// said is what came of asking one Sentinel.
type said struct {
	answer
	at     string            // the Sentinel's address
	id     string            // its id; "" before 6.2
	others map[string]string // Sentinels that it knows: address to id
	err    error
}

// ask asks all Sentinels at once. An answer of an epoch before what was heard
// already does not count, for as long as the Sentinels may only be cut off: they
// may have been set up anew, too.
func (w *watcher) ask(ctx context.Context) (best answer, err error) {
	all := w.askAll(ctx)
	counted := w.counted(all)
	if len(counted) == 0 {
		for _, s := range all {
			err = errors.Join(err, s.err)
		}
		return best, cmp.Or(err, errNobody)
	}
	best = counted[0].answer
	for _, s := range counted[1:] {
		if s.before(best, w.told) {
			best = s.answer
		}
	}
	if best.epoch < w.epoch {
		if w.behind.IsZero() {
			w.behind = time.Now()
		}
		if time.Since(w.behind) < believeAfter {
			return best, fmt.Errorf("only Sentinels that missed the last failover answer (epoch %d, heard before: %d)", best.epoch, w.epoch)
		}
	}
	w.epoch, w.behind = best.epoch, time.Time{}
	return best, nil
}

var errNobody = errors.New("only Sentinels answer that are others than those that were learned")

// named says whether the configuration names a Sentinel.
func (w *watcher) named(at string) bool { return slices.Contains(w.cfg.Addresses, at) }

// counted gives the answers that count, and learns Sentinels from those that
// answer: from the named ones, or, where none of these does, from the others.
func (w *watcher) counted(all []said) []said {
	trusted := func(s said) bool {
		id, known := w.learned[s.at]
		return w.named(s.at) || known && (id == "" || s.id == "" || id == s.id)
	}
	all = slices.DeleteFunc(slices.Clone(all), func(s said) bool { return s.err != nil })
	voices := slices.DeleteFunc(slices.Clone(all), func(s said) bool { return !w.named(s.at) })
	if len(voices) == 0 {
		voices = slices.DeleteFunc(slices.Clone(all), func(s said) bool { return !trusted(s) })
	}
	if len(voices) == 0 {
		return nil
	}
	learned := map[string]string{}
	for _, s := range voices {
		if !w.named(s.at) {
			learned[s.at] = s.id
		}
		for at, id := range s.others {
			if !w.named(at) && len(w.cfg.Addresses)+len(learned) < most {
				learned[at] = id
			}
		}
	}
	w.learned = learned
	return slices.DeleteFunc(all, func(s said) bool { return !trusted(s) })
}

// known are the Sentinels to ask.
func (w *watcher) known() []string {
	return slices.AppendSeq(slices.Clone(w.cfg.Addresses), maps.Keys(w.learned))
}

// askAll gives the answers that come within a moment of the first good one of a
// named Sentinel, or, where no named one answers, of the first good one: a
// Sentinel may have died together with the master.
func (w *watcher) askAll(ctx context.Context) (all []said) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	known := w.known()
	answers := make(chan said, len(known))
	for _, at := range known {
		go func() {
			s := w.askOne(ctx, at)
			if s.at = at; s.err != nil {
				s.err = fmt.Errorf("%s: %w", at, s.err)
			}
			answers <- s
		}()
	}
	var late <-chan time.Time
	silent, good := len(w.cfg.Addresses), false // silent: the named ones that have not answered
	for range known {
		select {
		case s := <-answers:
			all = append(all, s)
			named := w.named(s.at)
			if named {
				silent--
			}
			good = good || s.err == nil
			if late == nil && (named && s.err == nil || silent == 0 && good) {
				late = time.After(othersIn)
			}
		case <-late:
			return all
		case <-ctx.Done():
			return all
		}
	}
	return all
}

// askOne asks one Sentinel.
func (w *watcher) askOne(ctx context.Context, at string) (s said) {
	ctx, cancel := context.WithTimeout(ctx, answerIn)
	defer cancel()
	c, err := w.client(at)
	if err != nil {
		return said{err: err}
	}
	defer c.Close()
	// In one write, and the epoch before the address: so the address is never
	// the older of both.
	name := w.cfg.MasterName
	master := redis.NewMapStringStringCmd(ctx, "sentinel", "master", name)
	address := redis.NewStringSliceCmd(ctx, "sentinel", "get-master-addr-by-name", name)
	others := redis.NewMapStringStringSliceCmd(ctx, "sentinel", "sentinels", name)
	id := redis.NewStringCmd(ctx, "sentinel", "myid")
	_, _ = c.Pipelined(ctx, func(p redis.Pipeliner) error {
		return errors.Join(p.Process(ctx, master), p.Process(ctx, address), p.Process(ctx, others), p.Process(ctx, id))
	}) // each command has its own error
	is, err := master.Result()
	if redis.HasErrorPrefix(err, "No such master") {
		err = fmt.Errorf("%w: %q", ErrUnknown, name)
	}
	if err != nil {
		return said{err: err}
	}
	if s.answer, err = readAnswer(is, address); err != nil {
		return said{err: err}
	}
	s.id, s.others = id.Val(), map[string]string{}
	for _, o := range others.Val() {
		if addr, err := ParseAddresses(net.JoinHostPort(o["ip"], o["port"])); err == nil {
			s.others[addr[0]] = o["runid"]
		}
	}
	return s
}

// readAnswer makes an answer of the fields of SENTINEL MASTER, and the address
// that GET-MASTER-ADDR-BY-NAME gave: an ACL may refuse that.
func readAnswer(is map[string]string, address *redis.StringSliceCmd) (a answer, err error) {
	host, port := is["ip"], is["port"]
	flags := strings.Split(is["flags"], ",")
	now, err := address.Result()
	switch {
	case err == nil && len(now) == 2:
		a.down = host == now[0] && port == now[1]
		host, port = now[0], now[1]
	case slices.Contains(flags, "failover_in_progress"):
		return a, fmt.Errorf("a failover is in progress, and it does not say where the master is: %w", cmp.Or[error](err, redis.Nil))
	default:
		a.down = true
	}
	// The flags are those of the master that the fields name.
	a.down = a.down && (slices.Contains(flags, "s_down") || slices.Contains(flags, "o_down"))
	a.host = host
	a.port, err = strconv.Atoi(port)
	if err != nil || host == "" || a.port < 1 || a.port > 65535 {
		return a, fmt.Errorf("it names no address: %q, %q", host, port)
	}
	a.epoch, _ = strconv.ParseInt(is["config-epoch"], 10, 64) // not told: the lowest
	return a, nil
}

func (w *watcher) client(at string) (*redis.Client, error) {
	opt := &redis.Options{
		Addr: at, Username: w.cfg.User, Password: w.cfg.Password, CredentialsProvider: w.cfg.Credentials, Protocol: 2,
		DisableIdentity: true, MaxRetries: -1, PoolSize: 1, DialerRetries: 1,
		DialTimeout: answerIn, ReadTimeout: answerIn, WriteTimeout: answerIn,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if w.cfg.TLS != nil {
		host, _, _ := net.SplitHostPort(at)
		cfg, err := w.cfg.TLS(host)
		if err != nil {
			return nil, err
		}
		opt.TLSConfig = cfg
	}
	return redis.NewClient(opt), nil
}

// subscribe listens to each Sentinel that is known, and to no other one.
func (w *watcher) subscribe(ctx context.Context) {
	known := w.known()
	for at, stop := range w.listening {
		if !slices.Contains(known, at) {
			stop()
			delete(w.listening, at)
		}
	}
	for _, at := range known {
		if w.listening[at] == nil {
			ctx, stop := context.WithCancel(ctx)
			w.listening[at] = stop
			w.listeners.Go(func() { w.listen(ctx, at) })
		}
	}
}

// listen turns messages of one Sentinel into hints. The library connects again
// by itself.
func (w *watcher) listen(ctx context.Context, at string) {
	for ctx.Err() == nil {
		c, err := w.client(at)
		if err == nil {
			w.hear(ctx, c)
			c.Close()
		}
		select {
		case <-ctx.Done():
		case <-time.After(askEvery / 4):
		}
	}
}

func (w *watcher) hear(ctx context.Context, c *redis.Client) {
	sub := c.Subscribe(ctx, switched, promoted)
	defer context.AfterFunc(ctx, func() { sub.Close() })() // the library reads on when ctx is done
	defer sub.Close()
	for {
		m, err := sub.ReceiveTimeout(ctx, 2*askEvery)
		var ne net.Error
		if errors.As(err, &ne) && ne.Timeout() && ctx.Err() == nil {
			if sub.Ping(ctx) == nil {
				continue
			}
		}
		if err != nil {
			return
		}
		if msg, ok := m.(*redis.Message); ok && slices.Contains(strings.Fields(msg.Payload), w.cfg.MasterName) {
			select {
			case w.hint <- struct{}{}:
			default:
			}
		}
	}
}

// libraryLog is where go-redis logs.
type libraryLog struct{ log *slog.Logger }

func (l libraryLog) Printf(ctx context.Context, format string, v ...any) {
	l.log.DebugContext(ctx, "go-redis: "+fmt.Sprintf(format, v...))
}
