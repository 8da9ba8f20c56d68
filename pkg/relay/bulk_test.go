package relay_test

import (
	"bytes"
	"testing"

	"github.com/snicketlb/snicket/pkg/loop"
	"github.com/snicketlb/snicket/pkg/relay"
)

// A bulk way stays one while its sender pauses, holds no pipe meanwhile, and is
// one no more when little comes.
func TestBulkOutlastsPauses(t *testing.T) {
	leakCheck(t)
	env := relay.NewEnv(1)
	defer env.Close()
	client, cfd := connect(t, "unix", 1<<20)
	backend, bfd := connect(t, "unix", 1<<20)
	defer loop.Close(cfd)
	defer loop.Close(bfd)
	var r relay.Relay
	r.Start(env, cfd, bfd, nil, 0)
	defer r.Close(env)
	for i, step := range []struct {
		size int
		bulk bool // after it
	}{
		{64, false},
		{relay.ChunkSize - 1, false},
		{4 * relay.ChunkSize, true},
		{relay.ChunkSize, true},
		{3*relay.ChunkSize + 5, true},
		{relay.ChunkSize - 1, false},
		{64, false},
		{relay.ChunkSize + 1, true},
		{1, false},
	} {
		sent := pattern(step.size)
		client.send(sent)
		r.Note(relay.Client, loop.Readable)
		settle(t, &r, env)
		if got := backend.receive(step.size); !bytes.Equal(got, sent) {
			t.Fatalf("step %d: wrong bytes", i)
		}
		if got := r.Bulk(relay.Client); got != step.bulk {
			t.Errorf("step %d: bulk %t after %d bytes, want %t", i, got, step.size, step.bulk)
		}
		if made, free := env.Pipes(), env.FreePipes(); made != free {
			t.Errorf("step %d: %d pipes held in a pause", i, made-free)
		}
	}
}
