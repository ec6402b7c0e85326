package main

import (
	"bytes"
	"regexp"
	"testing"

	"github.com/spf13/pflag"

	"replicad/replica/config"
	"replicad/replica/daemon"
	"replicad/replica/logs"
)

// announced is what run says when it starts with these flags.
func announced(t *testing.T, args ...string) string {
	t.Helper()
	fl := pflag.NewFlagSet("run", pflag.ContinueOnError)
	config.Register(fl)
	if err := fl.Parse(append(args, "--dir", "data")); err != nil {
		t.Fatal(err)
	}
	settings, err := config.Load(config.Sources{Flags: fl})
	if err != nil {
		t.Fatal(err)
	}
	shown, err := listen(settings.HTTP, &daemon.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer shown.close()
	var out bytes.Buffer
	announce(logs.NewLogger(&out, logs.LevelNotice, false), settings, shown)
	return out.String()
}

func TestRunSaysAtItsStartWhatItFollowsAndWhereItAnswers(t *testing.T) {
	got := announced(t, "--replicaof", "10.0.0.1:6379", "--http", "127.0.0.1:0")
	for _, want := range []string{
		`msg="replicad is running" version=.* masters=1 .* page=http://127\.0\.0\.1:\d+/\n`,
		`msg="connects, and waits for the master's answer" master=10\.0\.0\.1-6379 address=10\.0\.0\.1:6379 port=6380\n$`,
	} {
		if !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s\nlacks %s", got, want)
		}
	}
}

func TestSeveralMastersWithoutPortsOfTheirOwnAreToldThatNoneIsOpen(t *testing.T) {
	got := announced(t, "--replicaof", "a=10.0.0.1:6379", "--replicaof", "b=10.0.0.2:6379")
	if !regexp.MustCompile(`no port is open for these masters: .* names=a,b\n$`).MatchString(got) {
		t.Error(got)
	}
	if got := announced(t, "--sentinel", "10.0.0.1:26379", "--master-name", "m"); !regexp.MustCompile(`master=m sentinel=10\.0\.0\.1:26379 port=6380\n$`).MatchString(got) {
		t.Error(got)
	}
}
