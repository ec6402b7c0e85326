package main

import (
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"replicad/replica/archive"
)

// retainFlags say what of an archive stays; run and prune have them.
type retainFlags struct {
	keepFor         ageFlag
	keepGenerations int
	maxBytes        sizeFlag
}

func (f *retainFlags) register(fl *pflag.FlagSet) {
	*f = retainFlags{keepFor: ageFlag(archive.DefaultKeepFor)}
	fl.Var(&f.keepFor, "keep-for", "every time of so long a window stays restorable (12h, 7d)")
	fl.IntVar(&f.keepGenerations, "keep-generations", archive.DefaultKeepGenerations, "so many generations stay however old they are; at least 2")
	fl.Var(&f.maxBytes, "max-bytes", "bound of each archive, as redis.conf writes sizes (100gb); 0 for none")
}

func (f *retainFlags) retention() (archive.Retention, error) {
	r := archive.Retention{KeepFor: time.Duration(f.keepFor), KeepGenerations: f.keepGenerations, MaxBytes: int64(f.maxBytes)}
	if err := r.Check(); err != nil {
		return r, fmt.Errorf("--%w", err)
	}
	return r, nil
}
