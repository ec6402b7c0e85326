package config

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// Secret is a password: given as it is, or by a file that holds it.
type Secret struct {
	Text string // what it is, once it was read; "" for none
	File string

	given string
	key   string
}

func (s *Secret) fileKey() string { return s.key + "-file" }

// maxSecret bounds what is read of a file: /dev/zero is no password.
const maxSecret = 64 << 10

// read fills in Text. warn is told of a file that others can read.
func (s *Secret) read(warn func(string)) error {
	if s.Text = s.given; s.File == "" {
		return nil
	}
	f, err := os.Open(s.File)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	switch {
	case err != nil:
		return err
	case len(b) > maxSecret:
		return fmt.Errorf("%s is no file with a password: it has more than %d bytes", s.File, maxSecret)
	}
	if s.Text = strings.TrimRight(string(b), "\r\n"); s.Text == "" {
		return fmt.Errorf("%s is empty", s.File)
	}
	if st, err := f.Stat(); err == nil && openToOthers(st) {
		warn(fmt.Sprintf("%s holds a password, and every user of this host can read it: chmod o-r it", s.File))
	}
	return nil
}

// openToOthers says whether users that neither own a file nor are of its group
// can read it.
func openToOthers(st os.FileInfo) bool { return st.Mode().IsRegular() && st.Mode().Perm()&0o004 != 0 }
