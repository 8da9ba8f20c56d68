package health

import (
	"errors"
	"syscall"
)

// ours reports whether an error is of this side's making and so says nothing
// about the backend: no descriptors, no memory, no ports, no permission.
func ours(err error) bool {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return false
	}
	switch errno {
	case syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
		syscall.EADDRNOTAVAIL, syscall.EACCES, syscall.EPERM:
		return true
	}
	return false
}
