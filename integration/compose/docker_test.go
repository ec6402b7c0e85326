// Package compose runs docker-compose.yml with a Docker engine, and breaks its
// services one after the other. It also holds the tests that the service
// "integration" of that file runs against the other services: what a user would
// try first. Elsewhere those are skipped, with a line that says so.
package compose

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"replicad/integration/poll"
)

// dockerPatience bounds each command of docker's; building is the longest.
const dockerPatience = 10 * time.Minute

// project is docker-compose.yml as it runs for a test: images, containers,
// networks and volumes have names of its own, and go with the test.
type project struct {
	t       *testing.T
	name    string
	command []string // docker-compose, or docker compose
	env     []string // the file's variables
	redis   string   // the image of the master
	test    string   // that of the service integration
	running string   // the container of replicad, for its log
}

// dockerEngine skips the test where no engine answers, or one whose networks
// are not this machine's.
func dockerEngine(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	if out, err := exec.CommandContext(ctx, "docker", "info").CombinedOutput(); err != nil {
		t.Skipf("no Docker engine answers (docker info: %v): the compose file was not run: %.300s", err, out)
	}
	if host := os.Getenv("DOCKER_HOST"); host != "" && !strings.HasPrefix(host, "unix:") {
		t.Skipf("the Docker engine is at %s, whose networks can't be reached from here: the compose file was not run", host)
	}
}

// composeCommand finds docker-compose, or docker compose.
func composeCommand(t *testing.T) []string {
	t.Helper()
	for _, c := range [][]string{{"docker-compose"}, {"docker", "compose"}} {
		if out, err := exec.Command(c[0], append(c[1:], "version")...).Output(); err == nil {
			t.Logf("%s", bytes.TrimSpace(bytes.SplitN(out, []byte("\n"), 2)[0]))
			return c
		}
	}
	t.Skip("there is neither docker-compose nor docker compose: the compose file was not run")
	return nil
}

// newProject makes the images.
func newProject(t *testing.T, server string) *project {
	t.Helper()
	p := &project{t: t, name: "replicad-test-" + strings.ToLower(rand.Text()[:10]), command: composeCommand(t)}
	p.removeAtTheEnd()
	began := time.Now()
	out := p.run("integration/compose/images.sh", server, p.name+"/")
	p.env = append(strings.Fields(out), "COMPOSE_PROJECT_NAME="+p.name,
		"HTTP_PORT=0",                           // any free one
		"REPL_TIMEOUT=5s", "HEALTH_INTERVAL=1s") // the master pings each 2 s
	vars := map[string]string{}
	for _, e := range p.env {
		name, value, _ := strings.Cut(e, "=")
		vars[name] = value
	}
	p.redis = vars["REDIS_IMAGE"] + ":" + vars["REDIS_TAG"]
	p.test = "replicad-integration/" + p.redis
	t.Logf("images of %s in %v", p.redis, time.Since(began).Round(time.Millisecond))
	return p
}

// removal removes all that has the project's name, whatever state it was left
// in: $1. Images go by name, for an id may have others; children go before
// their parents.
const removal = `
docker ps -aq --filter name=$1 | xargs -r docker rm -f -v
docker network ls -q --filter name=$1 | xargs -r docker network rm
docker volume ls -q --filter name=$1 | xargs -r docker volume rm
for of in "replicad-integration/$1/*" "replicad-integration/$1/*/*" "$1/*" "$1/*/*"; do
	docker images --format '{{.Repository}}:{{.Tag}}' --filter "reference=$of" | xargs -r docker rmi
done`

// removeAtTheEnd removes what the project has made when the test ends, and also
// when the test binary dies in its time-out or by a signal, where no cleanup
// runs: a shell in a session of its own waits for the end of its input, which
// the kernel brings when nobody holds the other end any more.
func (p *project) removeAtTheEnd() {
	r, w, err := os.Pipe()
	if err != nil {
		p.t.Fatal(err)
	}
	var out bytes.Buffer
	shell := exec.Command("sh", "-e", "-c", "cat >/dev/null\n"+removal, "sh", p.name)
	shell.Stdin, shell.Stdout, shell.Stderr = r, &out, &out
	shell.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := shell.Start(); err != nil {
		p.t.Fatal(err)
	}
	r.Close()
	p.t.Cleanup(func() {
		if p.t.Failed() && p.running != "" {
			p.t.Logf("replicad wrote:\n%s", tailOf(p.log(), 6000))
		}
		w.Close()
		if err := shell.Wait(); err != nil {
			p.t.Errorf("what the test made could not be removed: %v: %s", err, &out)
		}
	})
}

