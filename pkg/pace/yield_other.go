//go:build !linux

package pace

import "runtime"

// yield gives way to whichever goroutine is due.
func yield() { runtime.Gosched() }
