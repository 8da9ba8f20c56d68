// Package proc reads from /proc what a tree of processes has used: processor time, memory and descriptors. Start at
// [Tree].
//
// It asks nothing of the processes themselves, so what is measured needs no support for it and pays nothing. It works
// on Linux alone.
package proc

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Usage is processor time since the start of the processes: of all their threads, those that ended included, and of
// children that ended and were waited for.
//
// Total is exact to the nanosecond for the living (the kernel's process clock); User and System come in ticks of 10 ms
// and are there to tell the two apart.
type Usage struct {
	Total  time.Duration `json:"total_ns"`
	User   time.Duration `json:"user_ns"`
	System time.Duration `json:"system_ns"`
}

// Sub returns what was used between earlier and u.
func (u Usage) Sub(earlier Usage) Usage {
	return Usage{Total: u.Total - earlier.Total, User: u.User - earlier.User, System: u.System - earlier.System}
}

// Memory is what a tree of processes holds, in bytes. PSS divides a shared page among those who share it, so the sum
// over a tree counts each page once. Private is anonymous memory alone: heap and stacks, without program files.
type Memory struct {
	PSS     int64 `json:"pss"`
	Private int64 `json:"private"`
}

// Tree returns root and all its descendants that live now, root first. A process that ends meanwhile is left out; a
// root that does not exist is an error.
func Tree(root int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	children := make(map[int][]int)
	found := false
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		s, err := readStat(pid)
		if err != nil {
			continue
		}
		children[s.parent] = append(children[s.parent], pid)
		found = found || pid == root
	}
	if !found {
		return nil, fmt.Errorf("process %d: %w", root, fs.ErrNotExist)
	}
	tree := []int{root}
	for i := 0; i < len(tree); i++ {
		tree = append(tree, children[tree[i]]...)
	}
	return tree, nil
}

// CPU returns what the processes of a tree have used. Processes that ended since the tree was taken are an error:
// their time may have been lost, and a figure without it would be wrong.
func CPU(tree []int) (Usage, error) {
	var u Usage
	for _, pid := range tree {
		s, err := readStat(pid)
		if err != nil {
			return Usage{}, err
		}
		live, err := clock(pid)
		if err != nil {
			return Usage{}, fmt.Errorf("clock of process %d: %w", pid, err)
		}
		u.User += s.user + s.childUser
		u.System += s.system + s.childSystem
		u.Total += live + s.childUser + s.childSystem
	}
	return u, nil
}

// Mem returns what the processes of a tree hold now. Reading another user's process needs root.
func Mem(tree []int) (Memory, error) {
	var m Memory
	for _, pid := range tree {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return Memory{}, err
		}
		one, err := parseRollup(text)
		if err != nil {
			return Memory{}, fmt.Errorf("smaps_rollup of process %d: %w", pid, err)
		}
		m.PSS += one.PSS
		m.Private += one.Private
	}
	return m, nil
}

// Descriptors returns how many descriptors the processes of a tree have open, each process counted by itself.
func Descriptors(tree []int) (int, error) {
	n := 0
	for _, pid := range tree {
		dir, err := os.Open(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			return 0, err
		}
		names, err := dir.Readdirnames(-1)
		dir.Close()
		if err != nil {
			return 0, err
		}
		n += len(names)
	}
	return n, nil
}

// clock reads the processor-time clock of a process: all its threads, dead ones included.
func clock(pid int) (time.Duration, error) {
	const schedulerClock = 2              // CPUCLOCK_SCHED of linux/posix-timers.h
	id := int32(^pid)<<3 | schedulerClock // MAKE_PROCESS_CPUCLOCK
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		return 0, err
	}
	return time.Duration(ts.Nano()), nil
}

// status is what the rig needs of proc(5) stat.
type status struct {
	parent                 int
	user, system           time.Duration
	childUser, childSystem time.Duration
}

func readStat(pid int) (status, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return status{}, err
	}
	return parseStat(text)
}

var errStat = errors.New("not a stat line of proc(5)")

// parseStat reads /proc/PID/stat. The name of the program stands in parentheses and may itself hold parentheses,
// spaces and newlines, so the fields are counted from the last closing one.
func parseStat(text []byte) (status, error) {
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every architecture Go runs on
	end := bytes.LastIndexByte(text, ')')
	if end < 0 {
		return status{}, errStat
	}
	fields := strings.Fields(string(text[end+1:])) // fields[0] is field 3, the state
	if len(fields) < 15 {
		return status{}, errStat
	}
	var n [5]int64
	for i, at := range []int{4 - 3, 14 - 3, 15 - 3, 16 - 3, 17 - 3} {
		v, err := strconv.ParseInt(fields[at], 10, 64)
		if err != nil {
			return status{}, errStat
		}
		n[i] = v
	}
	return status{
		parent: int(n[0]),
		user:   time.Duration(n[1]) * tick, system: time.Duration(n[2]) * tick,
		childUser: time.Duration(n[3]) * tick, childSystem: time.Duration(n[4]) * tick,
	}, nil
}

// parseRollup reads /proc/PID/smaps_rollup, whose sizes are in KiB.
func parseRollup(text []byte) (Memory, error) {
	m := Memory{PSS: -1, Private: -1}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[2] != "kB" {
			continue
		}
		var to *int64
		switch fields[0] {
		case "Pss:":
			to = &m.PSS
		case "Pss_Anon:":
			to = &m.Private
		default:
			continue
		}
		kib, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			return Memory{}, err
		}
		*to = kib << 10
	}
	if m.PSS < 0 || m.Private < 0 {
		return Memory{}, errors.New("no Pss and Pss_Anon (Linux 5.10 has both)")
	}
	return m, nil
}