// run runs a command to its end, at the top of the repository, and returns what
// it wrote to stdout.
func (p *project) run(name string, args ...string) string {
	p.t.Helper()
	out, err := p.try(name, args...)
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

func (p *project) try(name string, args ...string) (string, error) {
	ctx, stop := context.WithTimeout(context.Background(), dockerPatience)
	defer stop()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = "../.."
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "REPLICAD_") && !strings.HasPrefix(v, "REDIS_") && !strings.HasPrefix(v, "COMPOSE_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, p.env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, &stdout, tailOf(stderr.String(), 4000))
	}
	return stdout.String(), nil
}

// compose runs docker-compose.
func (p *project) compose(args ...string) string {
	p.t.Helper()
	return p.run(p.command[0], append(p.command[1:len(p.command):len(p.command)], args...)...)
}

// container is a service's. The engine is asked, for it answers sooner than
// docker-compose.
func (p *project) container(service string) string {
	p.t.Helper()
	id := strings.TrimSpace(p.run("docker", "ps", "-aq", "--no-trunc",
		"--filter", "label=com.docker.compose.project="+p.name, "--filter", "label=com.docker.compose.service="+service,
		"--filter", "label=com.docker.compose.oneoff=False"))
	if len(strings.Fields(id)) != 1 {
		p.t.Fatalf("the service %s has the containers %q, and not one", service, id)
	}
	return id
}

// address is where a service's container is in the project's network.
func (p *project) address(service string) string {
	p.t.Helper()
	return strings.TrimSpace(p.run("docker", "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", p.container(service)))
}

// log is what replicad's container logged so far.
func (p *project) log() string {
	out, err := exec.Command("docker", "logs", p.running).CombinedOutput()
	if err != nil {
		return err.Error()
	}
	return string(out)
}

// waitLog waits for a line of replicad's log behind the first n bytes, and
// returns how long the log is then.
func (p *project) waitLog(n int, pattern string) int {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	end := 0
	poll.Seen(p.t, "a log line like "+pattern, func() (bool, string) {
		log := p.log()
		end = len(log)
		log = log[min(n, end):]
		return re.MatchString(log), tailOf(log, 300)
	})
	return end
}

// waitHealth waits until the engine calls replicad's container healthy, or
// unhealthy: it asks the binary in it.
func (p *project) waitHealth(want string) {
	p.t.Helper()
	poll.Seen(p.t, "the container to be "+want, func() (bool, string) {
		out, err := p.try("docker", "inspect", "--format", "{{json .State.Health}}", p.running)
		return err == nil && strings.Contains(out, `"Status":"`+want+`"`), fmt.Sprint(out, err)
	})
}

// served asks the published port for the status page.
func served(t *testing.T, p *project) {
	t.Helper()
	addr := strings.TrimSpace(p.run("docker", "port", p.running, "9121/tcp"))
	if !strings.HasPrefix(addr, "127.0.0.1:") {
		t.Fatalf("the status page is published at %s, and not on the loopback alone", addr)
	}
	client := http.Client{Timeout: patience}
	resp, err := client.Get("http://" + addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !bytes.Contains(body, []byte("replicad")) {
		t.Errorf("the status page: %s, %v: %.500s", resp.Status, err, body)
	}
}

// follow reads a container's log until the container ends; last waits for that.
func follow(t *testing.T, container string) (last func() string) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), dockerPatience)
	cmd := exec.CommandContext(ctx, "docker", "logs", "--follow", "--tail", "1", container)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return func() string {
		defer stop()
		_ = cmd.Wait()
		return out.String()
	}
}

func tailOf(s string, n int) string { return s[max(0, len(s)-n):] }

// network is the project's.
func (p *project) network() string {
	p.t.Helper()
	return strings.TrimSpace(p.run("docker", "network", "ls", "--filter", "name="+p.name, "--format", "{{.Name}}"))
}

// volume is one of the project's.
func (p *project) volume(name string) string {
	p.t.Helper()
	return strings.TrimSpace(p.run("docker", "volume", "ls", "-q", "--filter", "name="+p.name+"_"+name))
}

// counter counts on the master until it is stopped, each time with WAIT, and
// keeps the last count that a replica has acknowledged.
type counter struct {
	acknowledged atomic.Int64
	stop         func()
}

const counterKey = "counter"

