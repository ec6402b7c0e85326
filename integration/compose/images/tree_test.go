package main

import (
	"maps"
	"strings"
	"testing"
)

func TestLibrariesAreWhatLddNames(t *testing.T) {
	got, err := libraries(`	linux-vdso.so.1 (0x00007fbfedc2f000)
	libm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007fbfedb2d000)
	libx.so.1 => /opt/x/lib/libx.so.1.2 (0x00007fbfedb2d000)
	/lib64/ld-linux-x86-64.so.2 (0x00007fbfedc31000)
`)
	want := map[string]string{
		"/lib/x86_64-linux-gnu/libm.so.6": "/usr/lib/libm.so.6",
		"/opt/x/lib/libx.so.1.2":          "/usr/lib/libx.so.1",
		"/lib64/ld-linux-x86-64.so.2":     "/lib64/ld-linux-x86-64.so.2",
	}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := libraries("\tlibhiredis.so.1 => not found\n"); err == nil || !strings.Contains(err.Error(), "libhiredis.so.1 is not installed") {
		t.Errorf("%v", err)
	}
}
