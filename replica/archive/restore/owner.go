package restore

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"replicad/replica/archive"
)

// Owner is who a result is given to. The zero value leaves the result to the
// caller.
type Owner struct {
	user, group int
	given       bool
}

// ParseOwner reads USER, USER:GROUP or :GROUP, as chown(1) does: names, or
// numbers. What is not named stays as it is.
func ParseOwner(s string) (o Owner, err error) {
	if s == "" {
		return o, nil
	}
	o = Owner{user: -1, group: -1, given: true}
	name, group, _ := strings.Cut(s, ":")
	if name != "" {
		o.user, err = number(name, func() (string, error) {
			u, err := user.Lookup(name)
			if err != nil {
				return "", err
			}
			return u.Uid, nil
		})
	}
	if err == nil && group != "" {
		o.group, err = number(group, func() (string, error) {
			g, err := user.LookupGroup(group)
			if err != nil {
				return "", err
			}
			return g.Gid, nil
		})
	}
	if err == nil && name == "" && group == "" {
		err = fmt.Errorf("%q names nobody: want USER, USER:GROUP or :GROUP", s)
	}
	return o, err
}

// number is the number that a name stands for, or that it is.
func number(name string, look func() (string, error)) (int, error) {
	id, err := look()
	if err != nil {
		if n, e := strconv.ParseUint(name, 10, 32); e == nil {
			return int(n), nil
		}
		return 0, err
	}
	return strconv.Atoi(id)
}

// try says early that the caller may not give files away.
func (o Owner) try(s *stage) error {
	if !o.given {
		return nil
	}
	f, err := create(s.path("owner"))
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Chown(o.user, o.group)
}

// give gives away what is at path and below it, durably but for the name.
func (o Owner) give(path string) error {
	if !o.given {
		return nil
	}
	return filepath.WalkDir(path, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = os.Lchown(path, o.user, o.group)
		}
		if err == nil {
			err = archive.SyncPath(path)
		}
		return err
	})
}