func (p *project) count(addr string) *counter {
	p.t.Helper()
	c := dial(p.t, addr)
	ctx, cancel := context.WithCancel(p.t.Context())
	n, done := &counter{}, make(chan struct{})
	n.stop = func() { cancel(); <-done }
	p.t.Cleanup(n.stop)
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			count, err := c.Incr(ctx, counterKey).Result()
			if err == nil {
				var replicas int64
				if replicas, err = c.Do(ctx, "WAIT", 1, 1000).Int64(); err == nil && replicas > 0 {
					n.acknowledged.Store(count)
				}
			}
			for err != nil && ctx.Err() == nil { // the master is away; go-redis would log each refusal
				var probe net.Conn
				if probe, err = (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", addr); err == nil {
					probe.Close()
				}
				select {
				case <-ctx.Done():
				case <-time.After(20 * time.Millisecond):
				}
			}
		}
	}()
	return n
}

// goesOn waits until more is acknowledged than there is now.
func (n *counter) goesOn(t *testing.T) {
	t.Helper()
	now := n.acknowledged.Load()
	poll.Seen(t, "the next acknowledged count", func() (bool, string) {
		return n.acknowledged.Load() > now+10, fmt.Sprint(n.acknowledged.Load())
	})
}

func TestTheComposeFileFollowsAMasterThroughWhatBefallsIt(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: the compose file was not run")
	}
	dockerEngine(t)
	tested := 0
	for _, server := range []string{"redis-server", "valkey-server"} {
		if _, err := exec.LookPath(server); err != nil {
			t.Logf("there is no %s on the PATH: the compose file was not run with it", server)
			continue
		}
		tested++
		t.Run(server, func(t *testing.T) { throughTheCompose(t, newProject(t, server)) })
	}
	if tested == 0 {
		t.Skip("there is neither redis-server nor valkey-server on the PATH: the compose file was not run")
	}
}

func throughTheCompose(t *testing.T, p *project) {
	began := time.Now()
	p.compose("up", "-d")
	p.running = p.container("replicad")
	seen := p.waitLog(0, `msg="full sync done"`)
	t.Logf("from up to a followed master: %v", time.Since(began).Round(time.Millisecond))
	restricted(t, p)
	p.waitHealth("healthy")
	served(t, p)

	// A killed master.
	n := p.count(p.address("redis") + ":6379")
	n.goesOn(t)
	master := p.container("redis")
	p.run("docker", "kill", master)
	seen = p.waitLog(seen, `level=warning msg="main \(redis:6379\)`)
	p.waitHealth("unhealthy")
	n.stop()
	acknowledged := n.acknowledged.Load()
	p.run("docker", "start", master)
	seen = p.waitLog(seen, `msg="(full sync done|partial resync)"`)
	n = p.count(p.address("redis") + ":6379")
	n.goesOn(t)
	p.waitHealth("healthy")
	if now := n.acknowledged.Load(); now < acknowledged {
		t.Errorf("the count is %d after the master's restart, and was %d", now, acknowledged)
	}

	// A cut network: no segment comes through, nor a RST.
	p.run("docker", "network", "disconnect", p.network(), p.running)
	seen = p.waitLog(seen, `level=warning msg="main \(redis:6379\)`)
	p.run("docker", "network", "connect", "--alias", "replicad", p.network(), p.running)
	p.waitLog(seen, `msg="partial resync"`)
	n.goesOn(t)

	// A second replica, and a Sentinel that knows the master's replicas.
	p.compose("--profile", "ha", "up", "-d")
	sentinelKnows(t, p, "replica:6379")
	n.goesOn(t)
	n.stop()

	// The tests that look at it from inside.
	out := p.compose("run", "--rm", "integration")
	if !strings.HasSuffix(strings.TrimSpace(out), "PASS") || strings.Contains(out, "SKIP") {
		t.Errorf("the service integration:\n%s", out)
	}
	t.Logf("the service integration: %d tests passed", strings.Count(out, "--- PASS"))

	want, err := readDataset(t.Context(), dial(p.t, p.address("redis")+":6379"), "integration:*")
	if err != nil || len(want) == 0 {
		t.Fatalf("%d keys, %v", len(want), err)
	}

	// Another master, which Sentinel names.
	p.env = append(p.env, "REPLICAOF=", "SENTINEL=sentinel:26379", "MASTER_NAME=main")
	p.compose("--profile", "ha", "up", "-d")
	p.running = p.container("replicad")
	seen = p.waitLog(0, `msg="partial resync"`)
	p.run("docker", "kill", p.container("redis"))
	seen = p.waitLog(seen, `level=warning msg="main \(redis:6379\)`)
	p.waitLog(seen, `msg="(full sync done|partial resync)"`)

	// The end, under load. WAIT counts replicad alone: nobody else is left.
	n = p.count(p.address("replica") + ":6379")
	n.goesOn(t)
	last := follow(t, p.running)
	p.compose("--profile", "ha", "--profile", "test", "down")
	n.stop()
	if log := last(); !strings.Contains(log, "msg=stopped") {
		t.Errorf("replicad's end is not in its log: %s", tailOf(log, 1000))
	}
	p.running = ""
	nothingIsLost(t, p, want, n.acknowledged.Load())
}

