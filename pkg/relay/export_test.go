package relay

// FreePipes is the number of pipes that nobody has borrowed.
func (e *Env) FreePipes() int { return len(e.pipes) }

// What one Pump may move of one way, and what makes a way a bulk one.
const (
	TurnBytes = turnBytes
	ChunkSize = chunkSize
	PipePause = pipePause
	MarkAfter = markAfter
	MarkBytes = markBytes
)

// Bulk reports whether what comes from s is spliced.
func (r *Relay) Bulk(s Side) bool { return r.ways[s].bulk }
