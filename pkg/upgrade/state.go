package upgrade

// State is what the old process knows and the new one goes on with.
type State struct {
	Tickets []byte // the secret of session tickets that it has drawn; nil: it has none
}