// restricted looks at how replicad's container runs.
func restricted(t *testing.T, p *project) {
	t.Helper()
	var c []struct {
		Config struct {
			User       string
			Entrypoint []string
			StopSignal string
			Volumes    map[string]struct{}
		}
		HostConfig struct {
			ReadonlyRootfs bool
			CapDrop        []string
			PortBindings   map[string]any
		}
	}
	if err := json.Unmarshal([]byte(p.run("docker", "inspect", p.running)), &c); err != nil || len(c) != 1 {
		t.Fatalf("docker inspect: %v", err)
	}
	if g := c[0]; g.Config.User != "65532:65532" || g.Config.StopSignal != "SIGTERM" || !g.HostConfig.ReadonlyRootfs ||
		len(g.HostConfig.CapDrop) != 1 || len(g.Config.Entrypoint) != 1 {
		t.Errorf("replicad runs as %+v", g)
	}
	// A static binary, in an image that holds nothing else that runs.
	files := strings.Fields(p.run("sh", "-c", `docker export "$0" | tar t`, p.running))
	programs := 0
	for _, f := range files {
		if strings.Contains(f, "bin/") && !strings.HasSuffix(f, "/") {
			programs++
		}
		if strings.Contains(f, ".so") {
			t.Errorf("the image holds the library %s", f)
		}
	}
	if programs != 1 {
		t.Errorf("the image holds %d programs: %v", programs, files)
	}
}

// sentinelKnows waits until Sentinel has two replicas of the master: one at an
// address, which is up, and replicad. That one says replica_announced:0, so that
// no client is sent to it, and SENTINEL REPLICAS passes over it.
func sentinelKnows(t *testing.T, p *project, addr string) {
	t.Helper()
	s := dial(p.t, p.address("sentinel")+":26379")
	_ = s.Do(t.Context(), "SENTINEL", "DEBUG", "info-period", 1000).Err() // ms; before 7.0 it stays at 10 s
	poll.Seen(t, "Sentinel to know "+addr, func() (bool, string) {
		all, err := s.Do(t.Context(), "SENTINEL", "REPLICAS", "main").Slice()
		for _, one := range all {
			r, _ := one.(map[any]any)
			if r["name"] == addr && r["flags"] == "slave" && r["master-link-status"] == "ok" {
				info, err := s.Info(t.Context(), "sentinel").Result()
				return strings.Contains(info, "slaves=2,"), fmt.Sprint(info, err)
			}
		}
		return false, fmt.Sprint(all, err)
	})
}

// nothingIsLost restores the archive that is left in its volume, and loads it.
func nothingIsLost(t *testing.T, p *project, want map[string]string, acknowledged int64) {
	t.Helper()
	archive := p.volume("archive") + ":/data:ro"
	t.Logf("%s", p.run("docker", "run", "--rm", "--network", "none", "-v", archive, p.imageOfReplicad(), "verify", "--dir", "/data"))
	net := p.name + "-restored"
	p.run("docker", "network", "create", net)
	id := strings.TrimSpace(p.run("docker", "run", "-d", "--name", net, "--network", net, "-v", archive, "--tmpfs", "/tmp", "--entrypoint", "sh", p.test,
		"-c", "replicad restore --dir /data --out /tmp/restored && exec redis-server --dir /tmp/restored --appendonly yes --protected-mode no"))
	addr := strings.TrimSpace(p.run("docker", "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", id))
	c := dial(p.t, addr+":6379")
	got, err := readDataset(t.Context(), c, "integration:*")
	if err := errors.Join(err, differences(want, got)); err != nil {
		t.Errorf("what was restored: %v", err)
	}
	count, err := c.Get(t.Context(), counterKey).Int64()
	if err != nil || count < acknowledged || acknowledged == 0 {
		t.Errorf("the count is restored as %d (%v); %d was acknowledged", count, err, acknowledged)
	}
	t.Logf("%d keys restored, and the count %d, of which %d was acknowledged", len(got), count, acknowledged)
}

func (p *project) imageOfReplicad() string { return p.name + "/replicad:dev" }
