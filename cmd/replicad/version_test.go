package main

import (
	"runtime/debug"
	"strings"
	"testing"
)

func TestTheVersionIsTheLinkersElseTheModules(t *testing.T) {
	info := &debug.BuildInfo{Main: debug.Module{Version: "v1.2.3"}, Settings: []debug.BuildSetting{
		{Key: "vcs.revision", Value: "abc"}, {Key: "vcs.time", Value: "2026-11-24T10:00:00Z"}, {Key: "vcs.modified", Value: "true"},
	}}
	if b := described("9.9", info); b.Version != "9.9" {
		t.Errorf("%+v", b)
	}
	b := described("", info)
	if b.Version != "v1.2.3" || b.Commit != "abc" || b.Date != "2026-11-24T10:00:00Z" || !b.Dirty {
		t.Errorf("%+v", b)
	}
	if s := b.String(); !strings.Contains(s, "abc, with changes") {
		t.Error(s)
	}
	if b := described("", &debug.BuildInfo{}); b.Version != "unknown" || b.Dirty || !strings.Contains(b.String(), "commit    unknown") {
		t.Errorf("%+v", b)
	}
}
