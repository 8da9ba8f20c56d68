package config_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/pkg/config"
)

var update = flag.Bool("update", false, "write what the goldens should say into them")

// TestGolden loads the snicket.toml of each archive in testdata. Its file "problems"
// has every problem, in order; "effective", where it is there, what Effective writes.
// $DIR stands for the directory that the archive is unpacked in.
func TestGolden(t *testing.T) {
	t.Setenv("STATE_DIRECTORY", "")
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no goldens in testdata: %v", err)
	}
	for _, path := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			path, err := filepath.Abs(path)
			if err != nil {
				t.Fatal(err)
			}
			testGolden(t, path)
		})
	}
}

func testGolden(t *testing.T, path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	comment, files := unpack(text)
	want := map[string]*[]byte{}
	dir := t.TempDir()
	for i, f := range files {
		if f.name == "problems" || f.name == "effective" {
			want[f.name] = &files[i].data
			continue
		}
		file := filepath.Join(dir, f.name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, f.data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want["problems"] == nil {
		t.Fatalf("%s has no file problems", path)
	}
	t.Chdir(dir)
	c, problems := config.Load("snicket.toml")
	got := map[string][]byte{}
	for _, p := range problems {
		got["problems"] = append(got["problems"], p.String()+"\n"...)
	}
	if problems.Err() == nil {
		got["effective"] = c.Effective()
		checkRoundTrip(t, "snicket.toml", c)
	} else if want["effective"] != nil {
		t.Errorf("effective file of a configuration that does not load")
	}
	for name, data := range want {
		got := bytes.ReplaceAll(got[name], []byte(dir), []byte("$DIR"))
		if !bytes.Equal(got, *data) && !*update {
			t.Errorf("%s:\n%s\nwant:\n%s", name, got, *data)
		}
		*data = got
	}
	if *update {
		if err := os.WriteFile(path, pack(comment, files), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// file is one file of a txtar archive: "-- NAME --" on a line, then its text.
type file struct {
	name string
	data []byte
}

func unpack(archive []byte) (comment []byte, files []file) {
	for line := range bytes.Lines(archive) {
		name, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("-- "))
		if name, end := bytes.CutSuffix(name, []byte(" --")); ok && end {
			files = append(files, file{name: string(name)})
			continue
		}
		if len(files) == 0 {
			comment = append(comment, line...)
			continue
		}
		last := &files[len(files)-1]
		last.data = append(last.data, line...)
	}
	return comment, files
}

func pack(comment []byte, files []file) []byte {
	archive := bytes.Clone(comment)
	for _, f := range files {
		archive = append(archive, "-- "+f.name+" --\n"...)
		archive = append(archive, f.data...)
	}
	return archive
}

// checkRoundTrip fails unless the effective file of c loads to c.
func checkRoundTrip(t *testing.T, name string, c *config.Config) {
	t.Helper()
	text := c.EffectiveWithSecrets()
	again, problems := config.Parse(name, text)
	if err := problems.Err(); err != nil {
		t.Fatalf("effective file does not load: %v\n%s", err, text)
	}
	got, want := withoutPlaces(again), withoutPlaces(c)
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("effective file loads to\n%+v\nwant\n%+v\n%s", got, want, text)
	}
}

// withoutPlaces returns a copy of c without its Positions and where it came from.
func withoutPlaces(c *config.Config) *config.Config {
	out := *c
	out.Files, out.Sources, out.Digest = nil, nil, [32]byte{}
	v := reflect.ValueOf(&out).Elem()
	v.Set(copied(v, true))
	return &out
}

// copied returns a deep copy of v, without what is not exported, in which every Position
// is zero if that is asked for.
func copied(v reflect.Value, placeless bool) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	out.Set(v)
	switch {
	case v.Type() == reflect.TypeFor[config.Position]():
		if placeless {
			out.SetZero()
		}
	case v.Type().PkgPath() != "" && !strings.HasSuffix(v.Type().PkgPath(), "pkg/config"):
		// netip and time have nothing of ours
	case v.Kind() == reflect.Struct:
		out.SetZero()
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				out.Field(i).Set(copied(v.Field(i), placeless))
			}
		}
	case v.Kind() == reflect.Pointer && !v.IsNil():
		out.Set(copied(v.Elem(), placeless).Addr())
	case v.Kind() == reflect.Slice && !v.IsNil():
		out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		for i := range v.Len() {
			out.Index(i).Set(copied(v.Index(i), placeless))
		}
	}
	return out
}
