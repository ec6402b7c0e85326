package compose

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"replicad/integration/redistest"
)

var composeBlocks = regexp.MustCompile("(?s)### Compose\n.*?```yaml\n(.*?)```.*?```sh\n(.*?)```")

func TestTheComposeFileOfTheREADMEIsRestoredAsTheREADMESays(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: the README's compose file was not run")
	}
	dockerEngine(t)
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("there is no redis-server on the PATH: the README's compose file was not run")
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	block := composeBlocks.FindStringSubmatch(string(readme))
	if block == nil {
		t.Fatal("the README has no compose file, or no commands for it")
	}
	p := newProject(t, "redis-server")
	dir := t.TempDir()
	file := strings.NewReplacer("image: redis:7.0", "image: "+p.redis, "image: replicad:dev", "image: "+p.imageOfReplicad()).Replace(block[1])
	if err := os.WriteFile(filepath.Join(dir, "docker-compose.yml"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	commands := strings.ReplaceAll(block[2], "docker-compose ", strings.Join(p.command, " ")+" ")
	if os.Getuid() == 0 { // the restore is somebody's who is not root
		commands = strings.NewReplacer("mkdir restored", "mkdir restored; chown 1234 restored", "$(id -u)", "1234").Replace(commands)
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-e", "-o", "pipefail", "-c", commands)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), p.env...)
	out, err := cmd.CombinedOutput()
	if err != nil || !regexp.MustCompile(`(?m)^OK\r?\n1\r?$`).Match(out) || !strings.Contains(string(out), "main: generation 1") {
		t.Fatalf("the README's commands: %v\n%s", err, out)
	}
	t.Logf("%s", out)
	p.running = p.container("replicad")
	restricted(t, p)
	s := redistest.StartIn(t, filepath.Join(dir, "restored"), "appendonly yes")
	if got := s.Do("GET", "order:17"); got != "paid" {
		t.Errorf("order:17 is restored as %v", got)
	}
}
