package daemon

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"replicad/integration/poll"
	"replicad/replica"
	"replicad/replica/archive"
)

func TestAChangedListOfMastersTouchesOnlyWhatDiffers(t *testing.T) {
	t.Parallel()
	same, old, other, fresh := startMaster(t), startMaster(t), startMaster(t), startMaster(t)
	dir := t.TempDir()
	cfg := Config{Dir: dir, Masters: []replica.Master{
		parse(t, "same="+same.Addr()), parse(t, "moves="+old.Addr()), parse(t, "goes="+other.Addr()),
	}}
	d, _, stop := running(t, cfg)
	for _, h := range d.Handles() {
		awaitUp(t, h)
	}
	link := d.Handles()[0].f.link
	change := Config{Masters: []replica.Master{
		parse(t, "moves="+fresh.Addr()), parse(t, "comes="+other.Addr()), parse(t, "same="+same.Addr()),
	}}
	is, err := d.Change(change)
	if err != nil || !slices.Equal(is.Followed, []string{"comes"}) || !slices.Equal(is.Repointed, []string{"moves"}) || !slices.Equal(is.Left, []string{"goes"}) {
		t.Fatalf("%+v, %v", is, err)
	}
	all := d.Handles()
	var names []string
	for _, h := range all {
		awaitUp(t, h)
		names = append(names, h.Name())
	}
	if want := []string{"moves", "comes", "same"}; !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
	if s := all[2].Status(); all[2].f.link != link || s.FullSyncs[replica.SyncInitial] != 1 || len(s.Failures) != 0 {
		t.Errorf("who stays has noticed: %+v", s)
	}
	// The archive of the master that went is whole, and no process locks it.
	a, err := archive.Open(filepath.Join(dir, "goes"), archive.Options{})
	if err != nil || a.Recovery().Why != "" {
		t.Fatalf("%+v, %v", a.Recovery(), err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}

	// The master that went comes back, and its link resumes.
	if is, err = d.Change(cfg); err != nil || !slices.Equal(is.Followed, []string{"goes"}) {
		t.Fatalf("%+v, %v", is, err)
	}
	awaitUp(t, d.Handles()[2])
	if s := d.Handles()[2].Status(); s.PartialSyncs != 1 {
		t.Errorf("%+v", s)
	}
	stop()
	if _, err := d.Change(change); !errors.Is(err, ErrStopped) {
		t.Errorf("after the end: %v", err)
	}
}

func awaitUp(t *testing.T, h *Handle) {
	t.Helper()
	poll.Until(t, "the stream of "+h.Name(), func() bool { return h.Status().Up() })
}

func TestAnArchiveThatCantBeOpenedChangesNothing(t *testing.T) {
	t.Parallel()
	m := startMaster(t)
	dir := t.TempDir()
	cfg := Config{Dir: dir, Masters: []replica.Master{parse(t, "m="+m.Addr())}}
	d, _, stop := running(t, cfg)
	defer stop()
	awaitUp(t, d.Handles()[0])
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, masters := range [][]replica.Master{
		{parse(t, "new="+m.Addr()), parse(t, "file="+m.Addr())}, {}, {parse(t, "a="+m.Addr()), parse(t, "a="+m.Addr())},
	} {
		is, err := d.Change(Config{Masters: masters})
		if !errors.Is(err, ErrSetup) || is.Followed != nil && is.Left != nil {
			t.Errorf("%+v, %v", is, err)
		}
	}
	if all := d.Handles(); len(all) != 1 || all[0].Name() != "m" || !all[0].Status().Up() {
		t.Errorf("%+v", all[0].Status())
	}
	if a, err := archive.Open(filepath.Join(dir, "new"), archive.Options{}); err != nil {
		t.Errorf("the archive of the other one is not free: %v", err)
	} else if err := a.Close(); err != nil {
		t.Error(err)
	}
}

func TestMastersThatTheDescriptorsDoNotSufficeForAreRefused(t *testing.T) {
	left, err := FreeFiles(1, 1)
	if err != nil || left >= 1<<30 {
		t.Skipf("the limit of open files has no room for one master, or is none: %v", err)
	}
	if more, err := FreeFiles(2, 1); err != nil || left-more != filesALink {
		t.Errorf("%d, and %d of two: %v", left, more, err)
	}
	if _, err := FreeFiles(2+left/filesALink, 1); !errors.Is(err, ErrSetup) {
		t.Errorf("%v", err)
	}
}
