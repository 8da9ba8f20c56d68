package pace

// RestBy is Rest by another yield.
func (w *Walk) RestBy(yield func()) { w.rest(yield) }
