package upgrade_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/upgrade"
)

// BenchmarkState is what 10,000 backends add to the time for which sessions stand still.
func BenchmarkState(b *testing.B) {
	one := known()
	with := upgrade.All{State: upgrade.State{Tickets: one.Tickets}}
	for i := range 10_000 {
		id := fmt.Sprintf("192.0.2.1:%d", i)
		row, check := one.Statuses[0], one.Checks[0]
		row.ID, check.ID = id, "p/"+id
		with.State.Statuses, with.State.Checks = append(with.State.Statuses, row), append(with.State.Checks, check)
	}
	b.ReportAllocs()
	for b.Loop() {
		old, next, err := upgrade.Pair()
		if err != nil {
			b.Fatal(err)
		}
		sent := make(chan error, 1)
		go func() { sent <- errors.Join(old.SendHave(0), old.SendSessions(nil, &with)) }()
		if _, got, err := next.Sessions(lab.Patience); err != nil || len(got.State.Statuses) != len(with.State.Statuses) {
			b.Fatal(err)
		}
		if err := <-sent; err != nil {
			b.Fatal(err)
		}
		old.Close()
		next.Close()
	}
}
