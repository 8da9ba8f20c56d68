package proxy

// dismiss ends a session whose time to drain is over: its client is told by close_notify,
// so that it knows that we have ended it, and not somebody on the way. The backend is
// reset, with TLS as without: to it an end in order would say that it has all that the
// client had to say. False: the client takes nothing more now, or there is nothing to tell
// it yet.
func (t *terminal) dismiss() bool {
	s := t.s
	if t.stage != inStream || t.decided() || t.client.Unsent() {
		return false
	}
	if t.near.CloseWrite() != nil || t.client.Flush() != nil || t.client.Unsent() {
		return false
	}
	s.outcome, s.endedBy = Drained, BySnicket
	s.closeBackend()
	t.told = true
	s.opening = s.w.takeOpening()
	s.limits = s.w.p.live.Load().limits
	s.w.l.Cancel(&s.timer)
	s.linger()
	return true
}
