package archive

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAFolderThatCantBeReadHidesNoOtherAndALinkIsAFolder(t *testing.T) {
	t.Parallel()
	dir, elsewhere := t.TempDir(), t.TempDir()
	link := func(to, from string) {
		t.Helper()
		if err := os.Symlink(to, from); err != nil {
			t.Fatal(err)
		}
	}
	written(t, filepath.Join(dir, "main"), 1, 100, endFact(1100))
	written(t, filepath.Join(elsewhere, "moved"), 1, 100, endFact(1100))
	link(filepath.Join(elsewhere, "moved"), filepath.Join(dir, "linked"))
	link(filepath.Join(elsewhere, "unmounted"), filepath.Join(dir, "gone"))
	link("loop", filepath.Join(dir, "loop")) // stat(2) says ELOOP, also to root
	os.Mkdir(filepath.Join(dir, "empty"), 0o750)
	os.MkdirAll(filepath.Join(dir, lostFound, "LOCK"), 0o750)
	os.WriteFile(filepath.Join(dir, "file"), nil, 0o640)

	masters, err := List(dir)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, m := range masters {
		found[m.Name] = m.Problem == "" && len(m.Generations) == 1
	}
	if len(found) != 4 || !found["main"] || !found["linked"] || found["gone"] || found["loop"] {
		t.Errorf("%+v", masters)
	}
}

func TestAGenerationThatCantBeReadHidesNoOther(t *testing.T) {
	t.Parallel()
	dir, elsewhere := t.TempDir(), t.TempDir()
	written(t, dir, 1, 100, at(100, 1100), endFact(1100))
	written(t, dir, 2, 100, at(200, 1100), endFact(1100))
	moved := written(t, elsewhere, 3, 100, at(300, 1100))
	for number, to := range map[int]string{3: moved.dir, 4: "generation-000004"} {
		if err := os.Symlink(to, generationIn(dir, number).dir); err != nil {
			t.Fatal(err)
		}
	}
	m, _, err := Describe(dir)
	if err != nil || len(m.Generations) != 4 || m.Generations[2].Problem != "" || m.Generations[3].Problem == "" {
		t.Fatalf("%+v, %v", m, err)
	}
	// What a link leads to goes with it.
	os.Remove(generationIn(dir, 4).dir)
	if err := generationIn(dir, 3).remove(); err != nil {
		t.Fatal(err)
	}
	if there, err := exists(moved.dir); there || err != nil {
		t.Errorf("the folder behind the link is still there: %v", err)
	}
	if m, _, err = Describe(dir); err != nil || len(m.Generations) != 2 {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestARebaseIsOneAlsoWhereTheLogStoodThereAsItsBaseCame(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	written(t, dir, 1, 100, at(0, 1100), endFact(1100))
	written(t, dir, 2, 100, sinceFact(ms(0), 1000), at(10, 1100))
	m, _, err := Describe(dir)
	if err != nil || len(m.Generations) != 2 || m.Generations[0].Rebased || !m.Generations[1].Rebased {
		t.Errorf("%+v, %v", m, err)
	}
}
