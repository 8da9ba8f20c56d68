//go:build !linux

package pace

import "runtime"

// Yield gives way now, to whichever goroutine is due.
func Yield() { runtime.Gosched() }
