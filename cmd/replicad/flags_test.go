package main

import (
	"testing"
	"time"

	"github.com/spf13/cobra"
)

func TestSizesAndAgesAreFlags(t *testing.T) {
	size, age := sizeFlag(1<<30), ageFlag(7*24*time.Hour)
	fl := new(cobra.Command).Flags()
	fl.Var(&size, "size", "")
	fl.Var(&age, "age", "")
	if s, a := fl.Lookup("size").DefValue, fl.Lookup("age").DefValue; s != "1gb" || a != "7d" {
		t.Errorf("the defaults are printed as %q and %q", s, a)
	}
	if err := fl.Parse([]string{"--size", "64mb", "--age", "1d12h"}); err != nil || size != 64<<20 || time.Duration(age) != 36*time.Hour {
		t.Errorf("read as %d and %v: %v", size, time.Duration(age), err)
	}
	if fl.Parse([]string{"--size", "much"}) == nil || fl.Parse([]string{"--age", "long"}) == nil || size != 64<<20 || time.Duration(age) != 36*time.Hour {
		t.Errorf("nonsense is taken: %d, %v", size, time.Duration(age))
	}
}
