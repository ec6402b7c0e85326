package metrics

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// rules is the example for who has Prometheus; cases are what makes each of them
// fire, and what does not.
var (
	rules = filepath.Join("..", "..", "..", "cmd", "replicad", "alerts.yml")
	cases = filepath.Join("testdata", "alerts.yml")
)

func readYAML(t *testing.T, path string, to any) (text string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(b, to); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestTheAlertRulesNameMetricsThatThereAre(t *testing.T) {
	var doc any
	text := readYAML(t, rules, &doc)
	there := map[string]bool{"replicad_fsync_duration_seconds": true, "replicad_fsync_duration_seconds_count": true}
	for _, f := range families() {
		there[namespace+f.name] = true
	}
	named := regexp.MustCompile(`replicad_\w+`).FindAllString(text, -1)
	for _, name := range named {
		if !there[name] {
			t.Errorf("there is no metric %s", name)
		}
	}
	if len(named) < 10 {
		t.Errorf("only %q", named)
	}
}

func TestEachAlertHasACaseInWhichItFiresAndOneInWhichItDoesNot(t *testing.T) {
	var all struct {
		Groups []struct {
			Rules []struct {
				Alert       string            `yaml:"alert"`
				Labels      map[string]string `yaml:"labels"`
				Annotations map[string]string `yaml:"annotations"`
			} `yaml:"rules"`
		} `yaml:"groups"`
	}
	var tests struct {
		Tests []struct {
			Alerts []struct {
				Name string `yaml:"alertname"`
				Want []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		} `yaml:"tests"`
	}
	readYAML(t, rules, &all)
	readYAML(t, cases, &tests)
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, c := range tests.Tests {
		for _, a := range c.Alerts {
			if len(a.Want) > 0 {
				fires[a.Name] = true
			} else {
				quiet[a.Name] = true
			}
		}
	}
	if len(all.Groups) != 1 || len(all.Groups[0].Rules) < 6 {
		t.Fatalf("%+v", all)
	}
	for _, r := range all.Groups[0].Rules {
		if !fires[r.Alert] || !quiet[r.Alert] {
			t.Errorf("%s: a case in which it fires: %v, one in which it does not: %v", r.Alert, fires[r.Alert], quiet[r.Alert])
		}
		if r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s says too little: %+v", r.Alert, r)
		}
	}
}

func TestPromtoolAcceptsTheAlertRulesAndTheyFire(t *testing.T) {
	promtool := promtoolPath(t)
	for _, args := range [][]string{{"check", "rules", rules}, {"test", "rules", cases}} {
		out, err := exec.Command(promtool, args...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "SUCCESS") {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}
