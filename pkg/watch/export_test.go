package watch

// Matters reports whether an event of the file name is news to a watcher of files.
func Matters(files []string, name string) bool { return newInterest(files).in(name) }
