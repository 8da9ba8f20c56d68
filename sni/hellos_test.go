package sni_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/sni"
	"github.com/snicketlb/snicket/sni/hellotest"
)

const hellosDir = "testdata/hellos"

var update = flag.Bool("update", false, "write the made part of testdata/hellos anew")

func loadHellos(tb testing.TB) []hellotest.Case {
	tb.Helper()
	cases, err := hellotest.Load(hellosDir)
	if err != nil {
		tb.Fatal(err)
	}
	return cases
}

// hello returns the stream of one case.
func hello(tb testing.TB, name string) []byte {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join(hellosDir, name+".hello"))
	if err != nil {
		tb.Fatal(err)
	}
	c, err := hellotest.Parse(data)
	if err != nil {
		tb.Fatal(err)
	}
	return c.Stream
}

// TestTableIsCurrent holds the files against the code that makes them, both ways.
func TestTableIsCurrent(t *testing.T) {
	made := map[string]bool{}
	for _, c := range madeCases() {
		if made[c.Name] {
			t.Errorf("two cases %s", c.Name)
		}
		made[c.Name] = true
		file := filepath.Join(hellosDir, c.Name+".hello")
		if *update {
			if err := os.WriteFile(file, c.Format(), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, c.Format()) {
			t.Errorf("%s is not what the test makes: run go test -update", file)
		}
	}
	for _, c := range loadHellos(t) {
		if !made[c.Name] && !strings.HasPrefix(c.Name, "client-") {
			t.Errorf("%s is made by nothing", c.Name)
		}
	}
}

func TestHellos(t *testing.T) {
	for _, tc := range loadHellos(t) {
		t.Run(tc.Name, func(t *testing.T) {
			h, err := sni.Parse(tc.Stream, 0)
			if got := hellotest.Word(err); got != tc.Expect {
				t.Fatalf("got %q (%v), want %q", got, err, tc.Expect)
			}
			if err == nil && h.ServerName != tc.ServerName {
				t.Errorf("got server name %q, want %q", h.ServerName, tc.ServerName)
			}
			checkSegments(t, tc.Stream, tc.Segments(), h, err)
			checkSegments(t, tc.Stream, hellotest.Plan("1").Cut(tc.Stream), h, err)
			if err != nil {
				checkRefusal(t, tc.Stream, err)
				return
			}
			checkFacts(t, h)
			for _, size := range []int{1, 2, 5, 32, 1 << 14} {
				checkRecords(t, tc.Stream, h, []int{size})
			}
			if len(tc.Stream) < 4<<10 {
				checkPrefixes(t, tc.Stream[:h.Len])
			}
		})
	}
}

// checkSegments feeds stream to a Parser as segments come in, and expects ErrMore
// until it answers as it did for all at once.
func checkSegments(t *testing.T, stream []byte, segments [][]byte, want *sni.Hello, wantErr error) {
	t.Helper()
	var p sni.Parser
	n := 0
	for _, s := range segments {
		n += len(s)
		got, err := p.Parse(stream[:n:n])
		if errors.Is(err, sni.ErrMore) {
			if want != nil && n >= want.Len {
				t.Fatalf("more wanted after %d bytes of a hello of %d", n, want.Len)
			}
			continue
		}
		if want != nil && n < want.Len {
			t.Fatalf("answer (%v) after %d bytes of a hello of %d", err, n, want.Len)
		}
		checkSame(t, got, err, want, wantErr)
		return
	}
	checkSame(t, nil, sni.ErrMore, want, wantErr)
}

func checkSame(t *testing.T, got *sni.Hello, err error, want *sni.Hello, wantErr error) {
	t.Helper()
	if (err == nil) != (wantErr == nil) || err != nil && err.Error() != wantErr.Error() {
		t.Fatalf("got error %v, want %v", err, wantErr)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
}

// checkPrefixes expects ErrMore for every strict prefix of a hello, parsed afresh.
func checkPrefixes(t *testing.T, stream []byte) {
	t.Helper()
	for n := range len(stream) {
		if _, err := sni.Parse(stream[:n:n], 0); !errors.Is(err, sni.ErrMore) {
			t.Fatalf("got %v for %d of %d bytes, want ErrMore", err, n, len(stream))
		}
	}
}
