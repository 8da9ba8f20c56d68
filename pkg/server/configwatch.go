package server

import (
	"context"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/watch"
)

// configEvery is how often the configuration's files are looked at although no change
// was seen: of a network file system the kernel tells nothing.
const configEvery = 30 * time.Second

// watchConfig reloads when the configuration's files change, as long as the one in force
// asks for it, until ctx is done. What is wrong with them is told once for each text.
func (s *Server) watchConfig(ctx context.Context) error {
	w := watch.New()
	defer w.Close()
	var (
		look = time.NewTicker(configEvery)
		seen configLook
		said string
	)
	defer look.Stop()
	for changed := true; ; {
		s.mu.Lock()
		running := s.plan.config
		s.mu.Unlock()
		if running.Watch {
			// First watched, then read: what changes between the two is seen twice.
			if err := w.Watch(append(slices.Clone(running.Sources), seen.sources...)); err != nil && err.Error() != said {
				said = err.Error()
				s.log.Warn("configuration is looked at from time to time, as it cannot be watched", slog.String("every", configEvery.String()), slog.Any("why", err))
			}
			if seen.news(s.path, running, changed, s.reloads.failure.Load() != nil) {
				s.log.LogAttrs(ctx, slog.LevelInfo, "configuration has changed", seen.changedFiles()...)
				_ = s.Reload(ctx) // logged
				continue
			}
		}
		select {
		case <-w.Changed():
			changed = true
		case <-s.configDue:
			changed = true
		case <-look.C:
			changed = false
		case <-ctx.Done():
			return nil
		}
	}
}

// configLook is what was seen at the last look at the configuration's files.
type configLook struct {
	sources []string
	stamps  map[string]stamp // of what was read, or older: no change is missed
	files   []string         // that had come, gone or been written when they were read last
	tried   [32]byte         // Digest of what was put into force, or could not be
}

// news reports whether the files in path hold another configuration than the one that
// runs, which was not seen before; after a reload that failed also the one that runs,
// which puts an end to the failure. Unless they have changed they are only looked at
// from outside.
func (l *configLook) news(path string, running *config.Config, changed, failed bool) bool {
	stamps := l.look(running)
	if !changed && maps.Equal(stamps, l.stamps) {
		return false
	}
	const tries = 3 // files that change while they are read are read again
	var c *config.Config
	var before map[string]stamp
	for range tries {
		before = stamps
		c, _ = config.LoadAfter(path, running)
		l.sources = c.Sources
		if stamps = l.look(running); maps.Equal(before, stamps) {
			break
		}
	}
	l.files, l.stamps = differing(l.stamps, stamps), before
	known := c.Digest == l.tried || c.Digest == running.Digest && !failed
	l.tried = c.Digest
	return !known
}

// look stamps what the configuration that runs, and the one read last, are made of.
func (l *configLook) look(running *config.Config) map[string]stamp {
	return stampsOf(append(slices.Clone(running.Sources), l.sources...))
}

// changedFiles are the files for the log; none at the first look, which has nothing to
// compare with.
func (l *configLook) changedFiles() []slog.Attr {
	if len(l.files) == 0 {
		return nil
	}
	return []slog.Attr{slog.String("files", baseNames(l.files))}
}

// differing returns, sorted, those of which the two do not say the same.
func differing(before, after map[string]stamp) []string {
	if before == nil {
		return nil
	}
	var files []string
	for file, now := range after {
		if was, ok := before[file]; !ok || was != now {
			files = append(files, file)
		}
	}
	for file := range before {
		if _, ok := after[file]; !ok {
			files = append(files, file)
		}
	}
	slices.Sort(files)
	return files
}

func stampsOf(patterns []string) map[string]stamp {
	stamps := map[string]stamp{}
	for _, pattern := range patterns {
		found, _ := filepath.Glob(pattern) // a pattern that is none was refused
		for _, path := range found {
			if info, err := os.Stat(path); err == nil {
				stamps[path] = stampOf(info)
			}
		}
	}
	return stamps
}
