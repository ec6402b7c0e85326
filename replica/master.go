package replica

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"replicad/anet"
)

// ErrAddress is what every error of [ParseMaster] wraps.
var ErrAddress = errors.New("not a master's address")

// DefaultPort is Redis' port, for redis:// addresses that name none.
const DefaultPort = 6379

// Master says which master to follow.
type Master struct {
	Name     string // names the archive's folder and every log line
	Host     string // name or address; "" for a unix socket
	Port     int
	Path     string // the unix socket
	User     string // masteruser; "" for the default user
	Password string // masterauth; "" for none
	TLS      bool   // rediss://
}

// What the name of a master may be, and what of an address it can't hold.
var (
	nameForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)
	notName  = regexp.MustCompile(`[^A-Za-z0-9._-]`)
)

// CheckName returns an error that says what is wrong with a master's name.
func CheckName(name string) error {
	if nameForm.MatchString(name) {
		return nil
	}
	return fmt.Errorf("the name %q may hold letters, digits, dot, dash and underscore, and not start with dot or dash", name)
}

// ParseMaster reads [NAME=]ADDR, where ADDR is host:port, "host port",
// [v6]:port, redis://[user[:password]@]host[:port], rediss:// (TLS) or
// unix:///path. Without NAME= the name is made from the address. The error
// wraps ErrAddress.
func ParseMaster(s string) (Master, error) {
	m, err := parseMaster(strings.TrimSpace(s))
	if err != nil {
		return Master{}, fmt.Errorf("%w: %w; want [NAME=]host:port, \"host port\", [v6]:port, redis[s]://[user[:password]@]host:port or unix:///path", ErrAddress, err)
	}
	return m, nil
}

func parseMaster(s string) (Master, error) {
	var m Master
	if name, addr, ok := strings.Cut(s, "="); ok && !strings.ContainsAny(name, ":/[@ ") {
		if err := CheckName(name); err != nil && !mayHoldSecret(addr) {
			return m, err
		}
		m.Name, s = name, addr
	}
	if mayHoldSecret(s) {
		return m, errors.New("user and password are given as redis://user:password@host:port")
	}
	if err := m.parseAddress(s); err != nil {
		return m, err
	}
	if m.Name == "" {
		m.Name = m.defaultName()
	}
	return m, nil
}

// ParseHostPort makes a master without a name of a host and a port, as REPLICAOF
// has them. The error wraps ErrAddress.
func ParseHostPort(host, port string) (m Master, err error) {
	if err = m.setHostPort(strings.Trim(host, "[]"), port); err != nil {
		return Master{}, fmt.Errorf("%w: %w", ErrAddress, err)
	}
	return m, nil
}

// ParseName makes a master of which only the name is known. The error wraps
// ErrAddress.
func ParseName(name string) (Master, error) {
	if err := CheckName(name); err != nil {
		return Master{}, fmt.Errorf("%w: %w", ErrAddress, err)
	}
	return Master{Name: name}, nil
}

// mayHoldSecret says that an address must not be quoted: what stands before its
// @ may be a password, in a form that is not taken. Errors about redis:// quote
// nothing, and the path of a unix socket may hold an @.
func mayHoldSecret(addr string) bool {
	for _, known := range []string{"redis://", "rediss://", "unix:///"} {
		if strings.HasPrefix(addr, known) {
			return false
		}
	}
	return strings.Contains(addr, "@")
}

func (m *Master) parseAddress(s string) error {
	switch {
	case s == "":
		return errors.New("it is empty")
	case strings.HasPrefix(s, "unix://"):
		m.Path = strings.TrimPrefix(s, "unix://")
		if !strings.HasPrefix(m.Path, "/") {
			return fmt.Errorf("the path %q of the unix socket is not absolute", m.Path)
		}
		_, err := anet.Unix(m.Path)
		return err
	case strings.HasPrefix(s, "redis://"), strings.HasPrefix(s, "rediss://"):
		m.TLS = strings.HasPrefix(s, "rediss://")
		return m.parseURL(s)
	case strings.Contains(s, "://"):
		return fmt.Errorf("unknown scheme in %q", s)
	}
	host, port, err := net.SplitHostPort(s)
	if f := strings.Fields(s); len(f) == 2 { // as redis.conf writes it
		host, port, err = strings.Trim(f[0], "[]"), f[1], nil
	}
	if err != nil {
		var ae *net.AddrError
		if errors.As(err, &ae) {
			return fmt.Errorf("%q: %s", s, ae.Err)
		}
		return err
	}
	return m.setHostPort(host, port)
}

// parseURL reads redis://. Its errors never quote the address, which may hold
// a password.
func (m *Master) parseURL(s string) error {
	u, err := url.Parse(s)
	if err != nil {
		return errors.New("the redis:// address is malformed (special characters of a password must be %-encoded)")
	}
	if u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("a redis:// address of a master has no database, query or fragment: all databases are followed")
	}
	m.User = u.User.Username()
	given := false
	if m.Password, given = u.User.Password(); given && m.User != "" && m.Password == "" {
		return errors.New("the password is empty")
	}
	port := u.Port()
	if port == "" {
		port = strconv.Itoa(DefaultPort)
	}
	return m.setHostPort(u.Hostname(), port)
}

func (m *Master) setHostPort(host, port string) error {
	if host == "" {
		return errors.New("the host is missing")
	}
	// No host holds these. A NAME= that is no name ends up here too.
	if strings.ContainsAny(host, "/=@?#\\\"' \t\r\n") {
		return fmt.Errorf("the host %q is neither a name nor an address", host)
	}
	n, err := strconv.Atoi(port)
	if err != nil || n < 1 || n > 65535 {
		return fmt.Errorf("the port %q is not a number from 1 to 65535", port)
	}
	m.Host, m.Port = host, n
	return nil
}

// defaultName turns the address into a name for a folder: 127.0.0.1-6379.
func (m *Master) defaultName() string {
	s := m.Path
	if s == "" {
		s = m.Host + "-" + strconv.Itoa(m.Port)
	}
	s = strings.TrimLeft(notName.ReplaceAllString(strings.Trim(s, "/"), "_"), ".-")
	if len(s) > 128 {
		s = s[len(s)-128:]
	}
	if !nameForm.MatchString(s) {
		s = "master"
	}
	return s
}

// Address is the address without any secret: host:port or unix:///path. It is ""
// for a master of which only the name is known.
func (m Master) Address() string {
	switch {
	case m.Path != "":
		return "unix://" + m.Path
	case m.Host == "":
		return ""
	}
	return net.JoinHostPort(m.Host, strconv.Itoa(m.Port))
}

// At is the master at another address, which is what REPLICAOF changes. Name,
// user, password and TLS stay, as masteruser, masterauth and tls-replication do
// in Redis.
func (m Master) At(host string, port int) Master {
	m.Host, m.Port, m.Path = host, port, ""
	return m
}

// Nobody is the master without an address, as after REPLICAOF NO ONE.
func (m Master) Nobody() Master { return m.At("", 0) }

// String is the name with the address, without any secret.
func (m Master) String() string {
	if a := m.Address(); a != "" {
		return m.Name + " (" + a + ")"
	}
	return m.Name
}
