package sni_test

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/snicketlb/snicket/sni"
	"github.com/snicketlb/snicket/sni/hellotest"
)

// FuzzParse holds the promises of the package: no panic, an error only of those
// listed, and an answer that does not depend on how the stream is cut.
func FuzzParse(f *testing.F) {
	for _, stream := range seeds(f) {
		f.Add(stream, []byte{1, 40, 2})
	}
	f.Fuzz(func(t *testing.T, stream, cuts []byte) {
		h, err := sni.Parse(stream, 0)
		if hellotest.Word(err) == "" {
			t.Fatalf("got error %v, which is none of the package's", err)
		}
		sizes := sizesOf(cuts)
		checkSegments(t, stream, segments(stream, sizes), h, err)
		checkSegments(t, stream, segments(stream, []int{1}), h, err)
		if err != nil {
			checkRefusal(t, stream, err)
			return
		}
		checkFacts(t, h)
		if h.Len < 1<<10 {
			checkPrefixes(t, stream[:h.Len])
		}
		checkRecords(t, stream, h, sizes)
		checkRecords(t, stream, h, []int{1})
	})
}

// seeds returns the hellos of the table that are small enough to be changed a
// thousand times a second. The large ones have their turn in TestHellos.
func seeds(f *testing.F) [][]byte {
	f.Helper()
	var streams [][]byte
	for _, c := range loadHellos(f) {
		if len(c.Stream) < 2<<10 {
			streams = append(streams, c.Stream)
		}
	}
	return streams
}

// checkRefusal expects a Parser to stand by a refusal and to be good as new after Reset.
func checkRefusal(t *testing.T, stream []byte, want error) {
	t.Helper()
	var p sni.Parser
	p.Parse(stream)
	if errors.Is(want, sni.ErrMore) {
		return
	}
	if _, err := p.Parse(append(slices.Clip(stream), 0)); err == nil || err.Error() != want.Error() {
		t.Fatalf("got %v when asked again, want %v", err, want)
	}
	p.Reset(0)
	fresh := hello(t, "one-record")
	if h, err := p.Parse(fresh); err != nil || h.ServerName != "a.test" {
		t.Fatalf("got %+v, %v after Reset", h, err)
	}
}

// checkFacts checks what holds for every accepted hello.
func checkFacts(t *testing.T, h *sni.Hello) {
	t.Helper()
	if h.ServerName != "" {
		if err := sni.CheckName(h.ServerName); err != nil {
			t.Errorf("server name: %v", err)
		}
	}
	if ja4 := h.JA4(); len(ja4) != 36 {
		t.Errorf("got JA4 %q of %d bytes, want 36", ja4, len(ja4))
	}
	if a := sni.AppendAlert(nil, h, sni.AlertDecodeError); len(a) != 7 || a[1] != 3 || a[2] > 3 {
		t.Errorf("got alert %x", a)
	}
	seen := map[uint16]bool{}
	for _, e := range h.Extensions {
		if seen[e] {
			t.Errorf("extension %d comes twice", e)
		}
		seen[e] = true
	}
}

// checkRecords cuts the message of an accepted hello into records of other sizes
// and expects the same answer.
func checkRecords(t *testing.T, stream []byte, h *sni.Hello, sizes []int) {
	t.Helper()
	var msg []byte
	for rest := stream[:h.Len]; len(rest) > 0; {
		n := int(rest[3])<<8 | int(rest[4])
		msg = append(msg, rest[5:5+n]...)
		rest = rest[5+n:]
	}
	cut := records(msg, sizes...)
	got, err := sni.Parse(cut, 0)
	if err != nil {
		t.Fatalf("got error %v once cut into records of %v", err, sizes)
	}
	want := *h
	want.Len, want.RecordVersion = len(cut), 0x0301
	if !reflect.DeepEqual(*got, want) {
		t.Fatalf("got %+v once cut into records of %v, want %+v", *got, sizes, want)
	}
}

// sizesOf makes sizes of segments or records from arbitrary bytes.
func sizesOf(cuts []byte) []int {
	sizes := []int{}
	for _, c := range cuts {
		sizes = append(sizes, 1+int(c)*int(c)/8)
	}
	return append(sizes, 1+len(cuts)*97)
}

// segments cuts stream into parts of the given sizes, of which the last repeats.
func segments(stream []byte, sizes []int) [][]byte {
	var parts [][]byte
	for i := 0; len(stream) > 0; i++ {
		n := min(len(stream), sizes[min(i, len(sizes)-1)])
		parts = append(parts, stream[:n])
		stream = stream[n:]
	}
	return parts
}
