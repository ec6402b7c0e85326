// Package sentinel asks Redis Sentinels where a master is, and watches it move.
//
// Each Sentinel is asked by SENTINEL MASTER, and the answer with the highest
// config-epoch counts: the epoch grows with each failover, so a Sentinel that
// was cut off, and still names the old master, never outvotes one that knows
// better. A +switch-master of any of them is taken as a hint to ask again at
// once; that is also done every few seconds, for a message may be missed. The
// Sentinels that the named ones know (SENTINEL SENTINELS) are asked too, so that
// it is enough if one of those named is alive at the start.
//
// That works for a replica which the Sentinels cannot reach or do not know.
package sentinel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
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
	switched     = "+switch-master"
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
}

func (a answer) address() string { return net.JoinHostPort(a.host, strconv.Itoa(a.port)) }

// Watch tells where the master is, at first and whenever that changes, until ctx
// is done. tell is called by one goroutine; an error of its is logged, and it is
// told again at the next look.
func Watch(ctx context.Context, c Config, tell func(host string, port int) error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	redis.SetLogger(libraryLog{c.Log}) // else it writes to stderr
	w := &watcher{cfg: c, hint: make(chan struct{}, 1), known: slices.Clone(c.Addresses)}
	defer w.subscribers.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w.run(ctx, tell)
}

type watcher struct {
	cfg         Config
	hint        chan struct{} // ask again
	subscribers sync.WaitGroup
	subscribed  []string
	known       []string  // Sentinels
	epoch       int64     // the highest that was heard
	behind      time.Time // since when only lower ones are
}

func (w *watcher) run(ctx context.Context, tell func(string, int) error) {
	var told string
	var complained time.Time
	for failures := 0; ; {
		w.subscribe(ctx)
		a, err := w.ask(ctx)
		if ctx.Err() != nil {
			return
		}
		wait := askEvery
		if err == nil && a.address() != told {
			if err = tell(a.host, a.port); err == nil {
				w.cfg.Log.Info("Sentinel names the master", "master_name", w.cfg.MasterName, "address", a.address(), "epoch", a.epoch)
				told = a.address()
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
	others []string // Sentinels that it knows
	err    error
}

// ask asks all Sentinels at once; the answer of the highest epoch counts. One of
// an epoch before what was heard already does not, for as long as the Sentinels
// may only be cut off: they may have been set up anew, too.
func (w *watcher) ask(ctx context.Context) (best answer, err error) {
	found := false
	var errs []error
	for _, s := range w.askAll(ctx) {
		if s.err != nil {
			errs = append(errs, s.err)
			continue
		}
		if !found || s.epoch > best.epoch {
			best, found = s.answer, true
		}
		for _, o := range s.others {
			if !slices.Contains(w.known, o) && len(w.known) < most {
				w.known = append(w.known, o)
			}
		}
	}
	if !found {
		return best, errors.Join(errs...)
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

// askAll gives the answers that come within a moment of the first good one: a
// Sentinel may have died together with the master.
func (w *watcher) askAll(ctx context.Context) (all []said) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan said, len(w.known))
	for _, at := range w.known {
		go func() {
			s := w.askOne(ctx, at)
			if s.err != nil {
				s.err = fmt.Errorf("%s: %w", at, s.err)
			}
			answers <- s
		}()
	}
	var late <-chan time.Time
	for range w.known {
		select {
		case s := <-answers:
			all = append(all, s)
			if s.err == nil && late == nil {
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
	is, err := c.Master(ctx, w.cfg.MasterName).Result()
	if redis.HasErrorPrefix(err, "No such master") {
		err = fmt.Errorf("%w: %q", ErrUnknown, w.cfg.MasterName)
	}
	if err != nil {
		return said{err: err}
	}
	s.host = is["ip"]
	s.port, err = strconv.Atoi(is["port"])
	if err != nil || s.host == "" || s.port < 1 || s.port > 65535 {
		return said{err: fmt.Errorf("it names no address: %q, %q", is["ip"], is["port"])}
	}
	s.epoch, _ = strconv.ParseInt(is["config-epoch"], 10, 64) // not told: the lowest
	if list, err := c.Sentinels(ctx, w.cfg.MasterName).Result(); err == nil {
		for _, o := range list {
			if addr, err := ParseAddresses(net.JoinHostPort(o["ip"], o["port"])); err == nil {
				s.others = append(s.others, addr...)
			}
		}
	}
	return s
}

func (w *watcher) client(at string) (*redis.SentinelClient, error) {
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
	return redis.NewSentinelClient(opt), nil
}

// subscribe listens to each Sentinel that is known and not listened to.
func (w *watcher) subscribe(ctx context.Context) {
	for _, at := range w.known {
		if !slices.Contains(w.subscribed, at) {
			w.subscribed = append(w.subscribed, at)
			w.subscribers.Go(func() { w.listen(ctx, at) })
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

func (w *watcher) hear(ctx context.Context, c *redis.SentinelClient) {
	sub := c.Subscribe(ctx, switched)
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
		if msg, ok := m.(*redis.Message); ok && strings.HasPrefix(msg.Payload, w.cfg.MasterName+" ") {
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
