package minimaster

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/redcon"
)

// info is INFO, with the two sections that a replica's operator looks at,
// whichever is asked for.
func (c *call) info() []byte {
	_, port, _ := net.SplitHostPort(c.m.Addr())
	lines := []string{"# Server", "redis_version:" + Version, "redis_mode:standalone", "server_name:minimaster", "tcp_port:" + port, "", "# Replication"}
	return redcon.AppendBulkString(nil, strings.Join(append(lines, c.m.infoReplication()...), "\r\n")+"\r\n")
}

// config is CONFIG GET of the directives that replication depends on, by their
// full names.
func (c *call) config() []byte {
	if !strings.EqualFold(c.args[1], "GET") {
		return errorReply("ERR minimaster knows CONFIG GET only")
	}
	cfg := c.m.cfg
	known := map[string]string{
		"repl-backlog-size":        strconv.Itoa(cfg.BacklogSize),
		"repl-diskless-sync":       map[bool]string{true: "yes", false: "no"}[cfg.Diskless],
		"repl-ping-replica-period": strconv.Itoa(int(cfg.ReplPingPeriod / time.Second)),
	}
	var found []string
	for _, name := range c.args[2:] {
		if value, ok := known[strings.ToLower(name)]; ok {
			found = append(found, name, value)
		}
	}
	return appendCommand(nil, found...)
}

// infoReplication has the lines of the section Replication of a master (server.c,
// genRedisInfoString). The caller holds mu.
func (s *replication) infoReplication() []string {
	replicas := s.replicas.Replicas()
	list := []string{"role:master", fmt.Sprint("connected_slaves:", len(replicas))}
	for i, r := range replicas {
		now := r.Now()
		list = append(list, fmt.Sprintf("slave%d:ip=%s,port=%d,state=%s,offset=%d,lag=%d",
			i, r.Host(), r.Port, now.State(), now.Ack, time.Since(now.Heard)/time.Second))
	}
	active, first, length := 0, int64(0), 0
	if s.backlog != nil {
		active, first, length = 1, s.backlog.first(), s.backlog.len()
	}
	return append(list,
		"master_failover_state:no-failover",
		"master_replid:"+s.replid,
		"master_replid2:"+strings.Repeat("0", 40),
		fmt.Sprint("master_repl_offset:", s.offset),
		"second_repl_offset:-1",
		fmt.Sprint("repl_backlog_active:", active),
		fmt.Sprint("repl_backlog_size:", s.cfg.BacklogSize),
		fmt.Sprint("repl_backlog_first_byte_offset:", first),
		fmt.Sprint("repl_backlog_histlen:", length))
}
