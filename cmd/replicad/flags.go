package main

import (
	"time"

	"replicad/replica/archive"
)

// sizeFlag is a number of bytes, as redis.conf writes them: 256mb. It
// implements pflag.Value.
type sizeFlag int64

// Set implements pflag.Value.
func (f *sizeFlag) Set(s string) error {
	n, err := archive.ParseSize(s)
	if err == nil {
		*f = sizeFlag(n)
	}
	return err
}

// String implements pflag.Value.
func (f *sizeFlag) String() string { return archive.FormatSize(int64(*f)) }

// Type implements pflag.Value.
func (f *sizeFlag) Type() string { return "size" }

// ageFlag is a duration that knows days: 7d. It implements pflag.Value.
type ageFlag time.Duration

// Set implements pflag.Value.
func (f *ageFlag) Set(s string) error {
	d, err := archive.ParseAge(s)
	if err == nil {
		*f = ageFlag(d)
	}
	return err
}

// String implements pflag.Value.
func (f *ageFlag) String() string { return archive.FormatAge(time.Duration(*f)) }

// Type implements pflag.Value.
func (f *ageFlag) Type() string { return "duration" }
