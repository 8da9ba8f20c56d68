package wire_test

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/snicketlb/snicket/benchmarks/internal/wire"
)

func TestParseCommand(t *testing.T) {
	bare := wire.Command{Mode: wire.Answer, Size: 1024}.Append(nil)
	for name, c := range map[string]struct {
		in   []byte
		n    int
		want wire.Command
		err  string
	}{
		"bare":              {bare, 16, wire.Command{Mode: wire.Answer, Size: 1024}, ""},
		"bytes behind":      {append(bare[:16:16], "more"...), 16, wire.Command{Mode: wire.Answer, Size: 1024}, ""},
		"nothing":           {nil, 0, wire.Command{}, "not whole"},
		"cut":               {bare[:15], 0, wire.Command{}, "not whole"},
		"record header cut": {[]byte{22, 3, 1}, 0, wire.Command{}, "not whole"},
		"record cut":        {[]byte{22, 3, 1, 0, 100, 1}, 0, wire.Command{}, "not whole"},
		"record too short":  {[]byte{22, 3, 1, 0, 2, 1, 0}, 0, wire.Command{}, "too short"},
		"foreign":           {[]byte("GET / HTTP/1.1\r\n"), 0, wire.Command{}, "not from this rig"},
		"no such mode":      {wire.Command{Mode: 9}.Append(nil), 0, wire.Command{}, "does not exist"},
		"negative size":     {wire.Command{Mode: wire.Answer, Size: -1}.Append(nil), 0, wire.Command{}, "does not exist"},
	} {
		t.Run(name, func(t *testing.T) {
			got, n, err := wire.ParseCommand(c.in)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("got %+v, %v, want an error with %q", got, err, c.err)
				}
				return
			}
			if err != nil || got != c.want || n != c.n {
				t.Errorf("got %+v, %d, %v, want %+v, %d", got, n, err, c.want, c.n)
			}
		})
	}
}

func TestNamesHaveOneLength(t *testing.T) {
	for _, i := range []int{0, 7, 999_999} {
		if got, want := len(wire.Name(i)), len(wire.Name(0)); got != want {
			t.Errorf("got a name of %d bytes for number %d, want %d", got, i, want)
		}
	}
}

// direct runs a load straight against the backend, without a balancer between them: what the rig itself does must be
// without fault. The process measured is this one.
func direct(t *testing.T, spec wire.Spec) wire.Result {
	t.Helper()
	loopback := netip.MustParseAddr("127.0.0.1")
	failed, listening := make(chan error, 1), make(chan uint16, 1)
	go func() { // lives as long as the test binary
		failed <- wire.Serve(netip.AddrPortFrom(loopback, 0), func(port uint16) { listening <- port }, os.Stderr)
	}()
	select {
	case err := <-failed:
		t.Fatal(err)
	case port := <-listening:
		spec.Address = netip.AddrPortFrom(loopback, port)
	}
	spec.Pid, spec.Names = os.Getpid(), max(spec.Names, 1)
	if err := wire.Try(spec); err != nil {
		t.Fatal(err)
	}
	r, err := wire.Load(spec)
	if err != nil {
		t.Fatal(err)
	}
	if r.Failed != 0 || r.Late != 0 {
		t.Errorf("got %d failed and %d late sessions (%s), want none", r.Failed, r.Late, r.Error)
	}
	return r
}

func TestLoad(t *testing.T) {
	const window = 200 * time.Millisecond
	for _, c := range []struct {
		name string
		spec wire.Spec
		want func(wire.Result) bool
	}{
		{"short", wire.Spec{New: 8, Window: window}, func(r wire.Result) bool {
			return r.Sessions > 0 && int(r.Sessions) == r.Session.N && r.Session.P50 > 0 && r.CPU.Total > 0
		}},
		{"short, the client closes", wire.Spec{New: 8, First: true, Window: window}, func(r wire.Result) bool {
			return r.Sessions > 0 && int(r.Sessions) == r.Session.N
		}},
		{"short at a rate", wire.Spec{Rate: 100, Window: window}, func(r wire.Result) bool { return r.Sessions > 0 && r.Sessions <= 40 }},
		{"many names", wire.Spec{New: 2, Names: 1000, Window: window}, func(r wire.Result) bool { return r.Sessions > 0 }},
		{"downloads", wire.Spec{Pull: 2, Window: window}, func(r wire.Result) bool { return r.Bytes > 1<<20 }},
		{"uploads", wire.Spec{Push: 2, Window: window}, func(r wire.Result) bool { return r.Bytes > 1<<20 }},
		{"messages", wire.Spec{Ping: 2, Window: window}, func(r wire.Result) bool { return r.Trips > 0 && int(r.Trips) == r.Trip.N }},
		{"messages at a rate", wire.Spec{Ping: 2, Pings: 100, Window: window}, func(r wire.Result) bool { return r.Trips > 0 && r.Trips <= 40 }},
		{"idle", wire.Spec{Idle: 200, Settle: true}, func(r wire.Result) bool {
			return r.Idle == 200 && r.AfterFiles-r.BeforeFiles == 400 // both ends are this process's
		}},
		{"all together", wire.Spec{Idle: 20, New: 2, Pull: 1, Push: 1, Ping: 1, Window: window}, func(r wire.Result) bool {
			return r.Idle == 20 && r.Sessions > 0 && r.Bytes > 0 && r.Trips > 0
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if r := direct(t, c.spec); !c.want(r) {
				t.Errorf("got %+v", r)
			}
		})
	}
}
