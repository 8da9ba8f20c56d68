package health

import (
	"errors"
	"slices"
	"syscall"
)

// ours reports whether an error is of this side's making and so says nothing
// about the backend: no descriptors, no memory, no ports, no permission.
func ours(err error) bool {
	errno, ok := errors.AsType[syscall.Errno](err)
	return ok && slices.Contains([]syscall.Errno{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
		syscall.EADDRNOTAVAIL, syscall.EACCES, syscall.EPERM,
	}, errno)
}
